// base/posix_env.h and the helpers of base/env.h on a real file system.
#include "base/posix_env.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <climits>
#include <filesystem>

#include "tests/base/temp_dir.h"

namespace base {
namespace {

using testing_base::TempDir;

std::string content_of(const std::string& path) {
  const auto bytes = read_file(posix_env(), path, 1 << 20);
  return bytes ? std::string(text_of(*bytes)) : "<" + to_string(bytes.error()) + ">";
}

// Descriptors of this process that are open on `path`.
std::vector<int> descriptors_of(const std::string& path) {
  std::vector<int> found;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    if (std::filesystem::read_symlink(entry.path(), gone) == path)
      found.push_back(std::stoi(entry.path().filename().string()));
  }
  return found;
}

TEST(PosixEnv, Open_MissingFile_NotFoundUnlessCreate) {
  const TempDir dir;
  Env& env = posix_env();
  EXPECT_EQ(env.open(dir / "a", OpenMode::kReadOnly).error().code, Code::kNotFound);
  EXPECT_EQ(env.open(dir / "a", OpenMode::kReadWrite).error().code, Code::kNotFound);
  EXPECT_FALSE(env.exists(dir / "a").value());
  ASSERT_TRUE(env.open(dir / "a", OpenMode::kCreate));
  EXPECT_TRUE(env.exists(dir / "a").value());
  struct stat info {};
  ASSERT_EQ(::stat((dir / "a").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0077U, 0U) << "only the owner may read the node's own files";
  const Error error = env.open(dir / "none/a", OpenMode::kCreate).error();
  EXPECT_EQ(error.code, Code::kNotFound);
  EXPECT_NE(error.message.find("none/a"), std::string::npos) << error.message;
}

// Not an end of the file or of the node: it passes, as a full disk does.
TEST(PosixEnv, Open_NoDescriptorLeft_Full) {
  const TempDir dir;
  rlimit old{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &old), 0);
  const int next = ::dup(STDIN_FILENO);
  ASSERT_GE(next, 0);
  ::close(next);
  const rlimit none{static_cast<rlim_t>(next), old.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  const auto opened = posix_env().open(dir / "a", OpenMode::kCreate);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &old), 0);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, Code::kFull);
  EXPECT_NE(opened.error().message.find("Too many open files"), std::string::npos) << opened.error().message;
}

TEST(PosixFile, WriteReadTruncate_Offsets_AsWritten) {
  const TempDir dir;
  auto file = posix_env().open(dir / "f", OpenMode::kCreate).value();
  ASSERT_TRUE(file->write(4096, view_of("tail")));
  ASSERT_TRUE(file->write(0, view_of("head")));
  ASSERT_TRUE(file->sync());
  file->drop_cache();
  EXPECT_EQ(file->size().value(), 4100U);
  Bytes out(8, std::byte{0xEE});
  EXPECT_EQ(file->read(4096, out).value(), 4U) << "four bytes before the end";
  EXPECT_EQ(text_of(ByteView(out).first(4)), "tail");
  EXPECT_EQ(file->read(2, out).value(), 8U);
  EXPECT_EQ(text_of(ByteView(out).first(2)), "ad");
  EXPECT_EQ(out[2], std::byte{0}) << "a hole reads as zeros";
  EXPECT_EQ(file->read(9999, out).value(), 0U);
  ASSERT_TRUE(file->truncate(2));
  EXPECT_EQ(content_of(dir / "f"), "he");
}

TEST(PosixFile, ReadOnly_Write_Fails) {
  const TempDir dir;
  ASSERT_TRUE(posix_env().open(dir / "f", OpenMode::kCreate));
  auto file = posix_env().open(dir / "f", OpenMode::kReadOnly).value();
  EXPECT_EQ(file->write(0, view_of("x")).error().code, Code::kIo);
}

TEST(PosixFile, AbsurdOffsets_Refused) {
  const TempDir dir;
  auto file = posix_env().open(dir / "f", OpenMode::kCreate).value();
  Bytes out(8);
  EXPECT_EQ(file->write(UINT64_MAX - 2, view_of("x")).error().code, Code::kIo);
  EXPECT_EQ(file->read(UINT64_MAX - 2, out).error().code, Code::kIo);
  EXPECT_EQ(file->truncate(UINT64_MAX).error().code, Code::kIo);
  EXPECT_EQ(file->size().value(), 0U);
}

TEST(PosixFile, DeviceFull_Write_Full) {
  auto file = posix_env().open("/dev/full", OpenMode::kReadWrite).value();
  EXPECT_EQ(file->write(0, view_of("x")).error().code, Code::kFull);
}

// What no sync covers says so: /dev/null and /proc have none.
TEST(PosixFile, SyncThatFails_IsAnIoError) {
  auto file = posix_env().open("/dev/null", OpenMode::kReadWrite).value();
  EXPECT_EQ(file->sync().error().code, Code::kIo);
  EXPECT_EQ(posix_env().sync_dir("/proc").error().code, Code::kIo);
}

TEST(PosixEnv, RenameRemoveList_Names_Follow) {
  const TempDir dir;
  Env& env = posix_env();
  ASSERT_TRUE(env.make_dir(dir / "sub"));
  ASSERT_TRUE(env.make_dir(dir / "sub")) << "making it again is fine";
  ASSERT_TRUE(env.open(dir / "sub/b", OpenMode::kCreate));
  ASSERT_TRUE(env.open(dir / "sub/a", OpenMode::kCreate));
  EXPECT_EQ(env.list(dir / "sub").value(), (std::vector<std::string>{"a", "b"}));
  ASSERT_TRUE(env.rename(dir / "sub/a", dir / "sub/c"));
  ASSERT_TRUE(env.remove(dir / "sub/b"));
  ASSERT_TRUE(env.sync_dir(dir / "sub"));
  EXPECT_EQ(env.list(dir / "sub").value(), (std::vector<std::string>{"c"}));
  EXPECT_EQ(env.remove(dir / "sub/b").error().code, Code::kNotFound);
  EXPECT_EQ(env.list(dir / "nowhere").error().code, Code::kNotFound);
  EXPECT_EQ(env.sync_dir(dir / "nowhere").error().code, Code::kNotFound);
  EXPECT_FALSE(env.make_dir(dir / "sub/c")) << "a file of that name is no directory";
}

TEST(PosixEnv, ClocksRandomSpace_Sane) {
  Env& env = posix_env();
  const Micros before = env.now();
  EXPECT_GE(env.now(), before);
  EXPECT_GT(env.wall_clock(), Micros{1600000000} * kSecond);
  EXPECT_NE(env.random(), env.random());
  const TempDir dir;
  EXPECT_GT(env.free_bytes(dir.path()).value(), 0U);
}

TEST(PosixEnv, Descriptors_CloseOnExecAndAboveStdio) {
  const TempDir dir;
  auto file = posix_env().open(dir / "f", OpenMode::kCreate).value();
  const std::vector<int> open_on = descriptors_of(dir / "f");
  ASSERT_EQ(open_on.size(), 1U);
  EXPECT_GT(open_on[0], STDERR_FILENO);
  EXPECT_NE(::fcntl(open_on[0], F_GETFD) & FD_CLOEXEC, 0);
}

TEST(PosixEnv, StdinClosed_OpenedFile_NotDescriptorZero) {
  const TempDir dir;
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    ::close(STDIN_FILENO);
    const auto file = posix_env().open(dir / "f", OpenMode::kCreate);
    const bool zero_is_free = ::fcntl(STDIN_FILENO, F_GETFD) == -1;
    ::_exit(file && zero_is_free ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(PosixEnv, ForkedChild_AfterAbandon_HoldsNoFile) {
  const TempDir dir;
  auto file = posix_env().open(dir / "f", OpenMode::kCreate).value();
  const std::vector<int> open_on = descriptors_of(dir / "f");
  ASSERT_EQ(open_on.size(), 1U);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    posix_env_abandon_files();
    char target[PATH_MAX] = {};
    const std::string link = "/proc/self/fd/" + std::to_string(open_on[0]);
    const bool read = ::readlink(link.c_str(), target, sizeof target - 1) > 0;
    ::_exit(read && std::string_view(target) == "/dev/null" ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_TRUE(file->write(0, view_of("x"))) << "the parent's descriptor is untouched";
}

TEST(EnvHelpers, WriteFileAtomic_Replaces_AndLeavesNoTemporary) {
  const TempDir dir;
  Env& env = posix_env();
  ASSERT_TRUE(write_file_atomic(env, dir.path(), "meta", view_of("first, and longer")));
  ASSERT_TRUE(write_file_atomic(env, dir.path(), "meta", view_of("second")));
  EXPECT_EQ(content_of(dir / "meta"), "second");
  EXPECT_EQ(env.list(dir.path()).value(), (std::vector<std::string>{"meta"}));
}

TEST(EnvHelpers, WriteFileAtomic_StaleLongTemporary_CutOff) {
  const TempDir dir;
  Env& env = posix_env();
  auto stale = env.open(dir / "meta.tmp", OpenMode::kCreate).value();
  ASSERT_TRUE(stale->write(0, view_of("what a crash left behind")));
  ASSERT_TRUE(write_file_atomic(env, dir.path(), "meta", view_of("new")));
  EXPECT_EQ(content_of(dir / "meta"), "new");
}

TEST(EnvHelpers, WriteFileAtomic_TargetIsDirectory_FailsAndCleansUp) {
  const TempDir dir;
  Env& env = posix_env();
  ASSERT_TRUE(env.make_dir(dir / "meta"));
  EXPECT_FALSE(write_file_atomic(env, dir.path(), "meta", view_of("new")));
  EXPECT_EQ(env.list(dir.path()).value(), (std::vector<std::string>{"meta"}));
}

TEST(EnvHelpers, ReadFile_TooLongOrMissing_NamedErrors) {
  const TempDir dir;
  ASSERT_TRUE(write_file_atomic(posix_env(), dir.path(), "f", view_of("12345")));
  EXPECT_EQ(read_file(posix_env(), dir / "f", 4).error().code, Code::kTooLarge);
  EXPECT_EQ(read_file(posix_env(), dir / "f", 5).value().size(), 5U);
  EXPECT_EQ(read_file(posix_env(), dir / "g", 5).error().code, Code::kNotFound);
}

}  // namespace
}  // namespace base

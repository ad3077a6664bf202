// WalRoom grows a file with zeros behind its end, seldom, and changes nothing of what is there.
#include "vfs/wal_room.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>

#include "tests/base/temp_dir.h"
#include "vfs/wal_writer.h"

namespace vfs {
namespace {

class Scratch {
 public:
  Scratch() : fd_(::open((dir_ / "wal").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)) { EXPECT_GE(fd_, 0); }
  ~Scratch() { ::close(fd_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  [[nodiscard]] int fd() const { return fd_; }
  [[nodiscard]] std::uint64_t size() const {
    struct stat info {};
    EXPECT_EQ(::fstat(fd_, &info), 0);
    return static_cast<std::uint64_t>(info.st_size);
  }

 private:
  testing_base::TempDir dir_;
  int fd_;
};

constexpr std::uint64_t kFrame = 4120;

TEST(WalRoom, Reserve_GrowsSeldomAndKeepsWhatIsThere) {
  Scratch file;
  WalRoom room;
  const base::Bytes frame(kFrame, std::byte{0xab});
  int growths = 0;
  std::uint64_t before = 0;
  for (std::uint64_t i = 0; i < 1000; ++i) {
    ASSERT_TRUE(room.reserve(file.fd(), (i + 1) * kFrame));
    const std::uint64_t size = file.size();
    ASSERT_GE(size, (i + 1) * kFrame);
    if (size != before) ++growths;
    before = size;
    ASSERT_TRUE(write_exact(file.fd(), i * kFrame, frame, "write"));
  }
  EXPECT_LT(growths, 30) << "a growth per " << 1000 / growths << " frames";
  base::Bytes all(before);
  ASSERT_TRUE(read_exact(file.fd(), 0, all, "read"));
  for (std::uint64_t at = 0; at < before; ++at)
    ASSERT_EQ(all[at], at < 1000 * kFrame ? std::byte{0xab} : std::byte{0}) << "at " << at;
}

TEST(WalRoom, ReserveInALongerFile_LeavesItAlone) {
  Scratch file;
  const base::Bytes frames(10 * kFrame, std::byte{0xab});
  ASSERT_TRUE(write_exact(file.fd(), 0, frames, "write"));
  WalRoom room;
  ASSERT_TRUE(room.reserve(file.fd(), 3 * kFrame));
  EXPECT_EQ(file.size(), frames.size());
}

// No file of the process may be longer than `bytes` while it lives: a disk with so much room.
class SizeLimit {
 public:
  explicit SizeLimit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    EXPECT_EQ(::getrlimit(RLIMIT_FSIZE, &before_), 0);
    const rlimit limit{bytes, before_.rlim_max};
    EXPECT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
  }
  ~SizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }
  SizeLimit(const SizeLimit&) = delete;
  SizeLimit& operator=(const SizeLimit&) = delete;

 private:
  sighandler_t handler_;
  rlimit before_{};
};

TEST(WalRoom, WithoutRoomForMore_TakesWhatIsNeededAndNoMore) {
  Scratch file;
  WalRoom room;
  const SizeLimit limit(3 * kFrame);
  ASSERT_TRUE(room.reserve(file.fd(), kFrame));
  EXPECT_EQ(file.size(), kFrame);
  ASSERT_TRUE(room.reserve(file.fd(), 2 * kFrame));
  EXPECT_EQ(file.size(), 2 * kFrame);
  EXPECT_FALSE(room.reserve(file.fd(), 4 * kFrame));
  EXPECT_TRUE(room.reserve(file.fd(), 3 * kFrame));
}

TEST(WalRoom, AfterForget_TheLengthIsAskedAgain) {
  Scratch file;
  WalRoom room;
  ASSERT_TRUE(room.reserve(file.fd(), 3 * kFrame));
  ASSERT_EQ(::ftruncate(file.fd(), 0), 0);
  room.forget();
  ASSERT_TRUE(room.reserve(file.fd(), 3 * kFrame));
  EXPECT_GE(file.size(), 3 * kFrame);
}

}  // namespace
}  // namespace vfs

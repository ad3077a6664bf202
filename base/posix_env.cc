// Linux behind base/posix_env.h. Every call that can be interrupted is repeated, but for sync (R13).
#include "base/posix_env.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <system_error>

#include "base/fault.h"

namespace base {
namespace {

constexpr std::size_t kIoChunkMax = std::size_t{1} << 30;  // one pread or pwrite; Linux itself stops at 2 GiB - 4 KiB
constexpr std::uint64_t kOffsetMax = static_cast<std::uint64_t>(INT64_MAX);

Code code_of(int error_number) {
  switch (error_number) {
    case ENOSPC:
    case EDQUOT:
    case EMFILE:  // the table of open files is as full as a disk, and as soon has room again
    case ENFILE:
      return Code::kFull;
    case EACCES:
    case EPERM:
    case EROFS:
      return Code::kPermission;
    case ENOENT:
    case ENOTDIR:
      return Code::kNotFound;
    default:
      return Code::kIo;
  }
}

// `error_number` is errno, taken before anything else ran.
Error failed(int error_number, const char* operation, const std::string& path) {
  // std::generic_category().message() is the thread-safe strerror().
  return make_error(code_of(error_number),
                    std::string(operation) + " " + path + ": " + std::generic_category().message(error_number));
}

// Reads and writes on an open file report kIo or kFull only: the file is there and was allowed (base/env.h).
Error failed_io(int error_number, const char* operation, const std::string& path) {
  Error error = failed(error_number, operation, path);
  if (error.code != Code::kFull) error.code = Code::kIo;
  return error;
}

// A failed sync has lost what it should have kept: kFull would invite the caller to try again.
Error sync_failed(Error error) {
  if (error.code == Code::kFull) error.code = Code::kIo;
  return error;
}

// Which descriptors are ours, for posix_env_abandon_files(): a bit per descriptor, readable after fork() without a lock.
constexpr std::size_t kTrackedMax = 65536;  // beyond the usual RLIMIT_NOFILE; a higher one is simply inherited
std::array<std::atomic<std::uint64_t>, kTrackedMax / 64> g_open_files{};

void track(int fd) {
  const auto number = static_cast<std::size_t>(fd);
  if (number < kTrackedMax) g_open_files[number / 64].fetch_or(std::uint64_t{1} << (number % 64));
}
void untrack(int fd) {
  const auto number = static_cast<std::size_t>(fd);
  if (number < kTrackedMax) g_open_files[number / 64].fetch_and(~(std::uint64_t{1} << (number % 64)));
}

// open(2) with O_CLOEXEC that never gives 0, 1 or 2: a host that runs with stderr closed would print into our file.
// -1 and errno on failure.
int open_above_stdio(const char* path, int flags) {
  int fd;
  do {
    fd = ::open(path, flags | O_CLOEXEC, 0600);
  } while (fd < 0 && errno == EINTR);
  if (fd < 0 || fd > STDERR_FILENO) return fd;
  const int moved = ::fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
  const int saved = errno;
  ::close(fd);
  errno = saved;
  return moved;
}

class PosixFile final : public File {
 public:
  PosixFile(int fd, std::string path) : fd_(fd), path_(std::move(path)) { track(fd_); }
  ~PosixFile() override {
    untrack(fd_);
    ::close(fd_);
  }
  PosixFile(const PosixFile&) = delete;
  PosixFile& operator=(const PosixFile&) = delete;

  Result<std::size_t> read(std::uint64_t offset, MutableByteView out) override {
    if (const auto fault = HQL_FAULT_POINT("env.read")) return fault->error("read " + path_);
    if (offset > kOffsetMax - out.size()) return failed_io(EOVERFLOW, "read", path_);
    std::size_t done = 0;
    while (done < out.size()) {
      const std::size_t chunk = std::min(out.size() - done, kIoChunkMax);
      const ssize_t got = ::pread(fd_, out.data() + done, chunk, static_cast<off_t>(offset + done));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return failed_io(errno, "read", path_);
      if (got == 0) break;
      done += static_cast<std::size_t>(got);
    }
    return done;
  }

  Status write(std::uint64_t offset, ByteView bytes) override {
    if (const auto fault = HQL_FAULT_POINT("env.write")) return fault->error("write " + path_);
    if (offset > kOffsetMax - bytes.size()) return failed_io(EFBIG, "write", path_);
    std::size_t done = 0;
    while (done < bytes.size()) {
      const std::size_t chunk = std::min(bytes.size() - done, kIoChunkMax);
      const ssize_t put = ::pwrite(fd_, bytes.data() + done, chunk, static_cast<off_t>(offset + done));
      if (put < 0 && errno == EINTR) continue;
      if (put < 0) return failed_io(errno, "write", path_);
      if (put == 0) return failed_io(EIO, "write", path_);
      done += static_cast<std::size_t>(put);
    }
    return ok();
  }

  Status sync() override {
    if (const auto fault = HQL_FAULT_POINT("env.sync")) {
      return sync_failed(fault->error("sync " + path_));
    }
    if (::fdatasync(fd_) != 0) return sync_failed(failed_io(errno, "sync", path_));
    return ok();
  }

  Status truncate(std::uint64_t size) override {
    if (size > kOffsetMax) return failed_io(EFBIG, "truncate", path_);
    int rc;
    do {
      rc = ::ftruncate(fd_, static_cast<off_t>(size));
    } while (rc != 0 && errno == EINTR);
    if (rc != 0) return failed_io(errno, "truncate", path_);
    return ok();
  }

  Result<std::uint64_t> size() override {
    struct stat info {};
    if (::fstat(fd_, &info) != 0) return failed_io(errno, "stat", path_);
    return static_cast<std::uint64_t>(info.st_size);
  }

  void drop_cache() override { static_cast<void>(::posix_fadvise(fd_, 0, 0, POSIX_FADV_DONTNEED)); }

 private:
  const int fd_;
  const std::string path_;
};

Micros micros_of(clockid_t clock) {
  struct timespec time {};
  CHECK(::clock_gettime(clock, &time) == 0);
  return static_cast<Micros>(time.tv_sec) * kSecond + static_cast<Micros>(time.tv_nsec) / 1000;
}

class PosixEnv final : public Env {
 public:
  Result<std::unique_ptr<File>> open(const std::string& path, OpenMode mode) override {
    if (const auto fault = HQL_FAULT_POINT("env.open")) return fault->error("open " + path);
    int flags = O_RDONLY;
    if (mode == OpenMode::kReadWrite) flags = O_RDWR;
    if (mode == OpenMode::kCreate) flags = O_RDWR | O_CREAT;
    const int fd = open_above_stdio(path.c_str(), flags);
    if (fd < 0) return failed(errno, "open", path);
    return std::unique_ptr<File>(std::make_unique<PosixFile>(fd, path));
  }

  Result<bool> exists(const std::string& path) override {
    struct stat info {};
    if (::stat(path.c_str(), &info) == 0) return true;
    if (errno == ENOENT || errno == ENOTDIR) return false;
    return failed(errno, "stat", path);
  }

  Status remove(const std::string& path) override {
    if (const auto fault = HQL_FAULT_POINT("env.remove")) return fault->error("remove " + path);
    // remove(3): files and empty directories.
    if (std::remove(path.c_str()) != 0) return failed(errno, "remove", path);
    return ok();
  }

  Status rename(const std::string& from, const std::string& to) override {
    if (const auto fault = HQL_FAULT_POINT("env.rename")) return fault->error("rename " + from + " to " + to);
    if (::rename(from.c_str(), to.c_str()) != 0) return failed(errno, "rename", from + " to " + to);
    return ok();
  }

  Status make_dir(const std::string& path) override {
    if (::mkdir(path.c_str(), 0755) == 0) return ok();
    const int error_number = errno;
    struct stat info {};
    if (error_number == EEXIST && ::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode)) return ok();
    return failed(error_number, "make directory", path);
  }

  Status sync_dir(const std::string& path) override {
    if (const auto fault = HQL_FAULT_POINT("env.sync_dir")) return fault->error("sync directory " + path);
    const int fd = open_above_stdio(path.c_str(), O_RDONLY | O_DIRECTORY);
    if (fd < 0) return sync_failed(failed(errno, "open directory", path));
    const int rc = ::fsync(fd);
    const int error_number = errno;
    ::close(fd);
    if (rc != 0) return sync_failed(failed_io(error_number, "sync directory", path));
    return ok();
  }

  Result<std::vector<std::string>> list(const std::string& path) override {
    DIR* raw = ::opendir(path.c_str());
    if (raw == nullptr) return failed(errno, "list", path);
    struct CloseDir {
      void operator()(DIR* dir) const { ::closedir(dir); }
    };
    const std::unique_ptr<DIR, CloseDir> dir(raw);
    std::vector<std::string> names;
    while (true) {
      errno = 0;
      const struct dirent* entry = ::readdir(dir.get());
      if (entry == nullptr && errno != 0) return failed_io(errno, "list", path);
      if (entry == nullptr) break;
      std::string name = entry->d_name;
      if (name != "." && name != "..") names.push_back(std::move(name));
    }
    std::sort(names.begin(), names.end());
    return names;
  }

  Result<std::uint64_t> free_bytes(const std::string& path) override {
    struct statvfs info {};
    int rc;
    do {
      rc = ::statvfs(path.c_str(), &info);
    } while (rc != 0 && errno == EINTR);
    if (rc != 0) return failed(errno, "statvfs", path);
    return static_cast<std::uint64_t>(info.f_bavail) * info.f_frsize;
  }

  Micros now() override { return micros_of(CLOCK_MONOTONIC); }
  Micros wall_clock() override { return micros_of(CLOCK_REALTIME); }

  std::uint64_t random() override {
    std::uint64_t value = 0;
    ssize_t got;
    do {
      got = ::getrandom(&value, sizeof value, 0);
    } while (got < 0 && errno == EINTR);
    // Up to 256 bytes are given whole once the kernel's pool is ready (getrandom(2)).
    CHECK(got == static_cast<ssize_t>(sizeof value));
    return value;
  }
};

}  // namespace

Env& posix_env() {
  static PosixEnv* const env = new PosixEnv;  // outlives every static destructor (R2)
  return *env;
}

void posix_env_abandon_files() noexcept {
  const int saved = errno;
  const int null_fd = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  for (std::size_t word = 0; word < g_open_files.size(); ++word) {
    const std::uint64_t bits = g_open_files[word].exchange(0);
    for (std::size_t bit = 0; bits >> bit != 0; ++bit) {
      if ((bits >> bit & 1) == 0) continue;
      const int fd = static_cast<int>(word * 64 + bit);
      if (null_fd < 0 || ::dup3(null_fd, fd, O_CLOEXEC) < 0) ::close(fd);
      if (bit == 63) break;
    }
  }
  if (null_fd >= 0) ::close(null_fd);
  errno = saved;
}

}  // namespace base

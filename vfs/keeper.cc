// OFD locks on a database and its -shm (vfs/keeper.h). Byte positions: os_unix.c (SHARED_FIRST, UNIX_SHM_BASE, UNIX_SHM_DMS).
#include "vfs/keeper.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <vector>

#include "base/mutex.h"
#include "base/posix_env.h"

namespace vfs {
namespace {

constexpr off_t kSharedFirst = 0x40000002;
constexpr off_t kSharedSize = 510;
constexpr off_t kShmBase = 120;  // WAL_WRITE_LOCK, then CKPT, RECOVER, READ(0..4)
constexpr off_t kShmRead0 = kShmBase + 3;
constexpr off_t kShmDeadMan = kShmBase + 8;
constexpr base::Micros kAcquireMax =
    5 * base::kSecond;  // a plain writer's transaction that was open when the node starts

// Which descriptors are keepers', for the child of a fork: a bit per number, larger numbers are not tracked.
constexpr std::size_t kTrackedMax = 65536;
std::array<std::atomic<std::uint64_t>, kTrackedMax / 64> g_kept{};

void track(int fd) {
  const auto number = static_cast<std::size_t>(fd);
  if (number < kTrackedMax) g_kept[number / 64].fetch_or(std::uint64_t{1} << (number % 64));
}
void untrack(int fd) {
  const auto number = static_cast<std::size_t>(fd);
  if (number < kTrackedMax) g_kept[number / 64].fetch_and(~(std::uint64_t{1} << (number % 64)));
}

// Descriptors whose files some connection of this process may still use: a later keeper of the same file takes them over.
struct Parked {
  dev_t device;
  ino_t inode;
  int fd;
};
struct ParkedTable {
  base::Mutex mutex;
  std::vector<Parked> files GUARDED_BY(mutex);
};
ParkedTable& parked() {
  static ParkedTable* const table = new ParkedTable;
  return *table;
}

base::Error io_error(const std::string& what) {
  return base::make_error(base::Code::kIo, what + ": " + std::strerror(errno));
}

int try_lock(int fd, short type, off_t start, off_t size) {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = start;
  lock.l_len = size;
  int rc;
  do {
    rc = ::fcntl(fd, F_OFD_SETLK, &lock);
  } while (rc != 0 && errno == EINTR);
  return rc;
}

// Until it succeeds or `deadline`; fcntl has no timed wait, so this one polls.
base::Status wait_lock(int fd, short type, off_t start, off_t size, base::Micros deadline, const std::string& path) {
  while (try_lock(fd, type, start, size) != 0) {
    if (errno != EAGAIN && errno != EACCES) return io_error("lock " + path);
    if (base::posix_env().now() >= deadline)
      return base::make_error(
          base::Code::kOwned,
          path + " is locked by another program: end its transaction or stop the node that owns it");
    (void)::poll(nullptr, 0, 1);
  }
  return base::ok();
}

base::Result<int> open_kept(const std::string& path, int flags) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return io_error("stat " + path);
  {
    ParkedTable& table = parked();
    const base::MutexLock lock(table.mutex);
    auto& files = table.files;
    for (std::size_t i = 0; i < files.size(); ++i) {
      if (files[i].device != info.st_dev || files[i].inode != info.st_ino) continue;
      const int fd = files[i].fd;
      files.erase(files.begin() + static_cast<std::ptrdiff_t>(i));
      struct stat held {};
      if (::fstat(fd, &held) == 0 && held.st_dev == info.st_dev && held.st_ino == info.st_ino) return fd;
      ::close(fd);  // a forked child: it is /dev/null here
      break;
    }
  }
  int fd;
  do {
    fd = ::open(path.c_str(), flags | O_CLOEXEC);
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) return io_error("open " + path);
  if (fd <= STDERR_FILENO) {  // a host that runs with stderr closed would print into the database
    const int moved = ::fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    ::close(fd);
    if (moved < 0) return io_error("open " + path);
    fd = moved;
  }
  track(fd);
  return fd;
}

// Whether a POSIX lock of any process lies in the range: those of this process would be dropped by closing `fd`.
bool locked_by_connection(int fd, off_t start, off_t size) {
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = start;
  lock.l_len = size;
  if (::fcntl(fd, F_OFD_GETLK, &lock) != 0) return true;
  return lock.l_type != F_UNLCK;
}

void close_or_park(int& fd, off_t start, off_t size) {
  if (fd < 0) return;
  struct stat info {};
  if (locked_by_connection(fd, start, size) && ::fstat(fd, &info) == 0) {
    ParkedTable& table = parked();
    const base::MutexLock lock(table.mutex);
    table.files.push_back({info.st_dev, info.st_ino, fd});
  } else {
    untrack(fd);
    ::close(fd);
  }
  fd = -1;
}

}  // namespace

void keeper_abandon_descriptors() noexcept {
  const int saved = errno;
  const int null_fd = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  for (std::size_t word = 0; word < g_kept.size(); ++word) {
    std::uint64_t bits = g_kept[word].exchange(0);
    while (bits != 0) {
      const int bit = __builtin_ctzll(bits);
      bits &= bits - 1;
      const int fd = static_cast<int>(word * 64) + bit;
      if (null_fd < 0 || ::dup3(null_fd, fd, O_CLOEXEC) < 0) ::close(fd);
    }
  }
  if (null_fd >= 0) ::close(null_fd);
  errno = saved;
}

Keeper::~Keeper() {
  release();
  close_descriptors();
}

base::Status Keeper::acquire(const std::string& path) {
  static std::once_flag registered;
  std::call_once(registered, [] { ::pthread_atfork(nullptr, nullptr, keeper_abandon_descriptors); });
  const std::string shm_path = path + "-shm";
  if (database_fd_ < 0) {
    HQL_ASSIGN(fd, open_kept(path, O_RDWR));
    database_fd_ = fd;
  }
  if (shm_fd_ < 0) {
    HQL_ASSIGN(fd, open_kept(shm_path, O_RDWR));
    shm_fd_ = fd;
  }
  const base::Micros deadline = base::posix_env().now() + kAcquireMax;
  base::Status locked = wait_lock(shm_fd_, F_WRLCK, kShmBase, 2, deadline, shm_path);
  if (locked) locked = wait_lock(shm_fd_, F_RDLCK, kShmDeadMan, 1, deadline, shm_path);
  if (locked) locked = wait_lock(database_fd_, F_RDLCK, kSharedFirst, kSharedSize, deadline, path);
  held_ = true;  // so that release() drops a part of them too
  if (!locked) release();
  return locked;
}

bool Keeper::lock_readers_out() {
  if (try_lock(shm_fd_, F_RDLCK, kShmRead0, 1) != 0) return false;
  if (try_lock(shm_fd_, F_WRLCK, kShmRead0 + 1, 4) == 0) return true;
  unlock_readers();
  return false;
}

void Keeper::unlock_readers() { (void)try_lock(shm_fd_, F_UNLCK, kShmRead0, 5); }

void Keeper::release() {
  if (!held_) return;
  held_ = false;
  (void)try_lock(shm_fd_, F_UNLCK, kShmBase, 9);
  (void)try_lock(database_fd_, F_UNLCK, kSharedFirst, kSharedSize);
}

void Keeper::close_descriptors() {
  close_or_park(shm_fd_, kShmBase, 9);
  close_or_park(database_fd_, kSharedFirst - 2, kSharedSize + 2);
}

}  // namespace vfs

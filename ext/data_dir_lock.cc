// See data_dir_lock.h. An OFD lock (F_OFD_SETLK) and not a POSIX one: any open and close of the file in this process would drop that.
#include "ext/data_dir_lock.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "net/descriptors.h"

namespace ext {
namespace {

base::Error io_error(const std::string& what) {
  const auto code = errno == EACCES || errno == EPERM || errno == EROFS ? base::Code::kPermission : base::Code::kIo;
  return base::make_error(code, what + ": " + std::strerror(errno));
}

base::Status make_dirs(const std::string& path) {
  for (std::size_t at = 1; at <= path.size(); ++at) {
    if (at < path.size() && path[at] != '/') continue;
    const std::string part = path.substr(0, at);
    if (::mkdir(part.c_str(), 0755) != 0 && errno != EEXIST) return io_error("data_dir: cannot make " + part);
  }
  struct stat found {};
  if (::stat(path.c_str(), &found) != 0) return io_error("data_dir: " + path);
  if (!S_ISDIR(found.st_mode))
    return base::make_error(base::Code::kConfig, "data_dir: " + path + " is not a directory");
  return {};
}

}  // namespace

base::Result<DataDirLock> DataDirLock::take(const std::string& data_dir, base::NodeId node) {
  HQL_TRY(make_dirs(data_dir));
  char* real = ::realpath(data_dir.c_str(), nullptr);
  if (real == nullptr) return io_error("data_dir: " + data_dir);
  const std::string path = real;
  std::free(real);
  const std::string file = path + "/lock";
  const int fd = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return io_error("data_dir: cannot open " + file);
  net::track_descriptor(fd);
  DataDirLock lock(fd, path);
  struct flock whole {};
  whole.l_type = F_WRLCK;
  whole.l_whence = SEEK_SET;
  if (::fcntl(fd, F_OFD_SETLK, &whole) != 0) {
    if (errno != EAGAIN && errno != EACCES) return io_error("data_dir: cannot lock " + file);
    char text[128] = "";
    const ssize_t length = ::pread(fd, text, sizeof text - 1, 0);
    std::string owner(text, length > 0 ? static_cast<std::size_t>(length) : 0);
    while (!owner.empty() && owner.back() == '\n') owner.pop_back();
    return base::make_error(base::Code::kOwned, "data_dir \"" + path + "\" is used by " +
                                                    (owner.empty() ? "another process" : owner) +
                                                    "; another node needs its own data_dir");
  }
  const std::string owner = "pid " + std::to_string(::getpid()) + ", node " + std::to_string(node.value) + "\n";
  if (::ftruncate(fd, 0) != 0 || ::pwrite(fd, owner.data(), owner.size(), 0) != static_cast<ssize_t>(owner.size()))
    return io_error("data_dir: cannot write " + file);
  return lock;
}

DataDirLock::DataDirLock(DataDirLock&& other) noexcept : fd_(other.fd_), path_(std::move(other.path_)) {
  other.fd_ = -1;
}

DataDirLock::~DataDirLock() {
  if (fd_ < 0) return;
  net::untrack_descriptor(fd_);
  ::close(fd_);
}

}  // namespace ext

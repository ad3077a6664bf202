// The exclusive ownership of a data directory: an OFD lock on <data_dir>/lock for the life of the node (DESIGN section 9). The file's text
// names the owner for people and for the error of the next one. A forked child gives its descriptor up with the sockets (net/descriptors.h), or it
// would keep the lock alive. Any thread.
#pragma once

#include <string>

#include "base/ids.h"
#include "base/result.h"

namespace ext {

class DataDirLock {
 public:
  // Makes the directory (and its parents) when missing. `data_dir` may be relative.
  // kOwned: names the process and the node that hold it; kPermission, kIo.
  static base::Result<DataDirLock> take(const std::string& data_dir, base::NodeId node);
  DataDirLock(DataDirLock&& other) noexcept;
  DataDirLock& operator=(DataDirLock&&) = delete;
  ~DataDirLock();                                                  // gives it back
  [[nodiscard]] const std::string& path() const { return path_; }  // of the directory: absolute, without links

 private:
  DataDirLock(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}
  int fd_;
  std::string path_;
};

}  // namespace ext

// LocalClient: asks the node that owns a data directory, over its Unix socket. Plain blocking system calls with a
// deadline, no loop: for the command line and for any thread of a host. One thread at a time. Format:
// docs/FORMATS.md, "Wire", "Local socket".
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"

namespace net {

class LocalClient {
 public:
  // `path` is <data_dir>/sock. Errors: kNotStarted (no file, or nobody answers), kPermission, kTimeout.
  static base::Result<std::unique_ptr<LocalClient>> connect(const std::string& path, std::int64_t timeout_ms);
  ~LocalClient();
  LocalClient(const LocalClient&) = delete;
  LocalClient& operator=(const LocalClient&) = delete;

  // One request and its reply. Errors: what the server answers; kTooLarge (over 16 MiB; nothing was sent); kTimeout
  // and kNotStarted (the server did not get the whole request: surely nothing was done); kUnknownOutcome (it did, but
  // no reply came in time or the connection ended). After kTimeout, kUnknownOutcome or kProtocol the next call
  // connects anew.
  base::Result<base::Bytes> call(base::ByteView request, std::int64_t timeout_ms);

 private:
  explicit LocalClient(std::string path);
  base::Status open_socket(base::Micros deadline);
  void close_socket();
  enum class Wait : std::uint8_t { kReadable, kWritable };
  // False: the deadline passed.
  [[nodiscard]] bool wait_for(Wait wait, base::Micros deadline) const;
  base::Status write_all(base::ByteView bytes, base::Micros deadline);
  base::Status read_all(base::MutableByteView out, base::Micros deadline);
  base::Result<base::Bytes> read_reply(std::uint64_t id, base::Micros deadline);

  const std::string path_;
  int fd_ = -1;
  std::uint64_t next_id_ = 1;
};

}  // namespace net

// The request/response protocol on <data_dir>/sock (docs/FORMATS.md, "Wire", "Local socket"), shared by
// net/local_server.cc and net/local_client.cc. Private to net/ and its tests.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/bytes.h"
#include "base/result.h"

namespace net {

// 0          4      5       8                16         16+size
// | size u32 | kind | 0 u24 | request id u64 | bytes... |     little-endian; both directions
inline constexpr std::size_t kLocalHeaderSize = 16;

enum class LocalKind : std::uint8_t {
  kRequest = 1,
  kReply = 2,
  kError = 4,  // base/error_bytes.h; the connection may end after it. 3 is not used again (FORMATS.md)
};

inline constexpr std::size_t kLocalRequestMax = std::size_t{16} << 20;
inline constexpr std::size_t kLocalReplyMax = std::size_t{64} << 20;

struct LocalHeader {
  std::uint32_t size = 0;
  LocalKind kind = LocalKind::kRequest;
  std::uint64_t id = 0;
};
std::array<std::byte, kLocalHeaderSize> encode_header(const LocalHeader& header);
// Checks everything but the size, whose limit depends on the reader. Errors: kProtocol.
base::Result<LocalHeader> decode_local_header(base::ByteView bytes);

base::Bytes encode_error(const base::Error& error);
// The error that was sent; kProtocol when the bytes are none.
base::Error decode_error(base::ByteView bytes);

// A path for bind(2) and connect(2), whose sun_path holds 107 characters: a longer path is reached through an open
// descriptor of its directory, /proc/self/fd/<n>/<name>, without changing the process's working directory.
class SocketPath {
 public:
  // Errors: kNotFound, kPermission (the directory), kArgument (the name alone is too long).
  static base::Result<SocketPath> open(const std::string& path);
  SocketPath(SocketPath&& other) noexcept;
  SocketPath& operator=(SocketPath&& other) noexcept;
  ~SocketPath();
  [[nodiscard]] const std::string& short_path() const { return short_path_; }

 private:
  SocketPath() = default;
  int directory_ = -1;
  std::string short_path_;
};

}  // namespace net

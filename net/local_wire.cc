// Headers, errors and short paths of the local socket; see net/local_wire.h, which draws the frame.
#include "net/local_wire.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include <utility>

#include "base/check.h"
#include "base/error_bytes.h"

namespace net {
namespace {

constexpr std::size_t kPathMax = sizeof(sockaddr_un{}.sun_path) - 1;

base::Error malformed() {
  return base::make_error(base::Code::kProtocol,
                          "malformed bytes on the local socket: use the program and the library of one version");
}

}  // namespace

std::array<std::byte, kLocalHeaderSize> encode_header(const LocalHeader& header) {
  std::array<std::byte, kLocalHeaderSize> out{};
  base::store_u32(&out[0], header.size);
  out[4] = static_cast<std::byte>(header.kind);
  base::store_u64(&out[8], header.id);
  return out;
}

base::Result<LocalHeader> decode_local_header(base::ByteView bytes) {
  CHECK(bytes.size() >= kLocalHeaderSize);
  const auto kind = static_cast<LocalKind>(bytes[4]);
  const bool known = kind == LocalKind::kRequest || kind == LocalKind::kReply || kind == LocalKind::kError;
  const bool reserved_zero = (base::load_u32(&bytes[4]) >> 8) == 0;
  if (!known || !reserved_zero) return malformed();
  return LocalHeader{base::load_u32(bytes.data()), kind, base::load_u64(&bytes[8])};
}

base::Bytes encode_error(const base::Error& error) {
  base::Writer out;
  base::write_error(out, error);
  return out.take();
}

base::Error decode_error(base::ByteView bytes) {
  base::Reader in(bytes);
  base::Error error = base::read_error(in);
  return in.at_end() ? error : malformed();
}

base::Result<SocketPath> SocketPath::open(const std::string& path) {
  SocketPath out;
  out.short_path_ = path;
  if (path.size() <= kPathMax) return out;
  const std::size_t slash = path.rfind('/');
  const std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
  const std::string directory = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  out.directory_ = ::open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (out.directory_ < 0) {
    const base::Code code = errno == EACCES ? base::Code::kPermission : base::Code::kNotFound;
    return base::make_error(code, directory + ": " + ::strerror(errno));
  }
  out.short_path_ = "/proc/self/fd/" + std::to_string(out.directory_) + "/" + name;
  if (out.short_path_.size() > kPathMax)
    return base::make_error(base::Code::kArgument, path + ": the socket's name is too long");
  return out;
}

SocketPath::SocketPath(SocketPath&& other) noexcept
    : directory_(std::exchange(other.directory_, -1)), short_path_(std::move(other.short_path_)) {}

SocketPath& SocketPath::operator=(SocketPath&& other) noexcept {
  std::swap(directory_, other.directory_);
  std::swap(short_path_, other.short_path_);
  return *this;
}

SocketPath::~SocketPath() {
  if (directory_ >= 0) ::close(directory_);
}

}  // namespace net

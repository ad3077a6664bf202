// Blocking system calls with a deadline on <data_dir>/sock; see net/local_client.h. The caller's thread.
#include "net/local_client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "base/posix_env.h"
#include "net/descriptors.h"
#include "net/local_wire.h"

namespace net {
namespace {

base::Micros now() { return base::posix_env().now(); }

base::Error timed_out() { return base::make_error(base::Code::kTimeout, "the node did not answer in time"); }

}  // namespace

LocalClient::LocalClient(std::string path) : path_(std::move(path)) {}
LocalClient::~LocalClient() { close_socket(); }

base::Result<std::unique_ptr<LocalClient>> LocalClient::connect(const std::string& path, std::int64_t timeout_ms) {
  std::unique_ptr<LocalClient> client(new LocalClient(path));
  HQL_TRY(client->open_socket(now() + timeout_ms * base::kMillisecond));
  return client;
}

base::Status LocalClient::open_socket(base::Micros deadline) {
  HQL_ASSIGN(socket_path, SocketPath::open(path_));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  ::memcpy(address.sun_path, socket_path.short_path().c_str(), socket_path.short_path().size() + 1);
  const base::Micros left = deadline - now();
  if (left <= 0) return timed_out();
  fd_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd_ < 0) return base::make_error(base::Code::kIo, std::string("cannot make a socket: ") + ::strerror(errno));
  track_descriptor(fd_);
  // While the server's queue of connections is full, connect(2) waits for at most the send timeout.
  const timeval limit{.tv_sec = left / base::kSecond, .tv_usec = left % base::kSecond};
  int error = 0;
  if (::setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) != 0) error = errno;
  if (error == 0 && ::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) error = errno;
  if (error == 0 && ::fcntl(fd_, F_SETFL, O_NONBLOCK) != 0) error = errno;
  if (error == 0) return base::ok();
  close_socket();
  if (error == EAGAIN || error == EINTR) return timed_out();
  if (error == EACCES || error == EPERM)
    return base::make_error(base::Code::kPermission, path_ + ": " + ::strerror(error));
  if (error == ENOENT || error == ECONNREFUSED || error == ENOTDIR || error == ECONNRESET) {
    return base::make_error(
        base::Code::kNotStarted,
        path_ + ": no node runs on this data directory; start it with `hiqlite serve` or hql_start()");
  }
  return base::make_error(base::Code::kIo, path_ + ": " + ::strerror(error));
}

void LocalClient::close_socket() {
  if (fd_ < 0) return;
  untrack_descriptor(fd_);
  ::close(fd_);
  fd_ = -1;
}

bool LocalClient::wait_for(Wait wait, base::Micros deadline) const {
  while (true) {
    const base::Micros left = deadline - now();
    if (left <= 0) return false;
    const base::Micros left_ms = std::min<base::Micros>((left + base::kMillisecond - 1) / base::kMillisecond, 60'000);
    pollfd poll{.fd = fd_, .events = static_cast<short>(wait == Wait::kReadable ? POLLIN : POLLOUT), .revents = 0};
    if (::poll(&poll, 1, static_cast<int>(left_ms)) > 0) return true;
  }
}

base::Status LocalClient::write_all(base::ByteView bytes, base::Micros deadline) {
  while (!bytes.empty()) {
    const ssize_t count = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (count > 0) {
      bytes = bytes.subspan(static_cast<std::size_t>(count));
    } else if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
      if (!wait_for(Wait::kWritable, deadline)) return timed_out();
    } else if (!(count < 0 && errno == EINTR)) {
      return base::make_error(base::Code::kNotStarted, path_ + ": the node closed the connection");
    }
  }
  return base::ok();
}

base::Status LocalClient::read_all(base::MutableByteView out, base::Micros deadline) {
  while (!out.empty()) {
    const ssize_t count = ::recv(fd_, out.data(), out.size(), 0);
    if (count > 0) {
      out = out.subspan(static_cast<std::size_t>(count));
    } else if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
      if (!wait_for(Wait::kReadable, deadline)) {
        return base::make_error(base::Code::kUnknownOutcome, "the node has the request, but did not answer in time");
      }
    } else if (!(count < 0 && errno == EINTR)) {
      return base::make_error(base::Code::kUnknownOutcome,
                              path_ + ": the node has the request, but closed the connection");
    }
  }
  return base::ok();
}

base::Result<base::Bytes> LocalClient::call(base::ByteView request, std::int64_t timeout_ms) {
  if (request.size() > kLocalRequestMax) {
    return base::make_error(base::Code::kTooLarge, "a request of " + std::to_string(request.size()) +
                                                       " bytes to the node, limit " + std::to_string(kLocalRequestMax));
  }
  const base::Micros deadline = now() + timeout_ms * base::kMillisecond;
  if (fd_ < 0) HQL_TRY(open_socket(deadline));
  const std::uint64_t id = next_id_++;
  base::Writer out;
  out.raw(encode_header(LocalHeader{static_cast<std::uint32_t>(request.size()), LocalKind::kRequest, id}));
  out.raw(request);
  if (auto sent = write_all(out.view(), deadline); !sent) {
    close_socket();
    return sent.error();
  }
  return read_reply(id, deadline);
}

base::Result<base::Bytes> LocalClient::read_reply(std::uint64_t id, base::Micros deadline) {
  const auto fail = [this](base::Error error) {
    close_socket();
    return error;
  };
  std::array<std::byte, kLocalHeaderSize> bytes{};
  if (auto read = read_all(bytes, deadline); !read) return fail(read.error());
  auto header = decode_local_header(bytes);
  if (!header) return fail(header.error());
  if (header->id != id || header->kind == LocalKind::kRequest || header->size > kLocalReplyMax) {
    return fail(base::make_error(base::Code::kProtocol, "malformed reply on the local socket"));
  }
  base::Bytes payload(header->size);
  if (auto read = read_all(payload, deadline); !read) return fail(read.error());
  if (header->kind == LocalKind::kError) return decode_error(payload);
  return payload;
}

}  // namespace net

// The Unix socket's server side on the loop lane; see net/local_server.h.
#include "net/local_server.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

#include <algorithm>
#include <array>
#include <future>
#include <set>
#include <utility>

#include "base/check.h"
#include "net/descriptors.h"
#include "net/local_wire.h"

namespace net {
namespace {

constexpr int kBacklog = 128;
constexpr std::size_t kClientsMax = 256;  // more are closed at once
constexpr std::size_t kPendingMax = 64;   // requests of one client without a reply; then reading pauses
constexpr std::size_t kUnreadRepliesMax = std::size_t{128} << 20;  // a client that does not read its replies is closed
constexpr std::size_t kReadBufferSize = std::size_t{64} << 10;

void give_read_buffer(uv_handle_t*, std::size_t, uv_buf_t* out) {
  thread_local std::array<char, kReadBufferSize>
      buffer;  // libuv asks right before it reads, and hands over right after
  *out = uv_buf_init(buffer.data(), static_cast<unsigned>(buffer.size()));
}

enum class After : std::uint8_t { kGoOn, kClose };

}  // namespace

class LocalServer::Impl : public std::enable_shared_from_this<LocalServer::Impl> {
 public:
  Impl(LoopLane& lane, std::string path, SocketPath socket_path, int fd, struct stat file)
      : lane_(lane), path_(std::move(path)), socket_path_(std::move(socket_path)), fd_(fd), file_(file) {
    track_descriptor(fd_);
  }
  ~Impl() {
    if (fd_ < 0) return;
    untrack_descriptor(fd_);
    ::close(fd_);
    remove_file();
  }

  void start(Handler handler);
  void stop();
  LoopLane& lane() { return lane_; }

 private:
  class Client;
  struct Listener {
    uv_pipe_t pipe{};
    Impl* impl = nullptr;  // null from stop() on
    LoopLane* lane = nullptr;
  };

  void on_incoming(int status);
  void remove_file() {
    struct stat now {};
    if (::lstat(path_.c_str(), &now) == 0 && now.st_ino == file_.st_ino && now.st_dev == file_.st_dev)
      ::unlink(path_.c_str());
  }

  LoopLane& lane_;
  const std::string path_;
  const SocketPath socket_path_;
  int fd_;
  const struct stat file_;  // what was bound: only that is removed
  Listener* listener_ = nullptr;
  Handler handler_;
  std::set<std::shared_ptr<Client>> clients_;
  bool stopped_ = false;
};

// One connection. Shared by the server, the loop (while the handle is open) and the writes under way; replies hold it
// weakly.
class LocalServer::Impl::Client : public std::enable_shared_from_this<LocalServer::Impl::Client> {
 public:
  Client(Impl& server, LoopLane& lane) : server_(&server), lane_(lane) {}

  bool accept(uv_stream_t* listener) {
    if (uv_pipe_init(lane_.loop(), &pipe_, 0) != 0) return false;
    pipe_.data = this;
    self_ = shared_from_this();
    if (uv_accept(listener, stream()) != 0) return false;
    if (uv_fileno(reinterpret_cast<uv_handle_t*>(&pipe_), &fd_) == 0) track_descriptor(fd_);
    update_reading();
    return true;
  }

  void close() {
    server_ = nullptr;
    if (std::exchange(closed_, true) || !self_) return;
    untrack_descriptor(fd_);
    uv_close(reinterpret_cast<uv_handle_t*>(&pipe_), [](uv_handle_t* handle) {
      const std::shared_ptr<Client> last = std::move(static_cast<Client*>(handle->data)->self_);
    });
  }

 private:
  struct Write {
    uv_write_t request{};
    std::array<std::byte, kLocalHeaderSize> header{};
    base::Bytes payload;
    std::shared_ptr<Client> client;
    After after = After::kGoOn;
  };

  uv_stream_t* stream() { return reinterpret_cast<uv_stream_t*>(&pipe_); }

  // The server forgets it, and it ends.
  void end() {
    const auto keep = shared_from_this();
    if (server_ != nullptr) server_->clients_.erase(keep);
    close();
  }

  void update_reading() {
    const bool wanted = !closed_ && !refused_ && pending_ < kPendingMax;
    if (wanted == reading_) return;
    reading_ = wanted;
    if (closed_) return;
    if (!wanted) {
      uv_read_stop(stream());
      return;
    }
    const int rc =
        uv_read_start(stream(), give_read_buffer, [](uv_stream_t* pipe, ssize_t count, const uv_buf_t* buffer) {
          auto& client = *static_cast<Client*>(pipe->data);
          client.lane_.guard([&] { client.on_read(count, buffer); });
        });
    if (rc != 0) end();
  }

  void on_read(ssize_t count, const uv_buf_t* buffer) {
    const auto keep = shared_from_this();
    if (closed_ || count == 0) return;
    if (count < 0) return end();
    const auto* const bytes = reinterpret_cast<const std::byte*>(buffer->base);
    input_.insert(input_.end(), bytes, bytes + count);
    take_requests();
  }

  void take_requests() {
    std::size_t taken = 0;
    while (!closed_ && !refused_ && pending_ < kPendingMax && input_.size() - taken >= kLocalHeaderSize) {
      const base::ByteView rest = base::ByteView(input_).subspan(taken);
      auto header = decode_local_header(rest);
      if (!header || header->kind != LocalKind::kRequest) return end();
      if (header->size > kLocalRequestMax) {
        refused_ = true;
        update_reading();
        const std::string text = "a request of " + std::to_string(header->size) + " bytes to the node, limit " +
                                 std::to_string(kLocalRequestMax);
        return answer(header->id, base::make_error(base::Code::kTooLarge, text), After::kClose);
      }
      if (rest.size() < kLocalHeaderSize + header->size) {
        if (taken == 0) input_.reserve(kLocalHeaderSize + header->size);
        break;
      }
      taken += kLocalHeaderSize + header->size;
      ++pending_;
      server_->handler_(rest.subspan(kLocalHeaderSize, header->size), make_reply(header->id));
    }
    if (closed_) return;
    input_.erase(input_.begin(), input_.begin() + static_cast<std::ptrdiff_t>(taken));
    if (input_.empty() && input_.capacity() > kReadBufferSize) input_ = {};
    update_reading();
  }

  Reply make_reply(std::uint64_t id) {
    // Shared by the copies of one std::function: the first call counts.
    auto used = std::make_shared<bool>(false);
    return [weak = weak_from_this(), used, id](base::Result<base::Bytes> result) {
      const auto client = weak.lock();
      if (std::exchange(*used, true) || !client) return;
      CHECK(client->lane_.is_current());
      client->answer(id, std::move(result), After::kGoOn);
      client->replied();
    };
  }

  // Room for the next request; those that have come already are taken up from the loop, not inside the caller's call.
  void replied() {
    --pending_;
    if (closed_ || pending_ + 1 != kPendingMax) return;
    lane_.post([weak = weak_from_this()] {
      const auto client = weak.lock();
      if (client && !client->closed_) client->take_requests();
    });
  }

  void answer(std::uint64_t id, base::Result<base::Bytes> result, After after) {
    if (closed_) return;
    if (result && result->size() > kLocalReplyMax) {
      result = base::make_error(base::Code::kTooLarge, "a reply of " + std::to_string(result->size()) +
                                                           " bytes, limit " + std::to_string(kLocalReplyMax));
    }
    auto write = std::make_unique<Write>();
    write->payload = result ? std::move(*result) : encode_error(result.error());
    write->header = encode_header(LocalHeader{static_cast<std::uint32_t>(write->payload.size()),
                                              result ? LocalKind::kReply : LocalKind::kError, id});
    write->client = shared_from_this();
    write->after = after;
    write->request.data = write.get();
    unread_ += write->payload.size();
    if (unread_ > kUnreadRepliesMax) return end();
    const std::array<uv_buf_t, 2> buffers = {
        uv_buf_init(reinterpret_cast<char*>(write->header.data()), static_cast<unsigned>(write->header.size())),
        uv_buf_init(reinterpret_cast<char*>(write->payload.data()), static_cast<unsigned>(write->payload.size()))};
    const int rc = uv_write(&write->request, stream(), buffers.data(), 2, [](uv_write_t* request, int status) {
      const std::unique_ptr<Write> done(static_cast<Write*>(request->data));
      done->client->lane_.guard([&] { done->client->on_written(*done, status); });
    });
    if (rc != 0) return end();
    static_cast<void>(write.release());  // the callback's
  }

  void on_written(const Write& write, int status) {
    unread_ -= write.payload.size();
    if (!closed_ && (status < 0 || write.after == After::kClose)) end();
  }

  Impl* server_;  // null after close()
  LoopLane& lane_;
  uv_pipe_t pipe_{};
  int fd_ = -1;
  std::shared_ptr<Client> self_;
  base::Bytes input_;
  std::size_t pending_ = 0;
  std::size_t unread_ = 0;
  bool reading_ = false;
  bool refused_ = false;
  bool closed_ = false;
};

void LocalServer::Impl::start(Handler handler) {
  CHECK(lane_.is_current());
  CHECK(listener_ == nullptr);
  if (stopped_) return;
  handler_ = std::move(handler);
  listener_ = new Listener;
  listener_->impl = this;
  listener_->lane = &lane_;
  listener_->pipe.data = listener_;
  CHECK(uv_pipe_init(lane_.loop(), &listener_->pipe, 0) == 0);
  // A bound and listening socket of our own: neither call has anything left to refuse.
  CHECK(uv_pipe_open(&listener_->pipe, fd_) == 0);
  CHECK(uv_listen(reinterpret_cast<uv_stream_t*>(&listener_->pipe), kBacklog, [](uv_stream_t* stream, int status) {
          auto& listener = *static_cast<Listener*>(stream->data);
          listener.lane->guard([&] {
            if (listener.impl != nullptr) listener.impl->on_incoming(status);
          });
        }) == 0);
}

void LocalServer::Impl::on_incoming(int status) {
  if (status < 0) return;
  const auto client = std::make_shared<Client>(*this, lane_);
  if (!client->accept(reinterpret_cast<uv_stream_t*>(&listener_->pipe)) || clients_.size() >= kClientsMax)
    return client->close();
  clients_.insert(client);
}

void LocalServer::Impl::stop() {
  if (std::exchange(stopped_, true)) return;
  for (const auto& client : std::exchange(clients_, {})) client->close();
  if (listener_ == nullptr) return;
  remove_file();
  untrack_descriptor(fd_);
  fd_ = -1;  // uv_close closes it
  Listener* const listener = std::exchange(listener_, nullptr);
  listener->impl = nullptr;
  uv_close(reinterpret_cast<uv_handle_t*>(&listener->pipe),
           [](uv_handle_t* handle) { delete static_cast<Listener*>(handle->data); });
}

namespace {

base::Error bind_error(const std::string& path, int error) {
  const bool permission = error == EACCES || error == EPERM || error == EROFS;
  const base::Code code = permission        ? base::Code::kPermission
                          : error == ENOENT ? base::Code::kNotFound
                                            : base::Code::kAddress;
  return base::make_error(code, path + ": " + ::strerror(error));
}

// Whether a process takes connections at the address. A queue that is full (EAGAIN) is an answer too. A file that this user may not open
// says nothing, and nobody who has the data directory is behind it: the caller holds that one's lock.
bool somebody_answers(const sockaddr_un& address) {
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return true;
  const bool answers = ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ||
                       (errno != ECONNREFUSED && errno != ENOENT && errno != EACCES);
  ::close(fd);
  return answers;
}

}  // namespace

base::Result<std::unique_ptr<LocalServer>> LocalServer::listen(LoopLane& lane, const std::string& path) {
  HQL_ASSIGN(socket_path, SocketPath::open(path));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  ::memcpy(address.sun_path, socket_path.short_path().c_str(), socket_path.short_path().size() + 1);
  struct stat file {};
  if (::lstat(path.c_str(), &file) == 0) {
    if (!S_ISSOCK(file.st_mode)) {
      return base::make_error(base::Code::kExists,
                              path + ": is there and is not a socket; remove it or choose another `data_dir`");
    }
    if (somebody_answers(address)) {
      return base::make_error(base::Code::kOwned,
                              path + ": another process answers on it; another node needs its own `data_dir`");
    }
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) return bind_error(path, errno);
  }
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return base::make_error(base::Code::kAddress, std::string("cannot make a socket: ") + ::strerror(errno));
  // The mode of the socket before bind(2) is the file's from its first moment; the umask is the whole process's and
  // is left alone.
  const bool bound =
      ::fchmod(fd, 0600) == 0 && ::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  if (!bound || ::listen(fd, kBacklog) != 0 || ::lstat(path.c_str(), &file) != 0) {
    const int error = errno;
    ::close(fd);
    if (bound) ::unlink(path.c_str());
    return bind_error(path, error);
  }
  return std::unique_ptr<LocalServer>(
      new LocalServer(std::make_shared<Impl>(lane, path, std::move(socket_path), fd, file)));
}

LocalServer::LocalServer(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
LocalServer::~LocalServer() { stop(); }
void LocalServer::start(Handler handler) { impl_->start(std::move(handler)); }

void LocalServer::stop() {
  if (impl_->lane().is_current()) return impl_->stop();
  auto done = std::make_shared<std::promise<void>>();
  const std::future<void> stopped = done->get_future();
  // If the lane has ended, the task is dropped and with it the promise, which ends the wait as well.
  impl_->lane().post([impl = impl_, done = std::move(done)] {
    impl->stop();
    done->set_value();
  });
  stopped.wait();
}

}  // namespace net

// One TCP connection on the loop lane: reading frames within their limits, queued and gathered writes; see net/connection.h.
#include "net/connection.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/posix_env.h"
#include "net/address.h"
#include "net/descriptors.h"

namespace net {
namespace {

constexpr std::size_t kReadBufferSize = std::size_t{64} << 10;
constexpr std::ptrdiff_t kReadBudget = std::ptrdiff_t{256} << 10;
constexpr std::size_t kSliceBytes = std::size_t{64}
                                    << 10;  // sealed and written in one turn of the loop (DESIGN section 11)
constexpr std::size_t kBuffersMax = 512;    // below IOV_MAX; three per frame
constexpr std::size_t kControlQueueMax = std::size_t{1} << 20;
constexpr std::size_t kDataQueueMax = std::size_t{64} << 20;
constexpr std::size_t kPongQueueMax = std::size_t{64}
                                      << 10;  // a peer that sends pings and reads nothing gets no more answers
constexpr std::size_t kKeptBodyMax = std::size_t{1} << 20;  // a larger buffer is given back after its frame
constexpr std::size_t kLingerBytesMax = std::size_t{1} << 20;
constexpr base::Micros kLingerTime = base::kSecond;
constexpr unsigned kKeepaliveSeconds = 30;

base::Micros now() { return base::posix_env().now(); }

Connection& self_of(void* data) { return *static_cast<Connection*>(data); }

// libuv asks for a buffer right before it reads and hands it over right after: one per thread serves all connections.
void give_read_buffer(uv_handle_t*, std::size_t, uv_buf_t* out) {
  thread_local std::array<char, kReadBufferSize> buffer;
  *out = uv_buf_init(buffer.data(), static_cast<unsigned>(buffer.size()));
}

uv_buf_t buffer_of(base::ByteView bytes) {
  return uv_buf_init(reinterpret_cast<char*>(const_cast<std::byte*>(bytes.data())),
                     static_cast<unsigned>(bytes.size()));
}

}  // namespace

Connection::Connection(LoopLane& lane, ConnectionOwner& owner, Handshake handshake)
    : lane_(lane), owner_(&owner), handshake_(std::move(handshake)), begun_at_(now()), last_received_(begun_at_) {}

Connection::~Connection() = default;

base::Status Connection::open_handle() {
  if (const int rc = uv_tcp_init(lane_.loop(), &tcp_); rc != 0)
    return base::make_error(base::Code::kIo, uv_strerror(rc));
  tcp_.data = this;
  self_ = shared_from_this();
  return base::ok();
}

base::Result<std::shared_ptr<Connection>> Connection::dial(LoopLane& lane, ConnectionOwner& owner, Handshake handshake,
                                                           const sockaddr* address) {
  std::shared_ptr<Connection> connection(new Connection(lane, owner, std::move(handshake)));
  HQL_TRY(connection->open_handle());
  connection->connect_request_.data = connection.get();
  connection->remote_ = address_text(address);
  const int rc =
      uv_tcp_connect(&connection->connect_request_, &connection->tcp_, address, [](uv_connect_t* request, int status) {
        Connection& self = self_of(request->data);
        self.lane_.guard([&] { self.on_connected(status); });
      });
  if (rc != 0) {
    connection->close();
    return base::make_error(base::Code::kIo, "cannot connect to " + connection->remote_ + ": " + uv_strerror(rc));
  }
  return connection;
}

base::Result<std::shared_ptr<Connection>> Connection::accept(LoopLane& lane, ConnectionOwner& owner,
                                                             Handshake handshake, uv_stream_t* listener) {
  std::shared_ptr<Connection> connection(new Connection(lane, owner, std::move(handshake)));
  HQL_TRY(connection->open_handle());
  if (const int rc = uv_accept(listener, reinterpret_cast<uv_stream_t*>(&connection->tcp_)); rc != 0) {
    connection->close();
    return base::make_error(base::Code::kIo, std::string("cannot accept a connection: ") + uv_strerror(rc));
  }
  sockaddr_storage peer{};
  int size = sizeof peer;
  if (uv_tcp_getpeername(&connection->tcp_, reinterpret_cast<sockaddr*>(&peer), &size) == 0) {
    connection->remote_ = address_text(reinterpret_cast<sockaddr*>(&peer));
  }
  if (auto status = connection->connected(); !status) {
    connection->close();
    return status.error();
  }
  return connection;
}

// The socket is connected: options, and the first bytes are awaited.
base::Status Connection::connected() {
  if (uv_fileno(reinterpret_cast<uv_handle_t*>(&tcp_), &fd_) == 0) track_descriptor(fd_);
  uv_tcp_nodelay(&tcp_, 1);
  uv_tcp_keepalive(&tcp_, 1, kKeepaliveSeconds);
  state_ = State::kGreeting;
  read_budget_ = kReadBudget;
  last_received_ = now();
  start_reading();
  if (!reading_) return base::make_error(base::Code::kIo, "cannot read from " + remote_);
  return base::ok();
}

void Connection::on_connected(int status) {
  if (state_ != State::kConnecting) return;  // closed meanwhile
  const auto keep = shared_from_this();
  if (status < 0) return break_off(base::Code::kIo, "cannot connect to " + remote_ + ": " + uv_strerror(status));
  if (auto ready = connected(); !ready) return break_off(ready.error().code, ready.error().message);
  if (auto failure = handshake_.begin()) return break_off(*failure);
  enqueue_bare(handshake_.take_output());
}

// ---- reading ----

void Connection::start_reading() {
  if (reading_) return;
  reading_ = uv_read_start(reinterpret_cast<uv_stream_t*>(&tcp_), give_read_buffer,
                           [](uv_stream_t* stream, ssize_t count, const uv_buf_t* buffer) {
                             Connection& self = self_of(stream->data);
                             self.lane_.guard([&] { self.on_read(count, buffer); });
                           }) == 0;
}

void Connection::stop_reading() {
  if (reading_) uv_read_stop(reinterpret_cast<uv_stream_t*>(&tcp_));
  reading_ = false;
}

void Connection::restart_reading() {
  if (state_ == State::kClosed || state_ == State::kLingering || holding_) return;
  read_budget_ = kReadBudget;
  start_reading();
}

void Connection::on_read(ssize_t count, const uv_buf_t* buffer) {
  const auto keep = shared_from_this();
  if (state_ == State::kClosed || count == 0) return;
  if (count < 0) {
    if (state_ == State::kLingering) return close();
    const std::string why = count == UV_EOF ? "closed by the peer" : uv_strerror(static_cast<int>(count));
    return break_off(base::Code::kIo, "connection to " + remote_ + ": " + why);
  }
  const auto size = static_cast<std::size_t>(count);
  if (state_ == State::kLingering) {
    lingered_ += size;
    if (lingered_ > kLingerBytesMax) close();
    return;
  }
  last_received_ = now();
  consume({reinterpret_cast<const std::byte*>(buffer->base), size});
  read_budget_ -= count;
  if (read_budget_ <= 0 && reading_ && owner_ != nullptr) {
    stop_reading();
    owner_->want_reading(*this);
  }
}

bool Connection::reads_frames() const { return state_ != State::kClosed && state_ != State::kLingering && !holding_; }

// Cuts bytes into frames. A frame that lies in `bytes` whole is used where it is.
void Connection::consume(base::ByteView bytes) {
  consuming_ = true;
  while (reads_frames()) {
    if (!take_header(bytes)) break;
    const std::size_t tag_size = receive_seal_ ? receive_seal_->tag_size() : 0;
    const std::size_t whole = header_.size + tag_size;
    const std::size_t missing = whole - body_.size();
    const std::size_t part_size = std::min(missing, bytes.size());
    const base::ByteView part = bytes.first(part_size);
    bytes = bytes.subspan(part_size);
    if (receive_seal_) {
      const std::size_t payload_missing = header_.size - std::min<std::size_t>(body_.size(), header_.size);
      receive_seal_->update(part.first(std::min(payload_missing, part_size)));
    }
    if (part_size == whole) {
      end_of_frame(part);
      continue;
    }
    if (body_.empty()) body_.reserve(whole);  // bounded by decode_header(); the kernel gives the pages when bytes come
    body_.insert(body_.end(), part.begin(), part.end());
    if (body_.size() < whole) break;
    end_of_frame(body_);
    if (body_.capacity() > kKeptBodyMax) {
      body_ = {};
    } else {
      body_.clear();
    }
  }
  consuming_ = false;
  if (holding_ && state_ != State::kClosed) {
    held_.insert(held_.end(), bytes.begin(), bytes.end());
    stop_reading();
  }
}

// True when the header of the current frame is complete.
bool Connection::take_header(base::ByteView& bytes) {
  if (header_have_ == kFrameHeaderSize) return true;
  const std::size_t part = std::min(kFrameHeaderSize - header_have_, bytes.size());
  std::copy_n(bytes.begin(), part, header_bytes_.begin() + static_cast<std::ptrdiff_t>(header_have_));
  header_have_ += part;
  bytes = bytes.subspan(part);
  if (header_have_ < kFrameHeaderSize) return false;
  auto header = decode_header(header_bytes_, receive_seal_ ? Stage::kSealed : Stage::kBare);
  if (!header) {
    break_off(header.error().code, header.error().message + " from " + remote_);
    return false;
  }
  header_ = *header;
  if (receive_seal_) {
    if (header_.channel != channel()) {
      break_off(base::Code::kProtocol, "malformed bytes: a frame of another channel from " + remote_);
      return false;
    }
    receive_seal_->begin(header_bytes_);
  }
  return true;
}

void Connection::end_of_frame(base::ByteView frame) {
  header_have_ = 0;
  const base::ByteView payload = frame.first(header_.size);
  if (!receive_seal_) return on_bare_frame(payload);
  auto tag = receive_seal_->finish();
  if (!tag) return break_off(tag.error().code, tag.error().message);
  if (!equal_secret(tag->view(), frame.subspan(header_.size))) {
    return break_off(base::Code::kCorrupt, "a frame from " + remote_ + " does not match its check value");
  }
  on_sealed_frame(payload);
}

void Connection::on_bare_frame(base::ByteView payload) {
  auto failure = handshake_.on_frame(header_, payload);
  if (failure) return break_off(*failure);
  base::Bytes out = handshake_.take_output();
  if (!out.empty()) enqueue_bare(std::move(out));
  if (handshake_.done()) finish_handshake();
}

void Connection::finish_handshake() {
  auto send_seal = handshake_.make_send_seal();
  auto receive_seal = handshake_.make_receive_seal();
  if (!send_seal || !receive_seal) return break_off(base::Code::kInternal, "cannot make the keys of a connection");
  send_seal_ = std::move(*send_seal);
  receive_seal_ = std::move(*receive_seal);
  state_ = State::kHello;
  base::Bytes hello = owner_->hello_for(channel());
  CHECK(hello.size() <= kHelloSizeMax);
  enqueue(FrameKind::kHello, base::share(std::move(hello)));
}

void Connection::on_sealed_frame(base::ByteView payload) {
  const auto out_of_turn = [this] {
    break_off(base::Code::kProtocol, "malformed bytes: a frame out of turn from " + remote_);
  };
  switch (header_.kind) {
    case FrameKind::kHello:
      if (state_ != State::kHello) return out_of_turn();
      peer_hello_ = base::copy_of(payload);
      state_ = State::kAuthenticated;
      return owner_->on_authenticated(*this);
    case FrameKind::kReady:
      // Only an acceptor says it: the lower id dials.
      if (state_ != State::kAuthenticated || ready_ || peer().from < peer().to) return out_of_turn();
      ready_ = true;
      holding_ = true;
      return owner_->on_ready(*this);
    case FrameKind::kApplication:
      if (state_ != State::kOpen) return out_of_turn();
      return owner_->on_application_frame(*this, payload);
    case FrameKind::kPing:
      if (queued_bytes_ < kPongQueueMax) enqueue(FrameKind::kPong, nullptr);
      return;
    case FrameKind::kPong:
      return;
    case FrameKind::kRefuse: {
      auto message = decode_refuse(payload);
      if (!message) return break_off(message.error().code, message.error().message);
      return break_off(
          HandshakeFailure{message->refusal, "refused by the peer: " + message->text, HandshakeFailure::Tell::kNobody});
    }
    case FrameKind::kStart:
    case FrameKind::kChallenge:
    case FrameKind::kProof:
      break;
  }
  out_of_turn();
}

void Connection::accept_session() {
  CHECK(state_ == State::kAuthenticated);
  state_ = State::kOpen;
  enqueue(FrameKind::kReady, nullptr);
}

void Connection::resume() {
  if (state_ != State::kAuthenticated || !ready_) return;
  state_ = State::kOpen;
  holding_ = false;
  if (consuming_) return;  // the loop in consume() goes on
  const auto keep = shared_from_this();
  const base::Bytes held = std::exchange(held_, {});
  consume(held);
  restart_reading();
}

// ---- writing ----

bool Connection::send(base::SharedBytes frame) {
  if (state_ != State::kOpen) return false;
  const std::size_t limit = channel() == base::Channel::kControl ? kControlQueueMax : kDataQueueMax;
  // One frame may be longer than the queue; it then goes alone.
  if (!queue_.empty() && queued_bytes_ + frame->size() > limit) return false;
  enqueue(FrameKind::kApplication, std::move(frame));
  return true;
}

void Connection::ping() {
  if (state_ == State::kOpen || state_ == State::kAuthenticated) enqueue(FrameKind::kPing, nullptr);
}

void Connection::enqueue(FrameKind kind, base::SharedBytes payload) {
  OutFrame& frame = queue_.emplace_back();
  frame.payload = std::move(payload);
  const std::size_t size = frame.payload ? frame.payload->size() : 0;
  CHECK(size <= payload_size_max(kind, channel()));
  frame.header = encode_header({static_cast<std::uint32_t>(size), kind, channel()});
  frame.header_size = kFrameHeaderSize;
  frame.tag.size = send_seal_->tag_size();
  queued_bytes_ += frame.size();
  wake_writer();
}

void Connection::enqueue_bare(base::Bytes bytes) {
  OutFrame& frame = queue_.emplace_back();
  frame.payload = base::share(std::move(bytes));
  frame.sealed = frame.payload->size();
  frame.progress = OutFrame::Progress::kSealed;
  queued_bytes_ += frame.size();
  wake_writer();
}

void Connection::wake_writer() {
  if (writing_ || flush_wanted_ || queue_.empty()) return;
  if (owner_ != nullptr) {
    flush_wanted_ = true;
    owner_->want_flush(*this);
  } else {
    flush();
  }
}

// Everything that is queued, up to a slice, in one system call.
void Connection::flush() {
  flush_wanted_ = false;
  if (writing_ || state_ == State::kConnecting || state_ == State::kClosed) return;
  const auto keep = shared_from_this();
  std::size_t budget = kSliceBytes;
  buffers_.clear();
  for (OutFrame& frame : queue_) {
    if (!seal_some(frame, budget)) return break_off(base::Code::kInternal, "cannot make the check value of a frame");
    add_buffers(frame);
    if (frame.progress != OutFrame::Progress::kSealed || budget == 0 || buffers_.size() + 3 > kBuffersMax) break;
  }
  if (buffers_.empty()) return shut_down();
  std::size_t total = 0;
  for (const uv_buf_t& buffer : buffers_) total += buffer.len;
  auto* const stream = reinterpret_cast<uv_stream_t*>(&tcp_);
  const int taken = uv_try_write(stream, buffers_.data(), static_cast<unsigned>(buffers_.size()));
  if (taken < 0 && taken != UV_EAGAIN) {
    return break_off(base::Code::kIo, "connection to " + remote_ + ": " + uv_strerror(taken));
  }
  std::size_t skip = taken > 0 ? static_cast<std::size_t>(taken) : 0;
  in_flight_ = total - skip;
  written(skip);
  if (in_flight_ == 0) return queue_.empty() ? shut_down() : wake_writer();
  // The kernel's buffer is full: libuv waits for room and writes the rest.
  auto first = buffers_.begin();
  while (skip >= first->len) skip -= (first++)->len;
  *first = uv_buf_init(first->base + skip, static_cast<unsigned>(first->len - skip));
  write_request_.data = this;
  writing_ = true;
  const int rc = uv_write(&write_request_, stream, &*first, static_cast<unsigned>(buffers_.end() - first),
                          [](uv_write_t* request, int status) {
                            Connection& self = self_of(request->data);
                            self.lane_.guard([&] { self.on_write_done(status); });
                          });
  if (rc != 0) {
    writing_ = false;
    break_off(base::Code::kIo, "connection to " + remote_ + ": " + uv_strerror(rc));
  }
}

// Works on the check value for at most `budget` bytes. False: libcrypto failed.
bool Connection::seal_some(OutFrame& frame, std::size_t& budget) {
  using Progress = OutFrame::Progress;
  if (frame.progress == Progress::kSealed) return true;
  if (frame.progress == Progress::kWaiting) {
    send_seal_->begin(frame.header);
    frame.progress = Progress::kBegun;
  }
  const base::ByteView payload = base::view_of(frame.payload);
  const std::size_t part = std::min(budget, payload.size() - frame.sealed);
  send_seal_->update(payload.subspan(frame.sealed, part));
  frame.sealed += part;
  budget -= part;
  if (frame.sealed < payload.size()) return true;
  auto tag = send_seal_->finish();
  if (!tag) return false;
  frame.tag = *tag;
  frame.progress = Progress::kSealed;
  return true;
}

// The parts of a frame that may leave and have not left.
void Connection::add_buffers(const OutFrame& frame) {
  std::size_t skip = frame.written;
  const auto add = [&](base::ByteView part) {
    const std::size_t skipped = std::min(skip, part.size());
    skip -= skipped;
    if (skipped < part.size()) buffers_.push_back(buffer_of(part.subspan(skipped)));
  };
  add(base::ByteView(frame.header).first(frame.header_size));
  add(base::view_of(frame.payload).first(frame.sealed));
  if (frame.progress == OutFrame::Progress::kSealed) add(frame.tag.view());
}

// `count` bytes are with the kernel.
void Connection::written(std::size_t count) {
  while (count > 0) {
    CHECK(!queue_.empty());
    OutFrame& frame = queue_.front();
    const std::size_t part = std::min(count, frame.size() - frame.written);
    frame.written += part;
    count -= part;
    if (frame.written < frame.size()) break;
    queued_bytes_ -= frame.size();
    queue_.pop_front();
  }
  CHECK(count == 0);
}

void Connection::on_write_done(int status) {
  const auto keep = shared_from_this();
  writing_ = false;
  if (state_ == State::kClosed) return;
  if (status < 0) {
    if (state_ == State::kLingering) return close();
    return break_off(base::Code::kIo, "connection to " + remote_ + ": " + uv_strerror(status));
  }
  last_drained_ = now();
  written(in_flight_);
  in_flight_ = 0;
  if (queue_.empty()) return shut_down();
  wake_writer();
}

// ---- the end ----

// After the last frame of a refused connection: FIN, then the peer's end is awaited, because a close with unread
// bytes would reset the connection and take the refusal from the peer.
void Connection::shut_down() {
  if (state_ != State::kLingering || shutting_down_) return;
  shutting_down_ = true;
  const int rc = uv_shutdown(&shutdown_request_, reinterpret_cast<uv_stream_t*>(&tcp_), [](uv_shutdown_t*, int) {});
  if (rc != 0) close();
}

void Connection::refuse(Refusal refusal, const std::string& text) {
  if (state_ == State::kClosed || state_ == State::kLingering) return;
  if (state_ == State::kConnecting) return close();
  linger({refusal, handshake_.version(), text});
}

void Connection::linger(const RefuseMessage& message) {
  const auto keep = shared_from_this();
  // A long frame that has begun would have to end first.
  if (!queue_.empty() && queue_.front().progress == OutFrame::Progress::kBegun) return close();
  const State before = std::exchange(state_, State::kLingering);
  if (ConnectionOwner* const owner = std::exchange(owner_, nullptr)) owner->on_lingering(*this);
  flush_wanted_ = false;
  // The frames that wait are not sent any more.
  while (queue_.size() > 1 && queue_.back().written == 0 && queue_.back().progress == OutFrame::Progress::kWaiting) {
    queued_bytes_ -= queue_.back().size();
    queue_.pop_back();
  }
  holding_ = false;
  start_reading();
  const std::weak_ptr<Connection> weak = keep;
  lane_.post_at(now() + kLingerTime, [weak] {
    if (const auto connection = weak.lock()) connection->close();
  });
  base::Bytes payload = encode(message);
  if (before == State::kGreeting) {
    enqueue_bare(bare_frame(FrameKind::kRefuse, channel(), payload));
  } else {
    enqueue(FrameKind::kRefuse, base::share(std::move(payload)));
  }
}

void Connection::close() {
  owner_ = nullptr;
  if (state_ == State::kClosed) return;
  state_ = State::kClosed;
  reading_ = false;
  untrack_descriptor(fd_);
  fd_ = -1;
  if (!self_) return;
  uv_close(reinterpret_cast<uv_handle_t*>(&tcp_), [](uv_handle_t* handle) {
    // May be the last share: the connection goes with it.
    const std::shared_ptr<Connection> last = std::move(self_of(handle->data).self_);
  });
}

void Connection::break_off(base::Code code, const std::string& text) {
  if (state_ == State::kClosed || owner_ == nullptr) return close();
  const auto keep = shared_from_this();
  ConnectionOwner* const owner = owner_;
  close();
  owner->on_broken(*this, {base::make_error(code, text), std::nullopt});
}

void Connection::break_off(const HandshakeFailure& failure) {
  if (state_ == State::kClosed || owner_ == nullptr) return close();
  const auto keep = shared_from_this();
  ConnectionOwner* const owner = owner_;
  if (failure.tell == HandshakeFailure::Tell::kPeer) {
    linger({failure.refusal, handshake_.version(), failure.text});
  } else {
    close();
  }
  owner->on_broken(*this, {base::make_error(code_of(failure.refusal), failure.text), failure.refusal});
}

}  // namespace net

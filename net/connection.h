// Connection: one TCP connection to another node, from connect or accept to close: handshake, hello, sealed frames
// both ways, a bounded send queue. Caller: net/tcp_transport.cc, which pairs two of them to a session. Loop lane
// only. Format: docs/FORMATS.md, "Wire".
//
// Reading and sealing go in slices, so that a 70 MiB frame on the data channel never keeps a heartbeat waiting: a
// flush seals and writes at most kSliceBytes, a connection that has read kReadBudget pauses until the loop has polled
// the others. Lives as long as its uv handle or anybody's shared_ptr: the transport and the loop share it.
#pragma once

#include <uv.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "base/transport.h"
#include "net/crypto.h"
#include "net/handshake.h"
#include "net/loop_lane.h"
#include "net/wire.h"

namespace net {

class Connection;

// Why a connection ended.
struct ConnectionError {
  base::Error error;
  std::optional<Refusal> refusal;  // set when one side refused the other
};

class ConnectionOwner {
 public:
  virtual ~ConnectionOwner() = default;
  virtual base::Bytes hello_for(base::Channel channel) = 0;
  // The peer is proved and its hello is here.
  virtual void on_authenticated(Connection& connection) = 0;
  // Dialler: the acceptor has accepted both channels. The connection then keeps what it reads until resume().
  virtual void on_ready(Connection& connection) = 0;
  virtual void on_application_frame(Connection& connection, base::ByteView frame) = 0;
  // At most once, and never after close() or refuse(). The connection is closed, or ends by itself.
  virtual void on_broken(Connection& connection, const ConnectionError& error) = 0;
  // It was refused and ends by itself within a second; whoever stops the loop before that closes it.
  virtual void on_lingering(Connection& connection) = 0;
  // Something waits to be sent: flush() before the next poll. / Reading is paused: restart_reading() before the next
  // poll.
  virtual void want_flush(Connection& connection) = 0;
  virtual void want_reading(Connection& connection) = 0;
};

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  // Errors: kIo.
  static base::Result<std::shared_ptr<Connection>> dial(LoopLane& lane, ConnectionOwner& owner, Handshake handshake,
                                                        const sockaddr* address);
  static base::Result<std::shared_ptr<Connection>> accept(LoopLane& lane, ConnectionOwner& owner, Handshake handshake,
                                                          uv_stream_t* listener);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // Queues an application frame. False: the queue is full. Only when open for frames.
  bool send(base::SharedBytes frame);
  // Acceptor: tells the dialler that both channels are accepted, and opens this one for frames.
  void accept_session();
  // Dialler, after on_ready(): opens the connection for frames and works off what was read meanwhile.
  void resume();
  void ping();
  // Says why, then ends; the owner hears no more of it.
  void refuse(Refusal refusal, const std::string& text);
  // Ends at once; the owner hears no more of it. Idempotent.
  void close();

  void flush();
  void restart_reading();

  [[nodiscard]] const Greeting& peer() const { return handshake_.peer(); }
  [[nodiscard]] base::Channel channel() const { return handshake_.channel(); }
  [[nodiscard]] std::uint64_t session() const { return handshake_.session(); }
  [[nodiscard]] const base::Bytes& peer_hello() const { return peer_hello_; }
  [[nodiscard]] bool ready() const { return ready_; }
  [[nodiscard]] bool closed() const { return state_ == State::kClosed; }
  [[nodiscard]] bool authenticated() const { return state_ == State::kAuthenticated || state_ == State::kOpen; }
  [[nodiscard]] base::Micros begun_at() const { return begun_at_; }
  [[nodiscard]] base::Micros last_received() const { return last_received_; }
  // When the peer last made room in a kernel's buffer that was full. What the kernel takes while it has room proves nothing.
  [[nodiscard]] base::Micros last_drained() const { return last_drained_; }
  // "127.0.0.1:4711", for reports about a peer that has not said who it is.
  [[nodiscard]] const std::string& remote() const { return remote_; }

 private:
  enum class State : std::uint8_t {
    kConnecting,
    kGreeting,       // bare frames
    kHello,          // sealed; the peer's hello is missing
    kAuthenticated,  // both may say that they are ready
    kOpen,           // application frames
    kLingering,      // refused: the last frame leaves, then the connection ends
    kClosed,
  };
  struct OutFrame {
    std::array<std::byte, kFrameHeaderSize> header{};
    std::size_t header_size = 0;  // 0: a bare frame, all of it in `payload`
    base::SharedBytes payload;
    FrameSeal::Tag tag;
    std::size_t sealed = 0;   // bytes of the payload that may leave
    std::size_t written = 0;  // bytes of all that are with the kernel
    enum class Progress : std::uint8_t { kWaiting, kBegun, kSealed } progress = Progress::kWaiting;
    [[nodiscard]] std::size_t size() const { return header_size + (payload ? payload->size() : 0) + tag.size; }
  };

  Connection(LoopLane& lane, ConnectionOwner& owner, Handshake handshake);
  base::Status open_handle();
  base::Status connected();
  void on_connected(int status);
  void on_read(ssize_t count, const uv_buf_t* buffer);
  void start_reading();
  void stop_reading();
  void consume(base::ByteView bytes);
  bool take_header(base::ByteView& bytes);
  void end_of_frame(base::ByteView frame);
  void on_bare_frame(base::ByteView payload);
  void on_sealed_frame(base::ByteView payload);
  void finish_handshake();
  void enqueue(FrameKind kind, base::SharedBytes payload);
  void enqueue_bare(base::Bytes bytes);
  void wake_writer();
  bool seal_some(OutFrame& frame, std::size_t& budget);
  void add_buffers(const OutFrame& frame);
  void written(std::size_t count);
  void on_write_done(int status);
  void shut_down();
  void break_off(base::Code code, const std::string& text);
  void break_off(const HandshakeFailure& failure);
  void linger(const RefuseMessage& message);
  [[nodiscard]] bool reads_frames() const;

  LoopLane& lane_;
  ConnectionOwner* owner_;  // null after close() or refuse()
  Handshake handshake_;
  State state_ = State::kConnecting;
  bool ready_ = false;    // dialler: the acceptor said so
  bool holding_ = false;  // dialler: ready, but the other channel is not yet
  bool consuming_ = false;
  bool reading_ = false;
  base::Micros begun_at_ = 0;
  base::Micros last_received_ = 0;
  base::Micros last_drained_ = 0;
  std::string remote_;

  uv_tcp_t tcp_{};
  int fd_ = -1;
  std::shared_ptr<Connection> self_;  // while the handle is open: the loop's share
  uv_connect_t connect_request_{};
  uv_write_t write_request_{};
  uv_shutdown_t shutdown_request_{};

  std::array<std::byte, kFrameHeaderSize> header_bytes_{};
  std::size_t header_have_ = 0;
  FrameHeader header_;
  base::Bytes body_;  // payload and tag of a frame that did not come in one piece
  base::Bytes held_;
  std::ptrdiff_t read_budget_ = 0;
  std::size_t lingered_ = 0;
  std::optional<FrameSeal> send_seal_;
  std::optional<FrameSeal> receive_seal_;
  base::Bytes peer_hello_;

  std::deque<OutFrame> queue_;  // elements stay where they are while the kernel reads them
  std::size_t queued_bytes_ = 0;
  std::vector<uv_buf_t> buffers_;
  bool writing_ = false;
  bool flush_wanted_ = false;
  bool shutting_down_ = false;
  std::size_t in_flight_ = 0;
};

}  // namespace net

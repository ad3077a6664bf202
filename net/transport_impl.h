// The inside of TcpTransport: peers, their sessions, dialling, the listener. Private to net/tcp_transport.cc and
// net/dialling.cc. Loop lane only, but for last_error().
#pragma once

#include <uv.h>

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "base/random.h"
#include "base/transport.h"
#include "net/connection.h"
#include "net/handshake.h"
#include "net/loop_lane.h"
#include "net/tcp_transport.h"

namespace net {

inline constexpr base::Micros kDialDelayMin = 50 * base::kMillisecond;
inline constexpr base::Micros kDialDelayMax = 2 * base::kSecond;
inline constexpr base::Micros kStableTime = base::kSecond;  // a session that lived this long starts the back-off anew
inline constexpr base::Micros kHandshakeTime = 5 * base::kSecond;  // for both channels of a session
inline constexpr base::Micros kProbeTime = base::kSecond;
inline constexpr std::size_t kReasonsMax =
    8;  // of one peer and code until it is up: its own texts must not fill the host's log
inline constexpr base::Micros kReportAgainTime = 60 * base::kSecond;  // for strangers, who are never "up again"
inline constexpr std::size_t kLingeringMax =
    64;  // refused connections that have not closed their end; the oldest is cut off
inline constexpr std::size_t kGreetingMax = 64;  // accepted connections that have proved nothing; the oldest gives way

class TcpTransport::Impl final : public ConnectionOwner, public std::enable_shared_from_this<TcpTransport::Impl> {
 public:
  Impl(LoopLane& lane, TransportOptions options, int listener_fd, std::string address);
  ~Impl() override;

  void start(base::TransportHandler& handler);
  void set_peers(const std::vector<base::PeerAddress>& wanted);
  bool send(base::NodeId id, base::Channel channel, base::SharedBytes frame);
  void flush();
  void disconnect(base::NodeId id);
  void stop();
  [[nodiscard]] bool is_up(base::NodeId id) const;
  [[nodiscard]] const std::string& address() const { return address_; }
  [[nodiscard]] LoopLane& lane() { return lane_; }
  [[nodiscard]] std::optional<base::Error> last_error() const;

  base::Bytes hello_for(base::Channel channel) override;
  void on_authenticated(Connection& connection) override;
  void on_ready(Connection& connection) override;
  void on_application_frame(Connection& connection, base::ByteView frame) override;
  void on_broken(Connection& connection, const ConnectionError& error) override;
  void on_lingering(Connection& connection) override;
  void want_flush(Connection& connection) override;
  void want_reading(Connection& connection) override;

 private:
  struct Peer {
    base::PeerAddress address;
    std::array<std::shared_ptr<Connection>, 2> channels;  // by channel_slot()
    enum class Phase : std::uint8_t { kDown, kComingUp, kUp } phase = Phase::kDown;
    base::Micros up_since = 0;
    base::Micros probe_began = 0;  // 0: nobody doubts it
    base::Micros delay = kDialDelayMin;
    std::uint64_t dial_generation = 0;                               // a look-up or a timer of an older one is void
    std::size_t attempts = 0;                                        // which of several addresses is next
    std::vector<std::pair<base::Channel, base::SharedBytes>> early;  // sent by the handler inside its on_up
    [[nodiscard]] bool idle() const { return !channels[0] && !channels[1]; }
  };
  // The handle on the loop. Deletes itself when it is closed; `impl` is null from stop() on.
  struct Listener {
    Impl* impl = nullptr;
    LoopLane* lane = nullptr;
    uv_tcp_t tcp{};
  };
  struct Lookup;

  static std::size_t channel_slot(base::Channel channel) { return channel == base::Channel::kControl ? 0 : 1; }
  Peer* find(base::NodeId id);
  Peer* peer_of(const Connection& connection);
  void want_end_of_turn();
  void end_of_turn();
  void on_incoming(int status);
  void tick();
  [[nodiscard]] base::Micros tick_time() const { return options_.dead_time / 20; }
  [[nodiscard]] base::Micros ping_time() const { return options_.dead_time / 5; }
  void check_silence(Peer& peer, base::Micros time);
  base::Result<Digest> tag_digest();
  Identity identity() const;

  // Sessions.
  void admit(const std::shared_ptr<Connection>& connection);
  void come_up(base::NodeId id);
  void drop_session(Peer& peer);
  void break_session(Peer& peer, const base::Error& error);
  void tell_down(base::NodeId id);
  void deliver_downs();

  // Dialling (dialling.cc).
  [[nodiscard]] bool dials(const Peer& peer) const { return options_.self.id < peer.address.id; }
  void dial_later(Peer& peer);
  void dial_after(Peer& peer, base::Micros delay);
  void dial(Peer& peer);
  void look_up(Peer& peer, const std::string& host, std::uint16_t port);
  void found(base::NodeId id, std::uint64_t generation, int status, const std::vector<sockaddr_storage>& addresses);
  void connect(Peer& peer, const sockaddr* address);
  void dial_failed(Peer& peer, const base::Error& error);

  // To on_error, unless it is no news. `reason` is what tells this error from the next of its code, when the message says more than that,
  // such as the port of a connection; empty: the message.
  void report(base::NodeId about, const base::Error& error, const std::string& reason = {});

  LoopLane& lane_;
  const TransportOptions options_;
  const std::string address_;
  int listener_fd_;
  Listener* listener_ = nullptr;
  base::TransportHandler* handler_ = nullptr;
  bool stopped_ = false;
  std::map<base::NodeId, Peer> peers_;
  std::vector<std::shared_ptr<Connection>> greeting_;  // accepted, not yet of a peer; oldest first
  std::vector<std::shared_ptr<Connection>> to_flush_;
  std::vector<std::shared_ptr<Connection>> to_read_;
  bool end_of_turn_wanted_ = false;
  std::vector<std::weak_ptr<Connection>> lingering_;  // oldest first
  std::vector<base::NodeId> downs_;
  std::uint64_t next_session_ = 1;
  base::Random random_;
  base::Micros tick_at_ = 0;
  base::Micros resumed_at_ = 0;  // when this process last came back from a stall: silence before it proves nothing
  struct Reported {
    base::Micros at = 0;
    std::vector<std::string> reasons;
  };
  std::map<std::pair<base::NodeId, base::Code>, Reported> reported_;  // of a peer: until it is up

  mutable base::Mutex error_mutex_;
  std::optional<base::Error> last_error_ GUARDED_BY(error_mutex_);
};

}  // namespace net

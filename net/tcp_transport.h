// TcpTransport: the base::Transport between real processes, over TCP with the handshake of R18 (docs/FORMATS.md,
// "Wire"). Caller: node/. listen() from any thread, everything else and every callback on the loop lane.
//
// A pair of nodes has one *session*: a control and a data connection. The node with the lower id dials both, the
// other accepts, so there is never a second session to choose from. The dialler numbers its attempts; a higher number
// from the same process replaces an older session whose end has not been noticed. on_up comes when both channels are
// accepted, on_down when either breaks, and both connections then go. A session of another process (boot nonce) with
// the id of a peer that is up is refused, and the older is asked for a sign of life: one that stays silent for
// kProbeTime is dropped, and the newcomer's next attempt succeeds. A peer that sends nothing for TransportOptions::dead_time,
// although it is asked five times meanwhile, counts as gone; but not while it takes a frame that has filled the kernel's buffer, however
// slowly: what it would answer to waits behind that frame.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "base/transport.h"
#include "net/loop_lane.h"

namespace net {

inline constexpr std::uint16_t kWireVersion = 1;
inline constexpr std::size_t kSecretSizeMin = 16;  // characters

struct TransportOptions {
  base::Member self;
  std::uint64_t boot_nonce = 0;  // random per start of the process
  // "host:port"; port 0 takes a free one. Names are looked up once, in listen().
  std::string listen;
  // Empty: this node listens on, and dials, loopback addresses only.
  std::string secret_raft;
  // What both sides must have in common: the cluster id, or the hash of the nodes list. Asked on the loop lane for
  // every handshake.
  std::function<base::Bytes()> cluster_tag;
  std::uint16_t version = kWireVersion;
  base::Micros dead_time = 10 * base::kSecond;
  // Every error that an operator should see, each reason once until the peer is up again: on the loop lane. May be empty;
  // last_error() keeps the newest in any case.
  std::function<void(const base::Error&)> on_error;
};

// Errors: kConfig, naming the key and the fix.
base::Status check_secret(const std::string& secret_raft);

class TcpTransport final : public base::Transport {
 public:
  // Binds and listens; connections are taken from start() on. Any thread but the loop's: a host name is looked up here.
  // The lane outlives the transport. Errors: kConfig (address or secret), kAddress (in use, not local, no permission).
  static base::Result<std::unique_ptr<TcpTransport>> listen(LoopLane& lane, TransportOptions options);
  // As stop().
  ~TcpTransport() override;

  void start(base::TransportHandler& handler) override;
  void set_peers(const std::vector<base::PeerAddress>& peers) override;
  bool send(base::NodeId peer, base::Channel channel, base::SharedBytes frame) override;
  // on_down follows from the loop, never inside the call; set_peers() tells of the peers it removes in the same way.
  void flush() override;
  void disconnect(base::NodeId peer) override;

  // Closes everything; no callback comes any more. On the lane at once, from another thread it waits for the lane.
  // Before the lane's own stop(). Idempotent.
  void stop();

  // "host:port" with the port that is really bound. Any thread.
  [[nodiscard]] const std::string& address() const;
  [[nodiscard]] bool is_up(base::NodeId peer) const;
  // The newest error that was reported. Any thread.
  [[nodiscard]] std::optional<base::Error> last_error() const;

 private:
  class Impl;
  explicit TcpTransport(std::shared_ptr<Impl> impl);
  // Shared with tasks on the lane and look-ups under way, which hold it weakly.
  std::shared_ptr<Impl> impl_;
};

}  // namespace net

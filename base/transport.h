// Transport: frames between nodes. Real: net/ (libuv, TCP, handshake of R18). Simulated: tests/sim.
// All calls and callbacks happen on the loop lane.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"

namespace base {

// Two connections per pair of nodes: small urgent frames never queue behind data (DESIGN 6.1).
enum class Channel : std::uint8_t {
  kControl = 1,  // heartbeats, votes, read-index, bootstrap; frames of at most kControlFrameMax
  kData = 2,     // appends, forwarded requests, snapshots; frames of at most kDataFrameMax
};
inline constexpr std::size_t kControlFrameMax = std::size_t{64} << 10;
inline constexpr std::size_t kDataFrameMax = std::size_t{72} << 20;

// A node as known before any contact: from the configuration.
struct PeerAddress {
  NodeId id;
  std::string raft_addr;  // "host:port"
};

// What the handshake proved about the other side, and what it says about itself.
struct PeerInfo {
  NodeId id;
  Incarnation incarnation;
  std::uint64_t boot_nonce = 0;  // random per start of the process
  Bytes hello;                   // opaque here: the node's own statement (node/hello.h)
};

class TransportHandler {
 public:
  virtual ~TransportHandler() = default;
  // This node's statement for a handshake that begins now.
  virtual Bytes make_hello() = 0;
  // Both channels to `peer.id` are up. A reconnect is on_down, then on_up. An error refuses the peer, which is told its text.
  virtual Status on_up(const PeerInfo& peer) = 0;
  virtual void on_down(NodeId peer) = 0;
  // A whole frame of a peer that is up. The view is valid during the call.
  virtual void on_frame(NodeId peer, Channel channel, ByteView frame) = 0;
};

class Transport {
 public:
  virtual ~Transport() = default;
  // The handler outlives the transport. Once, before the first set_peers.
  virtual void start(TransportHandler& handler) = 0;
  // Connects to new ones, disconnects from those that are gone. This node itself must not be among them.
  virtual void set_peers(const std::vector<PeerAddress>& peers) = 0;
  // Queues a frame. False: the peer is not up or its bounded queue is full, and the frame is dropped
  // (the protocols above resend). Never blocks. The buffer is shared so that one payload serves all peers.
  virtual bool send(NodeId peer, Channel channel, SharedBytes frame) = 0;
  // What was queued leaves now, as far as sockets take it, not at the end of this turn of the loop: before something slower is begun.
  virtual void flush() {}
  // Drops the connection to a peer (a protocol error); it reconnects with back-off.
  virtual void disconnect(NodeId peer) = 0;
};

}  // namespace base

// SimNetwork: the wires of a simulated cluster, and base::Transport for each of its nodes. A connection between two nodes is a pair of
// TCP streams, one per channel and direction. What base/transport.h promises, and NetworkOptions without `wild` keeps:
//   - within a stream and a connection frames arrive in order, none twice, and none is missing between two that arrive;
//   - a frame arrives only over the connection it was sent on: never after on_down, nor after the next on_up.
// Everything else happens: a queue is full and send() says false; a connection breaks and what is under way in either direction is lost,
// noticed by one side long before the other; control frames and data frames overtake each other; a direction stands still.
// `wild` breaks those promises too, frame by frame, where `tolerates` allows it: frames are lost, doubled, overtaken, and come from an earlier
// connection. All callbacks are tasks of the node's loop lane, never made inside a call of the Transport. One thread.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "base/random.h"
#include "base/transport.h"
#include "tests/sim/sim_lane.h"

namespace sim {

// What TCP never does to a frame. Chances per million.
struct WildFaults {
  std::uint32_t lost = 0;
  std::uint32_t doubled = 0;                    // a copy comes later as well
  std::uint32_t overtaken = 0;                  // leaves its place in the stream
  std::uint32_t belated = 0;                    // a copy comes much later, over whatever connection there is then
  Micros stray_max = 300 * base::kMillisecond;  // how much later a copy, or a frame out of its place, comes
  Micros belated_max = 20 * base::kSecond;
  [[nodiscard]] bool any() const { return lost + doubled + overtaken + belated > 0; }
};
// Which of them may happen to a frame.
struct Tolerance {
  bool lost = false;
  bool doubled = false;
  bool overtaken = false;
  bool belated = false;
};

struct NetworkOptions {
  Micros delay_min = 100;  // of one frame, one way
  Micros delay_max = 2 * base::kMillisecond;
  std::uint32_t slow_ppm = 5000;  // frames per million that take up to slow_factor times as long
  std::int64_t slow_factor = 20;
  std::uint32_t break_ppm = 0;   // frames per million in whose place the connection breaks
  std::uint32_t refuse_ppm = 0;  // calls of send() per million that find the queue full
  WildFaults wild;
  std::function<Tolerance(base::ByteView frame)> tolerates;  // empty: everything may happen to every frame
  std::uint64_t bytes_per_micro = 100;                       // bandwidth of one stream
  Micros reconnect_min = 10 * base::kMillisecond;
  Micros reconnect_max = 500 * base::kMillisecond;
  Micros blocked_break_min = base::kSecond;  // a blocked direction breaks the connection after so long
  Micros blocked_break_max = 5 * base::kSecond;
  Micros notice_max = 3 * base::kSecond;           // a side that hears nothing any more notices within this
  std::size_t queue_max = std::size_t{256} << 20;  // bytes on the way in one stream; send() then says false
};

struct NetworkStats {
  std::uint64_t sent = 0;
  std::uint64_t delivered = 0;
  std::uint64_t refused = 0;   // send() said false
  std::uint64_t connects = 0;  // connections that both sides accepted
  std::uint64_t breaks = 0;
  std::uint64_t lost = 0;    // by `wild`; the next two likewise
  std::uint64_t strays = 0;  // copies, and frames out of their place
  std::uint64_t belated = 0;
};

// How a process that dies looks from outside.
enum class Death : std::uint8_t {
  kReset,   // the kernel lives on and resets its connections: noticed within a delay
  kSilent,  // power cut: noticed only by silence
};

class SimTransport;

class SimNetwork {
 public:
  // Registers with the scheduler: Scheduler::kill(node) breaks the connections of the node. Outlived by the scheduler.
  SimNetwork(Scheduler& scheduler, std::uint64_t seed, NetworkOptions options = {});
  ~SimNetwork();
  SimNetwork(const SimNetwork&) = delete;
  SimNetwork& operator=(const SimNetwork&) = delete;

  // The transport of a new process of node `self.id`; `self.hello` is ignored (the handler is asked). One at a time per node.
  std::unique_ptr<base::Transport> attach(base::PeerInfo self, SimLane& loop);

  // Frames from -> to are held back until heal(); a connection that is blocked for long breaks, and none is made.
  void block(NodeId from, NodeId to);
  // Both ways between every node of one side and every node of the other.
  void partition(const std::vector<NodeId>& one_side, const std::vector<NodeId>& other_side);
  void heal(NodeId from, NodeId to);
  void heal_all();
  // Frames from -> to arrive no earlier than after `time`, in order; the connection stays.
  void clog(NodeId from, NodeId to, Micros time);
  void break_connection(NodeId a, NodeId b);
  // Of the next Scheduler::kill() of this node; by the seed when not set.
  void set_death(NodeId node, Death death) { deaths_[node] = death; }
  void set_options(NetworkOptions options) { options_ = options; }
  [[nodiscard]] const NetworkOptions& options() const { return options_; }
  [[nodiscard]] bool connected(NodeId a, NodeId b) const;  // both sides are up
  [[nodiscard]] const NetworkStats& stats() const { return stats_; }

 private:
  friend class SimTransport;

  struct Frame {
    Micros arrives = 0;
    base::SharedBytes bytes;
  };
  // One stream: a channel in one direction.
  struct Pipe {
    std::deque<Frame> frames;  // oldest first
    Micros last_arrival = 0;
    std::size_t bytes = 0;
  };
  static constexpr std::size_t kChannels = 2;
  // What one end of a connection believes.
  struct Side {
    bool up = false;           // on_up was called and accepted; on_down is owed
    bool down_posted = false;  // on_down is on its way
    std::array<Pipe, kChannels> incoming;
  };
  enum class Phase : std::uint8_t { kIdle, kWaiting, kConnecting, kUp, kClosing };
  // Between nodes first < second.
  struct Link {
    NodeId ends[2];
    Phase phase = Phase::kIdle;
    std::uint64_t epoch = 0;             // of the connection; tasks of an older one do nothing
    Side sides[2];                       // sides[i] belongs to ends[i]
    bool blocked[2] = {};                // frames that would arrive at ends[i]
    std::uint64_t block_number[2] = {};  // tells a block from a later one
    Micros clogged_until[2] = {};
  };
  // One process of a node.
  struct Endpoint {
    base::PeerInfo self;
    SimLane* loop = nullptr;
    base::TransportHandler* handler = nullptr;
    std::set<NodeId> peers;
  };
  using EndpointPtr = std::shared_ptr<Endpoint>;  // shared by the SimTransport and the network's table

  Link& link(NodeId a, NodeId b);
  static std::size_t side_of(const Link& link, NodeId node) { return link.ends[0] == node ? 0 : 1; }
  [[nodiscard]] Endpoint* endpoint(NodeId node);
  [[nodiscard]] bool wanted(const Link& link);
  [[nodiscard]] static bool is_blocked(const Link& link) { return link.blocked[0] || link.blocked[1]; }
  Micros delay();
  // A task of the network on a node's loop lane, or on the world's; nothing once the network is gone.
  void on_loop(NodeId node, Micros time, base::Task task);
  void in_world(Micros time, base::Task task);

  // The life of a connection, in order. Each step is a task and checks that its epoch still counts.
  void plan_connect(Link& link);
  void begin_connect(Link& link);
  void send_hello(Link& link, std::uint64_t epoch);                                 // on the first's loop
  void answer_hello(Link& link, std::uint64_t epoch, const base::PeerInfo& first);  // on the second's
  void finish_connect(Link& link, std::uint64_t epoch, const base::PeerInfo& first, const base::PeerInfo& second);
  void accept_connect(Link& link, std::uint64_t epoch, const base::PeerInfo& first);
  void abandon_connect(Link& link);
  void break_link(Link& link, Micros notice_first, Micros notice_second);
  void post_down(Link& link, std::size_t side, Micros notice);
  void side_is_down(Link& link, std::uint64_t epoch, std::size_t side);
  void settle(Link& link);

  bool send(Endpoint& from, NodeId to, base::Channel channel, base::SharedBytes frame);
  // What `wild` makes of a frame. False: it does not go into its stream.
  bool wild(Link& link, std::size_t side, base::Channel channel, const base::SharedBytes& frame);
  // A frame outside of its stream. Only while connection `epoch` lives, or (0) over any.
  void send_stray(Link& link, std::size_t side, base::Channel channel, base::SharedBytes frame, std::uint64_t epoch,
                  Micros time);
  void schedule_pump(Link& link, std::size_t side, std::size_t channel, Micros time);
  void pump(Link& link, std::uint64_t epoch, std::size_t side, std::size_t channel);
  // Frames on their way to `side` arrive at `time` at the earliest.
  void hold_back(Link& link, std::size_t side, Micros time);
  void set_blocked(NodeId from, NodeId to);

  void set_peers(Endpoint& self, const std::vector<base::PeerAddress>& peers);
  void disconnect(Endpoint& self, NodeId peer);
  // The process of `node` is gone: its side vanishes without a callback, the others notice after their time.
  void forget(NodeId node, Death death);
  void detach(const EndpointPtr& endpoint);

  Scheduler& scheduler_;
  NetworkOptions options_;
  base::Random random_;
  std::map<NodeId, EndpointPtr> endpoints_;
  std::map<std::pair<NodeId, NodeId>, std::unique_ptr<Link>> links_;
  std::map<NodeId, Death> deaths_;
  NetworkStats stats_;
  // False once this object is gone: the scheduler's listener and queued tasks hold it.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace sim

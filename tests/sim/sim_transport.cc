// Connections and streams of tests/sim/sim_transport.h.
#include "tests/sim/sim_transport.h"

#include <algorithm>

#include "base/check.h"

namespace sim {

using base::Channel;
using base::PeerInfo;

class SimTransport final : public base::Transport {
 public:
  SimTransport(SimNetwork& network, std::shared_ptr<bool> network_alive, SimNetwork::EndpointPtr endpoint)
      : network_(network), network_alive_(std::move(network_alive)), endpoint_(std::move(endpoint)) {}
  ~SimTransport() override {
    if (*network_alive_) network_.detach(endpoint_);
  }
  SimTransport(const SimTransport&) = delete;
  SimTransport& operator=(const SimTransport&) = delete;

  void start(base::TransportHandler& handler) override {
    CHECK(endpoint_->handler == nullptr);
    endpoint_->handler = &handler;
  }
  void set_peers(const std::vector<base::PeerAddress>& peers) override {
    if (usable()) network_.set_peers(*endpoint_, peers);
  }
  bool send(NodeId peer, Channel channel, base::SharedBytes frame) override {
    return usable() && network_.send(*endpoint_, peer, channel, std::move(frame));
  }
  void disconnect(NodeId peer) override {
    if (usable()) network_.disconnect(*endpoint_, peer);
  }

 private:
  // Not after the process was killed: what is left of it may still be running its last task.
  [[nodiscard]] bool usable() const { return *network_alive_ && endpoint_->loop != nullptr; }

  SimNetwork& network_;
  const std::shared_ptr<bool> network_alive_;
  const SimNetwork::EndpointPtr endpoint_;
};

SimNetwork::SimNetwork(Scheduler& scheduler, std::uint64_t seed, NetworkOptions options)
    : scheduler_(scheduler), options_(options), random_(base::mix64(seed)) {
  scheduler_.on_kill([this, alive = alive_](NodeId node) {
    if (!*alive) return;
    const auto planned = deaths_.find(node);
    Death death = random_.chance(1, 2) ? Death::kReset : Death::kSilent;
    if (planned != deaths_.end()) {
      death = planned->second;
      deaths_.erase(planned);
    }
    forget(node, death);
  });
}

SimNetwork::~SimNetwork() { *alive_ = false; }

std::unique_ptr<base::Transport> SimNetwork::attach(PeerInfo self, SimLane& loop) {
  CHECK(loop.alive());
  CHECK(loop.node() == self.id);
  CHECK(endpoint(self.id) == nullptr);
  auto process = std::make_shared<Endpoint>();
  process->self = std::move(self);
  process->loop = &loop;
  endpoints_[process->self.id] = process;
  // A peer that has not noticed the death of the process before learns of it from the first packet of this one.
  for (const auto& [ends, link] : links_) {
    if (ends.first != process->self.id && ends.second != process->self.id) continue;
    const std::size_t other = 1 - side_of(*link, process->self.id);
    if (link->sides[other].up) post_down(*link, other, delay());
  }
  return std::make_unique<SimTransport>(*this, alive_, process);
}

SimNetwork::Link& SimNetwork::link(NodeId a, NodeId b) {
  CHECK(a != b);
  auto& link = links_[std::minmax(a, b)];
  if (!link) {
    link = std::make_unique<Link>();
    link->ends[0] = std::min(a, b);
    link->ends[1] = std::max(a, b);
  }
  return *link;
}

SimNetwork::Endpoint* SimNetwork::endpoint(NodeId node) {
  const auto found = endpoints_.find(node);
  return found == endpoints_.end() ? nullptr : found->second.get();
}

bool SimNetwork::wanted(const Link& link) {
  const Endpoint* const first = endpoint(link.ends[0]);
  const Endpoint* const second = endpoint(link.ends[1]);
  return first != nullptr && second != nullptr && first->handler != nullptr && second->handler != nullptr &&
         first->peers.contains(link.ends[1]) && second->peers.contains(link.ends[0]);
}

Micros SimNetwork::delay() {
  Micros time = random_.between(options_.delay_min, options_.delay_max);
  if (random_.chance(options_.slow_ppm, 1000000))
    time *= random_.between(2, std::max<std::int64_t>(2, options_.slow_factor));
  return time;
}

void SimNetwork::on_loop(NodeId node, Micros time, base::Task task) {
  const Endpoint* const process = endpoint(node);
  if (process == nullptr) return;
  process->loop->post_at_global(time, [alive = alive_, task = std::move(task)] {
    if (*alive) task();
  });
}

void SimNetwork::in_world(Micros time, base::Task task) {
  scheduler_.lane(NodeId{}, "network").post_at_global(time, [alive = alive_, task = std::move(task)] {
    if (*alive) task();
  });
}

// ---- the handshake: hello, answer, and the frame that says "accepted" ----

void SimNetwork::plan_connect(Link& link) {
  if (link.phase != Phase::kIdle || !wanted(link)) return;
  link.phase = Phase::kWaiting;
  in_world(scheduler_.now() + random_.between(options_.reconnect_min, options_.reconnect_max),
           [this, &link] { begin_connect(link); });
}

void SimNetwork::begin_connect(Link& link) {
  CHECK(link.phase == Phase::kWaiting);
  link.phase = Phase::kIdle;
  if (!wanted(link)) return;
  if (is_blocked(link)) {
    plan_connect(link);
    return;
  }
  link.phase = Phase::kConnecting;
  const std::uint64_t epoch = ++link.epoch;
  on_loop(link.ends[0], scheduler_.now(), [this, &link, epoch] { send_hello(link, epoch); });
}

void SimNetwork::send_hello(Link& link, std::uint64_t epoch) {
  if (link.epoch != epoch) return;
  Endpoint& self = *endpoint(link.ends[0]);
  PeerInfo info = self.self;
  info.hello = self.handler->make_hello();
  on_loop(link.ends[1], scheduler_.now() + delay(), [this, &link, epoch, info] { answer_hello(link, epoch, info); });
}

void SimNetwork::answer_hello(Link& link, std::uint64_t epoch, const PeerInfo& first) {
  if (link.epoch != epoch) return;
  if (is_blocked(link)) {
    abandon_connect(link);
    return;
  }
  Endpoint& self = *endpoint(link.ends[1]);
  PeerInfo info = self.self;
  info.hello = self.handler->make_hello();
  on_loop(link.ends[0], scheduler_.now() + delay(),
          [this, &link, epoch, first, info] { finish_connect(link, epoch, first, info); });
}

void SimNetwork::finish_connect(Link& link, std::uint64_t epoch, const PeerInfo& first, const PeerInfo& second) {
  if (link.epoch != epoch) return;
  if (is_blocked(link)) {
    abandon_connect(link);
    return;
  }
  const Micros arrives = scheduler_.now() + delay();
  // Frames that on_up sends come after this one, on both channels.
  for (Pipe& pipe : link.sides[1].incoming) pipe.last_arrival = arrives;
  on_loop(link.ends[1], arrives, [this, &link, epoch, first] { accept_connect(link, epoch, first); });
  link.sides[0].up = true;
  const bool accepted = endpoint(link.ends[0])->handler->on_up(second).has_value();
  if (accepted || link.epoch != epoch) return;
  link.sides[0].up = false;
  abandon_connect(link);
}

void SimNetwork::accept_connect(Link& link, std::uint64_t epoch, const PeerInfo& first) {
  if (link.epoch != epoch) return;
  if (link.blocked[1]) {
    break_link(link, random_.between(0, options_.notice_max), 0);
    return;
  }
  link.phase = Phase::kUp;
  link.sides[1].up = true;
  const bool accepted = endpoint(link.ends[1])->handler->on_up(first).has_value();
  if (link.epoch != epoch) return;
  if (accepted) {
    ++stats_.connects;
    return;
  }
  link.sides[1].up = false;
  break_link(link, delay(), 0);
}

// Ends an attempt in which no side is up.
void SimNetwork::abandon_connect(Link& link) {
  CHECK(!link.sides[0].up);
  CHECK(!link.sides[1].up);
  ++link.epoch;
  link.phase = Phase::kClosing;
  settle(link);
}

// ---- the end of a connection ----

void SimNetwork::break_link(Link& link, Micros notice_first, Micros notice_second) {
  if (link.phase != Phase::kConnecting && link.phase != Phase::kUp) return;
  ++stats_.breaks;
  ++link.epoch;
  link.phase = Phase::kClosing;
  const Micros notices[2] = {notice_first, notice_second};
  for (std::size_t side = 0; side < 2; ++side)
    if (link.sides[side].up) post_down(link, side, notices[side]);
  settle(link);
}

void SimNetwork::post_down(Link& link, std::size_t side, Micros notice) {
  link.sides[side].down_posted = true;
  on_loop(link.ends[side], scheduler_.now() + notice,
          [this, &link, epoch = link.epoch, side] { side_is_down(link, epoch, side); });
}

void SimNetwork::side_is_down(Link& link, std::uint64_t epoch, std::size_t side) {
  if (link.epoch != epoch || !link.sides[side].up) return;  // it was told by an earlier task
  link.sides[side].up = false;
  link.sides[side].down_posted = false;
  endpoint(link.ends[side])->handler->on_down(link.ends[1 - side]);
  settle(link);
}

// A new connection is made only when both sides know that the old one is gone.
void SimNetwork::settle(Link& link) {
  if (link.phase != Phase::kClosing || link.sides[0].up || link.sides[1].up) return;
  for (Side& side : link.sides) side = Side();
  link.phase = Phase::kIdle;
  plan_connect(link);
}

void SimNetwork::forget(NodeId node, Death death) {
  const auto found = endpoints_.find(node);
  if (found == endpoints_.end()) return;
  found->second->loop = nullptr;
  found->second->handler = nullptr;
  endpoints_.erase(found);
  for (const auto& [ends, link] : links_) {
    if (ends.first != node && ends.second != node) continue;
    const std::size_t own = side_of(*link, node);
    link->sides[own].up = false;
    link->sides[own].down_posted = false;
    const Micros notice = death == Death::kReset ? delay() : random_.between(options_.delay_min, options_.notice_max);
    break_link(*link, notice, notice);
    settle(*link);
  }
}

void SimNetwork::detach(const EndpointPtr& process) {
  const auto found = endpoints_.find(process->self.id);
  if (found != endpoints_.end() && found->second == process) forget(process->self.id, Death::kReset);
}

// ---- frames ----

bool SimNetwork::send(Endpoint& from, NodeId to, Channel channel, base::SharedBytes frame) {
  CHECK(frame != nullptr);
  CHECK(frame->size() <= (channel == Channel::kControl ? base::kControlFrameMax : base::kDataFrameMax));
  CHECK(from.loop->is_current());
  const auto found = links_.find(std::minmax(from.self.id, to));
  if (found == links_.end()) return false;
  Link& link = *found->second;
  const std::size_t sender = side_of(link, from.self.id);
  if (!link.sides[sender].up) return false;
  const std::size_t size = frame->size();
  const std::size_t number = channel == Channel::kControl ? 0 : 1;
  Pipe& pipe = link.sides[1 - sender].incoming[number];
  const bool full = !pipe.frames.empty() && pipe.bytes + size > options_.queue_max;
  if (full || random_.chance(options_.refuse_ppm, 1000000)) {
    ++stats_.refused;
    return false;
  }
  ++stats_.sent;
  if (link.phase == Phase::kClosing) return true;  // the other end is gone; this one has not noticed yet
  if (random_.chance(options_.break_ppm, 1000000)) {
    break_link(link, delay(), delay());
    return true;
  }
  if (options_.wild.any() && !wild(link, 1 - sender, channel, frame)) return true;
  Micros arrives = std::max({scheduler_.now() + delay(), pipe.last_arrival, link.clogged_until[1 - sender]});
  if (options_.bytes_per_micro > 0) arrives += static_cast<Micros>(size / options_.bytes_per_micro);
  pipe.last_arrival = arrives;
  pipe.bytes += size;
  pipe.frames.push_back({arrives, std::move(frame)});
  schedule_pump(link, 1 - sender, number, arrives);
  return true;
}

bool SimNetwork::wild(Link& link, std::size_t side, Channel channel, const base::SharedBytes& frame) {
  const Tolerance may = options_.tolerates ? options_.tolerates(*frame) : Tolerance{true, true, true, true};
  const WildFaults& faults = options_.wild;
  const auto strikes = [this](bool allowed, std::uint32_t ppm) { return allowed && random_.chance(ppm, 1000000); };
  const auto later = [this](Micros max) { return scheduler_.now() + delay() + random_.between(0, max); };
  if (strikes(may.lost, faults.lost)) {
    ++stats_.lost;
    return false;
  }
  if (strikes(may.doubled, faults.doubled)) {
    ++stats_.strays;
    send_stray(link, side, channel, frame, link.epoch, later(faults.stray_max));
  }
  if (strikes(may.belated, faults.belated)) {
    ++stats_.belated;
    send_stray(link, side, channel, frame, 0, later(faults.belated_max));
  }
  if (!strikes(may.overtaken, faults.overtaken)) return true;
  ++stats_.strays;
  send_stray(link, side, channel, frame, link.epoch, later(faults.stray_max));
  return false;
}

void SimNetwork::send_stray(Link& link, std::size_t side, Channel channel, base::SharedBytes frame, std::uint64_t epoch,
                            Micros time) {
  // The process that gets it may be another than the one that lives now.
  in_world(time, [this, &link, side, channel, frame = std::move(frame), epoch] {
    on_loop(link.ends[side], scheduler_.now(), [this, &link, side, channel, frame, epoch] {
      if ((epoch != 0 && link.epoch != epoch) || link.blocked[side] || !link.sides[side].up) return;
      ++stats_.delivered;
      endpoint(link.ends[side])->handler->on_frame(link.ends[1 - side], channel, *frame);
    });
  });
}

void SimNetwork::schedule_pump(Link& link, std::size_t side, std::size_t channel, Micros time) {
  on_loop(link.ends[side], time,
          [this, &link, epoch = link.epoch, side, channel] { pump(link, epoch, side, channel); });
}

// Delivers one frame, if one is due: every frame has a pump of its own, and held frames get another one later.
void SimNetwork::pump(Link& link, std::uint64_t epoch, std::size_t side, std::size_t channel) {
  if (link.epoch != epoch || link.blocked[side] || !link.sides[side].up) return;
  Pipe& pipe = link.sides[side].incoming[channel];
  if (pipe.frames.empty() || pipe.frames.front().arrives > scheduler_.now()) return;
  const base::SharedBytes frame = std::move(pipe.frames.front().bytes);
  pipe.frames.pop_front();
  pipe.bytes -= frame->size();
  ++stats_.delivered;
  endpoint(link.ends[side])
      ->handler->on_frame(link.ends[1 - side], channel == 0 ? Channel::kControl : Channel::kData, *frame);
}

void SimNetwork::hold_back(Link& link, std::size_t side, Micros time) {
  for (std::size_t channel = 0; channel < kChannels; ++channel) {
    Pipe& pipe = link.sides[side].incoming[channel];
    for (Frame& frame : pipe.frames) {
      frame.arrives = std::max(frame.arrives, time);
      schedule_pump(link, side, channel, frame.arrives);
    }
    if (!pipe.frames.empty()) pipe.last_arrival = std::max(pipe.last_arrival, time);
  }
}

// ---- faults ----

void SimNetwork::set_blocked(NodeId from, NodeId to) {
  Link& link = this->link(from, to);
  const std::size_t side = side_of(link, to);
  if (link.blocked[side]) return;
  link.blocked[side] = true;
  const std::uint64_t number = ++link.block_number[side];
  in_world(scheduler_.now() + random_.between(options_.blocked_break_min, options_.blocked_break_max),
           [this, &link, side, number] {
             if (!link.blocked[side] || link.block_number[side] != number) return;
             const Micros first = random_.between(0, options_.notice_max);
             break_link(link, first, random_.between(0, options_.notice_max));
           });
}

void SimNetwork::block(NodeId from, NodeId to) { set_blocked(from, to); }

void SimNetwork::partition(const std::vector<NodeId>& one_side, const std::vector<NodeId>& other_side) {
  for (const NodeId one : one_side) {
    for (const NodeId other : other_side) {
      set_blocked(one, other);
      set_blocked(other, one);
    }
  }
}

void SimNetwork::heal(NodeId from, NodeId to) {
  Link& link = this->link(from, to);
  const std::size_t side = side_of(link, to);
  link.clogged_until[side] = 0;
  if (!link.blocked[side]) return;
  link.blocked[side] = false;
  hold_back(link, side, scheduler_.now() + delay());
}

void SimNetwork::heal_all() {
  for (const auto& [ends, link] : links_) {
    heal(ends.first, ends.second);
    heal(ends.second, ends.first);
  }
}

void SimNetwork::clog(NodeId from, NodeId to, Micros time) {
  Link& link = this->link(from, to);
  const std::size_t side = side_of(link, to);
  link.clogged_until[side] = scheduler_.now() + time;
  hold_back(link, side, link.clogged_until[side]);
}

void SimNetwork::break_connection(NodeId a, NodeId b) {
  const Micros first = delay();
  break_link(link(a, b), first, delay());
}

bool SimNetwork::connected(NodeId a, NodeId b) const {
  const auto found = links_.find(std::minmax(a, b));
  if (found == links_.end()) return false;
  const Link& link = *found->second;
  return link.phase == Phase::kUp && link.sides[0].up && link.sides[1].up;
}

// ---- what a node asks for ----

void SimNetwork::set_peers(Endpoint& self, const std::vector<base::PeerAddress>& peers) {
  CHECK(self.handler != nullptr);
  std::set<NodeId> wanted_now;
  for (const base::PeerAddress& peer : peers) {
    CHECK(peer.id != self.self.id);
    wanted_now.insert(peer.id);
  }
  const std::set<NodeId> before = std::exchange(self.peers, wanted_now);
  for (const NodeId gone : before) {
    if (wanted_now.contains(gone)) continue;
    Link& link = this->link(self.self.id, gone);
    const Micros far = delay();
    break_link(link, link.ends[0] == self.self.id ? 0 : far, link.ends[1] == self.self.id ? 0 : far);
  }
  for (const NodeId peer : wanted_now) plan_connect(link(self.self.id, peer));
}

void SimNetwork::disconnect(Endpoint& self, NodeId peer) {
  Link& link = this->link(self.self.id, peer);
  const Micros far = delay();
  break_link(link, link.ends[0] == self.self.id ? 0 : far, link.ends[1] == self.self.id ? 0 : far);
}

}  // namespace sim

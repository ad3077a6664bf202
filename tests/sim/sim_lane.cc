// The event loop of tests/sim/sim_lane.h.
#include "tests/sim/sim_lane.h"

#include <algorithm>

#include "base/check.h"
#include "base/checksum.h"

namespace sim {
namespace {

constexpr std::int64_t kTrueRatePpm = 1000000;
constexpr Micros kWallClockStart = Micros{1700000000} * base::kSecond;  // an arbitrary day

}  // namespace

// Node time = node_start + (global - global_start) * rate. A rate change starts a new stretch, so that the clock never jumps.
class Scheduler::NodeClock final : public Clock {
 public:
  explicit NodeClock(Scheduler& scheduler) : scheduler_(scheduler) {}
  Micros now() override { return at(scheduler_.now()); }
  Micros wall_clock() override { return kWallClockStart + wall_offset_ + scheduler_.now(); }
  void spend(Micros time) override { scheduler_.spend(time); }

  // The first global time at which now() >= `time`, never before the start of the stretch.
  [[nodiscard]] Micros to_global(Micros time) const {
    if (time <= node_start_) return global_start_;
    const Micros ahead = time - node_start_;
    if (ahead > kAheadMax) return global_start_ + kAheadMax;
    Micros global = global_start_ + ahead * kTrueRatePpm / rate_ppm_;
    while (at(global) < time) ++global;
    return global;
  }
  void set_rate(std::int64_t rate_ppm) {
    const Micros global = scheduler_.now();
    node_start_ = at(global);
    global_start_ = global;
    rate_ppm_ = rate_ppm;
  }
  void jump_wall(Micros by) { wall_offset_ += by; }

 private:
  static constexpr Micros kAheadMax = Micros{1} << 42;  // 50 days: the products above stay inside 63 bits

  [[nodiscard]] Micros at(Micros global) const {
    return node_start_ + (global - global_start_) / kTrueRatePpm * rate_ppm_ +
           (global - global_start_) % kTrueRatePpm * rate_ppm_ / kTrueRatePpm;
  }

  Scheduler& scheduler_;
  Micros global_start_ = 0;
  Micros node_start_ = 0;
  std::int64_t rate_ppm_ = kTrueRatePpm;
  Micros wall_offset_ = 0;
};

struct Scheduler::Node {
  explicit Node(Scheduler& scheduler) : clock(scheduler) {}
  std::map<std::string, std::unique_ptr<SimLane>> lanes;
  NodeClock clock;
  bool paused = false;
};

Scheduler::Scheduler(std::uint64_t seed, SchedulerOptions options)
    : seed_(seed), options_(options), random_(base::mix64(seed)) {
  CHECK(options_.task_cost_max > 0);
}

Scheduler::~Scheduler() {
  // Closures may post while they are destroyed: every lane must be dead, and still there.
  for (const auto& [id, node] : nodes_) {
    for (const auto& [name, lane] : node->lanes) lane->alive_ = false;
  }
  for (const auto& [id, node] : nodes_) {
    for (const auto& [name, lane] : node->lanes) lane->tasks_.clear();
  }
}

Scheduler::Node& Scheduler::node_state(NodeId id) {
  auto& node = nodes_[id];
  if (!node) node = std::make_unique<Node>(*this);
  return *node;
}

SimLane& Scheduler::lane(NodeId node, const std::string& name) {
  auto& lane = node_state(node).lanes[name];
  if (!lane) lane.reset(new SimLane(*this, node, name));
  return *lane;
}

Clock& Scheduler::clock(NodeId node) { return node_state(node).clock; }

void Scheduler::kill(NodeId id) {
  for (const auto& listener : kill_listeners_) listener(id);
  Node& node = node_state(id);
  std::vector<std::unique_ptr<SimLane>> dying;
  for (auto& [name, lane] : node.lanes) dying.push_back(std::move(lane));
  node.lanes.clear();
  node.paused = false;
  for (const auto& lane : dying) lane->alive_ = false;
  for (auto& lane : dying) {
    const std::map<SimLane::Key, base::Task> dropped = std::move(lane->tasks_);
    lane->tasks_.clear();
    dead_lanes_.push_back(std::move(lane));
  }
}

void Scheduler::pause(NodeId node) { node_state(node).paused = true; }
void Scheduler::resume(NodeId node) { node_state(node).paused = false; }
bool Scheduler::paused(NodeId node) const {
  const auto found = nodes_.find(node);
  return found != nodes_.end() && found->second->paused;
}

void Scheduler::set_clock_rate(NodeId node, std::int64_t rate_ppm) {
  CHECK(rate_ppm > 0);
  CHECK(rate_ppm <= 1000 * kTrueRatePpm);
  node_state(node).clock.set_rate(rate_ppm);
}
void Scheduler::jump_wall_clock(NodeId node, Micros by) { node_state(node).clock.jump_wall(by); }

void Scheduler::spend(Micros time) {
  CHECK(time >= 0);
  if (current_ == nullptr) {
    now_ += time;  // set-up code before the first task
  } else {
    spent_ += time;
  }
}

void SimLane::post(base::Task task) { scheduler_.enqueue(*this, scheduler_.now(), std::move(task)); }

void SimLane::post_at(Micros time, base::Task task) {
  scheduler_.enqueue(*this, scheduler_.node_state(node_).clock.to_global(time), std::move(task));
}

void SimLane::post_at_global(Micros time, base::Task task) { scheduler_.enqueue(*this, time, std::move(task)); }

bool SimLane::is_current() const { return scheduler_.current_ == this; }

Micros SimLane::next_time() const {
  return tasks_.empty() ? Scheduler::kNever : std::max(busy_until_, tasks_.begin()->first.first);
}

void Scheduler::enqueue(SimLane& lane, Micros time, base::Task task) {
  if (!lane.alive_) return;
  lane.tasks_.emplace(SimLane::Key{std::max(time, now()), next_post_++}, std::move(task));
}

Micros Scheduler::find_runnable(std::vector<SimLane*>& runnable) const {
  Micros earliest = kNever;
  for (const auto& [id, node] : nodes_) {
    if (node->paused) continue;
    for (const auto& [name, lane] : node->lanes) {
      const Micros time = std::max(now_, lane->next_time());
      if (lane->tasks_.empty() || time > earliest) continue;
      if (time < earliest) runnable.clear();
      earliest = time;
      runnable.push_back(lane.get());
    }
  }
  return earliest;
}

void Scheduler::run_one(SimLane& lane, Micros time) {
  now_ = time;
  const auto first = lane.tasks_.begin();
  const std::uint64_t number = first->first.second;
  base::Task task = std::move(first->second);
  lane.tasks_.erase(first);
  current_ = &lane;
  spent_ = 0;
  task();
  task = nullptr;  // what the closure owns goes while the lane is still current
  lane.busy_until_ = now_ + spent_ + random_.between(1, options_.task_cost_max);
  current_ = nullptr;
  trace_ = base::mix64(trace_ ^ base::xxh3(base::view_of(lane.name_), lane.node_.value) ^ base::mix64(number) ^
                       base::mix64(static_cast<std::uint64_t>(now_ + spent_)));
  spent_ = 0;
  ++steps_;
  if (after_step_) after_step_();
}

bool Scheduler::run_next(Micros time_max) {
  CHECK(current_ == nullptr);
  runnable_.clear();
  const Micros time = find_runnable(runnable_);
  if (runnable_.empty() || time > time_max) return false;
  run_one(*runnable_[static_cast<std::size_t>(random_.below(runnable_.size()))], time);
  return true;
}

bool Scheduler::step() { return run_next(kNever); }

void Scheduler::run_until(Micros time) {
  static_cast<void>(run_until([] { return false; }, time));
  now_ = std::max(now_, time);
}

bool Scheduler::run_until(const std::function<bool()>& condition, Micros time) {
  while (!condition()) {
    if (!run_next(time)) return false;
  }
  return true;
}

}  // namespace sim

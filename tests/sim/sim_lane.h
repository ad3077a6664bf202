// Scheduler: virtual time for a whole simulated cluster, and SimLane: base::Lane of one (node, name) in it (DESIGN R1).
//
// One task runs at a time. Of all lanes whose next task is due at the earliest time, the seed chooses one, so that every seed is
// another interleaving. Inside a task time stands still but for spend(): a task that "syncs for 3 ms" keeps its lane busy for 3 ms,
// and what it posts or sends leaves after them. A kill in between finds the sync done but nobody told.
// The same seed and the same posts give the same order: trace() is a hash of it. One thread.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/ids.h"
#include "base/lane.h"
#include "base/random.h"
#include "tests/sim/sim_disk.h"

namespace sim {

using base::Micros;
using base::NodeId;

class Scheduler;

class SimLane final : public base::Lane {
 public:
  void post(base::Task task) override;
  // `time` is on the scale of the node's own clock.
  void post_at(Micros time, base::Task task) override;
  [[nodiscard]] bool is_current() const override;
  // The same on the scheduler's scale; for the simulated network.
  void post_at_global(Micros time, base::Task task);
  [[nodiscard]] bool alive() const { return alive_; }  // false after its node was killed: posts are dropped
  [[nodiscard]] NodeId node() const { return node_; }
  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] std::size_t queued() const { return tasks_.size(); }

 private:
  friend class Scheduler;
  using Key = std::pair<Micros, std::uint64_t>;  // due at (global time), number of the post

  SimLane(Scheduler& scheduler, NodeId node, std::string name)
      : scheduler_(scheduler), node_(node), name_(std::move(name)) {}
  [[nodiscard]] Micros next_time() const;  // when its next task could run; kNever when it has none

  Scheduler& scheduler_;
  const NodeId node_;
  const std::string name_;
  bool alive_ = true;
  Micros busy_until_ = 0;
  std::map<Key, base::Task> tasks_;
};

struct SchedulerOptions {
  // Every task keeps its lane busy for a random time up to this. Above zero, so that no chain of posts can stop time.
  Micros task_cost_max = 20;
};

class Scheduler {
 public:
  static constexpr Micros kNever = INT64_MAX;

  explicit Scheduler(std::uint64_t seed, SchedulerOptions options = {});
  ~Scheduler();
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  // The lane of the living process of `node`, made at the first call. Node 0 is the world: workload, faults, network.
  SimLane& lane(NodeId node, const std::string& name);
  // The clock of a node's process, for SimDisk::boot(). Lives as long as the scheduler.
  Clock& clock(NodeId node);

  // The node's process dies: queued tasks are destroyed unrun, its lanes drop later posts. Also from inside one of its own tasks.
  // lane() then makes the lanes of the next process.
  void kill(NodeId node);
  // Called in kill(), before the tasks are dropped.
  void on_kill(std::function<void(NodeId)> listener) { kill_listeners_.push_back(std::move(listener)); }
  // SIGSTOP and SIGCONT: tasks wait, time goes on.
  void pause(NodeId node);
  void resume(NodeId node);
  [[nodiscard]] bool paused(NodeId node) const;
  // From now on the node's monotonic clock runs at `rate_ppm` millionths of the true rate (1000000 = true), without a jump.
  void set_clock_rate(NodeId node, std::int64_t rate_ppm);
  // The wall clock jumps; the monotonic one does not notice.
  void jump_wall_clock(NodeId node, Micros by);

  // Global time; inside a task, with what it has spent so far.
  [[nodiscard]] Micros now() const { return now_ + spent_; }
  // The running task's lane is busy for so long.
  void spend(Micros time);

  // Runs one task. False: there is none that could ever run.
  bool step();
  // Runs everything that is due up to `time`, then sets the clock to it.
  void run_until(Micros time);
  void run_for(Micros time) { run_until(now_ + time); }
  // Until `condition` holds (checked after every task) or `time` is reached or nothing is left; returns the condition.
  bool run_until(const std::function<bool()>& condition, Micros time);

  // Called after every task: the place for invariants.
  void after_step(std::function<void()> check) { after_step_ = std::move(check); }
  [[nodiscard]] std::uint64_t trace() const { return trace_; }
  [[nodiscard]] std::uint64_t steps() const { return steps_; }
  // A generator of its own for a purpose: streams do not disturb each other.
  [[nodiscard]] base::Random stream(std::uint64_t purpose) const { return base::Random(seed_ ^ base::mix64(purpose)); }

 private:
  friend class SimLane;
  class NodeClock;
  struct Node;

  Node& node_state(NodeId id);
  void enqueue(SimLane& lane, Micros time, base::Task task);
  // Lanes that could run at the earliest time, and that time.
  Micros find_runnable(std::vector<SimLane*>& runnable) const;
  void run_one(SimLane& lane, Micros time);
  // One task that is due at `time_max` or before, chosen by the seed; false when there is none.
  bool run_next(Micros time_max);

  const std::uint64_t seed_;
  const SchedulerOptions options_;
  base::Random random_;
  Micros now_ = base::kSecond;
  Micros spent_ = 0;
  SimLane* current_ = nullptr;
  std::map<NodeId, std::unique_ptr<Node>> nodes_;
  std::vector<std::unique_ptr<SimLane>> dead_lanes_;  // of killed processes: references to them may be around
  std::vector<SimLane*> runnable_;                    // scratch of run_next()
  std::vector<std::function<void(NodeId)>> kill_listeners_;
  std::function<void()> after_step_;
  std::uint64_t next_post_ = 0;
  std::uint64_t steps_ = 0;
  std::uint64_t trace_ = 0;
};

}  // namespace sim

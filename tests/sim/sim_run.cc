// Workload, faults and the two phases (sim_run.h).
#include "tests/sim/sim_run.h"

#include <algorithm>
#include <set>

#include "tests/sim/cluster.h"

namespace sim {
namespace {

using base::kMillisecond;
using base::kSecond;
using base::Micros;
using base::NodeId;

constexpr std::uint64_t kWorkloadStream = 1;
constexpr std::uint64_t kFaultStream = 2;
constexpr int kWipesMax = 3;
constexpr std::uint64_t kNetworkStream = 3;

// The network of a run, by its seed: a quarter of the runs have clean connections, a quarter see what TCP does to a program, half see single
// frames lost, doubled, overtaken and belated as well, some of them to no end.
NetworkOptions rough_network(NetworkOptions calm, base::Random random) {
  NetworkOptions rough = std::move(calm);
  const std::uint64_t kind = random.below(4);
  const auto up_to = [&random](std::uint64_t ppm) { return static_cast<std::uint32_t>(random.below(ppm + 1)); };
  if (kind == 1 || (kind > 1 && random.chance(1, 2))) {
    rough.break_ppm = up_to(6000);
    rough.refuse_ppm = up_to(20000);
    rough.queue_max = std::size_t{2048} << random.below(8);
  }
  if (kind > 1) {
    const std::uint64_t harsh = kind == 3 ? 10 : 1;
    rough.wild.lost = up_to(10000 * harsh);
    rough.wild.doubled = up_to(10000 * harsh);
    rough.wild.overtaken = up_to(20000 * harsh);
    rough.wild.belated = up_to(5000 * harsh);
  }
  return rough;
}

class Run {
 public:
  explicit Run(const RunOptions& options)
      : options_(options),
        cluster_({.seed = options.seed, .nodes = options.nodes, .trace = options.trace, .log_sync = options.log_sync}),
        workload_(cluster_.scheduler().stream(kWorkloadStream)),
        faults_(cluster_.scheduler().stream(kFaultStream)),
        calm_(cluster_.network().options()),
        rough_(rough_network(calm_, cluster_.scheduler().stream(kNetworkStream))) {}

  RunResult go() {
    cluster_.network().set_options(rough_);
    cluster_.start_all();
    schedule_work();
    // Faults may come before the cluster is formed: first starts under faults are runs like any other.
    if (faults_.chance(2, 3)) cluster_.run_until([&] { return static_cast<bool>(cluster_.leader()); }, 30 * kSecond);
    for (int step = 0; step < options_.steps && ok(); ++step) {
      cluster_.run_for(static_cast<Micros>(faults_.below(400)) * kMillisecond);
      fault();
    }
    heal();
    if (ok() && !cluster_.run_until([&] { return recovered(); }, 120 * kSecond))
      fail("liveness: the healed cluster does not recover");
    working_ = false;
    if (ok() && !cluster_.run_until([&] { return cluster_.all_answered(); }, 60 * kSecond))
      fail("liveness: an operation was never answered");
    final_writes();
    if (ok() && !cluster_.run_until([&] { return level(); }, 60 * kSecond)) fail("liveness: a node does not catch up");
    if (ok())
      if (const std::string wrong = cluster_.check_content(); !wrong.empty()) fail(wrong);
    return result();
  }

 private:
  bool ok() const { return failure_.empty() && breach().empty(); }
  const std::string& breach() const { return cluster_.invariants().breach(); }
  void fail(const std::string& what) {
    if (failure_.empty()) failure_ = what + "\n" + cluster_.dump();
  }
  RunResult result() {
    RunResult out;
    out.failure = !breach().empty() ? breach() + "\n" + cluster_.dump() : failure_;
    out.acked = cluster_.count(OpState::kAcked);
    out.refused = cluster_.count(OpState::kRefused);
    out.unknown = cluster_.count(OpState::kUnknown);
    out.tasks = cluster_.scheduler().steps();
    out.publications = cluster_.invariants().publications();
    out.votes = cluster_.invariants().votes();
    out.ahead = cluster_.found_ahead();
    out.promises = cluster_.invariants().promises();
    const NetworkStats& network = cluster_.network().stats();
    out.lost = network.lost;
    out.strays = network.strays;
    out.belated = network.belated;
    out.trace = cluster_.scheduler().trace();
    return out;
  }

  NodeId any(base::Random& random) {
    const auto ids = cluster_.ids();
    return ids[static_cast<std::size_t>(random.below(ids.size()))];
  }

  // --- workload: tasks of the world -----------------------------------------------------------------------------------------
  void schedule_work() {
    const Micros pause = static_cast<Micros>(1 + workload_.below(60)) * kMillisecond;
    cluster_.scheduler().lane(NodeId{}, "workload").post_at(cluster_.scheduler().now() + pause, [this] {
      if (working_) work();
      if (working_) schedule_work();
    });
  }
  void work() {
    const NodeId id = any(workload_);
    const Micros timeout = static_cast<Micros>(500 + workload_.below(8000)) * kMillisecond;
    const std::uint64_t kind = workload_.below(10);
    const std::uint64_t burst = workload_.chance(1, 8) ? 20 : 1;
    if (!cluster_.up(id)) return;
    if (workload_.chance(1, 20)) {
      workload_.chance(1, 2) ? cluster_.create_other(id, timeout) : cluster_.drop_other(id, timeout);
      return;
    }
    if (kind < 6) {
      for (std::uint64_t i = 0; i < burst; ++i) cluster_.write(id, timeout);
    } else if (kind < 7) {
      cluster_.read(id, timeout);
    } else if (cluster_.image(id) != nullptr) {
      cluster_.local_write(id, timeout, 1 + static_cast<std::size_t>(workload_.below(5)));
    }
  }

  // --- faults -----------------------------------------------------------------------------------------------------------------
  void fault() {
    const NodeId id = any(faults_);
    const Micros later = static_cast<Micros>(20 + faults_.below(3000)) * kMillisecond;
    switch (faults_.below(13)) {
      case 0:
      case 1:
        stop(id, Cluster::Stop::kKill, later);
        break;
      case 2:
      case 3:
        if (immediate()) {
          stop(id, Cluster::Stop::kPowerCut, later);
        } else {
          cut_one(id, later);
        }
        break;
      case 4:
        if (faults_.chance(1, 4)) {  // the whole house
          const Cluster::Stop how = immediate() ? Cluster::Stop::kPowerCut : Cluster::Stop::kKill;
          for (const NodeId each : cluster_.ids()) stop(each, how, later);
        }
        break;
      case 5:
        cluster_.log("node " + std::to_string(id.value) + " will crash at a disk operation");
        cluster_.disk(id).crash_at(1 + faults_.below(40));
        restart_later(id, later);
        break;
      case 6:
        split();
        break;
      case 7: {
        const NodeId other = any(faults_);
        if (other == id) break;
        cluster_.log("one way: " + std::to_string(id.value) + " does not reach " + std::to_string(other.value));
        cluster_.network().block(id, other);
        break;
      }
      case 8:
        cluster_.network().heal_all();
        break;
      case 9:
        cluster_.scheduler().pause(id);
        after(later, [this, id] { cluster_.scheduler().resume(id); });
        break;
      case 10:
        slow_disk(id, later);
        break;
      case 11:
        if (wiped_ < kWipesMax && faults_.chance(1, 4)) {
          heal();
          cluster_.run_until([&] { return recovered(); }, 20 * kSecond);
        }
        wipe(id, later);
        cluster_.network().set_options(rough_);
        break;
      case 12:
        if (const NodeId other = any(faults_); other != id) {
          cluster_.network().clog(id, other, later);
          if (cluster_.up(id))
            cluster_.node(id)->transfer_leader(other, cluster_.node(id)->now() + kSecond, [](const auto&) {});
        }
        break;
    }
  }
  void after(Micros delay, base::Task task) {
    cluster_.scheduler().lane(NodeId{}, "faults").post_at(cluster_.scheduler().now() + delay, std::move(task));
  }
  void restart_later(NodeId id, Micros later) {
    after(later, [this, id] {
      if (id == kept_down_) return;
      cluster_.scheduler().resume(id);
      cluster_.start(id);
    });
  }
  void stop(NodeId id, Cluster::Stop how, Micros later) {
    if (!cluster_.up(id)) return;
    cluster_.stop(id, how);
    restart_later(id, later);
  }
  [[nodiscard]] bool immediate() const { return options_.log_sync == "immediate"; }
  // With log_sync = "interval_<ms>" a node without power forgets what it acknowledged last. Nothing is lost by that as long as the others
  // stay together until each of them has what any of them has: only that is promised (ARCHITECTURE 6.3).
  void cut_one(NodeId id, Micros later) {
    if (cluster_.ids().size() < 3) return;
    heal();
    if (!ok() || !cluster_.run_until([&] { return recovered(); }, 20 * kSecond))
      return cluster_.network().set_options(rough_);
    kept_down_ = id;
    cluster_.stop(id, Cluster::Stop::kPowerCut);
    cluster_.run_for(kSecond);  // what the node had sent arrives
    const auto together = [&] {
      const NodeId leader = cluster_.leader();
      if (!leader) return false;
      const node::NodeStatus status = cluster_.node(leader)->status();
      return std::all_of(status.members.begin(), status.members.end(), [&](const node::MemberStatus& member) {
        return member.id == id || member.match >= status.commit_index;
      });
    };
    if (!cluster_.run_until(together, 120 * kSecond) && ok())
      fail("liveness: the others do not go on without one node");
    kept_down_ = {};
    cluster_.network().set_options(rough_);
    restart_later(id, later);
  }
  void split() {
    std::vector<NodeId> one;
    std::vector<NodeId> other;
    for (const NodeId id : cluster_.ids()) (faults_.chance(1, 2) ? one : other).push_back(id);
    cluster_.log("partition: " + std::to_string(one.size()) + " and " + std::to_string(other.size()) + " nodes");
    cluster_.network().partition(one, other);
  }
  void slow_disk(NodeId id, Micros later) {
    const Micros slow = static_cast<Micros>(faults_.below(800)) * kMillisecond;
    cluster_.disk(id).set_latency([slow](DiskOp op, std::size_t) { return op == DiskOp::kSync ? slow : 0; });
    after(later, [this, id] { cluster_.disk(id).set_latency({}); });
  }
  // Only what the documentation promises to survive: everybody else is an established voter, up, and has everything.
  void wipe(NodeId id, Micros later) {
    if (!ok() || cluster_.ids().size() < 3 || wiped_ >= kWipesMax) return;
    const NodeId leader = cluster_.leader();
    if (!leader) return;
    const node::NodeStatus status = cluster_.node(leader)->status();
    if (status.members.size() != cluster_.ids().size()) return;
    std::set<NodeId> holding;
    for (const node::MemberStatus& member : status.members) {
      if (!cluster_.up(member.id) || cluster_.node(member.id)->self().incarnation != member.incarnation) return;
      if (member.role != "voter") return;
      if (member.match >= status.commit_index) holding.insert(member.id);
    }
    // A majority without the wiped node must hold what is committed.
    holding.erase(id);
    if (holding.size() * 2 <= cluster_.ids().size()) return;
    for (const NodeId each : cluster_.ids())
      if (cluster_.scheduler().paused(each)) return;
    ++wiped_;
    cluster_.stop(id, Cluster::Stop::kWipe);
    restart_later(id, later);
  }
  void heal() {
    cluster_.log("healed");
    cluster_.network().heal_all();
    cluster_.network().set_options(calm_);
    for (const NodeId id : cluster_.ids()) {
      cluster_.scheduler().resume(id);
      cluster_.disk(id).set_latency({});
      cluster_.disk(id).crash_at(0);
    }
  }

  // --- the second phase ---------------------------------------------------------------------------------------------------------
  bool recovered() {
    cluster_.start_all();
    for (const NodeId id : cluster_.ids())
      if (!cluster_.healthy(id)) return false;
    const NodeId leader = cluster_.leader();
    if (!leader) return false;
    const node::NodeStatus status = cluster_.node(leader)->status();
    return status.members.size() == cluster_.ids().size() &&
           std::all_of(status.members.begin(), status.members.end(),
                       [](const auto& member) { return member.role == "voter"; });
  }
  void final_writes() {
    if (!ok()) return;
    std::vector<std::uint64_t> last;
    for (const NodeId id : cluster_.ids()) last.push_back(cluster_.write(id, 30 * kSecond));
    cluster_.run_until([&] { return cluster_.all_answered(); }, 60 * kSecond);
    for (const std::uint64_t op : last)
      if (ok() && cluster_.op(op) != OpState::kAcked)
        fail("liveness: a write on the healed cluster was not acknowledged");
  }
  bool level() {
    base::Index highest;
    for (const NodeId id : cluster_.ids()) highest = std::max(highest, cluster_.node(id)->status().commit_index);
    for (const NodeId id : cluster_.ids())
      if (cluster_.node(id)->status().applied_index < highest) return false;
    return true;
  }

  const RunOptions options_;
  Cluster cluster_;
  base::Random workload_;
  base::Random faults_;
  const NetworkOptions calm_;
  const NetworkOptions rough_;
  bool working_ = true;
  int wiped_ = 0;
  NodeId kept_down_;  // not started by what was planned before
  std::string failure_;
};

}  // namespace

RunResult run_seed(const RunOptions& options) { return Run(options).go(); }

}  // namespace sim

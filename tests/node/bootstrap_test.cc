// The first start (DESIGN 6.2): named scenarios, and random schedules with disconnections, restarts and wipes in which no two living nodes
// may ever belong to different clusters.
#include "node/bootstrap.h"

#include <gtest/gtest.h>

#include <deque>
#include <memory>

#include "base/random.h"
#include "tests/sim/scale.h"

namespace node {
namespace {

using base::Incarnation;
using base::Member;
using base::NodeId;

// Nodes with their durable state, and the wires between them (first in, first out).
class World {
 public:
  explicit World(int count) {
    for (int i = 1; i <= count; ++i) {
      raft::MemberInfo info;
      info.member.id = NodeId(static_cast<std::uint64_t>(i));
      nodes_.push_back(info);
    }
    for (const raft::MemberInfo& info : nodes_) wipe(info.member.id);
  }
  struct Node {
    Member self;
    Ballot promise, cluster;                      // durable
    std::optional<raft::Configuration> first;     // durable
    std::unique_ptr<Bootstrap> core;
    std::deque<std::function<void()>> disk;       // completions on their way
    bool following = false;                       // a joiner whose core runs
  };

  void wipe(NodeId id) {
    cut_off(id);
    Node& node = at_[id];
    node = Node();
    node.self = {id, Incarnation{++last_incarnation_}};
    boot(id);
  }
  void restart(NodeId id) {
    cut_off(id);
    at_[id].disk.clear();
    boot(id);
  }
  void connect(NodeId a, NodeId b) {
    if (a == b || links_.count(key(a, b)) != 0) return;
    links_[key(a, b)] = true;
    const auto up = [this](NodeId to, NodeId of) {
      const Node& peer = at_[of];
      at_[to].core->peer_up(peer.self, peer.core->cluster(), peer.core->promise());
    };
    up(a, b);
    up(b, a);
    run(a);
    run(b);
  }
  void disconnect(NodeId a, NodeId b) {
    if (links_.erase(key(a, b)) == 0) return;
    wires_.erase({a, b});
    wires_.erase({b, a});
    at_[a].core->peer_down(b);
    at_[b].core->peer_down(a);
    run(a);
    run(b);
  }
  void connect_all() {
    for (const auto& a : nodes_)
      for (const auto& b : nodes_)
        if (a.member.id < b.member.id) connect(a.member.id, b.member.id);
  }
  void tick(NodeId id) {
    at_[id].core->tick();
    run(id);
  }
  // One frame from a to b; false when none is on the way.
  bool deliver(NodeId from, NodeId to) {
    auto& wire = wires_[{from, to}];
    if (wire.empty()) return false;
    const auto message = decode_bootstrap(wire.front());
    wire.pop_front();
    EXPECT_TRUE(message.has_value());
    at_[to].core->step(at_[from].self, *message);
    run(to);
    return true;
  }
  bool finish_disk(NodeId id) {
    auto& disk = at_[id].disk;
    if (disk.empty()) return false;
    const auto completion = std::move(disk.front());
    disk.pop_front();
    completion();
    run(id);
    return true;
  }
  // Raft in short: an initial majority that holds the first entry commits it and serves those who join.
  void raft() {
    for (auto& [id, node] : at_) {
      if (!node.core->belongs()) continue;
      const Ballot cluster = node.core->cluster();
      if (!has_majority(cluster)) continue;
      committed_.insert(cluster);
      node.core->set_committed();
      run(id);
    }
    for (auto& [id, node] : at_) {
      if (!node.following || !node.core->joining() || !has_majority(node.core->joining())) continue;
      node.cluster = node.core->joining();
      node.following = false;
      node.core->entry_held();
      run(id);
    }
  }
  void settle(int rounds = 60) {
    for (int round = 0; round < rounds; ++round) {
      for (const auto& info : nodes_) {
        tick(info.member.id);
        while (finish_disk(info.member.id)) {
        }
      }
      for (const auto& a : nodes_)
        for (const auto& b : nodes_)
          while (deliver(a.member.id, b.member.id)) {
          }
      raft();
      check();
    }
  }
  bool has_majority(const Ballot& cluster) const {
    for (const auto& [id, node] : at_) {
      if (node.core->cluster() != cluster || !node.first) continue;
      std::size_t holding = 0;
      for (const raft::MemberInfo& voter : node.first->voters) {
        const Node& other = at_.at(voter.member.id);
        if (other.self == voter.member && other.core->cluster() == cluster) ++holding;
      }
      return holding * 2 > node.first->voters.size();
    }
    return false;
  }
  void check() const {
    Ballot found;
    for (const auto& [id, node] : at_) {
      if (!node.core->belongs()) continue;
      if (!found) found = node.core->cluster();
      EXPECT_EQ(node.core->cluster(), found) << "node " << id.value << " belongs to another cluster";
    }
  }
  bool one_cluster() const {
    for (const auto& [id, node] : at_)
      if (!node.core->belongs()) return false;
    return true;
  }
  Bootstrap& core(int id) { return *at_.at(NodeId(static_cast<std::uint64_t>(id))).core; }
  const std::vector<raft::MemberInfo>& nodes() const { return nodes_; }
  std::size_t committed_count() const { return committed_.size(); }

 private:
  static std::pair<NodeId, NodeId> key(NodeId a, NodeId b) { return a < b ? std::pair{a, b} : std::pair{b, a}; }
  void cut_off(NodeId id) {
    if (at_.count(id) == 0 || !at_[id].core) return;
    for (const auto& other : nodes_) disconnect(id, other.member.id);
  }
  void boot(NodeId id) {
    Node& node = at_[id];
    Bootstrap::Options options;
    options.self = node.self;
    options.nodes = nodes_;
    options.promise = node.promise;
    options.cluster = node.cluster;
    options.first = node.first;
    node.following = false;
    node.core = std::make_unique<Bootstrap>(std::move(options));
    if (node.cluster && committed_.count(node.cluster) != 0 && has_majority(node.cluster)) node.core->set_committed();
  }
  void run(NodeId id) {
    Node& node = at_[id];
    for (;;) {
      Bootstrap::Actions actions = node.core->take_actions();
      if (actions.leave) node.following = false;
      for (const Bootstrap::Send& send : actions.sends)
        if (links_.count(key(id, send.to)) != 0) wires_[{id, send.to}].push_back(encode(send.message));
      if (actions.persist_promise)
        node.disk.push_back([this, id, ballot = *actions.persist_promise] {
          at_[id].promise = ballot;
          at_[id].core->promise_durable(ballot);
        });
      if (actions.persist_first)
        node.disk.push_back([this, id, first = *actions.persist_first] {
          at_[id].cluster = first.cluster;
          at_[id].first = first.configuration;
          at_[id].core->first_durable();
        });
      if (actions.join) node.following = true;
      if (actions.sends.empty() && !actions.persist_promise && !actions.persist_first && !actions.join && !actions.leave) return;
    }
  }

  std::vector<raft::MemberInfo> nodes_;
  std::map<NodeId, Node> at_;
  std::map<std::pair<NodeId, NodeId>, bool> links_;
  std::map<std::pair<NodeId, NodeId>, std::deque<base::Bytes>> wires_;
  std::set<Ballot> committed_;
  std::uint64_t last_incarnation_ = 100;
};

NodeId id(int number) { return NodeId(static_cast<std::uint64_t>(number)); }

TEST(Bootstrap, AllConnected_FormOneCluster) {
  for (const int count : {3, 5}) {
    World world(count);
    world.connect_all();
    world.settle();
    EXPECT_TRUE(world.one_cluster());
    EXPECT_EQ(world.core(1).cluster().number, 1u);
  }
}

TEST(Bootstrap, OneMissing_NobodyForms) {
  World world(3);
  world.connect(id(1), id(2));
  world.settle();
  EXPECT_FALSE(world.core(1).belongs());
  EXPECT_EQ(world.core(1).missing(), std::vector<NodeId>{id(3)});
}

TEST(Bootstrap, OneMissing_ForcedFormsWithoutIt) {
  World world(3);
  world.connect(id(1), id(2));
  world.core(1).force();
  world.settle();
  EXPECT_TRUE(world.core(1).belongs());
  EXPECT_TRUE(world.core(2).belongs());
  world.connect_all();
  world.settle();
  EXPECT_TRUE(world.one_cluster());
}

// The bootstrapper is wiped when everybody has promised and nobody holds the first entry.
TEST(Bootstrap, BootstrapperWipedAfterPromises_NewRoundHasAHigherBallot) {
  World world(3);
  world.connect_all();
  world.tick(id(1));
  world.finish_disk(id(1));
  for (const int peer : {2, 3}) {
    while (world.deliver(id(1), id(peer))) {
    }
    world.finish_disk(id(peer));
  }
  EXPECT_EQ(world.core(2).promise().number, 1u);
  world.wipe(id(1));
  world.connect_all();
  world.settle();
  EXPECT_TRUE(world.one_cluster());
  EXPECT_GT(world.core(1).cluster().number, 1u);
}

// Node 2 holds the first entry, node 3 only promised, the bootstrapper is wiped: the old cluster is the one.
TEST(Bootstrap, BootstrapperWipedWhenOneHolds_JoinsTheOldCluster) {
  World world(3);
  world.connect_all();
  world.tick(id(1));
  world.finish_disk(id(1));
  for (const int peer : {2, 3}) {
    while (world.deliver(id(1), id(peer))) {
    }
    world.finish_disk(id(peer));
    while (world.deliver(id(peer), id(1))) {
    }
  }
  world.finish_disk(id(1));
  ASSERT_TRUE(world.core(1).belongs());
  while (world.deliver(id(1), id(2))) {
  }
  world.finish_disk(id(2));
  ASSERT_TRUE(world.core(2).belongs());
  const Ballot old = world.core(2).cluster();
  world.wipe(id(1));
  // Nobody is missing but node 2, which knows of the cluster: nothing is formed without it.
  world.disconnect(id(2), id(3));
  world.connect(id(1), id(3));
  world.settle();
  EXPECT_FALSE(world.core(1).belongs());
  world.connect_all();
  world.settle();
  EXPECT_TRUE(world.one_cluster());
  EXPECT_EQ(world.core(3).cluster(), old);
}

// Node 3 promised the new incarnation's ballot, which then finds the old cluster: it admits it by name.
TEST(Bootstrap, PromiseSwitchedToNewIncarnation_AdmitsTheOlderCluster) {
  World world(3);
  world.connect_all();
  world.tick(id(1));
  world.finish_disk(id(1));
  for (const int peer : {2, 3}) {
    while (world.deliver(id(1), id(peer))) {
    }
    world.finish_disk(id(peer));
    while (world.deliver(id(peer), id(1))) {
    }
  }
  world.finish_disk(id(1));
  while (world.deliver(id(1), id(2))) {
  }
  world.disconnect(id(2), id(3));
  world.wipe(id(1));
  world.disconnect(id(1), id(2));
  // Node 2's first entry is still on its way to the disk: it looks empty and can promise nothing.
  world.connect_all();
  world.tick(id(1));
  world.finish_disk(id(1));
  while (world.deliver(id(1), id(3))) {
  }
  world.finish_disk(id(3));
  EXPECT_GT(world.core(3).promise().number, 1u);
  world.finish_disk(id(2));
  ASSERT_TRUE(world.core(2).belongs());
  world.settle();
  EXPECT_TRUE(world.one_cluster());
  EXPECT_EQ(world.core(3).cluster().number, 1u);
}

void random_schedule(std::uint64_t seed, int count, int wipes) {
  base::Random random(seed);
  World world(count);
  const auto any = [&] { return id(static_cast<int>(1 + random.below(static_cast<std::uint64_t>(count)))); };
  for (int step = 0; step < 400; ++step) {
    switch (random.below(12)) {
      case 0: world.connect(any(), any()); break;
      case 1: world.connect_all(); break;
      case 2:
        if (const NodeId a = any(), b = any(); a != b) world.disconnect(a, b);
        break;
      case 3:
        if (random.chance(1, 5)) world.restart(any());
        break;
      case 4:
        if (wipes > 0 && random.chance(1, 12)) {
          --wipes;
          world.wipe(any());
        }
        break;
      case 5:
      case 6: world.tick(any()); break;
      case 7:
      case 8: world.finish_disk(any()); break;
      case 9:
        if (random.chance(1, 4)) world.raft();
        break;
      default: {
        const NodeId from = any();
        const NodeId to = any();
        for (std::uint64_t i = random.below(4); i > 0; --i) world.deliver(from, to);
      }
    }
    world.check();
    if (::testing::Test::HasFailure()) return;
  }
  world.connect_all();
  world.settle();
}

TEST(Bootstrap, RandomSchedules_NeverTwoClusters) {
  for (std::uint64_t seed = 1; seed <= sim::scaled(1500); ++seed) {
    random_schedule(seed, 3, 2);
    ASSERT_FALSE(HasFailure()) << "seed " << seed << ", 3 nodes";
    random_schedule(seed, 5, 2);
    ASSERT_FALSE(HasFailure()) << "seed " << seed << ", 5 nodes";
  }
}

// Without wipes the schedule ends in one cluster, whatever happened before.
TEST(Bootstrap, RandomSchedulesWithoutWipes_EndInOneCluster) {
  for (std::uint64_t seed = 1; seed <= sim::scaled(300); ++seed) {
    base::Random random(seed);
    World world(3);
    for (int step = 0; step < 150; ++step) {
      const NodeId a = id(static_cast<int>(1 + random.below(3)));
      const NodeId b = id(static_cast<int>(1 + random.below(3)));
      switch (random.below(7)) {
        case 0: world.connect(a, b); break;
        case 1: if (a != b) world.disconnect(a, b); break;
        case 2: if (random.chance(1, 6)) world.restart(a); break;
        case 3: world.tick(a); break;
        case 4: world.finish_disk(a); break;
        default: world.deliver(a, b);
      }
    }
    world.connect_all();
    world.settle();
    ASSERT_TRUE(world.one_cluster()) << "seed " << seed;
    ASSERT_FALSE(HasFailure()) << "seed " << seed;
  }
}

}  // namespace
}  // namespace node

// The first start (DESIGN 6.2): named scenarios, and random schedules with disconnections, restarts and wipes in which no two living nodes
// may ever belong to different clusters, and which end in one.
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

// Nodes with their durable state, and the wires between them (first in, first out). A process is known here by its place: its node id, or
// another number for a second process of the same id (duplicate()).
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
    Ballot promise, cluster;                   // durable
    std::optional<raft::Configuration> first;  // durable
    std::unique_ptr<Bootstrap> core;
    std::deque<std::function<void()>> disk;  // completions on their way
    bool following = false;                  // a joiner whose core runs
  };

  void wipe(NodeId id) {
    cut_off(id);
    Node& node = at_[id];
    node = Node();
    node.self = {id, Incarnation{++last_incarnation_}};
    boot(id);
  }
  // A second process with the id of `of`, with a data directory of its own, in the place `id`.
  void duplicate(NodeId id, NodeId of) {
    at_[id].self = {of, Incarnation{++last_incarnation_}};
    duplicates_ = true;
    boot(id);
  }
  void end(NodeId id) {
    cut_off(id);
    at_.erase(id);
  }
  void restart(NodeId id) {
    cut_off(id);
    at_[id].disk.clear();
    boot(id);
  }
  void connect(NodeId a, NodeId b) {
    if (a == b || links_.count(key(a, b)) != 0) return;
    // One session for each id: while one process of it is connected, a second one is refused.
    if (at(a, at_[b].self.id) || at(b, at_[a].self.id)) return;
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
    at_[a].core->peer_down(at_[b].self.id);
    at_[b].core->peer_down(at_[a].self.id);
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
      for (const NodeId id : places()) {
        tick(id);
        while (finish_disk(id)) {
        }
      }
      for (const NodeId a : places())
        for (const NodeId b : places())
          while (deliver(a, b)) {
          }
      raft();
      check();
    }
  }
  std::vector<NodeId> places() const {
    std::vector<NodeId> out;
    for (const auto& [id, node] : at_) out.push_back(id);
    return out;
  }
  bool has_majority(const Ballot& cluster) const {
    for (const auto& [id, node] : at_) {
      if (node.core->cluster() != cluster || !node.first) continue;
      std::size_t holding = 0;
      for (const raft::MemberInfo& voter : node.first->voters)
        for (const auto& [place, other] : at_)
          if (other.self == voter.member && other.core->cluster() == cluster) ++holding;
      return holding * 2 > node.first->voters.size();
    }
    return false;
  }
  // Two processes of one id may each hold a first entry (DESIGN 6.2, "Needs the operator"): only one of these may be committed.
  void check() const {
    EXPECT_LE(committed_.size(), 1u);
    if (duplicates_) return;
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
  const std::set<Ballot>& committed() const { return committed_; }

 private:
  static std::pair<NodeId, NodeId> key(NodeId a, NodeId b) { return a < b ? std::pair{a, b} : std::pair{b, a}; }
  // The place of the process with that id that `id` is connected to.
  std::optional<NodeId> at(NodeId id, NodeId peer) const {
    for (const auto& [place, node] : at_)
      if (node.self.id == peer && links_.count(key(id, place)) != 0) return place;
    return std::nullopt;
  }
  void cut_off(NodeId id) {
    if (at_.count(id) == 0 || !at_[id].core) return;
    for (const NodeId other : places()) disconnect(id, other);
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
        if (const auto to = at(id, send.to)) wires_[{id, *to}].push_back(encode(send.message));
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
      if (actions.sends.empty() && !actions.persist_promise && !actions.persist_first && !actions.join &&
          !actions.leave)
        return;
    }
  }

  std::vector<raft::MemberInfo> nodes_;
  std::map<NodeId, Node> at_;
  std::map<std::pair<NodeId, NodeId>, bool> links_;
  std::map<std::pair<NodeId, NodeId>, std::deque<base::Bytes>> wires_;
  std::set<Ballot> committed_;
  std::uint64_t last_incarnation_ = 100;
  bool duplicates_ = false;
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

// What node 1 has sent arrives at `peer`, and what it promises is on its disk and on the wire.
void ask(World& world, int peer) {
  while (world.deliver(id(1), id(peer))) {
  }
  world.finish_disk(id(peer));
}

// Node 1 begins a round, and all promises are on the wire.
void ask_all(World& world, const std::vector<int>& peers) {
  world.tick(id(1));
  world.finish_disk(id(1));
  for (const int peer : peers) ask(world, peer);
}

// Node 1 begins a round, and has the promises of all, one after the other.
void promise_all(World& world, const std::vector<int>& peers) {
  world.tick(id(1));
  world.finish_disk(id(1));
  for (const int peer : peers) {
    ask(world, peer);
    while (world.deliver(id(peer), id(1))) {
    }
  }
}

// The bootstrapper is wiped when everybody has promised and nobody holds the first entry.
TEST(Bootstrap, BootstrapperWipedAfterPromises_NewRoundHasAHigherBallot) {
  World world(3);
  world.connect_all();
  ask_all(world, {2, 3});
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
  promise_all(world, {2, 3});
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
  promise_all(world, {2, 3});
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

// A member of the first configuration, whose word the bootstrapper has, holds no entry yet when the others and then the bootstrapper are
// gone: it belongs to nothing, and nothing is formed with it alone. With the only one that holds the entry it follows that one.
TEST(Bootstrap, VoterWithoutTheEntry_BelongsToNothing) {
  World world(3);
  world.connect_all();
  promise_all(world, {2, 3});
  world.finish_disk(id(1));
  ASSERT_TRUE(world.core(1).belongs());
  const Ballot first = world.core(1).cluster();
  world.disconnect(id(1), id(3));  // the first entry is on its way to both, and reaches node 2 alone
  while (world.deliver(id(1), id(2))) {
  }
  world.finish_disk(id(2));
  world.disconnect(id(2), id(3));
  world.wipe(id(1));
  world.connect(id(1), id(3));
  world.settle();
  EXPECT_FALSE(world.core(3).belongs());
  EXPECT_FALSE(world.core(1).belongs());
  EXPECT_EQ(world.core(1).missing(), std::vector<NodeId>{id(2)});
  world.restart(id(3));  // what it promised is all that it knows
  EXPECT_EQ(world.core(3).promise(), first);
  world.connect_all();
  world.settle();
  ASSERT_TRUE(world.one_cluster());
  EXPECT_EQ(world.core(3).cluster(), first);
}

// Both promisers are wiped before the bootstrapper writes the first entry: what they promised is nobody's word any more.
TEST(Bootstrap, BothPromisersWipedBeforeTheFirstEntry_ANewRoundFormsTheCluster) {
  World world(3);
  world.connect_all();
  ask_all(world, {2, 3});
  const Ballot old = world.core(1).promise();
  ASSERT_EQ(world.core(2).promise(), old);
  ASSERT_EQ(world.core(3).promise(), old);
  for (const int peer : {2, 3}) world.wipe(id(peer));  // their promises are on the wire, which breaks
  ASSERT_FALSE(world.finish_disk(id(1))) << "a first entry without the promises of those who are there";
  world.connect_all();
  world.settle();
  ASSERT_TRUE(world.one_cluster());
  EXPECT_GT(world.core(1).cluster(), old);
}

// The same when the promises have arrived and the first entry is being written: then it names nobody who is there but node 1, and with that
// nothing can be committed. Two of three wiped is the operator's case (DESIGN 6.2); what may not happen is a second cluster beside it.
TEST(Bootstrap, BothPromisersWipedWhileTheFirstEntryIsWritten_NothingIsCommitted) {
  World world(3);
  world.connect_all();
  promise_all(world, {2, 3});
  for (const int peer : {2, 3}) world.wipe(id(peer));
  world.connect_all();
  world.settle();
  EXPECT_TRUE(world.core(1).belongs());
  EXPECT_FALSE(world.core(2).belongs());
  EXPECT_FALSE(world.core(3).belongs());
  EXPECT_TRUE(world.committed().empty());
}

// Two processes with the bootstrapper's id. Each of the others talks to one of them at a time: a round needs all.
TEST(Bootstrap, DuplicateBootstrapper_EachWithAHalf_NobodyForms) {
  World world(3);
  const NodeId second = id(11);
  world.duplicate(second, id(1));
  world.connect(id(1), id(2));
  world.connect(second, id(3));
  world.connect(id(2), id(3));
  world.settle();
  for (const NodeId place : world.places()) EXPECT_FALSE(world.core(static_cast<int>(place.value)).belongs());
  world.end(second);
  world.connect_all();
  world.settle();
  EXPECT_TRUE(world.one_cluster());
}

// The first has all promises and writes its first entry when the second one gets newer promises of the same nodes. Only one of the two
// can be committed, and it is the newer one: the others refuse a first entry with a lower ballot than they promised.
TEST(Bootstrap, DuplicateBootstrapper_AfterThePromises_OnlyOneClusterIsCommitted) {
  World world(3);
  const NodeId second = id(11);
  world.duplicate(second, id(1));
  world.connect_all();
  world.connect(second, id(2));
  ASSERT_FALSE(world.deliver(second, id(2))) << "the session of node 1 stands";
  promise_all(world, {2, 3});
  for (const int peer : {2, 3}) {
    world.disconnect(id(1), id(peer));
    world.connect(second, id(peer));
  }
  world.settle();
  EXPECT_TRUE(world.core(1).belongs()) << "its first entry was under way";
  ASSERT_EQ(world.committed().size(), 1u);
  EXPECT_EQ(*world.committed().begin(), world.core(11).cluster());
  EXPECT_EQ(world.core(2).cluster(), world.core(11).cluster());
  for (const int peer : {2, 3}) {  // now they meet the first one again
    world.disconnect(second, id(peer));
    world.connect(id(1), id(peer));
  }
  world.settle();
  EXPECT_NE(world.core(1).cluster(), world.core(2).cluster());
  EXPECT_EQ(world.committed().size(), 1u);
}

// Nodes 2 and 3 are writing the first entry of node 1's cluster when that is wiped. Node 1 begins anew, 4 and 5 promise its new ballot, and
// then the old cluster is there after all: two of five hold it, and need one of those two. The second wipe hits `wiped`.
void revive_old_cluster(int wiped) {
  SCOPED_TRACE("second wipe: node " + std::to_string(wiped));
  World world(5);
  world.connect_all();
  promise_all(world, {2, 3, 4, 5});
  world.finish_disk(id(1));
  const Ballot old = world.core(1).cluster();
  ASSERT_TRUE(old);
  for (const int peer : {2, 3})
    while (world.deliver(id(1), id(peer))) {
    }
  world.wipe(id(1));
  world.connect_all();
  world.tick(id(1));
  world.finish_disk(id(1));
  const Ballot ballot = world.core(1).promise();
  ASSERT_GT(ballot, old);
  for (const int peer : {4, 5}) {
    while (world.deliver(id(1), id(peer))) {
    }
    world.finish_disk(id(peer));
    ASSERT_EQ(world.core(peer).promise(), ballot);
  }
  if (wiped != 0) world.wipe(id(wiped));
  for (const int holder : {2, 3}) {
    world.finish_disk(id(holder));
    ASSERT_EQ(world.core(holder).cluster(), old);
  }
  world.connect_all();
  world.settle();
  EXPECT_TRUE(world.one_cluster());
  EXPECT_EQ(world.committed(), std::set<Ballot>{old});
}

TEST(Bootstrap, FiveNodes_OldClusterRevivedWhileANewBallotIsOut_IsTheOne) { revive_old_cluster(0); }

TEST(Bootstrap, FiveNodesTwoWipes_OldClusterRevivedWhileANewBallotIsOut_IsTheOne) {
  for (const int wiped : {4, 5, 1}) revive_old_cluster(wiped);
}

void random_schedule(std::uint64_t seed, int count, int wipes) {
  base::Random random(seed);
  World world(count);
  std::set<NodeId> wiped;
  const auto any = [&] { return id(static_cast<int>(1 + random.below(static_cast<std::uint64_t>(count)))); };
  for (int step = 0; step < 400; ++step) {
    switch (random.below(12)) {
      case 0:
        world.connect(any(), any());
        break;
      case 1:
        world.connect_all();
        break;
      case 2:
        if (const NodeId a = any(), b = any(); a != b) world.disconnect(a, b);
        break;
      case 3:
        if (random.chance(1, 5)) world.restart(any());
        break;
      case 4:
        if (wipes > 0 && random.chance(1, 12)) {
          --wipes;
          const NodeId victim = random.chance(1, 2) ? id(1) : any();
          world.wipe(victim);
          wiped.insert(victim);
        }
        break;
      case 5:
      case 6:
        world.tick(any());
        break;
      case 7:
      case 8:
        world.finish_disk(any());
        break;
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
  // With a majority wiped the end may be the operator's (DESIGN 6.2).
  EXPECT_TRUE(world.one_cluster() || wiped.size() * 2 > static_cast<std::size_t>(count));
}

TEST(Bootstrap, RandomSchedules_NeverTwoClustersAndOneInTheEnd) {
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
        case 0:
          world.connect(a, b);
          break;
        case 1:
          if (a != b) world.disconnect(a, b);
          break;
        case 2:
          if (random.chance(1, 6)) world.restart(a);
          break;
        case 3:
          world.tick(a);
          break;
        case 4:
          world.finish_disk(a);
          break;
        default:
          world.deliver(a, b);
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

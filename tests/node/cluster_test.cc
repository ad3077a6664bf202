// Three nodes over the simulated seams: first start, replication, failover, catching up, forwarding, replacement of a wiped node.
#include "tests/sim/cluster.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "node/execution.h"
#include "node/first_page.h"
#include "wal/format.h"

namespace {

using base::kSecond;
using base::NodeId;
using sim::Cluster;
using sim::OpState;

const NodeId kOne{1};
const NodeId kTwo{2};
const NodeId kThree{3};

void make_healthy(Cluster& cluster) {
  cluster.start_all();
  ASSERT_TRUE(cluster.run_until([&] { return cluster.all_healthy() && cluster.leader(); }, 30 * kSecond))
      << cluster.dump();
}

void settle(Cluster& cluster) {
  ASSERT_TRUE(cluster.run_until([&] { return cluster.count(OpState::kPending) == 0; }, 30 * kSecond)) << cluster.dump();
  EXPECT_EQ(cluster.invariants().breach(), "");
}

// All nodes have applied what the furthest one has.
bool level(Cluster& cluster) {
  base::Index highest;
  for (const NodeId id : cluster.ids())
    if (cluster.up(id)) highest = std::max(highest, cluster.node(id)->status().commit_index);
  for (const NodeId id : cluster.ids())
    if (!cluster.up(id) || cluster.node(id)->status().applied_index < highest) return false;
  return true;
}

void check(Cluster& cluster) {
  ASSERT_TRUE(cluster.run_until([&] { return level(cluster); }, 30 * kSecond)) << cluster.dump();
  EXPECT_EQ(cluster.check_content(), "") << cluster.dump();
  EXPECT_EQ(cluster.invariants().breach(), "");
}

TEST(ThreeNodes, FirstStart_WaitsForAllThenForms) {
  Cluster cluster({.seed = 1});
  cluster.start(kOne);
  cluster.start(kTwo);
  cluster.run_for(10 * kSecond);
  EXPECT_EQ(cluster.node(kOne)->status().state, "waiting_for_nodes");
  EXPECT_EQ(cluster.node(kOne)->status().missing, std::vector<NodeId>{kThree});
  const auto refused = cluster.write(kTwo, 2 * kSecond);
  settle(cluster);
  EXPECT_EQ(cluster.op(refused), OpState::kRefused);
  make_healthy(cluster);
  EXPECT_EQ(cluster.node(kOne)->status().members.size(), 3u);
}

// In ticks, which are as long as the configuration says: a bounded read must not take old news for fresh.
TEST(ThreeNodes, QuorumAgeOfAHeartbeat_IsInTicksOfTheConfiguration) {
  constexpr base::Micros kTick = 160 * base::kMillisecond;
  Cluster cluster({.seed = 4, .heartbeat_ms = 160});
  make_healthy(cluster);
  const NodeId follower = cluster.leader() == kOne ? kTwo : kOne;
  ASSERT_TRUE(
      cluster.run_until([&] { return cluster.node(follower)->raft_status().heartbeat_quorum_age != 0; }, 10 * kSecond));
  const base::Micros age = cluster.node(follower)->raft_status().heartbeat_quorum_age;
  EXPECT_GE(age, kTick);
  EXPECT_EQ(age % kTick, 0) << age;
}

bool belongs(Cluster& cluster, NodeId id) { return cluster.up(id) && cluster.node(id)->status().cluster_id != 0; }

// Nodes one and two hold the first entry and could commit without the third, which promised and holds nothing.
void form_without_the_third(Cluster& cluster) {
  cluster.start_all();
  ASSERT_TRUE(cluster.run_until([&] { return belongs(cluster, kOne); }, 30 * kSecond)) << cluster.dump();
  cluster.network().partition({kThree}, {kOne, kTwo});  // the first entry is on its way to both others
  ASSERT_TRUE(cluster.run_until(
      [&] {
        return belongs(cluster, kTwo) && (cluster.node(kOne)->raft_status().commit > base::Index{1} ||
                                          cluster.node(kTwo)->raft_status().commit > base::Index{1});
      },
      30 * kSecond))
      << cluster.dump();
  ASSERT_FALSE(belongs(cluster, kThree));
}

void expect_refused(Cluster& cluster) {
  cluster.run_for(5 * kSecond);
  for (const NodeId id : {kOne, kTwo}) {
    EXPECT_EQ(cluster.node(id)->status().state, "waiting_for_nodes");
    EXPECT_EQ(cluster.node(id)->status().missing, std::vector<NodeId>{kThree});
    const auto early = cluster.write(id, 2 * kSecond);
    settle(cluster);
    EXPECT_EQ(cluster.op(early), OpState::kRefused) << cluster.dump();
  }
}

void expect_written(Cluster& cluster) {
  for (const NodeId id : cluster.ids()) {
    const auto op = cluster.write(id, 10 * kSecond);
    settle(cluster);
    EXPECT_EQ(cluster.op(op), OpState::kAcked) << cluster.dump();
  }
  check(cluster);
}

// DESIGN 6.2: no client write is acknowledged before all initial members hold the first entry.
TEST(ThreeNodes, FirstStart_MemberWithoutTheFirstEntry_NoWriteIsAcknowledged) {
  for (std::uint64_t seed = 90; seed < 94; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Cluster cluster({.seed = seed});
    ASSERT_NO_FATAL_FAILURE(form_without_the_third(cluster));
    expect_refused(cluster);
    cluster.network().heal_all();
    make_healthy(cluster);
    EXPECT_TRUE(belongs(cluster, kThree));
    expect_written(cluster);
  }
}

// The same, and it never gets the entry: it is wiped, and its new incarnation has to take its place first.
TEST(ThreeNodes, FirstStart_MemberWipedWithoutTheFirstEntry_IsReplacedBeforeTheFirstWrite) {
  for (std::uint64_t seed = 94; seed < 98; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Cluster cluster({.seed = seed});
    ASSERT_NO_FATAL_FAILURE(form_without_the_third(cluster));
    const base::Member before = cluster.node(kThree)->self();
    cluster.stop(kThree, Cluster::Stop::kWipe);
    cluster.network().heal_all();
    expect_refused(cluster);
    make_healthy(cluster);
    EXPECT_NE(cluster.node(kThree)->self().incarnation, before.incarnation);
    ASSERT_EQ(cluster.node(kOne)->status().members.size(), 3u) << cluster.dump();
    for (const node::MemberStatus& member : cluster.node(kOne)->status().members)
      EXPECT_EQ(member.incarnation, cluster.node(member.id)->self().incarnation);
    expect_written(cluster);
  }
}

TEST(ThreeNodes, WritesOnEveryNode_AreOnEveryNode) {
  Cluster cluster({.seed = 2});
  make_healthy(cluster);
  for (int i = 0; i < 10; ++i)
    for (const NodeId id : cluster.ids()) cluster.write(id, 5 * kSecond);
  settle(cluster);
  EXPECT_EQ(cluster.count(OpState::kAcked), 30u);
  check(cluster);
}

// DESIGN 5.3: one entry and one sync for each node for all that is queued, on a disk that is slow enough for a queue.
TEST(ThreeNodes, ManyRequestsAtOnce_AreFewEntriesAndFewSyncs) {
  constexpr int kRounds = 10;
  constexpr std::size_t kRequests = 30;  // of each round and node
  Cluster cluster({.seed = 4});
  make_healthy(cluster);
  cluster.write(kOne, 5 * kSecond);
  settle(cluster);
  ASSERT_TRUE(cluster.run_until([&] { return level(cluster); }, 5 * kSecond)) << cluster.dump();
  for (const NodeId id : cluster.ids())
    cluster.disk(id).set_latency(
        [](sim::DiskOp op, std::size_t) { return (op == sim::DiskOp::kSync ? 20 : 1) * base::kMillisecond; });
  const base::Index before = cluster.node(cluster.leader())->status().commit_index;
  std::map<NodeId, std::uint64_t> syncs;
  for (const NodeId id : cluster.ids()) syncs[id] = cluster.disk(id).op_count(sim::DiskOp::kSync);
  for (int round = 0; round < kRounds; ++round) {
    for (std::size_t i = 0; i < kRequests; ++i)
      for (const NodeId id : cluster.ids()) cluster.write(id, 20 * kSecond);
    settle(cluster);
  }
  const std::size_t requests = kRounds * kRequests * cluster.ids().size();
  ASSERT_EQ(cluster.count(OpState::kAcked), requests + 1) << cluster.dump();
  // The first to come begins a batch alone, the others are in the next ones; forwarded ones come in a few frames. A node syncs for the
  // database and its housekeeping too.
  EXPECT_LE(cluster.node(cluster.leader())->status().commit_index.value - before.value, requests / 10)
      << cluster.dump();
  for (const NodeId id : cluster.ids())
    EXPECT_LE(cluster.disk(id).op_count(sim::DiskOp::kSync) - syncs[id], requests / 10) << "node " << id.value;
  check(cluster);  // each is there once
}

TEST(ThreeNodes, LocalWriteOnFollower_IsRefusedNamingTheLeader) {
  Cluster cluster({.seed = 3});
  make_healthy(cluster);
  cluster.write(kOne, 5 * kSecond);
  settle(cluster);
  ASSERT_TRUE(cluster.run_until([&] { return level(cluster); }, 5 * kSecond));
  const NodeId leader = cluster.leader();
  const NodeId follower = leader == kOne ? kTwo : kOne;
  base::Result<vfs::Grant> grant = vfs::Grant{};
  const auto db = cluster.node(follower)->database_id(sim::kDatabase);
  ASSERT_TRUE(db.has_value());
  cluster.node(follower)->acquire_lease(*db, [&](base::Result<vfs::Grant> result) { grant = std::move(result); });
  ASSERT_FALSE(grant.has_value());
  EXPECT_EQ(grant.error().code, base::Code::kNotLeader);
  EXPECT_NE(grant.error().message.find("node " + std::to_string(leader.value)), std::string::npos)
      << grant.error().message;
  const auto local = cluster.local_write(leader, 5 * kSecond);
  settle(cluster);
  EXPECT_EQ(cluster.op(local), OpState::kAcked);
  check(cluster);
}

TEST(ThreeNodes, LeaderKilledUnderLoad_AnotherTakesOverAndNothingIsLost) {
  for (std::uint64_t seed = 10; seed < 18; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Cluster cluster({.seed = seed});
    make_healthy(cluster);
    for (int round = 0; round < 4; ++round) {
      for (int i = 0; i < 20; ++i) {
        for (const NodeId id : cluster.ids())
          if (cluster.up(id)) cluster.write(id, 10 * kSecond);
        cluster.run_for(5 * base::kMillisecond);
        if (i == 10) cluster.stop(cluster.leader() ? cluster.leader() : kOne, Cluster::Stop::kKill);
      }
      ASSERT_TRUE(cluster.run_until([&] { return static_cast<bool>(cluster.leader()); }, 20 * kSecond))
          << cluster.dump();
      settle(cluster);
      make_healthy(cluster);
    }
    check(cluster);
    EXPECT_GT(cluster.count(OpState::kAcked), 100u);
  }
}

TEST(ThreeNodes, AllLosePowerAtOnce_EverythingAcknowledgedIsThere) {
  for (std::uint64_t seed = 30; seed < 38; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Cluster cluster({.seed = seed});
    make_healthy(cluster);
    for (int round = 0; round < 3; ++round) {
      for (int i = 0; i < 10; ++i) {
        for (const NodeId id : cluster.ids()) cluster.write(id, 5 * kSecond);
        cluster.run_for(3 * base::kMillisecond);
      }
      for (const NodeId id : cluster.ids()) cluster.stop(id, Cluster::Stop::kPowerCut);
      make_healthy(cluster);
    }
    settle(cluster);
    check(cluster);
    EXPECT_GT(cluster.count(OpState::kAcked), 5u);
  }
}

TEST(ThreeNodes, FollowerAwayForLong_CatchesUpFromTheLog) {
  Cluster cluster({.seed = 50});
  make_healthy(cluster);
  const NodeId away = cluster.leader() == kThree ? kTwo : kThree;
  cluster.stop(away, Cluster::Stop::kPowerCut);
  for (int i = 0; i < 300; ++i) {
    cluster.write(kOne, 20 * kSecond);
    if (i % 20 == 0) settle(cluster);
  }
  settle(cluster);
  EXPECT_EQ(cluster.count(OpState::kAcked), 300u);
  make_healthy(cluster);
  check(cluster);
}

// Over 1 MiB: parts, then the final entry that makes them effective (R15).
TEST(ThreeNodes, LargeTransaction_IsAChainAndSurvivesPowerLoss) {
  constexpr std::size_t kCount = 300000;
  Cluster cluster({.seed = 55});
  make_healthy(cluster);
  cluster.write(kOne, 5 * kSecond);
  settle(cluster);
  const NodeId leader = cluster.leader();
  const base::Index before = cluster.node(leader)->status().commit_index;
  const auto large = cluster.local_write(leader, 30 * kSecond, kCount);
  settle(cluster);
  EXPECT_EQ(cluster.op(large), OpState::kAcked);
  EXPECT_GE(cluster.node(leader)->status().commit_index.value, before.value + 2);  // a part and the final one
  for (const NodeId id : cluster.ids()) cluster.stop(id, Cluster::Stop::kPowerCut);
  make_healthy(cluster);
  check(cluster);
}

TEST(ThreeNodes, LeaderKilledInALargeTransaction_ItIsThereOnceOrNotAtAll) {
  constexpr std::size_t kCount = 200000;
  for (std::uint64_t seed = 56; seed < 58; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Cluster cluster({.seed = seed});
    make_healthy(cluster);
    cluster.write(kOne, 5 * kSecond);
    settle(cluster);
    const NodeId leader = cluster.leader();
    cluster.local_write(leader, 30 * kSecond, kCount);
    cluster.run_for(static_cast<base::Micros>(seed - 55) * 12 * base::kMillisecond);
    cluster.stop(leader, Cluster::Stop::kKill);
    ASSERT_TRUE(cluster.run_until([&] { return static_cast<bool>(cluster.leader()); }, 20 * kSecond)) << cluster.dump();
    const auto next = cluster.write(cluster.leader(), 20 * kSecond);
    settle(cluster);
    EXPECT_EQ(cluster.op(next), OpState::kAcked);
    make_healthy(cluster);
    check(cluster);
    const std::size_t there = cluster.image(kOne)->operations().size();
    EXPECT_TRUE(there == 2 || there == kCount + 2) << there;
  }
}

TEST(ThreeNodes, NoQuorum_WriteIsNotAcknowledged) {
  Cluster cluster({.seed = 60});
  make_healthy(cluster);
  cluster.write(kOne, 5 * kSecond);
  settle(cluster);
  cluster.stop(kTwo, Cluster::Stop::kKill);
  cluster.stop(kThree, Cluster::Stop::kKill);
  cluster.run_for(5 * kSecond);
  EXPECT_EQ(cluster.node(kOne)->status().state, "no_quorum");
  const auto op = cluster.write(kOne, 2 * kSecond);
  settle(cluster);
  EXPECT_EQ(cluster.op(op), OpState::kRefused);
  make_healthy(cluster);
  check(cluster);
}

TEST(ThreeNodes, WipedNode_IsReplacedByItsNewIncarnation) {
  for (std::uint64_t seed = 70; seed < 76; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Cluster cluster({.seed = seed});
    make_healthy(cluster);
    for (int i = 0; i < 20; ++i) cluster.write(kTwo, 5 * kSecond);
    settle(cluster);
    const NodeId wiped{1 + seed % 3};
    const base::Member before = cluster.node(wiped)->self();
    cluster.stop(wiped, Cluster::Stop::kWipe);
    cluster.start(wiped);
    ASSERT_TRUE(cluster.run_until(
        [&] {
          if (!cluster.all_healthy() || !cluster.leader()) return false;
          const node::NodeStatus status = cluster.node(cluster.leader())->status();
          for (const node::MemberStatus& member : status.members)
            if (member.id == wiped && member.role == "voter" && member.incarnation != before.incarnation)
              return status.members.size() == 3;
          return false;
        },
        60 * kSecond))
        << cluster.dump();
    // The old majority without the wiped node is no longer needed: another one may go now.
    const NodeId other{1 + (seed + 1) % 3};
    cluster.stop(other, Cluster::Stop::kKill);
    const auto op = cluster.write(wiped, 20 * kSecond);
    settle(cluster);
    EXPECT_EQ(cluster.op(op), OpState::kAcked) << cluster.dump();
    make_healthy(cluster);
    check(cluster);
  }
}

TEST(ThreeNodes, TransferLeader_MovesIt) {
  Cluster cluster({.seed = 80});
  make_healthy(cluster);
  for (int i = 0; i < 4; ++i) {
    const NodeId target{1 + (cluster.leader().value % 3)};
    std::optional<base::Result<NodeId>> moved;
    cluster.node(kOne)->transfer_leader(target, cluster.node(kOne)->now() + 10 * kSecond,
                                        [&](base::Result<NodeId> r) { moved = r; });
    ASSERT_TRUE(cluster.run_until([&] { return moved.has_value(); }, 15 * kSecond)) << cluster.dump();
    ASSERT_TRUE(moved->has_value()) << base::to_string(moved->error());
    EXPECT_EQ(**moved, target);
    ASSERT_TRUE(cluster.run_until([&] { return cluster.leader() == target; }, 10 * kSecond)) << cluster.dump();
  }
}

// The leader cannot reach the one it shall hand over to, and gives it up; later it can.
TEST(ThreeNodes, TransferLeader_OrderThatIsLost_IsAskedAgain) {
  for (const bool asked_on_the_leader : {true, false}) {
    SCOPED_TRACE(asked_on_the_leader ? "asked on the leader" : "asked on the third node");
    Cluster cluster({.seed = 83});
    make_healthy(cluster);
    const NodeId from = cluster.leader();
    const NodeId target{1 + from.value % 3};
    const NodeId third{1 + target.value % 3};
    cluster.network().partition({target}, {from, third});
    node::Node& asked = *cluster.node(asked_on_the_leader ? from : third);
    std::optional<base::Result<NodeId>> moved;
    asked.transfer_leader(target, asked.now() + 30 * kSecond, [&](base::Result<NodeId> r) { moved = r; });
    cluster.run_for(5 * kSecond);
    EXPECT_FALSE(moved.has_value());
    EXPECT_EQ(cluster.leader(), from);
    cluster.network().heal_all();
    ASSERT_TRUE(cluster.run_until([&] { return moved.has_value(); }, 30 * kSecond)) << cluster.dump();
    ASSERT_TRUE(moved->has_value()) << base::to_string(moved->error());
    EXPECT_EQ(**moved, target);
  }
}

// A dead voter cannot lead: whoever asks hears so, and nobody else notices.
TEST(ThreeNodes, TransferLeader_ToADeadNode_IsRefusedAndWritesGoOn) {
  for (const bool asked_on_the_leader : {true, false}) {
    SCOPED_TRACE(asked_on_the_leader ? "asked on the leader" : "asked on the third node");
    Cluster cluster({.seed = 85});
    make_healthy(cluster);
    const NodeId from = cluster.leader();
    const NodeId dead{1 + from.value % 3};
    const NodeId third{1 + dead.value % 3};
    cluster.stop(dead, Cluster::Stop::kKill);
    cluster.run_for(5 * kSecond);
    ASSERT_EQ(cluster.leader(), from);
    node::Node& asked = *cluster.node(asked_on_the_leader ? from : third);
    const base::Micros deadline = asked.now() + 600 * kSecond;
    std::optional<base::Result<NodeId>> moved;
    asked.transfer_leader(dead, deadline, [&](base::Result<NodeId> r) { moved = r; });
    for (int i = 0; i < 50; ++i) cluster.write(from, 5 * kSecond);
    settle(cluster);
    EXPECT_EQ(cluster.count(OpState::kAcked), 50u) << cluster.dump();
    ASSERT_TRUE(cluster.run_until([&] { return moved.has_value(); }, 300 * kSecond)) << cluster.dump();
    ASSERT_FALSE(moved->has_value());
    EXPECT_EQ(moved->error().code, base::Code::kNotFound);
    EXPECT_NE(moved->error().message.find("node " + std::to_string(dead.value) + " does not answer"), std::string::npos)
        << moved->error().message;
    EXPECT_EQ(cluster.leader(), from);
  }
}

// The new leader was elected because the old one is gone, and has not yet waited for an answer of it.
TEST(ThreeNodes, TransferLeader_BackToTheOneThatDied_IsRefusedAtOnce) {
  Cluster cluster({.seed = 89});
  make_healthy(cluster);
  const NodeId dead = cluster.leader();
  cluster.stop(dead, Cluster::Stop::kKill);
  ASSERT_TRUE(cluster.run_until([&] { return static_cast<bool>(cluster.leader()); }, 20 * kSecond)) << cluster.dump();
  const NodeId leader = cluster.leader();
  ASSERT_NE(leader, dead);
  std::optional<base::Result<NodeId>> moved;
  cluster.node(leader)->transfer_leader(dead, cluster.node(leader)->now() + 60 * kSecond,
                                        [&](base::Result<NodeId> r) { moved = r; });
  const auto op = cluster.write(leader, kSecond / 10);
  settle(cluster);
  EXPECT_EQ(cluster.op(op), OpState::kAcked) << cluster.dump();
  ASSERT_TRUE(moved.has_value());
  EXPECT_EQ(moved->error().code, base::Code::kNotFound);
}

// It dies when the order is out already: the leader gives the order up, and does not give another to a node that is not there.
TEST(ThreeNodes, TransferLeader_TargetDiesMeanwhile_WritesGoOn) {
  Cluster cluster({.seed = 86});
  make_healthy(cluster);
  const NodeId from = cluster.leader();
  const NodeId dead{1 + from.value % 3};
  cluster.network().partition({dead}, {from, NodeId{1 + dead.value % 3}});
  node::Node& leader = *cluster.node(from);
  leader.transfer_leader(dead, leader.now() + 60 * kSecond, [](const base::Result<NodeId>&) {});
  cluster.stop(dead, Cluster::Stop::kKill);
  cluster.run_for(5 * kSecond);
  ASSERT_EQ(cluster.leader(), from);
  for (int i = 0; i < 50; ++i) {  // for longer than any election timeout
    const auto op = cluster.write(from, kSecond / 10);
    cluster.run_for(kSecond / 5);
    EXPECT_EQ(cluster.op(op), OpState::kAcked) << cluster.dump();
  }
}

// R12: the first batch of a log is damaged, so that nothing of it can be read. Its node is not an empty one that may be handed a first entry
// and then vote for whoever asks: the others' acknowledged entries would be gone.
TEST(ThreeNodes, LogThatDamageHasEmptied_IsNotHalfOfAQuorum) {
  Cluster cluster({.seed = 87});
  make_healthy(cluster);
  const NodeId leader = cluster.leader();
  const NodeId victim{1 + leader.value % 3};
  const NodeId behind{1 + victim.value % 3};
  for (int i = 0; i < 5; ++i) cluster.write(leader, 5 * kSecond);
  settle(cluster);
  check(cluster);
  cluster.stop(behind, Cluster::Stop::kKill);
  for (int i = 0; i < 10; ++i) cluster.write(leader, 10 * kSecond);  // acknowledged by leader and victim alone
  settle(cluster);
  ASSERT_EQ(cluster.count(OpState::kAcked), 15u) << cluster.dump();
  ASSERT_TRUE(cluster.stop_cleanly(victim));
  cluster.stop(leader, Cluster::Stop::kKill);

  std::string first;  // segment
  for (const std::string& path : cluster.disk(victim).paths())
    if (path.find("/log/") != std::string::npos && path.ends_with(".seg") && (first.empty() || path < first))
      first = path;
  ASSERT_TRUE(cluster.disk(victim).rot(first, wal::kDataStart + 20));
  cluster.start(victim);
  cluster.start(behind);
  cluster.run_for(20 * kSecond);
  ASSERT_TRUE(cluster.up(victim)) << cluster.start_error(victim);
  EXPECT_NE(cluster.node(victim)->status().last_error.find("damaged"), std::string::npos) << cluster.dump();
  EXPECT_FALSE(cluster.leader()) << cluster.dump();
  EXPECT_EQ(cluster.invariants().breach(), "");
  make_healthy(cluster);
  ASSERT_TRUE(cluster.run_until([&] { return level(cluster); }, 30 * kSecond)) << cluster.dump();
  check(cluster);
  // It is whole again, knows its members, and may lead.
  std::optional<base::Result<NodeId>> moved;
  cluster.node(behind)->transfer_leader(victim, cluster.node(behind)->now() + 20 * kSecond,
                                        [&](base::Result<NodeId> r) { moved = r; });
  ASSERT_TRUE(cluster.run_until([&] { return cluster.leader() == victim; }, 30 * kSecond)) << cluster.dump();
  const auto op = cluster.write(victim, 10 * kSecond);
  settle(cluster);
  EXPECT_EQ(cluster.op(op), OpState::kAcked) << cluster.dump();
  const auto events = cluster.node(victim)->events(
      0);  // it has learned again who the voters were, from an entry that it had applied before
  EXPECT_TRUE(std::any_of(events.begin(), events.end(), [](const node::Event& event) {
    return event.kind == "member" && event.text.find("voters are 1, 2, 3") == 0;
  }));
  check(cluster);
}

// The disk has no room for the very first entry: the node waits for space, as with every other.
TEST(ThreeNodes, DiskFullAtTheFirstEntry_WaitsForSpace) {
  for (const bool batch : {true, false}) {
    SCOPED_TRACE(batch ? "the batch" : "the rest of the disk");
    Cluster cluster({.seed = 88});
    cluster.start(kOne);
    cluster.start(kTwo);
    cluster.run_for(5 * kSecond);
    cluster.disk(kTwo).fail_next(sim::DiskOp::kWrite, batch ? 3 : 1, base::Code::kFull, "/log/");
    cluster.start(kThree);
    make_healthy(cluster);
    check(cluster);
  }
}

TEST(ThreeNodes, Barrier_OnAFollowerIsAppliedThere) {
  Cluster cluster({.seed = 81});
  make_healthy(cluster);
  for (int i = 0; i < 10; ++i) cluster.write(kTwo, 5 * kSecond);
  settle(cluster);
  for (const NodeId id : cluster.ids()) {
    std::optional<base::Result<base::Index>> reached;
    cluster.node(id)->barrier(cluster.node(id)->now() + 10 * kSecond,
                              [&](base::Result<base::Index> r) { reached = r; });
    ASSERT_TRUE(cluster.run_until([&] { return reached.has_value(); }, 15 * kSecond)) << cluster.dump();
    ASSERT_TRUE(reached->has_value()) << base::to_string(reached->error());
    EXPECT_GE(cluster.node(id)->status().applied_index, **reached);
    EXPECT_EQ(cluster.image(id)->operations().size(), 10u);
  }
}

TEST(ThreeNodes, CreateAndDrop_OnAFollower) {
  Cluster cluster({.seed = 82});
  make_healthy(cluster);
  const NodeId follower{1 + cluster.leader().value % 3};
  node::Node& node = *cluster.node(follower);
  cluster.write(follower, 5 * kSecond);
  settle(cluster);
  std::optional<base::Status> dropped;
  node.drop_database(sim::kDatabase, node.now() + 10 * kSecond, [&](base::Status s) { dropped = s; });
  ASSERT_TRUE(cluster.run_until([&] { return dropped.has_value(); }, 15 * kSecond)) << cluster.dump();
  EXPECT_TRUE(dropped->has_value());
  ASSERT_TRUE(cluster.run_until(
      [&] {
        for (const NodeId id : cluster.ids())
          if (!cluster.node(id)->status().databases.empty()) return false;
        return true;
      },
      10 * kSecond))
      << cluster.dump();
  EXPECT_FALSE(node.database_id(sim::kDatabase).has_value());
  // The same name again is another database.
  const auto again = cluster.write(follower, 5 * kSecond);
  settle(cluster);
  EXPECT_EQ(cluster.op(again), OpState::kAcked);
  EXPECT_EQ(cluster.image(follower)->operations(), std::vector<std::uint64_t>{again});
}

// The second asks for nothing of its own: the proposal under way serves it too, and may become true after its deadline.
TEST(ThreeNodes, TwoCreationsOfOneNameWithoutAQuorum_AreBothUnknown) {
  Cluster cluster({.seed = 83});
  make_healthy(cluster);
  const NodeId leader = cluster.leader();
  node::Node& node = *cluster.node(leader);
  for (const NodeId id : cluster.ids())
    if (id != leader) cluster.network().partition({leader}, {id});
  std::vector<base::Result<base::DatabaseId>> results;
  for (std::uint64_t i = 1; i <= 2; ++i)
    node.create_database(node::empty_database("new.db", {node.self().incarnation, 1, 1000 + i}, {}),
                         node.now() + 5 * kSecond,
                         [&](base::Result<base::DatabaseId> created) { results.push_back(std::move(created)); });
  ASSERT_TRUE(cluster.run_until([&] { return results.size() == 2; }, 10 * kSecond)) << cluster.dump();
  for (const auto& result : results) {
    ASSERT_FALSE(result.has_value());
    EXPECT_EQ(result.error().code, base::Code::kUnknownOutcome) << result.error().message;
  }
  cluster.network().heal_all();
  ASSERT_TRUE(cluster.run_until([&] { return cluster.all_healthy(); }, 30 * kSecond)) << cluster.dump();
}

// Whoever asks for a drop, and cannot see that it happened, asks again. By then the name may be another database's.
TEST(ThreeNodes, DropThatIsAskedAgain_SparesTheNextDatabaseOfTheName) {
  Cluster cluster({.seed = 84});
  make_healthy(cluster);
  const NodeId leader = cluster.leader();
  const NodeId asker{1 + leader.value % 3};
  const NodeId third{1 + asker.value % 3};
  cluster.write(third, 5 * kSecond);
  settle(cluster);
  std::optional<base::Status> dropped;
  cluster.node(asker)->drop_database(sim::kDatabase, cluster.node(asker)->now() + 20 * kSecond,
                                     [&](base::Status s) { dropped = s; });
  cluster.network().block(leader, asker);  // one way: what it asks arrives
  ASSERT_TRUE(cluster.run_until([&] { return !cluster.node(leader)->database_id(sim::kDatabase); }, 10 * kSecond))
      << cluster.dump();
  const auto kept = cluster.write(third, 5 * kSecond);
  ASSERT_TRUE(cluster.run_until([&] { return cluster.op(kept) == OpState::kAcked; }, 10 * kSecond)) << cluster.dump();
  EXPECT_FALSE(dropped.has_value());
  cluster.run_for(900 * base::kMillisecond);  // it asks again every 500 ms
  cluster.network().heal_all();
  ASSERT_TRUE(cluster.run_until([&] { return dropped.has_value(); }, 25 * kSecond)) << cluster.dump();
  EXPECT_TRUE(dropped->has_value()) << base::to_string(dropped->error());
  settle(cluster);
  ASSERT_TRUE(cluster.node(leader)->database_id(sim::kDatabase).has_value()) << "the next database of the name is gone";
  const auto has_it = [&](NodeId id) {
    return cluster.node(id)->database_id(sim::kDatabase) &&
           cluster.image(id)->operations() == std::vector<std::uint64_t>{kept};
  };
  for (const NodeId id : cluster.ids())
    EXPECT_TRUE(cluster.run_until([&] { return has_it(id); }, 10 * kSecond)) << cluster.dump();
}

// The same for a creation: its asker hears nothing, and the database comes and goes meanwhile.
TEST(ThreeNodes, CreationThatIsAskedAgain_BringsNothingBack) {
  Cluster cluster({.seed = 86});
  make_healthy(cluster);
  const NodeId leader = cluster.leader();
  const NodeId asker{1 + leader.value % 3};
  node::Node& deaf = *cluster.node(asker);
  cluster.network().block(leader, asker);  // one way: what it asks arrives
  std::optional<base::Result<base::DatabaseId>> created;
  deaf.create_database(node::empty_database("new.db", {}, {}), deaf.now() + 20 * kSecond,
                       [&](base::Result<base::DatabaseId> r) { created = r; });
  node::Node& leading = *cluster.node(leader);
  std::optional<base::DatabaseId> first;
  ASSERT_TRUE(cluster.run_until([&] { return (first = leading.database_id("new.db")).has_value(); }, 10 * kSecond))
      << cluster.dump();
  std::optional<base::Status> dropped;
  leading.drop_database("new.db", leading.now() + 10 * kSecond, [&](base::Status s) { dropped = s; });
  ASSERT_TRUE(cluster.run_until([&] { return dropped.has_value(); }, 15 * kSecond)) << cluster.dump();
  ASSERT_TRUE(dropped->has_value()) << base::to_string(dropped->error());
  EXPECT_FALSE(created.has_value());
  cluster.run_for(900 * base::kMillisecond);  // it asks again every 500 ms
  EXPECT_FALSE(leading.database_id("new.db").has_value()) << "the repetition made it again";
  cluster.network().heal_all();
  ASSERT_TRUE(cluster.run_until([&] { return created.has_value(); }, 25 * kSecond)) << cluster.dump();
  ASSERT_TRUE(created->has_value()) << base::to_string(created->error());
  EXPECT_EQ(**created, *first);
  cluster.run_for(kSecond);
  for (const NodeId id : cluster.ids()) EXPECT_FALSE(cluster.node(id)->database_id("new.db").has_value());

  // A creation that a drop has overtaken, without having happened, is asked for again.
  cluster.network().block(leader, asker);
  created.reset();
  std::optional<base::Result<base::DatabaseId>> other;
  leading.create_database(node::empty_database("other.db", {}, {}), leading.now() + 10 * kSecond,
                          [&](base::Result<base::DatabaseId> r) { other = r; });
  ASSERT_TRUE(cluster.run_until([&] { return other.has_value(); }, 15 * kSecond)) << cluster.dump();
  dropped.reset();
  leading.drop_database("other.db", leading.now() + 10 * kSecond, [&](base::Status s) { dropped = s; });
  ASSERT_TRUE(cluster.run_until([&] { return dropped.has_value(); }, 15 * kSecond)) << cluster.dump();
  deaf.create_database(node::empty_database("new.db", {}, {}), deaf.now() + 20 * kSecond,
                       [&](base::Result<base::DatabaseId> r) { created = r; });
  cluster.run_for(300 * base::kMillisecond);
  EXPECT_FALSE(leading.database_id("new.db").has_value()) << "it had not seen the drop";
  cluster.network().heal_all();
  ASSERT_TRUE(cluster.run_until([&] { return created.has_value(); }, 25 * kSecond)) << cluster.dump();
  EXPECT_TRUE(created->has_value()) << base::to_string(created->error());
}

// It would not fit into a frame, nor into a leader's queue: asking again is of no use.
TEST(ThreeNodes, RequestOverTheLimit_IsRefusedAtOnce) {
  Cluster cluster({.seed = 87});
  make_healthy(cluster);
  for (const NodeId id : cluster.ids()) {
    std::optional<base::Result<node::ExecuteReply>> answer;
    cluster.node(id)->execute(sim::kDatabase, base::Bytes(node::kRequestBytesMax + 1),
                              cluster.node(id)->now() + 60 * kSecond,
                              [&](base::Result<node::ExecuteReply> result) { answer = std::move(result); });
    ASSERT_TRUE(cluster.run_until([&] { return answer.has_value(); }, kSecond)) << "node " << id.value;
    ASSERT_FALSE(answer->has_value());
    EXPECT_EQ(answer->error().code, base::Code::kTooLarge);
    EXPECT_EQ(
        answer->error().message,
        "the request has 67108865 bytes of SQL and values, limit 67108864: use several, or plain SQL on the leader");
  }
}

// The leader says at once why it does not do what another node asks it for.
TEST(ThreeNodes, RefusedRequests_AreAnswered) {
  Cluster cluster({.seed = 85});
  make_healthy(cluster);
  node::Node& asker = *cluster.node(NodeId{1 + cluster.leader().value % 3});
  const base::Micros asked_at = asker.now();
  std::optional<base::Result<NodeId>> moved;
  asker.transfer_leader(NodeId{9}, asked_at + 60 * kSecond, [&](base::Result<NodeId> r) { moved = r; });
  ASSERT_TRUE(cluster.run_until([&] { return moved.has_value(); }, 30 * kSecond)) << "the asker waits for its deadline";
  ASSERT_FALSE(moved->has_value());
  EXPECT_EQ(moved->error().code, base::Code::kNotFound);
  EXPECT_EQ(moved->error().message, "node 9 is not a voter");
}

// R2: an exception left a task of the leader in the middle. Nothing it holds may count any more, from that very moment.
TEST(ThreeNodes, LaneOfTheLeaderFails_ItIsMuteAndTheOthersGoOn) {
  for (std::uint64_t seed = 700; seed < 720; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Cluster cluster({.seed = seed});
    make_healthy(cluster);
    cluster.write(kOne, 5 * kSecond);
    settle(cluster);
    const NodeId leader = cluster.leader();
    const base::Term term = cluster.node(leader)->raft_status().term;
    const auto in_flight = cluster.write(leader, 5 * kSecond);
    cluster.run_for(static_cast<base::Micros>(seed % 20) * base::kMillisecond / 4);
    cluster.node(leader)->lane_failed("hql-apply", "std::bad_alloc");
    ASSERT_TRUE(cluster.run_until([&] { return cluster.leader() && cluster.leader() != leader; }, 30 * kSecond))
        << cluster.dump();
    const node::NodeStatus status = cluster.node(leader)->status();
    EXPECT_EQ(status.state, "poisoned");
    EXPECT_NE(status.last_error.find("hql-apply"), std::string::npos) << status.last_error;
    EXPECT_EQ(cluster.node(leader)->raft_status().term, term) << "it took part in a later term";
    EXPECT_FALSE(cluster.node(leader)->still_alive().has_value());
    const auto refused = cluster.write(leader, 3 * kSecond);
    const NodeId other = cluster.leader();
    const auto kept = cluster.write(other, 5 * kSecond);
    settle(cluster);
    EXPECT_NE(cluster.op(in_flight), OpState::kPending);
    EXPECT_EQ(cluster.op(refused), OpState::kRefused);
    EXPECT_EQ(cluster.op(kept), OpState::kAcked);
    cluster.stop(leader, Cluster::Stop::kKill);
    cluster.start(leader);
    ASSERT_TRUE(cluster.run_until([&] { return cluster.healthy(leader); }, 30 * kSecond)) << cluster.dump();
    check(cluster);
  }
}

}  // namespace

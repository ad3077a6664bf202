// Three nodes over the simulated seams: first start, replication, failover, catching up, forwarding, replacement of a wiped node.
#include "tests/sim/cluster.h"

#include <gtest/gtest.h>

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

TEST(ThreeNodes, WritesOnEveryNode_AreOnEveryNode) {
  Cluster cluster({.seed = 2});
  make_healthy(cluster);
  for (int i = 0; i < 10; ++i)
    for (const NodeId id : cluster.ids()) cluster.write(id, 5 * kSecond);
  settle(cluster);
  EXPECT_EQ(cluster.count(OpState::kAcked), 30u);
  check(cluster);
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
  cluster.node(asker)->drop_database(sim::kDatabase, cluster.node(asker)->now() + 20 * kSecond, [&](base::Status s) { dropped = s; });
  cluster.network().block(leader, asker);  // one way: what it asks arrives
  ASSERT_TRUE(cluster.run_until([&] { return !cluster.node(leader)->database_id(sim::kDatabase); }, 10 * kSecond)) << cluster.dump();
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
    return cluster.node(id)->database_id(sim::kDatabase) && cluster.image(id)->operations() == std::vector<std::uint64_t>{kept};
  };
  for (const NodeId id : cluster.ids())
    EXPECT_TRUE(cluster.run_until([&] { return has_it(id); }, 10 * kSecond)) << cluster.dump();
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

}  // namespace

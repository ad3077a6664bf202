// An application that leaves a write transaction open on the leader: its limit, and who leads then. Whole nodes over the simulated seams.
#include <gtest/gtest.h>

#include "tests/sim/cluster.h"

namespace {

using base::kMillisecond;
using base::kSecond;
using base::NodeId;
using sim::Cluster;
using sim::OpState;

void make_healthy(Cluster& cluster) {
  cluster.start_all();
  ASSERT_TRUE(cluster.run_until([&] { return cluster.all_healthy() && cluster.leader(); }, 30 * kSecond))
      << cluster.dump();
  cluster.write(cluster.leader(), 5 * kSecond);
  ASSERT_TRUE(cluster.run_until(
      [&] {
        for (const NodeId id : cluster.ids())
          if (cluster.image(id) == nullptr) return false;
        return cluster.count(OpState::kPending) == 0;
      },
      30 * kSecond))
      << cluster.dump();
}

void check(Cluster& cluster) {
  ASSERT_TRUE(cluster.run_until([&] { return cluster.count(OpState::kPending) == 0; }, 90 * kSecond)) << cluster.dump();
  cluster.run_for(2 * kSecond);
  EXPECT_EQ(cluster.check_content(), "") << cluster.dump();
  EXPECT_EQ(cluster.invariants().breach(), "");
}

// `id` has a transaction open from now on.
std::uint64_t leave_open(Cluster& cluster, NodeId id, base::Micros time) {
  cluster.image(id)->set_think(time);
  const std::uint64_t op = cluster.local_write(id, 90 * kSecond);
  EXPECT_TRUE(cluster.run_until([&] { return cluster.image(id)->status().writer == "local connection"; }, kSecond))
      << cluster.dump();
  return op;
}

void transfer(Cluster& cluster, NodeId from, NodeId to) {
  std::optional<base::Result<NodeId>> moved;
  cluster.node(from)->transfer_leader(to, 10 * kSecond + cluster.node(from)->now(),
                                      [&](base::Result<NodeId> result) { moved = std::move(result); });
  ASSERT_TRUE(cluster.run_until([&] { return moved.has_value(); }, 20 * kSecond)) << cluster.dump();
  ASSERT_TRUE(moved->has_value()) << base::to_string(moved->error());
}

bool doomed(Cluster& cluster, NodeId id) { return cluster.image(id)->status().doomed_since != 0; }

NodeId next_of(NodeId id) { return NodeId{id.value % 3 + 1}; }

TEST(StuckWriter, OpenOnTheLeaderBeyondItsLimit_TheOthersWriteAndItDoesNot) {
  for (std::uint64_t seed = 1; seed <= 8; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Cluster cluster({.seed = seed, .transaction_timeout_ms = 2000});
    make_healthy(cluster);
    const NodeId stuck = cluster.leader();
    const std::uint64_t open = leave_open(cluster, stuck, 30 * kSecond);
    const std::uint64_t forwarded = cluster.write(next_of(stuck), 20 * kSecond);
    ASSERT_TRUE(cluster.run_until([&] { return cluster.op(forwarded) != OpState::kPending; }, 25 * kSecond))
        << cluster.dump();
    EXPECT_EQ(cluster.op(forwarded), OpState::kAcked) << cluster.dump();
    EXPECT_EQ(cluster.op(open), OpState::kPending);
    EXPECT_NE(cluster.leader(), stuck);
    ASSERT_TRUE(cluster.run_until([&] { return cluster.op(open) != OpState::kPending; }, 40 * kSecond));
    EXPECT_EQ(cluster.op(open), OpState::kRefused);
    check(cluster);
  }
}

TEST(StuckWriter, NobodyWaits_TheLimitDoesNotCount) {
  Cluster cluster({.seed = 20, .transaction_timeout_ms = 2000});
  make_healthy(cluster);
  const NodeId leader = cluster.leader();
  const std::uint64_t open = leave_open(cluster, leader, 20 * kSecond);
  ASSERT_TRUE(cluster.run_until([&] { return cluster.op(open) != OpState::kPending; }, 40 * kSecond));
  EXPECT_EQ(cluster.op(open), OpState::kAcked) << cluster.dump();
  EXPECT_EQ(cluster.leader(), leader);
  check(cluster);
}

TEST(StuckWriter, LimitOfZero_IsNone) {
  Cluster cluster({.seed = 21, .transaction_timeout_ms = 0});
  make_healthy(cluster);
  const std::uint64_t open = leave_open(cluster, cluster.leader(), 20 * kSecond);
  const std::uint64_t forwarded = cluster.write(cluster.leader(), 60 * kSecond);
  ASSERT_TRUE(cluster.run_until([&] { return cluster.op(open) != OpState::kPending; }, 40 * kSecond));
  EXPECT_EQ(cluster.op(open), OpState::kAcked) << cluster.dump();
  ASSERT_TRUE(cluster.run_until([&] { return cluster.op(forwarded) != OpState::kPending; }, 60 * kSecond));
  EXPECT_EQ(cluster.op(forwarded), OpState::kAcked) << cluster.dump();
  check(cluster);
}

// Its outcome is the log's, however long that takes.
TEST(StuckWriter, ProposedCommit_IsNotDoomed) {
  Cluster cluster({.seed = 22, .transaction_timeout_ms = 1000});
  make_healthy(cluster);
  const NodeId leader = cluster.leader();
  for (const NodeId id : cluster.ids())
    if (id != leader)
      cluster.disk(id).set_latency(
          [](sim::DiskOp op, std::size_t) { return op == sim::DiskOp::kSync ? 6 * kSecond : base::Micros{0}; });
  const std::uint64_t proposed = cluster.local_write(leader, 60 * kSecond);
  cluster.run_for(kSecond);
  const std::uint64_t forwarded = cluster.write(leader, 60 * kSecond);
  cluster.run_for(3 * kSecond);
  ASSERT_EQ(cluster.op(proposed), OpState::kPending) << cluster.dump();
  EXPECT_EQ(cluster.image(leader)->status().writer, "local connection");
  EXPECT_FALSE(doomed(cluster, leader));
  for (const NodeId id : cluster.ids()) cluster.disk(id).set_latency({});
  ASSERT_TRUE(cluster.run_until([&] { return cluster.count(OpState::kPending) == 0; }, 60 * kSecond));
  EXPECT_EQ(cluster.op(proposed), OpState::kAcked) << cluster.dump();
  EXPECT_EQ(cluster.op(forwarded), OpState::kAcked) << cluster.dump();
  check(cluster);
}

// Nobody writes meanwhile: nothing but the transaction's own state tells.
TEST(StuckWriter, ReelectedWithADoomedTransaction_HandsOver) {
  for (std::uint64_t seed = 30; seed < 38; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Cluster cluster({.seed = seed});
    make_healthy(cluster);
    const NodeId stuck = cluster.leader();
    const std::uint64_t open = leave_open(cluster, stuck, 60 * kSecond);
    transfer(cluster, stuck, next_of(stuck));
    ASSERT_TRUE(cluster.run_until([&] { return doomed(cluster, stuck); }, 10 * kSecond)) << cluster.dump();
    transfer(cluster, next_of(stuck), stuck);
    ASSERT_TRUE(cluster.run_until([&] { return cluster.leader() && cluster.leader() != stuck; }, 10 * kSecond))
        << cluster.dump();
    const std::uint64_t forwarded = cluster.write(stuck, 10 * kSecond);
    ASSERT_TRUE(cluster.run_until([&] { return cluster.op(forwarded) != OpState::kPending; }, 15 * kSecond));
    EXPECT_EQ(cluster.op(forwarded), OpState::kAcked) << cluster.dump();
    EXPECT_EQ(cluster.op(open), OpState::kPending);
    check(cluster);
    EXPECT_EQ(cluster.op(open), OpState::kRefused);
  }
}

std::uint64_t term(Cluster& cluster) {
  std::uint64_t highest = 0;
  for (const NodeId id : cluster.ids()) highest = std::max(highest, cluster.node(id)->status().term.value);
  return highest;
}

// Two nodes cannot write: leadership ends at the third, and does not travel between the two.
TEST(StuckWriter, TwoStuckNodes_TheThirdLeads) {
  for (std::uint64_t seed = 50; seed < 58; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Cluster cluster({.seed = seed});
    make_healthy(cluster);
    const NodeId first = cluster.leader();
    const NodeId second = next_of(first);
    const NodeId third = next_of(second);
    leave_open(cluster, first, 80 * kSecond);
    transfer(cluster, first, second);
    ASSERT_TRUE(cluster.run_until([&] { return cluster.leader() == second; }, 10 * kSecond)) << cluster.dump();
    leave_open(cluster, second, 80 * kSecond);
    transfer(cluster, second, first);
    ASSERT_TRUE(cluster.run_until([&] { return cluster.leader() == third; }, 30 * kSecond)) << cluster.dump();
    const std::uint64_t settled = term(cluster);
    cluster.run_for(20 * kSecond);
    EXPECT_EQ(cluster.leader(), third) << cluster.dump();
    EXPECT_EQ(term(cluster), settled);
    check(cluster);
  }
}

// All of them are stuck, so nobody can write: leadership moves seldom, and ever more seldom.
TEST(StuckWriter, AllStuck_LeadershipMovesSeldom) {
  Cluster cluster({.seed = 70});
  make_healthy(cluster);
  for (int i = 0; i < 3; ++i) {
    const NodeId leader = cluster.leader();
    leave_open(cluster, leader, 80 * kSecond);
    transfer(cluster, leader, next_of(leader));
    ASSERT_TRUE(cluster.run_until([&] { return cluster.leader() == next_of(leader); }, 10 * kSecond)) << cluster.dump();
  }
  const std::uint64_t before = term(cluster);
  cluster.run_for(60 * kSecond);
  const std::uint64_t moves = term(cluster) - before;
  EXPECT_GE(moves, 3u) << cluster.dump();
  EXPECT_LE(moves, 15u) << cluster.dump();  // three nodes: at once, and after 5, 10, 20 and 40 s
  check(cluster);
}

}  // namespace

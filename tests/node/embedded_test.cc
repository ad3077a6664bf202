// One embedded node over the simulated seams: it forms its cluster alone, commits through the gate, and recovers.
#include <gtest/gtest.h>

#include "tests/sim/cluster.h"
#include "wal/log.h"

namespace {

using base::kSecond;
using base::NodeId;
using sim::Cluster;
using sim::OpState;

const NodeId kOne{1};

void settle(Cluster& cluster) {
  ASSERT_TRUE(cluster.run_until([&] { return cluster.count(OpState::kPending) == 0; }, 20 * kSecond)) << cluster.dump();
  EXPECT_EQ(cluster.invariants().breach(), "");
}

void make_healthy(Cluster& cluster) {
  cluster.start(kOne);
  ASSERT_TRUE(cluster.run_until([&] { return cluster.healthy(kOne); }, 5 * kSecond)) << cluster.dump();
}

TEST(Embedded, FirstStart_FormsItsClusterAlone) {
  Cluster cluster({.seed = 1, .nodes = 1});
  make_healthy(cluster);
  const node::NodeStatus status = cluster.node(kOne)->status();
  EXPECT_EQ(status.role, "leader");
  EXPECT_EQ(status.leader_id, kOne);
  EXPECT_NE(status.cluster_id, 0u);
  ASSERT_EQ(status.members.size(), 1u);
  EXPECT_EQ(status.members[0].role, "voter");
}

TEST(Embedded, Execute_CreatesTheDatabaseAndWrites) {
  Cluster cluster({.seed = 2, .nodes = 1});
  make_healthy(cluster);
  const auto op = cluster.write(kOne, 5 * kSecond);
  settle(cluster);
  EXPECT_EQ(cluster.op(op), OpState::kAcked);
  EXPECT_EQ(cluster.image(kOne)->operations(), std::vector<std::uint64_t>{op});
}

TEST(Embedded, LocalTransactions_CommitThroughTheGate) {
  Cluster cluster({.seed = 3, .nodes = 1});
  make_healthy(cluster);
  cluster.write(kOne, 5 * kSecond);
  settle(cluster);
  for (int i = 0; i < 50; ++i) {
    cluster.local_write(kOne, 5 * kSecond, static_cast<std::size_t>(1 + i % 5));
    if (i % 7 == 0) settle(cluster);
  }
  settle(cluster);
  EXPECT_EQ(cluster.count(OpState::kRefused), 0u);
  EXPECT_EQ(cluster.check_content(), "");
}

TEST(Embedded, CrashesOfEveryKind_NothingAcknowledgedIsLost) {
  for (std::uint64_t seed = 10; seed < 30; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Cluster cluster({.seed = seed, .nodes = 1});
    base::Random random(seed);
    for (int life = 0; life < 6; ++life) {
      make_healthy(cluster);
      cluster.write(kOne, 5 * kSecond);
      cluster.run_for(static_cast<base::Micros>(random.below(300)) * base::kMillisecond);
      for (int i = 0; i < 10 && cluster.image(kOne) != nullptr; ++i) {
        cluster.local_write(kOne, 5 * kSecond);
        cluster.write(kOne, 5 * kSecond);
        cluster.run_for(static_cast<base::Micros>(random.below(400)) * base::kMillisecond);
      }
      cluster.stop(kOne, random.chance(1, 2) ? Cluster::Stop::kPowerCut : Cluster::Stop::kKill);
    }
    make_healthy(cluster);
    cluster.run_for(kSecond);
    EXPECT_EQ(cluster.check_content(), "") << cluster.dump();
    EXPECT_EQ(cluster.invariants().breach(), "");
    EXPECT_GT(cluster.count(OpState::kAcked), 10u);
  }
}

TEST(Embedded, CrashAtAnyDiskOperation_Recovers) {
  for (std::uint64_t seed = 40; seed < 70; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Cluster cluster({.seed = seed, .nodes = 1});
    base::Random random(seed);
    for (int life = 0; life < 8; ++life) {
      cluster.disk(kOne).crash_at(1 + random.below(60));
      cluster.start(kOne);
      for (int i = 0; i < 12; ++i) {
        cluster.run_for(100 * base::kMillisecond);
        if (!cluster.up(kOne)) break;
        cluster.write(kOne, 5 * kSecond);
      }
      if (cluster.up(kOne)) cluster.stop(kOne, Cluster::Stop::kKill);
      cluster.disk(kOne).power_cut();
    }
    make_healthy(cluster);
    cluster.run_for(kSecond);
    EXPECT_EQ(cluster.check_content(), "") << cluster.dump();
    EXPECT_EQ(cluster.invariants().breach(), "");
  }
}

// What the next process would read: a seal is the last batch of the log. Nothing may run on the disk.
bool sealed(Cluster& cluster) {
  const auto env = cluster.disk(kOne).boot();
  std::string last;
  EXPECT_TRUE(wal::dump(*env, "/data/log", [&last](const std::string& line) { last = line; }));
  env->shut_down();
  EXPECT_EQ(last.find("next_lsn="), 0u) << last;
  return last.find(" sealed") != std::string::npos;
}

TEST(Embedded, CleanStop_EverythingIsSyncedAndSealed) {
  Cluster cluster({.seed = 5, .nodes = 1});
  make_healthy(cluster);
  for (int i = 0; i < 5; ++i) cluster.write(kOne, 5 * kSecond);
  settle(cluster);
  const auto applied = cluster.node(kOne)->status().databases.at(0).image.applied;
  ASSERT_TRUE(cluster.stop_cleanly(kOne));
  cluster.disk(kOne).power_cut();
  EXPECT_TRUE(sealed(cluster));
  make_healthy(cluster);
  EXPECT_EQ(cluster.node(kOne)->status().databases.at(0).image.base, applied);
  EXPECT_EQ(cluster.check_content(), "");
}

// DESIGN 6.3: after a short idle time too, so that rot in what was written last is known for what it is (R12) after any death.
TEST(Embedded, IdleLog_IsSealed) {
  for (const bool idle : {false, true}) {
    SCOPED_TRACE(idle ? "idle" : "just written");
    Cluster cluster({.seed = 9, .nodes = 1});
    make_healthy(cluster);
    for (int i = 0; i < 5; ++i) {
      cluster.write(kOne, 5 * kSecond);
      settle(cluster);
      if (idle) cluster.run_for(3 * kSecond);  // once more after each write
    }
    cluster.stop(kOne, Cluster::Stop::kPowerCut);
    EXPECT_EQ(sealed(cluster), idle);
    make_healthy(cluster);
    cluster.run_for(kSecond);
    EXPECT_EQ(cluster.check_content(), "");
  }
}

TEST(Embedded, FailedSync_PoisonsTheNodeAndNothingIsAcknowledged) {
  Cluster cluster({.seed = 6, .nodes = 1});
  make_healthy(cluster);
  cluster.write(kOne, 5 * kSecond);
  settle(cluster);
  cluster.disk(kOne).fail_next(sim::DiskOp::kSync, 1, base::Code::kIo, "/log/");
  const auto lost = cluster.write(kOne, 3 * kSecond);
  settle(cluster);
  EXPECT_NE(cluster.op(lost), OpState::kAcked);
  EXPECT_EQ(cluster.node(kOne)->status().state, "poisoned");
  const auto later = cluster.write(kOne, 3 * kSecond);
  settle(cluster);
  EXPECT_EQ(cluster.op(later), OpState::kRefused);
  cluster.stop(kOne, Cluster::Stop::kPowerCut);
  make_healthy(cluster);
  cluster.run_for(kSecond);
  EXPECT_EQ(cluster.check_content(), "") << cluster.dump();
}

void expect_goes_on_with_space(Cluster& cluster) {
  cluster.disk(kOne).set_capacity(UINT64_MAX);
  ASSERT_TRUE(cluster.run_until([&] { return cluster.healthy(kOne); }, 10 * kSecond)) << cluster.dump();
  const auto op = cluster.write(kOne, 5 * kSecond);
  settle(cluster);
  EXPECT_EQ(cluster.op(op), OpState::kAcked) << cluster.dump();
  EXPECT_EQ(cluster.check_content(), "") << cluster.dump();
}

TEST(Embedded, DiskFull_RefusesWritesUntilSpaceReturns) {
  Cluster cluster({.seed = 8, .nodes = 1, .wal_size = 64 << 10});
  make_healthy(cluster);
  cluster.write(kOne, 5 * kSecond);
  settle(cluster);
  cluster.run_for(3 * kSecond);
  cluster.disk(kOne).set_capacity(cluster.disk(kOne).used_bytes());
  for (int i = 0; i < 400 && cluster.count(OpState::kRefused) + cluster.count(OpState::kUnknown) == 0; ++i) {
    cluster.write(kOne, 2 * kSecond);
    settle(cluster);
  }
  EXPECT_GT(cluster.count(OpState::kRefused) + cluster.count(OpState::kUnknown), 0u);
  EXPECT_NE(cluster.node(kOne)->status().state, "poisoned") << cluster.dump();
  expect_goes_on_with_space(cluster);
}

// Nobody writes while the disk is full: the log asks for space by itself.
TEST(Embedded, DiskFullAndIdle_WritesGoOnWhenSpaceReturns) {
  Cluster cluster({.seed = 9, .nodes = 1, .wal_size = 64 << 10});
  make_healthy(cluster);
  cluster.write(kOne, 5 * kSecond);
  settle(cluster);
  cluster.run_for(3 * kSecond);
  // Room for the database, and none for a segment of the log.
  cluster.disk(kOne).set_capacity(cluster.disk(kOne).used_bytes() + (60 << 10));
  for (int i = 0; i < 400 && cluster.node(kOne)->status().state != "disk_full"; ++i) {
    cluster.write(kOne, 2 * kSecond);
    settle(cluster);
  }
  ASSERT_EQ(cluster.node(kOne)->status().state, "disk_full") << cluster.dump();
  cluster.run_for(30 * kSecond);
  ASSERT_EQ(cluster.node(kOne)->status().state, "disk_full") << cluster.dump();
  expect_goes_on_with_space(cluster);
}

base::Index compact(Cluster& cluster, std::uint64_t keep) {
  std::optional<base::Result<base::Index>> floor;
  cluster.node(kOne)->compact(keep, [&](base::Result<base::Index> result) { floor = result; });
  EXPECT_TRUE(cluster.run_until([&] { return floor.has_value(); }, 10 * kSecond));
  EXPECT_TRUE(floor && floor->has_value()) << cluster.dump();
  return floor && *floor ? **floor : base::Index{};
}

// Nobody writes meanwhile, so the catalogue is as far as the log. Kept: what was asked for, and all when that is more than there is.
TEST(Embedded, CompactWhenIdle_KeepsWhatIsAskedFor) {
  // The node itself purges what is more than four segments.
  Cluster cluster({.seed = 9, .nodes = 1, .wal_size = 1 << 20});
  make_healthy(cluster);
  for (int i = 0; i < 60; ++i) {
    cluster.write(kOne, 5 * kSecond);
    settle(cluster);
  }
  cluster.run_for(3 * kSecond);
  const std::uint64_t last = cluster.node(kOne)->status().commit_index.value;
  ASSERT_GT(last, 60u);
  EXPECT_EQ(compact(cluster, last), base::Index{});
  EXPECT_EQ(compact(cluster, UINT64_MAX), base::Index{});
  EXPECT_EQ(compact(cluster, 40), base::Index{last - 40});
  EXPECT_EQ(compact(cluster, 50), base::Index{last - 40});  // a floor never goes back
  cluster.run_for(kSecond);
  EXPECT_EQ(cluster.node(kOne)->raft_status().floor.index, base::Index{last - 40});
  // What is left is a log to go on with.
  cluster.stop(kOne, Cluster::Stop::kPowerCut);
  make_healthy(cluster);
  EXPECT_EQ(cluster.node(kOne)->raft_status().floor.index, base::Index{last - 40});
  EXPECT_EQ(compact(cluster, last), base::Index{last - 40});
  EXPECT_GE(compact(cluster, 0), base::Index{last});
  cluster.write(kOne, 5 * kSecond);
  settle(cluster);
  EXPECT_EQ(cluster.check_content(), "") << cluster.dump();
}

TEST(Embedded, Compact_DropsTheLogBelowTheBases) {
  Cluster cluster({.seed = 7, .nodes = 1, .wal_size = 64 << 10});
  make_healthy(cluster);
  for (int i = 0; i < 60; ++i) {
    cluster.write(kOne, 5 * kSecond);
    settle(cluster);
  }
  std::optional<base::Result<base::Index>> floor;
  cluster.node(kOne)->compact(0, [&](base::Result<base::Index> result) { floor = result; });
  ASSERT_TRUE(cluster.run_until([&] { return floor.has_value(); }, 10 * kSecond));
  ASSERT_TRUE(floor->has_value()) << base::to_string(floor->error());
  EXPECT_GT(**floor, base::Index{10});
  cluster.write(kOne, 5 * kSecond);
  settle(cluster);
  cluster.stop(kOne, Cluster::Stop::kPowerCut);
  make_healthy(cluster);
  cluster.run_for(kSecond);
  EXPECT_EQ(cluster.check_content(), "") << cluster.dump();
}

}  // namespace

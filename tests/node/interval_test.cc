// log_sync = "interval_<ms>" on whole nodes over the simulated seams: what a kill keeps, what a power cut may take, and how a database that is
// ahead of its log and a node that the cluster has forgotten find back (DESIGN 6.3 and 7).
#include <gtest/gtest.h>

#include <algorithm>
#include <optional>

#include "tests/sim/cluster.h"

namespace {

using base::kMillisecond;
using base::kSecond;
using base::NodeId;
using sim::Cluster;
using sim::OpState;

const NodeId kOne{1};

bool settle(Cluster& cluster) {
  return cluster.run_until([&] { return cluster.count(OpState::kPending) == 0; }, 30 * kSecond);
}

bool form(Cluster& cluster) {
  cluster.start_all();
  return cluster.run_until([&] { return cluster.leader() && cluster.all_healthy(); }, 30 * kSecond);
}

bool level(Cluster& cluster) {
  base::Index highest;
  for (const NodeId id : cluster.ids()) highest = std::max(highest, cluster.node(id)->status().commit_index);
  for (const NodeId id : cluster.ids())
    if (cluster.node(id)->status().applied_index < highest) return false;
  return true;
}

std::string events_of(node::Node& node, const std::string& kind) {
  std::string all;
  for (const node::Event& event : node.events(0))
    if (event.kind == kind) all += event.text + "; ";
  return all;
}

TEST(Interval, EverybodyKilledAtOnce_EverythingAcknowledgedIsThere) {
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Cluster cluster({.seed = seed, .nodes = 3, .log_sync = "interval_60000"});
    ASSERT_TRUE(form(cluster)) << cluster.dump();
    cluster.write(kOne, 10 * kSecond);
    ASSERT_TRUE(settle(cluster));
    for (int i = 0; i < 20; ++i) cluster.write(NodeId(1 + static_cast<std::uint64_t>(i) % 3), 10 * kSecond);
    cluster.run_for(static_cast<base::Micros>(seed * 7) * kMillisecond);
    for (const NodeId id : cluster.ids()) cluster.stop(id, Cluster::Stop::kKill);
    ASSERT_TRUE(form(cluster)) << cluster.dump();
    cluster.write(kOne, 10 * kSecond);
    ASSERT_TRUE(settle(cluster)) << cluster.dump();
    ASSERT_TRUE(cluster.run_until([&] { return level(cluster); }, 20 * kSecond)) << cluster.dump();
    EXPECT_EQ(cluster.check_content(), "") << cluster.dump();
    EXPECT_EQ(cluster.found_ahead(), 0u);
  }
}

// Writes count before they are synced, and a sync follows after the interval and not with each.
TEST(Interval, Writes_ShareTheSyncOfTheirInterval) {
  std::uint64_t syncs[2] = {};
  for (const bool immediate : {true, false}) {
    Cluster cluster({.seed = 3, .nodes = 1, .log_sync = immediate ? "immediate" : "interval_60000"});
    ASSERT_TRUE(form(cluster)) << cluster.dump();
    cluster.write(kOne, 10 * kSecond);
    ASSERT_TRUE(settle(cluster));
    const std::uint64_t before = cluster.disk(kOne).op_count(sim::DiskOp::kSync);
    for (int i = 0; i < 20; ++i) {
      cluster.write(kOne, 10 * kSecond);
      ASSERT_TRUE(settle(cluster));
    }
    syncs[immediate ? 0 : 1] = cluster.disk(kOne).op_count(sim::DiskOp::kSync) - before;
    EXPECT_EQ(cluster.check_content(), "");
  }
  EXPECT_GE(syncs[0], 20u);
  EXPECT_LE(syncs[1], 3u);
}

TEST(Interval, AfterTheInterval_PowerCutTakesNothing) {
  Cluster cluster({.seed = 4, .nodes = 1, .log_sync = "interval_20"});
  ASSERT_TRUE(form(cluster)) << cluster.dump();
  for (int i = 0; i < 5; ++i) cluster.write(kOne, 10 * kSecond);
  ASSERT_TRUE(settle(cluster));
  cluster.run_for(40 * kMillisecond);
  cluster.stop(kOne, Cluster::Stop::kPowerCut);
  ASSERT_TRUE(form(cluster)) << cluster.dump();
  cluster.run_for(kSecond);
  EXPECT_EQ(cluster.check_content(), "") << cluster.dump();
  EXPECT_EQ(cluster.found_ahead(), 0u);
}

// Files come and go durably: the log must not forget what they came and went for.
TEST(Interval, CreationAndDrop_AreSyncedBeforeTheFiles) {
  for (std::uint64_t seed = 1; seed <= 12; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Cluster cluster({.seed = seed, .nodes = 1, .log_sync = "interval_60000"});
    cluster.invariants().allow_lost_history();
    ASSERT_TRUE(form(cluster)) << cluster.dump();
    cluster.write(kOne, 10 * kSecond);
    ASSERT_TRUE(settle(cluster));
    cluster.stop(kOne, Cluster::Stop::kPowerCut);
    ASSERT_TRUE(form(cluster)) << cluster.dump();
    ASSERT_TRUE(cluster.node(kOne)->database_id(sim::kDatabase)) << cluster.dump();
    ASSERT_NE(cluster.image(kOne), nullptr) << cluster.dump();
    std::optional<base::Status> dropped;
    cluster.node(kOne)->drop_database(sim::kDatabase, cluster.node(kOne)->now() + 10 * kSecond,
                                      [&](const base::Status& status) { dropped = status; });
    ASSERT_TRUE(cluster.run_until([&] { return dropped.has_value(); }, 10 * kSecond));
    ASSERT_TRUE(*dropped);
    cluster.stop(kOne, Cluster::Stop::kPowerCut);
    ASSERT_TRUE(form(cluster)) << cluster.dump();
    EXPECT_FALSE(cluster.node(kOne)->database_id(sim::kDatabase)) << cluster.dump();
    EXPECT_EQ(cluster.invariants().breach(), "");
  }
}

// R13, also when nobody waits for that sync any more.
TEST(Interval, LateSyncFails_NodeIsPoisoned) {
  Cluster cluster({.seed = 5, .nodes = 1, .log_sync = "interval_50"});
  ASSERT_TRUE(form(cluster)) << cluster.dump();
  cluster.write(kOne, 10 * kSecond);
  ASSERT_TRUE(settle(cluster));
  cluster.run_for(2 * kSecond);
  cluster.disk(kOne).fail_next(sim::DiskOp::kSync, 1, base::Code::kIo, "/log/");
  const auto op = cluster.write(kOne, 10 * kSecond);
  ASSERT_TRUE(settle(cluster));
  EXPECT_EQ(cluster.op(op), OpState::kAcked);
  ASSERT_TRUE(cluster.run_until([&] { return cluster.node(kOne)->status().state == "poisoned"; }, 5 * kSecond))
      << cluster.dump();
  const auto later = cluster.write(kOne, 3 * kSecond);
  ASSERT_TRUE(settle(cluster));
  EXPECT_EQ(cluster.op(later), OpState::kRefused);
}

// Alone: the log has lost its end and the database has not. Its content is taken into the log, and the node goes on from there.
TEST(Interval, AlonePowerCut_DatabaseAheadOfTheLog_IsAdopted) {
  std::uint64_t ahead = 0;
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Cluster cluster({.seed = seed, .nodes = 1, .log_sync = "interval_60000"});
    cluster.invariants().allow_lost_history();
    for (int life = 0; life < 3; ++life) {
      ASSERT_TRUE(form(cluster)) << cluster.dump();
      for (std::uint64_t i = 0; i < 3 + seed % 4; ++i) {
        cluster.write(kOne, 10 * kSecond);
        if (cluster.image(kOne) != nullptr) cluster.local_write(kOne, 10 * kSecond);
        ASSERT_TRUE(settle(cluster));
      }
      cluster.stop(kOne, life == 2 ? Cluster::Stop::kKill : Cluster::Stop::kPowerCut);
    }
    ASSERT_TRUE(form(cluster)) << cluster.dump();
    const auto op = cluster.write(kOne, 10 * kSecond);
    ASSERT_TRUE(settle(cluster));
    EXPECT_EQ(cluster.op(op), OpState::kAcked) << cluster.dump();
    ASSERT_EQ(cluster.invariants().breach(), "");
    // What is there was asked for, once each; of the last life, which was only killed, everything is.
    auto there = cluster.image(kOne)->operations();
    EXPECT_EQ(there.back(), op);
    std::sort(there.begin(), there.end());
    EXPECT_TRUE(std::adjacent_find(there.begin(), there.end()) == there.end());
    for (std::uint64_t number = op - 5; number <= op; ++number)
      EXPECT_TRUE(cluster.op(number) != OpState::kAcked || std::binary_search(there.begin(), there.end(), number))
          << number;
    ahead += cluster.found_ahead();
  }
  EXPECT_GT(ahead, 5u);
}

// A member of a cluster takes the log's word, and the leader's for what the log has lost.
TEST(Interval, MemberLosesPower_DatabaseAheadOfTheLog_IsMadeAgain) {
  std::uint64_t ahead = 0;
  for (std::uint64_t seed = 1; seed <= 25; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Cluster cluster({.seed = seed, .nodes = 3, .log_sync = "interval_60000"});
    ASSERT_TRUE(form(cluster)) << cluster.dump();
    for (int i = 0; i < 12; ++i) {
      cluster.write(kOne, 10 * kSecond);
      ASSERT_TRUE(settle(cluster));
    }
    ASSERT_TRUE(cluster.run_until([&] { return level(cluster); }, 20 * kSecond)) << cluster.dump();
    const NodeId leader = cluster.leader();
    const NodeId victim{leader.value % 3 + 1};
    cluster.stop(victim, Cluster::Stop::kPowerCut);
    ASSERT_TRUE(form(cluster)) << cluster.dump();
    if (seed % 2 == 0) {
      // Again before there was a sync point of the new files.
      cluster.stop(victim, seed % 4 == 0 ? Cluster::Stop::kPowerCut : Cluster::Stop::kKill);
      ASSERT_TRUE(form(cluster)) << cluster.dump();
    }
    cluster.write(leader, 10 * kSecond);
    ASSERT_TRUE(settle(cluster));
    ASSERT_TRUE(cluster.run_until([&] { return level(cluster); }, 30 * kSecond)) << cluster.dump();
    EXPECT_EQ(cluster.check_content(), "") << cluster.dump();
    const auto databases = cluster.node(victim)->status().databases;
    ASSERT_EQ(databases.size(), 1u);
    EXPECT_EQ(databases[0].image.state, pages::ImageState::kOk);
    if (seed % 2 == 1) {
      EXPECT_EQ(events_of(*cluster.node(victim), "ahead_of_log").empty(), cluster.found_ahead() == 0);
    }
    ahead += cluster.found_ahead();
  }
  EXPECT_GT(ahead, 3u);
}

// More than a minority loses power: what was acknowledged in the last interval may be gone. A node that still has it finds that the others
// went on without it, ends its life and begins a new one; all hold the same in the end.
TEST(Interval, WholeHouseLosesPower_TheClusterAgreesAndGoesOn) {
  int contradicted = 0;
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Cluster cluster({.seed = seed, .nodes = 3, .log_sync = "interval_60000"});
    cluster.invariants().allow_lost_history();
    ASSERT_TRUE(form(cluster)) << cluster.dump();
    for (int i = 0; i < 12; ++i) {
      cluster.write(kOne, 10 * kSecond);
      ASSERT_TRUE(settle(cluster));
    }
    // One is only killed, and comes back when the others serve again.
    const NodeId late = cluster.leader();
    for (const NodeId id : cluster.ids())
      cluster.stop(id, id == late ? Cluster::Stop::kKill : Cluster::Stop::kPowerCut);
    for (const NodeId id : cluster.ids())
      if (id != late) cluster.start(id);
    ASSERT_TRUE(cluster.run_until([&] { return static_cast<bool>(cluster.leader()); }, 60 * kSecond)) << cluster.dump();
    const auto op = cluster.write(cluster.leader(), 20 * kSecond);
    ASSERT_TRUE(settle(cluster));
    ASSERT_EQ(cluster.op(op), OpState::kAcked) << cluster.dump();
    cluster.start(late);
    const auto poisoned = [&] { return cluster.up(late) && cluster.node(late)->status().state == "poisoned"; };
    ASSERT_TRUE(
        cluster.run_until([&] { return poisoned() || (cluster.all_healthy() && level(cluster)); }, 60 * kSecond))
        << cluster.dump();
    if (poisoned()) {
      ++contradicted;
      EXPECT_NE(cluster.node(late)->status().last_error.find("restart this node"), std::string::npos);
      cluster.stop(late, Cluster::Stop::kKill);
      cluster.start(late);
    }
    const auto whole = [&] {
      const NodeId leader = cluster.leader();
      if (!leader || !cluster.all_healthy() || !level(cluster)) return false;
      const auto members = cluster.node(leader)->status().members;
      return members.size() == 3 &&
             std::all_of(members.begin(), members.end(), [](const auto& member) { return member.role == "voter"; });
    };
    ASSERT_TRUE(cluster.run_until(whole, 60 * kSecond)) << cluster.dump();
    for (const NodeId id : cluster.ids()) {
      ASSERT_NE(cluster.image(id), nullptr) << cluster.dump();
      const auto there = cluster.image(id)->operations();
      EXPECT_EQ(there, cluster.image(kOne)->operations()) << "node " << id.value;
      EXPECT_NE(std::find(there.begin(), there.end(), op), there.end());
    }
    ASSERT_EQ(cluster.invariants().breach(), "");
  }
  EXPECT_GT(contradicted, 5);
}

}  // namespace

// Virtual time and lanes of the simulator.
#include "tests/sim/sim_lane.h"

#include <gtest/gtest.h>

#include <memory>
#include <set>

#include "tests/sim/sim_env.h"

namespace sim {
namespace {

using base::kMillisecond;
using base::kSecond;

constexpr NodeId kOne{1};
constexpr NodeId kTwo{2};

TEST(SimLane, Post_OneLane_OrderKept) {
  Scheduler scheduler(1);
  SimLane& lane = scheduler.lane(kOne, "loop");
  std::vector<int> ran;
  for (int i = 0; i < 100; ++i) {
    lane.post([&, i] {
      EXPECT_TRUE(lane.is_current());
      ran.push_back(i);
    });
  }
  EXPECT_TRUE(ran.empty()) << "never inside the call";
  while (scheduler.step()) {
  }
  ASSERT_EQ(ran.size(), 100U);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(ran[static_cast<std::size_t>(i)], i);
  EXPECT_FALSE(lane.is_current());
}

std::string interleaving(std::uint64_t seed, std::uint64_t* trace) {
  Scheduler scheduler(seed);
  std::string order;
  for (const char* name : {"a", "b", "c"})
    for (int i = 0; i < 5; ++i) scheduler.lane(kOne, name).post([&order, name] { order += name; });
  while (scheduler.step()) {
  }
  *trace = scheduler.trace();
  return order;
}

TEST(Scheduler, Seeds_SameSame_OtherOther) {
  std::set<std::string> orders;
  std::set<char> first_lanes;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    std::uint64_t first = 0;
    std::uint64_t second = 0;
    const std::string order = interleaving(seed, &first);
    EXPECT_EQ(order, interleaving(seed, &second)) << "seed " << seed;
    EXPECT_EQ(first, second) << "seed " << seed;
    orders.insert(order);
    first_lanes.insert(order[0]);
  }
  EXPECT_EQ(first_lanes.size(), 3U) << "of lanes that are due at the same time the seed chooses";
  EXPECT_GT(orders.size(), 15U);
}

TEST(SimLane, PostAt_ByTime_NotEarlyAndInOrder) {
  Scheduler scheduler(1);
  SimLane& lane = scheduler.lane(kOne, "loop");
  Clock& clock = scheduler.clock(kOne);
  const Micros start = clock.now();
  std::vector<int> ran;
  for (const int at : {30, 10, 20, -5}) {
    lane.post_at(start + at * kMillisecond, [&, at] {
      EXPECT_GE(clock.now(), start + at * kMillisecond);
      ran.push_back(at);
    });
  }
  scheduler.run_for(15 * kMillisecond);
  EXPECT_EQ(ran, (std::vector<int>{-5, 10}));
  scheduler.run_for(kSecond);
  EXPECT_EQ(ran, (std::vector<int>{-5, 10, 20, 30}));
  EXPECT_EQ(scheduler.now(), start + 15 * kMillisecond + kSecond);
}

TEST(SimLane, PostAt_TheEndOfTime_NeverWithinReach) {
  Scheduler scheduler(1);
  bool ran = false;
  scheduler.lane(kOne, "loop").post_at(INT64_MAX, [&] { ran = true; });
  scheduler.run_for(24 * 3600 * kSecond);
  EXPECT_FALSE(ran);
}

TEST(Scheduler, TaskChain_PostsItselfForEver_TimeStillPasses) {
  Scheduler scheduler(1);
  SimLane& lane = scheduler.lane(kOne, "loop");
  std::function<void()> again = [&] { lane.post(again); };
  lane.post(again);
  bool timer = false;
  scheduler.lane(kTwo, "loop").post_at_global(scheduler.now() + kMillisecond, [&] { timer = true; });
  EXPECT_TRUE(scheduler.run_until([&] { return timer; }, scheduler.now() + kSecond));
}

TEST(Scheduler, Spend_InATask_LaneBusyAndPostsLeaveLater) {
  Scheduler scheduler(1);
  SimLane& log = scheduler.lane(kOne, "log");
  SimLane& loop = scheduler.lane(kOne, "loop");
  const Micros start = scheduler.now();
  Micros told = 0;
  Micros next_on_log = 0;
  Micros loop_meanwhile = 0;
  log.post([&] {
    scheduler.spend(3 * kMillisecond);
    EXPECT_EQ(scheduler.now(), start + 3 * kMillisecond);
    loop.post([&] { told = scheduler.now(); });
  });
  log.post([&] { next_on_log = scheduler.now(); });
  loop.post_at_global(start + kMillisecond, [&] { loop_meanwhile = scheduler.now(); });
  scheduler.run_for(kSecond);
  EXPECT_GE(told, start + 3 * kMillisecond);
  EXPECT_GE(next_on_log, start + 3 * kMillisecond);
  EXPECT_LT(loop_meanwhile, start + 2 * kMillisecond) << "other lanes go on";
}

TEST(Scheduler, DiskLatency_OnALane_SpendsItsTimeOnly) {
  Scheduler scheduler(1);
  DiskOptions options;
  options.latency = [](DiskOp op, std::size_t) { return op == DiskOp::kSync ? 2 * kSecond : 0; };
  SimDisk disk(1, options);
  auto env = disk.boot(&scheduler.clock(kOne));
  SimLane& log = scheduler.lane(kOne, "log");
  const Micros start = scheduler.now();
  Micros synced = 0;
  log.post([&] {
    auto file = env->open("/data/f", base::OpenMode::kCreate).value();
    EXPECT_TRUE(file->sync());
    EXPECT_EQ(env->now(), start + 2 * kSecond);
    scheduler.lane(kOne, "loop").post([&] { synced = scheduler.now(); });
  });
  scheduler.run_for(kSecond);
  EXPECT_EQ(synced, 0);
  scheduler.run_for(2 * kSecond);
  EXPECT_GE(synced, start + 2 * kSecond);
}

TEST(Scheduler, Kill_QueuedTasks_DestroyedUnrunAndLanesDead) {
  Scheduler scheduler(1);
  SimLane& lane = scheduler.lane(kOne, "loop");
  SimLane& other = scheduler.lane(kTwo, "loop");
  auto token = std::make_shared<int>(0);
  lane.post([token] { ++*token; });
  lane.post_at_global(scheduler.now() + kSecond, [token] { ++*token; });
  bool other_ran = false;
  other.post([&] { other_ran = true; });
  NodeId killed;
  scheduler.on_kill([&](NodeId node) { killed = node; });
  scheduler.kill(kOne);
  EXPECT_EQ(killed, kOne);
  EXPECT_EQ(token.use_count(), 1);
  lane.post([token] { ++*token; });
  EXPECT_FALSE(lane.alive());
  SimLane& next_life = scheduler.lane(kOne, "loop");
  EXPECT_NE(&next_life, &lane);
  bool next_ran = false;
  next_life.post([&] { next_ran = true; });
  scheduler.run_for(10 * kSecond);
  EXPECT_EQ(*token, 0);
  EXPECT_TRUE(other_ran);
  EXPECT_TRUE(next_ran);
}

TEST(Scheduler, Kill_FromOwnTask_RestOfTheTaskHarmless) {
  Scheduler scheduler(1);
  SimLane& lane = scheduler.lane(kOne, "log");
  auto token = std::make_shared<int>(0);
  SimDisk disk(1);
  auto env = disk.boot(&scheduler.clock(kOne));
  disk.on_crash([&] { scheduler.kill(kOne); });
  disk.crash_at(1);
  lane.post([&, token] {
    EXPECT_FALSE(env->open("/data/f", base::OpenMode::kCreate));
    lane.post([token] { ++*token; });
  });
  lane.post([token] { ++*token; });
  scheduler.run_for(kSecond);
  EXPECT_EQ(*token, 0);
  EXPECT_EQ(token.use_count(), 1);
}

TEST(Scheduler, Pause_TasksWait_TimeGoesOn) {
  Scheduler scheduler(1);
  SimLane& lane = scheduler.lane(kOne, "loop");
  Micros ran = 0;
  lane.post([&] { ran = scheduler.clock(kOne).now(); });
  const Micros start = scheduler.now();
  scheduler.pause(kOne);
  EXPECT_TRUE(scheduler.paused(kOne));
  scheduler.run_for(5 * kSecond);
  EXPECT_EQ(ran, 0);
  scheduler.resume(kOne);
  scheduler.run_for(kSecond);
  EXPECT_GE(ran, start + 5 * kSecond);
}

TEST(Scheduler, ClockRates_FastAndSlow_TimersFollowTheNodesOwnClock) {
  Scheduler scheduler(1);
  scheduler.set_clock_rate(kOne, 2000000);
  scheduler.set_clock_rate(kTwo, 500000);
  Micros ran_one = 0;
  Micros ran_two = 0;
  const Micros start = scheduler.now();
  Clock& one = scheduler.clock(kOne);
  Clock& two = scheduler.clock(kTwo);
  scheduler.lane(kOne, "loop").post_at(one.now() + kSecond, [&] { ran_one = scheduler.now(); });
  scheduler.lane(kTwo, "loop").post_at(two.now() + kSecond, [&] { ran_two = scheduler.now(); });
  scheduler.run_for(3 * kSecond);
  EXPECT_NEAR(static_cast<double>(ran_one - start), 0.5 * kSecond, kMillisecond);
  EXPECT_NEAR(static_cast<double>(ran_two - start), 2.0 * kSecond, kMillisecond);
  const Micros before = one.now();
  const Micros wall = one.wall_clock();
  scheduler.set_clock_rate(kOne, 1000000);
  scheduler.jump_wall_clock(kOne, -3600 * kSecond);
  EXPECT_EQ(one.now(), before) << "the monotonic clock never jumps";
  EXPECT_EQ(one.wall_clock(), wall - 3600 * kSecond);
}

}  // namespace
}  // namespace sim

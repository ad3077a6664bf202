// The simulator itself: a seed is a run, the same every time.
#include <gtest/gtest.h>

#include "tests/sim/sim_run.h"

namespace {

TEST(Simulator, SameSeed_SameRun) {
  const sim::RunResult first = sim::run_seed({.seed = 4, .steps = 20});
  const sim::RunResult second = sim::run_seed({.seed = 4, .steps = 20});
  EXPECT_EQ(first.failure, "");
  EXPECT_EQ(first.trace, second.trace);
  EXPECT_EQ(first.acked, second.acked);
  EXPECT_GT(first.acked, 0u);
  EXPECT_NE(sim::run_seed({.seed = 5, .steps = 20}).trace, first.trace);
}

// 35: a batch that waits for the lease over a change of leader must not be proposed in the next term.
// 24: a learner whose admission was rolled back holds entries, and is taken in all the same.
TEST(Simulator, SeedsThatFailedOnce_Pass) {
  EXPECT_EQ(sim::run_seed({.seed = 24, .nodes = 5}).failure, "");
  EXPECT_EQ(sim::run_seed({.seed = 35}).failure, "");
  EXPECT_EQ(sim::run_seed({.seed = 34, .nodes = 5}).failure, "");
}

}  // namespace

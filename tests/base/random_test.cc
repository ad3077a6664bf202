// base/random.h: same seed, same numbers for ever (a failing seed of a year ago must still fail), and ranges are kept.
#include "base/random.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <vector>

namespace base {
namespace {

TEST(Random, Mix64_PublishedFirstNumber_Equal) { EXPECT_EQ(mix64(0), 0xE220A8397B1DCDAFULL); }

TEST(Random, SameSeed_SameNumbers_OtherSeedOthers) {
  Random a(7);
  Random b(7);
  Random c(8);
  bool all_equal = true;
  for (int i = 0; i < 100; ++i) {
    const std::uint64_t number = a.next();
    EXPECT_EQ(number, b.next());
    all_equal = all_equal && number == c.next();
  }
  EXPECT_FALSE(all_equal);
}

TEST(Random, Below_SmallBound_EveryValueAboutEquallyOften) {
  Random random(3);
  std::array<int, 6> counts{};
  for (int i = 0; i < 60000; ++i) ++counts[static_cast<std::size_t>(random.below(6))];
  for (const int count : counts) {
    EXPECT_GT(count, 9500);
    EXPECT_LT(count, 10500);
  }
}

TEST(Random, Between_Extremes_Inside) {
  Random random(4);
  for (int i = 0; i < 1000; ++i) {
    const std::int64_t number = random.between(-3, 2);
    ASSERT_GE(number, -3);
    ASSERT_LE(number, 2);
  }
  EXPECT_EQ(random.between(5, 5), 5);
  static_cast<void>(random.between(INT64_MIN, INT64_MAX));
}

TEST(Random, ForkAndShuffle_Deterministic_AndAPermutation) {
  Random a(9);
  Random b(9);
  EXPECT_EQ(a.fork(1).next(), b.fork(1).next());
  std::vector<int> items(100);
  for (int i = 0; i < 100; ++i) items[static_cast<std::size_t>(i)] = i;
  std::vector<int> shuffled = items;
  a.shuffle(shuffled);
  EXPECT_NE(shuffled, items);
  std::sort(shuffled.begin(), shuffled.end());
  EXPECT_EQ(shuffled, items);
}

}  // namespace
}  // namespace base

// make_patch and apply_patch against random pages: exact, idempotent (R14), short.
#include <gtest/gtest.h>

#include <algorithm>

#include "pages/tx.h"
#include "tests/pages/samples.h"

namespace pages_test {
namespace {

using pages::PatchKind;

// Changes `runs` random stretches.
base::Bytes edited(std::mt19937_64& random, const base::Bytes& page, int runs, std::size_t length_max) {
  base::Bytes after = page;
  for (int i = 0; i < runs; ++i) {
    const std::size_t at = random() % page.size();
    const std::size_t size = std::min<std::size_t>(1 + random() % length_max, page.size() - at);
    for (std::size_t j = 0; j < size; ++j) after[at + j] = static_cast<std::byte>(random());
  }
  return after;
}

TEST(Patch, RandomEdits_ApplyExactly) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 3000; ++round) {
    const std::size_t size = std::size_t{512} << (round % 8);
    if (size > 8192 && round % 16 != 7) continue;
    const base::Bytes before = random_page(random, size);
    const base::Bytes after = edited(random, before, static_cast<int>(random() % 12), 1 + random() % 200);
    const pages::Patch patch = pages::make_patch(3, before, after);
    EXPECT_LE(patch.body.size(), size);
    base::Bytes image = before;
    ASSERT_TRUE(pages::apply_patch(patch, image));
    ASSERT_EQ(image, after) << "round " << round;
    ASSERT_TRUE(pages::apply_patch(patch, image));  // over its own result
    ASSERT_EQ(image, after);
  }
}

// Redo over a base that already holds some of the later images gives the last image.
TEST(Patch, RedoOverFuzzyBase_GivesTheLastImage) {
  std::mt19937_64 random(2);
  for (int round = 0; round < 200; ++round) {
    std::vector<base::Bytes> images = {random_page(random, 4096)};
    std::vector<pages::Patch> patches;
    for (int i = 0; i < 6; ++i) {
      images.push_back(edited(random, images.back(), 3, 300));
      patches.push_back(pages::make_patch(1, images[images.size() - 2], images.back()));
    }
    base::Bytes base = images[0];
    for (std::size_t sector = 0; sector < 8; ++sector) {  // each sector from some moment
      const base::Bytes& from = images[random() % images.size()];
      std::copy_n(from.begin() + static_cast<std::ptrdiff_t>(sector * 512), 512,
                  base.begin() + static_cast<std::ptrdiff_t>(sector * 512));
    }
    for (const pages::Patch& patch : patches) ASSERT_TRUE(pages::apply_patch(patch, base));
    ASSERT_EQ(base, images.back());
  }
}

TEST(Patch, NothingChanged_IsEmptyRuns) {
  std::mt19937_64 random(3);
  const base::Bytes page = random_page(random, 4096);
  const pages::Patch patch = pages::make_patch(1, page, page);
  EXPECT_EQ(patch.kind, PatchKind::kRuns);
  EXPECT_TRUE(patch.body.empty());
}

TEST(Patch, WholePageChanged_IsFull) {
  std::mt19937_64 random(4);
  const base::Bytes before = random_page(random, 4096);
  base::Bytes after = before;
  for (std::byte& byte : after) byte ^= std::byte{1};
  const pages::Patch patch = pages::make_patch(1, before, after);
  EXPECT_EQ(patch.kind, PatchKind::kFull);
  EXPECT_EQ(patch.body, after);
}

TEST(Patch, NewPage_IsZerosPlusRunsOrFull) {
  base::Bytes after(4096);
  after[100] = std::byte{7};
  pages::Patch patch = pages::make_patch(5, {}, after);
  EXPECT_EQ(patch.kind, PatchKind::kZeros);
  EXPECT_EQ(patch.body.size(), 3u);
  base::Bytes image(4096, std::byte{0xee});
  ASSERT_TRUE(pages::apply_patch(patch, image));
  EXPECT_EQ(image, after);
  patch = pages::make_patch(5, {}, base::Bytes(4096));
  EXPECT_EQ(patch.kind, PatchKind::kZeros);
  EXPECT_TRUE(patch.body.empty());
  std::mt19937_64 random(5);
  EXPECT_EQ(pages::make_patch(5, {}, random_page(random, 4096)).kind, PatchKind::kFull);
}

TEST(Patch, NearbyRuns_AreJoined) {
  const base::Bytes before(4096);
  const auto body_size = [&](std::vector<std::size_t> places) {
    base::Bytes after = before;
    for (const std::size_t place : places) after[place] = std::byte{1};
    return pages::make_patch(1, before, after).body.size();
  };
  EXPECT_EQ(body_size({10}), 3u);
  EXPECT_EQ(body_size({10, 11}), 4u);
  EXPECT_EQ(body_size({10, 12}), 5u);   // one run of 3
  EXPECT_EQ(body_size({10, 13}), 6u);   // one run of 4
  EXPECT_EQ(body_size({10, 14}), 6u);   // two runs
  EXPECT_EQ(body_size({0, 4095}), 7u);  // the gap takes two bytes
}

}  // namespace
}  // namespace pages_test

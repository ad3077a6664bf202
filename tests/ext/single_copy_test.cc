// The process-wide token (ext/single_copy.h) from the point of view of a program that has the code linked in. Two copies in one process:
// tests/ext/loader.py.
#include "ext/single_copy.h"

#include <gtest/gtest.h>

namespace ext {
namespace {

TEST(SingleCopy, ClaimedTwiceBySameCopy_Ok) {
  EXPECT_TRUE(claim_process());
  EXPECT_TRUE(claim_process());
  release_process();
  EXPECT_TRUE(claim_process());
  release_process();
}

}  // namespace
}  // namespace ext

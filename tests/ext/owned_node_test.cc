// A real embedded node (ext/owned_node.h) in a directory of its own.
#include "ext/owned_node.h"

#include <gtest/gtest.h>

#include <new>

#include "base/posix_env.h"
#include "tests/base/temp_dir.h"

namespace ext {
namespace {

// Copying a large request may run out of memory in the middle of use(): the stop then still ends, and the node can be started again.
TEST(OwnedNode, WorkThatThrows_StopReturns) {
  const testing_base::TempDir dir;
  node::Config config;
  config.data_dir = dir / "data";
  for (int round = 0; round < 2; ++round) {
    auto started = OwnedNode::start(config);
    ASSERT_TRUE(started) << started.error().message;
    OwnedNode& owned = **started;
    EXPECT_THROW(owned.use([](node::Node&) { throw std::bad_alloc(); }),  // tidy: allow(throw) what a copy does
                 std::bad_alloc);
    EXPECT_TRUE(owned.use([](node::Node&) {}));
    owned.stop(base::posix_env().now() + base::kSecond);
    EXPECT_FALSE(owned.use([](node::Node&) {}));
  }
}

}  // namespace
}  // namespace ext

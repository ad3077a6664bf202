// Sessions between transports of one process: up, down, frames, limits, reconnects, refusals.
#include "net/tcp_transport.h"

#include <gtest/gtest.h>

#include "tests/net/harness.h"

namespace net_test {
namespace {

using base::Channel;
using base::Code;

base::Bytes pattern(std::size_t size, unsigned seed) {
  base::Bytes bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>((i * 31 + seed + (i >> 8)) & 0xFF);
  return bytes;
}

TEST(TcpTransport, TwoNodes_ComeUpWithIdentityAndHello) {
  Node one({.id = 1});
  Node two({.id = 2, .boot_nonce = 77});
  join(one, two);
  ASSERT_TRUE(one.recorder.wait_events(1));
  ASSERT_TRUE(two.recorder.wait_events(1));
  const base::PeerInfo peer = one.recorder.ups().at(0);
  EXPECT_EQ(peer.id, base::NodeId(2));
  EXPECT_EQ(peer.incarnation, base::Incarnation(2000));
  EXPECT_EQ(peer.boot_nonce, 77u);
  EXPECT_EQ(base::text_of(peer.hello), "hello of 2");
  EXPECT_EQ(base::text_of(two.recorder.ups().at(0).hello), "hello of 1");
  EXPECT_TRUE(on_lane(one.lane(), [&] { return one.transport().is_up(base::NodeId(2)); }));
}

class Frames : public testing::TestWithParam<std::string> {};

TEST_P(Frames, BothWaysBothChannels_ArriveInOrder) {
  Node one({.id = 1, .secret = GetParam()});
  Node two({.id = 2, .secret = GetParam()});
  join(one, two);
  ASSERT_TRUE(one.recorder.wait_events(1));
  ASSERT_TRUE(two.recorder.wait_events(1));
  constexpr int kCount = 500;
  const auto send_all = [](Node& from, std::uint64_t to) {
    on_lane(from.lane(), [&] {
      for (int i = 0; i < kCount; ++i) {
        const std::string text = std::to_string(i) + std::string(static_cast<std::size_t>(i % 300), 'x');
        const Channel channel = i % 2 == 0 ? Channel::kControl : Channel::kData;
        EXPECT_TRUE(from.transport().send(base::NodeId(to), channel, base::share(base::copy_of(base::view_of(text)))));
      }
    });
  };
  send_all(one, 2);
  send_all(two, 1);
  for (Node* node : {&one, &two}) {
    ASSERT_TRUE(node->recorder.wait_frames(kCount));
    int next[2] = {0, 1};
    for (const Frame& frame : node->recorder.frames()) {
      int& expected = next[frame.channel == Channel::kControl ? 0 : 1];
      EXPECT_EQ(std::atoi(std::string(base::text_of(frame.bytes)).c_str()), expected);
      expected += 2;
    }
    EXPECT_EQ(next[0], kCount);
    EXPECT_EQ(next[1], kCount + 1);
  }
}

TEST_P(Frames, TwentyMebibytesAndEmpty_ArriveWhole) {
  Node one({.id = 1, .secret = GetParam()});
  Node two({.id = 2, .secret = GetParam()});
  join(one, two);
  ASSERT_TRUE(one.recorder.wait_events(1));
  const base::SharedBytes large = base::share(pattern(std::size_t{20} << 20, 7));
  EXPECT_TRUE(one.send_bytes(2, Channel::kData, large));
  EXPECT_TRUE(one.send(2, Channel::kData, ""));
  EXPECT_TRUE(one.send(2, Channel::kData, "after"));
  ASSERT_TRUE(two.recorder.wait_frames(3));
  const auto frames = two.recorder.frames();
  EXPECT_TRUE(frames[0].bytes == *large);
  EXPECT_TRUE(frames[1].bytes.empty());
  EXPECT_EQ(base::text_of(frames[2].bytes), "after");
}

INSTANTIATE_TEST_SUITE_P(WithAndWithoutSecret, Frames, testing::Values(std::string(kSecret), std::string()),
                         [](const auto& each) { return each.param.empty() ? "Crc" : "Mac"; });

}  // namespace
}  // namespace net_test

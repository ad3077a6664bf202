// Sessions between transports of one process: up, down, frames, limits, reconnects, refusals.
#include "net/tcp_transport.h"

#include <gtest/gtest.h>

#include "tests/net/harness.h"
#include "tests/net/proxy.h"

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

TEST(TcpTransport, SendInsideOnUp_Arrives) {
  Node one({.id = 1});
  Node two({.id = 2});
  const auto greet = [](Node& node) {
    node.recorder.decide = [&node](const base::PeerInfo& peer) {
      return node.transport().send(peer.id, Channel::kControl, base::share(base::copy_of(base::view_of("first"))));
    };
  };
  greet(one);
  greet(two);
  join(one, two);
  for (Node* node : {&one, &two}) {
    ASSERT_TRUE(node->recorder.wait_frames(1));
    EXPECT_EQ(base::text_of(node->recorder.frames().at(0).bytes), "first");
  }
}

TEST(TcpTransport, FrameOverItsLimit_IsRefusedAtTheSender) {
  Node one({.id = 1});
  Node two({.id = 2});
  join(one, two);
  ASSERT_TRUE(one.recorder.wait_events(1));
  EXPECT_FALSE(one.send_bytes(2, Channel::kControl, base::share(base::Bytes(base::kControlFrameMax + 1))));
  EXPECT_FALSE(one.send_bytes(2, Channel::kData, base::share(base::Bytes(base::kDataFrameMax + 1))));
  EXPECT_TRUE(one.recorder.wait_error(Code::kTooLarge, "limit"));
  EXPECT_TRUE(one.send_bytes(2, Channel::kControl, base::share(base::Bytes(base::kControlFrameMax))));
  EXPECT_TRUE(two.recorder.wait_frames(1));
  EXPECT_FALSE(one.send(3, Channel::kControl, "nobody"));
}

// The receiver stands still: the queues fill, refuse, and lose nothing of what they took.
TEST(TcpTransport, FullQueue_RefusesAndDropsNothingTaken) {
  Node one({.id = 1});
  Node two({.id = 2});
  std::size_t received[2] = {0, 0};  // the lane of `two`
  two.recorder.on_bytes = [&](base::NodeId, Channel channel, base::ByteView) {
    ++received[channel == Channel::kControl ? 0 : 1];
  };
  join(one, two);
  ASSERT_TRUE(one.recorder.wait_events(1));
  ASSERT_TRUE(two.recorder.wait_events(1));
  std::promise<void> go_on;
  two.lane().post([&] { go_on.get_future().wait(); });
  std::size_t taken[2] = {0, 0};
  const auto fill = [&](Channel channel, std::size_t size, std::size_t& count) {
    const base::SharedBytes frame = base::share(base::Bytes(size));
    while (one.send_bytes(2, channel, frame)) {
      ASSERT_LT(++count, 5000u);
    }
  };
  fill(Channel::kControl, 32 << 10, taken[0]);
  fill(Channel::kData, 4 << 20, taken[1]);
  EXPECT_GE(taken[0], (std::size_t{1} << 20) / (32 << 10) - 1);
  EXPECT_GE(taken[1], (std::size_t{64} << 20) / (4 << 20) - 1);
  go_on.set_value();
  ASSERT_TRUE(two.recorder.wait_frames(taken[0] + taken[1]));
  on_lane(two.lane(), [&] {
    EXPECT_EQ(received[0], taken[0]);
    EXPECT_EQ(received[1], taken[1]);
  });
  EXPECT_TRUE(one.send(2, Channel::kControl, "room again"));
}

// A heartbeat sent after a large frame overtakes it.
TEST(TcpTransport, ControlFrame_DoesNotQueueBehindData) {
  Node one({.id = 1});
  Node two({.id = 2});
  join(one, two);
  ASSERT_TRUE(one.recorder.wait_events(1));
  on_lane(one.lane(), [&] {
    one.transport().send(base::NodeId(2), Channel::kData, base::share(base::Bytes(std::size_t{40} << 20)));
    one.transport().send(base::NodeId(2), Channel::kControl, base::share(base::Bytes(10)));
  });
  ASSERT_TRUE(two.recorder.wait_frames(2));
  EXPECT_EQ(two.recorder.frames().at(0).channel, Channel::kControl);
}

TEST(TcpTransport, PeerThatRestarts_GoesDownAndComesUpAsAnotherBoot) {
  for (const std::uint64_t restarted : {1u, 2u}) {
    auto one = std::make_unique<Node>(NodeSpec{.id = 1});
    auto two = std::make_unique<Node>(NodeSpec{.id = 2});
    join(*one, *two);
    ASSERT_TRUE(one->recorder.wait_events(1));
    ASSERT_TRUE(two->recorder.wait_events(1));
    std::unique_ptr<Node>& goes = restarted == 1 ? one : two;
    Node& stays = restarted == 1 ? *two : *one;
    const std::string address = goes->transport().address();
    goes.reset();
    ASSERT_TRUE(stays.recorder.wait_events(2));
    EXPECT_FALSE(stays.send(restarted, Channel::kData, "nobody"));
    goes = std::make_unique<Node>(NodeSpec{.id = restarted, .listen = address});
    goes->start();
    goes->set_peers({stays.as_peer()});
    ASSERT_TRUE(stays.recorder.wait_events(3));
    ASSERT_TRUE(goes->recorder.wait_events(1));
    const std::string name = std::to_string(restarted);
    EXPECT_EQ(stays.recorder.events(), (std::vector<std::string>{"up " + name, "down " + name, "up " + name}));
    const auto ups = stays.recorder.ups();
    EXPECT_NE(ups[0].boot_nonce, ups[1].boot_nonce);
    EXPECT_TRUE(goes->send(restarted == 1 ? 2 : 1, Channel::kData, "back"));
    EXPECT_TRUE(stays.recorder.wait_frames(1));
  }
}

TEST(TcpTransport, Disconnect_OfEitherSideEndsBothAndComesBack) {
  Node one({.id = 1});
  Node two({.id = 2});
  join(one, two);
  ASSERT_TRUE(one.recorder.wait_events(1));
  ASSERT_TRUE(two.recorder.wait_events(1));
  on_lane(one.lane(), [&] {
    one.transport().disconnect(base::NodeId(2));
    EXPECT_EQ(one.recorder.events().size(), 1u);  // never inside the call
  });
  ASSERT_TRUE(one.recorder.wait_events(3));
  ASSERT_TRUE(two.recorder.wait_events(3));
  on_lane(two.lane(), [&] { two.transport().disconnect(base::NodeId(1)); });
  ASSERT_TRUE(one.recorder.wait_events(5));
  ASSERT_TRUE(two.recorder.wait_events(5));
  EXPECT_EQ(one.recorder.events(), (std::vector<std::string>{"up 2", "down 2", "up 2", "down 2", "up 2"}));
  EXPECT_EQ(two.recorder.events(), (std::vector<std::string>{"up 1", "down 1", "up 1", "down 1", "up 1"}));
}

TEST(TcpTransport, SetPeers_RemovesAndAddsAgain) {
  Node one({.id = 1});
  Node two({.id = 2});
  Node three({.id = 3});
  for (Node* node : {&one, &two, &three}) node->start();
  one.set_peers({two.as_peer(), three.as_peer()});
  two.set_peers({one.as_peer(), three.as_peer()});
  three.set_peers({one.as_peer(), two.as_peer()});
  for (Node* node : {&one, &two, &three}) ASSERT_TRUE(node->recorder.wait_events(2));
  one.set_peers({three.as_peer()});
  ASSERT_TRUE(one.recorder.wait_event("down 2"));
  ASSERT_TRUE(two.recorder.wait_event("down 1"));
  EXPECT_FALSE(one.send(2, Channel::kControl, "gone"));
  EXPECT_TRUE(one.send(3, Channel::kControl, "here"));
  one.set_peers({two.as_peer(), three.as_peer()});
  ASSERT_TRUE(one.recorder.wait_event("up 2", 2));
  const auto events = one.recorder.events();
  EXPECT_EQ(std::count(events.begin(), events.end(), "down 3"), 0);
}

TEST(TcpTransport, UnknownPeer_IsRefusedAndBothSay) {
  Node one({.id = 1});
  Node two({.id = 2});
  one.start();
  two.start();
  one.set_peers({two.as_peer()});
  EXPECT_TRUE(one.recorder.wait_error(Code::kRefused, "node 1 is not a member"));
  EXPECT_TRUE(two.recorder.wait_error(Code::kRefused, "node 1 is not a member"));
  two.set_peers({one.as_peer()});  // now it is
  EXPECT_TRUE(one.recorder.wait_events(1));
}

TEST(TcpTransport, WrongSecret_IsRefusedAndBothSayItOnce) {
  Node one({.id = 1});
  Node two({.id = 2, .secret = "another secret of enough length"});
  join(one, two);
  EXPECT_TRUE(one.recorder.wait_error(Code::kAuth, "`secret_raft` of the nodes"));
  EXPECT_TRUE(two.recorder.wait_error(Code::kAuth, "`secret_raft` of the nodes"));
  EXPECT_EQ(one.transport().last_error()->code, Code::kAuth);
  // Several more attempts later there is still one report on each side.
  std::promise<void> later;
  one.lane().post_at(now() + 400 * base::kMillisecond, [&] { later.set_value(); });
  later.get_future().get();
  EXPECT_EQ(one.recorder.errors().size(), 1u);
  EXPECT_EQ(two.recorder.errors().size(), 1u);
  EXPECT_TRUE(one.recorder.events().empty());
  EXPECT_TRUE(two.recorder.events().empty());
}

TEST(TcpTransport, SecretOnOneSideOnly_IsRefusedByName) {
  Node one({.id = 1, .secret = ""});
  Node two({.id = 2});
  join(one, two);
  EXPECT_TRUE(one.recorder.wait_error(Code::kAuth, "only one of the nodes"));
  EXPECT_TRUE(two.recorder.wait_error(Code::kAuth, "only one of the nodes"));
  EXPECT_TRUE(two.recorder.events().empty());
}

TEST(TcpTransport, OtherVersionClusterOrNode_IsRefusedByName) {
  Node one({.id = 1});
  Node newer({.id = 2, .version = net::kWireVersion + 1});
  Node elsewhere({.id = 3, .cluster_tag = "other"});
  Node five({.id = 5});
  for (Node* node : {&one, &newer, &elsewhere, &five}) node->start();
  newer.set_peers({one.as_peer()});
  elsewhere.set_peers({one.as_peer()});
  one.set_peers({newer.as_peer(), elsewhere.as_peer(), {base::NodeId(4), five.transport().address()}});
  EXPECT_TRUE(one.recorder.wait_error(Code::kProtocol, "wire version 2"));
  EXPECT_TRUE(newer.recorder.wait_error(Code::kProtocol, "wire version 2"));
  EXPECT_TRUE(one.recorder.wait_error(Code::kRefused, "another cluster"));
  EXPECT_TRUE(elsewhere.recorder.wait_error(Code::kRefused, "another cluster"));
  EXPECT_TRUE(one.recorder.wait_error(Code::kRefused, "node 4 was expected"));
  EXPECT_TRUE(one.recorder.events().empty());
}

TEST(TcpTransport, HandlerThatRefuses_KeepsThePeerDown) {
  Node one({.id = 1});
  Node two({.id = 2});
  bool willing = false;  // the lane of `two`
  two.recorder.decide = [&](const base::PeerInfo&) { return std::exchange(willing, true); };
  join(one, two);
  ASSERT_TRUE(one.recorder.wait_error(Code::kRefused, "the test refuses node 1"));
  ASSERT_TRUE(two.recorder.wait_events(2));  // asked again after the back-off, and willing
  ASSERT_TRUE(one.recorder.wait_events(1));
  EXPECT_EQ(one.recorder.events(), (std::vector<std::string>{"up 2"}));
  EXPECT_EQ(two.recorder.events(), (std::vector<std::string>{"up 1", "up 1"}));
}

// The code is the same, the thing to mend is another. Each is told once, however often the peer comes again.
TEST(TcpTransport, RefusalForAnotherReason_IsReportedToo) {
  Node one({1});
  Node two({2});
  std::atomic<int> reason{1};
  two.recorder.decide = [](const base::PeerInfo&) { return false; };
  two.recorder.reason = [&] { return "reason " + std::to_string(reason.load()); };
  join(one, two);
  for (const int next : {1, 2, 3}) {
    reason = next;
    const std::string text = "reason " + std::to_string(next);
    ASSERT_TRUE(two.recorder.wait_error(Code::kRefused, text)) << "the one that refuses";
    ASSERT_TRUE(one.recorder.wait_error(Code::kRefused, text)) << "the one that is refused";
  }
  const std::size_t tries = two.recorder.events().size();
  ASSERT_TRUE(two.recorder.wait_event("up 1", tries + 2)) << "it tries on";
  for (Node* const node : {&one, &two}) {
    std::vector<std::string> told;
    for (const base::Error& error : node->recorder.errors()) told.push_back(error.message);
    for (const int each : {1, 2, 3})
      EXPECT_EQ(
          std::count_if(told.begin(), told.end(),
                        [&](const auto& text) { return text.find("reason " + std::to_string(each)) != text.npos; }),
          1);
  }
}

TEST(TcpTransport, SameIdTwice_TheNewerIsRefusedWhileTheOlderLives) {
  auto one = std::make_unique<Node>(NodeSpec{.id = 1});
  Node two({.id = 2});
  join(*one, two);
  ASSERT_TRUE(one->recorder.wait_events(1));  // the last of the two to be up
  ASSERT_TRUE(two.recorder.wait_events(1));
  Node twin({.id = 1});
  twin.start();
  twin.set_peers({two.as_peer()});
  ASSERT_TRUE(twin.recorder.wait_error(Code::kRefused, "another live process is node 1"));
  EXPECT_TRUE(two.recorder.wait_error(Code::kRefused, "another live process is node 1"));
  EXPECT_TRUE(one->send(2, Channel::kData, "still me"));
  ASSERT_TRUE(two.recorder.wait_frames(1));
  EXPECT_EQ(two.recorder.events().size(), 1u);
  one.reset();
  ASSERT_TRUE(two.recorder.wait_events(3));
  EXPECT_EQ(two.recorder.events(), (std::vector<std::string>{"up 1", "down 1", "up 1"}));
  EXPECT_TRUE(twin.recorder.wait_events(1));
}

// The older process is gone without a word (its bytes end in a proxy that swallows them): the newer gets its place.
TEST(TcpTransport, SameIdTwice_ASilentOlderGivesWay) {
  Node one({.id = 1});
  Node two({.id = 2});
  std::atomic<bool> swallow{false};
  Proxy proxy(two.transport().address(), [&](Proxy::Direction, int, std::size_t, base::Bytes& bytes) {
    if (swallow) bytes.clear();
    return true;
  });
  one.start();
  two.start();
  two.set_peers({one.as_peer()});
  one.set_peers({two.as_peer_at(proxy.address())});
  ASSERT_TRUE(two.recorder.wait_events(1));
  swallow = true;
  Node reborn({.id = 1});
  reborn.start();
  reborn.set_peers({two.as_peer()});
  ASSERT_TRUE(two.recorder.wait_events(3));
  EXPECT_EQ(two.recorder.events(), (std::vector<std::string>{"up 1", "down 1", "up 1"}));
  EXPECT_TRUE(reborn.recorder.wait_events(1));
  EXPECT_NE(two.recorder.ups()[0].boot_nonce, two.recorder.ups()[1].boot_nonce);
}

// Two nodes whose connections pass through a proxy: node 1 dials node 2.
void join_through(Node& one, Node& two, const Proxy& proxy) {
  one.start();
  two.start();
  two.set_peers({one.as_peer()});
  one.set_peers({two.as_peer_at(proxy.address())});
  ASSERT_TRUE(one.recorder.wait_events(1));
  ASSERT_TRUE(two.recorder.wait_events(1));
}

// The link needs twice the dead time for one frame, and nothing comes back on its connection: the peer sees bytes and asks nothing, and
// what it would answer to waits behind the frame.
TEST(TcpTransport, FrameThatTakesLongerThanTheDeadTime_Arrives) {
  constexpr base::Micros kDead = 2 * base::kSecond;
  constexpr std::size_t kSize = std::size_t{16} << 20;
  base::Mutex mutex;
  base::CondVar over;  // never told: a link has no end to wait for
  const auto slow = [&](Proxy::Direction direction, int, std::size_t offset, base::Bytes&) {
    if (direction == Proxy::Direction::kToClient) return true;
    static thread_local const base::Micros begun = now();  // a thread per connection and direction
    const base::Micros due = begun + static_cast<base::Micros>(static_cast<double>(offset) / kSize * 2 * kDead);
    const base::MutexLock lock(mutex);
    while (now() < due) over.wait_until(mutex, due);
    return true;
  };
  Node one({.id = 1, .dead_time = kDead});
  Node two({.id = 2, .dead_time = kDead});
  const Proxy proxy(two.transport().address(), slow, 64 << 10);
  join_through(one, two, proxy);
  const base::SharedBytes large = base::share(pattern(kSize, 3));
  ASSERT_TRUE(one.send_bytes(2, Channel::kData, large));
  ASSERT_TRUE(two.recorder.wait_frames(1));
  EXPECT_TRUE(two.recorder.frames()[0].bytes == *large);
  EXPECT_EQ(one.recorder.events(), std::vector<std::string>{"up 2"});
  EXPECT_EQ(two.recorder.events(), std::vector<std::string>{"up 1"});
}

// Its kernel, or the one in between, takes what is sent; it says nothing. Sending proves nothing about a peer.
TEST(TcpTransport, PeerThatOnlyTakesBytes_IsGoneAfterTheDeadTime) {
  std::atomic<bool> swallow{false};
  Node one({.id = 1, .dead_time = base::kSecond});
  Node two({.id = 2});
  const Proxy proxy(two.transport().address(), [&](Proxy::Direction, int, std::size_t, base::Bytes& bytes) {
    if (swallow) bytes.clear();
    return true;
  });
  join_through(one, two, proxy);
  swallow = true;
  const std::function<void()> beat = [&] {
    if (!one.transport().is_up(base::NodeId(2))) return;
    for (const Channel channel : {Channel::kControl, Channel::kData})
      one.transport().send(base::NodeId(2), channel, base::share(base::Bytes(100)));
    one.lane().post_at(now() + 20 * base::kMillisecond, beat);
  };
  one.lane().post(beat);
  EXPECT_TRUE(one.recorder.wait_event("down 2"));
  EXPECT_TRUE(one.recorder.wait_error(Code::kIo, "does not answer"));
}

// The buffers are full and stay so.
TEST(TcpTransport, PeerThatTakesNoByteOfAFrame_IsGoneAfterTheDeadTime) {
  std::promise<void> end;
  const std::shared_future<void> ended = end.get_future().share();
  std::atomic<bool> hold{false};
  Node one({.id = 1, .dead_time = base::kSecond});
  Node two({.id = 2});
  const Proxy proxy(
      two.transport().address(),
      [&](Proxy::Direction, int, std::size_t, base::Bytes&) {
        if (hold) ended.wait();
        return true;
      },
      64 << 10);
  join_through(one, two, proxy);
  hold = true;
  EXPECT_TRUE(one.send_bytes(2, Channel::kData, base::share(base::Bytes(std::size_t{32} << 20))));
  EXPECT_TRUE(one.recorder.wait_event("down 2"));
  EXPECT_TRUE(one.recorder.wait_error(Code::kIo, "does not answer"));
  hold = false;
  end.set_value();
}

TEST(TcpTransport, HostNames_AreLookedUp) {
  Node one({.id = 1, .secret = ""});
  Node two({.id = 2, .secret = "", .listen = "localhost:0"});
  const std::string address = two.transport().address();
  EXPECT_TRUE(address.starts_with("localhost:")) << address;
  join(one, two);
  EXPECT_TRUE(one.recorder.wait_events(1));
}

TEST(TcpTransport, WithoutSecret_OnlyLoopback) {
  auto lane = net::LoopLane::start("net-test");
  ASSERT_TRUE(lane);
  net::TransportOptions options;
  options.self = {base::NodeId(1), base::Incarnation(1)};
  options.listen = "0.0.0.0:0";
  auto open = net::TcpTransport::listen(**lane, options);
  ASSERT_FALSE(open);
  EXPECT_EQ(open.error().code, Code::kConfig);
  EXPECT_NE(open.error().message.find("secret_raft"), std::string::npos);
  options.secret_raft = "short";
  auto weak = net::TcpTransport::listen(**lane, options);
  ASSERT_FALSE(weak);
  EXPECT_EQ(weak.error().code, Code::kConfig);
  EXPECT_NE(weak.error().message.find("secret_raft: 5 characters are too few"), std::string::npos)
      << weak.error().message;
  options.secret_raft = kSecret;
  EXPECT_TRUE(net::TcpTransport::listen(**lane, options));
  options.listen = "nonsense";
  auto nonsense = net::TcpTransport::listen(**lane, options);
  ASSERT_FALSE(nonsense);
  EXPECT_EQ(nonsense.error().code, Code::kConfig);

  Node one({.id = 1, .secret = ""});
  one.start();
  one.set_peers({{base::NodeId(2), "192.0.2.1:80"}});
  EXPECT_TRUE(one.recorder.wait_error(Code::kConfig, "without `secret_raft` only loopback"));
}

TEST(TcpTransport, PortInUse_NamesAddressAndKey) {
  Node one({.id = 1});
  net::TransportOptions options;
  options.self = {base::NodeId(2), base::Incarnation(2)};
  options.secret_raft = kSecret;
  options.listen = one.transport().address();
  auto second = net::TcpTransport::listen(one.lane(), options);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, Code::kAddress);
  EXPECT_NE(second.error().message.find(options.listen), std::string::npos);
  EXPECT_NE(second.error().message.find("listen_addr_raft"), std::string::npos);
}

TEST(TcpTransport, StopInsideACallback_IsClean) {
  Node one({.id = 1});
  Node two({.id = 2});
  one.recorder.on_bytes = [&](base::NodeId, Channel, base::ByteView) { one.transport().stop(); };
  join(one, two);
  ASSERT_TRUE(two.recorder.wait_events(1));
  on_lane(two.lane(), [&] {
    for (int i = 0; i < 50; ++i) two.transport().send(base::NodeId(1), Channel::kData, base::share(base::Bytes(100)));
  });
  ASSERT_TRUE(two.recorder.wait_event("down 1"));
  on_lane(one.lane(), [] {});  // the callback that stopped it has returned, and is recorded
  EXPECT_EQ(one.recorder.frames().size(), 1u);
}

}  // namespace
}  // namespace net_test

// Hostile bytes against real sockets: garbage and truncation at every stage, an echo server, replays, a proxy that
// flips bits.
#include <gtest/gtest.h>

#include <filesystem>

#include "base/random.h"
#include "net/wire.h"
#include "tests/net/harness.h"
#include "tests/net/proxy.h"

namespace net_test {
namespace {

using base::Channel;
using base::Code;

// After whatever was done to `two`, an honest peer still gets through.
void expect_alive(Node& two) {
  Node one({.id = 1});
  one.start();
  one.set_peers({two.as_peer()});
  two.set_peers({one.as_peer()});
  EXPECT_TRUE(one.recorder.wait_events(1));
  EXPECT_TRUE(one.send(2, Channel::kData, "alive"));
  EXPECT_TRUE(two.recorder.wait_frames(1));
}

// What node 1 would begin with, said by somebody who knows no secret.
net::Greeting greeting_of_one(std::uint16_t version = net::kWireVersion) {
  return {version,
          net::Mode::kMac,
          Channel::kControl,
          base::NodeId(1),
          base::NodeId(2),
          base::Incarnation(1),
          2,
          3,
          *net::sha256(base::view_of("cluster")),
          {}};
}

TEST(Attack, GarbageToTheListener_EndsThatConnectionOnly) {
  Node two({.id = 2});
  two.start();
  two.set_peers({{base::NodeId(1), "127.0.0.1:1"}});
  const std::uint64_t seed = 0xA77AC4;
  SCOPED_TRACE("seed " + std::to_string(seed));
  base::Random random(seed);
  for (int round = 0; round < 60; ++round) {
    base::Bytes bytes(1 + random.below(2000));
    for (std::byte& each : bytes) each = static_cast<std::byte>(random.next());
    if (random.chance(1, 2) && bytes.size() > net::kFrameHeaderSize) {  // a header that is nearly right
      const auto kind = static_cast<net::FrameKind>(1 + random.below(20));
      const auto header = net::encode_header({static_cast<std::uint32_t>(random.below(600)), kind, Channel::kControl});
      std::copy(header.begin(), header.end(), bytes.begin());
    }
    RawClient client(two.transport().address());
    client.write(bytes);
    client.finish_writing();
    EXPECT_TRUE(client.read_to_end()) << "round " << round;
  }
  RawClient http(two.transport().address());
  http.write(base::view_of("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
  EXPECT_TRUE(http.read_to_end());
  expect_alive(two);
}

// A greeting cut off at every length, then silence, then the end.
TEST(Attack, TruncatedHandshake_EndsAtEveryLength) {
  Node two({.id = 2});
  two.start();
  two.set_peers({{base::NodeId(1), "127.0.0.1:1"}});
  net::Greeting greeting = greeting_of_one();
  const base::Bytes start = net::bare_frame(net::FrameKind::kStart, Channel::kControl, net::encode(greeting));
  for (std::size_t size = 0; size <= start.size(); ++size) {
    RawClient client(two.transport().address());
    client.write(base::ByteView(start).first(size));
    if (size == start.size()) {
      const base::Bytes challenge = client.read(net::kFrameHeaderSize + net::kGreetingSize);
      EXPECT_EQ(challenge.size(), net::kFrameHeaderSize + net::kGreetingSize);
    }
    client.finish_writing();
    EXPECT_TRUE(client.read_to_end()) << size;
  }
  expect_alive(two);
}

// An attacker without the secret that answers the challenge with a guess is told so, and nothing else.
TEST(Attack, GuessedProof_IsRefused) {
  Node two({.id = 2});
  two.start();
  two.set_peers({{base::NodeId(1), "127.0.0.1:1"}});
  net::Greeting greeting = greeting_of_one();
  RawClient client(two.transport().address());
  client.write(net::bare_frame(net::FrameKind::kStart, Channel::kControl, net::encode(greeting)));
  client.read(net::kFrameHeaderSize + net::kGreetingSize);
  client.write(net::bare_frame(net::FrameKind::kProof, Channel::kControl, base::Bytes(net::kDigestSize)));
  const base::Bytes header = client.read(net::kFrameHeaderSize);
  ASSERT_EQ(header.size(), net::kFrameHeaderSize);
  EXPECT_EQ(header[4], static_cast<std::byte>(net::FrameKind::kRefuse));
  client.finish_writing();
  EXPECT_TRUE(client.read_to_end());
  EXPECT_TRUE(two.recorder.wait_error(Code::kAuth, "secret_raft"));
  EXPECT_TRUE(two.recorder.events().empty());
}

// Everything the dialler says comes back to it.
TEST(Attack, EchoServer_NeverPassesForAPeer) {
  std::atomic<int> connections{0};
  TestServer echo([&](int fd, int) {
    ++connections;
    char buffer[4096];
    for (ssize_t count; (count = ::recv(fd, buffer, sizeof buffer, 0)) > 0;) {
      if (::send(fd, buffer, static_cast<std::size_t>(count), MSG_NOSIGNAL) < 0) break;
    }
  });
  Node one({.id = 1});
  one.start();
  one.set_peers({{base::NodeId(2), echo.address()}});
  EXPECT_TRUE(one.recorder.wait_error(Code::kProtocol, "out of turn"));
  EXPECT_GE(connections, 1);
  EXPECT_TRUE(one.recorder.events().empty());
  one.stop();
}

// The dialler's bytes of a good session, sent again to the same node.
TEST(Attack, ReplayedSession_IsRefused) {
  Node two({.id = 2});
  two.start();
  base::Mutex mutex;
  std::map<int, base::Bytes> recorded;
  Proxy proxy(two.transport().address(),
              [&](Proxy::Direction direction, int connection, std::size_t, base::Bytes& bytes) {
                const base::MutexLock lock(mutex);
                if (direction == Proxy::Direction::kToTarget)
                  recorded[connection].insert(recorded[connection].end(), bytes.begin(), bytes.end());
                return true;
              });
  {
    Node one({.id = 1});
    one.start();
    two.set_peers({one.as_peer()});
    one.set_peers({two.as_peer_at(proxy.address())});
    ASSERT_TRUE(one.recorder.wait_events(1));
    EXPECT_TRUE(one.send(2, Channel::kData, "once"));
    ASSERT_TRUE(two.recorder.wait_frames(1));
  }
  ASSERT_TRUE(two.recorder.wait_event("down 1"));
  for (const auto& [number, bytes] : recorded) {
    RawClient client(two.transport().address());
    client.write(bytes);
    client.finish_writing();
    EXPECT_TRUE(client.read_to_end());
  }
  EXPECT_TRUE(two.recorder.wait_error(Code::kAuth, "secret_raft"));
  EXPECT_EQ(two.recorder.frames().size(), 1u);
  EXPECT_EQ(two.recorder.events(), (std::vector<std::string>{"up 1", "down 1"}));
}

struct FlipCase {
  std::string secret;
  Proxy::Direction direction;
};
class Flip : public testing::TestWithParam<FlipCase> {};

// One bit of the stream turned over, at places from the first header to the middle of application frames: the session
// breaks or never comes up, no frame that arrives is wrong, and the next session works.
TEST_P(Flip, OneBitAnywhere_NoWrongFrameIsDelivered) {
  const FlipCase& flip = GetParam();
  Node two({.id = 2, .secret = flip.secret});
  two.start();
  for (const std::size_t place :
       {0u, 4u, 6u, 9u, 20u, 100u, 127u, 128u, 133u, 140u, 165u, 170u, 180u, 195u, 230u, 260u, 300u}) {
    SCOPED_TRACE("byte " + std::to_string(place));
    std::atomic<bool> done{false};
    Proxy proxy(
        two.transport().address(), [&](Proxy::Direction direction, int, std::size_t offset, base::Bytes& bytes) {
          if (direction == flip.direction && place >= offset && place < offset + bytes.size() && !done.exchange(true)) {
            bytes[place - offset] ^= std::byte{0x10};
          }
          return true;
        });
    Node one({.id = 1, .secret = flip.secret});
    const std::string text(500, 'a');
    const auto answer_up = [&text](Node& node) {
      node.recorder.decide = [&](const base::PeerInfo& peer) {
        for (const Channel channel : {Channel::kControl, Channel::kData}) {
          node.transport().send(peer.id, channel, base::share(base::copy_of(base::view_of(text))));
        }
        return true;
      };
    };
    answer_up(one);
    answer_up(two);
    const std::size_t before = two.recorder.frames().size();
    one.start();
    two.set_peers({one.as_peer()});
    one.set_peers({two.as_peer_at(proxy.address())});
    // Both frames of one session have come through both ways, and the bit was turned over before.
    ASSERT_TRUE(one.recorder.wait_frames(2));
    ASSERT_TRUE(two.recorder.wait_frames(before + 2));
    EXPECT_TRUE(done);
    for (const Frame& frame : one.recorder.frames()) EXPECT_EQ(base::text_of(frame.bytes), text);
    for (const Frame& frame : two.recorder.frames()) EXPECT_EQ(base::text_of(frame.bytes), text);
    two.set_peers({});
  }
}
INSTANTIATE_TEST_SUITE_P(BothModesBothWays, Flip,
                         testing::Values(FlipCase{kSecret, Proxy::Direction::kToTarget},
                                         FlipCase{kSecret, Proxy::Direction::kToClient},
                                         FlipCase{"", Proxy::Direction::kToTarget},
                                         FlipCase{"", Proxy::Direction::kToClient}),
                         [](const auto& each) {
                           return std::string(each.param.secret.empty() ? "Crc" : "Mac") +
                                  (each.param.direction == Proxy::Direction::kToTarget ? "ToAcceptor" : "ToDialler");
                         });

// More greetings than the listener keeps: the oldest give way, an honest peer gets in.
TEST(Attack, ManySilentConnections_DoNotKeepAPeerOut) {
  Node two({.id = 2});
  two.start();
  std::list<RawClient> silent;
  for (int i = 0; i < 150; ++i) silent.emplace_back(two.transport().address());
  expect_alive(two);
}

// Refused, and they do not close their end: what waits for that does not take the descriptors of the process.
TEST(Attack, RefusedConnectionsThatStay_AreCutOff) {
  Node two({.id = 2});
  two.start();
  two.set_peers({{base::NodeId(1), "127.0.0.1:1"}});
  const net::Greeting stranger = greeting_of_one(net::kWireVersion + 9);
  const base::Bytes start = net::bare_frame(net::FrameKind::kStart, Channel::kControl, net::encode(stranger));
  std::list<RawClient> clients;
  for (int i = 0; i < 150; ++i) {
    clients.emplace_back(two.transport().address());
    clients.back().write(start);
    EXPECT_FALSE(clients.back().read(net::kFrameHeaderSize).empty()) << "it is told why";
  }
  const auto open_sockets = [] {
    std::size_t count = 0;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
      std::error_code gone;
      count += std::filesystem::read_symlink(entry.path(), gone).string().rfind("socket:", 0) == 0 ? 1 : 0;
    }
    return count;
  };
  EXPECT_LE(open_sockets(), 150u + 64u + 10u) << "150 ends of ours, 64 of theirs, the listener";
  expect_alive(two);
}

}  // namespace
}  // namespace net_test

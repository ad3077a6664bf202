// The handshake without sockets: agreement, and every way in which a stranger in the middle might bend it.
#include "net/handshake.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "net/wire.h"

namespace net {
namespace {

constexpr char kSecret[] = "0123456789abcdef";

Identity node(std::uint64_t id, const std::string& secret = kSecret) {
  return {base::NodeId(id), base::Incarnation(id * 100), id * 7, 1, secret};
}
Digest tag(unsigned char value = 1) {
  Digest out{};
  out[0] = static_cast<std::byte>(value);
  return out;
}

using Failure = std::optional<HandshakeFailure>;

// Gives one buffer of bare frames to a handshake, as a connection would.
Failure give(Handshake& to, base::ByteView bytes) {
  while (!bytes.empty()) {
    if (bytes.size() < kFrameHeaderSize)
      return HandshakeFailure{Refusal::kMalformed, "short", HandshakeFailure::Tell::kNobody};
    const auto header = decode_header(bytes, Stage::kBare);
    if (!header || bytes.size() < kFrameHeaderSize + header->size) {
      return HandshakeFailure{Refusal::kMalformed, "header", HandshakeFailure::Tell::kNobody};
    }
    if (auto failure = to.on_frame(*header, bytes.subspan(kFrameHeaderSize, header->size))) return failure;
    bytes = bytes.subspan(kFrameHeaderSize + header->size);
  }
  return {};
}

struct Pair {
  Handshake dialler;
  Handshake acceptor;
  explicit Pair(const Identity& one = node(1), const Identity& two = node(2))
      : dialler(Handshake::dial(one, tag(), two.id, base::Channel::kData, 5)),
        acceptor(Handshake::accept(two, tag())) {}
};

Refusal refusal_of(const Failure& failure) {
  EXPECT_TRUE(failure.has_value());
  return failure ? failure->refusal : Refusal::kInternal;
}

std::string seal_of(base::Result<FrameSeal> seal) {
  EXPECT_TRUE(seal);
  seal->begin({});
  seal->update(base::view_of("frame"));
  const auto tag = seal->finish();
  EXPECT_TRUE(tag);
  return std::string(base::text_of(tag->view()));
}

class Agreement : public testing::TestWithParam<std::string> {};

TEST_P(Agreement, Handshake_EndsWithTheSameKeysPerDirection) {
  Pair pair(node(1, GetParam()), node(2, GetParam()));
  ASSERT_FALSE(pair.dialler.begin());
  ASSERT_FALSE(give(pair.acceptor, pair.dialler.take_output()));
  ASSERT_FALSE(give(pair.dialler, pair.acceptor.take_output()));
  ASSERT_FALSE(pair.dialler.done());
  ASSERT_FALSE(give(pair.acceptor, pair.dialler.take_output()));
  ASSERT_TRUE(pair.acceptor.done());
  ASSERT_FALSE(give(pair.dialler, pair.acceptor.take_output()));
  ASSERT_TRUE(pair.dialler.done());
  EXPECT_EQ(pair.dialler.peer().from, base::NodeId(2));
  EXPECT_EQ(pair.acceptor.peer().from, base::NodeId(1));
  EXPECT_EQ(pair.acceptor.peer().incarnation, base::Incarnation(100));
  EXPECT_EQ(pair.acceptor.peer().boot_nonce, 7u);
  EXPECT_EQ(pair.acceptor.session(), 5u);
  EXPECT_EQ(pair.acceptor.channel(), base::Channel::kData);
  const std::string there = seal_of(pair.dialler.make_send_seal());
  const std::string back = seal_of(pair.dialler.make_receive_seal());
  EXPECT_EQ(there, seal_of(pair.acceptor.make_receive_seal()));
  EXPECT_EQ(back, seal_of(pair.acceptor.make_send_seal()));
  EXPECT_EQ(there == back, GetParam().empty());
}
INSTANTIATE_TEST_SUITE_P(WithAndWithoutSecret, Agreement, testing::Values(std::string(kSecret), std::string()),
                         [](const auto& each) { return each.param.empty() ? "Crc" : "Mac"; });

TEST(Handshake, OtherSecret_IsRefusedByTheAcceptorBeforeItProvesAnything) {
  Pair pair(node(1), node(2, "fedcba9876543210"));
  ASSERT_FALSE(pair.dialler.begin());
  ASSERT_FALSE(give(pair.acceptor, pair.dialler.take_output()));
  ASSERT_FALSE(give(pair.dialler, pair.acceptor.take_output()));
  EXPECT_EQ(refusal_of(give(pair.acceptor, pair.dialler.take_output())), Refusal::kSecret);
  EXPECT_TRUE(pair.acceptor.take_output().empty());
}

// A dialler that gets its own messages back, as a challenge or as a proof.
TEST(Handshake, Reflection_IsRefused) {
  Pair pair;
  ASSERT_FALSE(pair.dialler.begin());
  const base::Bytes start = pair.dialler.take_output();
  EXPECT_EQ(refusal_of(give(pair.dialler, start)), Refusal::kMalformed);

  // The same greeting, dressed as a challenge.
  Pair dressed;
  ASSERT_FALSE(dressed.dialler.begin());
  base::Bytes mirrored = dressed.dialler.take_output();
  mirrored[4] = static_cast<std::byte>(FrameKind::kChallenge);
  EXPECT_EQ(refusal_of(give(dressed.dialler, mirrored)), Refusal::kWrongNode);

  // The proof sent back: the roles differ.
  Pair proof;
  ASSERT_FALSE(proof.dialler.begin());
  ASSERT_FALSE(give(proof.acceptor, proof.dialler.take_output()));
  ASSERT_FALSE(give(proof.dialler, proof.acceptor.take_output()));
  EXPECT_EQ(refusal_of(give(proof.dialler, proof.dialler.take_output())), Refusal::kSecret);
}

TEST(Handshake, ReplayedDialler_IsRefused) {
  Pair recorded;
  ASSERT_FALSE(recorded.dialler.begin());
  const base::Bytes start = recorded.dialler.take_output();
  ASSERT_FALSE(give(recorded.acceptor, start));
  ASSERT_FALSE(give(recorded.dialler, recorded.acceptor.take_output()));
  const base::Bytes proof = recorded.dialler.take_output();
  ASSERT_FALSE(give(recorded.acceptor, proof));

  Handshake again = Handshake::accept(node(2), tag());
  ASSERT_FALSE(give(again, start));
  EXPECT_EQ(refusal_of(give(again, proof)), Refusal::kSecret);
}

TEST(Handshake, ReplayedAcceptor_IsRefused) {
  Pair recorded;
  ASSERT_FALSE(recorded.dialler.begin());
  ASSERT_FALSE(give(recorded.acceptor, recorded.dialler.take_output()));
  const base::Bytes challenge = recorded.acceptor.take_output();
  ASSERT_FALSE(give(recorded.dialler, challenge));
  ASSERT_FALSE(give(recorded.acceptor, recorded.dialler.take_output()));
  const base::Bytes proof = recorded.acceptor.take_output();

  Pair other;
  ASSERT_FALSE(other.dialler.begin());
  ASSERT_FALSE(give(other.dialler, challenge));
  EXPECT_EQ(refusal_of(give(other.dialler, proof)), Refusal::kSecret);
}

// A man in the middle passes what node 1 says to node 2 on to node 3.
TEST(Handshake, RelayToAThirdNode_IsRefused) {
  Pair pair;
  ASSERT_FALSE(pair.dialler.begin());
  Handshake third = Handshake::accept(node(3), tag());
  EXPECT_EQ(refusal_of(give(third, pair.dialler.take_output())), Refusal::kWrongNode);
}

TEST(Handshake, OwnIdOrWrongDirection_IsRefused) {
  Handshake twin = Handshake::dial(node(2), tag(), base::NodeId(2), base::Channel::kData, 1);
  ASSERT_FALSE(twin.begin());
  Handshake acceptor = Handshake::accept(node(2), tag());
  EXPECT_EQ(refusal_of(give(acceptor, twin.take_output())), Refusal::kWrongNode);
  Handshake higher = Handshake::dial(node(3), tag(), base::NodeId(2), base::Channel::kData, 1);
  ASSERT_FALSE(higher.begin());
  Handshake lower = Handshake::accept(node(2), tag());
  EXPECT_EQ(refusal_of(give(lower, higher.take_output())), Refusal::kWrongNode);
}

TEST(Handshake, ModeVersionAndCluster_MustBeEqual) {
  const auto refused = [](const Identity& self, const Digest& cluster) {
    Handshake dialler = Handshake::dial(self, cluster, base::NodeId(2), base::Channel::kControl, 1);
    EXPECT_FALSE(dialler.begin());
    Handshake acceptor = Handshake::accept(node(2), tag());
    const auto failure = give(acceptor, dialler.take_output());
    if (failure) {
      EXPECT_EQ(failure->tell, HandshakeFailure::Tell::kPeer);
    }
    return refusal_of(failure);
  };
  EXPECT_EQ(refused(node(1, ""), tag()), Refusal::kMode);
  EXPECT_EQ(refused(node(1), tag(2)), Refusal::kClusterTag);
  Identity newer = node(1);
  newer.version = 2;
  EXPECT_EQ(refused(newer, tag()), Refusal::kVersion);
}

// Every bit of every message, turned over: one side at least refuses, and never do both end.
TEST(Handshake, AnyFlippedBit_NeverEndsOnBothSides) {
  std::size_t tried = 0;
  for (int message = 0; message < 4; ++message) {
    for (std::size_t bit = 0;; ++bit) {
      Pair pair;
      ASSERT_FALSE(pair.dialler.begin());
      bool failed = false;
      bool beyond = false;
      for (int step = 0; step < 4 && !failed; ++step) {
        Handshake& from = step % 2 == 0 ? pair.dialler : pair.acceptor;
        Handshake& to = step % 2 == 0 ? pair.acceptor : pair.dialler;
        base::Bytes bytes = from.take_output();
        if (step == message) {
          beyond = bit >= bytes.size() * 8;
          if (beyond) break;
          bytes[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
        }
        failed = give(to, bytes).has_value();
      }
      if (beyond) break;
      ++tried;
      EXPECT_TRUE(failed) << "message " << message << " bit " << bit;
      EXPECT_FALSE(pair.dialler.done() && pair.acceptor.done());
    }
  }
  EXPECT_GT(tried, 2500u);
}

TEST(Handshake, RefusalOfThePeer_EndsWithItsText) {
  Pair pair;
  ASSERT_FALSE(pair.dialler.begin());
  const base::Bytes refusal = encode(RefuseMessage{Refusal::kVersion, 9, "too \x01 old"});
  const auto failure = give(pair.dialler, bare_frame(FrameKind::kRefuse, base::Channel::kData, refusal));
  EXPECT_EQ(refusal_of(failure), Refusal::kVersion);
  EXPECT_EQ(failure->tell, HandshakeFailure::Tell::kNobody);
  EXPECT_NE(failure->text.find("too ? old (the peer speaks version 9)"), std::string::npos) << failure->text;
}

}  // namespace
}  // namespace net

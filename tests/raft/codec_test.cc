// Wire and disk formats of raft/: golden bytes, round trips, and hostile input (every truncation, every flipped bit, huge counts).
#include <gtest/gtest.h>

#include <string>

#include "base/random.h"
#include "cluster.h"

namespace raft_test {
namespace {

std::string hex(base::ByteView bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const std::byte each : bytes) {
    text += kDigits[std::to_integer<unsigned>(each) >> 4];
    text += kDigits[std::to_integer<unsigned>(each) & 15];
  }
  return text;
}

const Member kOne{base::NodeId(1), base::Incarnation(0x11)};
const Member kTwo{base::NodeId(2), base::Incarnation(0x22)};

raft::Configuration joint() {
  raft::Configuration configuration;
  configuration.voters = {{kOne, "a:1", "a:2"}};
  configuration.outgoing = {kOne, kTwo};
  configuration.learners = {{kTwo, "b:1", ""}};
  return configuration;
}

Entry entry(std::uint64_t term, std::uint64_t index, base::EntryKind kind, const std::string& text) {
  Entry made{{Term(term), Index(index)}, kind, nullptr};
  if (kind != base::EntryKind::kNoop) made.payload = base::share(base::copy_of(base::view_of(text)));
  return made;
}

std::vector<raft::Message> samples() {
  const LogId id{Term(3), Index(9)};
  std::vector<raft::Body> bodies = {
      raft::VoteRequest{id, true, false},
      raft::VoteRequest{id, false, true},
      raft::VoteReply{false, true, id},
      raft::AppendRequest{
          id, Index(8), 77, {entry(3, 10, base::EntryKind::kNoop, ""), entry(4, 11, base::EntryKind::kData, "xyz")}},
      raft::AppendReply{true, Index(9), id, 5, Index(10)},
      raft::Heartbeat{Index(7), 6, 1500, {{kOne, Index(1)}, {kTwo, Index(2)}}},
      raft::HeartbeatReply{6, Index(5), true},
      raft::ReadRequest{0xfedcba9876543210},
      raft::ReadReply{4, true, Index(3)},
      raft::TimeoutNow{},
      raft::SnapshotNeeded{id},
      raft::SnapshotReply{id, true}};
  std::vector<raft::Message> messages;
  for (raft::Body& body : bodies) messages.push_back({kOne, kTwo, Term(4), std::move(body)});
  return messages;
}

TEST(MessageCodec, EveryType_SurvivesTheRoundTrip) {
  for (const raft::Message& message : samples()) {
    const base::Bytes bytes = raft::encode(message);
    const auto decoded = raft::decode_message(bytes);
    ASSERT_TRUE(decoded) << describe(message);
    EXPECT_EQ(describe(*decoded), describe(message));
    EXPECT_EQ(raft::encode(*decoded), bytes);
  }
}

TEST(MessageCodec, Golden_BytesOfVersionOne) {
  EXPECT_EQ(hex(raft::encode(samples()[0])),
            "01010000"
            "0100000000000000"
            "1100000000000000"
            "0200000000000000"
            "2200000000000000"
            "0400000000000000"
            "01"
            "0300000000000000"
            "0900000000000000");
  EXPECT_EQ(hex(base::ByteView(raft::encode(samples()[3])).subspan(44)),
            "0300000000000000"
            "0900000000000000"
            "0800000000000000"
            "4d00000000000000"
            "02000000"
            "0300000000000000"
            "0a00000000000000"
            "01"
            "00"
            "0000"
            "00000000"
            "0400000000000000"
            "0b00000000000000"
            "03"
            "00"
            "0000"
            "03000000"
            "78797a");
}

TEST(MessageCodec, Truncated_IsCorrupt) {
  for (const raft::Message& message : samples()) {
    const base::Bytes bytes = raft::encode(message);
    for (std::size_t size = 0; size < bytes.size(); ++size) {
      const auto decoded = raft::decode_message(base::ByteView(bytes).first(size));
      ASSERT_FALSE(decoded) << describe(message) << " cut to " << size;
      EXPECT_EQ(decoded.error().code, base::Code::kCorrupt);
    }
    base::Bytes longer = bytes;
    longer.push_back(std::byte{0});
    EXPECT_FALSE(raft::decode_message(longer));
  }
}

TEST(MessageCodec, FlippedBits_DecodeToSomethingEqualOrAreRefused) {
  for (const raft::Message& message : samples()) {
    const base::Bytes bytes = raft::encode(message);
    for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
      base::Bytes flipped = bytes;
      flipped[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
      const auto decoded = raft::decode_message(flipped);
      if (!decoded) continue;
      EXPECT_EQ(raft::encode(*decoded), flipped);  // one message has one encoding
    }
  }
}

TEST(MessageCodec, HugeCounts_AreRefusedBeforeAllocating) {
  base::Bytes append = raft::encode(samples()[3]);
  base::store_u32(&append[44 + 32], 0xffffffff);
  EXPECT_FALSE(raft::decode_message(append));
  base::Bytes beat = raft::encode(samples()[5]);
  base::store_u32(&beat[44 + 24], 0xffffffff);
  EXPECT_FALSE(raft::decode_message(beat));
}

TEST(MessageCodec, Appends_TravelOnTheDataChannel) {
  for (const raft::Message& message : samples())
    EXPECT_EQ(raft::is_control(message), message.body.index() != 2 && message.body.index() != 3) << describe(message);
}

TEST(HardStateCodec, RoundTripAndGolden) {
  const raft::HardState state{Term(5), kTwo, Index(6)};
  const base::Bytes bytes = raft::encode(state);
  ASSERT_EQ(bytes.size(), 40u);
  EXPECT_EQ(hex(base::ByteView(bytes).first(4)), "52485331");
  EXPECT_EQ(hex(base::ByteView(bytes).subspan(8)),
            "0500000000000000"
            "0200000000000000"
            "2200000000000000"
            "0600000000000000");
  const auto decoded = raft::decode_hard_state(bytes);
  ASSERT_TRUE(decoded);
  EXPECT_EQ(*decoded, state);
}

TEST(HardStateCodec, AnyFlippedBitOrOtherSize_IsCorrupt) {
  const base::Bytes bytes = raft::encode(raft::HardState{Term(5), kTwo, Index(6)});
  for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    base::Bytes flipped = bytes;
    flipped[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
    EXPECT_FALSE(raft::decode_hard_state(flipped)) << bit;
  }
  for (std::size_t size = 0; size < bytes.size(); ++size)
    EXPECT_FALSE(raft::decode_hard_state(base::ByteView(bytes).first(size)));
}

TEST(ConfigurationCodec, RoundTripAndGolden) {
  const base::Bytes bytes = raft::encode(joint());
  EXPECT_EQ(hex(bytes),
            "01000000"
            "01000000"
            "0100000000000000"
            "1100000000000000"
            "03000000"
            "613a31"
            "03000000"
            "613a32"
            "02000000"
            "0100000000000000"
            "1100000000000000"
            "0200000000000000"
            "2200000000000000"
            "01000000"
            "0200000000000000"
            "2200000000000000"
            "03000000"
            "623a31"
            "00000000");
  const auto decoded = raft::decode_configuration(bytes);
  ASSERT_TRUE(decoded);
  EXPECT_EQ(*decoded, joint());
  EXPECT_EQ(decoded->all(), (std::vector<Member>{kOne, kTwo}));
  EXPECT_TRUE(decoded->is_voter(kTwo));
  EXPECT_TRUE(decoded->is_learner(kTwo));
}

TEST(ConfigurationCodec, MalformedLists_AreCorrupt) {
  const auto refused = [](const raft::Configuration& configuration) {
    return !raft::decode_configuration(raft::encode(configuration));
  };
  EXPECT_TRUE(refused({}));  // no voter
  raft::Configuration twice = joint();
  twice.voters.push_back(twice.voters[0]);
  EXPECT_TRUE(refused(twice));
  raft::Configuration unsorted = joint();
  std::swap(unsorted.outgoing[0], unsorted.outgoing[1]);
  EXPECT_TRUE(refused(unsorted));
  raft::Configuration both = joint();
  both.learners = both.voters;
  EXPECT_TRUE(refused(both));
  raft::Configuration nobody = joint();
  nobody.voters[0].member = {};
  EXPECT_TRUE(refused(nobody));
  raft::Configuration endless = joint();
  endless.voters[0].raft_addr = std::string(300, 'x');
  EXPECT_TRUE(refused(endless));
  const base::Bytes bytes = raft::encode(joint());
  for (std::size_t size = 0; size < bytes.size(); ++size)
    EXPECT_FALSE(raft::decode_configuration(base::ByteView(bytes).first(size))) << size;
}

// R18: whatever a peer says, the node goes on. Messages of every shape, from members and strangers, in every term.
TEST(Core, HostileMessages_DoNotStopIt) {
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    base::Random random(seed);
    const std::vector<Member> members = {{base::NodeId(1), base::Incarnation(1)},
                                         {base::NodeId(2), base::Incarnation(1)},
                                         {base::NodeId(3), base::Incarnation(1)},
                                         {base::NodeId(3), base::Incarnation(2)}};
    Cluster cluster;
    Disk disk;
    disk.floor_configuration = voters_of({members[0], members[1], members[2]});
    for (std::uint64_t i = 1; i <= 5; ++i) disk.entries.push_back(entry(1 + i / 4, i, base::EntryKind::kData, "x"));
    disk.hard.term = Term(2);
    disk.hard.commit = disk.applied = Index(random.below(5));
    Node& node = cluster.add(members[0], {.election_ticks = 4}, disk);
    cluster.start(node);
    const auto number = [&] { return random.chance(1, 20) ? (std::uint64_t{1} << 62) : random.below(12); };
    const auto id = [&] { return LogId{Term(random.below(6)), Index(number())}; };
    for (int step = 0; step < 300; ++step) {
      std::vector<Entry> entries;
      const LogId first = id();
      std::uint64_t term = first.term.value;
      for (std::uint64_t i = 1, count = random.below(4); i <= count; ++i) {
        term += random.below(2);
        const auto kind = static_cast<base::EntryKind>(1 + random.below(3));
        entries.push_back(entry(term, first.index.value + i, kind, "junk"));
        if (random.chance(1, 10)) entries.back().payload = nullptr;
        if (random.chance(1, 10)) entries.back().id = id();
      }
      const raft::Body bodies[] = {
          raft::VoteRequest{id(), random.chance(1, 2), random.chance(1, 2)},
          raft::VoteReply{random.chance(1, 2), random.chance(1, 2), id()},
          raft::AppendRequest{first, Index(number()), number(), entries},
          raft::AppendReply{random.chance(1, 2), Index(number()), id(), number(), Index(number())},
          raft::Heartbeat{Index(number()), number(), 0, {}},
          raft::HeartbeatReply{number(), Index(number()), random.chance(1, 2)},
          raft::ReadRequest{number()},
          raft::ReadReply{number(), random.chance(1, 2), Index(number())},
          raft::TimeoutNow{},
          raft::SnapshotNeeded{id()},
          raft::SnapshotReply{id(), random.chance(1, 2)}};
      raft::Message message{members[random.below(4)], members[random.below(2) * random.below(4)], Term(random.below(7)),
                            bodies[random.below(std::size(bodies))]};
      if (random.chance(1, 4)) message.term = node.core->term();
      node.core->step(std::move(message));
      if (random.chance(1, 5)) node.core->tick();
      if (random.chance(1, 9)) node.core->read_index(static_cast<std::uint64_t>(step));
      cluster.drain(node);
    }
    const raft::Status status = node.core->status();
    EXPECT_LE(status.commit, status.last.index);
    EXPECT_LE(status.durable, status.last.index);
  }
}

}  // namespace
}  // namespace raft_test

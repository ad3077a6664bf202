// Wire and disk formats of raft/: golden bytes with every damage to them, round trips, and hostile input.
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <variant>

#include "base/random.h"
#include "cluster.h"
#include "tests/base/golden.h"

namespace raft_test {
namespace {

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

// One file per type, and per shape where a type has two.
TEST(MessageCodec, Golden_BytesOfVersionOne) {
  const char* const names[] = {
      "vote_request",    "vote_request_transfer", "vote_reply", "append_request", "append_reply",    "heartbeat",
      "heartbeat_reply", "read_request",          "read_reply", "timeout_now",    "snapshot_needed", "snapshot_reply"};
  const std::vector<raft::Message> messages = samples();
  ASSERT_EQ(messages.size(), std::size(names));
  std::set<std::size_t> types;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    SCOPED_TRACE(names[i]);
    types.insert(messages[i].body.index());
    const base::Bytes golden = testing_base::check_golden(std::string(names[i]) + "_v1", raft::encode(messages[i]));
    testing_base::expect_damage(golden, testing_base::Damage::kNoticed, testing_base::reencoded(raft::decode_message));
  }
  EXPECT_EQ(types.size(), std::variant_size_v<raft::Body>) << "a type without golden bytes";
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

// One message has one encoding.
TEST(MessageCodec, FlippedBits_DecodeToThemselvesOrAreRefused) {
  for (const raft::Message& message : samples()) {
    const base::Bytes bytes = raft::encode(message);
    for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
      base::Bytes flipped = bytes;
      flipped[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
      const auto decoded = raft::decode_message(flipped);
      if (!decoded) continue;
      EXPECT_EQ(raft::encode(*decoded), flipped);
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

TEST(HardStateCodec, Golden_BytesOfVersionOne) {
  const raft::HardState state{Term(5), kTwo, Index(6)};
  const base::Bytes golden = testing_base::check_golden("hard_state_v1", raft::encode(state));
  const auto decoded = raft::decode_hard_state(golden);
  ASSERT_TRUE(decoded);
  EXPECT_EQ(*decoded, state);
  testing_base::expect_damage(golden, testing_base::Damage::kRefused, testing_base::reencoded(raft::decode_hard_state));
}

TEST(ConfigurationCodec, Golden_BytesOfVersionOne) {
  const base::Bytes golden = testing_base::check_golden("configuration_v1", raft::encode(joint()));
  const auto decoded = raft::decode_configuration(golden);
  ASSERT_TRUE(decoded);
  EXPECT_EQ(*decoded, joint());
  EXPECT_EQ(decoded->all(), (std::vector<Member>{kOne, kTwo}));
  EXPECT_TRUE(decoded->is_voter(kTwo));
  EXPECT_TRUE(decoded->is_learner(kTwo));
  testing_base::expect_damage(golden, testing_base::Damage::kNoticed,
                              testing_base::reencoded(raft::decode_configuration));
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

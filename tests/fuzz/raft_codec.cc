// Fuzz target: what one Raft group sends and keeps: messages, configurations, the hard state. One thing has one encoding, so what decodes
// encodes to the very bytes; configurations keep their rules; numbers stay far from wrapping around.
//
// input: choice u8 % 4: 0 message, 1 configuration, 2 hard state, 3 hard state whose checksum is made right | bytes
#include "raft/config.h"
#include "raft/core.h"
#include "raft/message.h"
#include "tests/fuzz/codec.h"

namespace {

constexpr std::uint64_t kNumberMax = std::uint64_t{1} << 62;

void check_message(base::ByteView bytes) {
  const auto message =
      fuzz::check_exact(bytes, raft::decode_message, [](const raft::Message& it) { return raft::encode(it); });
  if (!message) {
    FUZZ_REQUIRE(message.error().code == base::Code::kCorrupt || message.error().code == base::Code::kTooLarge);
    return;
  }
  FUZZ_REQUIRE(message->term.value <= kNumberMax);
  if (const auto* append = std::get_if<raft::AppendRequest>(&message->body)) {
    FUZZ_REQUIRE(raft::is_control(*message) == false);
    for (const base::Entry& entry : append->entries) {
      FUZZ_REQUIRE(entry.id.index.value <= kNumberMax);
      FUZZ_REQUIRE(entry.kind == base::EntryKind::kNoop || entry.payload != nullptr);
    }
    FUZZ_CANARY(append->commit == append->previous.index);
  }
}

void check_configuration(base::ByteView bytes) {
  const auto configuration = fuzz::check_exact(bytes, raft::decode_configuration,
                                               [](const raft::Configuration& it) { return raft::encode(it); });
  if (!configuration) {
    FUZZ_REQUIRE(configuration.error().code == base::Code::kCorrupt);
    return;
  }
  FUZZ_REQUIRE(!configuration->voters.empty());
  const auto all = configuration->all();
  FUZZ_REQUIRE(std::is_sorted(all.begin(), all.end()));
  FUZZ_REQUIRE(std::adjacent_find(all.begin(), all.end()) == all.end());
  for (const base::Member member : all) {
    FUZZ_REQUIRE(member.id.value != 0);
    FUZZ_REQUIRE(configuration->contains(member));
  }
}

void check_hard_state(base::ByteView bytes) {
  const auto state =
      fuzz::check_exact(bytes, raft::decode_hard_state, [](const raft::HardState& it) { return raft::encode(it); });
  if (!state) FUZZ_REQUIRE(state.error().code == base::Code::kCorrupt);
}

}  // namespace

void fuzz::run(base::ByteView input) {
  Input in(input);
  const std::uint8_t choice = in.u8() % 4;
  base::Bytes bytes = base::copy_of(in.rest());
  if (choice == 0) check_message(bytes);
  if (choice == 1) check_configuration(bytes);
  if (choice == 3 && bytes.size() >= 8) base::store_u32(&bytes[4], base::crc32c(base::ByteView(bytes).subspan(8)));
  if (choice >= 2) check_hard_state(bytes);
}

std::vector<fuzz::Seed> fuzz::seeds() {
  const base::Member one{base::NodeId(1), base::Incarnation(0x11)};
  const base::Member two{base::NodeId(2), base::Incarnation(0x22)};
  const base::LogId id{base::Term(3), base::Index(9)};
  const auto payload = base::share(base::copy_of(base::view_of("xyz")));
  const std::vector<std::pair<const char*, raft::Body>> bodies = {
      {"vote", raft::VoteRequest{id, true, false}},
      {"vote-reply", raft::VoteReply{false, true, id}},
      {"append", raft::AppendRequest{id,
                                     base::Index(8),
                                     77,
                                     {{{base::Term(3), base::Index(10)}, base::EntryKind::kNoop, nullptr},
                                      {{base::Term(4), base::Index(11)}, base::EntryKind::kData, payload}}}},
      {"append-reply", raft::AppendReply{true, base::Index(9), id, 5, base::Index(10)}},
      {"heartbeat", raft::Heartbeat{base::Index(7), 6, 1500, {{one, base::Index(1)}, {two, base::Index(2)}}}},
      {"heartbeat-reply", raft::HeartbeatReply{6, base::Index(5), true}},
      {"read", raft::ReadRequest{0xfedcba9876543210}},
      {"read-reply", raft::ReadReply{4, true, base::Index(3)}},
      {"timeout-now", raft::TimeoutNow{}},
      {"snapshot-needed", raft::SnapshotNeeded{id}},
      {"snapshot-reply", raft::SnapshotReply{id, true}}};
  std::vector<Seed> all;
  for (const auto& [name, body] : bodies)
    all.push_back(
        {std::string("valid-message-") + name, chosen(0, raft::encode(raft::Message{one, two, base::Term(4), body}))});
  raft::Configuration joint;
  joint.voters = {{one, "a:1", "a:2"}};
  joint.outgoing = {one, two};
  joint.learners = {{two, "b:1", ""}};
  all.push_back({"valid-configuration", chosen(1, raft::encode(joint))});
  const base::Bytes hard = raft::encode(raft::HardState{base::Term(5), two, base::Index(6)});
  all.push_back({"valid-hard-state", chosen(2, hard)});
  all.push_back({"valid-hard-state-made-right", chosen(3, hard)});
  return all;
}

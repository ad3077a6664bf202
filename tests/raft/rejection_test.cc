// A rejection that denies nothing: what a node answers to a leader's message of an earlier term.
#include <gtest/gtest.h>

#include "raft/core.h"

namespace {

using raft::Index;
using raft::Member;
using raft::Term;

Member member(std::uint64_t id) { return {base::NodeId{id}, base::Incarnation{id + 10}}; }

void drain(raft::Core& core) {
  while (core.has_ready()) {
    const raft::Ready ready = core.take_ready();
    if (ready.persist) core.persisted(ready.persist->sequence);
  }
}

const raft::PeerStatus* find(const raft::Status& status, Member who) {
  for (const raft::PeerStatus& peer : status.peers)
    if (peer.member == who) return &peer;
  return nullptr;
}

TEST(Rejection, OfAnEarlierTermsMessage_TakesNothingForHeld) {
  raft::Configuration configuration;
  for (std::uint64_t id = 1; id <= 3; ++id) configuration.voters.push_back({member(id), "", ""});
  raft::Restored restored;
  restored.hard.term = Term{5};
  restored.entries.push_back({{Term{1}, Index{1}}, base::EntryKind::kConfig, base::share(raft::encode(configuration))});
  restored.sizes.push_back(restored.entries[0].payload->size());
  for (std::uint64_t index = 2; index <= 4; ++index) {
    restored.entries.push_back({{Term{5}, Index{index}}, base::EntryKind::kNoop, nullptr});
    restored.sizes.push_back(0);
  }
  raft::Options options;
  options.self = member(1);
  raft::Core core(options, restored);
  core.campaign();
  drain(core);
  core.step({member(2), member(1), Term{6}, raft::VoteReply{true, true, {}}});
  drain(core);
  core.step({member(2), member(1), Term{6}, raft::VoteReply{false, true, {}}});
  drain(core);
  ASSERT_TRUE(core.is_leader());
  raft::AppendReply denies;  // 3 holds nothing: damage took it
  denies.match = Index{4};
  core.step({member(3), member(1), Term{6}, denies});
  drain(core);
  ASSERT_EQ(find(core.status(), member(3))->next, Index{1});
  core.step({member(3), member(1), Term{6}, raft::AppendReply{}});
  drain(core);
  const raft::Status status = core.status();
  EXPECT_EQ(find(status, member(3))->match, Index{});
  EXPECT_EQ(find(status, member(3))->next, Index{1});
  ASSERT_TRUE(core.propose(base::EntryKind::kData, base::share(base::Bytes(8))));
  drain(core);
  EXPECT_EQ(core.status().commit, Index{}) << "committed by this node alone";
}

}  // namespace

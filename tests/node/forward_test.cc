// The origin of forwarded requests: when it sends again, and what it takes for an outcome (R7).
#include "node/forward.h"

#include <gtest/gtest.h>

#include <optional>
#include <utility>
#include <vector>

namespace node {
namespace {

const base::Incarnation kMe{77};

class ForwardsTest : public ::testing::Test {
 protected:
  Forwards::Hooks hooks() {
    Forwards::Hooks out;
    out.target = [this] { return target_; };
    out.send = [this](base::NodeId, Forward forward) {
      if (connected_) sent_.push_back(std::move(forward));
      return connected_;
    };
    out.applied = [] { return base::Index{100}; };
    out.now = [this] { return now_; };
    out.no_leader = [this] { return no_leader_; };
    return out;
  }
  void begin() {
    forwards_.begin(1, "app.db", base::Bytes(4), 10 * base::kSecond,
                    [this](base::Result<ExecuteReply> result) { outcome_ = std::move(result); });
  }
  static ForwardReply reply(std::uint64_t term, ForwardVerdict verdict) {
    ForwardReply out;
    out.origin = {kMe, 1, 1};
    out.term = base::Term{term};
    out.verdict = verdict;
    if (verdict != ForwardVerdict::kDone) out.error = base::make_error(base::Code::kBusy, "refused");
    return out;
  }
  static ForwardReply refusal(std::uint64_t term) { return reply(term, ForwardVerdict::kRefused); }
  std::optional<Forwards::Target> target_ = Forwards::Target{base::Term{1}, base::NodeId{2}};
  bool connected_ = true;
  base::Micros now_ = base::kSecond;
  base::Error no_leader_ = base::make_error(base::Code::kNoQuorum, "no leader");
  std::vector<Forward> sent_;
  std::optional<base::Result<ExecuteReply>> outcome_;
  Forwards forwards_{kMe, 1, hooks()};
};

TEST_F(ForwardsTest, SentInAnEarlierTerm_GoesAgainOnlyWhenTheLogShowsItAbsent) {
  begin();
  ASSERT_EQ(sent_.size(), 1u);
  target_ = Forwards::Target{base::Term{2}, base::NodeId{3}};
  forwards_.leader_changed();
  forwards_.peer_connected(base::NodeId{2});
  now_ += 3 * base::kSecond;
  forwards_.tick();
  EXPECT_EQ(sent_.size(), 1u);
  forwards_.reached_term(base::Term{2});
  ASSERT_EQ(sent_.size(), 2u);
  EXPECT_EQ(sent_[1].term, base::Term{2});
  EXPECT_EQ(sent_[1].origin.sequence, sent_[0].origin.sequence);
}

TEST_F(ForwardsTest, RefusalOfAnotherTerm_IsNoOutcome) {
  begin();
  target_ = Forwards::Target{base::Term{2}, base::NodeId{3}};
  forwards_.reached_term(base::Term{2});
  ASSERT_EQ(sent_.size(), 2u);
  forwards_.on_reply(refusal(1));
  forwards_.on_reply(refusal(3));
  EXPECT_FALSE(outcome_.has_value());
  forwards_.on_reply(refusal(2));
  ASSERT_TRUE(outcome_.has_value());
  EXPECT_EQ(outcome_->error().code, base::Code::kBusy);
}

// The leader stops, this node does not: who leads next does it. A stop of this node is an answer.
TEST_F(ForwardsTest, LeaderThatStops_IsNoOutcome) {
  begin();
  ForwardReply stopping = refusal(1);
  stopping.error = base::make_error(base::Code::kStopped, "the node is stopping");
  forwards_.on_reply(stopping);
  EXPECT_FALSE(outcome_.has_value());
  target_ = Forwards::Target{base::Term{2}, base::NodeId{3}};
  forwards_.leader_changed();
  ASSERT_EQ(sent_.size(), 2u);
  EXPECT_EQ(sent_[1].term, base::Term{2});
  no_leader_.code = base::Code::kStopped;
  stopping.term = base::Term{2};
  forwards_.on_reply(stopping);
  ASSERT_TRUE(outcome_.has_value());
  EXPECT_EQ(outcome_->error().code, base::Code::kStopped);
}

TEST_F(ForwardsTest, FewMillisecondsLeft_AreTried) {
  now_ = 10 * base::kSecond - 2 * base::kMillisecond;
  begin();
  ASSERT_EQ(sent_.size(), 1u);
  EXPECT_EQ(sent_[0].timeout_ms, 2u);
}

// Term 1 ran it and it failed, or changed nothing; that answer was on its way while the log showed the request absent and term 2 got it.
// What term 2 does with it is the outcome: an answer of term 1 would call "failed" what term 2 commits.
TEST_F(ForwardsTest, LateAnswerOfAnEarlierTerm_IsNoOutcomeOnceItWentAgain) {
  for (const ForwardVerdict verdict : {ForwardVerdict::kFailed, ForwardVerdict::kDone}) {
    SCOPED_TRACE(static_cast<int>(verdict));
    target_ = Forwards::Target{base::Term{1}, base::NodeId{2}};
    outcome_.reset();
    sent_.clear();
    begin();
    target_ = Forwards::Target{base::Term{2}, base::NodeId{3}};
    forwards_.reached_term(base::Term{2});
    ASSERT_EQ(sent_.size(), 2u);
    forwards_.on_reply(reply(1, verdict));
    EXPECT_FALSE(outcome_.has_value());
    forwards_.on_reply(reply(2, ForwardVerdict::kDone));
    ASSERT_TRUE(outcome_.has_value());
    EXPECT_TRUE(*outcome_);
  }
}

// Absent, and it did not get to the next leader: it never will when it is answered now.
TEST_F(ForwardsTest, LateAnswerOfTheOnlyTermItWentTo_IsTheOutcome) {
  begin();
  target_ = Forwards::Target{base::Term{2}, base::NodeId{3}};
  connected_ = false;
  forwards_.reached_term(base::Term{2});
  forwards_.on_reply(reply(1, ForwardVerdict::kFailed));
  ASSERT_TRUE(outcome_.has_value());
  EXPECT_EQ(outcome_->error().code, base::Code::kBusy);
  connected_ = true;
  forwards_.peer_connected(base::NodeId{3});
  EXPECT_EQ(sent_.size(), 1u);
}

TEST_F(ForwardsTest, DeadlineAfterItLeft_IsUnknown_BeforeItIsNot) {
  begin();
  now_ = 11 * base::kSecond;
  forwards_.tick();
  ASSERT_TRUE(outcome_.has_value());
  EXPECT_EQ(outcome_->error().code, base::Code::kUnknownOutcome);
  outcome_.reset();
  target_.reset();
  now_ = base::kSecond;
  begin();
  now_ = 11 * base::kSecond;
  forwards_.tick();
  ASSERT_TRUE(outcome_.has_value());
  EXPECT_EQ(outcome_->error().code, base::Code::kNoQuorum);
}

}  // namespace
}  // namespace node

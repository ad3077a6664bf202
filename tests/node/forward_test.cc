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
      sent_.push_back(std::move(forward));
      return true;
    };
    out.applied = [] { return base::Index{100}; };
    out.now = [this] { return now_; };
    out.no_leader = [] { return base::make_error(base::Code::kNoQuorum, "no leader"); };
    return out;
  }
  void begin() {
    forwards_.begin(1, "app.db", base::Bytes(4), 10 * base::kSecond,
                    [this](base::Result<ExecuteReply> result) { outcome_ = std::move(result); });
  }
  ForwardReply refusal(std::uint64_t term) const {
    ForwardReply reply;
    reply.origin = {kMe, 1, 1};
    reply.term = base::Term{term};
    reply.verdict = ForwardVerdict::kRefused;
    reply.error = base::make_error(base::Code::kBusy, "refused");
    return reply;
  }
  std::optional<Forwards::Target> target_ = Forwards::Target{base::Term{1}, base::NodeId{2}};
  base::Micros now_ = base::kSecond;
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

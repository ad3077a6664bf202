// Leases: one at a time, in order of asking, not while a proposal is undecided, gone with the term.
#include "node/lease.h"

#include <gtest/gtest.h>

namespace node {
namespace {

const base::DatabaseId kDb{5};
const base::Term kTerm{3};
base::LogId at(std::uint64_t index) { return {kTerm, base::Index{index}}; }

struct Asked {
  std::optional<base::Result<vfs::Grant>> answer;
};

std::shared_ptr<Asked> ask(Leases& leases, base::Micros deadline = 100) {
  auto asked = std::make_shared<Asked>();
  leases.acquire(kDb, deadline, [asked](base::Result<vfs::Grant> grant) { asked->answer = std::move(grant); });
  return asked;
}

TEST(Leases, Free_IsGrantedInsideTheCall) {
  Leases leases;
  leases.add(kDb, at(7));
  leases.activate(kTerm);
  const auto asked = ask(leases);
  ASSERT_TRUE(asked->answer.has_value());
  ASSERT_TRUE(asked->answer->has_value());
  EXPECT_EQ((*asked->answer)->term, kTerm);
  EXPECT_EQ((*asked->answer)->apply_through, at(7));
}

TEST(Leases, Held_IsGrantedInOrderOfAsking) {
  Leases leases;
  leases.add(kDb, at(7));
  leases.activate(kTerm);
  const auto first = ask(leases);
  const auto second = ask(leases);
  const auto third = ask(leases);
  EXPECT_FALSE(second->answer.has_value());
  leases.release(kDb, (*first->answer)->lease);
  ASSERT_TRUE(second->answer.has_value());
  EXPECT_FALSE(third->answer.has_value());
  EXPECT_NE((*second->answer)->lease, (*first->answer)->lease);
  // A release of a lease that ended changes nothing.
  leases.release(kDb, (*first->answer)->lease);
  EXPECT_FALSE(third->answer.has_value());
  leases.release(kDb, (*second->answer)->lease);
  EXPECT_TRUE(third->answer.has_value());
}

TEST(Leases, UndecidedProposal_HoldsBackTheNextGrant) {
  Leases leases;
  leases.add(kDb, at(7));
  leases.activate(kTerm);
  const auto first = ask(leases);
  const base::LeaseId lease = (*first->answer)->lease;
  EXPECT_FALSE(leases.begin_proposal(kDb, base::Term{2}, lease));
  EXPECT_FALSE(leases.begin_proposal(kDb, kTerm, base::LeaseId{99}));
  EXPECT_TRUE(leases.begin_proposal(kDb, kTerm, lease));
  const auto second = ask(leases);
  leases.release(kDb, lease);
  EXPECT_FALSE(second->answer.has_value());
  leases.decided(kDb, at(9));
  ASSERT_TRUE(second->answer.has_value());
  EXPECT_EQ((*second->answer)->apply_through, at(9));
}

TEST(Leases, LeadershipLost_EndsLeasesAndAnswersWaiters) {
  Leases leases;
  leases.add(kDb, at(7));
  leases.activate(kTerm);
  const auto first = ask(leases);
  const auto second = ask(leases);
  leases.deactivate(Leases::Refusal::kAnswer, base::make_error(base::Code::kNotLeader, "elsewhere"));
  ASSERT_TRUE(second->answer.has_value());
  EXPECT_EQ(second->answer->error().code, base::Code::kNotLeader);
  EXPECT_FALSE(leases.begin_proposal(kDb, kTerm, (*first->answer)->lease));
  EXPECT_EQ(leases.take_lost(), std::vector<base::DatabaseId>{kDb});
  EXPECT_EQ(ask(leases)->answer->error().code, base::Code::kNotLeader);
}

TEST(Leases, NoLeaderYet_WaitsUntilActiveOrDeadline) {
  Leases leases;
  leases.add(kDb, at(7));
  leases.deactivate(Leases::Refusal::kWait, base::make_error(base::Code::kNoQuorum, "nobody"));
  const auto early = ask(leases, 50);
  const auto late = ask(leases, 500);
  leases.expire(100);
  ASSERT_TRUE(early->answer.has_value());
  EXPECT_EQ(early->answer->error().code, base::Code::kNoQuorum);
  EXPECT_FALSE(late->answer.has_value());
  leases.activate(kTerm);
  ASSERT_TRUE(late->answer.has_value());
  EXPECT_TRUE(late->answer->has_value());
}

TEST(Leases, DroppedDatabase_IsAnError) {
  Leases leases;
  leases.add(kDb, at(7));
  leases.activate(kTerm);
  const auto first = ask(leases);
  const auto second = ask(leases);
  leases.remove(kDb);
  ASSERT_TRUE(second->answer.has_value());
  EXPECT_EQ(second->answer->error().code, base::Code::kDropped);
  EXPECT_EQ(ask(leases)->answer->error().code, base::Code::kDropped);
}

}  // namespace
}  // namespace node

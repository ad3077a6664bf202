// What the leader does about a configured node that is no voter (R10).
#include "node/membership.h"

#include <gtest/gtest.h>

namespace node {
namespace {

raft::MemberInfo info(std::uint64_t id, std::uint64_t incarnation) {
  raft::MemberInfo out;
  out.member = {base::NodeId{id}, base::Incarnation{incarnation}};
  return out;
}

raft::Status leading() {
  raft::Status status;
  status.role = raft::Role::kLeader;
  status.own_term_committed = true;
  status.configuration_committed = true;
  status.commit = base::Index{10};
  status.configuration.voters = {info(1, 11), info(2, 12), info(3, 13)};
  return status;
}

TEST(Membership, NewIncarnation_JoinsAsLearnerThenTakesThePlace) {
  raft::Status status = leading();
  const auto first = plan_change(status, {info(2, 12), info(3, 99)});
  ASSERT_TRUE(first.has_value());
  EXPECT_EQ(first->voters, status.configuration.voters);
  ASSERT_EQ(first->learners.size(), 1u);
  EXPECT_EQ(first->learners[0].member, info(3, 99).member);

  status.configuration.learners = first->learners;
  EXPECT_FALSE(plan_change(status, {info(2, 12), info(3, 99)}).has_value());  // has not caught up
  raft::PeerStatus peer;
  peer.member = info(3, 99).member;
  peer.match = base::Index{10};
  peer.recent_active = true;
  status.peers.push_back(peer);
  const auto second = plan_change(status, {info(2, 12), info(3, 99)});
  ASSERT_TRUE(second.has_value());
  EXPECT_TRUE(second->learners.empty());
  ASSERT_EQ(second->voters.size(), 3u);
  EXPECT_EQ(second->voters[2].member, info(3, 99).member);
}

TEST(Membership, ChangeInProgressOrNewTerm_DoesNothing) {
  raft::Status status = leading();
  status.configuration_committed = false;
  EXPECT_FALSE(plan_change(status, {info(3, 99)}).has_value());
  status = leading();
  status.own_term_committed = false;
  EXPECT_FALSE(plan_change(status, {info(3, 99)}).has_value());
  status = leading();
  status.configuration.outgoing = {info(1, 11).member};
  EXPECT_FALSE(plan_change(status, {info(3, 99)}).has_value());
  status = leading();
  status.role = raft::Role::kFollower;
  EXPECT_FALSE(plan_change(status, {info(3, 99)}).has_value());
}

TEST(Membership, Superseded_OnlyByASimpleConfigurationThatNamesAnother) {
  raft::Configuration configuration = leading().configuration;
  EXPECT_TRUE(superseded_by(configuration, info(3, 99).member));
  EXPECT_FALSE(superseded_by(configuration, info(3, 13).member));
  EXPECT_FALSE(superseded_by(configuration, info(4, 14).member));
  configuration.outgoing = {info(3, 99).member};
  EXPECT_FALSE(superseded_by(configuration, info(3, 99).member));
  configuration.outgoing = {info(1, 11).member};
  EXPECT_FALSE(superseded_by(configuration, info(3, 99).member));  // not before the joint change has ended
}

}  // namespace
}  // namespace node

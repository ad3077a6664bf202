// Replacement of wiped nodes and admission of new ones.
#include "node/membership.h"

#include <algorithm>

namespace node {
namespace {

using base::Member;
using raft::MemberInfo;

void remove_id(std::vector<MemberInfo>& members, base::NodeId id) {
  members.erase(
      std::remove_if(members.begin(), members.end(), [id](const MemberInfo& info) { return info.member.id == id; }),
      members.end());
}

bool caught_up(const raft::Status& status, Member member) {
  for (const raft::PeerStatus& peer : status.peers)
    if (peer.member == member) return peer.recent_active && peer.match >= status.commit;
  return false;
}

}  // namespace

std::optional<MembershipChange> plan_change(const raft::Status& status, const std::vector<MemberInfo>& connected) {
  if (status.role != raft::Role::kLeader || !status.own_term_committed) return std::nullopt;
  if (status.configuration.joint() || !status.configuration_committed) return std::nullopt;
  const raft::Configuration& now = status.configuration;
  for (const MemberInfo& info : connected) {
    if (now.is_voter(info.member)) continue;
    MembershipChange change{now.voters, now.learners, ""};
    const std::string who =
        "node " + std::to_string(info.member.id.value) + " (" + base::hex16(info.member.incarnation.value) + ")";
    remove_id(change.learners, info.member.id);
    if (!now.is_learner(info.member)) {
      change.learners.push_back(info);
      change.what = who + " joins as learner";
    } else {
      if (!caught_up(status, info.member)) continue;
      remove_id(change.voters, info.member.id);
      change.voters.push_back(info);
      change.what = who + " becomes a voter";
    }
    std::sort(change.voters.begin(), change.voters.end());
    std::sort(change.learners.begin(), change.learners.end());
    return change;
  }
  return std::nullopt;
}

bool superseded_by(const raft::Configuration& configuration, Member member) {
  if (configuration.joint() || configuration.contains(member)) return false;
  const auto same_id = [member](const MemberInfo& info) { return info.member.id == member.id; };
  return std::any_of(configuration.voters.begin(), configuration.voters.end(), same_id);
}

}  // namespace node

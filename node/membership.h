// Membership: what the leader does about a configured node that is connected but not a voter (R10): learner first, voter when it has caught
// up, in the place of the older incarnation of its id. Pure; loop lane.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/ids.h"
#include "raft/core.h"

namespace node {

struct MembershipChange {
  std::vector<raft::MemberInfo> voters;
  std::vector<raft::MemberInfo> learners;
  std::string what;  // for the event list
};

// `connected`: the incarnation of each configured node that is connected now and follows this cluster, with its addresses. A connection
// belongs to one incarnation, so an older one of the same id is not connected to this leader. Nothing: no change is due or possible.
std::optional<MembershipChange> plan_change(const raft::Status& status, const std::vector<raft::MemberInfo>& connected);

// Whether `configuration` (committed and simple) has given the place of `member` to another incarnation.
bool superseded_by(const raft::Configuration& configuration, base::Member member);

}  // namespace node

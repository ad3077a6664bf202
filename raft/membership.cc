// Configuration changes: joint consensus only (paper section 6). A change is active when it is appended, rolled back when its
// entry is truncated, and allowed only after a committed entry of the leader's own term (or two leaders could each commit a change
// to the same configuration). The leader leaves the joint state by itself. Loop lane.
#include <algorithm>

#include "base/check.h"
#include "raft/state.h"

namespace raft {

namespace {

bool ascending(const std::vector<MemberInfo>& list) {
  return std::adjacent_find(list.begin(), list.end(), [](const MemberInfo& left, const MemberInfo& right) {
           return left.member >= right.member;
         }) == list.end();
}

bool holds(const std::vector<MemberInfo>& list, Member member) {
  return std::any_of(list.begin(), list.end(), [&](const MemberInfo& info) { return info.member == member; });
}

base::Error misuse(std::string message) { return base::make_error(base::Code::kMisuse, std::move(message)); }

// What keeps `voters` and `learners` from being a configuration, or nullptr.
const char* fault(const std::vector<MemberInfo>& voters, const std::vector<MemberInfo>& learners) {
  if (voters.empty()) return "a configuration without voters";
  if (!ascending(voters) || !ascending(learners)) return "a member is listed twice";
  for (std::size_t i = 1; i < voters.size(); ++i)
    if (voters[i - 1].member.id == voters[i].member.id) return "two incarnations of one node cannot both vote";
  for (const MemberInfo& info : learners)
    if (holds(voters, info.member)) return "a member cannot vote and learn";
  return nullptr;
}

}  // namespace

base::Result<LogId> Core::State::change_configuration(std::vector<MemberInfo> voters,
                                                      std::vector<MemberInfo> learners) {
  if (!is_leader()) return base::make_error(base::Code::kNotLeader, "this node does not lead the group");
  if (transfer_to) return base::make_error(base::Code::kNotLeader, "leadership is being transferred");
  if (!own_term_committed) return misuse("the leader has not yet committed an entry of its term");
  if (configuration().joint() || configuration_index() > commit) return misuse("a change of members is in progress");
  std::sort(voters.begin(), voters.end());
  std::sort(learners.begin(), learners.end());
  if (const char* what = fault(voters, learners)) return misuse(what);
  for (const MemberInfo& info : voters)
    if (!configuration().contains(info.member))
      return misuse("node " + std::to_string(info.member.id.value) + " must be a learner before it votes");

  Configuration joint{std::move(voters), {}, std::move(learners)};
  for (const MemberInfo& info : configuration().voters) joint.outgoing.push_back(info.member);
  const LogId id = append_own(base::EntryKind::kConfig, base::share(encode(joint)));
  return id;
}

void Core::State::add_configuration(Index index, Configuration configuration) {
  configurations.emplace_back(index, std::move(configuration));
  out.status_changed = true;
  if (!is_leader()) return;
  sync_progress();
  lose_patience();
}

void Core::State::drop_configurations(Index from) {
  while (configurations.size() > 1 && configurations.back().first >= from) {
    configurations.pop_back();
    out.status_changed = true;
  }
}

// The commit index of this leader has moved.
void Core::State::configuration_progressed() {
  if (configuration_index() > commit) return;
  if (configuration().joint()) {
    Configuration simple = configuration();
    simple.outgoing.clear();
    append_own(base::EntryKind::kConfig, base::share(encode(simple)));
    maybe_commit();  // the new majority may be this node alone, or have it already
    return;
  }
  if (!configuration().is_voter(options.self)) step_down_removed();
}

// Those who left are served until they know it (or a while has passed), so that they can say so to their operator.
void Core::State::sync_progress() {
  for (const Member member : configuration().all()) {
    if (member == options.self) continue;
    const auto [at, fresh] = peers.try_emplace(member);
    Progress& peer = at->second;
    if (fresh) {
      peer.become_probe(log.last().index.next());
      peer.heard = now;
    }
    peer.departing = false;
  }
  for (auto& [member, peer] : peers) {
    if (peer.departing || configuration().contains(member)) continue;
    peer.departing = true;
    peer.departed = now;
  }
  pump_due = true;
}

}  // namespace raft

// What the core has to do with snapshots: who needs one, and what becomes of the log when one is installed. The bytes themselves
// are the business of node/ and pages/ and may come from any member. Loop lane.
#include <algorithm>

#include "base/check.h"
#include "raft/state.h"

namespace raft {

void Core::State::handle(const Message& message, const SnapshotNeeded& order) {
  const Index have = std::min(commit, log.durable());
  if (have >= order.floor.index) {
    snapshot_pending = {};
    return send(message.from, SnapshotReply{{*log.term_at(have), have}, true});
  }
  if (snapshot_pending >= order.floor.index || commit >= order.floor.index) return;  // under way, one or the other
  snapshot_pending = order.floor.index;
  out.snapshots_wanted.push_back(order.floor.index);
}

void Core::State::handle(const Message& message, const SnapshotReply& reply) {
  Progress* peer = is_leader() ? progress_of(message.from) : nullptr;
  if (!peer || reply.installed.index > log.last().index) return;
  if (!reply.ok) return;  // the next heartbeat reply makes us say it again
  match_advanced(message.from, *peer, reply.installed.index);
}

InstallPlan Core::State::begin_install(LogId id) {
  installing = false;
  install_ready.reset();
  if (is_leader() || id.index <= commit) {
    snapshot_pending = {};
    return InstallPlan::kUseless;
  }
  if (role != Role::kFollower) become_follower(hard.term, {});  // an election won now would find its log replaced
  installing = true;
  if (log.outstanding() || log.has_unstable()) return InstallPlan::kWait;
  install_ready = id;
  return log.matches(id) ? InstallPlan::kKeepSuffix : InstallPlan::kReset;
}

void Core::State::snapshot_installed(LogId id, Configuration configuration) {
  if (install_ready != id) return;
  install_ready.reset();
  installing = false;
  snapshot_pending = {};
  commit_to(log.matches(id) ? id.index : commit);
  if (log.matches(id)) {
    handed_to_apply = std::max(handed_to_apply, id.index);
    log.trim(handed_to_apply);
    set_floor(id, std::move(configuration));
  } else {
    log.reset(id);
    configurations.clear();
    configurations.emplace_back(id.index, std::move(configuration));
    commit = std::max(commit, id.index);
    handed_to_apply = std::max(handed_to_apply, id.index);
    leader_match = {};
  }
  applied = std::max(applied, id.index);
  out.status_changed = true;
  if (leader) send_durable(leader, SnapshotReply{id, true});
}

void Core::State::snapshot_failed() {
  install_ready.reset();
  installing = false;
  snapshot_pending = {};
  if (leader && !is_leader()) send(leader, SnapshotReply{{}, false});
}

}  // namespace raft

// The core's outputs: collects what the inputs left behind, makes at most one persist job, bounds what is given to the appliers,
// and reports the status. Callers: node/driver through the seam core.h. Loop lane.
#include <algorithm>
#include <utility>

#include "base/check.h"
#include "raft/state.h"

namespace raft {

namespace {
constexpr std::size_t kApplyEntriesMax = 1024;  // per Ready: a restart replays long logs in slices
constexpr std::size_t kApplyBytesMax = std::size_t{4} << 20;
constexpr std::uint64_t kCommitHintEvery = 1024;  // entries: how far the commit index on disk may lag
}  // namespace

bool Ready::empty() const {
  return messages.empty() && !persist && committed.empty() && reads.empty() && log_reads.empty() &&
         snapshots_wanted.empty() && !status_changed;
}

// R8: nothing is applied that the own disk does not hold.
bool Core::State::committed_waiting() const { return handed_to_apply < std::min(commit, log.durable()); }

bool Core::State::has_ready() const {
  return pump_due || !out.empty() || log.has_unstable() || !held_new.empty() || hard.term != hard_handed.term ||
         hard.voted_for != hard_handed.voted_for || committed_waiting();
}

Ready Core::State::take_ready() {
  if (is_leader() && pump_due) pump();
  pump_due = false;
  Ready ready = std::exchange(out, Ready{});

  const bool hard_changed = hard.term != hard_handed.term || hard.voted_for != hard_handed.voted_for;
  if (log.has_unstable() || hard_changed) {
    PersistJob job;
    job.sequence = ++sequence;
    // Not what this very job writes: when power fails in the middle of it, the log may keep the hard state alone (wal/replay.h, salvage), and
    // would have the old entries under those numbers committed. What is durable is below every truncation on its way.
    hard.commit = std::min(commit, log.durable());
    if (hard_changed || hard_handed.commit.value + kCommitHintEvery <= hard.commit.value) {
      job.hard = hard_handed = hard;
      hard_jobs.emplace_back(sequence, hard);
    }
    log.hand_over(job);
    job.then_send = std::exchange(held_new, {});
    ready.persist = std::move(job);
  } else {
    for (Message& message : std::exchange(held_new, {})) {  // what it waited for was truncated meanwhile
      if (log.outstanding())
        held_for_job.emplace_back(log.last_outstanding(), std::move(message));
      else
        ready.messages.push_back(std::move(message));
    }
  }

  std::size_t bytes = 0;
  while (committed_waiting() && ready.committed.size() < kApplyEntriesMax && bytes < kApplyBytesMax) {
    handed_to_apply = handed_to_apply.next();
    bytes += log.size_of(handed_to_apply);
    ready.committed.push_back(log.entry(handed_to_apply));
  }
  log.trim(std::min(handed_to_apply, commit));
  return ready;
}

Status Core::State::status() const {
  raft::Status status;
  status.role = role;
  if (role == Role::kFollower && !configuration().is_voter(options.self)) status.role = Role::kLearner;
  status.term = hard.term;
  status.leader = leader;
  status.commit = commit;
  status.durable = log.durable();
  status.last = log.last();
  status.floor = log.floor();
  status.configuration = configuration();
  status.configuration_index = configuration_index();
  status.configuration_committed = configuration_index() <= commit;
  status.own_term_committed = is_leader() && own_term_committed;
  status.uncommitted_bytes = uncommitted_bytes;
  status.ticks_since_quorum = is_leader() ? static_cast<int>(quorum_age_ticks()) : 0;
  status.term_changes = term_changes;
  status.applied = applied;
  status.may_vote = may_vote;
  status.transfer_to = transfer_to;
  status.conflicts_below_commit = conflicts_below_commit;
  status.contradicted = contradicted;
  status.cached_bytes = log.cached_bytes();
  status.heartbeat_quorum_age = heartbeat_quorum_age;
  status.ticks_since_heartbeat = now - heartbeat_tick;
  status.heartbeat_held = heartbeat_held;
  for (const auto& [member, peer] : peers) {
    status.peers.push_back({member, configuration().is_voter(member), peer.match, peer.next, peer.durable,
                            to_string(peer.state), heard_lately(peer)});
  }
  return status;
}

}  // namespace raft

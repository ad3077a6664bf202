// Roles: elections with pre-vote (thesis 9.6), leader stickiness and check-quorum (6.2.3, 4.2.3), leadership transfer (3.10),
// priorities, and the watchdog that moves leadership off a slow disk. The only place that changes a role. Loop lane.
#include <algorithm>

#include "raft/state.h"

namespace raft {

namespace {
constexpr std::uint64_t kStallPauseElections = 10;  // election timeouts between two moves away from a slow disk
}  // namespace

// A voter of the latest configuration, or of one that may still turn out to be the latest committed one: a member that is removed by
// an entry which is not known to be committed may hold the only log that can win, and its vote is then refused to all others
// (thesis 4.2.2). It does not count itself, and steps down when the entry is committed.
bool Core::State::may_campaign() const {
  if (!may_vote || installing || now < quiet_until) return false;
  for (auto at = configurations.rbegin(); at != configurations.rend(); ++at) {
    if (at->second.is_voter(options.self)) return true;
    if (at->first <= commit) break;
  }
  return false;
}

void Core::State::reset_election_timer() {
  election_elapsed = 0;
  // A higher priority waits less, never below the base: the others still believe in the old leader until then.
  const int advantage = std::max(0, options.priority - failed_campaigns);
  const int span = std::max(1, options.election_ticks / (1 + advantage));
  election_timeout = options.election_ticks + static_cast<int>(random.below(static_cast<std::uint64_t>(span)));
}

void Core::State::become_follower(Term new_term, Member new_leader) {
  if (new_term > hard.term) {
    hard.term = new_term;
    hard.voted_for = {};
    leader_match = {};
    ++term_changes;
  }
  if (is_leader()) {
    fail_led_reads();
    peers.clear();
    round_starts.clear();
    transfer_to = {};
    own_term_committed = false;
    uncommitted_bytes = 0;
  }
  if (leader != new_leader) {
    fail_forwarded_reads();
    snapshot_pending = {};
  }
  role = Role::kFollower;
  leader = new_leader;
  votes.clear();
  reset_election_timer();
  out.status_changed = true;
}

void Core::State::note_leader(Member from) {
  if (role != Role::kFollower || leader != from) become_follower(hard.term, from);
  election_elapsed = 0;
  failed_campaigns = 0;
}

void Core::State::tick_follower() {
  if (++election_elapsed < election_timeout) return;
  if (leader) {
    leader = {};
    fail_forwarded_reads();
    out.status_changed = true;
  }
  if (may_campaign()) {
    ++failed_campaigns;  // until it succeeds
    pre_campaign();
  } else {
    reset_election_timer();
  }
}

void Core::State::pre_campaign() {
  become_follower(hard.term, {});
  role = Role::kPreCandidate;
  const Term wanted = hard.term.next();
  for (const Member member : configuration().all())
    if (member != options.self && configuration().is_voter(member))
      send_in_term(member, wanted, VoteRequest{.last = log.last(), .pre = true});
  take_vote(options.self, true);
}

void Core::State::campaign(bool ordered_by_leader) {
  become_follower(hard.term.next(), {});
  role = Role::kCandidate;
  hard.voted_for = options.self;
  // The own vote is counted, and the others are asked, when it is on the disk.
  for (const Member member : configuration().all())
    if (member != options.self && configuration().is_voter(member))
      send_durable(member, VoteRequest{.last = log.last(), .transfer = ordered_by_leader});
}

void Core::State::take_vote(Member from, bool granted) {
  if (!configuration().is_voter(from)) return;
  votes.emplace(from, granted);
  const auto count = [&](bool wanted) {
    return quorum_value([&](Member member) {
      const auto vote = votes.find(member);
      return std::uint64_t{vote != votes.end() && vote->second == wanted};
    });
  };
  if (count(true) == 1) {
    if (role == Role::kPreCandidate)
      campaign(false);
    else
      become_leader();
    return;
  }
  // Lost when those who did not refuse are no majority (of either configuration).
  const std::uint64_t still_possible = quorum_value([&](Member member) {
    const auto vote = votes.find(member);
    return std::uint64_t{vote == votes.end() || vote->second};
  });
  if (still_possible == 0) become_follower(hard.term, {});
}

void Core::State::become_leader() {
  CHECK(role == Role::kCandidate);
  role = Role::kLeader;
  leader = options.self;
  votes.clear();
  failed_campaigns = 0;
  heartbeat_elapsed = 0;
  own_term_committed = false;
  transfer_to = {};
  quorum_tick = now;
  snapshot_pending = {};
  peers.clear();
  round_starts.clear();
  uncommitted_bytes = 0;
  for (Index at = commit.next(); at <= log.last().index; at = at.next()) uncommitted_bytes += log.size_of(at);
  sync_progress();
  lose_patience();
  append_own(base::EntryKind::kNoop, nullptr);  // commits what earlier terms left (5.4.2)
  out.status_changed = true;
}

void Core::State::handle(const Message& message, const VoteRequest& request) {
  // A node that hears its leader does not help to depose it (4.2.3), unless the leader ordered it.
  const bool sticky = !request.transfer && leader && (is_leader() || election_elapsed < options.election_ticks);
  const bool fresh = request.last >= log.last() && (may_vote || request.last >= vote_floor) && now >= quiet_until;
  if (request.pre) {
    const bool granted = message.term > hard.term && fresh && !sticky;
    send_in_term(message.from, granted ? message.term : hard.term,
                 VoteReply{.pre = true, .granted = granted, .last = log.last()});
    return;
  }
  if (message.term > hard.term) {
    if (sticky) return;
    become_follower(message.term, {});
  }
  const bool free = hard.voted_for == message.from || (!hard.voted_for && !leader);
  if (message.term < hard.term || !free || !fresh) {
    send(message.from, VoteReply{.granted = false, .last = log.last()});
    return;
  }
  hard.voted_for = message.from;
  reset_election_timer();
  send_durable(message.from, VoteReply{.granted = true, .last = log.last()});
}

void Core::State::handle(const Message& message, const VoteReply& reply) {
  if (role != (reply.pre ? Role::kPreCandidate : Role::kCandidate)) return;
  // A granted pre-vote must be for the term of this very attempt.
  if (reply.pre && reply.granted && message.term != hard.term.next()) return;
  take_vote(message.from, reply.granted);
}

void Core::State::handle(const Message&, const TimeoutNow&) {
  if (may_campaign()) campaign(true);
}

bool Core::State::heard_lately(const Progress& peer) const {
  return !peer.down && now - peer.heard < static_cast<std::uint64_t>(options.election_ticks);
}

void Core::State::tick_leader() {
  const auto election = static_cast<std::uint64_t>(options.election_ticks);
  const std::uint64_t heard = quorum_value([&](Member member) {
    if (member == options.self) return now;
    const Progress* peer = progress_of(member);
    return peer ? peer->heard : 0;
  });
  if (now - heard >= election) return become_follower(hard.term, {});  // check-quorum
  if (transfer_to && now - transfer_started >= election) {
    transfer_to = {};
    out.status_changed = true;
  }
  for (auto peer = peers.begin(); peer != peers.end();) {
    const bool gone = peer->second.departing && now - peer->second.departed >= 2 * election;
    peer = gone ? peers.erase(peer) : std::next(peer);
  }
  if (++heartbeat_elapsed >= options.heartbeat_ticks) {
    release_all();
    broadcast_heartbeat();
  }
  watch_disk();
}

Member Core::State::best_successor() const {
  Member best;
  const Progress* best_peer = nullptr;
  for (const MemberInfo& info : configuration().voters) {
    const auto found = peers.find(info.member);
    if (found == peers.end() || !heard_lately(found->second) || found->second.disk_stalled) continue;
    if (best_peer && found->second.match <= best_peer->match) continue;
    best = info.member;
    best_peer = &found->second;
  }
  return best;
}

base::Status Core::State::transfer(Member to) {
  if (!is_leader()) return base::make_error(base::Code::kNotLeader, "this node does not lead the group");
  if (transfer_to) return base::make_error(base::Code::kMisuse, "a transfer is running");
  if (to == options.self) return base::make_error(base::Code::kMisuse, "this node leads already");
  if (!to) to = best_successor();
  const auto& voters = configuration().voters;
  const bool known =
      std::any_of(voters.begin(), voters.end(), [&](const MemberInfo& info) { return info.member == to; });
  if (!to) {
    const bool alone = voters.size() == 1;
    return base::make_error(base::Code::kNotFound, alone ? "there is no other voter to lead: this node is the only one"
                                                         : "no other voter answers at the moment, so none can lead");
  }
  if (!known) return base::make_error(base::Code::kNotFound, "no such voter to lead");
  // While a transfer runs nothing is proposed: it is not begun for one that is not there.
  const Progress* chosen = progress_of(to);
  if (!chosen || !heard_lately(*chosen))
    return base::make_error(base::Code::kNotFound, "node " + std::to_string(to.id.value) +
                                                       " does not answer at the moment, so it cannot lead");
  transfer_to = to;
  transfer_started = now;
  transfer_ordered = false;
  out.status_changed = true;
  if (Progress* peer = progress_of(to)) peer->probe_sent = false;
  continue_transfer();
  pump_due = true;
  return base::ok();
}

void Core::State::continue_transfer() {
  if (!transfer_to || transfer_ordered) return;
  const Progress* peer = progress_of(transfer_to);
  if (!peer || peer->match != log.last().index) return;
  transfer_ordered = true;
  send(transfer_to, TimeoutNow{});
}

void Core::State::step_down_removed() {
  // The others should not have to wait for their timers, nor to learn the commit from an election.
  for (auto& [member, peer] : peers) send_heartbeat(member, peer);
  const Member successor = best_successor();
  const Progress* peer = successor ? progress_of(successor) : nullptr;
  if (peer && peer->match == log.last().index) send(successor, TimeoutNow{});
  become_follower(hard.term, {});
}

void Core::State::watch_disk() {
  if (!disk_stalled || !is_leader() || transfer_to) return;
  const auto pause = kStallPauseElections * static_cast<std::uint64_t>(options.election_ticks);
  if (stall_moved && now - *stall_moved < pause) return;
  if (!best_successor()) return;  // no disk is better
  stall_moved = now;
  (void)transfer({}).has_value();
}

}  // namespace raft

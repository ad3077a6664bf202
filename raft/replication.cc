// Log replication (paper 5.3): the leader's progress of each member (probe, replicate, snapshot; progress.h), flow control, the
// commit rule (5.4.2), heartbeats; and the follower's side. The leader sends before its own sync and counts itself after.
// Loop lane.
#include <algorithm>
#include <utility>

#include "base/check.h"
#include "raft/state.h"

namespace raft {

namespace {
constexpr std::size_t kAppendEntriesMax = 4096;  // per AppendRequest, besides the bytes: bounds the work of one message
}  // namespace

const char* to_string(ProgressState state) {
  switch (state) {
    case ProgressState::kProbe:
      return "probe";
    case ProgressState::kReplicate:
      return "replicate";
    case ProgressState::kSnapshot:
      return "snapshot";
  }
  return "?";
}

void Progress::become_probe(Index from) {
  state = ProgressState::kProbe;
  next = from;
  probe_sent = check_due = false;
  inflight.clear();
  inflight_bytes = 0;
}

void Progress::become_replicate() {
  state = ProgressState::kReplicate;
  next = match.next();
  probe_sent = check_due = false;
  inflight.clear();
  inflight_bytes = 0;
}

void Progress::become_snapshot(Index floor) {
  become_probe(match.next());
  state = ProgressState::kSnapshot;
  snapshot_floor = floor;
  snapshot_due = true;
}

bool Progress::advance(Index index) {
  while (!inflight.empty() && inflight.front().last <= index) {
    inflight_bytes -= inflight.front().bytes;
    inflight.pop_front();
  }
  if (index <= match) return false;
  match = index;
  next = std::max(next, index.next());
  return true;
}

void Progress::sent(Index last, std::size_t bytes) {
  inflight.push_back({last, bytes});
  inflight_bytes += bytes;
  next = last.next();
}

Progress* Core::State::progress_of(Member member) {
  const auto found = peers.find(member);
  return found == peers.end() ? nullptr : &found->second;
}

// --- the leader ---------------------------------------------------------------------------------------------------------

void Core::State::pump() {
  pump_due = false;
  for (auto& [member, peer] : peers) {
    pump_peer(member, peer);
    if (peer.commit_sent < std::min(peer.announce_through, peer.match)) send_heartbeat(member, peer);
  }
}

void Core::State::pump_peer(Member member, Progress& peer) {
  if (peer.next <= log.floor().index && peer.state != ProgressState::kSnapshot) peer.become_snapshot(log.floor().index);
  if (peer.state == ProgressState::kSnapshot) {
    if (std::exchange(peer.snapshot_due, false)) send(member, SnapshotNeeded{log.floor()});
    return;
  }
  if (peer.state == ProgressState::kProbe) {
    if (std::exchange(peer.probe_sent, true)) return;
    send_entries(member, peer, cached_entries(peer.next));
    return;
  }
  while (peer.next <= log.last().index && !withholds(member, peer) &&
         peer.inflight.size() < static_cast<std::size_t>(options.append_inflight_max) &&
         (peer.inflight.empty() || peer.inflight_bytes < options.inflight_bytes_max)) {
    if (!log.cached(peer.next)) {
      want_log_read(peer);
      break;
    }
    send_entries(member, peer, cached_entries(peer.next));
    peer.check_due = false;
  }
  if (std::exchange(peer.check_due, false)) send_entries(member, peer, {});
}

// From `first`, as far as payloads are here and one message may carry.
std::vector<base::Entry> Core::State::cached_entries(Index first) const {
  std::vector<base::Entry> entries;
  std::size_t bytes = 0;
  for (Index at = first; at <= log.last().index && entries.size() < kAppendEntriesMax && log.cached(at);
       at = at.next()) {
    if (!entries.empty() && bytes + log.size_of(at) > options.append_bytes_max) break;
    bytes += log.size_of(at);
    entries.push_back(log.entry(at));
  }
  return entries;
}

// Sends `entries`, which begin at peer.next; none: a question whether the log before is equal.
void Core::State::send_entries(Member member, Progress& peer, std::vector<base::Entry> entries) {
  const Index previous = before(peer.next);
  AppendRequest request;
  request.previous = {*log.term_at(previous), previous};
  request.commit = commit;
  request.round = round;
  const Index last = entries.empty() ? previous : entries.back().id.index;
  std::size_t bytes = 0;
  for (const base::Entry& entry : entries) bytes += entry.size();
  const bool streams = peer.state == ProgressState::kReplicate && !entries.empty();
  request.entries = std::move(entries);
  if (streams) peer.sent(last, bytes);
  peer.commit_sent = std::max(peer.commit_sent, std::min(commit, last));
  send(member, std::move(request));
}

void Core::State::want_log_read(Progress& peer) {
  if (peer.read_token != 0) return;
  const Index last = before(std::max(log.payload_first(), peer.next.next()));
  peer.read_token = ++read_token;
  out.log_reads.push_back({peer.read_token, peer.next, last, options.append_bytes_max});
}

void Core::State::log_read_done(std::uint64_t token, std::vector<base::Entry> entries) {
  for (auto& [member, peer] : peers) {
    if (peer.read_token != token) continue;
    peer.read_token = 0;
    if (entries.empty()) return;  // the floor moves: the next heartbeat reply asks again
    pump_due = true;
    if (peer.state != ProgressState::kReplicate || peer.next != entries.front().id.index) return;
    if (peer.next <= log.floor().index) return;
    Index expected = peer.next;
    for (const base::Entry& entry : entries) {
      if (entry.id.index != expected || !log.matches(entry.id)) return;
      if (entry.kind == base::EntryKind::kData && !entry.payload) return;
      expected = expected.next();
    }
    send_entries(member, peer, std::move(entries));
    return;
  }
}

void Core::State::broadcast_heartbeat() {
  heartbeat_elapsed = 0;
  begin_round();
  for (auto& [member, peer] : peers) send_heartbeat(member, peer);
  round_echoed();  // alone, this node is its own majority
}

void Core::State::send_heartbeat(Member member, Progress& peer) {
  Heartbeat beat;
  beat.commit = std::min(commit, peer.match);  // what it surely holds
  beat.round = round;
  beat.quorum_age = static_cast<base::Micros>(quorum_age_ticks() + 1) * options.tick_micros;
  for (const Member voter : configuration().all()) {
    if (!configuration().is_voter(voter)) continue;
    const Progress* known = progress_of(voter);
    beat.held.emplace_back(voter, known ? known->match : log.durable());
  }
  peer.commit_sent = std::max(peer.commit_sent, beat.commit);
  send(member, std::move(beat));
}

void Core::State::handle(const Message& message, const AppendReply& reply) {
  Progress* peer = is_leader() ? progress_of(message.from) : nullptr;
  if (!peer || reply.match > log.last().index) return;
  peer->round = std::max(peer->round, std::min(reply.round, round));
  peer->durable = reply.durable;
  if (reply.accepted) {
    if (peer->state == ProgressState::kProbe) peer->become_replicate();
    match_advanced(message.from, *peer, reply.match);
  } else if (reply.match == Index{}) {
    // Every log has what is before the first entry. It is the answer to a message of an earlier term of ours (core.cc).
  } else if (peer->state == ProgressState::kReplicate ? reply.match > peer->match : reply.match == before(peer->next)) {
    if (peer->state == ProgressState::kSnapshot) return;
    // Where our log could agree with one that has `hint` (both sides skip whole terms).
    const LogId agreed = log.last_at_or_below(reply.hint.term, reply.hint.index);
    // Not in our log any more: from the floor on, pump_peer turns to the snapshot.
    const bool forgotten = reply.hint.index < log.floor().index || agreed.term > reply.hint.term;
    const Index next = forgotten ? log.floor().index : std::min(agreed.index.next(), reply.match);
    // It denies what it acknowledged in this term: damage took the end of its log (R12), and it gets that again. Nothing depends on a match
    // that only rises: what is committed stays so.
    if (next <= peer->match) peer->match = before(next);
    peer->become_probe(std::max(peer->match.next(), next));
    pump_due = true;
  }
  if (is_leader()) round_echoed();
}

// `index` may be no news: acknowledgements still free the window.
void Core::State::match_advanced(Member member, Progress& peer, Index index) {
  pump_due = true;
  if (!peer.advance(index)) return;
  if (peer.state == ProgressState::kSnapshot && peer.match >= log.floor().index) peer.become_replicate();
  maybe_commit();
  if (!is_leader()) return;  // it was removed by what it committed: `peer` is gone
  if (member == transfer_to) continue_transfer();
}

void Core::State::handle(const Message& message, const HeartbeatReply& reply) {
  Progress* peer = is_leader() ? progress_of(message.from) : nullptr;
  if (!peer || reply.match > log.last().index) return;
  peer->round = std::max(peer->round, std::min(reply.round, round));
  peer->disk_stalled = reply.disk_stalled;
  // Behind, and no better than at the last heartbeat: something was lost on the way, in either direction.
  peer->probe_sent = false;
  peer->snapshot_due = true;
  peer->check_due = peer->match < log.last().index && peer->heartbeat_match == peer->match;
  peer->heartbeat_match = peer->match;
  match_advanced(message.from, *peer, reply.match);
  if (is_leader()) round_echoed();
}

void Core::State::maybe_commit() {
  const std::uint64_t reached = quorum_value([&](Member member) {
    if (member == options.self) return log.durable().value;
    const Progress* peer = progress_of(member);
    return peer ? peer->match.value : 0;
  });
  const Index index(reached);
  // Entries of earlier terms are committed only by one of this term after them (5.4.2, figure 8).
  if (index <= commit || !commit_fits(index)) return;
  commit_to(index);
  if (!std::exchange(own_term_committed, true)) out.status_changed = true;
  pump_due = true;
  choose_patient();
  configuration_progressed();
  if (is_leader()) start_read_round();
}

// --- the follower -------------------------------------------------------------------------------------------------------

Index Core::State::known_match() const { return std::min(std::max(commit, leader_match), log.durable()); }

bool Core::State::well_formed(const Message& message, const AppendRequest& request) const {
  LogId previous = request.previous;
  for (const base::Entry& entry : request.entries) {
    if (entry.id.index != previous.index.next() || entry.id.term < previous.term) return false;
    if (entry.kind == base::EntryKind::kData && !entry.payload) return false;
    if (entry.kind == base::EntryKind::kConfig && !decode_configuration(base::view_of(entry.payload))) return false;
    previous = entry.id;
  }
  return previous.term <= message.term;
}

// Two committed histories: only members that forgot what they had acknowledged can make them (log_sync = "interval_<ms>", two copies of a
// disk). Nothing is truncated here; the node decides what becomes of this one.
void Core::State::note_conflict(const AppendRequest& request, Index index) {
  ++conflicts_below_commit;
  if (index <= request.commit) contradicted = contradicted ? std::min(contradicted, index) : index;
}

void Core::State::handle(const Message& message, const AppendRequest& request) {
  if (installing || !well_formed(message, request)) return;
  AppendReply reply{.accepted = true, .round = request.round};
  if (request.previous.index <= commit && !log.matches(request.previous)) {
    if (request.previous.index >= log.floor().index) {
      note_conflict(request, request.previous.index);
      return;
    }
    // It is behind what we forgot, which was committed and hence equal: say how far we are.
    reply.match = commit;
    reply.durable = std::max(log.durable(), commit);
    return send_durable(message.from, reply);
  }
  if (!log.matches(request.previous)) return reject_append(message.from, request);

  for (const base::Entry& entry : request.entries) {
    if (entry.id.index <= log.last().index) {
      if (log.matches(entry.id)) continue;
      if (entry.id.index <= commit) {
        note_conflict(request, entry.id.index);
        return;
      }
      log.truncate(entry.id.index);
      drop_configurations(entry.id.index);
    }
    append(entry, entry.size());
  }
  const Index last = request.entries.empty() ? request.previous.index : request.entries.back().id.index;
  leader_match = std::max(leader_match, last);
  commit_to(std::min(request.commit, last));
  reply.match = last;
  reply.durable = std::max(log.durable(), last);
  send_durable(message.from, reply);
}

void Core::State::reject_append(Member from, const AppendRequest& request) {
  AppendReply reply{
      .accepted = false, .match = request.previous.index, .round = request.round, .durable = log.durable()};
  reply.hint = log.last_at_or_below(request.previous.term, before(request.previous.index));
  send(from, reply);
}

void Core::State::handle(const Message& message, const Heartbeat& beat) {
  heartbeat_quorum_age = beat.quorum_age;
  heartbeat_tick = now;
  // At most what we acknowledged to this leader. It remembers that beyond a restart in which damage may have changed our log (R12): only what
  // an append has shown to be equal since then counts.
  commit_to(std::min({beat.commit, std::max(commit, leader_match), log.last().index}));
  heartbeat_held = beat.held;
  for (auto& [member, index] : heartbeat_held) index = std::min(index, commit);  // the rest may yet be taken back
  send(message.from, HeartbeatReply{.round = beat.round, .match = known_match(), .disk_stalled = disk_stalled});
}

}  // namespace raft

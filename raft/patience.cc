// To whom the leader sends an entry first. The members that made the quorum of the last commit get the next entries at once; the other
// voters are *patient*: they get them a moment later, in one append with whatever came meanwhile, so that their work does not stand in the
// way of those who decide. Withheld entries leave
//   - when those who were sent to first have not answered by the driver's next payment (pay_followers()): a commit is never delayed for
//     longer than that; and when that happens often nobody is patient for an election timeout;
//   - with the next payment when nothing has been added since the last one, else after a few payments; and when they are many;
//   - with the heartbeat, whatever the driver does;
//   - at once to whom somebody waits for, and to whom leadership is transferred.
// Nothing here changes what counts for a commit. Callers: the core's own steps, node/driver through the seam core.h. Loop lane.
//
// Sources: Moraru, Andersen, Kaminsky, "There Is More Consensus in Egalitarian Parliaments" (SOSP 2013), 'thrifty'; Dean and Barroso,
// "The Tail at Scale" (CACM 56-2, 2013), hedged requests.
#include <algorithm>
#include <utility>

#include "raft/state.h"

namespace raft {

namespace {
// More than this would be long under way when it is released at last, so it is sent at once.
constexpr std::size_t kWithheldBytesMax = std::size_t{64} << 10;
constexpr std::uint64_t kWithheldEntriesMax = 64;
// So many entries go to everybody before those that answer first are chosen anew: the first ones find a member that was patient busy
// with what it was owed.
constexpr std::uint64_t kRaceEntries = 4;
constexpr int kPaymentsMissedMax = 7;  // in a row, by a patient member, while entries are added without a pause
// Single late commits are nothing to go by: patience is lost when more than one in kLateWeight is, for a while.
constexpr int kLateWeight = 8;
constexpr int kLateMax = 64;
}  // namespace

bool Core::State::is_patient(Member member, const Progress& peer) const {
  return peer.patient && now >= peer.hurried_until && member != transfer_to;
}

// Whether the entries from `peer.next` on stay here for now. Those that the cache has given up do not: who lacks them is far behind.
bool Core::State::withholds(Member member, const Progress& peer) const {
  if (!is_patient(member, peer) || peer.next <= peer.released || peer.next > log.last().index) return false;
  if (!log.cached(peer.next) || log.last().index.value - peer.next.value >= kWithheldEntriesMax) return false;
  std::size_t bytes = 0;
  for (Index at = peer.next; at <= log.last().index; at = at.next()) bytes += log.size_of(at);
  return bytes <= kWithheldBytesMax;
}

// The leader has committed: who has it made the quorum, in a joint change those of both majorities. A learner is never patient: it is on
// its way to become a voter, and whether it has caught up is judged by what it has.
void Core::State::choose_patient() {
  late = std::max(0, late - 1);
  if (now < impatient_until || commit < race) return;
  if (now >= explore_at) {  // another one may be faster by now
    explore_at = now + static_cast<std::uint64_t>(options.election_ticks);
    race = Index(log.last().index.value + kRaceEntries);
    for (auto& [member, peer] : peers) peer.patient = false;
    return;
  }
  for (auto& [member, peer] : peers) peer.patient = peer.match < commit && configuration().is_voter(member);
}

// Nobody is patient for an election timeout; then the members are chosen anew.
void Core::State::lose_patience() {
  impatient_until = now + static_cast<std::uint64_t>(options.election_ticks);
  explore_at = impatient_until + static_cast<std::uint64_t>(options.election_ticks);
  race = {};
  late = 0;
  for (auto& [member, peer] : peers) pump_due = std::exchange(peer.patient, false) || pump_due;
}

// Entries up to `waited` have been in the log since the last payment. If they are not committed those who were sent to first are late.
bool Core::State::is_late(Member member, const Progress& peer, Index waited) const {
  return withholds(member, peer) && peer.next <= waited && commit < waited;
}

void Core::State::release(Progress& peer) {
  peer.released = log.last().index;
  peer.payments_missed = 0;
  pump_due = true;
}

void Core::State::note_late() {
  late += kLateWeight;
  if (late >= kLateMax) lose_patience();
}

// A heartbeat is due. Whatever the driver does, nobody waits longer.
void Core::State::release_all() {
  for (auto& [member, peer] : peers)
    if (withholds(member, peer)) release(peer);
}

std::optional<Index> Core::State::followers_owed() const {
  if (!is_leader()) return std::nullopt;
  for (const auto& [member, peer] : peers) {
    const bool unannounced = peer.announce_through < commit && peer.commit_sent < std::min(commit, peer.match);
    if (unannounced || withholds(member, peer)) return log.last().index;
  }
  return std::nullopt;
}

void Core::State::pay_followers(Index waited) {
  if (!is_leader()) return;
  const bool busy = log.last().index > waited;
  bool any_late = false;
  for (auto& [member, peer] : peers) {
    if (is_late(member, peer, waited))
      any_late = true;
    else if (busy && withholds(member, peer) && ++peer.payments_missed <= kPaymentsMissedMax)
      continue;
    release(peer);
    // Later commits ride on the next append, or wait for the next payment.
    peer.announce_through = std::max(peer.announce_through, std::min(commit, waited));
  }
  if (any_late) note_late();
}

void Core::State::hurry(Member member) {
  Progress* peer = is_leader() ? progress_of(member) : nullptr;
  if (!peer) return;
  peer->hurried_until = now + static_cast<std::uint64_t>(options.election_ticks);
  pump_due = true;
}

void Core::State::announce_commit(Member member) {
  Progress* peer = is_leader() ? progress_of(member) : nullptr;
  if (!peer) return;
  peer->announce_through = commit;
  hurry(member);
}

}  // namespace raft

// The core's inputs and dispatch: messages, proposals, completions, terms and the commit index. The other steps are in the files
// that state.h names. Callers: node/driver through the seam core.h. Loop lane.
//
// What enters by step() is hostile until shown otherwise (R18): whatever contradicts this node's knowledge is ignored.
#include "raft/core.h"

#include <algorithm>
#include <type_traits>

#include "base/check.h"
#include "raft/state.h"

namespace raft {

namespace {

constexpr std::uint64_t kForwardStream = 0x72656164;  // purpose of a random stream: "read"
// With the log damage may have taken the last vote (R12), and a second one in its term would elect a second leader. So nothing is voted on
// for so many election timeouts: whoever asked before the restart has won or given up by then (a campaign lasts less than two).
constexpr std::uint64_t kQuietElections = 3;

Options checked(Options options) {
  CHECK(options.self);
  CHECK(options.election_ticks > 0);
  CHECK(options.heartbeat_ticks > 0);
  CHECK(options.append_inflight_max > 0);
  return options;
}

// A message of the leader of its term, as opposed to one from a candidate or an answer.
bool is_from_leader(const Body& body) {
  return std::holds_alternative<AppendRequest>(body) || std::holds_alternative<Heartbeat>(body) ||
         std::holds_alternative<SnapshotNeeded>(body) || std::holds_alternative<TimeoutNow>(body);
}

bool same_vote(const HardState& left, const HardState& right) {
  return left.term == right.term && left.voted_for == right.voted_for;
}

}  // namespace

const char* to_string(Role role) {
  switch (role) {
    case Role::kFollower:
      return "follower";
    case Role::kPreCandidate:
      return "pre-candidate";
    case Role::kCandidate:
      return "candidate";
    case Role::kLeader:
      return "leader";
    case Role::kLearner:
      return "learner";
  }
  return "?";
}

Core::State::State(Options given, Restored restored)
    : options(checked(given)),
      random(options.seed),
      hard(restored.hard),
      log(restored.floor, options.cache_bytes_max),
      applied(restored.applied),
      may_vote(restored.may_vote),
      vote_floor(restored.vote_floor) {
  if (!may_vote) quiet_until = kQuietElections * static_cast<std::uint64_t>(options.election_ticks);
  forward_context = random.fork(kForwardStream).next();
  hard_handed = hard_durable = hard;
  CHECK(restored.sizes.size() == restored.entries.size());
  configurations.emplace_back(restored.floor.index, std::move(restored.floor_configuration));
  for (std::size_t i = 0; i < restored.entries.size(); ++i) {
    base::Entry& entry = restored.entries[i];
    if (entry.kind == base::EntryKind::kConfig) {
      auto decoded = decode_configuration(base::view_of(entry.payload));
      if (decoded) {
        configurations.emplace_back(entry.id.index, std::move(*decoded));
      } else {  // who decides is unknown: never vote
        may_vote = false;
        vote_floor = {Term(UINT64_MAX), Index(UINT64_MAX)};
      }
    }
    log.append(std::move(entry), static_cast<std::size_t>(restored.sizes[i]));
  }
  log.all_durable();
  commit = std::max({hard.commit, restored.applied, restored.floor.index});
  commit = std::min(commit, log.last().index);
  handed_to_apply = std::max(restored.applied, restored.floor.index);
  log.trim(std::min(handed_to_apply, commit));
  // A log newer than the hard state: the state was lost with a damaged block; its term is over for us.
  if (log.last().term > hard.term) {
    hard.term = log.last().term;
    hard.voted_for = {};
  }
  reset_election_timer();
  out.status_changed = true;
}

void Core::State::tick() {
  ++now;
  if (is_leader())
    tick_leader();
  else
    tick_follower();
  tick_reads();
}

void Core::State::send_in_term(Member to, Term term, Body body) {
  out.messages.push_back({options.self, to, term, std::move(body)});
}

void Core::State::send_durable(Member to, Body body) {
  Message message{options.self, to, hard.term, std::move(body)};
  if (log.has_unstable() || !same_vote(hard, hard_handed))
    held_new.push_back(std::move(message));
  else if (log.outstanding())
    held_for_job.emplace_back(log.last_outstanding(), std::move(message));
  else
    out.messages.push_back(std::move(message));
}

void Core::State::step(Message message) {
  if (message.to != options.self || message.from == options.self || !message.from) return;
  if (const auto* request = std::get_if<VoteRequest>(&message.body)) return handle(message, *request);

  const bool from_leader = is_from_leader(message.body);
  // A leader may be one that we have not heard of yet; an answer counts only from a member (R10).
  if (!from_leader && message.from != leader && !configuration().contains(message.from) && !progress_of(message.from))
    return;
  if (message.term < hard.term) {
    // Its sender is behind and, with pre-votes, would never learn it otherwise.
    if (from_leader) send(message.from, AppendReply{.accepted = false, .durable = log.durable()});
    if (const auto* read = std::get_if<ReadRequest>(&message.body))
      send(message.from, ReadReply{read->context, false, {}});
    return;
  }
  if (message.term > hard.term) {
    const auto* vote = std::get_if<VoteReply>(&message.body);
    const bool promise = vote && vote->pre && vote->granted;  // its term is the one we asked for
    if (!promise) become_follower(message.term, from_leader ? message.from : Member{});
  }
  if (from_leader) {
    if (is_leader()) return;  // two leaders of one term cannot be: a forgery or a bug there
    if (leader && leader != message.from) return;
    note_leader(message.from);
  } else if (is_leader()) {
    if (Progress* peer = progress_of(message.from)) {
      peer->heard = now;
      peer->down = false;
    }
  }
  std::visit(
      [&](const auto& body) {
        if constexpr (!std::is_same_v<std::decay_t<decltype(body)>, VoteRequest>) handle(message, body);
      },
      message.body);
}

void Core::State::append(base::Entry entry, std::size_t size) {
  if (entry.kind == base::EntryKind::kConfig) {
    auto decoded = decode_configuration(base::view_of(entry.payload));
    CHECK(decoded.has_value());  // made here, or checked by well_formed()
    const Index index = entry.id.index;
    log.append(std::move(entry), size);
    add_configuration(index, std::move(*decoded));
    return;
  }
  log.append(std::move(entry), size);
}

LogId Core::State::append_own(base::EntryKind kind, base::SharedBytes payload) {
  CHECK(is_leader());
  const LogId id{hard.term, log.last().index.next()};
  const std::size_t size = payload ? payload->size() : 0;
  uncommitted_bytes += size;
  append({id, kind, std::move(payload)}, size);
  pump_due = true;
  return id;
}

base::Result<LogId> Core::State::propose(base::EntryKind kind, base::SharedBytes payload, Proposal nature) {
  if (!is_leader()) return base::make_error(base::Code::kNotLeader, "this node does not lead the group");
  if (transfer_to) return base::make_error(base::Code::kNotLeader, "leadership is being transferred");
  if (kind == base::EntryKind::kConfig)
    return base::make_error(base::Code::kMisuse, "a configuration is proposed by change_configuration");
  if (kind == base::EntryKind::kData && !payload)
    return base::make_error(base::Code::kMisuse, "an entry without payload");
  const std::size_t size = payload ? payload->size() : 0;
  if (size > base::kEntryPayloadMax)
    return base::make_error(base::Code::kTooLarge, "an entry of " + std::to_string(size) + " bytes; at most " +
                                                       std::to_string(base::kEntryPayloadMax) +
                                                       ", longer ones are chains");
  // One entry always goes, however small the limit; the rest of an open chain too, or it could never be decided (R15).
  if (nature == Proposal::kWhole && uncommitted_bytes > 0 && uncommitted_bytes + size > options.uncommitted_bytes_max)
    return base::make_error(base::Code::kFull, std::to_string(uncommitted_bytes) + " bytes wait for a quorum, limit " +
                                                   std::to_string(options.uncommitted_bytes_max));
  return append_own(kind, kind == base::EntryKind::kNoop ? nullptr : std::move(payload));
}

void Core::State::commit_to(Index index) {
  if (index <= commit) return;
  CHECK(index <= log.last().index);
  if (is_leader()) {
    for (Index at = commit.next(); at <= index; at = at.next()) {
      const std::size_t size = log.size_of(at);
      uncommitted_bytes -= std::min(uncommitted_bytes, size);
    }
  }
  if (configuration_index() > commit && configuration_index() <= index) out.status_changed = true;
  commit = index;
}

void Core::State::persisted(std::uint64_t done) {
  CHECK(done <= sequence);
  log.persisted(done);
  while (!hard_jobs.empty() && hard_jobs.front().first <= done) {
    hard_durable = hard_jobs.front().second;
    hard_jobs.pop_front();
  }
  while (!held_for_job.empty() && held_for_job.front().first <= done) {
    out.messages.push_back(std::move(held_for_job.front().second));
    held_for_job.pop_front();
  }
  // A damaged log that is as long as the original again, from a leader, is whole.
  if (!may_vote && LogId{*log.term_at(log.durable()), log.durable()} >= vote_floor) {
    may_vote = true;
    out.status_changed = true;
  }
  // A candidate's own vote counts when it is on the disk, like any other; a leader's own log too.
  if (role == Role::kCandidate && same_vote(hard_durable, hard)) take_vote(options.self, true);
  if (is_leader()) maybe_commit();
}

void Core::State::set_floor(LogId floor, Configuration configuration_at_floor) {
  if (floor.index <= log.floor().index) return;
  CHECK(floor.index <= commit);
  CHECK(floor.index <= handed_to_apply);
  log.set_floor(floor);
  auto last_below = configurations.begin();
  while (std::next(last_below) != configurations.end() && std::next(last_below)->first <= floor.index) ++last_below;
  configurations.erase(configurations.begin(), last_below);
  configurations.front() = {configurations.front().first, std::move(configuration_at_floor)};
  pump_due = true;
}

// --- the seam -----------------------------------------------------------------------------------------------------------

Core::Core(Options options, Restored restored) : state_(std::make_unique<State>(options, std::move(restored))) {}
Core::~Core() = default;

void Core::tick() { state_->tick(); }
void Core::step(Message message) { state_->step(std::move(message)); }
base::Result<LogId> Core::propose(base::EntryKind kind, base::SharedBytes payload, Proposal nature) {
  return state_->propose(kind, std::move(payload), nature);
}
void Core::read_index(std::uint64_t context) { state_->read_index(context); }
base::Result<LogId> Core::change_configuration(std::vector<MemberInfo> voters, std::vector<MemberInfo> learners) {
  return state_->change_configuration(std::move(voters), std::move(learners));
}
base::Status Core::transfer(Member to) { return state_->transfer(to); }
void Core::campaign() {
  if (!state_->is_leader() && state_->may_campaign()) state_->pre_campaign();
}
void Core::persisted(std::uint64_t sequence) { state_->persisted(sequence); }
void Core::disk_stalled(bool stalled) {
  state_->disk_stalled = stalled;
  state_->watch_disk();
}
void Core::applied(Index index) { state_->applied = std::max(state_->applied, index); }
void Core::log_read_done(std::uint64_t token, std::vector<base::Entry> entries) {
  state_->log_read_done(token, std::move(entries));
}
void Core::set_floor(LogId floor, Configuration configuration_at_floor) {
  state_->set_floor(floor, std::move(configuration_at_floor));
}
InstallPlan Core::begin_install(LogId id) { return state_->begin_install(id); }
void Core::snapshot_installed(LogId id, Configuration configuration) {
  state_->snapshot_installed(id, std::move(configuration));
}
void Core::snapshot_failed() { state_->snapshot_failed(); }
void Core::peer_down(Member member) {
  Progress* peer = state_->is_leader() ? state_->progress_of(member) : nullptr;
  if (!peer) return;
  state_->lose_patience();
  peer->down = true;
  if (peer->state == ProgressState::kReplicate) peer->become_probe(peer->match.next());
  peer->read_token = 0;
  if (state_->transfer_to == member) {
    state_->transfer_to = {};
    state_->out.status_changed = true;
  }
}
void Core::peer_up(Member member) {
  Progress* peer = state_->is_leader() ? state_->progress_of(member) : nullptr;
  if (!peer) return;
  peer->down = false;
  peer->probe_sent = false;
  peer->snapshot_due = peer->state == ProgressState::kSnapshot;
  state_->send_heartbeat(member, *peer);
  state_->pump_due = true;
}
std::optional<Index> Core::followers_owed() const { return state_->followers_owed(); }
void Core::pay_followers(Index waited) { state_->pay_followers(waited); }
void Core::hurry(Member member) { state_->hurry(member); }
void Core::announce_commit(Member member) { state_->announce_commit(member); }
bool Core::has_ready() const { return state_->has_ready(); }
Ready Core::take_ready() { return state_->take_ready(); }
Status Core::status() const { return state_->status(); }
bool Core::is_leader() const { return state_->is_leader(); }
Term Core::term() const { return state_->hard.term; }
Member Core::leader() const { return state_->leader; }
std::optional<Term> Core::term_at(Index index) const { return state_->log.term_at(index); }

}  // namespace raft

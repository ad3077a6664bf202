// Core::State: everything the consensus core remembers, and its steps. One owner per transition: roles change in election.cc,
// progress of followers in replication.cc, the configuration in membership.cc, reads in read_index.cc, snapshots in snapshot.cc,
// inputs and dispatch in core.cc, whom entries go to first in patience.cc, output in ready.cc. Private to raft/. Loop lane.
#pragma once

#include <algorithm>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "base/random.h"
#include "raft/core.h"
#include "raft/log_cache.h"
#include "raft/progress.h"

namespace raft {

inline Index before(Index index) { return Index(index.value - 1); }

struct Core::State {
  State(Options given, Restored restored);

  // --- core.cc: inputs, dispatch, terms -------------------------------------------------------------------------------
  void tick();
  void step(Message message);
  base::Result<LogId> propose(base::EntryKind kind, base::SharedBytes payload, Proposal nature);
  void persisted(std::uint64_t sequence);
  void set_floor(LogId floor, Configuration configuration_at_floor);
  // Sends at once. send_durable: after what is in the log and the hard state now is on the disk (R9).
  void send(Member to, Body body) { send_in_term(to, hard.term, std::move(body)); }
  void send_in_term(Member to, Term term, Body body);
  void send_durable(Member to, Body body);
  bool is_leader() const { return role == Role::kLeader; }
  // Leader: appends an entry of its own term.
  LogId append_own(base::EntryKind kind, base::SharedBytes payload);
  void append(base::Entry entry, std::size_t size);
  void commit_to(Index index);
  bool commit_fits(Index index) const { return log.term_at(index) == hard.term; }
  // True if everything a message of this moment promises is durable.
  bool settled() const { return !log.has_unstable() && !log.outstanding() && hard == hard_handed; }

  // --- election.cc: roles, votes, timers, transfer -------------------------------------------------------------------
  bool may_campaign() const;
  void become_follower(Term new_term, Member new_leader);
  void become_leader();
  void pre_campaign();
  void campaign(bool ordered_by_leader);
  void note_leader(Member from);
  void take_vote(Member from, bool granted);
  void handle(const Message& message, const VoteRequest& request);
  void handle(const Message& message, const VoteReply& reply);
  void handle(const Message& message, const TimeoutNow& order);
  void tick_follower();
  void tick_leader();
  void reset_election_timer();
  base::Status transfer(Member to);
  Member best_successor() const;
  void continue_transfer();
  void step_down_removed();
  void watch_disk();
  bool heard_lately(const Progress& peer) const;

  // --- replication.cc ------------------------------------------------------------------------------------------------
  void handle(const Message& message, const AppendRequest& request);
  void handle(const Message& message, const AppendReply& reply);
  void handle(const Message& message, const Heartbeat& beat);
  void handle(const Message& message, const HeartbeatReply& reply);
  bool well_formed(const Message& message, const AppendRequest& request) const;
  void note_conflict(const AppendRequest& request, Index index);
  void reject_append(Member from, const AppendRequest& request);
  void match_advanced(Member member, Progress& peer, Index index);
  void maybe_commit();
  void pump();
  void pump_peer(Member member, Progress& peer);
  void send_entries(Member member, Progress& peer, std::vector<base::Entry> entries);
  std::vector<base::Entry> cached_entries(Index first) const;
  void want_log_read(Progress& peer);
  void log_read_done(std::uint64_t token, std::vector<base::Entry> entries);
  void broadcast_heartbeat();
  void send_heartbeat(Member member, Progress& peer);
  Index known_match() const;
  Progress* progress_of(Member member);

  // --- patience.cc -----------------------------------------------------------------------------------------------------
  bool is_patient(Member member, const Progress& peer) const;
  bool withholds(Member member, const Progress& peer) const;
  void choose_patient();
  void lose_patience();
  bool is_late(Member member, const Progress& peer, Index waited) const;
  void release(Progress& peer);
  void note_late();
  void release_all();
  std::optional<Index> followers_owed() const;
  void pay_followers(Index waited);
  void hurry(Member member);
  void announce_commit(Member member);

  // --- membership.cc ---------------------------------------------------------------------------------------------------
  const Configuration& configuration() const { return configurations.back().second; }
  Index configuration_index() const { return configurations.back().first; }
  // The highest value that a majority (of both configurations in a joint change) has reached.
  template <class ValueOf>
  std::uint64_t quorum_value(ValueOf value_of) const;
  base::Result<LogId> change_configuration(std::vector<MemberInfo> voters, std::vector<MemberInfo> learners);
  void add_configuration(Index index, Configuration configuration);
  void drop_configurations(Index from);
  void configuration_progressed();
  void sync_progress();

  // --- read_index.cc -----------------------------------------------------------------------------------------------------
  void read_index(std::uint64_t context);
  void add_read(Member from, std::uint64_t context);
  void start_read_round();
  void round_echoed();
  void begin_round();
  void answer_read(Member from, std::uint64_t context, bool ok, Index index);
  void fail_led_reads();
  void fail_forwarded_reads();
  void tick_reads();
  void handle(const Message& message, const ReadRequest& request);
  void handle(const Message& message, const ReadReply& reply);
  std::uint64_t quorum_age_ticks() const { return now - quorum_tick; }

  // --- snapshot.cc -------------------------------------------------------------------------------------------------------
  void handle(const Message& message, const SnapshotNeeded& order);
  void handle(const Message& message, const SnapshotReply& reply);
  InstallPlan begin_install(LogId id);
  void snapshot_installed(LogId id, Configuration configuration);
  void snapshot_failed();

  // --- ready.cc ------------------------------------------------------------------------------------------------------------
  bool has_ready() const;
  Ready take_ready();
  bool committed_waiting() const;
  raft::Status status() const;

  // --- data ----------------------------------------------------------------------------------------------------------------
  const Options options;
  base::Random random;
  Role role = Role::kFollower;
  Member leader;
  HardState hard;          // the truth of this moment
  HardState hard_handed;   // given to a persist job (`commit` is written when it is convenient)
  HardState hard_durable;  // on the disk
  std::deque<std::pair<std::uint64_t, HardState>> hard_jobs;
  LogCache log;
  std::vector<std::pair<Index, Configuration>> configurations;  // ascending; the first is the one in force at the floor
  Index commit;
  Index handed_to_apply;
  Index applied;
  bool may_vote;
  std::uint64_t quiet_until = 0;  // ticks; no vote before: see kQuietElections
  LogId vote_floor;
  std::uint64_t sequence = 0;  // of the last persist job
  std::uint64_t now = 0;       // ticks since the start
  std::uint64_t term_changes = 0;
  std::uint64_t conflicts_below_commit = 0;
  Index contradicted;

  // Elections.
  int election_elapsed = 0;
  int election_timeout = 0;
  int failed_campaigns = 0;
  std::map<Member, bool> votes;

  // Follower.
  Index leader_match;       // our log equals the leader's of this term up to here
  Index snapshot_pending;   // asked for; 0 = none
  bool installing = false;  // no appends are taken
  std::optional<LogId> install_ready;
  base::Micros heartbeat_quorum_age = 0;
  std::vector<std::pair<Member, Index>> heartbeat_held;
  std::uint64_t heartbeat_tick = 0;

  // Leader.
  std::map<Member, Progress> peers;
  std::size_t uncommitted_bytes = 0;
  bool own_term_committed = false;
  int heartbeat_elapsed = 0;
  std::uint64_t round = 0;
  std::deque<std::pair<std::uint64_t, std::uint64_t>> round_starts;  // round, tick
  std::uint64_t quorum_tick = 0;                                     // start of the last round that a majority answered
  Member transfer_to;
  std::uint64_t transfer_started = 0;
  bool transfer_ordered = false;  // TimeoutNow was sent
  bool disk_stalled = false;
  std::optional<std::uint64_t> stall_moved;  // tick of the last move away from this disk
  bool pump_due = false;
  std::uint64_t impatient_until = 0;  // tick: before it nobody is chosen to be patient
  std::uint64_t explore_at = 0;       // tick: from it on, all get entries at once until the race is over
  Index race;                         // nobody is chosen before this entry is committed
  int late = 0;                       // rises with every late commit, falls with every commit
  std::uint64_t read_token = 0;

  // Reads.
  struct LedRead {
    Member from;  // self, or who forwarded it
    std::uint64_t context;
    Index index;
    std::uint64_t round;  // 0: not begun
  };
  std::deque<LedRead> led_reads;  // in order; those of begun rounds first
  struct ForwardedRead {
    std::uint64_t context;  // the caller's
    std::uint64_t begun;    // tick
  };
  std::map<std::uint64_t, ForwardedRead> forwarded_reads;
  std::uint64_t forward_context;

  // Output.
  Ready out;
  std::vector<Message> held_new;                               // for the next persist job
  std::deque<std::pair<std::uint64_t, Message>> held_for_job;  // for one already given out
};

template <class ValueOf>
std::uint64_t Core::State::quorum_value(ValueOf value_of) const {
  const auto majority = [](std::vector<std::uint64_t> values) {
    if (values.empty()) return UINT64_MAX;
    std::sort(values.begin(), values.end(), std::greater<>());
    return values[values.size() / 2];
  };
  std::vector<std::uint64_t> incoming;
  std::vector<std::uint64_t> outgoing;
  for (const MemberInfo& info : configuration().voters) incoming.push_back(value_of(info.member));
  for (const Member member : configuration().outgoing) outgoing.push_back(value_of(member));
  return std::min(majority(std::move(incoming)), majority(std::move(outgoing)));
}

}  // namespace raft

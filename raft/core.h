// The consensus core of one Raft group: a pure, deterministic state machine. No I/O, clock, thread or global randomness.
// The driver (node/driver) calls inputs, then take_ready() until it is empty, and obeys this order for each Ready:
//   1. send `messages` at once;
//   2. hand `persist` to the log lane; when it is durable, call persisted(seq) and only then send `persist.then_send`
//      (votes and acks leave after their sync, R9);
//   3. hand `committed` to the appliers, in order; these never exceed min(commit, own durable) (R8).
// The core keeps the payloads of the log's tail in memory (bounded by Options); older ones it asks for by `log_reads`.
// Runs on the loop lane only.
//
// Sources: Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm" (2014); Ongaro's thesis (2014) for pre-vote
// 9.6, transfer 3.10, read-index 6.4, check-quorum 6.2. Where the names differ we use the papers'.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/entry.h"
#include "base/ids.h"
#include "base/result.h"
#include "raft/config.h"
#include "raft/message.h"

namespace raft {

enum class Role : std::uint8_t { kFollower, kPreCandidate, kCandidate, kLeader, kLearner };
const char* to_string(Role role);

// What must be durable before a vote or an ack leaves (R9). 40 bytes on disk (raft/hard_state.cc).
struct HardState {
  Term term;
  Member voted_for;  // {} = nobody in `term`
  Index commit;  // a hint: committed, and durable when it was given to be written; the log may know less after a crash
  auto operator<=>(const HardState&) const = default;
};
base::Bytes encode(const HardState& state);
base::Result<HardState> decode_hard_state(base::ByteView bytes);

struct Options {
  Member self;
  // Time is counted in ticks: the driver calls tick() every `heartbeat` interval's fraction it likes.
  int election_ticks = 10;  // base; randomized in [election, 2 * election) by `seed`
  int heartbeat_ticks = 1;
  std::uint64_t seed = 1;  // for the randomized timeouts; the only source of randomness. Another one for each start:
                           // it also tells forwarded reads of this life from late answers to an earlier one
  std::size_t append_bytes_max = 1 << 20;     // payload bytes per AppendRequest (at least one entry goes)
  int append_inflight_max = 64;               // unacknowledged AppendRequests per follower when replicating
  std::size_t inflight_bytes_max = 16 << 20;  // and their payload bytes
  // propose is refused above; never in the middle of a chain (see Proposal)
  std::size_t uncommitted_bytes_max = 256 << 20;
  std::size_t cache_bytes_max = 64 << 20;              // payloads of the tail kept in memory
  base::Micros tick_micros = 50 * base::kMillisecond;  // length of a tick, for Heartbeat::quorum_age only
  int priority = 0;                                    // higher campaigns earlier; decays with each failed campaign
};

// What the log held when the node started (wal/log.h recovers it).
struct Restored {
  HardState hard;
  LogId floor;                        // the last entry before the first in the log; {0,0} for a log from the start
  Configuration floor_configuration;  // the configuration in force at `floor`
  // floor.index + 1 .. last; payloads may be null except for kConfig (term and size known)
  std::vector<base::Entry> entries;
  std::vector<std::uint64_t> sizes;  // payload sizes of `entries`
  Index applied;                     // the databases contain at least everything up to here (R8)
  bool may_vote = true;  // false: the log is damaged (R12): never campaign, vote only as said below, and not at once
  LogId vote_floor;      // with !may_vote: grant votes only to logs at least as long as this
};

struct PersistJob {
  std::uint64_t sequence = 0;          // strictly increasing; persisted(sequence) answers
  std::optional<HardState> hard;       // write if present
  std::optional<Index> truncate_from;  // remove this index and all after it, before `entries`
  std::vector<base::Entry> entries;    // append
  std::vector<Message> then_send;      // after the sync; a job may have nothing but these and `hard`
};

struct ReadResult {
  std::uint64_t context = 0;
  bool ok = false;  // false: no leader, or leadership lost; nothing is known
  Index index;      // ok: a state machine that has applied this much is linearizable for the request
};

struct LogRead {  // entries below the cache that a follower needs
  std::uint64_t token = 0;
  Index first;
  Index last;  // inclusive; the answer may stop earlier
  std::size_t bytes_max = 0;
};

struct Ready {
  std::vector<Message> messages;
  std::optional<PersistJob> persist;
  // metadata always; payload null if no longer cached: the driver reads it from the log
  std::vector<base::Entry> committed;
  std::vector<ReadResult> reads;
  std::vector<LogRead> log_reads;
  std::vector<Index> snapshots_wanted;  // see SnapshotNeeded: this node must fetch one (index = the leader's floor)
  bool status_changed = false;          // role, leader, term or configuration changed
  [[nodiscard]] bool empty() const;
};

struct PeerStatus {
  Member member;
  bool voter = false;
  Index match;
  Index next;
  Index durable;
  const char* state = "probe";  // probe | replicate | snapshot
  bool recent_active = false;
};

struct Status {
  Role role = Role::kFollower;
  Term term;
  Member leader;  // {} = unknown
  Index commit;
  Index durable;  // own durable last index
  LogId last;
  LogId floor;
  Configuration configuration;  // latest in the log (committed or not)
  Index configuration_index;
  bool configuration_committed = false;
  bool own_term_committed = false;  // leader only: an entry of its own term is committed
  std::size_t uncommitted_bytes = 0;
  int ticks_since_quorum = 0;  // leader only
  std::uint64_t term_changes = 0;
  Index applied;
  bool may_vote = true;  // false while the log is damaged (R12)
  Member transfer_to;    // {} = no transfer runs
  // appends refused because they contradict a committed entry: this log is wrong
  std::uint64_t conflicts_below_commit = 0;
  // not 0: an entry that is committed here, and that the leader's commit index covers as another one
  Index contradicted;
  std::size_t cached_bytes = 0;  // of the payload cache
  // Follower: what the last heartbeat said (bounded reads, R10), and how many ticks ago.
  base::Micros heartbeat_quorum_age = 0;
  std::uint64_t ticks_since_heartbeat = 0;
  std::vector<std::pair<Member, Index>> heartbeat_held;  // committed entries on every voter's disk
  std::vector<PeerStatus> peers;                         // leader only
};

// More of a proposal's nature than its bytes: parts of an open chain are never refused for the uncommitted limit (R15).
enum class Proposal : std::uint8_t { kWhole, kContinuesChain };

// What to do with a snapshot that has arrived, before anything of the log is touched (Core::begin_install).
enum class InstallPlan : std::uint8_t {
  kUseless,     // the log has passed it meanwhile (or this node leads): throw it away, the leader is told
  kWait,        // persist jobs are under way: ask again after persisted()
  kKeepSuffix,  // the log holds the snapshot's last entry: wal set_floor(), never reset(): acknowledged entries follow it
  kReset,       // wal reset()
};

class Core {
 public:
  Core(Options options, Restored restored);
  ~Core();
  Core(const Core&) = delete;
  Core& operator=(const Core&) = delete;

  // --- inputs -------------------------------------------------------------------------------------------------------
  void tick();
  // Messages from or to another incarnation, from non-members (but for learners-to-be), or malformed in content are ignored.
  void step(Message message);
  // Leader only; returns the entry's id at once (it is not yet durable anywhere). Refusals, nothing appended:
  // kNotLeader (also while a transfer runs), kFull (uncommitted limit), kTooLarge.
  base::Result<LogId> propose(base::EntryKind kind, base::SharedBytes payload, Proposal nature = Proposal::kWhole);
  // Asks for a linearizable index; answered by Ready::reads with `context`. On a follower it goes to the leader.
  void read_index(std::uint64_t context);
  // Leader only: a joint change to these voters and learners. Leaves the joint state by itself.
  // Refused: kNotLeader, kMisuse (a change is in progress, no committed entry of the own term, or an unknown learner to promote).
  base::Result<LogId> change_configuration(std::vector<MemberInfo> voters, std::vector<MemberInfo> learners);
  // Leader only. `to` = {} lets the core choose the best caught-up voter. kNotLeader, kNotFound (also when it
  // does not answer: nothing is proposed while a transfer runs), kMisuse (a transfer is running).
  base::Status transfer(Member to);
  // Campaign now (bootstrap of a single node; tests).
  void campaign();
  // The disk holds job `sequence` and all before it. A completion for a job that a truncation has overtaken is harmless (ABA).
  void persisted(std::uint64_t sequence);
  // The disk has been slow for this long; a leader moves leadership away when a peer is better (rate-limited).
  void disk_stalled(bool stalled);
  // The appliers have finished everything up to here (bounds what a snapshot or floor may cover).
  void applied(Index index);
  // Answers a LogRead; `entries` contiguous from its `first`. An empty vector means the log no longer has them.
  void log_read_done(std::uint64_t token, std::vector<base::Entry> entries);
  // The log no longer holds entries up to `floor`.
  void set_floor(LogId floor, Configuration configuration_at_floor);
  // Before the log is touched for a snapshot up to `id`. After kWait, kKeepSuffix and kReset no appends are taken until
  // snapshot_installed() or snapshot_failed(), so that nothing acknowledged is lost with the old log.
  InstallPlan begin_install(LogId id);
  // A snapshot up to `id` is installed and durable here: the log starts after it. Ignored unless begin_install(id) said
  // kKeepSuffix or kReset.
  void snapshot_installed(LogId id, Configuration configuration);
  void snapshot_failed();
  // Leader: some follower is owed something: it has matching entries that it does not know to be committed, or it has not been sent the
  // newest entries because the quorum does not need it (patience.cc). Returns the log's last index of this moment, to be given to
  // pay_followers(), which sends both: the entries now, heartbeats for commits up to `waited` now or as soon as a follower's entries match
  // (later commits ride on the next append or are owed again). Appends and heartbeats pay in passing. How long to wait is the driver's
  // decision; entries up to `waited` that are not committed by then tell that the quick followers are not quick at the moment.
  [[nodiscard]] std::optional<Index> followers_owed() const;
  void pay_followers(Index waited);
  // Leader: somebody on `member` waits, or will wait, for entries: it gets them at once for an election timeout.
  void hurry(Member member);
  // Leader: somebody on `member` waits for what is committed by now: it hears of it as soon as it has it. Also hurries it.
  void announce_commit(Member member);
  // The transport lost or regained a member.
  void peer_down(Member member);
  void peer_up(Member member);

  // --- outputs ------------------------------------------------------------------------------------------------------
  [[nodiscard]] bool has_ready() const;
  Ready take_ready();
  [[nodiscard]] Status status() const;
  [[nodiscard]] bool is_leader() const;
  [[nodiscard]] Term term() const;
  [[nodiscard]] Member leader() const;
  // Cached payload, or null; term of an index if the log still knows it.
  [[nodiscard]] std::optional<Term> term_at(Index index) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace raft

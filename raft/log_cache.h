// The Raft log as the core sees it: terms of the whole log as runs, metadata of the tail, payloads of the newest entries
// (bounded), and what of it is durable. Pure data structure; the entries themselves are kept by wal/. Loop lane.
//
//   floor      tail_first          payload_first        durable   handed      last
//     |--terms only--|--metadata only----|----payload kept--:--------:---------|
//
// Everything without a payload here is durable, so that a LogRead finds it. `handed` is the last entry given to a persist job.
// ABA: a job's completion makes durable only those of its entries that were not truncated since it was made.
#pragma once

#include <deque>
#include <optional>
#include <vector>

#include "raft/core.h"

namespace raft {

class LogCache {
 public:
  // An empty log after `floor`; all of it is durable. `bytes_max`: payload bytes (and a little per entry) to keep.
  LogCache(LogId floor, std::size_t bytes_max);

  [[nodiscard]] LogId floor() const { return {runs_.front().term, floor_}; }
  [[nodiscard]] LogId last() const { return {runs_.back().term, last_}; }
  // Known from the floor (inclusive) to the last entry.
  [[nodiscard]] std::optional<Term> term_at(Index index) const;
  [[nodiscard]] bool matches(LogId id) const { return term_at(id.index) == id.term; }
  // The largest index <= `index` whose term is <= `term`; the floor if there is none above it. (Term-hint backtracking.)
  [[nodiscard]] LogId last_at_or_below(Term term, Index index) const;

  // `size`: payload bytes, also when the payload is not given. Must continue the log.
  void append(base::Entry entry, std::size_t size);
  // Removes `from` and everything after it. from > floor.
  void truncate(Index from);
  // Forgets entries up to `floor`, which the log holds.
  void set_floor(LogId floor);
  // At start: everything appended so far came from the disk.
  void all_durable() { durable_ = handed_ = last_; }
  // Forgets everything: an empty, durable log after `floor`.
  void reset(LogId floor);

  // The payload is here, or there is none.
  [[nodiscard]] bool cached(Index index) const;
  // Metadata, and the payload if cached. index > tail_first() - 1.
  [[nodiscard]] base::Entry entry(Index index) const;
  [[nodiscard]] std::size_t size_of(Index index) const;
  [[nodiscard]] Index payload_first() const { return payload_first_; }
  [[nodiscard]] std::size_t cached_bytes() const { return cached_bytes_; }
  // Drops payloads over the limit, and metadata of what the appliers were given (up to `handed_to_apply`).
  void trim(Index handed_to_apply);

  [[nodiscard]] Index durable() const { return durable_; }
  [[nodiscard]] bool has_unstable() const { return handed_ < last_ || truncate_from_.has_value(); }
  // Moves truncation and new entries into `job` and remembers it by its sequence.
  void hand_over(PersistJob& job);
  void persisted(std::uint64_t sequence);
  [[nodiscard]] bool outstanding() const { return !jobs_.empty(); }
  [[nodiscard]] std::uint64_t last_outstanding() const { return jobs_.back().sequence; }

 private:
  struct Run {
    Index first;  // of the first run: the floor itself
    Term term;
  };
  struct Slot {
    base::SharedBytes payload;
    std::size_t size = 0;
    base::EntryKind kind = base::EntryKind::kNoop;
  };
  struct Job {
    std::uint64_t sequence;
    Index durable_to;  // lowered by truncations
  };
  [[nodiscard]] const Slot& slot(Index index) const;
  [[nodiscard]] static bool missing(const Slot& slot);
  [[nodiscard]] static std::size_t weight(const Slot& slot);

  std::size_t bytes_max_;
  Index floor_;
  Index last_;
  std::vector<Run> runs_;   // never empty
  Index tail_first_;        // index of slots_[0]
  std::deque<Slot> slots_;  // up to last_
  Index payload_first_;     // below: no payloads
  std::size_t cached_bytes_ = 0;
  Index durable_;
  Index handed_;
  std::optional<Index> truncate_from_;  // not yet given to a job
  std::deque<Job> jobs_;
};

}  // namespace raft

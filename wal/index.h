// What the log knows in memory about the entries of one group: where each rests. 32 bytes per entry.
// Used by the log and by recovery, on their thread.
#pragma once

#include <cstdint>
#include <deque>

#include "base/check.h"
#include "base/entry.h"
#include "base/ids.h"

namespace wal {

using base::Index;
using base::LogId;
using base::Term;

// Where an entry rests. A fragmented entry is named by its first fragment.
struct Slot {
  std::uint64_t sequence = 0;  // of the segment
  Term term;
  std::uint32_t offset = 0;  // of the record's header in the segment, bytes
  std::uint32_t size = 0;    // of the payload
  base::EntryKind kind = base::EntryKind::kNoop;
};

class GroupIndex {
 public:
  // The entry before the first one held.
  [[nodiscard]] LogId base() const { return base_; }
  [[nodiscard]] LogId last() const { return slots_.empty() ? base_ : LogId{slots_.back().term, last_index()}; }
  [[nodiscard]] Index last_index() const { return Index(base_.index.value + slots_.size()); }
  [[nodiscard]] Index first_index() const { return base_.index.next(); }
  [[nodiscard]] bool holds(Index index) const { return index > base_.index && index <= last_index(); }
  [[nodiscard]] const Slot& at(Index index) const {
    CHECK(holds(index));
    return slots_[index.value - base_.index.value - 1];
  }
  void append(const Slot& slot) { slots_.push_back(slot); }
  // `from` and all after it go. Below the first entry the term before it is no longer known, and given as 0.
  void truncate(Index from) {
    CHECK(from.value > 0);
    if (from <= base_.index) {
      reset({Term{}, Index(from.value - 1)});
      return;
    }
    while (last_index() >= from) slots_.pop_back();
  }
  // Entries up to `floor` go; a floor at or beyond the end empties the log.
  void drop_to(LogId floor) {
    if (floor.index <= base_.index) return;
    if (floor.index >= last_index()) {
      reset(floor);
      return;
    }
    while (base_.index < floor.index) {
      slots_.pop_front();
      base_.index = base_.index.next();
    }
    base_.term = floor.term;
  }
  void reset(LogId base) {
    base_ = base;
    slots_.clear();
  }

 private:
  LogId base_;
  std::deque<Slot> slots_;
};

}  // namespace wal

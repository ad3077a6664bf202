// Replay: the state machine that recovery feeds with segment headers, batches and gaps, in LSN order. No I/O.
//
// An append is one or more batches, first to last; its records take effect when its last batch is there. A gap is a run of batches
// that are declared durable and cannot be read. What a gap did to a group shows in the next header, which says how the group's
// log ended: if it still ends where ours does, the gap held nothing of that group. Otherwise the group is lost from there: entries
// after the gap do not join those before it. They suffice when the floor has passed the gap; if not, the group keeps what it had
// before the gap, and `known` says how long it was.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "wal/recovery.h"

namespace wal {

class Replay {
 public:
  // Headers of all segments, by sequence: they say which gaps were found and dealt with by an earlier start.
  explicit Replay(const std::vector<Segment>& segments);

  // The next lsn that must come.
  [[nodiscard]] Lsn expected() const { return expected_; }
  // A segment begins; a jump of the lsn is a gap. `where` names it for people.
  void segment(const SegmentHeader& header, const std::string& where);
  // The batch `header` with records that are all valid. `offset` of the batch in its segment.
  void batch(const BatchHeader& header, const std::vector<Record>& records, std::uint64_t offset, ByteView bytes);
  // Batches expected() .. to - 1 cannot be read. `next`: the header that comes after them, if it is a batch's.
  void gap(Lsn to, const std::string& where, const BatchHeader* next);
  // A segment whose header is unreadable begins with `lsn`.
  void begin_at(Lsn lsn, const std::string& where);
  // The batch at the cut: its header is whole, and says how the log ended before it.
  void cut(const BatchHeader& header);
  // Hard states from an echo behind the cut: written but never acknowledged, or all that rot left of the last batch.
  void salvage(const std::vector<Record>& records);
  // A segment that cannot be read at all and may be the newest.
  void unreadable_end(const std::string& where);
  // An earlier start found this gap and dealt with it: a later segment header says so.
  [[nodiscard]] bool is_settled(Lsn from, Lsn to) const;

  // Moves the outcome into `out`: groups, next_lsn, settled_from, damage.
  void finish(Recovery& out);

 private:
  struct Pending {
    RecordHeader header;
    std::uint64_t sequence = 0;
    std::uint32_t offset = 0;
    Lsn lsn;
    Bytes hard_state;
  };
  struct GroupReplay {
    GroupState state;
    GroupIndex before_gap;
    Lsn lost_from;       // not 0: lost, and `before_gap` is what there was
    bool doubt = false;  // an append was broken by a gap and no header has said since how the log ended
    LogId seen;          // highest entry read in broken appends
    Lsn gap_from;        // start of the latest gap
  };
  struct Range {
    Lsn from;
    Lsn to;
    std::uint64_t sequence = 0;  // of the segment whose header says so; it begins with `to`
    [[nodiscard]] bool holds(Lsn lsn) const { return lsn >= from && lsn < to; }
  };

  void check_last(const std::array<LogId, base::kGroupCount>& last, Lsn lsn);
  void lose(GroupReplay& group, LogId base, Lsn lsn);
  void break_append();
  void apply_pending();
  void apply(const Pending& record, const Pending* first_fragment);
  [[nodiscard]] bool is_void(Group group, Lsn lsn) const;
  [[nodiscard]] bool is_void(Group group, const SegmentHeader& header) const;
  LogId finish_group(GroupReplay& group);

  std::array<GroupReplay, base::kGroupCount> groups_;
  std::array<std::vector<Range>, base::kGroupCount> void_;
  std::vector<Range> settled_;
  Lsn expected_;
  Lsn taken_;  // last batch that was read
  bool started_ = false;
  bool append_open_ = false;
  std::vector<Pending> pending_;
  Lsn first_gap_;
  std::string where_;
  bool hard_state_doubt_ = false;
  bool end_doubt_ = false;
};

}  // namespace wal

// Replay of a log's records; see replay.h for the rules.
#include "wal/replay.h"

#include <algorithm>

namespace wal {

namespace {

// Whether the log ends at `last`. A term that a truncation below the first entry made unknown is learned here.
bool ends_at(GroupIndex& index, LogId last) {
  const LogId own = index.last();
  if (own == last) return true;
  if (own.index != last.index || own.term) return false;
  index.reset(last);
  return true;
}

}  // namespace

Replay::Replay(const std::vector<Segment>& segments) {
  for (const Segment& segment : segments) {
    const SegmentHeader& header = segment.header;
    if (header.settled_from) settled_.push_back({header.settled_from, header.first_lsn, header.sequence});
    for (std::size_t i = 0; i < header.groups.size(); ++i) {
      if (header.groups[i].rebased_from)
        void_[i].push_back({header.groups[i].rebased_from, header.first_lsn, header.sequence});
    }
  }
}

bool Replay::is_void(Group group, Lsn lsn) const {
  const auto& ranges = void_[slot_of(group)];
  return std::any_of(ranges.begin(), ranges.end(), [lsn](const Range& range) { return range.holds(lsn); });
}

// A segment that got no batch begins where the one after it does: what its header says of the log's end was known to that one.
bool Replay::is_void(Group group, const SegmentHeader& header) const {
  const auto& ranges = void_[slot_of(group)];
  return std::any_of(ranges.begin(), ranges.end(), [&](const Range& range) {
    return range.holds(header.first_lsn) || (range.to == header.first_lsn && header.sequence < range.sequence);
  });
}

bool Replay::is_settled(Lsn from, Lsn to) const {
  return std::any_of(settled_.begin(), settled_.end(),
                     [=](const Range& range) { return from >= range.from && to <= range.to; });
}

void Replay::segment(const SegmentHeader& header, const std::string& where) {
  if (started_ && header.first_lsn > expected_) gap(header.first_lsn, where, nullptr);
  for (std::size_t i = 0; i < groups_.size(); ++i) {
    GroupReplay& group = groups_[i];
    const GroupHeader& said = header.groups[i];
    const LogId last{said.previous_term, Index(said.next.value - 1)};
    if (!started_) {
      group.state.index.reset(last);
    } else if (!is_void(kGroups[i], header) && !ends_at(group.state.index, last)) {
      lose(group, last, header.first_lsn);
    }
    // In the middle of an append the header says what was before it. Without the pieces before, its entries are missing.
    group.doubt = header.start == SegmentStart::kInsideAppend && (!started_ || !append_open_);
    if (!started_ || header.start == SegmentStart::kClean) group.state.hard_state = said.hard_state;
    group.state.floor = said.floor.index > group.state.floor.index ? said.floor : group.state.floor;
    group.state.known = said.known;
  }
  if (!started_ || header.start == SegmentStart::kClean) hard_state_doubt_ = false;
  started_ = true;
  expected_ = header.first_lsn;
}

void Replay::gap(Lsn to, const std::string& where, const BatchHeader* next) {
  const Lsn from = expected_;
  const bool settled = is_settled(from, to);
  if (!settled && !first_gap_) {
    first_gap_ = from;
    where_ = where;
  }
  for (GroupReplay& group : groups_) group.gap_from = from;
  // A batch with hard states is followed by its echo: one unreadable batch alone takes no hard state with it.
  if (!settled && to.value - from.value >= 2) hard_state_doubt_ = true;
  // Read, and synced like all before the gap: what the append was about is lost, its vote is not.
  for (const Pending& record : pending_)
    if (record.header.type == RecordType::kHardState)
      groups_[slot_of(record.header.group)].state.hard_state = record.hard_state;
  break_append();
  expected_ = to;
  if (next == nullptr) return;
  if (next->flags & kFlagFirst) {
    check_last(next->last, next->lsn);
  } else if (!settled) {
    for (GroupReplay& group : groups_) group.doubt = true;
  }
}

void Replay::begin_at(Lsn lsn, const std::string& where) {
  if (expected_ && lsn > expected_) gap(lsn, where, nullptr);
  expected_ = lsn;
}

void Replay::cut(const BatchHeader& header) {
  if (header.flags & kFlagFirst) check_last(header.last, header.lsn);
}

void Replay::break_append() {
  for (const Pending& record : pending_) {
    GroupReplay& group = groups_[slot_of(record.header.group)];
    if (record.header.type != RecordType::kEntry && record.header.type < RecordType::kFirst) continue;
    group.seen = std::max(group.seen, LogId{record.header.term, record.header.index});
  }
  pending_.clear();
  append_open_ = false;
}

void Replay::check_last(const std::array<LogId, base::kGroupCount>& last, Lsn lsn) {
  for (std::size_t i = 0; i < groups_.size(); ++i) {
    GroupReplay& group = groups_[i];
    group.doubt = false;
    if (is_void(kGroups[i], lsn)) continue;
    if (!started_) {
      group.state.index.reset(last[i]);
    } else if (!ends_at(group.state.index, last[i])) {
      lose(group, last[i], lsn);
    }
  }
  started_ = true;
}

void Replay::lose(GroupReplay& group, LogId base, Lsn lsn) {
  if (!group.lost_from) {
    group.before_gap = group.state.index;
    group.lost_from = group.gap_from ? group.gap_from : lsn;
    if (!first_gap_) first_gap_ = group.lost_from;
  }
  group.seen = std::max(group.seen, base);
  group.state.index.reset(base);
}

void Replay::batch(const BatchHeader& header, const std::vector<Record>& records, std::uint64_t offset,
                   ByteView bytes) {
  const bool follows = taken_.next() == header.lsn;
  taken_ = header.lsn;
  expected_ = header.lsn.next();
  if (header.flags & kFlagEcho) {
    // Beside a readable first copy it says nothing new: that one counts when its append is complete.
    if (!follows) salvage(records);
    hard_state_doubt_ = false;
    return;
  }
  if (header.flags & kFlagFirst) {
    // What was open before was given up by its writer (disk full): it never counted.
    pending_.clear();
    append_open_ = true;
    check_last(header.last, header.lsn);
  }
  for (const Record& record : records) {
    Pending pending{record.header, header.sequence, 0, header.lsn, {}};
    pending.offset = static_cast<std::uint32_t>(
        offset + static_cast<std::size_t>(record.payload.data() - bytes.data()) - kRecordHeaderSize);
    if (record.header.type == RecordType::kHardState) pending.hard_state = base::copy_of(record.payload);
    pending_.push_back(std::move(pending));
  }
  if (!append_open_) {
    break_append();  // the rest of an append whose beginning is lost
    return;
  }
  if (header.flags & kFlagLast) apply_pending();
}

void Replay::apply_pending() {
  const Pending* first = nullptr;
  for (const Pending& record : pending_) {
    if (record.header.type == RecordType::kFirst) first = &record;
    if (record.header.type == RecordType::kFirst || record.header.type == RecordType::kMiddle) continue;
    apply(record, record.header.type == RecordType::kLast ? first : nullptr);
  }
  pending_.clear();
  append_open_ = false;
}

void Replay::apply(const Pending& record, const Pending* first_fragment) {
  GroupReplay& group = groups_[slot_of(record.header.group)];
  GroupState& state = group.state;
  const RecordHeader& header = record.header;
  const LogId id{header.term, header.index};
  if (header.type == RecordType::kHardState) {
    state.hard_state = record.hard_state;
    return;
  }
  if (header.type == RecordType::kFloor) {
    if (id.index > state.floor.index) state.floor = id;
    return;
  }
  if (is_void(header.group, record.lsn)) return;
  if (header.type == RecordType::kTruncate) {
    if (header.index.value != 0) state.index.truncate(header.index);
    return;
  }
  if (header.type == RecordType::kReset) {
    state.index.reset(id);
    state.floor = id;
    state.known = {};
    group.lost_from = {};
    group.seen = {};
    return;
  }
  const Pending& start = first_fragment != nullptr ? *first_fragment : record;
  const bool joins = header.index == state.index.last_index().next();
  const bool whole =
      header.type == RecordType::kEntry || (first_fragment != nullptr && start.header.index == header.index);
  if (!joins || !whole) {
    // Valid checksums around nonsense: treat it as the loss that it is.
    lose(group, id, record.lsn);
    return;
  }
  state.index.append({start.sequence, header.term, start.offset, start.header.total, header.kind});
}

void Replay::salvage(const std::vector<Record>& records) {
  for (const Record& record : records) {
    if (record.header.type != RecordType::kHardState) continue;
    groups_[slot_of(record.header.group)].state.hard_state = base::copy_of(record.payload);
  }
  hard_state_doubt_ = false;
}

void Replay::unreadable_end(const std::string& where) {
  end_doubt_ = true;
  if (where_.empty()) where_ = where;
  if (!first_gap_) first_gap_ = expected_;
}

// Settles one group; returns how long its log is known to have been.
LogId Replay::finish_group(GroupReplay& group) {
  GroupState& state = group.state;
  LogId known = std::max(state.known, std::max(group.seen, state.index.last()));
  const bool damaged = group.doubt || end_doubt_;
  if (group.lost_from && (damaged || state.index.base().index > state.floor.index)) {
    state.index = group.before_gap;
    state.rebased_from = group.lost_from;
  } else if (damaged) {
    state.rebased_from = group.gap_from ? group.gap_from : first_gap_;
  } else {
    known = std::max(state.known, state.index.last());
  }
  if (state.index.base().index > state.floor.index) {
    // The beginning is missing. What follows it is of no use to consensus without it.
    state.index.reset(state.floor);
    state.rebased_from = Lsn{1};
    if (where_.empty()) where_ = "the segments that the log begins with are missing";
  }
  state.index.drop_to(state.floor);
  state.known = state.index.last() >= known ? LogId{} : known;
  return known;
}

void Replay::finish(Recovery& out) {
  break_append();
  Damage damage;
  bool damaged = hard_state_doubt_ || end_doubt_;
  for (std::size_t i = 0; i < groups_.size(); ++i) {
    damage.last_known[i] = finish_group(groups_[i]);
    damaged = damaged || groups_[i].state.rebased_from || groups_[i].state.known != LogId{};
    out.groups[i] = std::move(groups_[i].state);
  }
  out.next_lsn = expected_ ? expected_ : Lsn{1};
  out.settled_from = first_gap_;
  if (!damaged) return;
  damage.where = where_.empty() ? "entries lost to damage found earlier have not all come back" : where_;
  out.damage = std::move(damage);
}

}  // namespace wal

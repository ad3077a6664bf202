// The log's write path: append, sync, seal, floors, new segments, disk full, poison. Opening and reading are in open.cc.
#include "wal/log.h"

#include <algorithm>
#include <exception>

#include "base/fault.h"
#include "wal/log_impl.h"

namespace wal {

namespace {

// A small append is not split over two segments when it fits into the new one.
constexpr std::uint64_t kSplitMin = std::uint64_t{1} << 20;
// How far a segment that nobody prepared grows at a time: one metadata change per so many bytes.
constexpr std::uint64_t kGrowth = std::uint64_t{1} << 20;

bool is_entry(const Item& item) { return item.header.type == RecordType::kEntry; }

// R9: what a vote or the log's very shape depends on. The cache group has no files that could be repaired from.
bool must_be_synced(const Item& item) {
  return !is_entry(item) || item.header.kind == base::EntryKind::kConfig || item.header.group == Group::kCache;
}

}  // namespace

LogImpl::LogImpl(base::Env& env, Options options)
    : env_(env),
      options_(std::move(options)),
      identity_(options_.identity),
      store_(env, options_.dir, options_.segment_size, options_.ready_segments) {}

base::Status LogImpl::not_poisoned() const {
  if (!poisoned_) return base::ok();
  return base::make_error(base::Code::kPoisoned, options_.dir +
                                                     ": a write or sync of the log failed earlier; restart the node "
                                                     "when the disk is sound");
}

base::Status LogImpl::poison(const base::Error& error) {
  poisoned_ = true;
  return base::make_error(base::Code::kPoisoned, options_.dir + ": " + error.message);
}

std::array<LogId, base::kGroupCount> LogImpl::lasts() const {
  return {groups_[0].index.last(), groups_[1].index.last()};
}

void LogImpl::update_bytes() {
  std::uint64_t sum = 0;
  for (const Segment& segment : segments_) sum += segment.end;
  bytes_ = sum;
}

void LogImpl::set_cluster(std::uint64_t cluster) { identity_.cluster = cluster; }

// --- segments -----------------------------------------------------------------------------------------------------------

SegmentHeader LogImpl::next_header() const {
  SegmentHeader header;
  header.segment_size = options_.segment_size;
  header.sequence = sequence_max_ + 1;
  header.salt = env_.random();
  header.first_lsn = tail_.next_lsn;
  header.identity = identity_;
  header.settled_from = settled_from_;
  for (std::size_t i = 0; i < groups_.size(); ++i) {
    const GroupState& state = groups_[i];
    const LogId last = state.index.last();
    header.groups[i] = {last.index.next(), last.term, state.floor, state.rebased_from, state.known, state.hard_state};
  }
  return header;
}

// Everything in the last segment is synced, or cut off by the header of the new one.
base::Status LogImpl::next_segment(SegmentStart start) {
  SegmentHeader header = next_header();
  header.start = start;
  auto made = store_.make_live(header);
  if (!made) {
    if (made.error().code == base::Code::kFull) return made.error();
    return poison(made.error());
  }
  ++sync_count_;
  sequence_max_ = header.sequence;
  settled_from_ = {};
  for (GroupState& state : groups_) state.rebased_from = {};
  segments_.push_back({std::move(header), made->path, std::move(made->file), kDataStart});
  zeroed_to_ = made->zeroed_to;
  tail_.offset = kDataStart;
  tail_.crc = 0;
  synced_ = given_ = tail_;
  begun_.clear();
  must_switch_ = false;
  sealed_ = true;  // its header declares what is before it durable
  update_bytes();
  return base::ok();
}

base::Status LogImpl::recycle() {
  // All before the last segment whose beginning is at or below every floor.
  std::size_t keep = 0;
  for (std::size_t i = 1; i < segments_.size(); ++i) {
    bool covers = segments_[i].header.start == SegmentStart::kClean;
    for (std::size_t g = 0; g < groups_.size(); ++g) {
      covers = covers && segments_[i].header.groups[g].next.value <= groups_[g].floor.index.value + 1;
      // A header from where damage was says nothing of what the log came to be: its first entry may still be in an older segment.
      const GroupIndex& index = groups_[g].index;
      covers = covers && (!index.holds(index.first_index()) ||
                          index.at(index.first_index()).sequence >= segments_[i].header.sequence);
    }
    if (covers) keep = i;
  }
  std::vector<Segment> gone(std::make_move_iterator(segments_.begin()),
                            std::make_move_iterator(segments_.begin() + static_cast<std::ptrdiff_t>(keep)));
  segments_.erase(segments_.begin(), segments_.begin() + static_cast<std::ptrdiff_t>(keep));
  update_bytes();
  for (Segment& segment : gone) {
    segment.file.reset();
    HQL_TRY(store_.recycle(segment.path));  // one that stays is found, and recycled, at the next start
  }
  return base::ok();
}

// --- writing ------------------------------------------------------------------------------------------------------------

// Allocates zeros ahead of the batches of a segment that nobody prepared. Opportunistic: a full disk shows at the batch itself.
base::Status LogImpl::grow(std::uint64_t end) {
  if (end <= zeroed_to_) return base::ok();
  const std::uint64_t to = std::min(segments_.back().header.segment_size, align_up(end, kGrowth));
  zeroed_to_ = end;
  if (to == end) return base::ok();
  const Bytes zeros(to - end);
  const base::Status written = segments_.back().file->write(end, zeros);
  if (written) {
    zeroed_to_ = to;
  } else if (written.error().code == base::Code::kFull) {
    store_.note_full();
  } else {
    return poison(written.error());
  }
  return base::ok();
}

base::Status LogImpl::sync_tail() {
  if (const auto fault = HQL_FAULT_POINT("wal.sync")) return poison(fault->error("sync " + segments_.back().path));
  if (base::Status synced = segments_.back().file->sync(); !synced) return poison(synced.error());
  ++sync_count_;
  synced_ = given_ = tail_;
  begun_.clear();
  segments_.back().end = tail_.offset;
  all_synced_ = true;
  return base::ok();
}

// After a write that failed for want of space: back to where the append began in this segment, and nothing half-written may be taken for
// valid later. Appends before it that are written and not yet synced stay: they were acknowledged as such.
base::Status LogImpl::give_up(base::Error error) {
  store_.note_full();
  tail_ = given_;
  bool clean = true;
  const Bytes zeros(kBlockSize);
  for (const std::uint64_t offset : begun_) {
    const base::Status written = segments_.back().file->write(offset, zeros);
    if (!written && written.error().code != base::Code::kFull) return poison(written.error());
    clean = clean && written;
  }
  HQL_TRY(sync_tail());
  // Where zeros cannot be written either, the header of the next segment will cut off what is there.
  if (!clean) must_switch_ = true;
  return error;
}

// One write: a batch, and behind it the echo when this batch holds hard states.
base::Status LogImpl::write_run(std::uint8_t flags, bool& first) {
  Segment& segment = segments_.back();
  const bool echoes = first && !echo_items_.empty();
  const std::size_t space =
      std::min<std::uint64_t>({room(), kBatchSizeMax, builder_.size_left() + (echoes ? kBlockSize : 0)});
  const std::size_t echo_space = echoes ? kBlockSize : 0;
  std::byte* out = buffer_.reserve(space);
  BatchBuilder::Frame frame{segment.header.salt, segment.header.sequence, Lsn(synced_.next_lsn.value - 1), lasts()};
  const std::uint64_t start = tail_.offset;
  const auto piece_flags = static_cast<std::uint8_t>(flags | (first ? kFlagFirst : 0));
  std::size_t size = builder_.pack(frame, start, tail_.next_lsn, piece_flags, space - echo_space, out, tail_.crc);
  begun_.push_back(start);
  tail_.next_lsn = tail_.next_lsn.next();
  if (echoes) {
    BatchBuilder echo;
    echo.begin(echo_items_, echo_places_);
    begun_.push_back(start + size);
    size += echo.pack(frame, start + size, tail_.next_lsn, kFlagEcho, kBlockSize, out + size, tail_.crc);
    CHECK(echo.done());
    tail_.next_lsn = tail_.next_lsn.next();
  }
  if (const auto fault = HQL_FAULT_POINT("wal.write")) {
    base::Error error = fault->error("write " + segment.path);
    return error.code == base::Code::kFull ? give_up(error) : poison(error);
  }
  if (base::Status written = segment.file->write(start, {out, size}); !written) {
    return written.error().code == base::Code::kFull ? give_up(written.error()) : poison(written.error());
  }
  tail_.offset += size;
  first = false;
  return grow(tail_.offset);
}

base::Status LogImpl::write_pieces(std::uint8_t flags, Durability wanted) {
  bool first = true;
  given_ = tail_;
  begun_.clear();
  const std::uint64_t total = builder_.size_left() + (echo_items_.empty() ? 0 : kBlockSize);
  do {
    const std::uint64_t least = kBlockSize * (first && !echo_items_.empty() ? 2 : 1);
    const bool fits_better =
        first && total > room() && total <= kSplitMin && total <= options_.segment_size - kDataStart;
    if (must_switch_ || room() < least || fits_better) {
      // The header of the next segment declares everything before it durable.
      if (tail_.offset != synced_.offset) HQL_TRY(sync_tail());
      HQL_TRY(next_segment(first ? SegmentStart::kClean : SegmentStart::kInsideAppend));
      continue;
    }
    HQL_TRY(write_run(flags, first));
  } while (first || !builder_.done());
  if (wanted == Durability::kSynced) return sync_tail();
  segments_.back().end = tail_.offset;
  all_synced_ = false;
  return base::ok();
}

// Writes items_ and makes them as durable as is wanted; the state in memory is not touched.
base::Status LogImpl::write_items(std::uint8_t flags, Durability wanted) {
  echo_items_.clear();
  const bool hard = std::any_of(items_.begin(), items_.end(),
                                [](const Item& item) { return item.header.type == RecordType::kHardState; });
  if (hard) {
    // The echo carries the hard states of both groups as they are after this append.
    for (std::size_t i = 0; i < groups_.size(); ++i) {
      ByteView latest = groups_[i].hard_state;
      for (const Item& item : items_) {
        if (item.header.type == RecordType::kHardState && item.header.group == kGroups[i]) latest = item.payload;
      }
      if (latest.empty()) continue;
      echo_items_.push_back({{RecordType::kHardState, kGroups[i]}, latest});
    }
  }
  builder_.begin(items_, places_);
  base::Status written = write_pieces(flags, wanted);
  buffer_.release_large();
  if (!written) return written;
  sealed_ = flags & kFlagSeal;
  update_bytes();
  return base::ok();
}

base::Status LogImpl::check_appends(const std::vector<Append>& appends) const {
  auto last = lasts();
  for (const Append& append : appends) {
    const std::size_t slot = slot_of(append.group);
    const auto refuse = [&](const std::string& why) {
      return base::make_error(base::Code::kMisuse, "append to group " + std::to_string(slot + 1) + ": " + why);
    };
    if (append.hard_state && append.hard_state->size() > kHardStateSizeMax) return refuse("hard state is too long");
    if (append.truncate_from) {
      const Index from = *append.truncate_from;
      if (from <= groups_[slot].index.base().index) {
        return refuse("truncation from " + std::to_string(from.value) + " would go below the floor");
      }
      if (from <= last[slot].index) last[slot].index = Index(from.value - 1);
    }
    for (const base::Entry& entry : append.entries) {
      if (entry.id.index != last[slot].index.next()) {
        return refuse("entry " + std::to_string(entry.id.index.value) + " does not follow " +
                      std::to_string(last[slot].index.value));
      }
      if (entry.size() > kEntrySizeMax) return refuse("entry " + std::to_string(entry.id.index.value) + " is too long");
      last[slot] = entry.id;
    }
  }
  return base::ok();
}

// Whoever changes the log and is left by an exception (out of memory) leaves it poisoned: what is written and what is remembered may differ,
// and only the next start, which reads what is there, makes them one again.
class LogImpl::WholeOrPoisoned {
 public:
  explicit WholeOrPoisoned(LogImpl& log) : log_(log), exceptions_(std::uncaught_exceptions()) {}
  ~WholeOrPoisoned() {
    if (std::uncaught_exceptions() > exceptions_) log_.poisoned_ = true;
  }
  WholeOrPoisoned(const WholeOrPoisoned&) = delete;
  WholeOrPoisoned& operator=(const WholeOrPoisoned&) = delete;

 private:
  LogImpl& log_;
  const int exceptions_;
};

base::Status LogImpl::append_batch(std::vector<Append> appends, Durability wanted) {
  HQL_TRY(not_poisoned());
  const WholeOrPoisoned whole(*this);
  HQL_TRY(check_appends(appends));
  items_.clear();
  for (const Append& append : appends) {
    if (append.hard_state) items_.push_back({{RecordType::kHardState, append.group}, *append.hard_state});
    if (append.truncate_from) {
      Item item{{RecordType::kTruncate, append.group}, {}};
      item.header.index = *append.truncate_from;
      items_.push_back(item);
    }
    for (const base::Entry& entry : append.entries) {
      Item item{{RecordType::kEntry, append.group, entry.kind}, base::view_of(entry.payload)};
      item.header.index = entry.id.index;
      item.header.term = entry.id.term;
      items_.push_back(item);
    }
  }
  if (items_.empty()) return base::ok();
  if (std::any_of(items_.begin(), items_.end(), must_be_synced)) wanted = Durability::kSynced;
  HQL_TRY(write_items(0, wanted));
  apply_items();
  return base::ok();
}

base::Status LogImpl::sync() {
  HQL_TRY(not_poisoned());
  const WholeOrPoisoned whole(*this);
  if (all_synced_) return base::ok();
  return sync_tail();
}

void LogImpl::apply_items() {
  for (std::size_t i = 0; i < items_.size(); ++i) {
    const RecordHeader& header = items_[i].header;
    GroupState& state = groups_[slot_of(header.group)];
    if (is_entry(items_[i])) {
      state.index.append({places_[i].sequence, header.term, places_[i].offset,
                          static_cast<std::uint32_t>(items_[i].payload.size()), header.kind});
    } else if (header.type == RecordType::kTruncate) {
      state.index.truncate(header.index);
    } else if (header.type == RecordType::kHardState) {
      state.hard_state = base::copy_of(items_[i].payload);
    } else if (header.type == RecordType::kFloor) {
      state.floor = {header.term, header.index};
      state.index.drop_to(state.floor);
    } else if (header.type == RecordType::kReset) {
      state.floor = {header.term, header.index};
      state.index.reset(state.floor);
      state.known = {};
    }
    if (state.known != LogId{} && state.index.last() >= state.known) state.known = {};
  }
  items_.clear();
}

base::Status LogImpl::seal() {
  HQL_TRY(not_poisoned());
  const WholeOrPoisoned whole(*this);
  if (sealed_) return base::ok();
  HQL_TRY(sync());  // before the seal that says so
  items_.clear();
  return write_items(kFlagSeal, Durability::kSynced);
}

base::Status LogImpl::set_floor(Group group, LogId floor) {
  HQL_TRY(not_poisoned());
  const WholeOrPoisoned whole(*this);
  const GroupState& state = groups_[slot_of(group)];
  if (floor.index <= state.floor.index) return base::ok();
  if (!state.index.holds(floor.index) || state.index.at(floor.index).term != floor.term) {
    return base::make_error(base::Code::kMisuse, "floor " + std::to_string(floor.index.value) + " of group " +
                                                     std::to_string(static_cast<int>(group)) +
                                                     " is not an entry of the log");
  }
  Item item{{RecordType::kFloor, group}, {}};
  item.header.index = floor.index;
  item.header.term = floor.term;
  items_.assign(1, item);
  HQL_TRY(write_items(0, Durability::kSynced));
  apply_items();
  return recycle();
}

base::Status LogImpl::reset(Group group, LogId floor) {
  HQL_TRY(not_poisoned());
  const WholeOrPoisoned whole(*this);
  Item item{{RecordType::kReset, group}, {}};
  item.header.index = floor.index;
  item.header.term = floor.term;
  items_.assign(1, item);
  HQL_TRY(write_items(0, Durability::kSynced));
  apply_items();
  return recycle();
}

}  // namespace wal

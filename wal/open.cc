// Opening a log and reading entries back.
#include <algorithm>

#include "wal/log_impl.h"

namespace wal {

namespace {

base::Status check_options(const Options& options) {
  const bool size_ok = options.segment_size >= kSegmentSizeMin && options.segment_size <= kSegmentSizeMax &&
                       options.segment_size % kBlockSize == 0;
  if (size_ok) return base::ok();
  return base::make_error(base::Code::kConfig, "wal_size " + std::to_string(options.segment_size) +
                                                   ": expected a multiple of 4096 from 65536 to 1073741824");
}

std::string parent_of(const std::string& dir) {
  const std::size_t slash = dir.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : dir.substr(0, slash);
}

}  // namespace

base::Status LogImpl::create() {
  HQL_TRY(next_segment(SegmentStart::kClean));
  return base::ok();
}

void LogImpl::adopt(Recovery recovery) {
  segments_ = std::move(recovery.segments);
  groups_ = std::move(recovery.groups);
  if (recovery.identity.cluster != 0) identity_.cluster = recovery.identity.cluster;
  sequence_max_ = recovery.sequence_max;
  settled_from_ = recovery.settled_from;
  // Harmless damage (a seal, what is below the floors) is settled with the next segment that comes anyway.
  must_switch_ = !recovery.appendable;
  sealed_ = recovery.sealed;
  tail_ = {segments_.back().end, recovery.next_lsn, recovery.previous_crc};
  synced_ = given_ = tail_;
  zeroed_to_ = tail_.offset;
  if (const auto size = segments_.back().file->size(); size)
    zeroed_to_ = std::max(zeroed_to_, *size / kBlockSize * kBlockSize);
  // Older segments are opened again when they are read.
  for (std::size_t i = 0; i + 1 < segments_.size(); ++i) segments_[i].file.reset();
  update_bytes();
}

base::Result<Recovered> LogImpl::recovered(Group group) {
  const GroupState& state = groups_[slot_of(group)];
  Recovered out;
  out.hard_state = state.hard_state;
  out.floor = state.floor;
  for (Index index = state.index.first_index(); index <= state.index.last_index(); index = index.next()) {
    const Slot& slot = state.index.at(index);
    out.sizes.push_back(slot.size);
    if (slot.kind != base::EntryKind::kConfig) {
      out.entries.push_back({{slot.term, index}, slot.kind, nullptr});
      continue;
    }
    HQL_ASSIGN(entry, read_entry(store_, segments_, group, index, slot));
    out.entries.push_back(std::move(entry));
  }
  return out;
}

base::Result<std::vector<base::Entry>> LogImpl::read(Group group, Index first, Index last, std::size_t bytes_max) {
  const GroupIndex& index = groups_[slot_of(group)].index;
  if (!index.holds(first) || last < first) {
    return base::make_error(base::Code::kNotFound,
                            "the log holds entries " + std::to_string(index.first_index().value) + " to " +
                                std::to_string(index.last_index().value) + " of group " +
                                std::to_string(static_cast<int>(group)) + ", not " + std::to_string(first.value));
  }
  std::vector<base::Entry> entries;
  std::size_t bytes = 0;
  for (Index at = first; at <= std::min(last, index.last_index()); at = at.next()) {
    const Slot& slot = index.at(at);
    if (!entries.empty() && bytes + slot.size > bytes_max) break;
    HQL_ASSIGN(entry, read_entry(store_, segments_, group, at, slot));
    bytes += slot.size;
    entries.push_back(std::move(entry));
  }
  return entries;
}

base::Result<Opened> Log::open(base::Env& env, const Options& options) {
  HQL_TRY(check_options(options));
  const std::string& dir = options.dir;
  HQL_TRY(env.make_dir(dir));
  HQL_TRY(env.sync_dir(parent_of(dir)));
  HQL_ASSIGN(names, env.list(dir));
  auto log = std::make_unique<LogImpl>(env, options);
  Opened opened;
  opened.created =
      std::none_of(names.begin(), names.end(), [](const std::string& name) { return sequence_of(name).has_value(); });
  if (opened.created) {
    HQL_TRY(log->adopt_ready(names));
    HQL_TRY(log->create());
  } else {
    HQL_ASSIGN(recovery, recover(env, dir, options.identity, RecoverMode::kOwner));
    opened.damage = std::move(recovery.damage);
    log->adopt(std::move(recovery));
    HQL_TRY(log->adopt_ready(names));  // not before the identity is known to be ours: it removes files
  }
  for (std::size_t i = 0; i < base::kGroupCount; ++i) {
    HQL_ASSIGN(group, log->recovered(kGroups[i]));
    opened.groups[i] = std::move(group);
  }
  if (!opened.damage) HQL_TRY(log->recycle());
  opened.identity = log->identity();
  opened.log = std::move(log);
  return opened;
}

}  // namespace wal

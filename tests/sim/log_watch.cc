// Reading of segments as they grow (log_watch.h).
#include "tests/sim/log_watch.h"

#include "base/checksum.h"
#include "wal/recovery.h"

namespace sim {

bool LogImage::restart(base::Env& env, const std::string& dir) {
  auto found = wal::recover(env, dir, {}, wal::RecoverMode::kReadOnly);
  if (!found || found->damage) return false;
  segments_.clear();
  pending_.clear();
  fragments_.clear();
  terms_.clear();
  for (const wal::Segment& segment : found->segments)
    segments_[segment.header.sequence] = {segment.header, segment.end};
  next_ = found->next_lsn;
  strict_ = {};
  const wal::GroupState& group = found->groups[0];
  floor_ = group.index.base();
  for (base::Index at = group.index.first_index(); at <= group.index.last_index(); at = at.next())
    terms_.push_back(group.index.at(at).term);
  hard_ = {};
  if (group.hard_state.empty()) return true;
  const auto hard = raft::decode_hard_state(group.hard_state);
  if (!hard) return false;
  hard_ = *hard;
  return true;
}

std::optional<base::Term> LogImage::term_at(base::Index index) const {
  if (index == floor_.index) return floor_.term;
  if (index < floor_.index || index > last_index()) return std::nullopt;
  return terms_[index.value - floor_.index.value - 1];
}

void LogImage::take(base::ByteView bytes, const OnEntry& on_entry) {
  if (bytes.size() < wal::kDataStart) return;
  const auto header = wal::decode_segment_header(bytes.first(wal::kBlockSize));
  if (!header) return;  // no segment yet
  // A recycled one that still looks like what it was holds nothing of what comes next.
  Segment& segment = segments_[header->sequence];
  if (segment.header.salt != header->salt) segment = {*header, wal::kDataStart};
  while (take_batch(segment, bytes, on_entry)) {
  }
}

bool LogImage::take_batch(Segment& segment, base::ByteView bytes, const OnEntry& on_entry) {
  if (segment.offset + wal::kBlockSize > bytes.size()) return false;
  const base::ByteView rest = bytes.subspan(segment.offset);
  const auto header = wal::decode_batch_header(rest);
  if (!header || !wal::is_at(*header, segment.header, segment.offset) || header->lsn != next_) return false;
  if (header->length > rest.size()) return false;
  const auto records = wal::decode_records(*header, rest);
  if (!records) return false;
  segment.offset += wal::align_up(header->length, wal::kBlockSize);
  next_ = next_.next();
  if (header->flags & (wal::kFlagEcho | wal::kFlagSeal)) return true;
  if (header->flags & wal::kFlagFirst) {
    pending_.clear();
    fragments_.clear();
  }
  for (const wal::Record& record : *records) pending_.push_back({record.header, base::copy_of(record.payload)});
  if (header->flags & wal::kFlagLast) apply(on_entry);
  return true;
}

void LogImage::apply(const OnEntry& on_entry) {
  for (const Pending& record : pending_) apply(record, on_entry);
  pending_.clear();
}

void LogImage::apply(const Pending& record, const OnEntry& on_entry) {
  const wal::RecordHeader& header = record.header;
  if (header.group != base::Group::kData) return;
  const base::LogId id{header.term, header.index};
  const bool entry = header.type == wal::RecordType::kEntry || header.type == wal::RecordType::kLast;
  if (header.kind == base::EntryKind::kConfig ||
      !(entry || header.type == wal::RecordType::kFirst || header.type == wal::RecordType::kMiddle))
    strict_ = base::Lsn(next_.value - 1);
  switch (header.type) {
    case wal::RecordType::kFirst:
      fragments_ = record.payload;
      return;
    case wal::RecordType::kMiddle:
    case wal::RecordType::kLast:
      fragments_.insert(fragments_.end(), record.payload.begin(), record.payload.end());
      break;
    case wal::RecordType::kEntry:
      fragments_ = record.payload;
      break;
    case wal::RecordType::kHardState:
      if (const auto hard = raft::decode_hard_state(record.payload)) hard_ = *hard;
      return;
    case wal::RecordType::kTruncate:
      while (last_index() >= header.index && !terms_.empty()) terms_.pop_back();
      return;
    case wal::RecordType::kFloor:
      while (floor_.index < header.index && !terms_.empty()) {
        terms_.pop_front();
        floor_.index = floor_.index.next();
      }
      floor_ = id;
      return;
    case wal::RecordType::kReset:
      terms_.clear();
      floor_ = id;
      return;
  }
  if (!entry) return;
  const Entry taken{id, last().term, base::xxh3(fragments_, static_cast<std::uint64_t>(header.kind))};
  terms_.push_back(id.term);
  on_entry(taken);
}

bool LogWatch::opened(base::Env& env) {
  ready_ = durable_.restart(env, dir_) && (sync_ == Sync::kEveryBatch || written_.restart(env, dir_));
  return ready_;
}

void LogWatch::changed(DiskOp op, const std::string& path, const SimFile& file, const LogImage::OnEntry& on_entry) {
  if (!ready_ || !path.starts_with(dir_ + "/")) return;
  if (op == DiskOp::kSync) durable_.take(file.durable(), on_entry);
  if (op == DiskOp::kWrite && sync_ == Sync::kInterval) written_.take(file.cached(), [](const auto&) {});
}

}  // namespace sim

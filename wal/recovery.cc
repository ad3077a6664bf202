// Scanning of segments; see recovery.h. Per segment: take batches in order; where one is unreadable, look for later ones at 4 KiB
// steps. Something later declares it durable: that is a gap (R12). Nothing does: the log is cut there.
#include "wal/recovery.h"

#include <algorithm>

#include "base/checksum.h"
#include "wal/replay.h"

namespace wal {

namespace {

struct Found {
  std::uint64_t offset = 0;
  BatchHeader header;
};

struct Unreadable {
  std::string path;
  std::uint64_t sequence = 0;  // from the name: a hint
};

std::string at_offset(const std::string& path, std::uint64_t offset) {
  return path + " offset " + std::to_string(offset);
}

std::string identity_text(const Identity& identity) {
  return "node " + std::to_string(identity.node.value) + " incarnation " + base::hex16(identity.incarnation.value) +
         " cluster " + base::hex16(identity.cluster);
}

base::Status check_identity(const Identity& found, const Identity& expected, const std::string& path) {
  if (!expected.node) return base::ok();
  const bool same_node = found.node == expected.node && found.incarnation == expected.incarnation;
  const bool same_cluster = found.cluster == 0 || expected.cluster == 0 || found.cluster == expected.cluster;
  if (same_node && same_cluster) return base::ok();
  return base::make_error(base::Code::kMisuse, path + ": this log belongs to " + identity_text(found) + ", not to " +
                                                   identity_text(expected) +
                                                   "; start with the data directory it came from");
}

class Scanner {
 public:
  Scanner(base::Env& env, std::string dir, const Identity& expected, RecoverMode mode)
      : env_(env), dir_(std::move(dir)), expected_(expected), mode_(mode) {}

  base::Result<Recovery> run() {
    HQL_TRY(load());
    Replay replay(out_.segments);
    for (std::size_t i = 0; i < out_.segments.size(); ++i) {
      const bool last = i + 1 == out_.segments.size();
      const Lsn limit = last ? Lsn{} : out_.segments[i + 1].header.first_lsn;
      HQL_TRY(scan(replay, out_.segments[i], limit));
    }
    note_unreadable(replay);
    replay.finish(out_);
    if (out_.damage) out_.appendable = false;
    return std::move(out_);
  }

 private:
  // Opens every live segment and reads its header.
  base::Status load() {
    // A process may have died between naming a segment and syncing the name: batches are about to rely on it.
    if (mode_ == RecoverMode::kOwner) HQL_TRY(env_.sync_dir(dir_));
    HQL_ASSIGN(names, env_.list(dir_));
    for (const std::string& name : names) {
      const auto sequence = sequence_of(name);
      if (!sequence) continue;
      out_.sequence_max = std::max(out_.sequence_max, *sequence);
      HQL_TRY(load_one(dir_ + "/" + name, *sequence));
    }
    auto& segments = out_.segments;
    if (segments.empty()) {
      if (unreadable_.empty()) return base::make_error(base::Code::kNotFound, dir_ + " holds no log segment");
      return base::make_error(base::Code::kCorrupt, unreadable_[0].path +
                                                        ": neither copy of the segment header is readable, " +
                                                        "and no other segment says what the log was");
    }
    std::sort(segments.begin(), segments.end(),
              [](const Segment& a, const Segment& b) { return a.header.sequence < b.header.sequence; });
    for (std::size_t i = 1; i < segments.size(); ++i) {
      const bool ordered = segments[i - 1].header.sequence < segments[i].header.sequence &&
                           segments[i - 1].header.first_lsn <= segments[i].header.first_lsn;
      if (ordered) continue;
      return base::make_error(base::Code::kCorrupt,
                              segments[i - 1].path + " and " + segments[i].path + " claim the same place in the log");
    }
    return base::ok();
  }

  base::Status load_one(const std::string& path, std::uint64_t name_sequence) {
    const bool owner = mode_ == RecoverMode::kOwner;
    HQL_ASSIGN(file, env_.open(path, owner ? base::OpenMode::kReadWrite : base::OpenMode::kReadOnly));
    if (owner) {
      // What a dead process left in the page cache may not be on the disk: make it so, then read the disk.
      HQL_TRY(file->sync());
      file->drop_cache();
    }
    Bytes blocks(kDataStart);
    HQL_ASSIGN(count, file->read(0, blocks));
    blocks.resize(count);
    std::optional<SegmentHeader> header;
    std::string reason;
    for (std::uint64_t offset = 0; offset < kDataStart; offset += kBlockSize) {
      auto decoded = decode_segment_header(ByteView(blocks).subspan(std::min<std::size_t>(offset, count)));
      if (decoded) {
        if (!header) header = std::move(*decoded);
        continue;
      }
      if (decoded.error().code == base::Code::kNewerFormat)
        return base::make_error(base::Code::kNewerFormat, path + ": " + decoded.error().message);
      out_.remarks.push_back(at_offset(path, offset) + ": " + decoded.error().message);
    }
    Segment segment;
    segment.path = path;
    if (!header) {
      HQL_ASSIGN(guessed, guess_header(*file, path));
      // Batches of another sequence are of the file's former life: those of this one are not there.
      if (!guessed || guessed->sequence != name_sequence) {
        unreadable_.push_back({path, name_sequence});
        return base::ok();
      }
      segment.header = *guessed;
      guessed_.push_back(guessed->sequence);
    } else {
      segment.header = *header;
      HQL_TRY(check_identity(header->identity, expected_, path));
      if (header->identity.cluster != 0 || !out_.identity.node) out_.identity = header->identity;
    }
    out_.sequence_max = std::max(out_.sequence_max, segment.header.sequence);
    segment.file = std::move(file);
    out_.segments.push_back(std::move(segment));
    return base::ok();
  }

  // Both copies of the header are gone: the batches know sequence, salt and lsn too. Of a recycled segment the newest use counts.
  base::Result<std::optional<SegmentHeader>> guess_header(base::File& file, const std::string& path) {
    HQL_ASSIGN(size, file.size());
    WindowReader reader(file);
    std::optional<SegmentHeader> best;
    for (std::uint64_t offset = kDataStart; offset < size; offset += kBlockSize) {
      HQL_ASSIGN(block, reader.view(offset, kBatchHeaderSize));
      const auto header = decode_batch_header(block);
      if (!header || std::uint64_t{header->block} * kBlockSize != offset) continue;
      if (best && best->sequence >= header->sequence) continue;
      best.emplace();
      best->sequence = header->sequence;
      best->salt = header->salt;
      best->first_lsn = header->lsn;
      best->segment_size = align_up(size, kBlockSize);
      // Not known, hence never a reason to recycle what is before it.
      for (GroupHeader& group : best->groups) group.next = Index(UINT64_MAX);
    }
    if (best) out_.remarks.push_back(path + ": no segment header; its place is known from its batches");
    return best;
  }

  [[nodiscard]] bool is_guessed(const Segment& segment) const {
    return std::find(guessed_.begin(), guessed_.end(), segment.header.sequence) != guessed_.end();
  }

  // Every header of this segment from `offset` on that is in its place and later than `after`.
  base::Result<std::vector<Found>> search(WindowReader& reader, const Segment& segment, std::uint64_t offset, Lsn after,
                                          Lsn limit) {
    std::vector<Found> found;
    const std::uint64_t start = offset;
    HQL_ASSIGN(size, segment.file->size());
    for (; offset + kBatchHeaderSize <= size; offset += kBlockSize) {
      HQL_ASSIGN(block, reader.view(offset, kBatchHeaderSize));
      const auto header = decode_batch_header(block);
      if (!header || !is_at(*header, segment.header, offset) || header->lsn <= after) continue;
      if (limit && header->lsn >= limit) continue;
      // Every batch between takes a block at least: a leftover of a write that was given up can be out of order.
      if (header->lsn.value - after.value > (offset - start) / kBlockSize + 1) continue;
      if (!found.empty() && header->lsn <= found.back().header.lsn) continue;
      found.push_back({offset, *header});
    }
    return found;
  }

  // Takes the segment's batches up to `limit` (0: it is the last segment, the end has to be found).
  base::Status scan(Replay& replay, Segment& segment, Lsn limit) {
    WindowReader reader(*segment.file);
    if (is_guessed(segment)) {
      replay.begin_at(segment.header.first_lsn, segment.path);
    } else {
      replay.segment(segment.header, segment.path);
    }
    std::uint64_t offset = kDataStart;
    std::optional<std::uint32_t> previous_crc = 0;
    bool sealed = true;
    while (!limit || replay.expected() < limit) {
      HQL_ASSIGN(taken, take(replay, reader, segment, offset, previous_crc));
      if (taken.size != 0) {
        previous_crc = taken.header->crc;
        sealed = taken.header->flags & kFlagSeal;
        offset += taken.size;
        segment.end = offset;
        continue;
      }
      HQL_ASSIGN(found, search(reader, segment, offset + kBlockSize, replay.expected(), limit));
      Lsn declared = limit ? Lsn(limit.value - 1) : Lsn{};
      for (const Found& later : found) declared = std::max(declared, later.header.durable_through);
      const std::string where = at_offset(segment.path, offset) + ": batch " + std::to_string(replay.expected().value) +
                                " cannot be read and was declared durable";
      if (declared < replay.expected()) {
        HQL_TRY(cut(replay, reader, taken.header, found));
        break;
      }
      const Lsn gap_end = found.empty() ? limit : found.front().header.lsn;
      if (!replay.is_settled(replay.expected(), gap_end)) out_.remarks.push_back(where);
      if (found.empty()) {
        CHECK(static_cast<bool>(limit));
        replay.gap(limit, where, nullptr);
        break;
      }
      replay.gap(found.front().header.lsn, where, &found.front().header);
      offset = found.front().offset;
      previous_crc.reset();
    }
    if (limit) return base::ok();
    out_.sealed = sealed;
    out_.previous_crc = previous_crc.value_or(0);
    out_.appendable = !torn_ && !is_guessed(segment) && previous_crc.has_value();
    return base::ok();
  }

  struct Taken {
    std::uint64_t size = 0;             // 0: unreadable
    std::optional<BatchHeader> header;  // readable and of the expected lsn
  };

  base::Result<Taken> take(Replay& replay, WindowReader& reader, const Segment& segment, std::uint64_t offset,
                           std::optional<std::uint32_t> previous_crc) {
    Taken taken;
    HQL_ASSIGN(front, reader.view(offset, kBatchHeaderSize));
    const auto header = decode_batch_header(front);
    if (!header || !is_at(*header, segment.header, offset) || header->lsn != replay.expected()) return taken;
    if (previous_crc && header->previous_crc != *previous_crc) return taken;
    taken.header = header;
    const std::uint64_t size = align_up(header->length, kBlockSize);
    HQL_ASSIGN(batch, reader.view(offset, size));
    const auto records = decode_records(*header, batch);
    if (!records) return taken;
    const ByteView padding = batch.subspan(header->length);
    if (std::any_of(padding.begin(), padding.end(), [](std::byte b) { return b != std::byte{0}; })) {
      out_.remarks.push_back(at_offset(segment.path, offset + header->length) +
                             ": bytes behind the batch are not zero");
    }
    replay.batch(*header, *records, offset, batch);
    taken.size = size;
    return taken;
  }

  // The log ends at `expected`. Whatever of a later write is there was never acknowledged.
  base::Status cut(Replay& replay, WindowReader& reader, const std::optional<BatchHeader>& at_cut,
                   const std::vector<Found>& found) {
    if (!at_cut && found.empty()) return base::ok();
    torn_ = true;
    if (at_cut) replay.cut(*at_cut);
    for (const Found& later : found) {
      if (!(later.header.flags & kFlagEcho)) continue;
      HQL_ASSIGN(batch, reader.view(later.offset, later.header.length));
      if (const auto records = decode_records(later.header, batch)) replay.salvage(*records);
    }
    return base::ok();
  }

  // Segments of which nothing is readable. Those below the live ones are of no use to anybody; one that may be the newest is damage.
  void note_unreadable(Replay& replay) {
    for (const Unreadable& file : unreadable_) {
      if (file.sequence < out_.segments.back().header.sequence) continue;
      const std::string where = at_offset(file.path, 0) + ": neither copy of the segment header is readable";
      out_.remarks.push_back(where);
      replay.unreadable_end(where);
    }
  }

  base::Env& env_;
  const std::string dir_;
  const Identity expected_;
  const RecoverMode mode_;
  Recovery out_;
  std::vector<Unreadable> unreadable_;
  std::vector<std::uint64_t> guessed_;  // sequences
  bool torn_ = false;
};

}  // namespace

base::Result<Recovery> recover(base::Env& env, const std::string& dir, const Identity& expected, RecoverMode mode) {
  return Scanner(env, dir, expected, mode).run();
}

base::Result<base::Entry> read_entry(SegmentStore& store, std::vector<Segment>& segments, Group group, Index index,
                                     const Slot& slot) {
  const auto found = std::find_if(segments.begin(), segments.end(),
                                  [&](const Segment& segment) { return segment.header.sequence == slot.sequence; });
  CHECK(found != segments.end());
  auto at = static_cast<std::size_t>(found - segments.begin());
  std::uint64_t offset = slot.offset;
  Bytes payload;
  Bytes record_bytes;
  bool first = true;
  while (first || payload.size() < slot.size) {
    Segment& segment = segments[at];
    HQL_ASSIGN(file, store.file(segment));
    const auto corrupt = [&] {
      return base::make_error(base::Code::kCorrupt, at_offset(segment.path, offset) + ": entry " +
                                                        std::to_string(index.value) + " of group " +
                                                        std::to_string(static_cast<int>(group)) +
                                                        " does not match its checksum");
    };
    // The header says how long the record is: for a whole entry one read is enough, its size is known.
    const std::size_t rest = slot.size - payload.size();
    record_bytes.resize(kRecordHeaderSize + std::min(rest, kBatchSizeMax));
    HQL_ASSIGN(count, file->read(offset, record_bytes));
    const auto record = decode_record(ByteView(record_bytes).first(count), record_seed(segment.header.salt));
    if (!record) return corrupt();
    const RecordHeader& header = record->header;
    const RecordType wanted = first ? (header.length == slot.size ? RecordType::kEntry : RecordType::kFirst)
                                    : (header.length == rest ? RecordType::kLast : RecordType::kMiddle);
    const bool same =
        header.group == group && header.index == index && header.term == slot.term && header.total == slot.size;
    if (!same || header.type != wanted || header.length > rest) return corrupt();
    payload.insert(payload.end(), record->payload.begin(), record->payload.end());
    first = false;
    if (payload.size() == slot.size) break;
    // The next fragment is the first record of the next batch that is not an echo.
    offset = align_up(offset + record->size, kBlockSize);
    std::byte head[kBatchHeaderSize];
    while (true) {
      if (offset >= segments[at].end) {
        if (++at == segments.size()) return corrupt();
        offset = kDataStart;
        continue;
      }
      HQL_ASSIGN(next_file, store.file(segments[at]));
      HQL_ASSIGN(head_count, next_file->read(offset, head));
      const auto next = decode_batch_header(ByteView(head, head_count));
      if (!next || !is_at(*next, segments[at].header, offset)) {
        return base::make_error(base::Code::kCorrupt,
                                at_offset(segments[at].path, offset) + ": batch header is unreadable");
      }
      if (!(next->flags & kFlagEcho)) break;
      offset += align_up(next->length, kBlockSize);
    }
    offset += kBatchHeaderSize;
  }
  base::Entry entry;
  entry.id = {slot.term, index};
  entry.kind = slot.kind;
  const bool empty_noop = slot.kind == base::EntryKind::kNoop && payload.empty();
  if (!empty_noop) entry.payload = base::share(std::move(payload));
  return entry;
}

}  // namespace wal

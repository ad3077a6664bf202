// dump and verify: a log directory for people and for scripts. Read-only; goes on past damage.
#include <algorithm>

#include "wal/recovery.h"

namespace wal {

namespace {

using Line = std::function<void(const std::string&)>;

std::string id_text(LogId id) { return std::to_string(id.term.value) + ":" + std::to_string(id.index.value); }

std::string hex_text(ByteView bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const std::byte byte : bytes) {
    text += kDigits[std::to_integer<unsigned>(byte) >> 4];
    text += kDigits[std::to_integer<unsigned>(byte) & 15];
  }
  return text;
}

const char* kind_text(base::EntryKind kind) {
  switch (kind) {
    case base::EntryKind::kNoop:
      return "noop";
    case base::EntryKind::kConfig:
      return "config";
    case base::EntryKind::kData:
      return "data";
  }
  return "unknown";
}

std::string flags_text(std::uint8_t flags) {
  std::string text;
  const auto add = [&](std::uint8_t flag, const char* name) {
    if (flags & flag) text += (text.empty() ? "" : ",") + std::string(name);
  };
  add(kFlagFirst, "first");
  add(kFlagLast, "last");
  add(kFlagSeal, "seal");
  add(kFlagEcho, "echo");
  return text.empty() ? "-" : text;
}

void dump_header(const SegmentHeader& header, const Line& line) {
  line("  header sequence=" + std::to_string(header.sequence) + " size=" + std::to_string(header.segment_size) +
       " salt=" + base::hex16(header.salt) + " first_lsn=" + std::to_string(header.first_lsn.value) +
       " cluster=" + base::hex16(header.identity.cluster) + " node=" + std::to_string(header.identity.node.value) +
       " incarnation=" + base::hex16(header.identity.incarnation.value) +
       (header.start == SegmentStart::kInsideAppend ? " inside_append" : "") +
       (header.settled_from ? " settled_from=" + std::to_string(header.settled_from.value) : ""));
  for (std::size_t i = 0; i < header.groups.size(); ++i) {
    const GroupHeader& group = header.groups[i];
    std::string text = "  group " + std::to_string(i + 1) + " next=" + std::to_string(group.next.value) +
                       " previous_term=" + std::to_string(group.previous_term.value) + " floor=" + id_text(group.floor);
    if (group.rebased_from) text += " rebased_from=" + std::to_string(group.rebased_from.value);
    if (group.known != LogId{}) text += " known=" + id_text(group.known);
    if (!group.hard_state.empty()) text += " hard_state=" + hex_text(group.hard_state);
    line(text);
  }
}

void dump_record(const Record& record, const Line& line) {
  const RecordHeader& header = record.header;
  std::string text =
      "    " + std::string(to_string(header.type)) + " group=" + std::to_string(static_cast<int>(header.group));
  switch (header.type) {
    case RecordType::kHardState:
      text += " bytes=" + hex_text(record.payload);
      break;
    case RecordType::kTruncate:
      text += " from=" + std::to_string(header.index.value);
      break;
    case RecordType::kFloor:
    case RecordType::kReset:
      text += " at=" + id_text({header.term, header.index});
      break;
    case RecordType::kEntry:
    case RecordType::kFirst:
    case RecordType::kMiddle:
    case RecordType::kLast:
      text += " id=" + id_text({header.term, header.index}) + " kind=" + kind_text(header.kind) +
              " length=" + std::to_string(header.length) + " total=" + std::to_string(header.total);
      break;
  }
  line(text);
}

// The batches of one segment, and each run of blocks in which there is none.
base::Status dump_batches(base::File& file, const SegmentHeader& segment, const Line& line) {
  HQL_ASSIGN(size, file.size());
  WindowReader reader(file);
  std::uint64_t bad_from = 0;
  const auto end_of_bad = [&](std::uint64_t offset, const char* what) {
    if (bad_from != 0) line("  offset=" + std::to_string(bad_from) + " " + std::to_string(offset - bad_from) + what);
    bad_from = 0;
  };
  for (std::uint64_t offset = kDataStart; offset < size;) {
    HQL_ASSIGN(block, reader.view(offset, kBlockSize));
    const auto header = decode_batch_header(block);
    if (!header || !is_at(*header, segment, offset)) {
      if (bad_from == 0) bad_from = offset;
      offset += kBlockSize;
      continue;
    }
    end_of_bad(offset, " bytes without a batch: damage, if the next batch is counted");
    const std::uint64_t length = align_up(header->length, kBlockSize);
    HQL_ASSIGN(batch, reader.view(offset, length));
    const auto records = decode_records(*header, batch);
    line("  offset=" + std::to_string(offset) + " batch lsn=" + std::to_string(header->lsn.value) +
         " durable_through=" + std::to_string(header->durable_through.value) + " length=" +
         std::to_string(header->length) + " flags=" + flags_text(header->flags) + " last=" + id_text(header->last[0]) +
         "," + id_text(header->last[1]) + (records ? "" : " BAD: torn or rotten"));
    if (!records) {
      offset += kBlockSize;
      continue;
    }
    for (const Record& record : *records) dump_record(record, line);
    offset += length;
  }
  end_of_bad(size, " bytes without a batch of this segment up to the end");
  return base::ok();
}

base::Status dump_segment(base::Env& env, const std::string& path, const Line& line) {
  HQL_ASSIGN(file, env.open(path, base::OpenMode::kReadOnly));
  HQL_ASSIGN(size, file->size());
  line("segment " + path + " bytes=" + std::to_string(size));
  std::optional<SegmentHeader> header;
  for (std::uint64_t offset = 0; offset < kDataStart; offset += kBlockSize) {
    Bytes block(kBlockSize);
    HQL_ASSIGN(count, file->read(offset, block));
    auto decoded = decode_segment_header(ByteView(block).first(count));
    if (!decoded) {
      line("  offset=" + std::to_string(offset) + " BAD: " + decoded.error().message);
    } else if (!header) {
      header = std::move(*decoded);
    }
  }
  if (!header) return base::ok();
  dump_header(*header, line);
  return dump_batches(*file, *header, line);
}

}  // namespace

base::Status dump(base::Env& env, const std::string& dir, const Line& line) {
  HQL_ASSIGN(names, env.list(dir));
  bool any = false;
  const std::string prefix = dir + "/";
  for (const std::string& name : names) {
    const std::string path = prefix + name;
    if (!sequence_of(name)) {
      line("file " + path + ": not a live segment");
      continue;
    }
    any = true;
    HQL_TRY(dump_segment(env, path, line));
  }
  if (!any) return base::make_error(base::Code::kNotFound, dir + " holds no log segment");
  HQL_ASSIGN(recovery, recover(env, dir, {}, RecoverMode::kReadOnly));
  for (const std::string& remark : recovery.remarks) line("remark " + remark);
  for (std::size_t i = 0; i < recovery.groups.size(); ++i) {
    const GroupState& group = recovery.groups[i];
    line("group " + std::to_string(i + 1) + " floor=" + id_text(group.floor) + " last=" + id_text(group.index.last()) +
         (group.hard_state.empty() ? "" : " hard_state=" + hex_text(group.hard_state)));
  }
  line("next_lsn=" + std::to_string(recovery.next_lsn.value) + (recovery.sealed ? " sealed" : "") +
       (recovery.damage ? " DAMAGED: " + recovery.damage->where : ""));
  return base::ok();
}

base::Status verify(base::Env& env, const std::string& dir) {
  HQL_ASSIGN(recovery, recover(env, dir, {}, RecoverMode::kReadOnly));
  const auto corrupt = [](const std::string& text) { return base::make_error(base::Code::kCorrupt, text); };
  if (recovery.damage) return corrupt(recovery.damage->where);
  if (!recovery.remarks.empty()) return corrupt(recovery.remarks.front());
  // Recovery reads and checks every record but keeps only places: read each entry back through its place as the log would.
  SegmentStore store(env, dir, kSegmentSizeMin, 0);
  for (std::size_t i = 0; i < recovery.groups.size(); ++i) {
    const GroupIndex& index = recovery.groups[i].index;
    for (Index at = index.first_index(); at <= index.last_index(); at = at.next()) {
      HQL_ASSIGN(entry, read_entry(store, recovery.segments, kGroups[i], at, index.at(at)));
      if (entry.id.index != at) return corrupt("entry " + std::to_string(at.value) + " is not where the index says");
    }
  }
  return base::ok();
}

}  // namespace wal

// Encoding and decoding of log bytes; see format.h for the layout.
#include "wal/format.h"

#include <algorithm>
#include <cstring>

#include "base/checksum.h"

namespace wal {

namespace {

constexpr std::size_t kGroupsAt = 128;
constexpr std::size_t kGroupStride = 512;
constexpr std::size_t kHardStateAt = 64;

void store_group(std::byte* at, const GroupHeader& group) {
  CHECK(group.hard_state.size() <= kHardStateSizeMax);
  base::store_u64(at, group.next.value);
  base::store_u64(at + 8, group.previous_term.value);
  base::store_u64(at + 16, group.floor.term.value);
  base::store_u64(at + 24, group.floor.index.value);
  base::store_u64(at + 32, group.rebased_from.value);
  base::store_u64(at + 40, group.known.term.value);
  base::store_u64(at + 48, group.known.index.value);
  base::store_u32(at + 56, static_cast<std::uint32_t>(group.hard_state.size()));
  std::copy(group.hard_state.begin(), group.hard_state.end(), at + kHardStateAt);
}

bool in_range(LogId id) { return id.term.value <= kNumberMax && id.index.value <= kNumberMax; }

bool load_group(const std::byte* at, GroupHeader& group) {
  group.next = Index(base::load_u64(at));
  group.previous_term = Term(base::load_u64(at + 8));
  group.floor = {Term(base::load_u64(at + 16)), Index(base::load_u64(at + 24))};
  group.rebased_from = Lsn(base::load_u64(at + 32));
  group.known = {Term(base::load_u64(at + 40)), Index(base::load_u64(at + 48))};
  const std::uint32_t size = base::load_u32(at + 56);
  if (size > kHardStateSizeMax || group.next.value == 0) return false;
  if (!in_range({group.previous_term, group.next}) || !in_range(group.floor) || !in_range(group.known)) return false;
  group.hard_state.assign(at + kHardStateAt, at + kHardStateAt + size);
  return true;
}

}  // namespace

const char* to_string(RecordType type) {
  switch (type) {
    case RecordType::kEntry:
      return "entry";
    case RecordType::kHardState:
      return "hard-state";
    case RecordType::kTruncate:
      return "truncate";
    case RecordType::kFloor:
      return "floor";
    case RecordType::kReset:
      return "reset";
    case RecordType::kFirst:
      return "first";
    case RecordType::kMiddle:
      return "middle";
    case RecordType::kLast:
      return "last";
  }
  return "unknown";
}

Bytes encode(const SegmentHeader& header) {
  Bytes block(kBlockSize);
  std::byte* at = block.data();
  base::store_u32(at + 4, kSegmentMagic);
  base::store_u32(at + 8, kFormatVersion);
  base::store_u32(at + 12, static_cast<std::uint32_t>(kBlockSize));
  base::store_u64(at + 16, header.segment_size);
  base::store_u64(at + 24, header.sequence);
  base::store_u64(at + 32, header.salt);
  base::store_u64(at + 40, header.first_lsn.value);
  base::store_u64(at + 48, header.identity.cluster);
  base::store_u64(at + 56, header.identity.node.value);
  base::store_u64(at + 64, header.identity.incarnation.value);
  base::store_u64(at + 72, header.settled_from.value);
  at[80] = static_cast<std::byte>(header.start);
  for (std::size_t i = 0; i < header.groups.size(); ++i)
    store_group(at + kGroupsAt + i * kGroupStride, header.groups[i]);
  base::store_u32(at, base::crc32c(ByteView(block).subspan(4)));
  return block;
}

base::Result<SegmentHeader> decode_segment_header(ByteView block) {
  const auto corrupt = [](const char* why) { return base::make_error(base::Code::kCorrupt, why); };
  if (block.size() < kBlockSize) return corrupt("segment header is cut short");
  block = block.first(kBlockSize);
  const std::byte* at = block.data();
  if (base::load_u32(at + 4) != kSegmentMagic) return corrupt("no segment header");
  if (base::load_u32(at) != base::crc32c(block.subspan(4)))
    return corrupt("segment header does not match its checksum");
  const std::uint32_t version = base::load_u32(at + 8);
  if (version != kFormatVersion) {
    return base::make_error(base::Code::kNewerFormat, "log format version " + std::to_string(version) + " is not " +
                                                          std::to_string(kFormatVersion) +
                                                          ", the one this program knows");
  }
  SegmentHeader header;
  header.segment_size = base::load_u64(at + 16);
  header.sequence = base::load_u64(at + 24);
  header.salt = base::load_u64(at + 32);
  header.first_lsn = Lsn(base::load_u64(at + 40));
  header.identity.cluster = base::load_u64(at + 48);
  header.identity.node = base::NodeId(base::load_u64(at + 56));
  header.identity.incarnation = base::Incarnation(base::load_u64(at + 64));
  header.settled_from = Lsn(base::load_u64(at + 72));
  header.start = at[80] == std::byte{0} ? SegmentStart::kClean : SegmentStart::kInsideAppend;
  if (base::load_u32(at + 12) != kBlockSize) return corrupt("segment header names another block size");
  const bool size_ok = header.segment_size >= kSegmentSizeMin && header.segment_size <= kSegmentSizeMax;
  if (!size_ok || header.segment_size % kBlockSize != 0) return corrupt("segment header names an impossible size");
  if (!header.first_lsn || header.sequence == 0) return corrupt("segment header names no position");
  if (header.first_lsn.value > kNumberMax || header.sequence > kNumberMax)
    return corrupt("segment header names an impossible position");
  for (std::size_t i = 0; i < header.groups.size(); ++i) {
    if (!load_group(at + kGroupsAt + i * kGroupStride, header.groups[i]))
      return corrupt("segment header has a bad group");
  }
  return header;
}

std::uint32_t encode(const BatchHeader& header, std::byte* at) {
  std::memset(at, 0, kBatchHeaderSize);
  base::store_u32(at + 4, kBatchMagic);
  base::store_u64(at + 8, header.salt);
  base::store_u64(at + 16, header.sequence);
  base::store_u64(at + 24, header.lsn.value);
  base::store_u64(at + 32, header.durable_through.value);
  base::store_u32(at + 40, header.block);
  base::store_u32(at + 44, header.length);
  base::store_u32(at + 48, header.record_count);
  base::store_u32(at + 52, header.chain);
  base::store_u32(at + 56, header.previous_crc);
  at[60] = std::byte{header.flags};
  for (std::size_t i = 0; i < header.last.size(); ++i) {
    base::store_u64(at + 64 + 16 * i, header.last[i].term.value);
    base::store_u64(at + 72 + 16 * i, header.last[i].index.value);
  }
  const std::uint32_t crc = base::crc32c({at + 4, kBatchHeaderSize - 4});
  base::store_u32(at, crc);
  return crc;
}

std::optional<BatchHeader> decode_batch_header(ByteView bytes) {
  if (bytes.size() < kBatchHeaderSize) return std::nullopt;
  const std::byte* at = bytes.data();
  if (base::load_u32(at + 4) != kBatchMagic) return std::nullopt;
  BatchHeader header;
  header.crc = base::load_u32(at);
  if (header.crc != base::crc32c({at + 4, kBatchHeaderSize - 4})) return std::nullopt;
  header.salt = base::load_u64(at + 8);
  header.sequence = base::load_u64(at + 16);
  header.lsn = Lsn(base::load_u64(at + 24));
  header.durable_through = Lsn(base::load_u64(at + 32));
  header.block = base::load_u32(at + 40);
  header.length = base::load_u32(at + 44);
  header.record_count = base::load_u32(at + 48);
  header.chain = base::load_u32(at + 52);
  header.previous_crc = base::load_u32(at + 56);
  header.flags = std::to_integer<std::uint8_t>(at[60]);
  for (std::size_t i = 0; i < header.last.size(); ++i) {
    header.last[i] = {Term(base::load_u64(at + 64 + 16 * i)), Index(base::load_u64(at + 72 + 16 * i))};
  }
  if (header.length < kBatchHeaderSize || header.length > kBatchSizeMax) return std::nullopt;
  if (!header.lsn || header.lsn.value > kNumberMax || header.durable_through >= header.lsn) return std::nullopt;
  if (!std::all_of(header.last.begin(), header.last.end(), in_range)) return std::nullopt;
  return header;
}

bool is_at(const BatchHeader& header, const SegmentHeader& segment, std::uint64_t offset) {
  return header.salt == segment.salt && header.sequence == segment.sequence &&
         std::uint64_t{header.block} * kBlockSize == offset && header.lsn >= segment.first_lsn;
}

std::uint32_t record_seed(std::uint64_t salt) {
  std::byte bytes[8];
  base::store_u64(bytes, salt);
  return base::crc32c(bytes);
}

std::uint32_t encode(const RecordHeader& header, std::byte* at, std::uint32_t seed) {
  base::store_u32(at + 4, header.length);
  at[8] = static_cast<std::byte>(header.type);
  at[9] = static_cast<std::byte>(header.group);
  at[10] = static_cast<std::byte>(header.kind);
  at[11] = std::byte{0};
  base::store_u32(at + 12, header.total);
  base::store_u64(at + 16, header.index.value);
  base::store_u64(at + 24, header.term.value);
  const std::uint32_t crc = base::crc32c({at + 4, kRecordHeaderSize - 4 + header.length}, seed);
  base::store_u32(at, crc);
  return crc;
}

std::optional<Record> decode_record(ByteView bytes, std::uint32_t seed) {
  if (bytes.size() < kRecordHeaderSize) return std::nullopt;
  const std::byte* at = bytes.data();
  Record record;
  RecordHeader& header = record.header;
  header.crc = base::load_u32(at);
  header.length = base::load_u32(at + 4);
  if (header.length > bytes.size() - kRecordHeaderSize) return std::nullopt;
  if (header.crc != base::crc32c(bytes.subspan(4, kRecordHeaderSize - 4 + header.length), seed)) return std::nullopt;
  const auto type = std::to_integer<std::uint8_t>(at[8]);
  const auto group = std::to_integer<std::uint8_t>(at[9]);
  if (type < 1 || type > static_cast<std::uint8_t>(RecordType::kLast) || !is_group(group)) return std::nullopt;
  header.type = static_cast<RecordType>(type);
  header.group = static_cast<Group>(group);
  header.kind = static_cast<base::EntryKind>(at[10]);
  header.total = base::load_u32(at + 12);
  header.index = Index(base::load_u64(at + 16));
  header.term = Term(base::load_u64(at + 24));
  if (header.total > kEntrySizeMax || header.length > header.total) return std::nullopt;
  if (!in_range({header.term, header.index})) return std::nullopt;
  if (header.type == RecordType::kHardState && header.length > kHardStateSizeMax) return std::nullopt;
  record.payload = bytes.subspan(kRecordHeaderSize, header.length);
  record.size = align_up(kRecordHeaderSize + header.length, kRecordAlignment);
  return record;
}

std::optional<std::vector<Record>> decode_records(const BatchHeader& header, ByteView batch) {
  if (batch.size() < header.length) return std::nullopt;
  const std::uint32_t seed = record_seed(header.salt);
  ByteView rest = batch.first(header.length).subspan(kBatchHeaderSize);
  std::vector<Record> records;
  std::uint32_t chain = 0;
  while (!rest.empty()) {
    const auto record = decode_record(rest, seed);
    if (!record || record->size > rest.size()) return std::nullopt;
    chain = base::crc32c(rest.first(4), chain);
    rest = rest.subspan(record->size);
    records.push_back(*record);
  }
  if (records.size() != header.record_count || chain != header.chain) return std::nullopt;
  return records;
}

std::string segment_name(std::uint64_t sequence) { return base::hex16(sequence) + ".seg"; }

std::optional<std::uint64_t> sequence_of(const std::string& name) {
  constexpr std::size_t kDigits = 16;
  if (name.size() != kDigits + 4 || name.substr(kDigits) != ".seg") return std::nullopt;
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < kDigits; ++i) {
    const char c = name[i];
    const bool digit = c >= '0' && c <= '9';
    const bool letter = c >= 'a' && c <= 'f';
    if (!digit && !letter) return std::nullopt;
    value = value << 4 | static_cast<std::uint64_t>(digit ? c - '0' : c - 'a' + 10);
  }
  return value;
}

}  // namespace wal

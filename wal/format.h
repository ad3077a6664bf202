// Bytes of a log segment: segment header, batch header, record header. Encoders and decoders only, no I/O.
// Called by the writer, recovery and dump; any thread. docs/FORMATS.md, section "Log", is the same in prose. All little-endian.
//
// Segment file `<sequence, 16 hex digits>.seg`, `segment_size` bytes at most:
//   0       4096     8192
//   | header | header | batch | batch | ...          both headers are the same block (one may rot)
//
// Segment header block (4096 bytes, zero where nothing is named):
//   0 crc32c of 4..4096 | 4 magic "HQLS" | 8 version u32 | 12 block size u32 | 16 segment size u64 | 24 sequence u64 | 32 salt u64
//   40 first lsn u64 | 48 cluster u64 | 56 node u64 | 64 incarnation u64 | 72 settled from lsn u64 | 80 start u8 (1: in the middle of an append)
//   128 + 512 * i, group i + 1:
//     +0 next index u64 | +8 previous term u64 | +16 floor term u64 | +24 floor index u64 | +32 rebased from lsn u64
//     +40 known term u64 | +48 known index u64 | +56 hard state size u32 | +64 hard state, 256 bytes
//
// Batch: header, records, zeros up to the next block. Batch header (96 bytes):
//   0 crc32c of 4..96 | 4 magic "HQLB" | 8 salt u64 | 16 segment sequence u64 | 24 lsn u64 | 32 durable through lsn u64
//   40 block number u32 | 44 length u32 (header and records, without the zeros) | 48 record count u32 | 52 chain u32
//   56 crc of the batch before, u32 (0: first of its segment) | 60 flags u8 | 61 zeros
//   64 last term, group 1 | 72 last index, group 1 | 80 last term, group 2 | 88 last index, group 2    (before this append)
//
// Record: header (32 bytes), payload, zeros up to a multiple of 8:
//   0 crc32c of 4..32 and payload, seeded with crc32c(salt) | 4 payload length u32 | 8 type u8 | 9 group u8 | 10 entry kind u8 | 11 zero
//   12 total u32 (payload of the whole entry) | 16 index u64 | 24 term u64
// `chain` is the crc32c over the crc fields of the batch's records, in order: a record cannot be replaced by another valid one.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "base/bytes.h"
#include "base/entry.h"
#include "base/ids.h"
#include "wal/log.h"

namespace wal {

using base::Bytes;
using base::ByteView;
using base::Lsn;
using base::Term;

inline constexpr std::uint32_t kSegmentMagic = 0x534c5148;  // "HQLS"
inline constexpr std::uint32_t kBatchMagic = 0x424c5148;    // "HQLB"
inline constexpr std::uint32_t kFormatVersion = 1;
inline constexpr std::size_t kBatchHeaderSize = 96;
inline constexpr std::size_t kRecordHeaderSize = 32;
inline constexpr std::size_t kRecordAlignment = 8;
inline constexpr std::uint64_t kDataStart = 2 * kBlockSize;  // first batch of a segment
inline constexpr std::uint64_t kSegmentSizeMin = std::uint64_t{64} << 10;
// Terms, indexes and LSNs are far from wrapping around; what is read and says otherwise is no header.
inline constexpr std::uint64_t kNumberMax = std::uint64_t{1} << 62;
inline constexpr std::uint64_t kSegmentSizeMax = std::uint64_t{1} << 30;  // offsets in a segment fit 32 bits
// Of one entry, in as many fragments as that takes. Proposals stay far below it (base::kEntryPayloadMax).
inline constexpr std::size_t kEntrySizeMax = std::size_t{1} << 30;
// One batch is at most this long: it bounds the buffers of the writer and of recovery.
inline constexpr std::size_t kBatchSizeMax = std::size_t{8} << 20;

constexpr std::uint64_t align_up(std::uint64_t value, std::uint64_t to) { return (value + to - 1) / to * to; }

inline constexpr Group kGroups[base::kGroupCount] = {Group::kData, Group::kCache};
constexpr std::size_t slot_of(Group group) { return static_cast<std::size_t>(group) - 1; }
constexpr bool is_group(std::uint8_t value) { return value >= 1 && value <= base::kGroupCount; }

enum class RecordType : std::uint8_t {
  kEntry = 1,
  kHardState = 2,
  kTruncate = 3,  // this index and all after it are gone
  kFloor = 4,     // entries up to (term, index) are not needed
  kReset = 5,     // the group's log is empty and starts after (term, index)
  kFirst = 6,     // fragments of one entry, in successive batches
  kMiddle = 7,
  kLast = 8,
};
const char* to_string(RecordType type);

// Batch flags. An append is one or more batches; it counts only when its last one is there (recovery.cc).
inline constexpr std::uint8_t kFlagFirst = 1;  // begins an append; what was open before it is void
inline constexpr std::uint8_t kFlagLast = 2;   // completes it
inline constexpr std::uint8_t kFlagSeal = 4;   // empty: declares what was before it durable
inline constexpr std::uint8_t kFlagEcho = 8;   // second copy of the hard states, in a block of its own

struct GroupHeader {
  Index next{1};       // index that the next entry of the group gets
  Term previous_term;  // term of the entry before it
  LogId floor;
  Lsn rebased_from;  // not 0: damage; records of this group from here to the segment's first lsn do not count (R12)
  LogId known;       // not {}: the log was at least this long before damage took its end
  Bytes hard_state;
  bool operator==(const GroupHeader&) const = default;
};

// Whether the segment can be the first of a log.
enum class SegmentStart : std::uint8_t { kClean = 0, kInsideAppend = 1 };

struct SegmentHeader {
  std::uint64_t segment_size = 0;
  std::uint64_t sequence = 0;
  std::uint64_t salt = 0;
  Lsn first_lsn;  // the segments before end just before it: everything there from this lsn on was cut
  Identity identity;
  SegmentStart start = SegmentStart::kClean;
  Lsn settled_from;  // not 0: unreadable batches from here to first_lsn are known about and dealt with
  std::array<GroupHeader, base::kGroupCount> groups;
};

struct BatchHeader {
  std::uint64_t salt = 0;
  std::uint64_t sequence = 0;
  Lsn lsn;
  Lsn durable_through;
  std::uint32_t block = 0;
  std::uint32_t length = 0;
  std::uint32_t record_count = 0;
  std::uint32_t chain = 0;
  std::uint32_t previous_crc = 0;
  std::uint8_t flags = 0;
  std::array<LogId, base::kGroupCount> last;
  std::uint32_t crc = 0;  // filled by decode and encode
};

struct RecordHeader {
  RecordType type = RecordType::kEntry;
  Group group = Group::kData;
  base::EntryKind kind = base::EntryKind::kNoop;
  std::uint32_t length = 0;
  std::uint32_t total = 0;
  Index index;
  Term term;
  std::uint32_t crc = 0;
};

// One block.
Bytes encode(const SegmentHeader& header);
// Errors: kCorrupt (not a segment header, or rotten), kNewerFormat (a version this program does not know).
base::Result<SegmentHeader> decode_segment_header(ByteView block);

// Writes kBatchHeaderSize bytes at `at` and returns the header's crc.
std::uint32_t encode(const BatchHeader& header, std::byte* at);
// Nothing when magic, crc or a limit is wrong. Does not know where it was read: see is_at().
std::optional<BatchHeader> decode_batch_header(ByteView bytes);
// Whether the header was written for this place: a copy of it elsewhere, or a recycled one, is not a batch.
bool is_at(const BatchHeader& header, const SegmentHeader& segment, std::uint64_t offset);

// Seed of every record crc of a segment.
std::uint32_t record_seed(std::uint64_t salt);
// Writes the header for a payload that already stands behind it; returns the record's crc.
std::uint32_t encode(const RecordHeader& header, std::byte* at, std::uint32_t seed);
// Header and payload at the front of `bytes`, checked. Nothing when a limit or the crc is wrong.
struct Record {
  RecordHeader header;
  ByteView payload;
  std::size_t size = 0;  // with header and padding
};
std::optional<Record> decode_record(ByteView bytes, std::uint32_t seed);

// Walks the records of a batch and checks them and the chain. `batch` is `length` bytes from the header on.
// Nothing when any of it is wrong: a batch is taken whole or not at all.
std::optional<std::vector<Record>> decode_records(const BatchHeader& header, ByteView batch);

// "0000000000000001.seg" and back (nothing for other names).
std::string segment_name(std::uint64_t sequence);
std::optional<std::uint64_t> sequence_of(const std::string& name);

}  // namespace wal

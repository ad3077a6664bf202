// Fuzz target: the blocks of the log (wal/format.h, wal/batch.h). Headers that decode encode to the same again; a batch is taken whole or not at
// all; what the builder packs into batches of any room comes back, fragment by fragment, as it went in.
//
// input: mode u8 % 4: 0 segment header as it is, 1 segment header with its checksum made right, 2 batch whose checksums are made right
//        (salt, record lengths and all else as they stand), 3 items for the builder { size u16 | type u8 | index u64 } ...
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/wal_image.h"
#include "wal/batch.h"

namespace {

using base::Bytes;

bool same(const wal::SegmentHeader& a, const wal::SegmentHeader& b) {
  return a.segment_size == b.segment_size && a.sequence == b.sequence && a.salt == b.salt &&
         a.first_lsn == b.first_lsn && a.identity.cluster == b.identity.cluster && a.identity.node == b.identity.node &&
         a.identity.incarnation == b.identity.incarnation && a.start == b.start && a.settled_from == b.settled_from &&
         a.groups == b.groups;
}

void check_segment_header(Bytes block, bool mend) {
  block.resize(wal::kBlockSize);
  if (mend) base::store_u32(block.data(), base::crc32c(base::ByteView(block).subspan(4)));
  const auto header = wal::decode_segment_header(block);
  if (!header) {
    FUZZ_REQUIRE(header.error().code == base::Code::kCorrupt || header.error().code == base::Code::kNewerFormat);
    return;
  }
  fuzz::accepted();
  FUZZ_CANARY(header->groups[1].hard_state.size() > 8);
  const auto again = wal::decode_segment_header(wal::encode(*header));
  FUZZ_REQUIRE_OK(again);
  FUZZ_REQUIRE(same(*header, *again));
}

void check_batch(Bytes batch) {
  if (batch.size() < wal::kBatchHeaderSize) return;
  fuzz::mend_batch(batch);
  const auto header = wal::decode_batch_header(batch);
  if (!header) return;
  FUZZ_REQUIRE(header->length >= wal::kBatchHeaderSize && header->length <= wal::kBatchSizeMax);
  std::byte again[wal::kBatchHeaderSize];
  FUZZ_REQUIRE(wal::encode(*header, again) == header->crc || batch[61] != std::byte{0} || batch[62] != std::byte{0} ||
               batch[63] != std::byte{0});
  const auto records = wal::decode_records(*header, batch);
  if (!records) return;
  fuzz::accepted();
  FUZZ_REQUIRE(records->size() == header->record_count);
  std::size_t size = wal::kBatchHeaderSize;
  for (const wal::Record& record : *records) {
    FUZZ_REQUIRE(record.payload.size() == record.header.length);
    FUZZ_REQUIRE(record.payload.empty() || record.payload.data() == batch.data() + size + wal::kRecordHeaderSize);
    size += record.size;
  }
  FUZZ_REQUIRE(size == header->length);
  // One changed bit anywhere in what counts, and it is no batch, or not these records.
  for (std::size_t at = 0; at < header->length; at += 1 + header->length / 7) {
    Bytes changed = batch;
    changed[at] ^= std::byte{0x20};
    const auto other = wal::decode_batch_header(changed);
    const bool padding = other && wal::decode_records(*other, changed);
    if (!padding) continue;
    bool in_record = at < wal::kBatchHeaderSize;
    std::size_t start = wal::kBatchHeaderSize;
    for (const wal::Record& record : *records) {
      in_record = in_record || (at >= start && at < start + wal::kRecordHeaderSize + record.header.length);
      start += record.size;
    }
    FUZZ_REQUIRE(!in_record);
  }
}

void check_builder(fuzz::Input& in) {
  std::vector<Bytes> payloads;
  std::vector<wal::Item> items;
  const std::size_t room = wal::kBlockSize * (1 + in.u8() % 4);
  std::size_t total = 0;
  while (!in.empty() && items.size() < 64 && total < 30000) {
    Bytes payload(in.u16() % 6000);
    for (std::size_t i = 0; i < payload.size(); ++i) payload[i] = static_cast<std::byte>(i * 31 + items.size());
    wal::Item item;
    item.header.type = in.u8() % 4 == 0 ? wal::RecordType::kHardState : wal::RecordType::kEntry;
    if (item.header.type == wal::RecordType::kHardState) payload.resize(payload.size() % wal::kHardStateSizeMax);
    item.header.index = wal::Index(in.u64() % wal::kNumberMax);
    item.header.term = wal::Term(items.size());
    total += payload.size();
    payloads.push_back(std::move(payload));
    items.push_back(item);
  }
  for (std::size_t i = 0; i < items.size(); ++i) items[i].payload = payloads[i];
  std::vector<wal::Place> places;
  wal::BatchBuilder builder;
  builder.begin(items, places);
  wal::BatchBuilder::Frame frame{77, 5, base::Lsn{0}, {}};
  std::uint64_t offset = wal::kDataStart;
  std::uint32_t crc = 0;
  std::vector<Bytes> got;
  for (std::uint64_t lsn = 1; !builder.done(); ++lsn) {
    FUZZ_REQUIRE(lsn < 1000);
    Bytes out(room);
    const std::uint32_t before = crc;
    const std::size_t size =
        builder.pack(frame, offset, base::Lsn(lsn), lsn == 1 ? wal::kFlagFirst : 0, room, out.data(), crc);
    FUZZ_REQUIRE(size > 0 && size <= room && size % wal::kBlockSize == 0);
    const auto header = wal::decode_batch_header(base::ByteView(out).first(size));
    FUZZ_REQUIRE(header.has_value());
    FUZZ_REQUIRE(header->crc == crc && header->previous_crc == before && header->lsn == base::Lsn(lsn));
    FUZZ_REQUIRE(((header->flags & wal::kFlagLast) != 0) == builder.done());
    const auto records = wal::decode_records(*header, base::ByteView(out).first(size));
    FUZZ_REQUIRE(records.has_value());
    for (const wal::Record& record : *records) {
      const bool begins =
          record.header.type != wal::RecordType::kMiddle && record.header.type != wal::RecordType::kLast;
      if (begins) got.emplace_back();
      FUZZ_REQUIRE(!got.empty() && got.size() <= items.size());
      FUZZ_REQUIRE(record.header.index == items[got.size() - 1].header.index);
      FUZZ_REQUIRE(record.header.total == payloads[got.size() - 1].size());
      got.back().insert(got.back().end(), record.payload.begin(), record.payload.end());
    }
    offset += size;
  }
  fuzz::accepted();
  FUZZ_REQUIRE(got == payloads);
}

}  // namespace

void fuzz::run(base::ByteView input) {
  Input in(input);
  switch (in.u8() % 4) {
    case 0:
      return check_segment_header(base::copy_of(in.rest()), false);
    case 1:
      return check_segment_header(base::copy_of(in.rest()), true);
    case 2:
      return check_batch(base::copy_of(in.rest()));
    default:
      return check_builder(in);
  }
}

std::vector<fuzz::Seed> fuzz::seeds() {
  wal::SegmentHeader header;
  header.segment_size = 65536;
  header.sequence = 3;
  header.salt = 0x0123456789abcdef;
  header.first_lsn = base::Lsn(12);
  header.identity = {7, base::NodeId(1), base::Incarnation(99)};
  header.groups[0] = {wal::Index(10), wal::Term(3), {wal::Term(2), wal::Index(4)}, {}, {}, Bytes(5, std::byte{1})};
  Bytes block = wal::encode(header);
  Bytes shortened = block;
  shortened.resize(720);
  const Bytes payload(100, std::byte{5});
  std::vector<wal::Item> items(3);
  items[0].header.type = wal::RecordType::kHardState;
  items[1].header.index = items[2].header.index = wal::Index(5);
  for (wal::Item& item : items) item.payload = payload;
  std::vector<wal::Place> places;
  wal::BatchBuilder builder;
  builder.begin(items, places);
  Bytes batch(wal::kBlockSize);
  std::uint32_t crc = 0;
  builder.pack({77, 5, base::Lsn(3), {}}, wal::kDataStart, base::Lsn(4), wal::kFlagFirst, batch.size(), batch.data(),
               crc);
  batch.resize(wal::kBatchHeaderSize + 3 * 136);
  base::Writer list;
  list.u8(1);
  for (std::uint16_t i = 0; i < 6; ++i) {
    list.u16(static_cast<std::uint16_t>(i * 1100));
    list.u8(static_cast<std::uint8_t>(i));
    list.u64(i);
  }
  return {{"valid-header", chosen(0, block)},
          {"valid-header-made-right", chosen(1, shortened)},
          {"valid-batch", chosen(2, batch)},
          {"valid-items", chosen(3, list.view())}};
}

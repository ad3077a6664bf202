// Decoders of the log's bytes against hostile input: nothing is read past its end, a changed byte is noticed (R18).
#include "wal/format.h"

#include "tests/wal/model.h"
#include "wal/batch.h"

namespace wal_test {
namespace {

wal::SegmentHeader make_header() {
  wal::SegmentHeader header;
  header.segment_size = 65536;
  header.sequence = 3;
  header.salt = 0x1234;
  header.first_lsn = base::Lsn(17);
  header.identity = {5, base::NodeId(2), base::Incarnation(6)};
  header.groups[1].hard_state = Bytes(256, std::byte{7});
  header.groups[1].floor = {Term(3), Index(9)};
  header.groups[1].next = Index(12);
  header.groups[1].known = {Term(4), Index(44)};
  return header;
}

TEST(SegmentHeader, EncodedAndDecoded_IsTheSame) {
  const wal::SegmentHeader header = make_header();
  const auto decoded = wal::decode_segment_header(wal::encode(header));
  ASSERT_TRUE(decoded);
  EXPECT_EQ(decoded->sequence, 3u);
  EXPECT_EQ(decoded->first_lsn, base::Lsn(17));
  EXPECT_EQ(decoded->identity.incarnation, base::Incarnation(6));
  EXPECT_TRUE(decoded->groups == header.groups);
}

TEST(SegmentHeader, AnyByteChanged_IsRefused) {
  const Bytes block = wal::encode(make_header());
  for (std::size_t i = 0; i < block.size(); ++i) {
    Bytes changed = block;
    changed[i] ^= std::byte{64};
    EXPECT_FALSE(wal::decode_segment_header(changed)) << i;
  }
  EXPECT_FALSE(wal::decode_segment_header(base::ByteView(block).first(100)));
}

// A right checksum is no reason to count on from a number that wraps around.
TEST(Decoders, NumbersThatWouldWrapAround_AreRefused) {
  wal::SegmentHeader header = make_header();
  header.first_lsn = base::Lsn(UINT64_MAX);
  EXPECT_FALSE(wal::decode_segment_header(wal::encode(header)));
  header = make_header();
  header.groups[0].next = Index(UINT64_MAX);
  EXPECT_FALSE(wal::decode_segment_header(wal::encode(header)));
  Bytes bytes(wal::kBatchHeaderSize);
  wal::BatchHeader batch{1, 2, base::Lsn(17), base::Lsn(16), 2, wal::kBatchHeaderSize};
  wal::encode(batch, bytes.data());
  EXPECT_TRUE(wal::decode_batch_header(bytes));
  batch.last[1].index = Index(UINT64_MAX);
  wal::encode(batch, bytes.data());
  EXPECT_FALSE(wal::decode_batch_header(bytes));
  batch.last[1] = {};
  batch.lsn = base::Lsn(UINT64_MAX);
  wal::encode(batch, bytes.data());
  EXPECT_FALSE(wal::decode_batch_header(bytes));
  Bytes record(wal::kRecordHeaderSize);
  wal::RecordHeader reset{wal::RecordType::kReset, Group::kData};
  reset.index = Index(9);
  wal::encode(reset, record.data(), 5);
  EXPECT_TRUE(wal::decode_record(record, 5));
  reset.index = Index(UINT64_MAX);
  wal::encode(reset, record.data(), 5);
  EXPECT_FALSE(wal::decode_record(record, 5));
}

TEST(Batch, AnyByteChangedOrCut_IsRefusedWhole) {
  std::vector<wal::Item> items;
  const Bytes payload(700, std::byte{9});
  items.push_back({{wal::RecordType::kHardState, Group::kCache}, base::ByteView(payload).first(40)});
  items.push_back({{wal::RecordType::kEntry, Group::kData, EntryKind::kData, 0, 0, Index(4), Term(2)}, payload});
  std::vector<wal::Place> places;
  wal::BatchBuilder builder;
  builder.begin(items, places);
  Bytes batch(wal::kBlockSize);
  std::uint32_t crc = 0;
  const wal::BatchBuilder::Frame frame{77, 3, base::Lsn(16), {}};
  ASSERT_EQ(builder.pack(frame, 8192, base::Lsn(17), wal::kFlagFirst, batch.size(), batch.data(), crc),
            wal::kBlockSize);
  const auto good = wal::decode_batch_header(batch);
  ASSERT_TRUE(good);
  ASSERT_EQ(wal::decode_records(*good, batch)->size(), 2u);
  EXPECT_EQ(places[1].offset, 8192 + wal::kBatchHeaderSize + 32 + 40);
  for (std::size_t i = 0; i < good->length; ++i) {
    Bytes changed = batch;
    changed[i] ^= std::byte{2};
    const auto header = wal::decode_batch_header(changed);
    // The zeros between records are of no meaning and not covered.
    const bool padding = i >= wal::kBatchHeaderSize + 32 + 40 + 32 + 700;
    EXPECT_TRUE(padding || !header || !wal::decode_records(*header, changed)) << i;
  }
  for (std::size_t size = 0; size < good->length; ++size) {
    EXPECT_FALSE(wal::decode_records(*good, base::ByteView(batch).first(size)));
  }
}

TEST(Batch, RecordsSwapped_ChainRefusesThem) {
  std::vector<wal::Item> items;
  const Bytes payload(64, std::byte{9});
  for (std::uint64_t i = 1; i <= 2; ++i) {
    items.push_back({{wal::RecordType::kEntry, Group::kData, EntryKind::kData, 0, 0, Index(i), Term(2)}, payload});
  }
  std::vector<wal::Place> places;
  wal::BatchBuilder builder;
  builder.begin(items, places);
  Bytes batch(wal::kBlockSize);
  std::uint32_t crc = 0;
  const wal::BatchBuilder::Frame frame{77, 3, base::Lsn(16), {}};
  ASSERT_GT(builder.pack(frame, 8192, base::Lsn(17), wal::kFlagFirst, batch.size(), batch.data(), crc), 0u);
  const auto first = batch.begin() + wal::kBatchHeaderSize;
  std::swap_ranges(first, first + 96, first + 96);
  const auto header = wal::decode_batch_header(batch);
  ASSERT_TRUE(header);
  EXPECT_FALSE(wal::decode_records(*header, batch));
}

TEST(Decoders, RandomBytes_NeverCrash) {
  base::Random random(5);
  for (int round = 0; round < scaled(2000); ++round) {
    Bytes bytes = random_bytes(random, random.below(wal::kBlockSize + 1));
    // Past the magic, so that what follows is looked at too.
    if (bytes.size() >= 8) base::store_u32(&bytes[4], round % 2 == 0 ? wal::kSegmentMagic : wal::kBatchMagic);
    EXPECT_FALSE(wal::decode_segment_header(bytes));
    EXPECT_FALSE(wal::decode_batch_header(bytes));
    EXPECT_FALSE(wal::decode_record(bytes, static_cast<std::uint32_t>(random.next())));
  }
}

TEST(SegmentName, RoundTripAndStrangers_AreToldApart) {
  EXPECT_EQ(wal::segment_name(0xabc), "0000000000000abc.seg");
  EXPECT_EQ(wal::sequence_of("0000000000000abc.seg"), 0xabcu);
  for (const char* name : {"", "1.seg", "0000000000000ABC.seg", "0000000000000abc.free", "0000000000000abcd.seg",
                           "000000000000xabc.seg"}) {
    EXPECT_FALSE(wal::sequence_of(name)) << name;
  }
}

}  // namespace
}  // namespace wal_test

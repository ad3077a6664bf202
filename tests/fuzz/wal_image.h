// Log files for the fuzz targets: bytes in which every checksum that stands at its place is made right, so that what is behind it is reached.
#pragma once

#include "tests/fuzz/fuzz.h"
#include "wal/format.h"

namespace fuzz {

// `batch` begins with a batch header: record checksums, their chain, the number of records and the header's checksum. Lengths are as they are.
inline void mend_batch(base::MutableByteView batch) {
  std::byte* const head = batch.data();
  const std::uint32_t seed = wal::record_seed(base::load_u64(head + 8));
  const std::size_t end = std::min<std::size_t>(batch.size(), base::load_u32(head + 44));
  std::uint32_t chain = 0;
  std::uint32_t count = 0;
  for (std::size_t at = wal::kBatchHeaderSize; at + wal::kRecordHeaderSize <= end;) {
    std::byte* const record = head + at;
    const std::size_t length = base::load_u32(record + 4);
    if (length > end - at - wal::kRecordHeaderSize) break;
    base::store_u32(record, base::crc32c({record + 4, wal::kRecordHeaderSize - 4 + length}, seed));
    chain = base::crc32c({record, 4}, chain);
    ++count;
    at += wal::align_up(wal::kRecordHeaderSize + length, wal::kRecordAlignment);
  }
  base::store_u32(head + 48, count);
  base::store_u32(head + 52, chain);
  base::store_u32(head, base::crc32c({head + 4, wal::kBatchHeaderSize - 4}));
}

// A segment file: both headers, every batch that has its magic at a block, and its link to the batch before.
inline void mend_segment(base::MutableByteView file) {
  std::uint32_t previous = 0;
  for (std::size_t at = 0; at + wal::kBlockSize <= file.size();) {
    const base::MutableByteView rest = file.subspan(at);
    const std::uint32_t magic = base::load_u32(&rest[4]);
    if (magic == wal::kSegmentMagic) base::store_u32(rest.data(), base::crc32c({&rest[4], wal::kBlockSize - 4}));
    std::size_t size = wal::kBlockSize;
    if (magic == wal::kBatchMagic) {
      base::store_u32(&rest[56], previous);
      mend_batch(rest);
      previous = base::load_u32(rest.data());
      const std::size_t length = base::load_u32(&rest[44]);
      if (length <= rest.size())
        size = std::max(size, static_cast<std::size_t>(wal::align_up(length, wal::kBlockSize)));
    }
    at += size;
  }
}

}  // namespace fuzz

// Packing of records into batches; see batch.h.
#include "wal/batch.h"

#include <algorithm>
#include <cstring>

#include "base/checksum.h"

namespace wal {

namespace {

constexpr std::size_t kBufferKept = std::size_t{2} << 20;
// A fragment shorter than this is not worth its header.
constexpr std::size_t kFragmentMin = 256;

std::size_t record_size(std::size_t payload) { return align_up(kRecordHeaderSize + payload, kRecordAlignment); }

}  // namespace

std::byte* BatchBuffer::reserve(std::size_t size) {
  if (size > capacity_) {
    capacity_ = align_up(size, kBlockSize);
    bytes_ = std::unique_ptr<std::byte[]>(new std::byte[capacity_]);
  }
  return bytes_.get();
}

void BatchBuffer::release_large() {
  if (capacity_ <= kBufferKept) return;
  bytes_.reset();
  capacity_ = 0;
}

void BatchBuilder::begin(const std::vector<Item>& items, std::vector<Place>& places) {
  items_ = &items;
  places_ = &places;
  places.assign(items.size(), {});
  next_ = 0;
  consumed_ = 0;
}

std::uint64_t BatchBuilder::size_left() const {
  std::uint64_t size = kBatchHeaderSize;
  for (std::size_t i = next_; i < items_->size(); ++i) size += record_size((*items_)[i].payload.size());
  return align_up(size - (consumed_ / kRecordAlignment) * kRecordAlignment, kBlockSize);
}

std::size_t BatchBuilder::pack(const Frame& frame, std::uint64_t offset, Lsn lsn, std::uint8_t flags, std::size_t room,
                               std::byte* out, std::uint32_t& crc) {
  room = std::min(room, kBatchSizeMax);
  CHECK(room >= kBlockSize);
  const std::uint32_t seed = record_seed(frame.salt);
  BatchHeader header{frame.salt, frame.sequence, lsn, frame.durable_through};
  std::size_t at = kBatchHeaderSize;
  while (next_ < items_->size()) {
    const Item& item = (*items_)[next_];
    const std::size_t rest = item.payload.size() - consumed_;
    RecordHeader record = item.header;
    std::size_t length = rest;
    if (record_size(rest) > room - at) {
      const bool splits = item.header.type == RecordType::kEntry && room - at >= kRecordHeaderSize + kFragmentMin;
      if (!splits) break;
      length = (room - at - kRecordHeaderSize) / kRecordAlignment * kRecordAlignment;
    }
    if (length < rest) {
      record.type = consumed_ == 0 ? RecordType::kFirst : RecordType::kMiddle;
    } else if (consumed_ > 0) {
      record.type = RecordType::kLast;
    }
    record.length = static_cast<std::uint32_t>(length);
    record.total = static_cast<std::uint32_t>(item.payload.size());
    if (consumed_ == 0) (*places_)[next_] = {frame.sequence, static_cast<std::uint32_t>(offset + at)};
    if (length > 0) std::memcpy(out + at + kRecordHeaderSize, item.payload.data() + consumed_, length);
    encode(record, out + at, seed);
    header.chain = base::crc32c({out + at, 4}, header.chain);
    ++header.record_count;
    const std::size_t end = at + record_size(length);
    std::memset(out + at + kRecordHeaderSize + length, 0, end - (at + kRecordHeaderSize + length));
    at = end;
    consumed_ += length;
    if (consumed_ < item.payload.size()) break;
    ++next_;
    consumed_ = 0;
  }
  const std::size_t size = align_up(at, kBlockSize);
  std::memset(out + at, 0, size - at);
  header.block = static_cast<std::uint32_t>(offset / kBlockSize);
  header.length = static_cast<std::uint32_t>(at);
  header.previous_crc = crc;
  header.flags = static_cast<std::uint8_t>(flags | (done() ? kFlagLast : 0));
  header.last = frame.last;
  crc = encode(header, out);
  return size;
}

}  // namespace wal

// Building of batches: the records of an append are packed, one batch after another, into a buffer that is kept and reused.
// Payload bytes are copied once, into the buffer, and checksummed there. Log lane only.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "wal/format.h"

namespace wal {

// One record to write; the payload belongs to the caller.
struct Item {
  RecordHeader header;  // type kEntry for entries: the builder makes fragments of those that do not fit
  ByteView payload;
};

// Where an item begins.
struct Place {
  std::uint64_t sequence = 0;
  std::uint32_t offset = 0;
};

// Uninitialised memory that grows and is given back when it was needed for one large batch only.
class BatchBuffer {
 public:
  // At least `size` bytes; what was in it is lost when it has to grow.
  std::byte* reserve(std::size_t size);
  void release_large();

 private:
  std::unique_ptr<std::byte[]> bytes_;
  std::size_t capacity_ = 0;
};

class BatchBuilder {
 public:
  // What is the same in every batch of one append.
  struct Frame {
    std::uint64_t salt = 0;
    std::uint64_t sequence = 0;
    Lsn durable_through;
    std::array<LogId, base::kGroupCount> last;
  };

  // The items and the places must outlive the builder's use. `places` gets one element per item.
  void begin(const std::vector<Item>& items, std::vector<Place>& places);
  // Bytes that the rest would take in one batch, padding included.
  [[nodiscard]] std::uint64_t size_left() const;
  [[nodiscard]] bool done() const { return next_ == items_->size(); }
  // Packs the next batch, at most `room` bytes (a multiple of a block, at least one), for `offset` of the segment.
  // Returns its padded size; it stands at `out`, which has `room` bytes. `crc` is that of the batch before, then of this.
  std::size_t pack(const Frame& frame, std::uint64_t offset, Lsn lsn, std::uint8_t flags, std::size_t room,
                   std::byte* out, std::uint32_t& crc);

 private:
  const std::vector<Item>* items_ = nullptr;
  std::vector<Place>* places_ = nullptr;
  std::size_t next_ = 0;      // item
  std::size_t consumed_ = 0;  // payload bytes of it that are already in earlier batches
};

}  // namespace wal

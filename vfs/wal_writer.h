// Frames of the `-wal` by hand: what sqlite3WalFrames would write for a transaction, and how a frame is read back. Format: SQLite's
// "WAL-mode File Format", big-endian but for the checksummed words:
//
//   WAL header   0 magic | 4 version 3007000 | 8 page size | 12 checkpoint number | 16 salt1 | 20 salt2 | 24 checksum * 2
//   frame        0 page | 4 database size (commit frame) or 0 | 8 salt1 | 12 salt2 | 16 checksum * 2 | 24 page image
//
// Frame n begins at 32 + (n - 1) * (24 + page size); checksums chain from the header's. Used by whoever holds WRITER (apply lane).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "vfs/wal_index.h"

namespace vfs {

inline constexpr std::size_t kWalHeaderSize = 32;
inline constexpr std::size_t kFrameHeaderSize = 24;

struct WalFileHeader {
  bool big_endian_checksum = false;
  std::uint32_t page_size = 0;
  std::uint32_t checkpoint = 0;
  std::uint32_t salt1 = 0;
  std::uint32_t salt2 = 0;
  std::uint32_t checksum[2] = {0, 0};
};
// Nothing when the bytes are no valid header (then SQLite ignores the whole file).
std::optional<WalFileHeader> decode_wal_header(base::ByteView bytes);
base::Bytes encode_wal_header(WalFileHeader& header);  // fills in the checksum

std::uint64_t frame_offset(FrameNo frame, std::uint32_t page_size);

// pread and pwrite of whole ranges. kIo, kFull; read_exact: kCorrupt when the file ends before.
base::Status read_exact(int fd, std::uint64_t offset, base::MutableByteView out, const char* what);
base::Status write_exact(int fd, std::uint64_t offset, base::ByteView bytes, const char* what);

// Appends one transaction behind `start` (the committed wal-index header) and makes it visible in commit(). Dropped before that, it
// leaves nothing but bytes behind the last committed frame, as a rolled-back spill does.
class WalAppender {
 public:
  WalAppender(int wal_fd, WalIndex& index, const WalIndexHeader& start, std::uint32_t page_size);
  // Writes what is complete in chunks; the last frame is held back: it becomes the commit frame.
  base::Status add(pages::PageNo page, base::ByteView image);
  [[nodiscard]] std::size_t frame_count() const { return pages_.size(); }
  [[nodiscard]] FrameNo last_frame() const { return header_.max_frame + static_cast<FrameNo>(pages_.size()); }
  // Writes the rest with the commit mark, enters all frames into the hash tables and publishes the header. On error nothing is visible.
  // At least one frame must have been added.
  base::Status commit(pages::PageNo size_after);

 private:
  void seal_last(pages::PageNo commit_size);
  base::Status flush();

  int wal_fd_;
  WalIndex& index_;
  WalIndexHeader header_;
  std::uint32_t page_size_;
  std::vector<pages::PageNo> pages_;  // of the frames so far
  base::Bytes buffer_;                // frames not yet written; the last one unsealed
  std::uint64_t buffer_offset_ = 0;
  bool last_unsealed_ = false;
};

}  // namespace vfs

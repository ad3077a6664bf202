// Capture: the frames of one transaction on their way into the WAL. A frame is two writes, header then page; pages of frames that were
// spilled may be overwritten without a header; after ROLLBACK TO the next header stands where an undone frame stood. So the map is from
// frame number to (page number, image), cut whenever a header appears at or below its end
// (docs/SQLITE-NOTES.md, "Savepoints, spills and re-checksums").
// Images beyond kImageBytesMax are not kept: the WAL itself has them and gives them back.
// Owned by a ShimConnection; its SQL thread, WRITER held.
#pragma once

#include <cstdint>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "pages/tx.h"
#include "vfs/rechecksum.h"

namespace vfs {

// What is kept in memory per transaction; more would make a large import as large in memory.
inline constexpr std::size_t kImageBytesMax = std::size_t{8} << 20;

class Capture {
 public:
  // WRITER was obtained or given back: nothing is captured.
  void reset();

  // A header of a frame that does not commit. kInternal when it leaves a gap.
  base::Status add_header(std::uint32_t frame, pages::PageNo page);
  // The page of a frame. kInternal when there was no header for it.
  base::Status add_page(std::uint32_t frame, base::ByteView image);

  // The header of the commit frame, held back until its page comes.
  void hold(std::uint32_t frame, const FrameHeader& header);
  [[nodiscard]] bool holds() const { return held_frame_ != 0; }
  [[nodiscard]] std::uint32_t held_frame() const { return held_frame_; }
  FrameHeader& held_header() { return held_header_; }

  // First frame of the transaction; with none captured it is the commit frame itself.
  [[nodiscard]] std::uint32_t first_frame() const { return first_; }

  struct Page {
    pages::PageNo number = 0;
    std::uint32_t frame = 0;
  };
  // The last frame of each page among frames before the held one and the held one itself (whose page is `held_page`), by page
  // number; pages beyond `size_after` left out. Frames from the held one on that were captured are stale.
  [[nodiscard]] std::vector<Page> last_frames(pages::PageNo held_page, pages::PageNo size_after) const;
  // The image of a captured frame; from `wal` when it was not kept. kIo. `scratch` backs the view then.
  base::Result<base::ByteView> image(std::uint32_t frame, sqlite3_file* wal, base::Bytes& scratch,
                                     std::uint32_t page_size) const;

  // The held frame was let through as frame `frame` with this checksum.
  void committed(bool re_encoded);
  [[nodiscard]] std::uint32_t committed_frame() const { return committed_frame_; }
  // Both halves of the fix: SQLite asks for the checksum of a frame it believes to be the last one before the rewritten ones.
  [[nodiscard]] bool answers_checksum_of(std::uint32_t frame) const { return re_encoded_ && frame >= committed_frame_; }
  [[nodiscard]] base::ByteView committed_checksum() const { return base::ByteView(held_header_).subspan(16, 8); }

 private:
  struct Frame {
    pages::PageNo page = 0;
    base::Bytes image;  // empty: in the WAL only
  };
  std::uint32_t first_ = 0;
  std::vector<Frame> frames_;  // [frame - first_]
  std::size_t image_bytes_ = 0;
  std::uint32_t held_frame_ = 0;
  FrameHeader held_header_{};
  std::uint32_t committed_frame_ = 0;
  bool re_encoded_ = false;
};

}  // namespace vfs

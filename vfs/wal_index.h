// The wal-index (`-shm`) by hand: header, page lookup, and the changes that SQLite's own commit would make. Formats: SQLite's
// "WAL-mode File Format", walformat.html, and wal.c; drawn here:
//
//   region 0, 32 KiB:   0 header copy [0] (48) | 48 header copy [1] (48) | 96 WalCkptInfo (40) | 136 aPgno u32 * 4062 | 16384 aHash u16 * 8192
//   region k, 32 KiB:   0 aPgno u32 * 4096 | 16384 aHash u16 * 8192
//
// aPgno[i] is the page of frame zero + i + 1; aHash holds i + 1, open addressing on page * 383. All in host byte order.
// Whoever holds the database's WRITER uses it, one thread at a time; backfilled() and all_backfilled() also the maintenance lane.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "pages/tx.h"

namespace vfs {

using FrameNo = std::uint32_t;  // 1-based, as in SQLite; 0 = none

// WalIndexHdr of wal.c, byte for byte.
struct WalIndexHeader {
  std::uint32_t version = 0;
  std::uint32_t unused = 0;
  std::uint32_t change = 0;
  std::uint8_t is_init = 0;
  std::uint8_t big_endian_checksum = 0;
  std::uint16_t page_size_code = 0;  // 65536 is 1
  FrameNo max_frame = 0;
  pages::PageNo page_count = 0;
  std::uint32_t frame_checksum[2] = {0, 0};
  std::byte salt[8] = {};  // as they stand in the WAL header
  std::uint32_t checksum[2] = {0, 0};

  [[nodiscard]] std::uint32_t salt1() const { return base::load_be32(salt); }
  [[nodiscard]] std::uint32_t salt2() const { return base::load_be32(salt + 4); }
  bool operator==(const WalIndexHeader& other) const;
};
static_assert(sizeof(WalIndexHeader) == 48);

// walChecksumBytes: continues `sum` over `bytes` (a multiple of 8).
void wal_checksum(base::ByteView bytes, bool big_endian, std::uint32_t sum[2]);

class WalIndex {
 public:
  // Maps the first region of the `-shm` behind `fd`; the descriptor must stay open. kIo, kCorrupt when there is no region yet.
  static base::Result<std::unique_ptr<WalIndex>> map(int fd);
  ~WalIndex();
  WalIndex(const WalIndex&) = delete;
  WalIndex& operator=(const WalIndex&) = delete;

  // The committed state. kCorrupt when the copies differ or the checksum is wrong: while WRITER is held nobody tears it.
  [[nodiscard]] base::Result<WalIndexHeader> header() const;
  [[nodiscard]] FrameNo backfilled() const;
  // Whether every committed frame is in the database; right also while somebody publishes or restarts the WAL. kCorrupt as header().
  [[nodiscard]] base::Result<bool> all_backfilled() const;
  // walFindFrame: the last frame at or below `max_frame` that holds `page`; 0 when none does. kIo when a region cannot be mapped.
  base::Result<FrameNo> find(pages::PageNo page, FrameNo max_frame);
  // The page of a frame at or below max_frame.
  base::Result<pages::PageNo> page_of(FrameNo frame);

  // Makes room for frames up to `last`. kFull, kIo: nothing changed.
  base::Status reserve(FrameNo last);
  // walCleanupHash: drops what a rolled-back transaction left behind the last committed frame.
  base::Status clean_up(FrameNo max_frame);
  // walIndexAppend, for the frame after the last appended one; reserve() comes first.
  base::Status append(FrameNo frame, pages::PageNo page);
  // walIndexWriteHdr: completes checksum and is_init, then copy [1], barrier, copy [0].
  void publish(WalIndexHeader header);
  // The rest of walRestartHdr, after publish() of a header with max_frame 0: read marks and backfill count. Readers are locked out.
  void reset_marks();
  // Of an empty WAL whose restart was cut off before reset_marks(): its first frames would count as backfilled. Readers may be there.
  void forget_backfill();

 private:
  explicit WalIndex(int fd) : fd_(fd) {}
  base::Result<std::byte*> region(std::size_t number);

  int fd_;
  std::byte* first_ = nullptr;
  std::vector<std::byte*> regions_;  // null: not mapped yet
};

}  // namespace vfs

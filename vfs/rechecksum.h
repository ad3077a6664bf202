// WAL frame arithmetic and checksums (SQLite's file format, section 4), and the re-encoding of a transaction's frame headers. SQLite 3.40.1
// forgets after ROLLBACK TO which frames it left without checksums, so that after a crash the commit and all later ones are lost
// (docs/SQLITE-NOTES.md, "Savepoints, spills and re-checksums"). A commit frame with zero salts announces it; the shim then does the work itself.
// Pure functions over bytes, and one that reads and writes the WAL through the lower file. SQL threads, WRITER held.
//
// WAL header (32 bytes, big-endian): magic, version, page size, checkpoint sequence, salt 1, salt 2, checksum 1, checksum 2
// frame header (24 bytes, big-endian): page number, database size after commit or 0, salt 1, salt 2, checksum 1, checksum 2
#pragma once

#include <array>
#include <cstdint>

#include "base/bytes.h"
#include "base/result.h"
#include "base/sqlite.h"

namespace vfs {

inline constexpr std::int64_t kWalHeaderSize = 32;
inline constexpr std::int64_t kFrameHeaderSize = 24;

// Frames count from 1.
inline std::int64_t frame_offset(std::uint32_t frame, std::uint32_t page_size) {
  return kWalHeaderSize + std::int64_t{frame - 1} * (std::int64_t{page_size} + kFrameHeaderSize);
}

struct FrameChecksum {
  std::uint32_t first = 0;
  std::uint32_t second = 0;
};
// walChecksumBytes(): `bytes` is a multiple of 8 long. `big_endian` is the low bit of the WAL's magic.
FrameChecksum wal_checksum(FrameChecksum seed, base::ByteView bytes, bool big_endian);

using FrameHeader = std::array<std::byte, kFrameHeaderSize>;
// Whether SQLite left salts and checksums empty, to be filled in later (walEncodeFrame with iReCksum set).
bool announces_rechecksum(const FrameHeader& header);

// Writes the salts and chained checksums of frames first..last-1, which are in the WAL, and fills them into `header`, that of frame `last`
// with page `page`. Errors: kIo; some headers may then be written, which is harmless before the commit frame.
base::Status rechecksum(sqlite3_file* wal, std::uint32_t page_size, std::uint32_t first, std::uint32_t last,
                        FrameHeader& header, base::ByteView page);

}  // namespace vfs

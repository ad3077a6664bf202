// WAL checksums (vfs/rechecksum.h).
#include "vfs/rechecksum.h"

#include <cstring>

namespace vfs {
namespace {

base::Status read_wal(sqlite3_file* wal, base::MutableByteView out, std::int64_t offset) {
  const int rc = wal->pMethods->xRead(wal, out.data(), static_cast<int>(out.size()), offset);
  if (rc == SQLITE_OK) return base::ok();
  return base::make_error(base::Code::kIo, "WAL: read of " + std::to_string(out.size()) + " bytes at " +
                                               std::to_string(offset) + " failed with SQLite code " +
                                               std::to_string(rc));
}

void encode(FrameHeader& header, const std::byte* salts, FrameChecksum checksum) {
  std::memcpy(&header[8], salts, 8);
  base::store_be32(&header[16], checksum.first);
  base::store_be32(&header[20], checksum.second);
}

}  // namespace

FrameChecksum wal_checksum(FrameChecksum seed, base::ByteView bytes, bool big_endian) {
  std::uint32_t s1 = seed.first;
  std::uint32_t s2 = seed.second;
  for (std::size_t at = 0; at + 8 <= bytes.size(); at += 8) {
    const std::uint32_t x = big_endian ? base::load_be32(&bytes[at]) : base::load_u32(&bytes[at]);
    const std::uint32_t y = big_endian ? base::load_be32(&bytes[at + 4]) : base::load_u32(&bytes[at + 4]);
    s1 += x + s2;
    s2 += y + s1;
  }
  return {s1, s2};
}

bool announces_rechecksum(const FrameHeader& header) {
  for (std::size_t at = 8; at < header.size(); ++at)
    if (header[at] != std::byte{0}) return false;
  return true;
}

base::Status rechecksum(sqlite3_file* wal, std::uint32_t page_size, std::uint32_t first, std::uint32_t last,
                        FrameHeader& header, base::ByteView page) {
  std::array<std::byte, kWalHeaderSize> wal_header;
  HQL_TRY(read_wal(wal, wal_header, 0));
  const bool big_endian = (base::load_be32(&wal_header[0]) & 1) != 0;
  const std::byte* const salts = &wal_header[16];
  FrameChecksum chain{base::load_be32(&wal_header[24]), base::load_be32(&wal_header[28])};
  if (first > 1) {
    std::array<std::byte, 8> previous;
    HQL_TRY(read_wal(wal, previous, frame_offset(first - 1, page_size) + 16));
    chain = {base::load_be32(&previous[0]), base::load_be32(&previous[4])};
  }
  base::Bytes frame(static_cast<std::size_t>(kFrameHeaderSize) + page_size);
  for (std::uint32_t number = first; number < last; ++number) {
    const std::int64_t offset = frame_offset(number, page_size);
    HQL_TRY(read_wal(wal, frame, offset));
    FrameHeader current;
    std::memcpy(current.data(), frame.data(), current.size());
    chain = wal_checksum(chain, base::ByteView(current).first(8), big_endian);
    chain = wal_checksum(chain, base::ByteView(frame).subspan(kFrameHeaderSize), big_endian);
    encode(current, salts, chain);
    const int rc = wal->pMethods->xWrite(wal, current.data(), static_cast<int>(current.size()), offset);
    if (rc != SQLITE_OK)
      return base::make_error(base::Code::kIo, "WAL: write of the header of frame " + std::to_string(number) +
                                                   " failed with SQLite code " + std::to_string(rc));
  }
  chain = wal_checksum(chain, base::ByteView(header).first(8), big_endian);
  chain = wal_checksum(chain, page, big_endian);
  encode(header, salts, chain);
  return base::ok();
}

}  // namespace vfs

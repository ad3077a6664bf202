// SimFile: the bytes of one simulated file, twice: as processes see them (the page cache) and as the disk holds them.
// Unit of tearing is a sector of 512 bytes. Between two syncs the disk may, for every sector on its own, hold what it held before,
// any later version, or garbage. Caller: sim_disk.cc. One thread.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <vector>

#include "base/bytes.h"
#include "base/random.h"

namespace sim {

inline constexpr std::size_t kSectorSize = 512;

// What a sector that was being written when the power failed may hold besides an old or a new version.
enum class Garbage : std::uint8_t {
  kNone,          // old or new only
  kWrittenBytes,  // garbage only inside the bytes written since the last sync (files that SQLite lays out)
  kSector,        // garbage anywhere in a sector that was written to
};

class SimFile {
 public:
  [[nodiscard]] std::uint64_t size() const { return cache_.size(); }
  [[nodiscard]] std::size_t read(std::uint64_t offset, base::MutableByteView out) const;
  void write(std::uint64_t offset, base::ByteView bytes);
  void truncate(std::uint64_t size);
  // Everything that is dirty reaches the disk.
  void sync();
  // The kernel's write-back failed: some dirty sectors reached the disk, the others never will, and all count as clean. Reads still
  // show the new bytes until the cache is dropped; a later sync() succeeds without them ("fsyncgate").
  void sync_lost(base::Random& random);
  // Clean sectors are read from the disk again.
  void drop_cache();
  void power_cut(Garbage garbage, base::Random& random);
  // Flips the bits of `mask` on the disk and, if the sector is clean, in the cache. False: no such byte on the disk.
  bool rot(std::uint64_t offset, std::byte mask);

  [[nodiscard]] const base::Bytes& cached() const { return cache_; }
  [[nodiscard]] const base::Bytes& durable() const { return durable_; }
  [[nodiscard]] bool dirty() const { return !dirty_.empty() || !sizes_.empty(); }

 private:
  using Sector = std::array<std::byte, kSectorSize>;
  struct Dirty {
    std::vector<Sector> versions;     // between the disk's and the cache's, oldest first; at most kVersionsMax
    std::size_t first = kSectorSize;  // bytes of the sector that were written: first .. last - 1
    std::size_t last = 0;
  };

  void mark_dirty(std::uint64_t begin, std::uint64_t end);
  void resize_cache(std::uint64_t size);
  [[nodiscard]] Sector choose(std::size_t sector, const Dirty& dirty, Garbage garbage, base::Random& random) const;
  [[nodiscard]] std::uint64_t choose_size(base::Random& random) const;

  base::Bytes cache_;
  base::Bytes durable_;
  std::map<std::size_t, Dirty> dirty_;  // by sector number
  std::vector<std::uint64_t>
      sizes_;  // that the file had since the size on the disk was last made durable, the newest is the cache's
};

}  // namespace sim

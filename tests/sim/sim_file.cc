// The sector model of tests/sim/sim_file.h.
#include "tests/sim/sim_file.h"

#include <algorithm>

#include "base/check.h"

namespace sim {
namespace {

constexpr std::size_t kVersionsMax = 3;  // more versions of one unsynced sector add nothing that three do not show
constexpr std::size_t kSizesMax = 16;    // the same for sizes; a random one gives way

// Bytes of `from` that lie in `sector`, zeros where it has none.
std::array<std::byte, kSectorSize> sector_of(const base::Bytes& from, std::size_t sector) {
  std::array<std::byte, kSectorSize> out{};
  const std::size_t begin = sector * kSectorSize;
  if (begin >= from.size()) return out;
  const std::size_t size = std::min(kSectorSize, from.size() - begin);
  std::copy_n(from.begin() + static_cast<std::ptrdiff_t>(begin), size, out.begin());
  return out;
}

// Writes a sector into `to`, as far as the file reaches.
void put_sector(base::Bytes& to, std::size_t sector, const std::array<std::byte, kSectorSize>& bytes) {
  const std::size_t begin = sector * kSectorSize;
  if (begin >= to.size()) return;
  const std::size_t size = std::min(kSectorSize, to.size() - begin);
  std::copy_n(bytes.begin(), size, to.begin() + static_cast<std::ptrdiff_t>(begin));
}

void put_garbage(std::array<std::byte, kSectorSize>& sector, std::size_t first, std::size_t last,
                 base::Random& random) {
  for (std::size_t i = first; i < last; ++i) sector[i] = static_cast<std::byte>(random.next());
}

}  // namespace

std::size_t SimFile::read(std::uint64_t offset, base::MutableByteView out) const {
  if (offset >= cache_.size()) return 0;
  const auto begin = static_cast<std::size_t>(offset);
  const std::size_t size = std::min(out.size(), cache_.size() - begin);
  std::copy_n(cache_.begin() + static_cast<std::ptrdiff_t>(begin), size, out.begin());
  return size;
}

void SimFile::write(std::uint64_t offset, base::ByteView bytes) {
  if (bytes.empty()) return;
  const std::uint64_t end = offset + bytes.size();
  mark_dirty(offset, end);
  if (end > cache_.size()) resize_cache(end);
  std::copy(bytes.begin(), bytes.end(), cache_.begin() + static_cast<std::ptrdiff_t>(offset));
}

void SimFile::truncate(std::uint64_t size) {
  if (size == cache_.size()) return;
  if (size < cache_.size()) mark_dirty(size, cache_.size());
  resize_cache(size);
}

void SimFile::resize_cache(std::uint64_t size) {
  cache_.resize(static_cast<std::size_t>(size));
  if (sizes_.size() == kSizesMax) sizes_.erase(sizes_.begin() + kSizesMax / 2);
  sizes_.push_back(size);
}

void SimFile::mark_dirty(std::uint64_t begin, std::uint64_t end) {
  for (std::uint64_t at = begin; at < end;) {
    const auto sector = static_cast<std::size_t>(at / kSectorSize);
    const std::uint64_t sector_begin = std::uint64_t{sector} * kSectorSize;
    const std::uint64_t stop = std::min(end, sector_begin + kSectorSize);
    const auto [place, is_new] = dirty_.try_emplace(sector);
    Dirty& dirty = place->second;
    if (!is_new) {
      // What the cache holds now may be what the disk has taken by the time the power fails.
      if (dirty.versions.size() == kVersionsMax) dirty.versions.erase(dirty.versions.begin());
      dirty.versions.push_back(sector_of(cache_, sector));
    }
    dirty.first = std::min(dirty.first, static_cast<std::size_t>(at - sector_begin));
    dirty.last = std::max(dirty.last, static_cast<std::size_t>(stop - sector_begin));
    at = stop;
  }
}

void SimFile::sync() {
  durable_.resize(cache_.size());
  for (const auto& [sector, dirty] : dirty_) put_sector(durable_, sector, sector_of(cache_, sector));
  dirty_.clear();
  sizes_.clear();
}

void SimFile::sync_lost(base::Random& random) {
  // The size travels through the file system's journal: it stays pending and the next sync writes it.
  for (const auto& [sector, dirty] : dirty_)
    if (random.chance(1, 2)) put_sector(durable_, sector, sector_of(cache_, sector));
  dirty_.clear();
}

void SimFile::drop_cache() {
  const std::size_t sectors = (cache_.size() + kSectorSize - 1) / kSectorSize;
  for (std::size_t sector = 0; sector < sectors; ++sector)
    if (!dirty_.contains(sector)) put_sector(cache_, sector, sector_of(durable_, sector));
}

SimFile::Sector SimFile::choose(std::size_t sector, const Dirty& dirty, Garbage garbage, base::Random& random) const {
  const Sector before = sector_of(durable_, sector);
  const Sector after = sector_of(cache_, sector);
  const std::uint64_t dice = random.below(100);
  if (dice < 40) return before;
  if (dice < 75) return after;
  if (dice < 88 && !dirty.versions.empty()) return dirty.versions[random.below(dirty.versions.size())];
  Sector torn = random.chance(1, 2) ? before : after;
  if (garbage == Garbage::kSector) put_garbage(torn, 0, kSectorSize, random);
  if (garbage == Garbage::kWrittenBytes) put_garbage(torn, dirty.first, dirty.last, random);
  return torn;
}

std::uint64_t SimFile::choose_size(base::Random& random) const {
  if (sizes_.empty()) return durable_.size();
  const std::uint64_t choice = random.below(sizes_.size() + 1);
  return choice == sizes_.size() ? durable_.size() : sizes_[choice];
}

void SimFile::power_cut(Garbage garbage, base::Random& random) {
  // Whole files that were or were not written are as likely as mixtures: both are what real disks do.
  enum class Mode : std::uint8_t { kNothing, kEverything, kMixed };
  constexpr std::array<Mode, 4> kModes = {Mode::kNothing, Mode::kEverything, Mode::kMixed, Mode::kMixed};
  const Mode mode = kModes[random.below(kModes.size())];
  if (mode == Mode::kEverything) {
    sync();
  } else if (mode == Mode::kMixed) {
    const std::uint64_t size = choose_size(random);
    base::Bytes result = durable_;
    result.resize(std::max(cache_.size(), durable_.size()));
    for (const auto& [sector, dirty] : dirty_) put_sector(result, sector, choose(sector, dirty, garbage, random));
    result.resize(static_cast<std::size_t>(size));
    durable_ = std::move(result);
  }
  cache_ = durable_;
  dirty_.clear();
  sizes_.clear();
}

bool SimFile::rot(std::uint64_t offset, std::byte mask) {
  CHECK(mask != std::byte{0});
  if (offset >= durable_.size()) return false;
  const auto at = static_cast<std::size_t>(offset);
  durable_[at] ^= mask;
  if (at < cache_.size() && !dirty_.contains(at / kSectorSize)) cache_[at] ^= mask;
  return true;
}

}  // namespace sim

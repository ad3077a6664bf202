// See wal_index.h. The memory is shared with SQLite in this and other processes: every access is a relaxed atomic, ordered by fences.
#include "vfs/wal_index.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <bit>
#include <cerrno>
#include <cstring>

#include "base/check.h"
#include "vfs/fork.h"

namespace vfs {
namespace {

static_assert(std::endian::native == std::endian::little, "page and frame numbers in the wal-index are in host order");

constexpr std::size_t kRegionSize = 32768;
constexpr std::size_t kHeaderBytes = 136;  // WALINDEX_HDR_SIZE
constexpr std::size_t kCkptInfo = 96;
constexpr std::size_t kBackfillAttempted = kCkptInfo + 32;
constexpr std::size_t kReadMarks = kCkptInfo + 4;
constexpr std::size_t kHashOffset = 16384;
constexpr std::uint32_t kHashSlots = 8192;
constexpr std::uint32_t kFramesPerRegion = 4096;
constexpr std::uint32_t kFramesFirst = kFramesPerRegion - kHeaderBytes / 4;  // 4062
constexpr std::uint32_t kMarkUnused = 0xffffffff;
constexpr std::uint32_t kIndexVersion = 3007000;
constexpr int kReaders = 5;

std::uint32_t load32(const std::byte* at) {
  return __atomic_load_n(reinterpret_cast<const std::uint32_t*>(at), __ATOMIC_RELAXED);
}
void store32(std::byte* at, std::uint32_t value) {
  __atomic_store_n(reinterpret_cast<std::uint32_t*>(at), value, __ATOMIC_RELAXED);
}
std::uint16_t load16(const std::byte* at) {
  return __atomic_load_n(reinterpret_cast<const std::uint16_t*>(at), __ATOMIC_RELAXED);
}
void store16(std::byte* at, std::uint16_t value) {
  __atomic_store_n(reinterpret_cast<std::uint16_t*>(at), value, __ATOMIC_RELAXED);
}

std::size_t region_of(FrameNo frame) {
  return frame <= kFramesFirst ? 0 : (frame - kFramesFirst - 1) / kFramesPerRegion + 1;
}
// The frame before the region's first.
FrameNo zero_of(std::size_t region) {
  return region == 0 ? 0 : kFramesFirst + static_cast<FrameNo>(region - 1) * kFramesPerRegion;
}
std::byte* page_slot(std::byte* region, std::size_t number, std::uint32_t position) {  // position 1..
  return region + (number == 0 ? kHeaderBytes : 0) + (position - 1) * std::size_t{4};
}
std::byte* hash_slot(std::byte* region, std::uint32_t slot) { return region + kHashOffset + slot * std::size_t{2}; }
std::uint32_t hash_of(pages::PageNo page) { return (page * 383) & (kHashSlots - 1); }
std::uint32_t next_slot(std::uint32_t slot) { return (slot + 1) & (kHashSlots - 1); }

void load_header(const std::byte* at, WalIndexHeader& out) {
  std::uint32_t words[12];
  for (std::size_t i = 0; i < 12; ++i) words[i] = load32(at + i * 4);
  std::memcpy(&out, words, sizeof out);
}
void store_header(std::byte* at, const WalIndexHeader& header) {
  std::uint32_t words[12];
  std::memcpy(words, &header, sizeof words);
  for (std::size_t i = 0; i < 12; ++i) store32(at + i * 4, words[i]);
}

base::Error io_error(const std::string& what) {
  const base::Code code = errno == ENOSPC || errno == EDQUOT ? base::Code::kFull : base::Code::kIo;
  return base::make_error(code, "wal-index: " + what + ": " + std::strerror(errno));
}

}  // namespace

bool WalIndexHeader::operator==(const WalIndexHeader& other) const {
  return std::memcmp(this, &other, sizeof *this) == 0;
}

void wal_checksum(base::ByteView bytes, bool big_endian, std::uint32_t sum[2]) {
  std::uint32_t first = sum[0];
  std::uint32_t second = sum[1];
  for (std::size_t at = 0; at < bytes.size(); at += 8) {
    std::uint32_t words[2];
    std::memcpy(words, bytes.data() + at, sizeof words);
    if (big_endian) {
      words[0] = __builtin_bswap32(words[0]);
      words[1] = __builtin_bswap32(words[1]);
    }
    first += words[0] + second;
    second += words[1] + first;
  }
  sum[0] = first;
  sum[1] = second;
}

base::Result<std::unique_ptr<WalIndex>> WalIndex::map(int fd) {
  std::unique_ptr<WalIndex> index(new WalIndex(fd));
  struct stat info {};
  if (::fstat(fd, &info) != 0) return io_error("stat");
  if (info.st_size < static_cast<off_t>(kRegionSize))
    return base::make_error(base::Code::kCorrupt, "wal-index: shorter than its first region");
  HQL_ASSIGN(first, index->region(0));
  index->first_ = first;
  return index;
}

WalIndex::~WalIndex() {
  if (in_forked_child()) return;  // not mapped there: something else may be at these addresses
  for (std::byte* region : regions_)
    if (region != nullptr) ::munmap(region, kRegionSize);
}

base::Result<std::byte*> WalIndex::region(std::size_t number) {
  if (number < regions_.size() && regions_[number] != nullptr) return regions_[number];
  struct stat info {};
  if (::fstat(fd_, &info) != 0) return io_error("stat");
  const auto end = static_cast<off_t>((number + 1) * kRegionSize);
  // Allocated, not merely extended: a hole on a full disk would be SIGBUS in every reader.
  if (info.st_size < end) {
    const int rc = ::posix_fallocate(fd_, static_cast<off_t>(number * kRegionSize), static_cast<off_t>(kRegionSize));
    if (rc != 0) {
      errno = rc;
      return io_error("grow");
    }
  }
  void* memory =
      ::mmap(nullptr, kRegionSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, static_cast<off_t>(number * kRegionSize));
  if (memory == MAP_FAILED) return io_error("map");
  // A mapping keeps the open file, and with it the keeper's OFD locks: a forked child must not inherit it.
  if (::madvise(memory, kRegionSize, MADV_DONTFORK) != 0) {
    const base::Error error = io_error("set up");
    ::munmap(memory, kRegionSize);
    return error;
  }
  if (number >= regions_.size()) regions_.resize(number + 1, nullptr);
  regions_[number] = static_cast<std::byte*>(memory);
  return regions_[number];
}

base::Result<WalIndexHeader> WalIndex::header() const {
  WalIndexHeader header;
  WalIndexHeader second;
  load_header(first_, header);
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  load_header(first_ + sizeof header, second);
  if (!(header == second)) return base::make_error(base::Code::kCorrupt, "wal-index: the two headers differ");
  if (header.is_init == 0) return base::make_error(base::Code::kCorrupt, "wal-index: not initialised");
  std::uint32_t sum[2] = {0, 0};
  wal_checksum({reinterpret_cast<const std::byte*>(&header), 40}, false, sum);
  if (sum[0] != header.checksum[0] || sum[1] != header.checksum[1])
    return base::make_error(base::Code::kCorrupt, "wal-index: the header's checksum is wrong");
  if (header.version != kIndexVersion)
    return base::make_error(base::Code::kCorrupt,
                            "wal-index: version " + std::to_string(header.version) + " is unknown");
  return header;
}

FrameNo WalIndex::backfilled() const { return load32(first_ + kCkptInfo); }

base::Result<bool> WalIndex::all_backfilled() const {
  // In this order: a restart publishes its header before it sets the count to 0 (walRestartHdr), so that this 0 never meets the old header.
  const FrameNo done = backfilled();
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  HQL_ASSIGN(live, header());
  return done >= live.max_frame;
}

base::Result<FrameNo> WalIndex::find(pages::PageNo page, FrameNo max_frame) {
  if (max_frame == 0) return FrameNo{0};
  for (std::size_t number = region_of(max_frame) + 1; number-- > 0;) {
    HQL_ASSIGN(memory, region(number));
    const FrameNo zero = zero_of(number);
    FrameNo found = 0;
    std::uint32_t slot = hash_of(page);
    for (std::uint32_t step = 0; step <= kHashSlots; ++step) {
      const std::uint32_t position = load16(hash_slot(memory, slot));
      if (position == 0) break;
      if (step == kHashSlots || position > kFramesPerRegion)
        return base::make_error(base::Code::kCorrupt, "wal-index: a hash table is damaged");
      // Later frames come later in the chain: the last match wins.
      if (zero + position <= max_frame && load32(page_slot(memory, number, position)) == page) found = zero + position;
      slot = next_slot(slot);
    }
    if (found != 0) return found;
  }
  return FrameNo{0};
}

base::Result<pages::PageNo> WalIndex::page_of(FrameNo frame) {
  CHECK(frame > 0);
  const std::size_t number = region_of(frame);
  HQL_ASSIGN(memory, region(number));
  return load32(page_slot(memory, number, frame - zero_of(number)));
}

base::Status WalIndex::reserve(FrameNo last) {
  for (std::size_t number = 0; number <= region_of(last); ++number) HQL_TRY(region(number));
  return base::ok();
}

base::Status WalIndex::clean_up(FrameNo max_frame) {
  if (max_frame == 0) return base::ok();
  const std::size_t number = region_of(max_frame);
  HQL_ASSIGN(memory, region(number));
  const std::uint32_t limit = max_frame - zero_of(number);
  for (std::uint32_t slot = 0; slot < kHashSlots; ++slot)
    if (load16(hash_slot(memory, slot)) > limit) store16(hash_slot(memory, slot), 0);
  for (std::byte* at = page_slot(memory, number, limit + 1); at < memory + kHashOffset; at += 4) store32(at, 0);
  return base::ok();
}

base::Status WalIndex::append(FrameNo frame, pages::PageNo page) {
  const std::size_t number = region_of(frame);
  HQL_ASSIGN(memory, region(number));
  const std::uint32_t position = frame - zero_of(number);
  if (position == 1)
    for (std::byte* at = page_slot(memory, number, 1); at < memory + kRegionSize; at += 4) store32(at, 0);
  if (load32(page_slot(memory, number, position)) != 0) HQL_TRY(clean_up(frame - 1));
  std::uint32_t slot = hash_of(page);
  for (std::uint32_t collisions = position; load16(hash_slot(memory, slot)) != 0; slot = next_slot(slot))
    if (collisions-- == 0) return base::make_error(base::Code::kCorrupt, "wal-index: a hash table is damaged");
  store32(page_slot(memory, number, position), page);
  __atomic_thread_fence(__ATOMIC_RELEASE);
  store16(hash_slot(memory, slot), static_cast<std::uint16_t>(position));
  return base::ok();
}

void WalIndex::publish(WalIndexHeader header) {
  header.is_init = 1;
  header.version = kIndexVersion;
  std::uint32_t sum[2] = {0, 0};
  wal_checksum({reinterpret_cast<const std::byte*>(&header), 40}, false, sum);
  header.checksum[0] = sum[0];
  header.checksum[1] = sum[1];
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  store_header(first_ + sizeof header, header);
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  store_header(first_, header);
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

void WalIndex::forget_backfill() { store32(first_ + kCkptInfo, 0); }

void WalIndex::reset_marks() {
  store32(first_ + kCkptInfo, 0);
  store32(first_ + kBackfillAttempted, 0);
  store32(first_ + kReadMarks + 4, 0);
  for (int mark = 2; mark < kReaders; ++mark)
    store32(first_ + kReadMarks + static_cast<std::size_t>(mark) * 4, kMarkUnused);
}

}  // namespace vfs

// Page hashes in memory and the digest (pages/sums.h). Guarded by the owner.
#include "pages/sums.h"

#include "base/check.h"
#include "base/checksum.h"

namespace pages {
namespace {

constexpr PageNo kPagesPerBlock = 512;
constexpr std::size_t kBlockSize = std::size_t{kPagesPerBlock} * 8;
constexpr std::uint64_t kLockByte = std::uint64_t{1} << 30;  // SQLite's PENDING_BYTE

std::size_t blocks_of(PageNo page_count) { return (std::size_t{page_count} + kPagesPerBlock - 1) / kPagesPerBlock; }

}  // namespace

std::uint64_t page_hash(PageNo page, base::ByteView image) { return base::xxh3(image, page); }

PageNo lock_byte_page(std::uint32_t page_size) { return static_cast<PageNo>(kLockByte / page_size) + 1; }

PageNo PageSums::page_count() const { return static_cast<PageNo>(hashes_.size()); }

std::uint64_t PageSums::at(PageNo page) const { return page >= 1 && page <= hashes_.size() ? hashes_[page - 1] : 0; }

void PageSums::set(PageNo page, std::uint64_t hash) {
  CHECK(page >= 1);
  if (page > hashes_.size()) resize(page);
  if (page == lock_byte_page(page_size_)) return;  // never framed by SQLite, no bytes of ours
  std::uint64_t& slot = hashes_[page - 1];
  digest_ ^= slot ^ hash;
  slot = hash;
  dirty_[(page - 1) / kPagesPerBlock] = true;
}

void PageSums::resize(PageNo page_count) {
  const PageNo before = this->page_count();
  if (page_count == before) return;
  for (PageNo page = page_count; page < before; ++page) digest_ ^= hashes_[page];
  hashes_.resize(page_count, 0);
  dirty_.resize(blocks_of(page_count), true);
  // The block in which the array now ends has other padding than before, or new pages.
  if (page_count > 0) dirty_[(page_count - 1) / kPagesPerBlock] = true;
  if (before > 0 && before < page_count) dirty_[(before - 1) / kPagesPerBlock] = true;
}

std::vector<std::uint32_t> PageSums::take_dirty_blocks() {
  std::vector<std::uint32_t> blocks;
  for (std::size_t block = 0; block < dirty_.size(); ++block)
    if (dirty_[block]) blocks.push_back(static_cast<std::uint32_t>(block));
  dirty_.assign(dirty_.size(), false);
  return blocks;
}

void PageSums::mark_all_dirty() { dirty_.assign(dirty_.size(), true); }

base::Bytes PageSums::block(std::uint32_t number) const {
  base::Bytes bytes(kBlockSize);
  const std::size_t first = std::size_t{number} * kPagesPerBlock;
  for (std::size_t i = 0; i < kPagesPerBlock && first + i < hashes_.size(); ++i)
    base::store_u64(&bytes[i * 8], hashes_[first + i]);
  return bytes;
}

void PageSums::load_block(std::uint32_t number, base::ByteView bytes) {
  CHECK(bytes.size() == kBlockSize);
  const std::size_t first = std::size_t{number} * kPagesPerBlock;
  for (std::size_t i = 0; i < kPagesPerBlock && first + i < hashes_.size(); ++i)
    set(static_cast<PageNo>(first + i + 1), base::load_u64(&bytes[i * 8]));
}

}  // namespace pages

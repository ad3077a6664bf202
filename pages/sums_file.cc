// `<name>.sums` on disk (docs/FORMATS.md, "Sums"). Integers little-endian, everything in 4096-byte blocks:
//
//   block 0, 1    record slots; the valid one with the higher generation counts
//   block 2 + g * 513            checksums of group g: u32 crc32c(block bytes, seeded with the block's number) * 512, then zeros
//   block 2 + g * 513 + 1 + i    hash block g * 512 + i: u64 page hash * 512, page = block * 512 + position + 1
//
//   slot:  0        8         12          16           24   32           36     40          48           56
//          | magic  | version | page_size | generation | db | page_count | zero | base.term | base.index | digest |
//          64          68          72               76               80
//          | wal_salt0 | wal_salt1 | wal_salt_next0 | wal_salt_next1 | crc32c of bytes 0..79 |
//
// A torn write is told from a whole one by the checksums: a checksum block needs none of its own, a wrong entry in it only makes its
// hash block unknown, whose pages are then hashed again.
#include <algorithm>
#include <map>

#include "base/checksum.h"
#include "pages/body.h"
#include "pages/sums.h"

namespace pages {
namespace {

constexpr std::size_t kBlockSize = 4096;
constexpr std::uint32_t kGroupBlocks = 512;
constexpr std::uint64_t kMagic = 0x31534d55534c5148ULL;  // "HQLSUMS1"
constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kSlotSize = 84;

std::uint64_t checksum_block_at(std::uint32_t group) {
  return (2 + std::uint64_t{group} * (kGroupBlocks + 1)) * kBlockSize;
}
std::uint64_t hash_block_at(std::uint32_t block) {
  return checksum_block_at(block / kGroupBlocks) + (1 + std::uint64_t{block % kGroupBlocks}) * kBlockSize;
}

// Of a hash block's checksum in the checksum block of its group.
std::size_t checksum_offset(std::uint32_t block) { return std::size_t{block % kGroupBlocks} * 4; }

std::uint32_t block_checksum(std::uint32_t block, base::ByteView bytes) { return base::crc32c(bytes, block + 1); }

base::Bytes encode_slot(const SumsRecord& record) {
  base::Writer out;
  out.u64(kMagic);
  out.u32(kVersion);
  out.u32(record.page_size);
  out.u64(record.generation);
  out.u64(record.db.value);
  out.u32(record.page_count);
  out.u32(0);
  out.u64(record.base.term.value);
  out.u64(record.base.index.value);
  out.u64(record.digest);
  for (const std::uint32_t salt : record.wal_salt) out.u32(salt);
  for (const std::uint32_t salt : record.wal_salt_next) out.u32(salt);
  out.u32(base::crc32c(out.view()));
  CHECK(out.size() == kSlotSize);
  out.buffer().resize(kBlockSize);
  return out.take();
}

// False: not a valid slot.
bool decode_slot(base::ByteView bytes, SumsRecord& record) {
  if (bytes.size() < kSlotSize) return false;
  if (base::load_u32(&bytes[kSlotSize - 4]) != base::crc32c(bytes.first(kSlotSize - 4))) return false;
  base::Reader in(bytes.first(kSlotSize));
  if (in.u64() != kMagic) return false;
  if (in.u32() != kVersion) return false;
  record.page_size = in.u32();
  record.generation = in.u64();
  record.db = DatabaseId(in.u64());
  record.page_count = in.u32();
  if (in.u32() != 0) return false;
  record.base.term = base::Term(in.u64());
  record.base.index = base::Index(in.u64());
  record.digest = in.u64();
  for (std::uint32_t& salt : record.wal_salt) salt = in.u32();
  for (std::uint32_t& salt : record.wal_salt_next) salt = in.u32();
  return in.ok() && valid_page_size(record.page_size);
}

// Reads one block; what lies behind the end of the file is zero.
base::Result<base::Bytes> read_block(base::File& file, std::uint64_t offset) {
  base::Bytes bytes(kBlockSize);
  HQL_ASSIGN(size, file.read(offset, bytes));
  std::fill(bytes.begin() + static_cast<std::ptrdiff_t>(size), bytes.end(), std::byte{0});
  return bytes;
}

}  // namespace

base::Result<std::unique_ptr<SumsFile>> SumsFile::open(base::Env& env, const std::string& path, base::OpenMode mode) {
  HQL_ASSIGN(file, env.open(path, mode));
  auto sums = std::make_unique<SumsFile>();
  sums->file_ = std::move(file);
  for (std::uint64_t slot = 0; slot < 2; ++slot) {
    HQL_ASSIGN(bytes, read_block(*sums->file_, slot * kBlockSize));
    SumsRecord record;
    if (decode_slot(bytes, record) && record.generation > sums->record_.generation) sums->record_ = record;
  }
  return sums;
}

base::Result<SumsFile::Loaded> SumsFile::load(std::uint32_t page_size) {
  Loaded loaded;
  loaded.sums = PageSums(page_size);
  if (record_.generation == 0) return loaded;
  if (record_.page_size != page_size)
    return base::make_error(base::Code::kCorrupt, "page hashes are of pages of " + std::to_string(record_.page_size) +
                                                      " bytes, not " + std::to_string(page_size));
  // A slot is checksummed, yet its page count is checked against the file before memory is taken for it (R18).
  HQL_ASSIGN(file_size, file_->size());
  const std::uint64_t pages_held = file_size / 8;
  loaded.exists = true;
  loaded.record = record_;
  if (record_.page_count > pages_held)
    return base::make_error(base::Code::kCorrupt, "page hashes end before page " + std::to_string(record_.page_count));
  loaded.sums.resize(record_.page_count);
  const std::uint32_t blocks = static_cast<std::uint32_t>((std::uint64_t{record_.page_count} + 511) / 512);
  base::Bytes checksums;
  for (std::uint32_t block = 0; block < blocks; ++block) {
    if (block % kGroupBlocks == 0) {
      HQL_ASSIGN(bytes, read_block(*file_, checksum_block_at(block / kGroupBlocks)));
      checksums = std::move(bytes);
    }
    HQL_ASSIGN(bytes, read_block(*file_, hash_block_at(block)));
    if (block_checksum(block, bytes) == base::load_u32(&checksums[checksum_offset(block)]))
      loaded.sums.load_block(block, bytes);
    else
      loaded.bad_blocks.push_back(block);
  }
  (void)loaded.sums.take_dirty_blocks();
  return loaded;
}

base::Status SumsFile::write_blocks(const std::vector<std::pair<std::uint32_t, base::Bytes>>& blocks) {
  std::map<std::uint32_t, base::Bytes> checksums;
  for (const auto& [block, bytes] : blocks) {
    CHECK(bytes.size() == kBlockSize);
    const std::uint32_t group = block / kGroupBlocks;
    auto found = checksums.find(group);
    if (found == checksums.end()) {
      HQL_ASSIGN(current, read_block(*file_, checksum_block_at(group)));
      found = checksums.emplace(group, std::move(current)).first;
    }
    base::store_u32(&found->second[checksum_offset(block)], block_checksum(block, bytes));
    HQL_TRY(file_->write(hash_block_at(block), bytes));
  }
  for (const auto& [group, bytes] : checksums) HQL_TRY(file_->write(checksum_block_at(group), bytes));
  return file_->sync();
}

base::Status SumsFile::write_record(const SumsRecord& record) {
  SumsRecord next = record;
  next.generation = record_.generation + 1;
  HQL_TRY(file_->write((next.generation % 2) * kBlockSize, encode_slot(next)));
  HQL_TRY(file_->sync());
  record_ = next;
  return base::ok();
}

}  // namespace pages

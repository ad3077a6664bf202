// Page hashes and the digest of a database (R11), and their file `<name>.sums` (docs/FORMATS.md, "Sums").
// hash(n) = xxh3-64 of the page's bytes seeded with its number; digest = XOR of the hashes of all pages 1..page_count except the
// lock-byte page (the one that contains byte 2^30). An empty database has digest 0.
// PageSums: guarded by its owner (vfs::Database's mutex). SumsFile: maintenance lane.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/env.h"
#include "pages/tx.h"

namespace pages {

std::uint64_t page_hash(PageNo page, base::ByteView image);
PageNo lock_byte_page(std::uint32_t page_size);

// The array in memory: 8 bytes per page.
class PageSums {
 public:
  explicit PageSums(std::uint32_t page_size) : page_size_(page_size) {}
  [[nodiscard]] PageNo page_count() const;
  [[nodiscard]] std::uint64_t digest() const { return digest_; }
  [[nodiscard]] std::uint64_t at(PageNo page) const;  // 0 for the lock-byte page and beyond the end
  // Replaces the hash of a page, growing the array (pages between become 0 and must be set before digest() counts).
  void set(PageNo page, std::uint64_t hash);
  void resize(PageNo page_count);  // cut-off pages leave the digest
  // 512-page blocks of the array changed since the last take (for the sync point).
  std::vector<std::uint32_t> take_dirty_blocks();
  void mark_all_dirty();
  [[nodiscard]] base::Bytes block(std::uint32_t number) const;  // 4096 bytes, little-endian, zero padded
  // From disk; a block whose checksum is bad is remembered as unknown.
  void load_block(std::uint32_t number, base::ByteView bytes);

 private:
  std::uint32_t page_size_;
  std::uint64_t digest_ = 0;
  std::vector<std::uint64_t> hashes_;  // [page - 1]
  std::vector<bool> dirty_;            // per block
};

// What a sync point records in one of the two alternating, checksummed slots of the file.
struct SumsRecord {
  std::uint64_t generation = 0;  // higher slot wins
  DatabaseId db;
  std::uint32_t page_size = 0;
  PageNo page_count = 0;
  LogId base;                               // everything up to this transaction is durable in SQLite's own files
  std::uint64_t digest = 0;                 // at `base`
  std::uint32_t wal_salt[2] = {0, 0};       // of the WAL that is live, recorded before its first frame
  std::uint32_t wal_salt_next[2] = {0, 0};  // of the WAL about to be started, else equal
};

// `<name>.sums`: header slots at 0 and 4096, then one 4 KiB block of hashes + one checksum block per 512.. (pages/sums_file.cc draws it).
class SumsFile {
 public:
  struct Loaded {
    bool exists = false;  // false: no valid slot
    SumsRecord record;
    PageSums sums{4096};
    std::vector<std::uint32_t> bad_blocks;  // unreadable or wrong checksum: their pages must be rehashed
  };
  // With kReadOnly nothing can be written.
  static base::Result<std::unique_ptr<SumsFile>> open(base::Env& env, const std::string& path,
                                                      base::OpenMode mode = base::OpenMode::kCreate);
  base::Result<Loaded> load(std::uint32_t page_size);
  // Writes the given blocks and their checksums and syncs them; then write_record makes them count.
  base::Status write_blocks(const std::vector<std::pair<std::uint32_t, base::Bytes>>& blocks);
  // Writes the other slot and syncs.
  base::Status write_record(const SumsRecord& record);
  [[nodiscard]] const SumsRecord& record() const { return record_; }

 private:
  std::unique_ptr<base::File> file_;
  SumsRecord record_;
};

}  // namespace pages

// Fuzz target: the file of page hashes (pages/sums_file.cc). A file of any bytes opens to no record, a record, or is refused; a hash block whose
// checksum is wrong is named; what is written afterwards is what the next open finds.
//
// input: page size u8 (512 << size % 8) | mode u8 (1: slots get their checksum, 2: their page size, 4: blocks get their checksums)
//        | slot 0, slot 1: 80 bytes each | length u16 | bytes from block 2 on, each standing for 16 equal ones
#include "pages/sums.h"
#include "tests/fuzz/fuzz.h"
#include "tests/wal/disk_env.h"

namespace {

using base::Bytes;

constexpr std::size_t kBlock = 4096;
constexpr std::size_t kSlotBytes = 80;
constexpr char kPath[] = "app.db.sums";

Bytes make_file(fuzz::Input& in, std::uint32_t page_size) {
  const std::uint8_t mode = in.u8();
  Bytes file(2 * kBlock);
  for (std::size_t slot = 0; slot < 2; ++slot) {
    std::byte* const at = &file[slot * kBlock];
    const base::ByteView bytes = in.bytes(kSlotBytes);
    std::copy(bytes.begin(), bytes.end(), at);
    if (mode & 2) base::store_u32(at + 12, page_size);
    if (mode & 1) base::store_u32(at + kSlotBytes, base::crc32c({at, kSlotBytes}));
  }
  const base::ByteView pattern = in.bytes(in.u16());
  for (const std::byte each : pattern) file.insert(file.end(), 16, each);
  for (std::size_t block = 0; mode & 4; ++block) {  // of the first group: its checksums are block 2, its hashes follow
    const std::size_t at = (3 + block) * kBlock;
    if (at + kBlock > file.size()) break;
    base::store_u32(&file[2 * kBlock + 4 * block],
                    base::crc32c({&file[at], kBlock}, static_cast<std::uint32_t>(block + 1)));
  }
  return file;
}

bool same(const pages::SumsRecord& one, const pages::SumsRecord& two) {
  return one.generation == two.generation && one.db == two.db && one.page_size == two.page_size &&
         one.page_count == two.page_count && one.base == two.base && one.digest == two.digest &&
         std::equal(one.wal_salt, one.wal_salt + 2, two.wal_salt) &&
         std::equal(one.wal_salt_next, one.wal_salt_next + 2, two.wal_salt_next);
}

}  // namespace

void fuzz::run(base::ByteView input) {
  Input in(input);
  const std::uint32_t page_size = std::uint32_t{512} << in.u8() % 8;
  wal_test::DiskEnv env(1);
  env.put(kPath, make_file(in, page_size));
  auto file = pages::SumsFile::open(env, kPath);
  FUZZ_REQUIRE_OK(file);
  auto loaded = (*file)->load(page_size);
  if (!loaded) {
    FUZZ_REQUIRE(loaded.error().code == base::Code::kCorrupt);
    return;
  }
  if (!loaded->exists) {
    FUZZ_REQUIRE(loaded->sums.page_count() == 0);
    return;
  }
  if (loaded->record.generation == UINT64_MAX) return;  // counted from 1: nobody writes so often
  accepted();
  FUZZ_CANARY(loaded->record.db.value != 2);
  FUZZ_REQUIRE(same(loaded->record, (*file)->record()));
  FUZZ_REQUIRE(loaded->record.page_size == page_size);
  FUZZ_REQUIRE(loaded->sums.page_count() == loaded->record.page_count);
  std::uint64_t digest = 0;
  for (pages::PageNo page = 1; page <= loaded->sums.page_count(); ++page) digest ^= loaded->sums.at(page);
  FUZZ_REQUIRE(digest == loaded->sums.digest());

  // As a start does: hash what is not known again, write it, then the record.
  std::vector<std::pair<std::uint32_t, Bytes>> blocks;
  for (const std::uint32_t block : loaded->bad_blocks) {
    const pages::PageNo first = block * 512 + 1;
    for (pages::PageNo page = first; page < first + 512 && page <= loaded->sums.page_count(); ++page)
      if (page != pages::lock_byte_page(page_size)) loaded->sums.set(page, page * 3);
    blocks.emplace_back(block, loaded->sums.block(block));
  }
  FUZZ_REQUIRE_OK((*file)->write_blocks(blocks));
  pages::SumsRecord record = loaded->record;
  record.digest = loaded->sums.digest();
  FUZZ_REQUIRE_OK((*file)->write_record(record));
  auto again = pages::SumsFile::open(env, kPath);
  FUZZ_REQUIRE_OK(again);
  auto reloaded = (*again)->load(page_size);
  FUZZ_REQUIRE_OK(reloaded);
  record.generation += 1;
  FUZZ_REQUIRE(same(reloaded->record, record));
  FUZZ_REQUIRE(reloaded->bad_blocks.empty());
  FUZZ_REQUIRE(reloaded->sums.digest() == record.digest);
}

std::vector<fuzz::Seed> fuzz::seeds() {
  const auto slot = [](std::uint64_t generation, std::uint32_t pages) {
    base::Writer out;
    out.u64(0x31534d55534c5148ULL);  // "HQLSUMS1"
    out.u32(1);
    out.u32(4096);
    out.u64(generation);
    out.u64(2);
    out.u32(pages);
    out.u32(0);
    for (int i = 0; i < 3; ++i) out.u64(7);
    for (std::uint32_t i = 0; i < 4; ++i) out.u32(i);
    return out.take();
  };
  const auto file = [&](std::uint8_t mode, std::uint32_t pages) {
    base::Writer out;
    out.u8(3);
    out.u8(mode);
    out.raw(slot(1, 0));
    out.raw(slot(2, pages));
    const std::size_t blocks = 1 + (pages + 511) / 512;
    out.u16(static_cast<std::uint16_t>(blocks * kBlock / 16));
    // All the same, so that short inputs reach far; lock-byte pages are not among so few.
    out.raw(Bytes(blocks * kBlock / 16, std::byte{9}));
    return out.take();
  };
  return {{"valid-one-block", file(5, 300)},
          {"valid-two-blocks", file(5, 1000)},
          {"valid-bad-blocks", file(1, 600)},
          {"no-record", file(0, 5)}};
}

// Golden bytes of every entry type and of `.sums`.
#include "tests/base/golden.h"

#include <gtest/gtest.h>

#include "base/posix_env.h"
#include "pages/sums.h"
#include "pages/tx.h"
#include "tests/base/temp_dir.h"
#include "tests/pages/samples.h"

namespace pages_test {
namespace {

using testing_base::bytes_from;
using testing_base::check_golden;
using testing_base::Damage;
using testing_base::expect_damage;
using testing_base::golden_text;
using testing_base::reencoded;
using testing_base::rewrite_golden;

// The golden bytes decode, and no damage to them goes unnoticed.
template <class Decode>
void expect_golden(const std::string& name, const base::Bytes& encoded, Decode decode) {
  expect_damage(check_golden(name, encoded), Damage::kNoticed, reencoded(decode));
}

TEST(Golden, TxPlain_IsVersion1) {
  pages::Tx tx = sample_tx();
  tx.patches.pop_back();
  tx.header.patch_count = 2;
  expect_golden("tx_v1", encode(tx), pages::decode_tx);
  const auto decoded = pages::decode_tx(bytes_from(golden_text("tx_v1")));
  ASSERT_TRUE(decoded);
  EXPECT_TRUE(same(decoded->patches, tx.patches));
}

// LZ4's output is its own business: only the decoding of the kept bytes is fixed.
TEST(Golden, TxLz4_IsVersion1) {
  rewrite_golden("tx_lz4_v1", encode(sample_tx()));
  const auto decoded = pages::decode_tx(bytes_from(golden_text("tx_lz4_v1")));
  ASSERT_TRUE(decoded);
  EXPECT_TRUE(same(decoded->patches, sample_tx().patches));
}

TEST(Golden, Part_IsVersion1) {
  pages::TxPart part = sample_part();
  part.patches.pop_back();
  expect_golden("tx_part_v1", encode(part), pages::decode_tx_part);
}

TEST(Golden, Abort_IsVersion1) { expect_golden("tx_abort_v1", encode(sample_abort()), pages::decode_tx_abort); }
TEST(Golden, Create_IsVersion1) { expect_golden("create_v1", encode(sample_create()), pages::decode_create); }
TEST(Golden, Drop_IsVersion1) { expect_golden("drop_v1", encode(sample_drop()), pages::decode_drop); }

// The parts of a `.sums` file that are not zero, one after the other.
struct Extent {
  std::size_t offset;
  std::size_t size;
};
constexpr std::size_t kSumsBlock = 4096;
constexpr Extent kSlots[] = {{0, 84}, {kSumsBlock, 84}};
constexpr Extent kChecksums = {2 * kSumsBlock, 8};  // of two blocks of hashes
constexpr Extent kHashes = {3 * kSumsBlock, 16};    // pages 1 and 2
constexpr std::size_t kSumsSize = 5 * kSumsBlock;
constexpr Extent kLastHash = {kSumsSize - 8, 8};  // page 1024
constexpr Extent kSumsParts[] = {kSlots[0], kSlots[1], kChecksums, kHashes, kLastHash};

class SumsGolden : public ::testing::Test {
 protected:
  std::string path() const { return dir_ / "app.db.sums"; }
  // As a node writes it: two sync points.
  void write() {
    auto file = pages::SumsFile::open(base::posix_env(), path());
    ASSERT_TRUE(file);
    pages::PageSums sums(4096);
    sums.set(1, pages::page_hash(1, base::Bytes(4096, std::byte{0x5a})));
    sums.set(2, 0x0102030405060708);
    sums.set(1024, 0x1112131415161718);
    for (std::uint64_t index : {7, 9}) {
      std::vector<std::pair<std::uint32_t, base::Bytes>> blocks;
      for (const std::uint32_t block : sums.take_dirty_blocks()) blocks.emplace_back(block, sums.block(block));
      ASSERT_TRUE((*file)->write_blocks(blocks));
      pages::SumsRecord record;
      record.db = base::DatabaseId(4);
      record.page_size = 4096;
      record.page_count = sums.page_count();
      record.base = {base::Term(3), base::Index(index)};
      record.digest = sums.digest();
      record.wal_salt[0] = 0x21222324;
      record.wal_salt[1] = 0x31323334;
      record.wal_salt_next[0] = 0x41424344;
      record.wal_salt_next[1] = 0x51525354;
      ASSERT_TRUE((*file)->write_record(record));
    }
  }
  base::Bytes whole() const {
    const auto bytes = base::read_file(base::posix_env(), path(), 1 << 20);
    return bytes ? *bytes : base::Bytes();
  }
  void put(const base::Bytes& bytes) const {
    const auto file = base::posix_env().open(path(), base::OpenMode::kCreate);
    ASSERT_TRUE(file && (*file)->write(0, bytes));
  }
  base::Index base_of() const {
    const auto file = pages::SumsFile::open(base::posix_env(), path());
    return file ? (*file)->record().base.index : base::Index();
  }
  testing_base::TempDir dir_;
};

TEST_F(SumsGolden, File_IsVersion1) {
  ASSERT_NO_FATAL_FAILURE(write());
  base::Bytes bytes = whole();
  ASSERT_EQ(bytes.size(), kSumsSize);
  base::Bytes parts;
  for (const Extent& part : kSumsParts) {
    const auto from = bytes.begin() + static_cast<std::ptrdiff_t>(part.offset);
    parts.insert(parts.end(), from, from + static_cast<std::ptrdiff_t>(part.size));
    std::fill_n(from, part.size, std::byte{0});
  }
  EXPECT_EQ(bytes, base::Bytes(kSumsSize)) << "everything else is zero";
  const base::Bytes golden = check_golden("sums_v1", parts);
  // The kept bytes, laid out again, are read.
  base::Bytes again(kSumsSize);
  auto from = golden.begin();
  for (const Extent& part : kSumsParts) {
    std::copy_n(from, part.size, again.begin() + static_cast<std::ptrdiff_t>(part.offset));
    from += static_cast<std::ptrdiff_t>(part.size);
  }
  put(again);
  auto file = pages::SumsFile::open(base::posix_env(), path());
  ASSERT_TRUE(file);
  const auto loaded = (*file)->load(4096);
  ASSERT_TRUE(loaded && loaded->exists);
  EXPECT_TRUE(loaded->bad_blocks.empty());
  EXPECT_EQ(loaded->record.base, (base::LogId{base::Term(3), base::Index(9)}));
  EXPECT_EQ(loaded->record.db, base::DatabaseId(4));
  EXPECT_EQ(loaded->record.wal_salt_next[1], 0x51525354u);
  EXPECT_EQ(loaded->sums.at(1), pages::page_hash(1, base::Bytes(4096, std::byte{0x5a})));
  EXPECT_EQ(loaded->sums.at(2), 0x0102030405060708u);
  EXPECT_EQ(loaded->sums.at(1024), 0x1112131415161718u);
  EXPECT_EQ(loaded->sums.digest(), loaded->record.digest);
}

// A damaged slot leaves the other one; damage behind the slots is a block that is hashed again.
TEST_F(SumsGolden, EveryOtherByte_IsNoticed) {
  ASSERT_NO_FATAL_FAILURE(write());
  const base::Bytes bytes = whole();
  const auto file = base::posix_env().open(path(), base::OpenMode::kReadWrite);
  ASSERT_TRUE(file);
  for (const Extent& part : kSumsParts)
    for (std::size_t at = part.offset; at < part.offset + part.size; ++at) {
      for (unsigned change = 1; change < 256; ++change) {
        const base::Bytes other = {bytes[at] ^ static_cast<std::byte>(change)};
        ASSERT_TRUE((*file)->write(at, other));
        if (part.offset < 2 * kSumsBlock) {
          // The second record, of base 9, stands in slot 0.
          ASSERT_EQ(base_of(), base::Index(part.offset == 0 ? 7 : 9)) << "byte " << at << " xor " << change;
          continue;
        }
        auto damaged = pages::SumsFile::open(base::posix_env(), path());
        ASSERT_TRUE(damaged);
        const auto loaded = (*damaged)->load(4096);
        ASSERT_TRUE(loaded);
        ASSERT_EQ(loaded->bad_blocks.size(), 1u) << "byte " << at << " xor " << change;
      }
      ASSERT_TRUE((*file)->write(at, base::ByteView(bytes).subspan(at, 1)));
    }
}

}  // namespace
}  // namespace pages_test

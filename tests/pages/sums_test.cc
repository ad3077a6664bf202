// Page hashes, digest and their file: torn slots, rotten blocks, growth and shrinking.
#include "pages/sums.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>

#include "base/posix_env.h"
#include "tests/pages/samples.h"

namespace pages_test {
namespace {

using pages::PageSums;
using pages::SumsFile;

class TempDir {
 public:
  TempDir() {
    std::string pattern = (std::filesystem::temp_directory_path() / "hql-sums-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  ~TempDir() { std::filesystem::remove_all(path_); }
  std::string file() const { return path_ + "/app.db.sums"; }

 private:
  std::string path_;
};

std::uint64_t digest_of(const PageSums& sums) {
  std::uint64_t digest = 0;
  for (pages::PageNo page = 1; page <= sums.page_count(); ++page) digest ^= sums.at(page);
  return digest;
}

void write_all(SumsFile& file, PageSums& sums, pages::SumsRecord record) {
  std::vector<std::pair<std::uint32_t, base::Bytes>> blocks;
  for (const std::uint32_t block : sums.take_dirty_blocks()) blocks.emplace_back(block, sums.block(block));
  ASSERT_TRUE(file.write_blocks(blocks));
  record.page_size = 4096;
  record.page_count = sums.page_count();
  record.digest = sums.digest();
  ASSERT_TRUE(file.write_record(record));
}

void flip_byte(const std::string& path, std::uint64_t offset) {
  auto file = base::posix_env().open(path, base::OpenMode::kReadWrite);
  ASSERT_TRUE(file);
  base::Bytes byte(1);
  ASSERT_TRUE((*file)->read(offset, byte));
  byte[0] ^= std::byte{1};
  ASSERT_TRUE((*file)->write(offset, byte));
}

TEST(PageSums, SetAndResize_KeepTheDigest) {
  std::mt19937_64 random(11);
  PageSums sums(4096);
  EXPECT_EQ(sums.digest(), 0u);
  for (int i = 0; i < 5000; ++i) {
    if (random() % 50 == 0)
      sums.resize(static_cast<pages::PageNo>(random() % 3000));
    else
      sums.set(static_cast<pages::PageNo>(1 + random() % 3000), random());
    if (i % 100 == 0) {
      ASSERT_EQ(sums.digest(), digest_of(sums));
    }
  }
}

TEST(PageSums, LockBytePage_IsExcluded) {
  PageSums sums(65536);
  const pages::PageNo lock_page = pages::lock_byte_page(65536);
  EXPECT_EQ(lock_page, 16385u);
  EXPECT_EQ(pages::lock_byte_page(4096), 262145u);
  sums.set(lock_page, 99);
  EXPECT_EQ(sums.at(lock_page), 0u);
  EXPECT_EQ(sums.digest(), 0u);
  sums.set(lock_page + 1, 99);
  EXPECT_EQ(sums.digest(), 99u);
}

TEST(PageSums, PageHash_DependsOnPageNumber) {
  const base::Bytes page(4096);
  EXPECT_NE(pages::page_hash(1, page), pages::page_hash(2, page));
}

TEST(PageSums, DirtyBlocks_AreExactlyTheTouched) {
  PageSums sums(4096);
  for (pages::PageNo page = 1; page <= 2000; ++page) sums.set(page, page);
  EXPECT_EQ(sums.take_dirty_blocks(), (std::vector<std::uint32_t>{0, 1, 2, 3}));
  EXPECT_TRUE(sums.take_dirty_blocks().empty());
  sums.set(513, 1);
  EXPECT_EQ(sums.take_dirty_blocks(), (std::vector<std::uint32_t>{1}));
  sums.resize(600);
  EXPECT_EQ(sums.take_dirty_blocks(), (std::vector<std::uint32_t>{1}));
  sums.mark_all_dirty();
  EXPECT_EQ(sums.take_dirty_blocks(), (std::vector<std::uint32_t>{0, 1}));
}

TEST(SumsFile, Empty_DoesNotExist) {
  TempDir dir;
  auto file = SumsFile::open(base::posix_env(), dir.file());
  ASSERT_TRUE(file);
  auto loaded = (*file)->load(4096);
  ASSERT_TRUE(loaded);
  EXPECT_FALSE(loaded->exists);
}

TEST(SumsFile, RoundTrip_OverGroupBoundary) {
  TempDir dir;
  std::mt19937_64 random(12);
  PageSums sums(4096);
  const pages::PageNo pages = 512 * 512 + 700;  // two groups of blocks, and the lock-byte page inside
  for (pages::PageNo page = 1; page <= pages; ++page) sums.set(page, random());
  pages::SumsRecord record;
  record.db = base::DatabaseId(4);
  record.base = {base::Term(2), base::Index(17)};
  record.wal_salt[0] = 1;
  record.wal_salt[1] = 2;
  record.wal_salt_next[0] = 3;
  record.wal_salt_next[1] = 4;
  {
    auto file = SumsFile::open(base::posix_env(), dir.file());
    ASSERT_TRUE(file);
    write_all(**file, sums, record);
  }
  auto file = SumsFile::open(base::posix_env(), dir.file());
  ASSERT_TRUE(file);
  auto loaded = (*file)->load(4096);
  ASSERT_TRUE(loaded);
  ASSERT_TRUE(loaded->exists);
  EXPECT_TRUE(loaded->bad_blocks.empty());
  EXPECT_EQ(loaded->record.base, record.base);
  EXPECT_EQ(loaded->record.db, record.db);
  EXPECT_EQ(loaded->record.wal_salt_next[1], 4u);
  EXPECT_EQ(loaded->sums.page_count(), pages);
  EXPECT_EQ(loaded->sums.digest(), sums.digest());
  for (pages::PageNo page = 1; page <= pages; page += 97) ASSERT_EQ(loaded->sums.at(page), sums.at(page));
  EXPECT_TRUE(loaded->sums.take_dirty_blocks().empty());
  EXPECT_FALSE((*file)->load(8192));
}

TEST(SumsFile, TornSlot_LeavesTheOlderOne) {
  TempDir dir;
  PageSums sums(4096);
  sums.set(1, 5);
  auto file = SumsFile::open(base::posix_env(), dir.file());
  ASSERT_TRUE(file);
  for (std::uint64_t index = 1; index <= 3; ++index) {
    pages::SumsRecord record;
    record.base = {base::Term(1), base::Index(index)};
    write_all(**file, sums, record);
  }
  ASSERT_EQ((*file)->record().generation, 3u);
  for (std::uint64_t offset = 0; offset < 84; offset += 7) {
    flip_byte(dir.file(), 4096 + offset);  // generation 3 lies in slot 1
    auto again = SumsFile::open(base::posix_env(), dir.file());
    ASSERT_TRUE(again);
    EXPECT_EQ((*again)->record().base.index, base::Index(2)) << offset;
    flip_byte(dir.file(), 4096 + offset);
  }
}

TEST(SumsFile, TwoWholeSlots_TheNewerCounts) {
  TempDir dir;
  PageSums sums(4096);
  sums.set(1, 5);
  auto file = SumsFile::open(base::posix_env(), dir.file());
  ASSERT_TRUE(file);
  for (std::uint64_t index = 1; index <= 4; ++index) {
    pages::SumsRecord record;
    record.base = {base::Term(1), base::Index(index)};
    write_all(**file, sums, record);
    auto again = SumsFile::open(base::posix_env(), dir.file());
    ASSERT_TRUE(again);
    EXPECT_EQ((*again)->record().base.index, base::Index(index));
  }
}

TEST(SumsFile, RottenBlock_IsNamed) {
  TempDir dir;
  PageSums sums(4096);
  for (pages::PageNo page = 1; page <= 3000; ++page) sums.set(page, page * 3);
  auto file = SumsFile::open(base::posix_env(), dir.file());
  ASSERT_TRUE(file);
  write_all(**file, sums, {});
  flip_byte(dir.file(), (2 + 1 + 2) * 4096 + 100);  // hash block 2
  flip_byte(dir.file(), 2 * 4096 + 4 * 4);          // checksum of block 4
  auto loaded = (*file)->load(4096);
  ASSERT_TRUE(loaded);
  EXPECT_EQ(loaded->bad_blocks, (std::vector<std::uint32_t>{2, 4}));
  EXPECT_EQ(loaded->sums.at(512), 512u * 3);
  EXPECT_EQ(loaded->sums.at(1025), 0u);
}

TEST(SumsFile, PageCountBeyondFile_IsCorrupt) {
  TempDir dir;
  auto file = SumsFile::open(base::posix_env(), dir.file());
  ASSERT_TRUE(file);
  pages::SumsRecord record;
  record.page_size = 4096;
  record.page_count = UINT32_MAX;
  ASSERT_TRUE((*file)->write_record(record));
  const auto loaded = (*file)->load(4096);
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().code, base::Code::kCorrupt);
}

}  // namespace
}  // namespace pages_test

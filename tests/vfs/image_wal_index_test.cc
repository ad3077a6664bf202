// The wal-index writer against SQLite's own: the same transactions committed by SQLite on a twin give the same frames, the same lookup for
// every page, and a WAL that SQLite recovers to the same database.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "tests/vfs/image_fixture.h"
#include "vfs/wal_index.h"
#include "vfs/wal_writer.h"

namespace image_test {
namespace {

// A database's wal-index and WAL, looked at from outside. The descriptors live as long as the test's connections (POSIX locks).
struct Look {
  explicit Look(const std::string& path)
      : shm_fd(::open((path + "-shm").c_str(), O_RDWR | O_CLOEXEC)),
        wal_fd(::open((path + "-wal").c_str(), O_RDONLY | O_CLOEXEC)) {
    auto mapped = vfs::WalIndex::map(shm_fd);
    EXPECT_TRUE(mapped);
    index = std::move(*mapped);
  }
  ~Look() {
    index.reset();
    ::close(shm_fd);
    ::close(wal_fd);
  }
  Look(const Look&) = delete;
  Look& operator=(const Look&) = delete;
  // Page number, commit size and image of a frame.
  base::Bytes frame(vfs::FrameNo number, std::uint32_t page_size) const {
    base::Bytes bytes(vfs::kFrameHeaderSize + page_size);
    EXPECT_TRUE(vfs::read_exact(wal_fd, vfs::frame_offset(number, page_size), bytes, "frame"));
    bytes.erase(bytes.begin() + 8, bytes.begin() + 24);  // salts and checksums are each WAL's own
    // So is when a connection in WAL mode bothers to count up the change counter of page 1.
    if (base::load_be32(bytes.data()) == 1)
      for (const std::ptrdiff_t at : {24, 92}) std::fill_n(bytes.begin() + 8 + at, 4, std::byte{0});
    return bytes;
  }
  int shm_fd;
  int wal_fd;
  std::unique_ptr<vfs::WalIndex> index;
};

void expect_same(Look& ours, Look& theirs, std::uint32_t page_size, vfs::FrameNo& compared) {
  const auto a = ours.index->header();
  const auto b = theirs.index->header();
  ASSERT_TRUE(a);
  ASSERT_TRUE(b);
  ASSERT_EQ(a->max_frame, b->max_frame);
  ASSERT_EQ(a->page_count, b->page_count);
  ASSERT_EQ(a->page_size_code, b->page_size_code);
  ASSERT_EQ(a->big_endian_checksum, b->big_endian_checksum);
  for (; compared < a->max_frame; ++compared) {
    const base::Bytes our_frame = ours.frame(compared + 1, page_size);
    const base::Bytes their_frame = theirs.frame(compared + 1, page_size);
    const auto differs = std::mismatch(our_frame.begin(), our_frame.end(), their_frame.begin(), their_frame.end());
    ASSERT_TRUE(differs.first == our_frame.end())
        << "frame " << compared + 1 << " at byte " << differs.first - our_frame.begin();
    ASSERT_EQ(*ours.index->page_of(compared + 1), *theirs.index->page_of(compared + 1));
  }
  for (pages::PageNo page = 1; page <= a->page_count + 2; ++page)
    ASSERT_EQ(*ours.index->find(page, a->max_frame), *theirs.index->find(page, a->max_frame)) << "page " << page;
}

// The file and its WAL without the wal-index: SQLite recovers from the checksums.
base::Bytes recovered_copy(const std::string& path, const std::string& to) {
  for (const char* suffix : {"", "-wal"})
    std::filesystem::copy_file(path + suffix, to + suffix, std::filesystem::copy_options::overwrite_existing);
  Plain copy(to);
  return copy.serialize();
}

void run_twin(std::uint32_t page_size, int rounds, int rows) {
  TempDir dir;
  Source source(page_size);
  source.patch_every_frame();  // also pages that SQLite frames without a changed byte
  const std::string twin_path = dir.path() + "/twin.db";
  {
    const base::Bytes bytes = joined(source.image());
    std::ofstream file(twin_path, std::ios::binary);
    file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  }
  Node node(dir.path(), page_size);
  ASSERT_OK(node.create(source.create()));
  Plain twin(twin_path);
  ASSERT_EQ(twin.exec("PRAGMA wal_autocheckpoint=0; PRAGMA synchronous=OFF"), SQLITE_OK);
  Plain reader(node.path(), SQLITE_OPEN_READONLY);
  std::unique_ptr<Look> ours;
  std::unique_ptr<Look> theirs;
  vfs::FrameNo compared = 0;
  for (int i = 0; i < rounds; ++i) {
    std::string sql = "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT); CREATE INDEX t_name ON t(name)";
    if (i > 0)
      sql = "WITH RECURSIVE c(i) AS (SELECT " + std::to_string(i * rows) + " UNION ALL SELECT i+1 FROM c WHERE i<" +
            std::to_string(i * rows + rows - 1) +
            ") INSERT INTO t SELECT i, printf('%08x', (i*2654435761) & 0xffffffff) FROM c";
    if (i % 7 == 6) sql = "UPDATE t SET name=name||'x' WHERE id%13=0";
    sql = "BEGIN;" + sql + ";COMMIT";
    const pages::PublishJob job = source.transact(sql);
    ASSERT_EQ(twin.exec(sql), SQLITE_OK);
    ASSERT_OK(node.publish(job));
    if (!ours) {
      ours = std::make_unique<Look>(node.path());
      theirs = std::make_unique<Look>(twin_path);
    }
    expect_same(*ours, *theirs, page_size, compared);
    if (::testing::Test::HasFatalFailure()) return;
    if (i % 5 == 0) {
      ASSERT_EQ(reader.serialize(), joined(source.image()));
    }
  }
  EXPECT_EQ(recovered_copy(node.path(), dir.path() + "/copy.db"), joined(source.image()));
  EXPECT_EQ(reader.value("PRAGMA integrity_check"), "ok");
}

TEST(WalIndex, SmallTransactions_SameAsSqlite) { run_twin(4096, 80, 7); }
// Over the borders of the wal-index's regions, the first at frame 4062.
TEST(WalIndex, ThousandsOfFrames_SameAsSqlite) { run_twin(512, 60, 400); }

// SQLite continues a WAL that the applier wrote, and the applier one that SQLite wrote.
TEST(WalIndex, SqliteAndApplierInTurn_ContinueEachOther) {
  TempDir dir;
  Source source;
  Node node(dir.path());
  ASSERT_OK(node.create(source.create()));
  ASSERT_OK(node.publish(source.transact("CREATE TABLE t(x)")));
  for (int i = 0; i < 3; ++i) {
    for (int j = 0; j < 5; ++j) ASSERT_OK(node.publish(source.transact("INSERT INTO t VALUES(hex(randomblob(500)))")));
    node.crash();
    {
      Plain other(node.path());
      ASSERT_EQ(other.exec("PRAGMA wal_autocheckpoint=0; PRAGMA wal_checkpoint(PASSIVE)"), SQLITE_OK);
      EXPECT_EQ(other.serialize(), joined(source.image()));
    }
    ASSERT_OK(node.open(source.history()));
    EXPECT_EQ(node->status().applied, source.last());
  }
}

TEST(WalIndex, DamagedHeader_IsAnErrorNotACrash) {
  TempDir dir;
  Source source;
  Node node(dir.path());
  ASSERT_OK(node.create(source.create()));
  ASSERT_OK(node.publish(source.transact("CREATE TABLE t(x)")));
  Look look(node.path());
  auto header = look.index->header();
  ASSERT_TRUE(header);
  base::Bytes raw(96);
  ASSERT_TRUE(vfs::read_exact(look.shm_fd, 0, raw, "header"));
  for (const std::size_t at : {std::size_t{16}, std::size_t{20}, std::size_t{40}, std::size_t{64}}) {
    base::Bytes changed = raw;
    changed[at] ^= std::byte{1};
    ASSERT_TRUE(vfs::write_exact(look.shm_fd, 0, changed, "header"));
    EXPECT_EQ(look.index->header().error().code, base::Code::kCorrupt) << at;
  }
  ASSERT_TRUE(vfs::write_exact(look.shm_fd, 0, raw, "header"));
  EXPECT_TRUE(look.index->header());
}

}  // namespace
}  // namespace image_test

// What no statement of this SQLite asks of a managed file, but a build of it with sqlite_dbpage, a later one or a host's own code could:
// writes to the database file, a rollback journal, removal, a commit whose page 1 leaves WAL or has another page size. Through the
// methods of the VFS, as they would come.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "tests/vfs/shim_world.h"
#include "vfs/rechecksum.h"

namespace shim_test {
namespace {

using base::Code;

constexpr std::uint32_t kPageSize = 4096;

sqlite3_file* file_of(Db& db, int operation) {
  sqlite3_file* file = nullptr;
  EXPECT_EQ(sqlite3_file_control(db.get(), "main", operation, &file), SQLITE_OK);
  return file;
}

std::string bytes_of(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

// Whether the last error of this thread, and of `db` when there is one, is a refusal that says all of `parts`.
void expect_refusal(Db* db, std::initializer_list<const char*> parts) {
  EXPECT_EQ(vfs::last_error().code, Code::kRefused);
  for (const char* const part : parts)
    EXPECT_NE(vfs::last_error().message.find(part), std::string::npos) << part << "\n" << vfs::last_error().message;
  if (db != nullptr) {
    EXPECT_EQ(vfs::last_error_of(db->get()).message, vfs::last_error().message);
  }
  vfs::clear_last_error();
}

TEST(ShimMethods, WriteAndTruncationOfTheDatabaseFile_AreRefused) {
  World world;
  Db db("app.db");
  ASSERT_EQ(db.exec("CREATE TABLE t(x); INSERT INTO t VALUES (1)"), SQLITE_OK);
  world.settle();
  ASSERT_EQ(db.rows("PRAGMA wal_checkpoint").substr(0, 2), "0|");
  const std::string before = bytes_of(world.path("app.db"));
  sqlite3_file* const file = file_of(db, SQLITE_FCNTL_FILE_POINTER);
  const std::string garbage(kPageSize, 'x');
  EXPECT_EQ(file->pMethods->xWrite(file, garbage.data(), static_cast<int>(garbage.size()), kPageSize),
            code(SQLITE_ERROR, Code::kRefused));
  expect_refusal(&db, {"app.db", "a write of the database file", "only the node's checkpoints write it"});
  EXPECT_EQ(file->pMethods->xTruncate(file, kPageSize), code(SQLITE_ERROR, Code::kRefused));
  expect_refusal(&db, {"app.db", "a truncation of the database file", "only the node's checkpoints write it"});
  EXPECT_EQ(bytes_of(world.path("app.db")), before);
  EXPECT_EQ(db.exec("INSERT INTO t VALUES (2)"), SQLITE_OK);
  world.expect_replay_equals_file("app.db");
}

TEST(ShimMethods, RollbackJournal_IsRefused) {
  World world;
  Db db("app.db");
  ASSERT_EQ(db.exec("CREATE TABLE t(x)"), SQLITE_OK);
  const char* const journal = sqlite3_filename_journal(sqlite3_db_filename(db.get(), "main"));
  ASSERT_EQ(std::string(journal), world.path("app.db") + "-journal");
  sqlite3_vfs* const vfs = sqlite3_vfs_find("hiqlite");
  ASSERT_NE(vfs, nullptr);
  std::vector<std::max_align_t> memory(static_cast<std::size_t>(vfs->szOsFile) / sizeof(std::max_align_t) + 1);
  auto* const file = reinterpret_cast<sqlite3_file*>(memory.data());
  int flags = 0;
  EXPECT_EQ(
      vfs->xOpen(vfs, journal, file, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_MAIN_JOURNAL, &flags),
      code(SQLITE_ERROR, Code::kRefused));
  EXPECT_EQ(file->pMethods, nullptr) << "SQLite would close it";
  expect_refusal(&db, {"app.db", "a rollback journal; a replicated database stays in WAL mode"});
  EXPECT_FALSE(std::filesystem::exists(journal));
}

TEST(ShimMethods, RollbackJournalOfAnotherDatabase_IsSQLites) {
  World world;
  Db db("app.db");
  ASSERT_EQ(
      db.exec("CREATE TABLE t(x); ATTACH 'other.db' AS o; CREATE TABLE o.t(x); BEGIN; INSERT INTO o.t VALUES (1)"),
      SQLITE_OK);
  EXPECT_TRUE(std::filesystem::exists(world.work_dir() + "/other.db-journal"));
  EXPECT_EQ(db.exec("COMMIT"), SQLITE_OK);
  EXPECT_FALSE(std::filesystem::exists(world.work_dir() + "/other.db-journal"));
}

TEST(ShimMethods, RemovalOfManagedFiles_IsRefused) {
  World world;
  Db db("app.db");
  ASSERT_EQ(db.exec("CREATE TABLE t(x)"), SQLITE_OK);
  sqlite3_vfs* const vfs = sqlite3_vfs_find("hiqlite");
  ASSERT_NE(vfs, nullptr);
  for (const char* const suffix : {"", "-wal", "-shm", "-journal"}) {
    const std::string path = world.path("app.db") + suffix;
    EXPECT_EQ(vfs->xDelete(vfs, path.c_str(), 0), code(SQLITE_ERROR, Code::kRefused)) << path;
    expect_refusal(nullptr, {path.c_str(), "belongs to a node; hql_drop_database() removes a database"});
  }
  for (const char* const suffix : {"", "-wal", "-shm"})
    EXPECT_TRUE(std::filesystem::exists(world.path("app.db") + suffix)) << suffix;
  // Of nobody's database: removed.
  std::ofstream(world.path("stray.db-journal")) << "x";
  EXPECT_EQ(vfs->xDelete(vfs, world.path("stray.db-journal").c_str(), 0), SQLITE_OK);
  EXPECT_FALSE(std::filesystem::exists(world.path("stray.db-journal")));
}

// A plain main database hears the pragma, the managed one only the file operations that follow from it.
TEST(ShimMethods, JournalModeOfAll_FromAPlainMain_LeavesTheManagedOneInWal) {
  World world;
  {
    Db made("app.db");
    ASSERT_EQ(made.exec("CREATE TABLE t(x)"), SQLITE_OK);
  }
  Db db("file:plain.db");
  ASSERT_EQ(db.exec("CREATE TABLE p(x); ATTACH 'file:app.db?vfs=hiqlite' AS a; INSERT INTO a.t VALUES (1)"), SQLITE_OK);
  for (const char* const mode : {"DELETE", "TRUNCATE", "MEMORY", "OFF"}) {
    db.exec(std::string("PRAGMA journal_mode=") + mode);
    EXPECT_EQ(db.rows("PRAGMA a.journal_mode"), "wal") << mode;
    EXPECT_EQ(db.exec("INSERT INTO a.t VALUES (2)"), SQLITE_OK) << mode;
  }
  EXPECT_EQ(db.rows("SELECT count(*) FROM a.t"), "5");
  EXPECT_EQ(world.gate().committed("app.db").size(), 6U) << "each of the writes was replicated";
  db.close();
  world.expect_replay_equals_file("app.db");
}

// A commit of one frame as SQLite writes it, but of page 1 with other bytes.
struct HandmadeCommit {
  explicit HandmadeCommit(Db& on) : db(on) {
    EXPECT_EQ(db.exec("BEGIN IMMEDIATE"), SQLITE_OK);
    wal = file_of(db, SQLITE_FCNTL_JOURNAL_POINTER);
    sqlite3_file* const file = file_of(db, SQLITE_FCNTL_FILE_POINTER);
    EXPECT_EQ(file->pMethods->xRead(file, page, sizeof page, 0), SQLITE_OK);
  }
  ~HandmadeCommit() { EXPECT_EQ(db.exec("ROLLBACK"), SQLITE_OK); }
  int commit() {
    const sqlite3_int64 place = next_frame_offset();
    vfs::FrameHeader header{};
    base::store_be32(header.data(), 1);
    base::store_be32(&header[4], static_cast<std::uint32_t>(std::stoul(db.rows("PRAGMA page_count"))));
    EXPECT_EQ(wal->pMethods->xRead(wal, &header[8], 8, 16), SQLITE_OK);  // the salts
    EXPECT_EQ(wal->pMethods->xWrite(wal, header.data(), static_cast<int>(header.size()), place), SQLITE_OK) << "held";
    return wal->pMethods->xWrite(wal, page, sizeof page, place + vfs::kFrameHeaderSize);
  }
  // Behind the last frame that the wal-index counts (WalIndexHdr.mxFrame); the file may be longer.
  [[nodiscard]] sqlite3_int64 next_frame_offset() const {
    std::uint32_t last = 0;
    std::memcpy(&last, bytes_of(std::string(sqlite3_db_filename(db.get(), "main")) + "-shm").data() + 16, sizeof last);
    return static_cast<sqlite3_int64>(vfs::frame_offset(last + 1, kPageSize));
  }
  Db& db;
  sqlite3_file* wal = nullptr;
  unsigned char page[kPageSize] = {};
};

// The node goes between the commit frame and what journal_size_limit makes of the WAL.
TEST(ShimMethods, WalCutAfterTheNodeWent_IsLeftToTheNextStart) {
  World world;
  Db db("app.db");
  ASSERT_EQ(db.exec("CREATE TABLE t(x); INSERT INTO t VALUES (1)"), SQLITE_OK);
  world.settle();
  HandmadeCommit made(db);
  made.page[63] ^= 1;  // user_version
  const sqlite3_int64 end = made.next_frame_offset() + vfs::kFrameHeaderSize + kPageSize;
  ASSERT_EQ(made.commit(), SQLITE_OK);
  world.unbind();
  EXPECT_EQ(made.wal->pMethods->xTruncate(made.wal, end), SQLITE_BUSY);
}

struct FirstPage : ::testing::Test {
  FirstPage() : db("app.db") {
    EXPECT_EQ(db.exec("CREATE TABLE t(x); INSERT INTO t VALUES (1)"), SQLITE_OK);
    world.settle();
    EXPECT_EQ(db.rows("PRAGMA wal_checkpoint").substr(0, 2), "0|");
    committed = world.gate().committed("app.db").size();
    world.gate().fail_all(vfs::OutcomeKind::kNotApplied, Code::kNoQuorum, "the gate was asked");
  }
  // Nothing was proposed, nothing is seen, and the connection goes on.
  void expect_nothing_happened() {
    world.gate().commit_all();
    EXPECT_EQ(world.gate().committed("app.db").size(), committed);
    EXPECT_EQ(db.rows("PRAGMA journal_mode"), "wal");
    EXPECT_EQ(db.exec("INSERT INTO t VALUES (2)"), SQLITE_OK);
    EXPECT_EQ(db.rows("SELECT count(*) FROM t"), "2");
    world.expect_replay_equals_file("app.db");
  }
  World world;
  Db db;
  std::size_t committed = 0;
};

// The canary: a page 1 that is in order comes as far as the gate.
TEST_F(FirstPage, InOrder_IsProposed) {
  {
    HandmadeCommit made(db);
    made.page[63] ^= 1;  // user_version
    EXPECT_EQ(made.commit(), code(SQLITE_BUSY, Code::kNoQuorum));
    EXPECT_NE(vfs::last_error().message.find("the gate was asked"), std::string::npos) << vfs::last_error().message;
  }
  expect_nothing_happened();
}

TEST_F(FirstPage, OutOfWalMode_IsRefused) {
  for (const int at : {18, 19}) {
    HandmadeCommit made(db);
    made.page[at] = 1;
    EXPECT_EQ(made.commit(), code(SQLITE_ERROR, Code::kRefused)) << "byte " << at;
    expect_refusal(
        &db, {"app.db", "takes it out of WAL mode", at == 18 ? "page 1 says version 1/2" : "page 1 says version 2/1",
              "a replicated database stays in WAL mode"});
  }
  expect_nothing_happened();
}

TEST_F(FirstPage, OfAnotherPageSize_IsRefused) {
  {
    HandmadeCommit made(db);
    made.page[16] = 0x20;
    made.page[17] = 0;
    EXPECT_EQ(made.commit(), code(SQLITE_ERROR, Code::kRefused));
    expect_refusal(&db, {"app.db", "changes the page size from 4096 to 8192", "page_size="});
  }
  {
    HandmadeCommit made(db);
    made.page[16] = 0;
    made.page[17] = 1;
    EXPECT_EQ(made.commit(), code(SQLITE_ERROR, Code::kRefused));
    expect_refusal(&db, {"from 4096 to 65536"});
  }
  expect_nothing_happened();
}

}  // namespace
}  // namespace shim_test

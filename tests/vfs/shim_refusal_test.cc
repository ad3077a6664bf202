// What managed connections may not do: pragmas that would stop replication, checkpoints of their own, two databases in one transaction.
#include <gtest/gtest.h>

#include <filesystem>
#include <future>

#include "tests/vfs/shim_world.h"

namespace shim_test {
namespace {

using base::Code;

TEST(ShimRefusal, JournalAndLockingMode_ReturnWhatIsTrue) {
  World world;
  Db db("app.db");
  for (const char* const mode : {"DELETE", "TRUNCATE", "MEMORY", "OFF", "WAL"})
    EXPECT_EQ(db.rows(std::string("PRAGMA journal_mode=") + mode), "wal");
  EXPECT_EQ(db.rows("PRAGMA main.journal_mode"), "wal");
  EXPECT_EQ(db.rows("PRAGMA locking_mode=EXCLUSIVE"), "normal");
  EXPECT_EQ(db.rows("PRAGMA mmap_size=1000000"), "0");
  ASSERT_EQ(db.exec("CREATE TABLE t(x); INSERT INTO t VALUES (1)"), SQLITE_OK);
  Db other("app.db");
  EXPECT_EQ(other.rows("SELECT x FROM t"), "1");
}

TEST(ShimRefusal, PageSizePragma_HasItsOwnMessage) {
  World world;
  Db db("app.db");
  EXPECT_EQ(db.exec("PRAGMA page_size=8192"), code(SQLITE_ERROR, Code::kRefused));
  EXPECT_NE(db.message().find("hiqlite: HQL_REFUSED"), std::string::npos) << db.message();
  EXPECT_EQ(db.rows("PRAGMA page_size"), "4096");
  EXPECT_EQ(db.exec("PRAGMA page_size=4096"), SQLITE_OK);
}

// SQLite's own checkpoint, which finds nothing to do, must not meet a restart of the WAL: it runs with WRITER, whatever its kind.
TEST(ShimRefusal, CheckpointPragmaBesideAWriter_IsBusy) {
  World world;
  Db db("app.db");
  Db other("app.db");
  ASSERT_EQ(db.exec("CREATE TABLE t(x); INSERT INTO t VALUES (1)"), SQLITE_OK);
  world.settle();
  ASSERT_EQ(other.exec("BEGIN IMMEDIATE; INSERT INTO t VALUES (2)"), SQLITE_OK);
  EXPECT_EQ(db.rows("PRAGMA wal_checkpoint"), "1|-1|-1");
  EXPECT_NE(vfs::last_error().message.find("is being written to"), std::string::npos) << vfs::last_error().message;
  ASSERT_EQ(other.exec("COMMIT"), SQLITE_OK);
  EXPECT_EQ(db.rows("PRAGMA wal_checkpoint").substr(0, 2), "0|");
  EXPECT_EQ(other.exec("INSERT INTO t VALUES (3)"), SQLITE_OK);
  EXPECT_EQ(db.rows("SELECT count(*) FROM t"), "3");
}

TEST(ShimRefusal, CheckpointPragma_PutsEverythingIntoTheFile) {
  World world;
  Db db("app.db");
  ASSERT_EQ(db.exec("CREATE TABLE t(x); INSERT INTO t VALUES (1)"), SQLITE_OK);
  for (const char* const pragma : {"PRAGMA wal_checkpoint", "PRAGMA wal_checkpoint(FULL)",
                                   "PRAGMA wal_checkpoint(RESTART)", "PRAGMA wal_checkpoint(TRUNCATE)"}) {
    SCOPED_TRACE(pragma);
    ASSERT_EQ(db.exec("INSERT INTO t VALUES (1)"), SQLITE_OK);
    world.settle();
    const std::string row = db.rows(pragma);
    EXPECT_EQ(row.substr(0, 2), "0|") << row;
    const std::string count = db.rows("SELECT count(*) FROM t");
    testing_base::TempDir copies;
    std::filesystem::copy_file(world.path("app.db"), copies / "app.db");
    Db copy(copies / "app.db");
    EXPECT_EQ(copy.rows("SELECT count(*) FROM t"), count);
  }
  // A driver's statement cache runs it again without preparing it.
  sqlite3_stmt* statement = nullptr;
  ASSERT_EQ(sqlite3_prepare_v2(db.get(), "PRAGMA wal_checkpoint(TRUNCATE)", -1, &statement, nullptr), SQLITE_OK);
  for (int round = 0; round < 3; ++round) {
    ASSERT_EQ(db.exec("INSERT INTO t VALUES (1)"), SQLITE_OK);
    world.settle();
    ASSERT_EQ(sqlite3_step(statement), SQLITE_ROW);
    EXPECT_EQ(sqlite3_column_int(statement, 0), 0);
    EXPECT_EQ(sqlite3_column_int(statement, 1), sqlite3_column_int(statement, 2));
    ASSERT_EQ(sqlite3_reset(statement), SQLITE_OK);
  }
  sqlite3_finalize(statement);
  world.expect_replay_equals_file("app.db");
}

// log_sync = "interval_<ms>": nothing of SQLite's own files may be ahead of the log for good (R8).
TEST(ShimRefusal, LogNotSynced_NoSyncPointNoCheckpointNoClose_UntilItIsHeld) {
  World world;
  base::LogId base;
  {
    Db db("app.db");
    ASSERT_EQ(db.exec("CREATE TABLE t(x); INSERT INTO t VALUES (1)"), SQLITE_OK);
    world.settle();
    vfs::Database& database = world.database("app.db");
    base = database.status().base;
    ASSERT_LT(base, database.status().applied);
    world.gate().leave_log_unsynced();
    std::promise<base::Status> outcome;
    database.checkpoint([&](const base::Status& status) { outcome.set_value(status); });
    const base::Status refused = outcome.get_future().get();
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Code::kBusy);
    EXPECT_EQ(database.status().base, base);

    EXPECT_EQ(db.rows("PRAGMA wal_checkpoint").substr(0, 2), "0|");
    EXPECT_EQ(world.gate().log_holds(), 0);
    EXPECT_EQ(database.status().base, database.status().applied);
    base = database.status().base;
    ASSERT_EQ(db.exec("INSERT INTO t VALUES (2)"), SQLITE_OK);
    world.settle();
    world.gate().leave_log_unsynced();
  }
  // A node that stops without a synced log leaves its files to recovery.
  const auto wal = std::filesystem::file_size(world.path("app.db-wal"));
  world.stop_and_read("app.db");
  EXPECT_EQ(std::filesystem::file_size(world.path("app.db-wal")), wal);
  const auto recorded = vfs::Database::recorded_base(base::posix_env(), world.data_dir() + "/db", "app.db");
  ASSERT_TRUE(recorded);
  EXPECT_EQ(*recorded, base);
}

TEST(ShimRefusal, Autocheckpoint_IsRefusedQuietlyAndWritesNothing) {
  World world;
  Db db("app.db");
  ASSERT_EQ(db.exec("PRAGMA wal_autocheckpoint=1; CREATE TABLE t(x)"), SQLITE_OK);
  const auto size = std::filesystem::file_size(world.path("app.db"));
  for (int i = 0; i < 20; ++i) ASSERT_EQ(db.exec("INSERT INTO t VALUES (randomblob(3000))"), SQLITE_OK);
  EXPECT_EQ(std::filesystem::file_size(world.path("app.db")), size);
  EXPECT_EQ(sqlite3_wal_checkpoint_v2(db.get(), "main", SQLITE_CHECKPOINT_TRUNCATE, nullptr, nullptr), SQLITE_BUSY);
  EXPECT_EQ(std::filesystem::file_size(world.path("app.db")), size);
  EXPECT_EQ(db.exec("INSERT INTO t VALUES (1)"), SQLITE_OK);
  world.expect_replay_equals_file("app.db");
}

TEST(ShimRefusal, CloseOfTheLastConnection_LeavesTheWal) {
  World world;
  {
    Db db("app.db");
    ASSERT_EQ(db.exec("CREATE TABLE t(x)"), SQLITE_OK);
  }
  EXPECT_GT(std::filesystem::file_size(world.path("app.db") + "-wal"), 0U);
  EXPECT_TRUE(std::filesystem::exists(world.path("app.db") + "-shm"));
  Db db("app.db");
  EXPECT_EQ(db.rows("SELECT name FROM sqlite_schema"), "t");
}

TEST(ShimRefusal, TwoManagedDatabases_SecondWriterIsRefused) {
  World world;
  Db db("app.db");
  {
    Db second("two.db");
    ASSERT_EQ(second.exec("CREATE TABLE t(x)"), SQLITE_OK);
  }
  ASSERT_EQ(db.exec("CREATE TABLE t(x); ATTACH 'file:two.db?vfs=hiqlite' AS two"), SQLITE_OK);
  ASSERT_EQ(db.exec("BEGIN; INSERT INTO main.t VALUES (1)"), SQLITE_OK);
  EXPECT_EQ(db.exec("INSERT INTO two.t VALUES (1)"), code(SQLITE_ERROR, Code::kRefused));
  EXPECT_NE(vfs::last_error().message.find("two transactions"), std::string::npos);
  EXPECT_EQ(db.exec("COMMIT"), SQLITE_OK);
  EXPECT_EQ(db.exec("INSERT INTO two.t SELECT x FROM main.t"), SQLITE_OK) << "reading one, writing the other";
  EXPECT_EQ(db.rows("SELECT count(*) FROM two.t"), "1");
}

// Without sqlite3_db_name(): SQLite before 3.39.
TEST(ShimRefusal, TwoAttachedDatabases_SecondWriterIsRefused) {
  World world;
  for (const char* name : {"one.db", "two.db"}) {
    Db db(name);
    ASSERT_EQ(db.exec("CREATE TABLE t(x)"), SQLITE_OK);
  }
  Db db(":memory:");
  Db other("one.db");
  ASSERT_EQ(db.exec("ATTACH 'file:one.db?vfs=hiqlite' AS one; ATTACH 'file:two.db?vfs=hiqlite' AS two"), SQLITE_OK);
  ASSERT_EQ(db.exec("BEGIN; INSERT INTO two.t VALUES (1)"), SQLITE_OK);
  EXPECT_TRUE(vfs::writes_to(db.get(), "two.db"));
  EXPECT_FALSE(vfs::writes_to(db.get(), "one.db"));
  EXPECT_FALSE(vfs::writes_to(other.get(), "two.db"));
  EXPECT_EQ(other.exec("INSERT INTO t VALUES (1)"), SQLITE_OK) << "another connection's transaction";
  EXPECT_EQ(db.exec("INSERT INTO one.t VALUES (1)"), code(SQLITE_ERROR, Code::kRefused));
  EXPECT_EQ(db.exec("COMMIT"), SQLITE_OK);
  EXPECT_FALSE(vfs::writes_to(db.get(), "two.db"));
}

TEST(ShimRefusal, ManagedAndAnotherWalDatabase_AreRefusedInBothOrders) {
  World world;
  Db db("app.db");
  ASSERT_EQ(db.exec("CREATE TABLE t(x); ATTACH 'other.db' AS o; PRAGMA o.journal_mode=WAL; CREATE TABLE o.t(x)"),
            SQLITE_OK);
  EXPECT_EQ(db.rows("PRAGMA o.journal_mode"), "wal");
  ASSERT_EQ(db.exec("BEGIN; INSERT INTO o.t VALUES (1)"), SQLITE_OK);
  EXPECT_EQ(db.exec("INSERT INTO main.t VALUES (1)"), code(SQLITE_ERROR, Code::kRefused));
  ASSERT_EQ(db.exec("ROLLBACK"), SQLITE_OK);
  ASSERT_EQ(db.exec("BEGIN; INSERT INTO main.t VALUES (1); INSERT INTO o.t VALUES (1)"), SQLITE_OK);
  EXPECT_EQ(db.exec("COMMIT"), code(SQLITE_ERROR, Code::kRefused));
  EXPECT_EQ(db.rows("SELECT (SELECT count(*) FROM main.t), (SELECT count(*) FROM o.t)"), "0|0");
  EXPECT_EQ(db.exec("INSERT INTO o.t VALUES (1); INSERT INTO main.t VALUES (1)"), SQLITE_OK);
}

TEST(ShimRefusal, JournalSizeLimit_TruncatesOnlyBehindTheCommit) {
  World world;
  Db db("app.db");
  ASSERT_EQ(db.exec("PRAGMA journal_size_limit=0; PRAGMA synchronous=FULL; CREATE TABLE t(x)"), SQLITE_OK);
  for (int i = 0; i < 5; ++i) {
    ASSERT_EQ(db.exec("INSERT INTO t VALUES (randomblob(20000))"), SQLITE_OK);
    world.settle();
    ASSERT_EQ(db.rows("PRAGMA wal_checkpoint(RESTART)").substr(0, 2), "0|");
  }
  EXPECT_EQ(db.rows("SELECT count(*), sum(length(x)) FROM t"), "5|100000");
  world.expect_replay_equals_file("app.db");
}

TEST(ShimRefusal, VfsName_TellsBoth) {
  World world;
  Db db("app.db");
  char* name = nullptr;
  ASSERT_EQ(sqlite3_file_control(db.get(), "main", SQLITE_FCNTL_VFSNAME, &name), SQLITE_OK);
  EXPECT_STREQ(name, "hiqlite/unix");
  sqlite3_free(name);
}

}  // namespace
}  // namespace shim_test

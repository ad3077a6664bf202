// Transactions of every kind through the shim: they are entries before they are visible, and the entries give the file's bytes.
#include <gtest/gtest.h>

#include "tests/vfs/shim_world.h"

namespace shim_test {
namespace {

TEST(ShimWrite, Autocommit_IsOneEntryAndReadable) {
  World world;
  Db db("app.db");
  ASSERT_EQ(db.open_code(), SQLITE_OK) << base::to_string(vfs::last_error());
  ASSERT_EQ(db.exec("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT)"), SQLITE_OK)
      << base::to_string(vfs::last_error());
  ASSERT_EQ(db.exec("INSERT INTO t(name) VALUES ('replicated')"), SQLITE_OK);
  EXPECT_EQ(world.gate().committed("app.db").size(), 2U);
  EXPECT_EQ(db.rows("SELECT * FROM t"), "1|replicated");
  Db other("app.db");
  EXPECT_EQ(other.rows("SELECT * FROM t"), "1|replicated");
  EXPECT_EQ(other.rows("PRAGMA journal_mode"), "wal");
  world.expect_replay_equals_file("app.db");
}

TEST(ShimWrite, SmallInsert_PatchIsAboutTheRow) {
  World world;
  Db db("app.db");
  ASSERT_EQ(db.exec("CREATE TABLE t(x); INSERT INTO t VALUES (1)"), SQLITE_OK);
  ASSERT_EQ(db.exec("INSERT INTO t VALUES ('a row of some bytes')"), SQLITE_OK);
  const auto entries = world.gate().committed("app.db");
  std::size_t bytes = 0;
  for (const pages::Patch& patch : entries.back().patches) bytes += patch.body.size();
  EXPECT_LT(bytes, 200U);
}

TEST(ShimWrite, ExplicitTransaction_IsOneEntry_RollbackIsNone) {
  World world;
  Db db("app.db");
  ASSERT_EQ(db.exec("CREATE TABLE t(x)"), SQLITE_OK);
  ASSERT_EQ(db.exec("BEGIN; INSERT INTO t VALUES(1); INSERT INTO t VALUES(2); COMMIT"), SQLITE_OK);
  EXPECT_EQ(world.gate().committed("app.db").size(), 2U);
  ASSERT_EQ(db.exec("BEGIN; DELETE FROM t; ROLLBACK"), SQLITE_OK);
  ASSERT_EQ(db.exec("BEGIN IMMEDIATE; COMMIT; BEGIN; SELECT * FROM t; COMMIT"), SQLITE_OK);
  EXPECT_EQ(world.gate().committed("app.db").size(), 2U);
  EXPECT_EQ(db.rows("SELECT sum(x) FROM t"), "3");
  EXPECT_EQ(world.gate().grants(), world.gate().releases());
  world.expect_replay_equals_file("app.db");
}

TEST(ShimWrite, SavepointsWithSpills_EntriesGiveTheFile) {
  World world;
  Db db("app.db");
  ASSERT_EQ(db.exec("PRAGMA cache_size=5; CREATE TABLE t(id INTEGER PRIMARY KEY, x TEXT);"
                    "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n<300) INSERT INTO t SELECT n, "
                    "hex(randomblob(150)) FROM c"),
            SQLITE_OK);
  ASSERT_EQ(
      db.exec("BEGIN; UPDATE t SET x = hex(randomblob(150)); SAVEPOINT a; UPDATE t SET x = 'aaa' || id WHERE id % 2;"
              "UPDATE t SET x = hex(randomblob(140)) WHERE id % 3; ROLLBACK TO a; INSERT INTO t(x) VALUES ('kept');"
              "SAVEPOINT b; DELETE FROM t WHERE id < 50; RELEASE b; COMMIT"),
      SQLITE_OK);
  EXPECT_EQ(world.gate().committed("app.db").size(), 3U);
  EXPECT_EQ(db.rows("SELECT count(*), max(x) FROM t"), "252|kept");
  EXPECT_EQ(db.rows("PRAGMA integrity_check"), "ok");
  world.expect_replay_equals_file("app.db");
}

TEST(ShimWrite, TransactionBeyondTheImageMemory_IsReadBackFromTheWal) {
  World world;
  Db db("app.db");
  ASSERT_EQ(db.exec("PRAGMA cache_size=50; CREATE TABLE t(id INTEGER PRIMARY KEY, x BLOB);"), SQLITE_OK);
  ASSERT_EQ(db.exec("BEGIN; WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n<3000) INSERT INTO t "
                    "SELECT n, zeroblob(3900) FROM c;"
                    "UPDATE t SET x = randomblob(3900) WHERE id % 7 = 0; COMMIT"),
            SQLITE_OK)
      << base::to_string(vfs::last_error());
  EXPECT_EQ(db.rows("SELECT count(*) FROM t"), "3000");
  world.expect_replay_equals_file("app.db");
}

TEST(ShimWrite, FullTextSearchWithTriggers_Works) {
  World world;
  Db db("app.db");
  ASSERT_EQ(db.exec("CREATE TABLE notes(id INTEGER PRIMARY KEY, body TEXT);"
                    "CREATE VIRTUAL TABLE search USING fts5(body, content='notes', content_rowid='id');"
                    "CREATE TRIGGER notes_in AFTER INSERT ON notes BEGIN INSERT INTO search(rowid, body) VALUES "
                    "(new.id, new.body); END;"
                    "INSERT INTO notes(body) VALUES ('the quick brown fox'), ('jumps over the lazy dog');"),
            SQLITE_OK);
  EXPECT_EQ(db.rows("SELECT rowid FROM search WHERE search MATCH 'lazy'"), "2");
  EXPECT_EQ(db.rows("INSERT INTO notes(body) VALUES (random()), (datetime('now')) RETURNING id"), "3\n4");
  world.expect_replay_equals_file("app.db");
}

TEST(ShimWrite, VacuumAndShrink_AreNormalCommits) {
  World world;
  Db db("app.db");
  ASSERT_EQ(db.exec("CREATE TABLE t(x); WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n<200) "
                    "INSERT INTO t SELECT randomblob(1000) FROM c;"
                    "DELETE FROM t WHERE rowid > 10; PRAGMA user_version=7; ANALYZE; REINDEX"),
            SQLITE_OK);
  const std::size_t before = world.gate().committed("app.db").size();
  ASSERT_EQ(db.exec("VACUUM"), SQLITE_OK) << db.message() << base::to_string(vfs::last_error());
  const auto entries = world.gate().committed("app.db");
  EXPECT_EQ(entries.size(), before + 1);
  EXPECT_LT(entries.back().header.size_after, 10U);
  EXPECT_EQ(db.rows("PRAGMA user_version"), "7");
  EXPECT_EQ(db.rows("SELECT count(*) FROM t"), "10");
  world.expect_replay_equals_file("app.db");
}

TEST(ShimWrite, SqliteBackupIntoTheDatabase_IsOneCommit) {
  World world;
  Db source(":memory:");
  ASSERT_EQ(source.exec("CREATE TABLE t(x); INSERT INTO t VALUES (42)"), SQLITE_OK);
  Db db("app.db");
  ASSERT_EQ(db.exec("CREATE TABLE old(x)"), SQLITE_OK);
  sqlite3_backup* const backup = sqlite3_backup_init(db.get(), "main", source.get(), "main");
  ASSERT_NE(backup, nullptr);
  // The source says "rollback journal" on page 1; SQLite's backup keeps the destination in WAL mode.
  EXPECT_EQ(sqlite3_backup_step(backup, -1), SQLITE_DONE);
  EXPECT_EQ(sqlite3_backup_finish(backup), SQLITE_OK) << base::to_string(vfs::last_error());
  EXPECT_EQ(db.rows("SELECT * FROM t"), "42");
  world.expect_replay_equals_file("app.db");
}

TEST(ShimWrite, PageSizesAndAutoVacuum_AreParametersOfCreation) {
  World world;
  for (const int size : {512, 1024, 8192, 65536}) {
    const std::string name = "p" + std::to_string(size) + ".db";
    Db db("file:" + name + "?vfs=hiqlite&auto_vacuum=full&page_size=" + std::to_string(size));
    ASSERT_EQ(db.open_code(), SQLITE_OK) << base::to_string(vfs::last_error());
    EXPECT_EQ(db.rows("PRAGMA page_size"), std::to_string(size));
    EXPECT_EQ(db.rows("PRAGMA auto_vacuum"), "1");
    ASSERT_EQ(db.exec("CREATE TABLE t(x); INSERT INTO t VALUES (randomblob(100000)), (1); DELETE FROM t WHERE x != 1"),
              SQLITE_OK)
        << base::to_string(vfs::last_error());
    EXPECT_EQ(db.rows("PRAGMA integrity_check"), "ok");
  }
  world.settle();
  const base::Bytes expected = joined(world.gate().replay("p65536.db"));
  EXPECT_TRUE(world.stop_and_read("p65536.db") == expected);
}

TEST(ShimWrite, PagesWithoutChange_StillAskTheLog) {
  World world;
  Db db("app.db");
  ASSERT_EQ(db.exec("CREATE TABLE t(x); INSERT INTO t VALUES (5)"), SQLITE_OK);
  ASSERT_EQ(db.exec("BEGIN; UPDATE t SET x = 6; UPDATE t SET x = 5; COMMIT"), SQLITE_OK);
  const auto entries = world.gate().committed("app.db");
  ASSERT_EQ(entries.size(), 3U);
  EXPECT_TRUE(entries.back().patches.empty());
  world.expect_replay_equals_file("app.db");
}

TEST(ShimWrite, PlainReader_ReadsAndIsRefusedWriting) {
  World world;
  Db db("app.db");
  ASSERT_EQ(db.exec("CREATE TABLE t(x); INSERT INTO t VALUES (1)"), SQLITE_OK);
  Db reader(world.path("app.db"), SQLITE_OPEN_READONLY);
  ASSERT_EQ(reader.open_code(), SQLITE_OK);
  EXPECT_EQ(reader.rows("SELECT x FROM t"), "1");
  ASSERT_EQ(db.exec("INSERT INTO t VALUES (2)"), SQLITE_OK);
  EXPECT_EQ(reader.rows("SELECT sum(x) FROM t"), "3");
  reader.close();
  EXPECT_EQ(db.rows("SELECT sum(x) FROM t"), "3");
}

}  // namespace
}  // namespace shim_test

// Re-checksummed transactions: SQLite 3.40.1 leaves frames without checksums after SAVEPOINT, spill, re-spill, ROLLBACK TO, COMMIT, and after a
// crash loses that commit and all later ones (docs/SQLITE-NOTES.md, "Savepoints, spills and re-checksums"). Crash: a copy of database and WAL,
// opened by plain SQLite.
#include <gtest/gtest.h>

#include <filesystem>
#include <random>

#include "tests/vfs/shim_world.h"
#include "vfs/rechecksum.h"

namespace shim_test {
namespace {

// A plain connection to a copy of the files as they are on disk; SQLite recovers the WAL.
std::string rows_after_crash(const World& world, const std::string& name, const std::string& sql) {
  testing_base::TempDir dir;
  std::filesystem::copy_file(world.path(name), dir / name);
  std::filesystem::copy_file(world.path(name) + "-wal", dir / (name + "-wal"));
  Db copy(dir / name);
  return copy.rows(sql);
}

// What is undone: changed pages, which the commit writes again, so that SQLite rewrites too little; or new pages, so that the frame from
// which SQLite wants to rewrite lies behind the commit frame and it takes its next checksum from an undone frame.
const std::string kChangesPages =
    "UPDATE t SET x = hex(randomblob(150)); UPDATE t SET x = hex(randomblob(150)) WHERE id > 100;"
    "UPDATE t SET x = hex(randomblob(150)) WHERE id > 100;";
const std::string kAddsPages =
    "WITH RECURSIVE c(n) AS (SELECT 201 UNION ALL SELECT n+1 FROM c WHERE n<800) INSERT INTO t SELECT n, "
    "hex(randomblob(150)) FROM c;"
    "UPDATE t SET x = hex(randomblob(150)) WHERE id > 600; UPDATE t SET x = hex(randomblob(150)) WHERE id > 600;";

void reproduce(Db& db, const std::string& undone) {
  ASSERT_EQ(db.exec("PRAGMA cache_size=5; CREATE TABLE t(id INTEGER PRIMARY KEY, x TEXT); CREATE TABLE u(y);"
                    "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n<200) INSERT INTO t SELECT n, "
                    "hex(randomblob(150)) FROM c"),
            SQLITE_OK);
  ASSERT_EQ(
      db.exec("BEGIN; SAVEPOINT s; " + undone + "ROLLBACK TO s; INSERT INTO u VALUES ('in the transaction'); COMMIT"),
      SQLITE_OK)
      << base::to_string(vfs::last_error());
  ASSERT_EQ(db.exec("INSERT INTO u VALUES ('later')"), SQLITE_OK);
}

TEST(ShimRestart, PlainSqlite_HasTheBugHere) {
  if (sqlite3_libversion_number() != 3040001) GTEST_SKIP() << "the bug is known of 3.40.1";
  for (const std::string& undone : {kChangesPages, kAddsPages}) {
    testing_base::TempDir dir;
    Db db(dir / "plain.db");
    ASSERT_EQ(db.exec("PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0"), SQLITE_OK);
    reproduce(db, undone);
    testing_base::TempDir copies;
    std::filesystem::copy_file(dir / "plain.db", copies / "plain.db");
    std::filesystem::copy_file(dir / "plain.db-wal", copies / "plain.db-wal");
    Db copy(copies / "plain.db");
    EXPECT_EQ(copy.rows("SELECT count(*) FROM u"), "0")
        << "the reproduction does not reproduce: the test below shows nothing";
  }
}

TEST(ShimRestart, RespilledSavepoint_NothingIsLostAfterACrash) {
  for (const std::string& undone : {kChangesPages, kAddsPages}) {
    World world;
    Db db("app.db");
    reproduce(db, undone);
    world.settle();
    EXPECT_EQ(db.rows("SELECT y FROM u"), "in the transaction\nlater");
    EXPECT_EQ(rows_after_crash(world, "app.db", "SELECT y FROM u"), "in the transaction\nlater");
    EXPECT_EQ(rows_after_crash(world, "app.db", "PRAGMA integrity_check"), "ok");
    world.expect_replay_equals_file("app.db");
  }
}

TEST(ShimRestart, RandomSavepoints_EveryCommitSurvivesACrash) {
  const unsigned seed = 20261121;
  std::mt19937 random(seed);
  SCOPED_TRACE("seed " + std::to_string(seed));
  World world;
  Db db("app.db");
  ASSERT_EQ(db.exec("PRAGMA cache_size=5; CREATE TABLE t(id INTEGER PRIMARY KEY, x TEXT); CREATE TABLE u(y);"
                    "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n<120) INSERT INTO t SELECT n, "
                    "hex(randomblob(150)) FROM c"),
            SQLITE_OK);
  const int rounds = 15 * test_scale();
  for (int round = 1; round <= rounds; ++round) {
    ASSERT_EQ(db.exec("BEGIN"), SQLITE_OK);
    const int steps = 1 + static_cast<int>(random() % 5);
    int depth = 0;
    for (int step = 0; step < steps; ++step) {
      if (random() % 2 == 0) {
        ASSERT_EQ(db.exec("SAVEPOINT s" + std::to_string(depth)), SQLITE_OK);
        ++depth;
      }
      const std::string from = std::to_string(random() % 100);
      ASSERT_EQ(
          db.exec("UPDATE t SET x = hex(randomblob(" + std::to_string(100 + random() % 80) + ")) WHERE id > " + from),
          SQLITE_OK);
      if (random() % 2 == 0) {
        ASSERT_EQ(db.exec("INSERT INTO t(x) SELECT hex(randomblob(150)) FROM t LIMIT 60; UPDATE t SET x = "
                          "hex(randomblob(150)) WHERE id > 120"),
                  SQLITE_OK);
      }
      if (depth > 0 && random() % 2 == 0) {
        const int back = static_cast<int>(random() % static_cast<unsigned>(depth));
        ASSERT_EQ(db.exec("ROLLBACK TO s" + std::to_string(back)), SQLITE_OK);
        depth = back + 1;
      }
    }
    ASSERT_EQ(db.exec("INSERT INTO u VALUES (" + std::to_string(round) + "); COMMIT"), SQLITE_OK)
        << base::to_string(vfs::last_error());
    ASSERT_EQ(rows_after_crash(world, "app.db", "SELECT count(*), max(y) FROM u"),
              std::to_string(round) + "|" + std::to_string(round));
  }
  EXPECT_EQ(db.rows("PRAGMA integrity_check"), "ok");
  world.expect_replay_equals_file("app.db");
}

TEST(WalChecksum, BothByteOrders_AreTheFileFormats) {
  // Worked by hand from the definition: s1 += x + s2, s2 += y + s1.
  const std::byte bytes[8] = {std::byte{1}, {}, {}, {}, std::byte{2}, {}, {}, {}};
  const auto little = vfs::wal_checksum({10, 20}, bytes, false);
  EXPECT_EQ(little.first, 31U);
  EXPECT_EQ(little.second, 53U);
  const auto big = vfs::wal_checksum({10, 20}, bytes, true);
  EXPECT_EQ(big.first, 0x01000000U + 30U);
  EXPECT_EQ(big.second, 0x03000000U + 50U);
}

// The lease ends while the outcome is on its way: SQLite's rewriting of the checksums, after the commit, is not refused for that.
TEST(ShimRestart, DoomAfterTheProposal_DoesNotReachACommittedTransaction) {
  World world;
  Db db("app.db");
  ASSERT_EQ(db.exec("PRAGMA cache_size=5; CREATE TABLE t(id INTEGER PRIMARY KEY, x TEXT); CREATE TABLE u(y);"
                    "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n<200) INSERT INTO t SELECT n, "
                    "hex(randomblob(150)) FROM c"),
            SQLITE_OK);
  for (const std::string& undone : {kChangesPages, kAddsPages}) {
    ASSERT_EQ(db.exec("BEGIN; SAVEPOINT s; " + undone + "ROLLBACK TO s; INSERT INTO u VALUES ('in the transaction')"),
              SQLITE_OK);
    world.gate().before_decision = [&] {
      world.database("app.db").doom_local_writer(base::make_error(base::Code::kLeaseLost, "the lease ended"));
    };
    EXPECT_EQ(db.exec("COMMIT"), SQLITE_OK) << base::to_string(vfs::last_error());
    world.gate().before_decision = nullptr;
    world.settle();
    EXPECT_EQ(rows_after_crash(world, "app.db", "SELECT count(*) FROM u"), db.rows("SELECT count(*) FROM u"));
  }
  EXPECT_EQ(db.rows("SELECT count(*) FROM u"), "2");
  world.expect_replay_equals_file("app.db");
}

}  // namespace
}  // namespace shim_test

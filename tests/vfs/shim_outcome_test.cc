// What the application sees of each outcome of a held commit, that nothing of a failed one is ever visible, and that the next one works.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "base/fault.h"
#include "tests/vfs/image_fixture.h"
#include "tests/vfs/shim_world.h"

namespace shim_test {
namespace {

using base::Code;
using vfs::OutcomeKind;

struct Refusal {
  OutcomeKind kind;
  Code given;
  int expected;  // extended code in the application
};

const Refusal kRefusals[] = {
    {OutcomeKind::kNotApplied, Code::kNoQuorum, code(SQLITE_BUSY, Code::kNoQuorum)},
    {OutcomeKind::kNotApplied, Code::kWaitingForNodes, code(SQLITE_BUSY, Code::kWaitingForNodes)},
    {OutcomeKind::kNotApplied, Code::kTimeout, code(SQLITE_BUSY, Code::kTimeout)},
    {OutcomeKind::kNotApplied, Code::kBusy, code(SQLITE_BUSY, Code::kBusy)},
    {OutcomeKind::kNotApplied, Code::kLeaseLost, code(SQLITE_BUSY, Code::kLeaseLost)},
    {OutcomeKind::kNotApplied, Code::kNotLeader, code(SQLITE_READONLY, Code::kNotLeader)},
    {OutcomeKind::kNotApplied, Code::kFull, code(SQLITE_FULL, Code::kFull)},
    {OutcomeKind::kNotApplied, Code::kStopped, code(SQLITE_MISUSE, Code::kStopped)},
    {OutcomeKind::kNotApplied, Code::kPoisoned, code(SQLITE_IOERR, Code::kPoisoned)},
    {OutcomeKind::kNotApplied, Code::kDiverged, code(SQLITE_CORRUPT, Code::kDiverged)},
    {OutcomeKind::kUnknown, Code::kUnknownOutcome, code(SQLITE_IOERR, Code::kUnknownOutcome)},
    {OutcomeKind::kUnknown, Code::kStopped, code(SQLITE_IOERR, Code::kUnknownOutcome)},
};

class ShimOutcome : public ::testing::Test {
 protected:
  ShimOutcome() : db_("app.db"), reader_("app.db"), plain_(world_.path("app.db"), SQLITE_OPEN_READONLY) {
    EXPECT_EQ(db_.exec("CREATE TABLE t(x); INSERT INTO t VALUES (1)"), SQLITE_OK);
  }
  void expect_only_first_row() {
    EXPECT_EQ(db_.rows("SELECT x FROM t"), "1");
    EXPECT_EQ(reader_.rows("SELECT x FROM t"), "1");
    EXPECT_EQ(plain_.rows("SELECT x FROM t"), "1");
  }
  World world_;
  Db db_;
  Db reader_;
  Db plain_;
};

TEST_F(ShimOutcome, Autocommit_GetsTheCodeAndIsRolledBack) {
  for (const Refusal& refusal : kRefusals) {
    SCOPED_TRACE(base::code_info(refusal.given).name);
    world_.gate().fail_all(refusal.kind, refusal.given, "because of the test");
    EXPECT_EQ(db_.exec("INSERT INTO t VALUES (2)"), refusal.expected);
    EXPECT_NE(vfs::last_error().message.find("because of the test"), std::string::npos);
    EXPECT_EQ(vfs::last_error_of(db_.get()).message, vfs::last_error().message);
    EXPECT_EQ(sqlite3_get_autocommit(db_.get()), 1);
    world_.gate().commit_all();
    expect_only_first_row();
    ASSERT_EQ(db_.exec("INSERT INTO t VALUES (3); DELETE FROM t WHERE x = 3"), SQLITE_OK);
  }
  world_.expect_replay_equals_file("app.db");
}

TEST_F(ShimOutcome, ExplicitCommit_GetsTheCodeAndIsRolledBack) {
  for (const Refusal& refusal : kRefusals) {
    SCOPED_TRACE(base::code_info(refusal.given).name);
    world_.gate().fail_all(refusal.kind, refusal.given, "because of the test");
    ASSERT_EQ(db_.exec("BEGIN; INSERT INTO t VALUES (2); UPDATE t SET x = x + 10"), SQLITE_OK);
    EXPECT_EQ(db_.exec("COMMIT"), refusal.expected);
    EXPECT_EQ(sqlite3_get_autocommit(db_.get()), 1) << "the transaction must not stay open";
    EXPECT_FALSE(vfs::connection_info(db_.get()).holds_writer);
    world_.gate().commit_all();
    expect_only_first_row();
    ASSERT_EQ(reader_.exec("INSERT INTO t VALUES (3); DELETE FROM t WHERE x = 3"), SQLITE_OK);
  }
  EXPECT_EQ(world_.gate().grants(), world_.gate().releases());
  world_.expect_replay_equals_file("app.db");
}

TEST_F(ShimOutcome, SpilledTransaction_FailedCommit_NextOneIsWhole) {
  ASSERT_EQ(db_.exec("PRAGMA cache_size=5"), SQLITE_OK);
  const std::string fill =
      "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n<500) INSERT INTO t SELECT "
      "hex(randomblob(100)) FROM c";
  for (const Refusal& refusal : kRefusals) {
    world_.gate().fail_all(refusal.kind, refusal.given, "because of the test");
    EXPECT_EQ(db_.exec(fill), refusal.expected);
    world_.gate().commit_all();
    expect_only_first_row();
  }
  ASSERT_EQ(db_.exec(fill), SQLITE_OK);
  EXPECT_EQ(reader_.rows("SELECT count(*) FROM t"), "501");
  EXPECT_EQ(plain_.rows("PRAGMA integrity_check"), "ok");
  world_.expect_replay_equals_file("app.db");
}

TEST_F(ShimOutcome, OpenSelectOnTheSameConnection_SurvivesAFailedCommit) {
  ASSERT_EQ(db_.exec("INSERT INTO t VALUES (10), (20)"), SQLITE_OK);
  sqlite3_stmt* select = nullptr;
  ASSERT_EQ(sqlite3_prepare_v2(db_.get(), "SELECT x FROM t ORDER BY x", -1, &select, nullptr), SQLITE_OK);
  ASSERT_EQ(sqlite3_step(select), SQLITE_ROW);
  world_.gate().fail_all(OutcomeKind::kNotApplied, Code::kNoQuorum, "because of the test");
  EXPECT_EQ(db_.exec("CREATE TABLE other(y)") & 0xff, SQLITE_BUSY);
  EXPECT_EQ(sqlite3_step(select), SQLITE_ROW);
  EXPECT_EQ(sqlite3_column_int(select, 0), 10);
  EXPECT_EQ(sqlite3_step(select), SQLITE_ROW);
  EXPECT_EQ(sqlite3_step(select), SQLITE_DONE);
  EXPECT_EQ(sqlite3_finalize(select), SQLITE_OK);
  EXPECT_EQ(db_.rows("SELECT count(*) FROM sqlite_schema"), "1");
}

TEST_F(ShimOutcome, NothingIsVisibleBeforeTheOutcome) {
  std::string seen;
  world_.gate().before_decision = [&] {
    seen = plain_.rows("SELECT x FROM t") + "," + reader_.rows("SELECT x FROM t");
  };
  ASSERT_EQ(db_.exec("INSERT INTO t VALUES (2)"), SQLITE_OK);
  world_.gate().before_decision = nullptr;
  EXPECT_EQ(seen, "1,1");
  EXPECT_EQ(plain_.rows("SELECT x FROM t"), "1\n2");
}

// SQLite recovers a WAL by its commit frames: one that was written too early would come back after a crash.
TEST_F(ShimOutcome, NothingIsRecoverableBeforeTheOutcome) {
  std::string recovered;
  world_.gate().before_decision = [&] {
    const std::string copy = world_.work_dir() + "/copy.db";
    for (const char* suffix : {"", "-wal"})
      std::filesystem::copy_file(world_.path("app.db") + suffix, copy + suffix,
                                 std::filesystem::copy_options::overwrite_existing);
    Db after_a_crash(copy, SQLITE_OPEN_READWRITE, "unix");
    recovered = after_a_crash.rows("SELECT x FROM t");
  };
  ASSERT_EQ(db_.exec("INSERT INTO t VALUES (2)"), SQLITE_OK);
  world_.gate().before_decision = nullptr;
  EXPECT_EQ(recovered, "1");
}

TEST_F(ShimOutcome, ReturningResetEarly_FailedCommitIsToldOnce) {
  world_.gate().fail_all(OutcomeKind::kNotApplied, Code::kNoQuorum, "because of the test");
  sqlite3_stmt* insert = nullptr;
  ASSERT_EQ(sqlite3_prepare_v2(db_.get(), "INSERT INTO t VALUES (2) RETURNING x", -1, &insert, nullptr), SQLITE_OK);
  ASSERT_EQ(sqlite3_step(insert), SQLITE_ROW);
  (void)sqlite3_reset(insert);  // a driver drops this code
  sqlite3_finalize(insert);
  world_.gate().commit_all();
  EXPECT_EQ(db_.exec("SELECT * FROM t"), code(SQLITE_IOERR, Code::kLostWrite));
  EXPECT_NE(vfs::last_error().message.find("because of the test"), std::string::npos);
  expect_only_first_row();
  EXPECT_EQ(db_.exec("INSERT INTO t VALUES (3)"), SQLITE_OK);
}

TEST_F(ShimOutcome, ReturningResetEarly_CommittedIsNotALoss) {
  sqlite3_stmt* insert = nullptr;
  ASSERT_EQ(sqlite3_prepare_v2(db_.get(), "INSERT INTO t VALUES (2) RETURNING x", -1, &insert, nullptr), SQLITE_OK);
  ASSERT_EQ(sqlite3_step(insert), SQLITE_ROW);
  EXPECT_EQ(sqlite3_finalize(insert), SQLITE_OK);
  EXPECT_EQ(db_.rows("SELECT count(*) FROM t"), "2");
}

// Its first frame fails already, before anything is held.
TEST_F(ShimOutcome, ReturningResetEarly_InADoomedTransaction_IsToldOnce) {
  sqlite3_stmt* insert = nullptr;
  ASSERT_EQ(sqlite3_prepare_v2(db_.get(), "INSERT INTO t VALUES (2) RETURNING x", -1, &insert, nullptr), SQLITE_OK);
  ASSERT_EQ(sqlite3_step(insert), SQLITE_ROW);
  world_.database("app.db").doom_local_writer(base::make_error(Code::kLeaseLost, "the lease ended"));
  (void)sqlite3_finalize(insert);  // a driver drops this code
  EXPECT_EQ(db_.exec("SELECT * FROM t"), code(SQLITE_IOERR, Code::kLostWrite));
  EXPECT_NE(vfs::last_error().message.find("the lease ended"), std::string::npos);
  expect_only_first_row();
  EXPECT_EQ(db_.exec("INSERT INTO t VALUES (3)"), SQLITE_OK);
}

// sqlite3_blob_close() commits what was written, and drivers drop its code.
TEST_F(ShimOutcome, BlobClosed_FailedCommitIsToldOnce) {
  ASSERT_EQ(db_.exec("CREATE TABLE b(x); INSERT INTO b VALUES (zeroblob(8))"), SQLITE_OK);
  for (const bool doomed : {false, true}) {
    SCOPED_TRACE(doomed ? "doomed" : "refused");
    sqlite3_blob* blob = nullptr;
    ASSERT_EQ(sqlite3_blob_open(db_.get(), "main", "b", "x", 1, 1, &blob), SQLITE_OK);
    ASSERT_EQ(sqlite3_blob_write(blob, "lost", 4, 0), SQLITE_OK);
    if (doomed)
      world_.database("app.db").doom_local_writer(base::make_error(Code::kLeaseLost, "because of the test"));
    else
      world_.gate().fail_all(OutcomeKind::kNotApplied, Code::kNoQuorum, "because of the test");
    (void)sqlite3_blob_close(blob);
    world_.gate().commit_all();
    EXPECT_EQ(db_.exec("SELECT * FROM b"), code(SQLITE_IOERR, Code::kLostWrite));
    EXPECT_NE(vfs::last_error().message.find("because of the test"), std::string::npos);
    EXPECT_EQ(db_.rows("SELECT hex(x) FROM b"), "0000000000000000");
  }
  sqlite3_blob* blob = nullptr;
  ASSERT_EQ(sqlite3_blob_open(db_.get(), "main", "b", "x", 1, 1, &blob), SQLITE_OK);
  ASSERT_EQ(sqlite3_blob_write(blob, "kept", 4, 0), SQLITE_OK);
  EXPECT_EQ(sqlite3_blob_close(blob), SQLITE_OK);
  EXPECT_EQ(reader_.rows("SELECT hex(x) FROM b"), "6B65707400000000");
}

// What a statement is told itself is not told again.
TEST_F(ShimOutcome, DoomedInsideAStatement_IsNotALostWrite) {
  ASSERT_EQ(db_.exec("BEGIN IMMEDIATE; INSERT INTO t VALUES (2)"), SQLITE_OK);
  sqlite3_stmt* insert = nullptr;
  ASSERT_EQ(sqlite3_prepare_v2(db_.get(), "INSERT INTO t VALUES (3) RETURNING x", -1, &insert, nullptr), SQLITE_OK);
  ASSERT_EQ(sqlite3_step(insert), SQLITE_ROW);
  ASSERT_EQ(sqlite3_finalize(insert), SQLITE_OK);
  world_.database("app.db").doom_local_writer(base::make_error(Code::kLeaseLost, "the lease ended"));
  EXPECT_EQ(db_.exec("COMMIT"), code(SQLITE_IOERR, Code::kLeaseLost));
  expect_only_first_row();
}

TEST_F(ShimOutcome, ReturningSteppedToTheEnd_FailsInStepOnly) {
  world_.gate().fail_all(OutcomeKind::kNotApplied, Code::kNoQuorum, "because of the test");
  sqlite3_stmt* insert = nullptr;
  ASSERT_EQ(sqlite3_prepare_v2(db_.get(), "INSERT INTO t VALUES (2) RETURNING x", -1, &insert, nullptr), SQLITE_OK);
  ASSERT_EQ(sqlite3_step(insert), SQLITE_ROW);
  EXPECT_EQ(sqlite3_step(insert), code(SQLITE_BUSY, Code::kNoQuorum));
  sqlite3_finalize(insert);
  world_.gate().commit_all();
  expect_only_first_row();
}

TEST_F(ShimOutcome, TooLargeTransaction_IsRefusedAndNamed) {
  if (test_scale() < 20) GTEST_SKIP() << "writes 256 MiB of random bytes; HQL_TEST_SCALE=hour runs it";
  EXPECT_EQ(db_.exec("WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n<280) INSERT INTO t SELECT "
                     "randomblob(1000000) FROM c"),
            code(SQLITE_TOOBIG, Code::kTooLarge));
  EXPECT_EQ(vfs::last_error().code, Code::kTooLarge);
  expect_only_first_row();
}

TEST_F(ShimOutcome, LastCommit_IsOfTheConnection) {
  const auto before = vfs::connection_info(reader_.get());
  EXPECT_TRUE(before.managed);
  EXPECT_EQ(before.name, "app.db");
  EXPECT_EQ(before.last_commit, base::LogId{});
  EXPECT_GT(vfs::connection_info(db_.get()).last_commit.index.value, 1U);
  ASSERT_EQ(db_.exec("BEGIN IMMEDIATE"), SQLITE_OK);
  EXPECT_TRUE(vfs::connection_info(db_.get()).holds_writer);
  EXPECT_EQ(vfs::connection_info(db_.get()).last_seen, vfs::connection_info(db_.get()).last_commit);
  ASSERT_EQ(db_.exec("ROLLBACK"), SQLITE_OK);
  EXPECT_FALSE(vfs::connection_info(plain_.get()).managed);
}

// --- doom (R4) --------------------------------------------------------------------------------------------------------

TEST_F(ShimOutcome, DoomedTransaction_FailsRollsBackAndRevertsNothing) {
  for (const bool spilled : {false, true}) {
    SCOPED_TRACE(spilled ? "with spilled frames" : "in memory");
    ASSERT_EQ(db_.exec(std::string("PRAGMA cache_size=") + (spilled ? "5" : "-2000")), SQLITE_OK);
    ASSERT_EQ(db_.exec("BEGIN IMMEDIATE; SELECT * FROM t; INSERT INTO t VALUES (2)"), SQLITE_OK);
    if (spilled) {
      ASSERT_EQ(db_.exec("WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n<300) INSERT INTO t "
                         "SELECT hex(randomblob(100)) FROM c"),
                SQLITE_OK);
    }
    // Another node has the lease now, and commits: the publication parks until the rollback.
    const auto published = world_.gate().foreign_commit("app.db", "INSERT INTO t VALUES (100)");
    vfs::Database& database = world_.database("app.db");
    const base::Micros deadline = base::posix_env().now() + 5 * base::kSecond;
    while (database.status().apply_blocked_by.empty() && base::posix_env().now() < deadline) sched_yield();
    ASSERT_EQ(database.status().apply_blocked_by, "local connection");
    EXPECT_FALSE(published->has_value());

    EXPECT_EQ(db_.exec("COMMIT") & 0xff, SQLITE_IOERR);
    EXPECT_EQ(sqlite3_get_autocommit(db_.get()), 1);
    world_.settle();
    ASSERT_TRUE(published->has_value() && (*published)->has_value());
    const std::string expected = spilled ? "1\n100\n7\n100" : "1\n100";
    EXPECT_EQ(db_.rows("SELECT x FROM t"), expected);
    ASSERT_EQ(db_.exec("INSERT INTO t VALUES (7)"), SQLITE_OK) << base::to_string(vfs::last_error());
    EXPECT_EQ(db_.rows("SELECT x FROM t"), expected + "\n7");
    EXPECT_EQ(plain_.rows("SELECT x FROM t"), expected + "\n7");
  }
  EXPECT_EQ(plain_.rows("PRAGMA integrity_check"), "ok");
  world_.expect_replay_equals_file("app.db");
}

TEST_F(ShimOutcome, DoomedTransaction_ReadsOfTheWalFailToo) {
  ASSERT_EQ(db_.exec("CREATE TABLE u(y)"), SQLITE_OK);
  ASSERT_EQ(reader_.exec("BEGIN IMMEDIATE; INSERT INTO t VALUES (2)"), SQLITE_OK);  // has nothing of u in its cache
  world_.database("app.db").doom_local_writer(base::make_error(Code::kLeaseLost, "the lease ended"));
  EXPECT_EQ(reader_.exec("SELECT * FROM u"), code(SQLITE_IOERR, Code::kLeaseLost));
  reader_.exec("ROLLBACK");
  EXPECT_EQ(vfs::last_error().message, "the lease ended");
  EXPECT_EQ(reader_.rows("SELECT count(*) FROM u"), "0");
  ASSERT_EQ(reader_.exec("INSERT INTO t VALUES (2)"), SQLITE_OK);
}

// --- SQLite fails after the commit was allowed --------------------------------------------------------------------------

thread_local int fail_page_writes = 0;  // errno

ssize_t pwrite_or_fail(int fd, const void* data, size_t size, off_t offset) {
  if (fail_page_writes != 0 && size >= 512) {
    errno = fail_page_writes;
    return -1;
  }
  return ::pwrite(fd, data, size, offset);
}

// SQLite's writes pass pwrite_or_fail while it lives.
class FailingWrites {
 public:
  FailingWrites() { set(reinterpret_cast<sqlite3_syscall_ptr>(pwrite_or_fail)); }
  ~FailingWrites() {
    fail_page_writes = 0;
    set(nullptr);
  }
  FailingWrites(const FailingWrites&) = delete;
  FailingWrites& operator=(const FailingWrites&) = delete;

 private:
  static void set(sqlite3_syscall_ptr call) {
    sqlite3_vfs* const unix_vfs = sqlite3_vfs_find("unix");
    for (const char* const name : {"pwrite", "pwrite64"})
      if (unix_vfs->xGetSystemCall(unix_vfs, name) != nullptr) unix_vfs->xSetSystemCall(unix_vfs, name, call);
  }
};

TEST_F(ShimOutcome, FailedFrameWriteAfterTheCommit_IsCommittedAndPublishedByTheNode) {
  std::string expected = "1";
  for (const int error : {EIO, ENOSPC}) {
    SCOPED_TRACE(std::strerror(error));
    int rc = SQLITE_OK;
    {
      const FailingWrites failing;
      world_.gate().before_decision = [error] { fail_page_writes = error; };
      rc = db_.exec("INSERT INTO t VALUES (2)");
    }
    world_.gate().before_decision = nullptr;
    expected += "\n2";
    EXPECT_EQ(rc, code(SQLITE_IOERR, Code::kCommitted));
    EXPECT_EQ(vfs::last_error().code, Code::kCommitted);
    world_.settle();
    EXPECT_EQ(plain_.rows("SELECT x FROM t"), expected);
    EXPECT_EQ(db_.rows("SELECT x FROM t"), expected);
  }
  ASSERT_EQ(db_.exec("INSERT INTO t VALUES (3)"), SQLITE_OK);
  EXPECT_EQ(reader_.rows("SELECT x FROM t"), expected + "\n3");
  world_.expect_replay_equals_file("app.db");
}

// SQLite's own code of an ordinary frame's write: nobody else has it.
TEST_F(ShimOutcome, ReturningResetEarly_FrameThatCannotBeWritten_IsToldOnce) {
  ASSERT_EQ(db_.exec("CREATE TABLE big(x)"), SQLITE_OK);
  sqlite3_stmt* insert = nullptr;
  ASSERT_EQ(
      sqlite3_prepare_v2(db_.get(), "INSERT INTO big VALUES (randomblob(20000)) RETURNING 1", -1, &insert, nullptr),
      SQLITE_OK);
  ASSERT_EQ(sqlite3_step(insert), SQLITE_ROW);
  {
    const FailingWrites failing;
    fail_page_writes = ENOSPC;
    (void)sqlite3_finalize(insert);  // a driver drops this code
  }
  EXPECT_EQ(db_.exec("SELECT * FROM big"), code(SQLITE_IOERR, Code::kLostWrite));
  EXPECT_EQ(db_.rows("SELECT count(*) FROM big"), "0");
  EXPECT_EQ(db_.exec("INSERT INTO big VALUES (1)"), SQLITE_OK);
}

// One frame: the commit frame is the first write for which the disk has no room. It is known before anything is proposed.
TEST_F(ShimOutcome, FullDiskUnderAOnePageTransaction_IsRefusedAndNotCommitted) {
  NEEDS_FAULTS();
  const std::size_t entries = world_.gate().committed("app.db").size();
  ASSERT_TRUE(base::arm_faults("image.wal_room:enospc"));
  EXPECT_EQ(db_.exec("UPDATE t SET x = 5"), code(SQLITE_FULL, Code::kFull));
  EXPECT_EQ(vfs::last_error().code, Code::kFull);
  sqlite3_stmt* update = nullptr;
  ASSERT_EQ(sqlite3_prepare_v2(db_.get(), "UPDATE t SET x = 5 RETURNING x", -1, &update, nullptr), SQLITE_OK);
  ASSERT_EQ(sqlite3_step(update), SQLITE_ROW);
  (void)sqlite3_finalize(update);  // a driver drops this code
  base::disarm_faults();
  EXPECT_EQ(world_.gate().committed("app.db").size(), entries);
  EXPECT_EQ(db_.exec("SELECT * FROM t"), code(SQLITE_IOERR, Code::kLostWrite));
  expect_only_first_row();
  ASSERT_EQ(db_.exec("UPDATE t SET x = 6"), SQLITE_OK);
  EXPECT_EQ(plain_.rows("SELECT x FROM t"), "6");
  world_.expect_replay_equals_file("app.db");
}

}  // namespace
}  // namespace shim_test

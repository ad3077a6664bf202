// Several writers, readers meanwhile, busy handlers and timeouts; the lease that comes late, is refused, or never comes.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdio>
#include <future>
#include <latch>
#include <random>
#include <thread>

#include "tests/vfs/shim_world.h"

namespace shim_test {
namespace {

using base::Code;

TEST(ShimContention, EightWriters_EachGetsItsTurnAndNothingIsLost) {
  World world;
  Db setup("app.db");
  ASSERT_EQ(setup.exec("CREATE TABLE t(writer, n)"), SQLITE_OK);
  constexpr int kWriters = 8;
  const int each = 40 * test_scale();
  std::atomic<int> failures{0};
  std::atomic<int> in_a_row{0};
  std::atomic<int> commits{0};
  std::latch all_there(kWriters);
  std::vector<std::thread> threads;
  const base::Micros start = base::posix_env().now();
  for (int writer = 0; writer < kWriters; ++writer)
    threads.emplace_back([&, writer] {
      Db db("app.db");
      // Half with our busy handler, half with a driver's busy timeout, which sleeps through the VFS.
      if (writer % 2 == 0) sqlite3_busy_timeout(db.get(), 20000);
      all_there.arrive_and_wait();
      for (int n = 0; n < each; ++n) {
        const int before = commits.load();
        if (db.exec("INSERT INTO t VALUES (" + std::to_string(writer) + "," + std::to_string(n) + ")") != SQLITE_OK)
          failures.fetch_add(1);
        if (commits.fetch_add(1) == before) in_a_row.fetch_add(1);
      }
    });
  for (std::thread& thread : threads) thread.join();
  const base::Micros took = base::posix_env().now() - start;
  EXPECT_EQ(failures.load(), 0) << base::to_string(vfs::last_error());
  EXPECT_EQ(setup.rows("SELECT count(*), count(DISTINCT writer || ',' || n) FROM t"),
            std::to_string(kWriters * each) + "|" + std::to_string(kWriters * each));
  // First come, first served: who has committed goes behind those who wait, so that somebody else is next, but for threads that the machine
  // does not let run. Polling gives most turns to the one who just had one.
  EXPECT_LT(in_a_row.load(), kWriters * each / 2);
  std::printf("8 writers: %d commits in %lld us, %d of them with nobody else's in between\n", kWriters * each,
              static_cast<long long>(took), in_a_row.load());
  EXPECT_EQ(world.gate().grants(), world.gate().releases());
  world.expect_replay_equals_file("app.db");
}

TEST(ShimContention, ReadersMeanwhile_NeverFailAndSeeTheSum) {
  World world;
  Db db("app.db");
  ASSERT_EQ(db.exec("CREATE TABLE t(id INTEGER PRIMARY KEY, v); INSERT INTO t VALUES (1, 500), (2, 500)"), SQLITE_OK);
  std::atomic<bool> stop{false};
  std::atomic<int> reads{0};
  std::string bad[3];
  std::vector<std::thread> readers;
  for (int at = 0; at < 3; ++at)
    readers.emplace_back([&, at] {
      Db reader(at == 0 ? world.path("app.db") : "app.db",
                at == 0 ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_URI);
      do {
        const std::string sum = reader.rows("SELECT sum(v) FROM t");
        reads.fetch_add(1);
        if (sum != "1000") bad[at] = sum;
      } while (!stop.load());
    });
  for (int round = 0; round < 150 * test_scale(); ++round) {
    const std::string amount = std::to_string(round % 17);
    ASSERT_EQ(db.exec("BEGIN; UPDATE t SET v = v - " + amount + " WHERE id = 1; UPDATE t SET v = v + " + amount +
                      " WHERE id = 2; COMMIT"),
              SQLITE_OK);
    if (round % 10 == 0)
      world.gate().foreign_commit("app.db", "UPDATE t SET v = v + 1 WHERE id = 1; UPDATE t SET v = v - 1 WHERE id = 2");
    world.settle();
    if (round % 25 == 0) db.rows("PRAGMA wal_checkpoint");
  }
  stop.store(true);
  for (std::thread& reader : readers) reader.join();
  for (const std::string& error : bad) EXPECT_EQ(error, "");
  EXPECT_GE(reads.load(), 3);
  world.expect_replay_equals_file("app.db");
}

TEST(ShimContention, StaleSnapshot_IsBusySnapshotAsInSqlite) {
  World world;
  Db a("app.db");
  Db b("app.db");
  ASSERT_EQ(a.exec("CREATE TABLE t(x)"), SQLITE_OK);
  ASSERT_EQ(a.exec("BEGIN; SELECT * FROM t"), SQLITE_OK);
  ASSERT_EQ(b.exec("INSERT INTO t VALUES (1)"), SQLITE_OK);
  EXPECT_EQ(a.exec("INSERT INTO t VALUES (2)"), SQLITE_BUSY_SNAPSHOT);
  ASSERT_EQ(a.exec("ROLLBACK"), SQLITE_OK);
  EXPECT_EQ(a.exec("INSERT INTO t VALUES (2)"), SQLITE_OK);
  EXPECT_EQ(world.gate().grants(), world.gate().releases());
}

// DESIGN 5.2: once by our busy handler, once by a driver's busy timeout.
TEST(ShimContention, OverdueTransaction_SaysSoAndTheWaiterGoesOn) {
  World world;
  Db open("app.db");
  ASSERT_EQ(open.exec("CREATE TABLE t(x)"), SQLITE_OK);
  const base::Error reason = base::make_error(Code::kLeaseLost, "open for longer than 7 ms (transaction_timeout_ms)");
  const auto doom = [&] {
    return world.database("app.db").doom_overdue_writer({base::posix_env().now() + base::kSecond, false}, reason);
  };
  for (const bool driver : {false, true}) {
    SCOPED_TRACE(driver);
    ASSERT_EQ(open.exec("BEGIN IMMEDIATE; INSERT INTO t VALUES (1)"), SQLITE_OK);
    EXPECT_FALSE(doom());
    int waiter_code = -1;
    std::thread waiter([&] {
      Db db("app.db");
      if (driver) sqlite3_busy_timeout(db.get(), 60000);
      waiter_code = db.exec("INSERT INTO t VALUES (2)");
    });
    const base::Micros deadline = base::posix_env().now() + 60 * base::kSecond;
    bool doomed = false;
    while (!doomed && base::posix_env().now() < deadline) {
      doomed = doom();
      std::this_thread::yield();
    }
    EXPECT_TRUE(doomed);
    EXPECT_EQ(open.exec("COMMIT"), code(SQLITE_IOERR, Code::kLeaseLost));
    EXPECT_EQ(vfs::last_error().message, reason.message);
    EXPECT_EQ(sqlite3_get_autocommit(open.get()), 1);
    waiter.join();
    EXPECT_EQ(waiter_code, SQLITE_OK);
  }
  EXPECT_EQ(open.rows("SELECT x FROM t"), "2\n2");
  EXPECT_EQ(world.gate().grants(), world.gate().releases());
  // Who has given up waiting does not count.
  ASSERT_EQ(open.exec("BEGIN IMMEDIATE; INSERT INTO t VALUES (3)"), SQLITE_OK);
  std::thread left([&] {
    Db db("app.db");
    sqlite3_busy_timeout(db.get(), 30);
    EXPECT_EQ(db.exec("INSERT INTO t VALUES (4)"), SQLITE_BUSY);
    EXPECT_FALSE(doom());
  });
  left.join();
  EXPECT_EQ(open.exec("COMMIT"), SQLITE_OK);
  world.expect_replay_equals_file("app.db");
}

// Doomed or committed, never both, at whatever moment of the commit the limit strikes.
TEST(ShimContention, OverdueInTheMiddleOfItsCommit_DoomedOrCommitted) {
  World world;
  Db db("app.db");
  ASSERT_EQ(db.exec("CREATE TABLE t(round, x)"), SQLITE_OK);
  const base::Error reason = base::make_error(Code::kLeaseLost, "too long");
  std::string expected;
  for (int round = 0; round < 60 * test_scale(); ++round) {
    const std::string number = std::to_string(round);
    ASSERT_EQ(db.exec("BEGIN IMMEDIATE; WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 150) "
                      "INSERT INTO t SELECT " +
                      number + ", randomblob(3000) FROM n"),
              SQLITE_OK);
    std::atomic<bool> committing{false};
    bool doomed = false;
    std::thread limit([&] {
      while (!committing.load()) std::this_thread::yield();
      const base::Micros moment = base::posix_env().now() + round % 20 * 100;
      while (base::posix_env().now() < moment) std::this_thread::yield();
      doomed = world.database("app.db").doom_overdue_writer({base::posix_env().now() + base::kSecond, true}, reason);
    });
    committing.store(true);
    const int rc = db.exec("COMMIT");
    limit.join();
    if (doomed) {
      EXPECT_EQ(rc, code(SQLITE_IOERR, Code::kLeaseLost)) << round;
    } else {
      EXPECT_EQ(rc, SQLITE_OK) << round << ": " << base::to_string(vfs::last_error());
    }
    if (rc == SQLITE_OK) expected += (expected.empty() ? "" : "\n") + number;
  }
  EXPECT_EQ(db.rows("SELECT DISTINCT round FROM t ORDER BY round"), expected);
  EXPECT_EQ(world.gate().grants(), world.gate().releases());
  world.expect_replay_equals_file("app.db");
}

TEST(ShimContention, SameThreadHoldsWriter_FailsAtOnce) {
  World world;
  Db a("app.db");
  Db b("app.db");
  ASSERT_EQ(a.exec("CREATE TABLE t(x); BEGIN IMMEDIATE"), SQLITE_OK);
  EXPECT_EQ(b.exec("BEGIN IMMEDIATE"), SQLITE_BUSY);  // our busy handler
  sqlite3_busy_timeout(b.get(), 60000);
  EXPECT_EQ(b.exec("BEGIN IMMEDIATE"), SQLITE_BUSY);  // a driver's timeout, run through without sleeping
  ASSERT_EQ(a.exec("COMMIT"), SQLITE_OK);
  EXPECT_EQ(b.exec("BEGIN IMMEDIATE; COMMIT"), SQLITE_OK);
}

// Connections of a pool: the thread that began a transaction is not the one that ends it.
TEST(ShimContention, TransactionThatMovedToAnotherThread_IsWaitedFor) {
  World world;
  Db a("app.db");
  Db b("app.db");
  std::thread([&] { EXPECT_EQ(a.exec("CREATE TABLE t(x)"), SQLITE_OK); }).join();
  for (const bool drivers_timeout : {false, true}) {
    SCOPED_TRACE(drivers_timeout ? "busy timeout" : "our busy handler");
    if (drivers_timeout) sqlite3_busy_timeout(b.get(), 60000);
    ASSERT_EQ(a.exec("BEGIN IMMEDIATE; INSERT INTO t VALUES (1)"), SQLITE_OK);
    std::promise<int> written;
    std::thread other([&, done = written.get_future()] {
      EXPECT_EQ(done.wait_for(std::chrono::milliseconds(50)), std::future_status::timeout) << "it did not wait";
      EXPECT_EQ(a.exec("COMMIT"), SQLITE_OK);
    });
    const int rc = b.exec("INSERT INTO t VALUES (2)");
    written.set_value(rc);
    other.join();
    EXPECT_EQ(rc, SQLITE_OK);
  }
  EXPECT_EQ(b.rows("SELECT count(*) FROM t"), "4");
}

TEST(ShimContention, UpgradeThatMeetsAWriter_IsBusyAtOnce) {
  World world;
  Db a("app.db");
  ASSERT_EQ(a.exec("CREATE TABLE t(x)"), SQLITE_OK);
  Db b("app.db");
  ASSERT_EQ(b.exec("BEGIN; SELECT * FROM t"), SQLITE_OK);
  std::thread holder([&] { ASSERT_EQ(a.exec("BEGIN IMMEDIATE"), SQLITE_OK); });
  holder.join();
  EXPECT_EQ(b.exec("INSERT INTO t VALUES (1)"), SQLITE_BUSY);
  ASSERT_EQ(a.exec("ROLLBACK"), SQLITE_OK);
  EXPECT_EQ(b.exec("INSERT INTO t VALUES (1); COMMIT"), SQLITE_OK);
}

// --- the lease --------------------------------------------------------------------------------------------------------

TEST(ShimLease, NotLeader_IsReadonlyAndTheReadTransactionLives) {
  World world;
  Db db("app.db");
  ASSERT_EQ(db.exec("CREATE TABLE t(x); INSERT INTO t VALUES (1)"), SQLITE_OK);
  for (const Code ours : {Code::kNotLeader, Code::kLearner}) {
    world.gate().lease([ours]() -> std::optional<base::Result<vfs::Grant>> {
      return base::Result<vfs::Grant>(base::make_error(ours, "write on node 2 (host:8200) or use hql_execute"));
    });
    EXPECT_EQ(db.exec("INSERT INTO t VALUES (2)"), code(SQLITE_READONLY, ours));
    EXPECT_EQ(vfs::last_error().message, "write on node 2 (host:8200) or use hql_execute");
    EXPECT_EQ(db.exec("BEGIN; SELECT * FROM t"), SQLITE_OK);
    EXPECT_EQ(db.exec("INSERT INTO t VALUES (2)"), code(SQLITE_READONLY, ours));
    EXPECT_EQ(db.rows("SELECT * FROM t"), "1");
    EXPECT_EQ(db.exec("COMMIT"), SQLITE_OK);
  }
  world.gate().lease({});
  EXPECT_EQ(db.exec("INSERT INTO t VALUES (2)"), SQLITE_OK);
}

// WRITER is taken before the lease is asked for: what dooms it there is nothing to the next transaction.
TEST(ShimLease, DoomedWhileTheLeaseIsRefused_NextWriteIsGood) {
  World world;
  Db db("app.db");
  ASSERT_EQ(db.exec("CREATE TABLE t(x)"), SQLITE_OK);
  const auto doom = [&world] {
    world.database("app.db").doom_local_writer(base::make_error(Code::kLeaseLost, "another node's came first"));
  };
  world.gate().lease([&]() -> std::optional<base::Result<vfs::Grant>> {
    doom();
    return base::Result<vfs::Grant>(base::make_error(Code::kNotLeader, "write on node 2"));
  });
  EXPECT_EQ(db.exec("INSERT INTO t VALUES (1)"), code(SQLITE_READONLY, Code::kNotLeader));
  world.gate().lease({});
  EXPECT_EQ(db.exec("INSERT INTO t VALUES (2)"), SQLITE_OK) << base::to_string(vfs::last_error());

  // Not answered at once: WRITER is given back meanwhile. The doom changed the header, so SQLite asks twice.
  std::atomic<int> asked{0};
  world.gate().lease([&]() -> std::optional<base::Result<vfs::Grant>> {
    if (asked.fetch_add(1) == 0) doom();
    return std::nullopt;
  });
  std::atomic<bool> done{false};
  std::thread leader([&] {
    while (!done.load()) {
      world.gate().grant_waiting();
      std::this_thread::yield();
    }
  });
  EXPECT_EQ(db.exec("INSERT INTO t VALUES (3)"), SQLITE_OK) << base::to_string(vfs::last_error());
  done.store(true);
  leader.join();
  EXPECT_EQ(db.rows("SELECT x FROM t"), "2\n3");
  world.expect_replay_equals_file("app.db");
}

TEST(ShimLease, NoQuorum_IsBusyWithOurNumberAndNotRetried) {
  World world;
  Db db("app.db");
  ASSERT_EQ(db.exec("CREATE TABLE t(x)"), SQLITE_OK);
  std::atomic<int> asked{0};
  world.gate().lease([&asked]() -> std::optional<base::Result<vfs::Grant>> {
    asked.fetch_add(1);
    return base::Result<vfs::Grant>(base::make_error(Code::kNoQuorum, "missing: node 2, node 3"));
  });
  EXPECT_EQ(db.exec("INSERT INTO t VALUES (2)"), code(SQLITE_BUSY, Code::kNoQuorum));
  EXPECT_EQ(asked.load(), 1);
  EXPECT_EQ(db.rows("SELECT count(*) FROM t"), "0");
}

TEST(ShimLease, LeaseElsewhere_IsAwaitedInsideTheUpgrade) {
  World world;
  Db db("app.db");
  ASSERT_EQ(db.exec("CREATE TABLE t(x)"), SQLITE_OK);
  std::atomic<int> asked{0};
  world.gate().lease([&asked]() -> std::optional<base::Result<vfs::Grant>> {
    asked.fetch_add(1);
    return std::nullopt;
  });
  std::thread leader([&] {
    EXPECT_TRUE(world.gate().await_waiting());
    world.gate().grant_waiting();
  });
  // SQLite calls no busy handler for this upgrade: one answer must be waited for.
  EXPECT_EQ(db.exec("BEGIN; SELECT * FROM t; INSERT INTO t VALUES (1); COMMIT"), SQLITE_OK);
  leader.join();
  EXPECT_EQ(asked.load(), 1);
}

TEST(ShimLease, GrantAfterTheWaiterLeft_IsGivenBack) {
  World world;
  Db db("app.db");
  ASSERT_EQ(db.exec("CREATE TABLE t(x)"), SQLITE_OK);
  world.gate().set_commit_timeout(30 * base::kMillisecond);
  world.gate().lease([]() -> std::optional<base::Result<vfs::Grant>> { return std::nullopt; });
  EXPECT_EQ(db.exec("INSERT INTO t VALUES (1)"), code(SQLITE_BUSY, Code::kNoQuorum));
  const int before = world.gate().releases();
  world.gate().grant_waiting();
  const base::Micros deadline = base::posix_env().now() + 5 * base::kSecond;
  while (world.gate().releases() == before && base::posix_env().now() < deadline) sched_yield();
  EXPECT_EQ(world.gate().releases(), before + 1);
  world.gate().lease({});
  world.gate().set_commit_timeout(5 * base::kSecond);
  EXPECT_EQ(db.exec("INSERT INTO t VALUES (1)"), SQLITE_OK);
}

TEST(ShimLease, GrantNamesAForeignCommit_SnapshotIsCompared) {
  World world;
  Db db("app.db");
  ASSERT_EQ(db.exec("CREATE TABLE t(x)"), SQLITE_OK);
  world.gate().lease([]() -> std::optional<base::Result<vfs::Grant>> { return std::nullopt; });
  ASSERT_EQ(db.exec("BEGIN; SELECT * FROM t"), SQLITE_OK);
  std::thread leader([&] {
    EXPECT_TRUE(world.gate().await_waiting());
    // Committed elsewhere, and applied here only while this connection waits.
    world.gate().foreign_commit("app.db", "INSERT INTO t VALUES (50)");
    world.gate().grant_waiting();
  });
  EXPECT_EQ(db.exec("INSERT INTO t VALUES (1)"), SQLITE_BUSY_SNAPSHOT);
  leader.join();
  ASSERT_EQ(db.exec("ROLLBACK"), SQLITE_OK);
  world.gate().lease({});
  EXPECT_EQ(db.exec("INSERT INTO t VALUES (1)"), SQLITE_OK);
  EXPECT_EQ(db.rows("SELECT x FROM t"), "50\n1");
  world.expect_replay_equals_file("app.db");
}

TEST(ShimLease, StopWhileWaiting_EndsTheWait) {
  World world;
  Db db("app.db");
  ASSERT_EQ(db.exec("CREATE TABLE t(x)"), SQLITE_OK);
  world.gate().set_commit_timeout(60 * base::kSecond);
  world.gate().lease([]() -> std::optional<base::Result<vfs::Grant>> { return std::nullopt; });
  std::thread stopper([&] {
    EXPECT_TRUE(world.gate().await_waiting());
    world.unbind();
  });
  EXPECT_EQ(db.exec("INSERT INTO t VALUES (1)"), code(SQLITE_MISUSE, Code::kStopped));
  stopper.join();
  world.gate().lease({});
}

// --- the executor and random work ---------------------------------------------------------------------------------------

TEST(ShimExecutor, MarkedConnection_CarriesTheRequestsInItsEntry) {
  World world;
  vfs::ExecutorMark mark;
  mark.requests = [] {
    pages::RequestRecord record;
    record.origin = {base::Incarnation(9), 2, 3};
    record.result = base::copy_of(base::view_of("one row"));
    return std::vector<pages::RequestRecord>{record};
  };
  std::unique_ptr<Db> executor;
  {
    vfs::ExecutorScope scope(&mark);
    executor = std::make_unique<Db>("app.db");
    ASSERT_EQ(executor->open_code(), SQLITE_OK);
  }
  Db local("app.db");
  ASSERT_EQ(executor->exec("CREATE TABLE t(x)"), SQLITE_OK);
  ASSERT_EQ(local.exec("INSERT INTO t VALUES (1)"), SQLITE_OK);
  ASSERT_EQ(executor->exec("BEGIN IMMEDIATE"), SQLITE_OK);
  EXPECT_EQ(world.database("app.db").status().writer, "executor");
  ASSERT_EQ(executor->exec("COMMIT"), SQLITE_OK);
  const auto entries = world.gate().committed("app.db");
  ASSERT_EQ(entries.size(), 2U);
  ASSERT_EQ(entries[0].requests.size(), 1U);
  EXPECT_EQ(entries[0].header.request_count, 1U);
  EXPECT_EQ(entries[0].requests[0].origin.sequence, 3U);
  EXPECT_TRUE(entries[1].requests.empty());
}

// Everything at once, and the entries still give the file: patches replayed on a copy are byte-identical.
TEST(ShimRandom, WorkloadWithFailuresAndCheckpoints_ReplayIsTheFile) {
  const int seeds = 2 * test_scale();
  for (int seed = 1; seed <= seeds; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(static_cast<unsigned>(seed));
    const auto pick = [&random](unsigned below) { return static_cast<int>(random() % below); };
    World world;
    world.gate().decide([&random](const pages::Tx&) -> std::optional<vfs::Outcome> {
      if (random() % 12 != 0) return std::nullopt;
      vfs::Outcome outcome;
      outcome.kind = random() % 2 == 0 ? vfs::OutcomeKind::kNotApplied : vfs::OutcomeKind::kUnknown;
      outcome.error = base::make_error(
          outcome.kind == vfs::OutcomeKind::kUnknown ? Code::kUnknownOutcome : Code::kNoQuorum, "by chance");
      return outcome;
    });
    Db a("file:app.db?vfs=hiqlite&page_size=1024&auto_vacuum=" + std::string(seed % 2 == 0 ? "full" : "none"));
    Db b("app.db");
    Db* const connections[] = {&a, &b};
    while (
        a.exec("CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, x BLOB); CREATE INDEX IF NOT EXISTS i ON t(x)") !=
        SQLITE_OK) {
    }
    a.exec("PRAGMA cache_size=8");
    for (int round = 0; round < 120; ++round) {
      Db& db = *connections[pick(2)];
      const std::string some = std::to_string(pick(200));
      const std::string size = std::to_string(pick(1500));
      const std::string statements[] = {
          "INSERT INTO t(x) VALUES (randomblob(" + size + "))",
          "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n<" + some +
              ") INSERT INTO t(x) SELECT randomblob(300) FROM c",
          "UPDATE t SET x = randomblob(" + size + ") WHERE id % 7 = " + std::to_string(pick(7)),
          "DELETE FROM t WHERE id % 5 = " + std::to_string(pick(5)),
          "BEGIN; UPDATE t SET x = zeroblob(40) WHERE id < " + some +
              "; SAVEPOINT s; DELETE FROM t; ROLLBACK TO s; INSERT INTO t(x) VALUES (1); COMMIT",
          "BEGIN; DELETE FROM t WHERE id > " + some + "; ROLLBACK",
          "CREATE TABLE IF NOT EXISTS u" + std::to_string(pick(3)) + "(y); DROP TABLE IF EXISTS u" +
              std::to_string(pick(3)),
      };
      db.exec(statements[pick(7)]);
      EXPECT_EQ(sqlite3_get_autocommit(db.get()), 1);
      if (pick(20) == 0) db.exec("VACUUM");
      if (pick(15) == 0) db.rows("PRAGMA wal_checkpoint(TRUNCATE)");
      if (pick(15) == 0) world.gate().foreign_commit("app.db", "INSERT INTO t(x) VALUES (randomblob(500))");
      world.settle();
    }
    EXPECT_EQ(a.rows("PRAGMA integrity_check"), "ok");
    EXPECT_EQ(b.rows("SELECT count(*) FROM t"), a.rows("SELECT count(*) FROM t"));
    world.expect_replay_equals_file("app.db");
  }
}

}  // namespace
}  // namespace shim_test

// Requests of different callers on one connection: none finds what another has left. Each is run as the executor runs it: in one open
// transaction, one of several statements in a savepoint.
#include "exec/statements.h"

#include <gtest/gtest.h>

#include "base/posix_env.h"

namespace exec {
namespace {

using base::Code;

class ClockGate final : public vfs::Gate {
 public:
  void acquire_lease(base::DatabaseId, std::function<void(base::Result<vfs::Grant>)>) override { std::abort(); }
  void release_lease(base::DatabaseId, base::LeaseId, base::LogId) override { std::abort(); }
  void submit(vfs::Submission, std::function<void(vfs::Outcome)>) override { std::abort(); }
  void create_database(pages::CreateDatabase, base::Micros,
                       std::function<void(base::Result<base::DatabaseId>)>) override {
    std::abort();
  }
  void barrier(base::Micros, std::function<void(base::Result<base::Index>)>) override { std::abort(); }
  void hold_log(std::function<void(base::Status)>) override { std::abort(); }
  void release_log() override { std::abort(); }
  bool log_synced() override { return true; }
  base::Micros now() override { return base::posix_env().now(); }
  base::Micros commit_timeout() override { return base::kSecond; }
};

struct Requests : ::testing::Test {
  Requests() {
    EXPECT_EQ(sqlite3_open_v2(":memory:", &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, nullptr), SQLITE_OK);
    statements = std::make_unique<Statements>(db, gate);
    EXPECT_EQ(statements->control("BEGIN IMMEDIATE"), SQLITE_OK);
    EXPECT_EQ(run({"CREATE TABLE t(id INTEGER PRIMARY KEY, x)"}), "");
  }
  ~Requests() override {
    statements.reset();
    EXPECT_EQ(sqlite3_close(db), SQLITE_OK);
  }
  // The rows of the last statement as JSON, or the error.
  std::string run(std::vector<std::string> sql, bool batch = false) {
    Request request;
    request.kind = batch ? RequestKind::kBatch : sql.size() == 1 ? RequestKind::kReturning : RequestKind::kTransaction;
    request.foreign_keys = foreign_keys ? 1 : 0;
    for (std::string& each : sql) request.statements.push_back({std::move(each), {}});
    sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_FKEY, int{foreign_keys}, nullptr);
    EXPECT_EQ(statements->control("SAVEPOINT hql_request"), SQLITE_OK);
    const auto answer = statements->run(request, gate.now() + 60 * base::kSecond);
    deferred = 0;
    int high = 0;
    sqlite3_db_status(db, SQLITE_DBSTATUS_DEFERRED_FKS, &deferred, &high, 0);
    if (!answer || deferred > 0) statements->control("ROLLBACK TO hql_request");
    EXPECT_EQ(statements->control("RELEASE hql_request"), SQLITE_OK);
    if (!answer) return base::to_string(answer.error());
    const std::string rows = answer->json;
    const auto at = rows.rfind("\"rows\":");
    if (request.kind == RequestKind::kReturning) return rows == "[]" ? "" : rows;
    return at == std::string::npos ? "" : rows.substr(at + 7, rows.size() - at - 9);
  }
  std::string temporary_objects() {
    sqlite3_stmt* raw = nullptr;
    EXPECT_EQ(sqlite3_prepare_v2(db, "SELECT group_concat(name) FROM sqlite_temp_master", -1, &raw, nullptr),
              SQLITE_OK);
    EXPECT_EQ(sqlite3_step(raw), SQLITE_ROW);
    const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(raw, 0));
    std::string names = text == nullptr ? "" : text;
    sqlite3_finalize(raw);
    return names;
  }

  ClockGate gate;
  sqlite3* db = nullptr;
  std::unique_ptr<Statements> statements;
  bool foreign_keys = false;
  int deferred = 0;
};

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST_F(Requests, TemporaryObjectInOneStatement_IsRefusedNamingTheFix) {
  for (const char* const sql :
       {"CREATE TEMP TABLE u(x)", "CREATE TABLE temp.u(x)", "CREATE TEMP TABLE u AS SELECT 1",
        "CREATE TEMP VIEW v AS SELECT 1", "CREATE TEMP TRIGGER r AFTER INSERT ON t BEGIN DELETE FROM t; END",
        "CREATE TRIGGER temp.r AFTER INSERT ON t BEGIN DELETE FROM t; END",
        "CREATE VIRTUAL TABLE temp.f USING fts5(a)"}) {
    SCOPED_TRACE(sql);
    const std::string error = run({sql});
    EXPECT_TRUE(has(error, "HQL_REFUSED")) << error;
    EXPECT_TRUE(has(error, "CREATE TEMP")) << error;
    EXPECT_TRUE(has(error, "hql_batch")) << error;
    EXPECT_EQ(temporary_objects(), "");
  }
  EXPECT_EQ(run({"CREATE INDEX i ON t(x)"}), "");
  EXPECT_EQ(run({"CREATE VIEW v AS SELECT x FROM t"}), "");
}

// Known from a request that may have it, and refused in one that may not; and made again by the next that may.
TEST_F(Requests, TemporaryObjectOfACachedStatement_IsRefusedAlone) {
  const std::vector<std::string> both = {"CREATE TEMP TABLE u AS SELECT 7 AS x", "SELECT x FROM u"};
  EXPECT_EQ(run(both), R"([{"x":7}])");
  EXPECT_TRUE(has(run({both[0]}), "HQL_REFUSED"));
  EXPECT_TRUE(has(run({both[1]}), "no such table"));
  EXPECT_EQ(run(both), R"([{"x":7}])");
  EXPECT_EQ(temporary_objects(), "");
}

TEST_F(Requests, TemporaryObjects_EndWithTheirRequest) {
  EXPECT_EQ(run({"CREATE TEMP TABLE u(x)", "INSERT INTO u VALUES (1), (2)", "INSERT INTO t(x) SELECT x FROM u",
                 "SELECT sum(x) AS s FROM t"}),
            R"([{"s":3}])");
  EXPECT_EQ(temporary_objects(), "");
  EXPECT_TRUE(has(run({"SELECT * FROM u"}), "no such table"));
  // One of everything, in one script: a view of a table, an index, a trigger on a table of the database, a virtual table, names
  // that need quoting.
  EXPECT_EQ(run({R"(CREATE TEMP TABLE "a "" b"(id INTEGER PRIMARY KEY, x);
                    CREATE INDEX temp.i ON "a "" b"(x);
                    CREATE TEMP VIEW v AS SELECT x FROM "a "" b";
                    CREATE TEMP TRIGGER r AFTER INSERT ON t BEGIN INSERT INTO "a "" b"(x) VALUES (new.x); END;
                    CREATE VIRTUAL TABLE temp.f USING fts5(a);
                    INSERT INTO f VALUES ('words');
                    INSERT INTO t(x) VALUES (9);
                    SELECT (SELECT x FROM v) AS x, (SELECT count(*) FROM f('words')) AS n)"},
                true),
            R"([{"x":9,"n":1}])");
  EXPECT_EQ(temporary_objects(), "");
  // The trigger fires for nobody else, the names are free.
  EXPECT_EQ(run({"INSERT INTO t(x) VALUES (10) RETURNING x"}), R"([{"x":10}])");
  EXPECT_EQ(run({"CREATE TEMP TABLE v(y)", "SELECT count(*) AS n FROM v"}), R"([{"n":0}])");
}

TEST_F(Requests, TemporaryObjectsOfAFailedRequest_EndWithIt) {
  EXPECT_TRUE(has(run({"CREATE TEMP TABLE u(x)", "INSERT INTO nowhere VALUES (1)"}), "no such table"));
  EXPECT_EQ(temporary_objects(), "");
}

TEST_F(Requests, TemporaryParentAndChild_EndWithForeignKeysOn) {
  foreign_keys = true;
  EXPECT_EQ(run({"CREATE TEMP TABLE child(p REFERENCES parent(id)); CREATE TEMP TABLE parent(id INTEGER PRIMARY KEY);"
                 "INSERT INTO parent VALUES (1); INSERT INTO child VALUES (1); SELECT p FROM child"},
                true),
            R"([{"p":1}])");
  EXPECT_EQ(temporary_objects(), "");
}

TEST_F(Requests, CountersOfTheConnection_BeginAtZero) {
  const std::string counters = "SELECT last_insert_rowid() AS r, changes() AS c, total_changes() AS t";
  EXPECT_EQ(run({"INSERT INTO t VALUES (41, 1), (42, 1)"}), "");
  EXPECT_EQ(run({counters}), R"([{"r":0,"c":0,"t":0}])");
  EXPECT_EQ(run({"INSERT INTO t VALUES (43, 1)", "UPDATE t SET x = 2", counters}), R"([{"r":43,"c":3,"t":4}])");
  EXPECT_EQ(run({"UPDATE t SET x = 2", "UPDATE t SET x = 3 WHERE id = 0", counters}), R"([{"r":0,"c":0,"t":3}])");
  EXPECT_EQ(run({"UPDATE t SET x = 3 WHERE id = 0", counters}), R"([{"r":0,"c":0,"t":0}])");
  // In a trigger as SQLite has it: what the trigger's own statement did.
  EXPECT_EQ(run({"CREATE TABLE seen(c)"}), "");
  EXPECT_EQ(run({"CREATE TRIGGER r AFTER DELETE ON t WHEN old.id = 41 BEGIN UPDATE t SET x = 4; INSERT INTO seen "
                 "SELECT changes(); END"}),
            "");
  EXPECT_EQ(run({"DELETE FROM t WHERE id = 41", "SELECT c FROM seen"}), R"([{"c":2}])");
}

TEST_F(Requests, DeferredForeignKeys_AreOneRequests) {
  EXPECT_EQ(run({"CREATE TABLE child(p INTEGER REFERENCES t(id))"}), "");
  foreign_keys = true;
  const std::vector<std::string> late = {"PRAGMA defer_foreign_keys = ON",
                                         "INSERT INTO child VALUES (5)",
                                         "INSERT INTO t VALUES (5, 0)",
                                         "DELETE FROM child",
                                         "DELETE FROM t",
                                         "SELECT count(*) AS n FROM t"};
  const std::vector<std::string> now = {"INSERT INTO child VALUES (6)", "INSERT INTO t VALUES (6, 0)", "DELETE FROM t"};
  for (int round = 0; round < 3; ++round) {  // also when the pragma comes from the cache
    EXPECT_EQ(run(late), R"([{"n":0}])");
    EXPECT_TRUE(has(run(now), "FOREIGN KEY")) << round;
  }
  // A violation that is left is still seen by the executor.
  EXPECT_EQ(run({"PRAGMA defer_foreign_keys = ON", "INSERT INTO child VALUES (7)"}), "");
  EXPECT_GT(deferred, 0);
}

TEST_F(Requests, WhatStaysOnTheConnection_IsRefused) {
  for (const char* const sql :
       {"ATTACH ':memory:' AS other", "PRAGMA foreign_keys = ON", "PRAGMA recursive_triggers = ON",
        "PRAGMA temp_store = 2", "PRAGMA case_sensitive_like = ON", "PRAGMA writable_schema = ON",
        "PRAGMA encoding = 'UTF-16'", "PRAGMA page_size = 8192", "SELECT load_extension('x')"}) {
    SCOPED_TRACE(sql);
    EXPECT_TRUE(has(run({sql}), "HQL_REFUSED"));
  }
  EXPECT_EQ(run({"PRAGMA encoding"}), R"([{"encoding":"UTF-8"}])");
}

// Each ends before its progress is looked at.
TEST_F(Requests, ScriptOfShortStatements_EndsAtItsDeadlineOrInterrupt) {
  std::string script;
  for (int i = 0; i < 20000; ++i) script += "UPDATE t SET x = " + std::to_string(i) + ";";
  Request request;
  request.kind = RequestKind::kBatch;
  request.statements.push_back({script, {}});
  const auto late = statements->run(request, gate.now() + base::kMillisecond);
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code, Code::kTimeout) << late.error().message;
  statements->interrupt();
  const auto stopped = statements->run(request, gate.now() + 60 * base::kSecond);
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().code, Code::kInterrupted) << stopped.error().message;
  statements->clear_interrupt();
  request.kind = RequestKind::kTransaction;
  request.statements.assign(2, {"SELECT 1", {}});
  EXPECT_EQ(statements->run(request, gate.now() - 1).error().code, Code::kTimeout);
}

TEST_F(Requests, RowsOfAllItsStatements_HaveOneLimit) {
  const std::string rows = "SELECT hex(zeroblob(1500000)) FROM (SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3)";
  EXPECT_GT(run({rows, rows}).size(), std::size_t{9000000});
  const std::string refused = "hiqlite: HQL_TOO_LARGE: the rows of one request are limited to 32 MiB of JSON";
  EXPECT_EQ(run({rows, rows, rows, rows}), refused);
  EXPECT_EQ(run({rows + ";" + rows + ";" + rows + ";" + rows}, true), refused);
}

// The tables that SQLite makes for them cannot be dropped, and would hide those of the database.
TEST_F(Requests, TablesOfSqliteInTemp_AreRefused) {
  const std::string table = "CREATE TEMP TABLE s(id INTEGER PRIMARY KEY AUTOINCREMENT)";
  EXPECT_TRUE(has(run({table, "INSERT INTO s VALUES (5)"}), "HQL_REFUSED: AUTOINCREMENT in a temporary table"));
  EXPECT_TRUE(has(run({table + "; INSERT INTO s VALUES (5)"}, true), "HQL_REFUSED: AUTOINCREMENT"));
  EXPECT_TRUE(
      has(run({"CREATE TEMP TABLE s(a); CREATE INDEX temp.i ON s(a); INSERT INTO s VALUES (1); ANALYZE temp.s"}, true),
          "HQL_REFUSED: AUTOINCREMENT in a temporary table and ANALYZE"));
  EXPECT_EQ(temporary_objects(), "");
  EXPECT_EQ(run({"CREATE TABLE o(id INTEGER PRIMARY KEY AUTOINCREMENT)", "INSERT INTO o VALUES (7)",
                 "SELECT seq FROM sqlite_sequence"}),
            R"([{"seq":7}])");
}

TEST_F(Requests, ZeroByteInTheText_IsRefused) {
  const std::string text = std::string("INSERT INTO t VALUES (1, 1);") + '\0' + "INSERT INTO t VALUES (2, 2)";
  const std::string refused =
      "hiqlite: HQL_ARGUMENT: the SQL text has a zero byte, behind 28 others: pass such a value as a parameter";
  EXPECT_EQ(run({text}, true), refused);
  EXPECT_EQ(run({text}), refused);
  EXPECT_EQ(run({"SELECT count(*) AS n FROM t"}), R"([{"n":0}])");
}

// A dump's INSERT takes ten times its text while it is compiled, and never comes again.
TEST_F(Requests, LongStatements_AreNotKept) {
  const sqlite3_int64 before = sqlite3_memory_used();
  for (int i = 0; i < 20; ++i)
    EXPECT_EQ(run({"SELECT length('" + std::string(200000 + i, 'x') + "') AS n"}),
              "[{\"n\":" + std::to_string(200000 + i) + "}]");
  EXPECT_LT(sqlite3_memory_used() - before, sqlite3_int64{1} << 20);
}

}  // namespace
}  // namespace exec

// The executor (DESIGN 5.3) on real SQLite, over a node without a log (tests/vfs/shim_world.h): what a batch leaves in the entry, in the
// database and in the hands of its callers.
#include "exec/executor.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "exec/request.h"
#include "tests/vfs/shim_world.h"

namespace exec {
namespace {

using node::BatchResult;
using node::ExecuteRequest;
using shim_test::Db;
using shim_test::World;
using vfs::OutcomeKind;

Request execute(const std::string& sql, std::vector<Value> params = {}) {
  return {RequestKind::kExecute, 0, 0, {{sql, std::move(params)}}};
}
Request insert(std::int64_t id) { return execute("INSERT INTO t VALUES (?1)", {id}); }

class ExecutorTest : public ::testing::Test {
 protected:
  ExecutorTest() : db_("app.db") {
    EXPECT_EQ(db_.exec("CREATE TABLE t(id INTEGER PRIMARY KEY)"), SQLITE_OK) << base::to_string(vfs::last_error());
    ExecutorParams params;
    params.gate = &world_.gate();
    params.loop = &world_.loop();
    params.node = base::NodeId(1);
    factory_ = make_executors(params);
    executor_ = factory_->make("app.db", base::DatabaseId(1));
  }

  // Runs the batch to its end; the origins are numbered from 1.
  BatchResult run(const std::vector<Request>& requests) {
    std::vector<ExecuteRequest> batch;
    for (const Request& request : requests) batch.push_back({origin(batch.size() + 1), encode(request)});
    return run_raw(std::move(batch));
  }
  BatchResult run_raw(std::vector<ExecuteRequest> batch) {
    const std::size_t count = batch.size();
    std::promise<BatchResult> ended;
    executor_->run(std::move(batch), [&ended](BatchResult result) { ended.set_value(std::move(result)); });
    BatchResult result = ended.get_future().get();
    EXPECT_EQ(result.results.size(), count);
    for (std::size_t i = 0; i < result.results.size(); ++i) EXPECT_EQ(result.results[i].origin, origin(i + 1));
    return result;
  }
  static base::Origin origin(std::size_t number) { return {base::Incarnation(9), 1, number}; }

  // Rows changed, or the text of the error.
  static std::string said(const BatchResult& result, std::size_t at) {
    const auto& body = result.results.at(at).body;
    if (!body) return body.error().message;
    const auto answer = decode_answer(*body);
    return answer ? std::to_string(answer->rows_changed) + answer->json : "undecodable";
  }
  std::size_t entries() { return world_.gate().committed("app.db").size(); }
  // Numbers of the requests that the last entry answers.
  std::set<std::uint64_t> answered() {
    std::set<std::uint64_t> out;
    const std::vector<pages::Tx> all = world_.gate().committed("app.db");
    for (const pages::RequestRecord& record : all.back().requests) {
      EXPECT_TRUE(decode_answer(record.result));
      EXPECT_TRUE(out.insert(record.origin.sequence).second);
    }
    return out;
  }
  std::string ids() { return db_.rows("SELECT group_concat(id) FROM (SELECT id FROM t ORDER BY id)"); }

  World world_;
  Db db_;
  std::unique_ptr<node::ExecutorFactory> factory_;
  std::unique_ptr<node::Executor> executor_;
};

TEST_F(ExecutorTest, ManyRequests_AreOneEntryThatNamesEach) {
  constexpr std::size_t kCount = 200;
  const std::size_t before = entries();
  std::vector<Request> requests;
  for (std::size_t i = 1; i <= kCount; ++i) requests.push_back(insert(static_cast<std::int64_t>(i)));
  const BatchResult result = run(requests);
  EXPECT_EQ(result.outcome.kind, OutcomeKind::kCommitted);
  EXPECT_TRUE(result.changed);
  for (std::size_t i = 0; i < kCount; ++i) EXPECT_EQ(said(result, i), "1");
  EXPECT_EQ(entries(), before + 1);
  EXPECT_EQ(answered().size(), kCount);
  EXPECT_EQ(db_.rows("SELECT count(*), sum(id) FROM t"), "200|20100");
}

// Each caller gets its own error, and the entry answers only those that it carries.
TEST_F(ExecutorTest, FailedRequests_LeaveTheOthersAlone) {
  const std::size_t before = entries();
  std::vector<ExecuteRequest> batch;
  for (const Request& request : {insert(1), insert(1), execute("INSERT INTO missing VALUES (1)"), insert(2)})
    batch.push_back({origin(batch.size() + 1), encode(request)});
  batch.push_back({origin(5), base::Bytes(3, std::byte{0xff})});  // hostile
  batch.push_back({origin(6), encode(insert(3))});
  const BatchResult result = run_raw(std::move(batch));
  EXPECT_EQ(result.outcome.kind, OutcomeKind::kCommitted);
  EXPECT_EQ(said(result, 0), "1");
  EXPECT_EQ(said(result, 1), "UNIQUE constraint failed: t.id");
  EXPECT_EQ(said(result, 2), "no such table: missing");
  EXPECT_EQ(said(result, 3), "1");
  EXPECT_FALSE(result.results[4].body);
  EXPECT_EQ(said(result, 5), "1");
  EXPECT_EQ(entries(), before + 1);
  EXPECT_EQ(answered(), (std::set<std::uint64_t>{1, 4, 6}));
  EXPECT_EQ(ids(), "1,2,3");
}

// SQLite would take the memory for it first.
TEST_F(ExecutorTest, ValueBeyondATransactionsSize_FailsItsRequestAlone) {
  const BatchResult result = run({insert(1), execute("INSERT INTO t SELECT length(zeroblob(300000000))"), insert(2)});
  EXPECT_EQ(said(result, 1), "string or blob too big");
  EXPECT_EQ(ids(), "1,2");
}

// OR ROLLBACK ends the transaction of all: the others are run again, in one entry still.
TEST_F(ExecutorTest, OrRollback_EndsOnlyItself) {
  const std::size_t before = entries();
  const BatchResult result = run({insert(1), insert(2), execute("INSERT OR ROLLBACK INTO t VALUES (1)"), insert(3)});
  EXPECT_EQ(result.outcome.kind, OutcomeKind::kCommitted);
  EXPECT_EQ(said(result, 2), "UNIQUE constraint failed: t.id");
  for (const std::size_t at : {0u, 1u, 3u}) EXPECT_EQ(said(result, at), "1");
  EXPECT_EQ(entries(), before + 1);
  EXPECT_EQ(answered(), (std::set<std::uint64_t>{1, 2, 4}));
  EXPECT_EQ(ids(), "1,2,3");
}

// OR FAIL keeps what it did before the failure; a request that failed leaves nothing.
TEST_F(ExecutorTest, OrFail_LeavesNothingBehind) {
  const BatchResult result = run({insert(1), execute("INSERT OR FAIL INTO t VALUES (7), (1), (8)"), insert(2)});
  EXPECT_EQ(result.outcome.kind, OutcomeKind::kCommitted);
  EXPECT_EQ(said(result, 1), "UNIQUE constraint failed: t.id");
  EXPECT_EQ(answered(), (std::set<std::uint64_t>{1, 3}));
  EXPECT_EQ(ids(), "1,2");
}

// SQLite forgets what a trigger has changed when its statement fails.
TEST_F(ExecutorTest, OrFailInATrigger_LeavesNothingBehind) {
  ASSERT_EQ(db_.exec("CREATE VIEW v AS SELECT 1 AS x"), SQLITE_OK);
  ASSERT_EQ(db_.exec("CREATE TRIGGER r INSTEAD OF INSERT ON v BEGIN INSERT OR FAIL INTO t VALUES (7), (1), (8); END"),
            SQLITE_OK);
  for (int round = 1; round <= 2; ++round) {  // compiled, then from the cache
    const BatchResult result =
        run({insert(round == 1 ? 1 : 3), execute("INSERT INTO v VALUES (1)"), insert(1 + round * 3)});
    EXPECT_EQ(result.outcome.kind, OutcomeKind::kCommitted);
    EXPECT_EQ(said(result, 1), "UNIQUE constraint failed: t.id");
    EXPECT_EQ(answered(), (std::set<std::uint64_t>{1, 3}));
    EXPECT_EQ(ids(), round == 1 ? "1,4" : "1,3,4,7");
  }
}

TEST_F(ExecutorTest, DeferredForeignKey_FailsItsOwnRequest) {
  ASSERT_EQ(db_.exec("CREATE TABLE c(id REFERENCES t(id) DEFERRABLE INITIALLY DEFERRED)"), SQLITE_OK);
  Request orphan = execute("INSERT INTO c VALUES (99)");
  orphan.foreign_keys = 1;
  const BatchResult result = run({insert(1), orphan, insert(2), execute("INSERT INTO c VALUES (98)")});
  EXPECT_EQ(result.outcome.kind, OutcomeKind::kCommitted);
  EXPECT_EQ(said(result, 1), "FOREIGN KEY constraint failed");
  EXPECT_EQ(said(result, 3), "1") << "its caller does not enforce foreign keys";
  EXPECT_EQ(answered(), (std::set<std::uint64_t>{1, 3, 4}));
  EXPECT_EQ(ids(), "1,2");
  EXPECT_EQ(db_.rows("SELECT group_concat(id) FROM c"), "98");
}

TEST_F(ExecutorTest, Transaction_IsAllOrNothing) {
  Request good{RequestKind::kTransaction, 0, 0, {{"INSERT INTO t VALUES (1)", {}}, {"INSERT INTO t VALUES (2)", {}}}};
  Request bad{RequestKind::kTransaction, 0, 0, {{"INSERT INTO t VALUES (3)", {}}, {"INSERT INTO t VALUES (1)", {}}}};
  const BatchResult result = run({good, bad});
  EXPECT_EQ(result.outcome.kind, OutcomeKind::kCommitted);
  EXPECT_TRUE(result.results[0].body);
  EXPECT_FALSE(result.results[1].body);
  EXPECT_EQ(ids(), "1,2");
}

TEST_F(ExecutorTest, BatchThatOnlyReads_MakesNoEntry) {
  ASSERT_EQ(run({insert(5)}).outcome.kind, OutcomeKind::kCommitted);
  const std::size_t before = entries();
  Request query{RequestKind::kReturning, 0, 0, {{"SELECT id FROM t", {}}}};
  const BatchResult result = run({query, execute("DELETE FROM t WHERE id = 6")});
  EXPECT_EQ(result.outcome.kind, OutcomeKind::kNotApplied);
  EXPECT_EQ(result.outcome.error.message, "");
  EXPECT_FALSE(result.changed);
  EXPECT_GT(result.snapshot.index, base::Index{0});
  EXPECT_EQ(said(result, 0), "0[{\"id\":5}]");
  EXPECT_EQ(said(result, 1), "0");
  EXPECT_EQ(entries(), before);
}

// What the log did not take, or may not have taken, nobody is told to have happened, and it is not in the database; the next batch is.
TEST_F(ExecutorTest, BatchThatIsNotCommitted_AnswersNobody) {
  const std::vector<std::pair<OutcomeKind, base::Code>> outcomes = {
      {OutcomeKind::kUnknown, base::Code::kUnknownOutcome}, {OutcomeKind::kNotApplied, base::Code::kNoQuorum}};
  std::int64_t number = 0;
  for (const auto& [kind, code] : outcomes) {
    const std::size_t before = entries();
    world_.gate().fail_all(kind, code, "on purpose");
    const BatchResult failed = run({insert(100), insert(101)});
    EXPECT_EQ(failed.outcome.kind, kind);
    EXPECT_TRUE(failed.changed);
    for (const auto& each : failed.results) {
      ASSERT_FALSE(each.body);
      EXPECT_EQ(each.body.error().code, code);
    }
    world_.gate().commit_all();
    EXPECT_EQ(entries(), before);
    EXPECT_EQ(run({insert(++number)}).outcome.kind, OutcomeKind::kCommitted);
    EXPECT_EQ(entries(), before + 1);
  }
  EXPECT_EQ(ids(), "1,2");
}

// The first batch may come when the node is being stopped. An open that starts a node would wait for the end of that stop, and the stop for
// the executor.
TEST_F(ExecutorTest, OpenWhileTheNodeStops_StartsNoNode) {
  std::atomic<int> starts = 0;
  vfs::set_autostart([&starts]() -> base::Status {
    ++starts;
    return base::ok();
  });
  world_.unbind();
  const BatchResult result = run({insert(1)});
  vfs::set_autostart({});
  EXPECT_EQ(result.outcome.kind, OutcomeKind::kNotApplied);
  EXPECT_FALSE(result.results[0].body);
  EXPECT_EQ(starts, 0);
}

}  // namespace
}  // namespace exec

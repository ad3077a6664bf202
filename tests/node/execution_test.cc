// Execution alone: what the leader does with forwarded requests when creation, the read index or a database fails it, and what it keeps of
// its answers (DESIGN 5.3, R7). Time, ledger and executor are the test's.
#include "node/execution.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "node/first_page.h"

namespace node {
namespace {

using base::Code;
using base::DatabaseId;
using base::Index;
using base::kSecond;

const base::Incarnation kOrigin{77};
const base::Term kTerm{1};

// Runs nothing: the test says what became of a batch.
class ScriptedExecutor : public Executor {
 public:
  struct Run {
    std::vector<ExecuteRequest> batch;
    std::function<void(BatchResult)> done;
  };
  explicit ScriptedExecutor(std::deque<Run>& runs) : runs_(runs) {}
  void run(std::vector<ExecuteRequest> batch, std::function<void(BatchResult)> done) override {
    runs_.push_back({std::move(batch), std::move(done)});
  }
  void pause(std::function<void()> done) override { done(); }
  void interrupt() override {}

 private:
  std::deque<Run>& runs_;
};

class ExecutionTest : public ::testing::Test, public ExecutorFactory {
 protected:
  ExecutionTest() {
    append(base::EntryKind::kNoop, nullptr);
    execution_.activate(kTerm);
  }
  std::unique_ptr<Executor> make(const std::string&, DatabaseId) override {
    return std::make_unique<ScriptedExecutor>(runs_);
  }
  Execution::Hooks hooks() {
    Execution::Hooks out;
    out.now = [this] { return now_; };
    out.ledger = [this]() -> const Ledger& { return ledger_; };
    out.ready = [this](DatabaseId) { return ready_; };
    out.stopped = [this](DatabaseId) { return stopped_; };
    out.create = [this](const std::string& name) -> base::Status {
      creates_.push_back(name);
      return create_answer_;
    };
    out.read_index = [this](auto done) { reads_.push_back(std::move(done)); };
    out.may_take = [] { return base::ok(); };
    out.after = [this](base::Micros, base::Task task) { tasks_.push_back(std::move(task)); };
    out.retire = [](const std::shared_ptr<Executor>&) {};
    return out;
  }
  Decision append(base::EntryKind kind, base::SharedBytes payload) {
    return ledger_.decide({{kTerm, ledger_.at().index.next()}, kind, std::move(payload)});
  }
  DatabaseId create(const std::string& name) {
    const auto payload = base::share(pages::encode(empty_database(name, {kOrigin, 1, 1000}, {})));
    return append(base::EntryKind::kData, payload).db;
  }
  void take(std::uint64_t sequence, const std::string& database = "app.db", std::uint64_t lowest_pending = 1,
            std::uint32_t timeout_ms = 10'000) {
    Forward forward;
    forward.term = kTerm;
    forward.origin = {kOrigin, 1, sequence};
    forward.lowest_pending = lowest_pending;
    forward.timeout_ms = timeout_ms;
    forward.database = database;
    forward.body = base::Bytes(4);
    execution_.take(std::move(forward), [this](const ForwardReply& reply) { answers_[reply.origin.sequence] = reply; });
  }
  // The batch at the front ends without an entry: it saw everything, and every request has an answer of `size` bytes.
  void end_unchanged(std::size_t size) {
    ASSERT_FALSE(runs_.empty());
    ScriptedExecutor::Run run = std::move(runs_.front());
    runs_.pop_front();
    run.done(result(run, vfs::OutcomeKind::kNotApplied, {}, size));
  }
  void end_committed(std::size_t size) {
    ASSERT_FALSE(runs_.empty());
    ScriptedExecutor::Run run = std::move(runs_.front());
    runs_.pop_front();
    run.done(result(run, vfs::OutcomeKind::kCommitted, ledger_.at(), size));
  }
  BatchResult result(const ScriptedExecutor::Run& run, vfs::OutcomeKind kind, base::LogId id, std::size_t size) {
    BatchResult out;
    out.outcome = {kind, id, {}};
    out.changed = kind == vfs::OutcomeKind::kCommitted;
    out.snapshot = ledger_.at();
    for (const ExecuteRequest& request : run.batch) out.results.push_back({request.origin, base::Bytes(size)});
    return out;
  }
  void answer_read(base::Result<Index> answer) {
    ASSERT_FALSE(reads_.empty());
    const auto done = std::move(reads_.front());
    reads_.pop_front();
    done(std::move(answer));
  }
  void run_tasks() {
    for (base::Task& task : std::exchange(tasks_, {})) task();
  }
  bool answered(std::uint64_t sequence) const { return answers_.count(sequence) != 0; }

  base::Micros now_ = kSecond;
  Ledger ledger_;
  bool ready_ = true;
  std::optional<base::Error> stopped_;
  base::Status create_answer_ = base::ok();
  std::vector<std::string> creates_;
  std::deque<std::function<void(base::Result<Index>)>> reads_;
  std::vector<base::Task> tasks_;
  std::deque<ScriptedExecutor::Run> runs_;
  std::map<std::uint64_t, ForwardReply> answers_;  // the last one of each sequence
  Execution execution_{*this, hooks()};
};

TEST_F(ExecutionTest, CreationRefusedOnce_IsAskedForAgain) {
  create_answer_ = base::make_error(Code::kNotLeader, "leadership is being handed over");
  take(1);
  ASSERT_EQ(creates_.size(), 1u);
  create_answer_ = base::ok();
  execution_.tick();
  ASSERT_EQ(creates_.size(), 2u);
  create("app.db");
  execution_.progressed();
  ASSERT_EQ(runs_.size(), 1u);
  end_committed(8);
  EXPECT_EQ(answers_.at(1).verdict, ForwardVerdict::kDone);
}

TEST_F(ExecutionTest, CreationThatTimedOut_SaysWhyAndTheNextStatementAsksAnew) {
  create_answer_ = base::make_error(Code::kNotLeader, "leadership is being handed over");
  take(1);
  now_ += 11 * kSecond;
  execution_.tick();
  ASSERT_TRUE(answered(1));
  EXPECT_EQ(answers_.at(1).verdict, ForwardVerdict::kRefused);
  EXPECT_EQ(answers_.at(1).error.code, Code::kTimeout);
  EXPECT_NE(answers_.at(1).error.message.find("leadership is being handed over"), std::string::npos);
  creates_.clear();
  execution_.tick();
  EXPECT_TRUE(creates_.empty());  // nobody waits for it
  create_answer_ = base::ok();
  take(2);
  EXPECT_EQ(creates_, std::vector<std::string>{"app.db"});
}

// Behind a statement with much time one with little: each is told at its own deadline.
TEST_F(ExecutionTest, WaitingForACreation_EachEndsAtItsOwnDeadline) {
  take(1, "app.db", 1, 60'000);
  take(2, "app.db", 1, 1'000);
  now_ += 2 * kSecond;
  execution_.tick();
  EXPECT_FALSE(answered(1));
  ASSERT_TRUE(answered(2));
  EXPECT_EQ(answers_.at(2).error.code, Code::kTimeout);
}

TEST_F(ExecutionTest, ReadIndexFailedWithinTheTerm_BatchRunsAgain) {
  create("app.db");
  take(1);
  end_unchanged(8);
  answer_read(base::make_error(Code::kNoQuorum, "no leader confirmed the read"));
  EXPECT_FALSE(answered(1));
  run_tasks();
  ASSERT_EQ(runs_.size(), 1u);
  end_unchanged(8);
  answer_read(ledger_.at().index);
  ASSERT_TRUE(answered(1));
  EXPECT_EQ(answers_.at(1).verdict, ForwardVerdict::kDone);
}

TEST_F(ExecutionTest, ReadIndexFailedAfterTheTerm_AnswersNothing) {
  create("app.db");
  take(1);
  end_unchanged(8);
  execution_.activate(kTerm.next());
  answer_read(base::make_error(Code::kNoQuorum, "no leader confirmed the read"));
  run_tasks();
  EXPECT_FALSE(answered(1));
  EXPECT_TRUE(runs_.empty());
}

TEST_F(ExecutionTest, ReadIndexFailedAndDatabaseDropped_IsRefused) {
  const DatabaseId db = create("app.db");
  take(1);
  end_unchanged(8);
  pages::DropDatabase drop;
  drop.db = db;
  drop.name = "app.db";
  append(base::EntryKind::kData, base::share(pages::encode(drop)));
  execution_.dropped(db);
  answer_read(base::make_error(Code::kNoQuorum, "no leader confirmed the read"));
  ASSERT_TRUE(answered(1));
  EXPECT_EQ(answers_.at(1).error.code, Code::kDropped);
}

TEST_F(ExecutionTest, StoppedDatabase_RefusesByName_WaitingAndNew) {
  create("app.db");
  ready_ = false;
  take(1);
  execution_.progressed();
  EXPECT_FALSE(answered(1));  // not yet open
  stopped_ = base::make_error(Code::kDiverged, "database app.db has stopped here");
  execution_.progressed();
  take(2);
  for (const std::uint64_t sequence : {1, 2}) {
    ASSERT_TRUE(answered(sequence));
    EXPECT_EQ(answers_.at(sequence).verdict, ForwardVerdict::kRefused);
    EXPECT_EQ(answers_.at(sequence).error.code, Code::kDiverged);
  }
}

// It stopped while it was being made.
TEST_F(ExecutionTest, DatabaseStoppedAtItsCreation_RefusesWhoWaitsForIt) {
  take(1);
  create("app.db");
  ready_ = false;
  stopped_ = base::make_error(Code::kDiverged, "database app.db has stopped here");
  execution_.progressed();
  ASSERT_TRUE(answered(1));
  EXPECT_EQ(answers_.at(1).error.code, Code::kDiverged);
}

TEST_F(ExecutionTest, WaitingForADatabaseThatDoesNotOpen_EndsAtTheDeadline) {
  create("app.db");
  ready_ = false;
  take(1);
  take(2, "app.db", 1, 60'000);
  now_ += 11 * kSecond;
  execution_.tick();
  ASSERT_TRUE(answered(1));
  EXPECT_EQ(answers_.at(1).verdict, ForwardVerdict::kRefused);
  EXPECT_EQ(answers_.at(1).error.code, Code::kTimeout);
  EXPECT_FALSE(answered(2));
  ready_ = true;
  execution_.progressed();
  ASSERT_EQ(runs_.size(), 1u);
  ASSERT_EQ(runs_.front().batch.size(), 1u);
  EXPECT_EQ(runs_.front().batch.front().origin.sequence, 2u);
}

// While an early statement of an origin is open, its later answers cannot be dropped by number.
TEST_F(ExecutionTest, LargeAnswers_AreKeptWithinABudgetAndNeverRunAgain) {
  constexpr std::size_t kLarge = std::size_t{1} << 20;
  constexpr std::uint64_t kCount = 200;  // over twice the budget
  create("app.db");
  create("slow.db");
  take(1, "slow.db");
  const ScriptedExecutor::Run open = std::move(runs_.front());
  runs_.pop_front();
  std::size_t most = 0;
  for (std::uint64_t sequence = 2; sequence < 2 + kCount; ++sequence) {
    take(sequence);
    if (sequence % 2 == 0) {
      end_unchanged(kLarge);
      answer_read(ledger_.at().index);
    } else {
      end_committed(kLarge);
    }
    ASSERT_EQ(answers_.at(sequence).body.size(), kLarge);
    most = std::max(most, execution_.kept_bytes());
  }
  EXPECT_LE(most, Execution::kAnswerBytesMax);
  EXPECT_GT(most, Execution::kAnswerBytesMax / 2);
  // The newest is there.
  answers_.clear();
  take(1 + kCount);
  EXPECT_EQ(answers_.at(1 + kCount).body.size(), kLarge);
  // An old one that changed nothing is refused, an old one that is in the log is left to the log. Neither runs again.
  take(2);
  EXPECT_EQ(answers_.at(2).verdict, ForwardVerdict::kRefused);
  EXPECT_EQ(answers_.at(2).term, kTerm);
  EXPECT_EQ(answers_.at(2).error.code, Code::kBusy);
  take(3);
  EXPECT_EQ(answers_.at(3).verdict, ForwardVerdict::kNotYours);
  EXPECT_TRUE(runs_.empty());
  // Small ones stay whatever the large ones do.
  take(2 + kCount);
  end_unchanged(8);
  answer_read(ledger_.at().index);
  for (std::uint64_t sequence = 3 + kCount; sequence < 3 + 2 * kCount; ++sequence) {
    take(sequence);
    end_committed(kLarge);
  }
  answers_.clear();
  take(2 + kCount);
  EXPECT_EQ(answers_.at(2 + kCount).verdict, ForwardVerdict::kDone);
  EXPECT_EQ(answers_.at(2 + kCount).body.size(), 8u);
  // Nobody waits for any of them any more.
  open.done(result(open, vfs::OutcomeKind::kCommitted, ledger_.at(), 8));
  take(3 + 2 * kCount, "app.db", 3 + 2 * kCount);
  EXPECT_EQ(execution_.kept_bytes(), 0u);
}

}  // namespace
}  // namespace node

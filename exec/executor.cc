// One executor per database. A batch:
//   BEGIN IMMEDIATE                      takes lease and WRITER; waits for local writers as any connection does
//   for each request: [SAVEPOINT] run [RELEASE | ROLLBACK TO]
//   COMMIT                               the shim holds the commit frame, asks for the request records, waits for the outcome
// A savepoint is needed where one request is several statements, or enforces foreign keys (a deferred violation is undone alone).
// A failed request leaves nothing behind: after OR FAIL the batch runs again with a savepoint there.
// If OR ROLLBACK or RAISE(ROLLBACK) ended the transaction, the request that did it keeps its error and the others run again.
#include "exec/executor.h"

#include <atomic>

#include "base/fault.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/sqlite.h"
#include "exec/request.h"
#include "exec/statements.h"
#include "vfs/shim.h"

namespace exec {
namespace {

using node::BatchResult;
using node::ExecuteRequest;
using node::ExecuteResult;

// Of a value, a row, a statement. More than a transaction may hold is of no use, and SQLite's own limit, a gigabyte each, lets one statement
// of a client take the memory of every leader in turn.
constexpr int kValueSizeMax = vfs::kTransactionBytesMax;

// One request of the batch that is being run.
struct Job {
  ExecuteRequest request;
  base::Result<Request> decoded = base::make_error(base::Code::kInternal, "not decoded");
  base::Result<Answer> answer = base::make_error(base::Code::kInternal, "not run");
  bool settled = false;  // its error stands, whatever becomes of the batch
  bool careful = false;  // it failed and left changes: only a savepoint takes them back
};

// The jobs of the commit in progress, also when an exception ends it.
class CommitOf {
 public:
  CommitOf(std::vector<Job>*& place, std::vector<Job>* jobs) : place_(place) { place_ = jobs; }
  ~CommitOf() { place_ = nullptr; }
  CommitOf(const CommitOf&) = delete;
  CommitOf& operator=(const CommitOf&) = delete;

 private:
  std::vector<Job>*& place_;
};

class SqlExecutor final : public node::Executor {
 public:
  SqlExecutor(ExecutorParams params, std::string database)
      : params_(std::move(params)), database_(std::move(database)) {}
  ~SqlExecutor() override {
    interrupt();
    if (lane_) {
      lane_->post([this] { close(); });
      lane_->stop();
    }
  }

  void run(std::vector<ExecuteRequest> batch, std::function<void(BatchResult)> done) override {
    if (!lane_) lane_ = base::ThreadLane::start("hql-exec", params_.on_failure);
    interrupted_.store(false);
    auto shared = std::make_shared<std::vector<ExecuteRequest>>(std::move(batch));
    lane_->post([this, shared, done = std::move(done)]() mutable {
      auto result = std::make_shared<BatchResult>(run_batch(std::move(*shared)));
      params_.loop->post_and_help([result, done = std::move(done)] { done(std::move(*result)); });
    });
  }

  void pause(std::function<void()> done) override {
    lane_->post([this, done = std::move(done)]() mutable { params_.loop->post_and_help(std::move(done)); });
  }

  void interrupt() override {
    interrupted_.store(true);
    base::MutexLock lock(mutex_);
    if (statements_) statements_->interrupt();
  }

 private:
  base::Status open();
  void close();
  BatchResult run_batch(std::vector<ExecuteRequest> batch);
  base::Status begin();
  base::Status run_jobs(std::vector<Job>& jobs);
  void run_job(Job& job);
  static BatchResult refused(std::vector<Job>& jobs, vfs::OutcomeKind kind, const base::Error& error);
  base::Error vfs_error(int rc) const;

  const ExecutorParams params_;
  const std::string database_;
  std::unique_ptr<base::ThreadLane> lane_;
  sqlite3* db_ = nullptr;  // executor lane
  std::atomic<bool> interrupted_{false};
  base::Mutex mutex_;
  std::unique_ptr<Statements> statements_ GUARDED_BY(mutex_);  // made and used on the lane; interrupt() from others
  Statements* run_ = nullptr;                                  // the same, for the lane's own use
  vfs::ExecutorMark mark_;
  std::vector<Job>* jobs_ = nullptr;  // of the commit in progress, for mark_
  bool proposed_ = false;
};

base::Status SqlExecutor::open() {
  if (db_ != nullptr) return {};
  mark_.requests = [this] {
    proposed_ = true;
    std::vector<pages::RequestRecord> records;
    if (jobs_ == nullptr) return records;
    for (const Job& job : *jobs_) {
      if (job.settled || !job.answer) continue;
      Answer small = *job.answer;
      base::Bytes result = encode(small);
      if (result.size() > pages::kRequestResultMax) {
        small.json.clear();
        result = encode(small);
      }
      records.push_back({job.request.origin, std::move(result)});
    }
    return records;
  };
  const vfs::ExecutorScope scope(&mark_);
  const std::string uri = "file:" + database_ + "?vfs=hiqlite&node=" + std::to_string(params_.node.value);
  const int rc =
      sqlite3_open_v2(uri.c_str(), &db_, SQLITE_OPEN_READWRITE | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX, "hiqlite");
  if (rc != SQLITE_OK) {
    const base::Error error = vfs_error(rc);
    sqlite3_close(db_);
    db_ = nullptr;
    return error;
  }
  sqlite3_extended_result_codes(db_, 1);
  sqlite3_limit(db_, SQLITE_LIMIT_LENGTH, kValueSizeMax);
  base::MutexLock lock(mutex_);
  statements_ = std::make_unique<Statements>(db_, *params_.gate);
  run_ = statements_.get();
  return {};
}

void SqlExecutor::close() {
  {
    base::MutexLock lock(mutex_);
    statements_.reset();
    run_ = nullptr;
  }
  if (db_ != nullptr) sqlite3_close_v2(db_);
  db_ = nullptr;
}

// What the shim said, if it said something; else SQLite's own words.
base::Error SqlExecutor::vfs_error(int rc) const {
  base::Error ours = vfs::last_error();
  if (!ours.message.empty() && (rc & 0xff) != SQLITE_ERROR) return ours;
  base::Error error = base::make_error(base::Code::kSql, db_ != nullptr ? sqlite3_errmsg(db_) : "out of memory");
  error.sqlite_code = rc;
  return error;
}

base::Status SqlExecutor::begin() {
  const base::Micros deadline = params_.gate->now() + params_.gate->commit_timeout();
  for (;;) {
    vfs::set_last_error({});
    const int rc = run_->control("BEGIN IMMEDIATE");
    if (rc == SQLITE_OK) return {};
    const base::Error error = vfs_error(rc);
    // A local writer holds WRITER: the shim's busy handler has waited on it already; go on until the deadline.
    const bool local = rc == SQLITE_BUSY && (error.code == base::Code::kBusy || error.code == base::Code::kSql);
    if (!local || interrupted_.load()) return error;
    if (params_.gate->now() > deadline)
      return base::make_error(base::Code::kTimeout,
                              "a local transaction on \"" + database_ + "\" kept the write lock until the deadline");
  }
}

void SqlExecutor::run_job(Job& job) {
  const Request& request = *job.decoded;
  int enforced = -1;
  sqlite3_db_config(db_, SQLITE_DBCONFIG_ENABLE_FKEY, -1, &enforced);
  if (enforced != request.foreign_keys)
    sqlite3_db_config(db_, SQLITE_DBCONFIG_ENABLE_FKEY, int{request.foreign_keys}, &enforced);
  const bool savepoint =
      job.careful || request.statements.size() > 1 || request.kind == RequestKind::kBatch || request.foreign_keys == 1;
  if (savepoint && run_->control("SAVEPOINT hql_request") != SQLITE_OK) {
    job.answer = run_->sqlite_error();
    return;
  }
  const int changes_before = sqlite3_total_changes(db_);
  // A call's own limit ends its statement a little earlier than the caller gives up by itself, so that it hears the reason.
  const base::Micros limit = request.timeout_ms != 0 ? base::Micros{request.timeout_ms} * base::kMillisecond / 10 * 9
                                                     : base::Micros{params_.statement_timeout_ms} * base::kMillisecond;
  job.answer = run_->run(request, params_.gate->now() + limit);
  if (sqlite3_get_autocommit(db_) != 0) return;
  if (!savepoint) {
    // OR FAIL and RAISE(FAIL) keep what was done before the failure; of what a trigger did the counter knows nothing. No entry would name
    // this request: sent again in a later term, it would be done twice.
    job.careful = !job.answer && (sqlite3_total_changes(db_) != changes_before || run_->triggers());
    return;
  }
  int deferred = 0;
  int high = 0;
  sqlite3_db_status(db_, SQLITE_DBSTATUS_DEFERRED_FKS, &deferred, &high, 0);
  if (job.answer && deferred > 0) {
    base::Error error = base::make_error(base::Code::kSql, "FOREIGN KEY constraint failed");
    error.sqlite_code = SQLITE_CONSTRAINT_FOREIGNKEY;
    job.answer = error;
  }
  if (!job.answer) run_->control("ROLLBACK TO hql_request");
  run_->control("RELEASE hql_request");
}

// Runs every unsettled job in one open transaction, however often it takes. kLeaseLost: another transaction came first, nothing is applied.
base::Status SqlExecutor::run_jobs(std::vector<Job>& jobs) {
  for (;;) {
    bool ended = false;
    for (Job& job : jobs) {
      if (job.settled) continue;
      const bool careful = job.careful;
      vfs::set_last_error({});
      run_job(job);
      if (!job.answer && vfs::last_error().code == base::Code::kLeaseLost) return vfs::last_error();
      if (job.careful && !careful) run_->control("ROLLBACK");  // all run again, this one in a savepoint
      if (sqlite3_get_autocommit(db_) == 0) continue;
      job.settled = !job.careful || careful;  // this one rolled everything back
      ended = true;
      break;
    }
    if (!ended) return {};
    if (const auto begun = begin(); !begun) {
      for (Job& job : jobs)
        if (!job.settled) job.answer = begun.error();
      return {};
    }
  }
}

BatchResult SqlExecutor::refused(std::vector<Job>& jobs, vfs::OutcomeKind kind, const base::Error& error) {
  BatchResult result;
  result.outcome = {kind, {}, error};
  for (Job& job : jobs) result.results.push_back({job.request.origin, error});
  return result;
}

BatchResult SqlExecutor::run_batch(std::vector<ExecuteRequest> batch) {
  std::vector<Job> jobs;
  for (auto& request : batch) {
    Job job;
    job.decoded = decode_request(request.body);
    job.request = std::move(request);
    if (!job.decoded) {
      job.answer = job.decoded.error();
      job.settled = true;
    }
    jobs.push_back(std::move(job));
  }
  vfs::set_last_error({});
  if (const auto opened = open(); !opened) return refused(jobs, vfs::OutcomeKind::kNotApplied, opened.error());
  run_->clear_interrupt();
  if (interrupted_.load()) run_->interrupt();
  if (const auto begun = begin(); !begun) return refused(jobs, vfs::OutcomeKind::kNotApplied, begun.error());

  proposed_ = false;
  const CommitOf commit(jobs_, &jobs);
  if (const auto ran = run_jobs(jobs); !ran) {
    if (sqlite3_get_autocommit(db_) == 0) run_->control("ROLLBACK");
    return refused(jobs, vfs::OutcomeKind::kNotApplied, ran.error());
  }
  static_cast<void>(HQL_FAULT_POINT("exec.batch"));
  BatchResult result;
  result.snapshot = vfs::connection_info(db_).last_seen;
  int rc = SQLITE_OK;
  if (sqlite3_get_autocommit(db_) == 0) {
    vfs::set_last_error({});
    rc = run_->control("COMMIT");
  }
  jobs_ = nullptr;  // a rollback asks for nothing
  const base::LogId last_commit = vfs::connection_info(db_).last_commit;
  result.changed = proposed_;
  if (rc != SQLITE_OK) {
    const base::Error error = vfs_error(rc);
    if (sqlite3_get_autocommit(db_) == 0) run_->control("ROLLBACK");
    const auto kind =
        error.code == base::Code::kUnknownOutcome ? vfs::OutcomeKind::kUnknown : vfs::OutcomeKind::kNotApplied;
    const bool committed = error.code == base::Code::kCommitted;
    if (!committed) {
      BatchResult failed = refused(jobs, kind, error);
      failed.changed = proposed_;
      return failed;
    }
    close();  // SQLite's view of the file is unknown after such an error; the next batch opens anew
  }
  result.outcome.kind = proposed_ ? vfs::OutcomeKind::kCommitted : vfs::OutcomeKind::kNotApplied;
  if (proposed_) result.outcome.id = last_commit;
  for (Job& job : jobs) {
    ExecuteResult one;
    one.origin = job.request.origin;
    if (job.answer) {
      one.body = encode(*job.answer);
    } else {
      one.body = job.answer.error();
    }
    result.results.push_back(std::move(one));
  }
  return result;
}

class Executors : public node::ExecutorFactory {
 public:
  explicit Executors(ExecutorParams params) : params_(std::move(params)) {}
  std::unique_ptr<node::Executor> make(const std::string& database, base::DatabaseId) override {
    return std::make_unique<SqlExecutor>(params_, database);
  }

 private:
  ExecutorParams params_;
};

}  // namespace

std::unique_ptr<node::ExecutorFactory> make_executors(ExecutorParams params) {
  return std::make_unique<Executors>(std::move(params));
}

}  // namespace exec

// What the tests of the shim share: a node without a log. Real images on real files, three lanes, and a gate that is always the leader and
// decides every transaction as the test says. Connections are SQLite's own, through the VFS `hiqlite`.
#pragma once

#include <gtest/gtest.h>

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/lane.h"
#include "base/mutex.h"
#include "base/posix_env.h"
#include "base/sqlite.h"
#include "pages/tx.h"
#include "tests/base/temp_dir.h"
#include "vfs/images.h"
#include "vfs/shim.h"

namespace shim_test {

int test_scale();

// A connection. "app.db" is opened as file:app.db?vfs=hiqlite, a name with ':' or '/' or "" as it stands.
class Db {
 public:
  explicit Db(const std::string& name, int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI,
              const char* vfs = nullptr);
  ~Db();
  Db(const Db&) = delete;
  Db& operator=(const Db&) = delete;
  [[nodiscard]] int open_code() const { return open_code_; }  // extended
  sqlite3* get() { return db_; }
  // Extended result code of the script.
  int exec(const std::string& sql);
  // All rows: columns with '|', rows with '\n'; "error <extended code>: <message>" on failure.
  std::string rows(const std::string& sql);
  std::string message() { return sqlite3_errmsg(db_); }
  void close();

 private:
  sqlite3* db_ = nullptr;
  int open_code_ = 0;
};

// The pages of a database as its entries make them.
using PageArray = std::vector<base::Bytes>;
base::Bytes joined(const PageArray& pages);

class TestGate final : public vfs::Gate {
 public:
  using Decide = std::function<std::optional<vfs::Outcome>(const pages::Tx&)>;
  using Lease = std::function<std::optional<base::Result<vfs::Grant>>()>;

  void acquire_lease(base::DatabaseId db, std::function<void(base::Result<vfs::Grant>)> done) override;
  void release_lease(base::DatabaseId db, base::LeaseId lease, base::LogId committed) override;
  void submit(vfs::Submission submission, std::function<void(vfs::Outcome)> done) override;
  void create_database(pages::CreateDatabase create, base::Micros deadline,
                       std::function<void(base::Result<base::DatabaseId>)> done) override;
  void barrier(base::Micros deadline, std::function<void(base::Result<base::Index>)> done) override;
  void hold_log(std::function<void(base::Status)> held) override {
    ++log_holds_;
    log_synced_ = true;
    held(base::ok());
  }
  void release_log() override { --log_holds_; }
  bool log_synced() override { return log_synced_; }
  base::Micros now() override { return base::posix_env().now(); }
  base::Micros commit_timeout() override { return commit_timeout_; }

  // Not committed, unknown, ...: what submit answers; empty: committed. Replaced while nobody writes.
  void decide(Decide decide);
  // Every transaction fails with this outcome until decide({}) or commit_all().
  void fail_all(vfs::OutcomeKind kind, base::Code code, const std::string& message);
  void commit_all() { decide({}); }
  // What acquire_lease answers; an empty answer: nothing, until grant_waiting().
  void lease(Lease lease);
  // Returns when a request without an answer waits. False: none came within the deadline.
  [[nodiscard]] bool await_waiting();
  void grant_waiting();
  void set_commit_timeout(base::Micros timeout) { commit_timeout_ = timeout; }

  // The log is only written from now on, until somebody holds it synced.
  void leave_log_unsynced() { log_synced_ = false; }
  [[nodiscard]] int log_holds() const { return log_holds_; }

  // Entries that were committed, and counts.
  std::vector<pages::Tx> committed(const std::string& name);
  PageArray replay(const std::string& name);
  int grants();
  int releases();
  // Called on the submitting thread, before the decision.
  std::function<void()> before_decision;

  // An entry of another node: what `sql` does to the database, published through the image; returns when it is visible or parked.
  // `wait`: for the publication.
  std::shared_ptr<std::optional<base::Status>> foreign_commit(const std::string& name, const std::string& sql);

 private:
  friend class World;
  struct Database {
    std::string name;
    base::DatabaseId id;
    std::unique_ptr<pages::DatabaseImage> image;
    pages::CreateDatabase create;
    std::vector<pages::Tx> committed;
    base::LogId last;
    std::deque<std::pair<pages::PublishJob, std::function<void(base::Status)>>> queue;
    bool publishing = false;
  };
  Database* by_id(base::DatabaseId id) REQUIRES(mutex_);
  Database* by_name(const std::string& name) REQUIRES(mutex_);
  vfs::Grant make_grant(base::DatabaseId db) REQUIRES(mutex_);
  base::LogId append(pages::Tx tx, std::function<void(base::Status)> done) REQUIRES(mutex_);
  void publish_next(base::DatabaseId id);  // loop lane

  base::Lane* loop_ = nullptr;
  base::Lane* apply_ = nullptr;
  vfs::Images* images_ = nullptr;
  std::atomic<base::Micros> commit_timeout_{5 * base::kSecond};
  std::atomic<bool> log_synced_{true};
  std::atomic<int> log_holds_{0};
  base::Mutex mutex_;
  base::CondVar changed_;  // waiting_
  Decide decide_ GUARDED_BY(mutex_);
  Lease lease_ GUARDED_BY(mutex_);
  std::vector<std::pair<base::DatabaseId, std::function<void(base::Result<vfs::Grant>)>>> waiting_ GUARDED_BY(mutex_);
  std::map<std::uint64_t, std::unique_ptr<Database>> databases_ GUARDED_BY(mutex_);
  std::uint64_t index_ GUARDED_BY(mutex_) = 0;
  std::uint64_t sequence_ GUARDED_BY(mutex_) = 0;
  std::uint64_t leases_ GUARDED_BY(mutex_) = 0;
  int grants_ GUARDED_BY(mutex_) = 0;
  int releases_ GUARDED_BY(mutex_) = 0;
};

// One node, bound to the VFS for the life of the object. The working directory of the process is its own while it lives.
class World {
 public:
  explicit World(std::uint64_t node_id = 1);
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;
  TestGate& gate() { return gate_; }
  std::string path(const std::string& name) const { return data_dir_ + "/db/" + name; }
  const std::string& data_dir() const { return data_dir_; }
  const std::string& work_dir() const { return dir_.path(); }
  base::Lane& loop() { return *loop_; }
  vfs::Database& database(const std::string& name);
  // Until every committed transaction is published.
  void settle();
  // As an entry of the log would; returns when the names are gone. Connections stay open.
  void drop(const std::string& name);
  // The node goes away; connections stay open.
  void unbind();
  // Stops the node with everything checkpointed; then the bytes of the file.
  base::Bytes stop_and_read(const std::string& name);
  // No error in any image; the replayed entries are the bytes of the file.
  void expect_replay_equals_file(const std::string& name);

 private:
  testing_base::TempDir dir_;
  std::string old_dir_;
  std::string data_dir_;
  base::NodeId id_;
  std::unique_ptr<base::ThreadLane> loop_, apply_, maintenance_;
  std::unique_ptr<vfs::Images> images_;
  TestGate gate_;
  bool bound_ = true;
  bool stopped_ = false;
};

// Code of ours in an extended code: code(SQLITE_BUSY, Code::kNoQuorum) == SQLITE_BUSY | (71 << 8).
int code(int primary, base::Code ours);

}  // namespace shim_test

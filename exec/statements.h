// Runs the statements of one request on the executor's connection: prepared-statement cache, binding, the authorizer that keeps
// forwarded SQL inside its database, and the interruption of runaways. Executor lane only.
#pragma once

#include <atomic>
#include <list>
#include <string>
#include <unordered_map>

#include "base/env.h"
#include "base/result.h"
#include "base/sqlite.h"
#include "exec/leftovers.h"
#include "exec/request.h"
#include "vfs/gate.h"

namespace exec {

class Statements {
 public:
  // Installs authorizer and progress handler on `db`, which outlives this.
  Statements(sqlite3* db, vfs::Gate& gate);
  ~Statements();
  Statements(const Statements&) = delete;
  Statements& operator=(const Statements&) = delete;

  // The request's answer, or its own error (kSql with SQLite's code and message, kArgument, kTimeout). An error may leave earlier
  // statements of the request done: the caller has a savepoint where that matters (several statements, or foreign keys).
  base::Result<Answer> run(const Request& request, base::Micros deadline);
  // BEGIN, SAVEPOINT and the like, of our own: outside the authorizer. The SQLite code.
  int control(const char* sql);
  // Any thread: the running statement stops with kInterrupted.
  void interrupt() { interrupted_.store(true); }
  void clear_interrupt() { interrupted_.store(false); }
  // Whether the statement that ran last writes in a trigger. SQLite forgets what that has changed when the statement fails.
  [[nodiscard]] bool triggers() const { return triggers_; }
  // kSql with the connection's present code and message.
  base::Error sqlite_error() const;

 private:
  struct Cached {
    sqlite3_stmt* statement;
    std::list<std::string>::iterator place;
    bool creates = false;   // it makes an object
    bool triggers = false;  // it writes in a trigger
  };
  static int authorize(void* self, int action, const char* one, const char* two, const char* database,
                       const char* trigger) noexcept;
  static int progress(void* self) noexcept;
  base::Status may_go_on() const;
  base::Result<Answer> run_request(const Request& request);
  base::Result<sqlite3_stmt*> prepare(const std::string& sql);
  base::Status run_statement(sqlite3_stmt* statement, const Statement& source, std::string* rows, Answer& answer);
  base::Status run_script(const std::string& script, Answer& answer);

  sqlite3* db_;
  vfs::Gate& gate_;
  Leftovers leftovers_;
  bool alone_ = false;     // the request is one statement
  bool creates_ = false;   // the statement that was prepared last makes an object
  bool triggers_ = false;  // the same one writes in a trigger
  bool user_sql_ = false;  // the authorizer applies
  std::string denied_;     // why the authorizer refused
  base::Micros deadline_ = 0;
  std::size_t answer_size_ = 0;       // of the request's statements before this one
  sqlite3_stmt* uncached_ = nullptr;  // too long for the cache; until the next one, or the end of the request
  std::atomic<bool> interrupted_{false};
  std::unordered_map<std::string, sqlite3_stmt*> control_;  // apart, so that user SQL never finds them
  std::list<std::string> order_;                            // most recently used first
  std::unordered_map<std::string, Cached> cache_;
};

}  // namespace exec

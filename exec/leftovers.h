// Leftovers: what a request would leave behind on the executor's connection, which lives as long as this node leads and runs everybody's
// requests: temporary objects, PRAGMA defer_foreign_keys, and what changes() and its kin remember. The next request finds none of it
// (DESIGN 5.3). Statements owns it. Executor lane.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "base/sqlite.h"

namespace exec {

class Leftovers {
 public:
  // Replaces changes() and total_changes() of `db` by functions that know where a request begins. Both live as long as this.
  explicit Leftovers(sqlite3* db);
  ~Leftovers();
  Leftovers(const Leftovers&) = delete;
  Leftovers& operator=(const Leftovers&) = delete;

  // A request begins: last_insert_rowid(), changes() and total_changes() are 0, and foreign keys are not deferred.
  void begin();
  // It has prepared a statement that makes an object, temporary or not, or one that sets defer_foreign_keys.
  void note_creation() { created_ = true; }
  void note_deferred() { deferred_ = true; }
  // The request has ended, inside its transaction: drops its temporary objects. How many there were. kSql: the request must be rolled back, and
  // they go with it.
  base::Result<int> drop_temporary();
  // Whether drop_temporary() met tables of SQLite itself, which it cannot drop. They go with a rollback of the request.
  [[nodiscard]] bool temporary_stays() const { return stays_; }

 private:
  static void changes(sqlite3_context* context, int count, sqlite3_value** values) noexcept;
  static void total_changes(sqlite3_context* context, int count, sqlite3_value** values) noexcept;
  base::Error failed() const;

  sqlite3* db_;
  std::int64_t total_before_ = 0;
  bool created_ = false;
  bool deferred_ = false;
  bool stays_ = false;
};

// The 64-bit counters came with 3.37; the oldest host is 3.35.
std::int64_t changes_of(sqlite3* db);
std::int64_t total_changes_of(sqlite3* db);

}  // namespace exec

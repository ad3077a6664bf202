// What the files with SQL functions share: the row of the function table, arguments checked by name, results and errors.
// SQL threads, inside sqlite3_step().
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "base/bytes.h"
#include "base/result.h"
#include "base/sqlite.h"

namespace ext {

struct SqlFunction {
  const char* name;
  int arguments;  // -1: any number
  int flags;      // SQLITE_UTF8 and, for everything that acts, SQLITE_DIRECTONLY: never from a view or trigger
  void (*call)(sqlite3_context*, int, sqlite3_value**) noexcept;
};
inline constexpr int kReads = SQLITE_UTF8;
inline constexpr int kActs = SQLITE_UTF8 | SQLITE_DIRECTONLY;

// The groups, one per file.
std::span<const SqlFunction> node_functions();   // node_functions.cc
std::span<const SqlFunction> write_functions();  // write_functions.cc
std::span<const SqlFunction> file_functions();   // file_functions.cc
base::Status register_sets(sqlite3* db);         // sets.cc: the eponymous tables

// The error as the statement's: "hiqlite: HQL_X: text" and the extended code; also what hql_last_error() shows.
void fail(sqlite3_context* context, const base::Error& error);
// SQLITE_NOMEM: SQLite had no memory for a value that it was asked for.
base::Error no_memory();
void give_text(sqlite3_context* context, const std::string& text);

// One argument, by position; errors name the function, the argument and what was given.
class Arguments {
 public:
  Arguments(const char* function, int count, sqlite3_value** values)
      : function_(function), count_(count), values_(values) {}
  [[nodiscard]] int count() const { return count_; }
  [[nodiscard]] sqlite3_value* raw(int position) const { return values_[position]; }
  [[nodiscard]] bool has(int position) const {
    return position < count_ && sqlite3_value_type(values_[position]) != SQLITE_NULL;
  }
  // kArgument when absent or NULL.
  base::Result<std::string> text(int position, const char* name) const;
  base::Result<std::int64_t> integer(int position, const char* name, std::int64_t low, std::int64_t high) const;
  // Milliseconds, 0 .. 24 h; `fallback` when absent or NULL.
  base::Result<std::uint32_t> milliseconds(int position, const char* name, std::uint32_t fallback) const;
  // At least `least`, at most `most` arguments.
  base::Status expect(int least, int most, const char* usage) const;

 private:
  base::Error wrong(int position, const char* name, const std::string& text) const;
  const char* function_;
  int count_;
  sqlite3_value** values_;
};

// Runs `body` (-> Status), turns its error, or an exception of the standard library (memory), into the statement's error.
template <class Body>
void guarded(sqlite3_context* context, Body&& body) noexcept {
  try {
    const base::Status status = body();
    if (!status) fail(context, status.error());
  } catch (...) {
    sqlite3_result_error_nomem(context);
  }
}

}  // namespace ext

// See leftovers.h.
#include "exec/leftovers.h"

#include <memory>
#include <string>
#include <utility>

namespace exec {
namespace {

constexpr int kFunctionFlags = SQLITE_UTF8 | SQLITE_INNOCUOUS;  // as SQLite's own: also in triggers and views

// Triggers and views before what they read, virtual tables before the tables that they own, the youngest first.
constexpr const char* kNextTemporary =
    "SELECT type, name FROM sqlite_temp_master WHERE type IN ('table', 'view', 'trigger') AND name NOT LIKE "
    "'sqlite\\_%' ESCAPE '\\' "
    "ORDER BY type = 'trigger' DESC, type = 'view' DESC, sql LIKE 'CREATE VIRTUAL%' DESC, rowid DESC LIMIT 1";

constexpr const char* kAnyTemporary = "SELECT 1 FROM sqlite_temp_master";

struct Finalize {
  void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
};
struct Free {
  void operator()(char* text) const { sqlite3_free(text); }
};

}  // namespace

std::int64_t changes_of(sqlite3* db) {
  return sqlite3_libversion_number() >= 3037000 ? sqlite3_changes64(db) : sqlite3_changes(db);
}

std::int64_t total_changes_of(sqlite3* db) {
  return sqlite3_libversion_number() >= 3037000 ? sqlite3_total_changes64(db) : sqlite3_total_changes(db);
}

Leftovers::Leftovers(sqlite3* db) : db_(db) {
  sqlite3_create_function_v2(db_, "changes", 0, kFunctionFlags, this, changes, nullptr, nullptr, nullptr);
  sqlite3_create_function_v2(db_, "total_changes", 0, kFunctionFlags, this, total_changes, nullptr, nullptr, nullptr);
}

Leftovers::~Leftovers() {
  for (const char* name : {"changes", "total_changes"})
    sqlite3_create_function_v2(db_, name, 0, kFunctionFlags, nullptr, nullptr, nullptr, nullptr, nullptr);
}

// changes() is what the last INSERT, UPDATE or DELETE did: 0 until this request has had one that changed something.
void Leftovers::changes(sqlite3_context* context, int, sqlite3_value**) noexcept {
  const auto& self = *static_cast<const Leftovers*>(sqlite3_user_data(context));
  sqlite3_result_int64(context, total_changes_of(self.db_) == self.total_before_ ? 0 : changes_of(self.db_));
}

void Leftovers::total_changes(sqlite3_context* context, int, sqlite3_value**) noexcept {
  const auto& self = *static_cast<const Leftovers*>(sqlite3_user_data(context));
  sqlite3_result_int64(context, total_changes_of(self.db_) - self.total_before_);
}

void Leftovers::begin() {
  sqlite3_set_last_insert_rowid(db_, 0);
  total_before_ = total_changes_of(db_);
  created_ = false;
  // Compiled anew: SQLite sets this flag while it compiles. Not sooner: it would forget what the last request violated. A commit resets it.
  if (std::exchange(deferred_, false)) sqlite3_exec(db_, "PRAGMA defer_foreign_keys = OFF", nullptr, nullptr, nullptr);
}

base::Error Leftovers::failed() const {
  base::Error error = base::make_error(
      base::Code::kSql, std::string("the request's temporary objects cannot be dropped: ") + sqlite3_errmsg(db_));
  error.sqlite_code = sqlite3_extended_errcode(db_);
  return error;
}

base::Result<int> Leftovers::drop_temporary() {
  stays_ = false;
  if (!std::exchange(created_, false)) return 0;
  int count = 0;
  // A parent may go before its child; every request sets this for itself.
  int enforced = 0;
  sqlite3_db_config(db_, SQLITE_DBCONFIG_ENABLE_FKEY, 0, &enforced);
  for (;;) {
    std::unique_ptr<char, Free> drop;
    {
      sqlite3_stmt* raw = nullptr;
      if (sqlite3_prepare_v2(db_, kNextTemporary, -1, &raw, nullptr) != SQLITE_OK) return failed();
      const std::unique_ptr<sqlite3_stmt, Finalize> next(raw);
      const int rc = sqlite3_step(raw);
      if (rc == SQLITE_DONE) break;
      if (rc != SQLITE_ROW) return failed();
      drop.reset(sqlite3_mprintf("DROP %s temp.\"%w\"", sqlite3_column_text(raw, 0), sqlite3_column_text(raw, 1)));
    }
    if (!drop) return base::make_error(base::Code::kInternal, "out of memory");
    if (sqlite3_exec(db_, drop.get(), nullptr, nullptr, nullptr) != SQLITE_OK) return failed();
    ++count;
  }
  if (count == 0) return 0;
  sqlite3_stmt* raw = nullptr;
  if (sqlite3_prepare_v2(db_, kAnyTemporary, -1, &raw, nullptr) != SQLITE_OK) return failed();
  const std::unique_ptr<sqlite3_stmt, Finalize> any(raw);
  stays_ = sqlite3_step(raw) == SQLITE_ROW;
  return count;
}

}  // namespace exec

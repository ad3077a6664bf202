// hql_import and hql_export: whole SQLite files in and out, through SQLite's own backup API, never by copying bytes
// (a source may have a hot journal or a WAL).
#include <unistd.h>

#include <memory>

#include "ext/runtime.h"
#include "ext/sql_function.h"
#include "pages/tx.h"
#include "vfs/shim.h"

namespace ext {
namespace {

using base::Code;
using base::Result;
using base::Status;

struct Close {
  void operator()(sqlite3* db) const { sqlite3_close_v2(db); }
};
using Handle = std::unique_ptr<sqlite3, Close>;

base::Error error_of(sqlite3* db, const std::string& what) {
  base::Error ours = vfs::last_error();
  if (!ours.message.empty()) return ours;
  base::Error error = base::make_error(Code::kSql, what + ": " + sqlite3_errmsg(db));
  error.sqlite_code = sqlite3_extended_errcode(db);
  return error;
}

Result<Handle> open(const std::string& name, int flags, const char* vfs_name) {
  sqlite3* raw = nullptr;
  vfs::set_last_error({});
  const int rc = sqlite3_open_v2(name.c_str(), &raw, flags, vfs_name);
  Handle db(raw);
  if (rc != SQLITE_OK) return error_of(raw, name);
  return db;
}

// The database `name` on the node that this connection uses: a process may own several.
Result<std::string> uri_of(sqlite3_context* context, const std::string& name) {
  HQL_ASSIGN(node, node_of(sqlite3_context_db_handle(context)));
  return "file:" + name + "?vfs=hiqlite" + (node ? "&node=" + std::to_string(node->value) : "");
}

// All pages in one step: one transaction on the destination.
Status copy(sqlite3* to, sqlite3* from, const std::string& what) {
  vfs::set_last_error({});
  sqlite3_backup* backup = sqlite3_backup_init(to, "main", from, "main");
  if (backup == nullptr) return error_of(to, what);
  const int step = sqlite3_backup_step(backup, -1);
  const int finish = sqlite3_backup_finish(backup);
  if (step == SQLITE_DONE && finish == SQLITE_OK) return {};
  base::Error ours = vfs::last_error();
  if (!ours.message.empty()) return ours;
  base::Error error = base::make_error(Code::kSql, what + ": " + sqlite3_errstr(step == SQLITE_DONE ? finish : step));
  error.sqlite_code = step == SQLITE_DONE ? finish : step;
  return error;
}

Result<std::int64_t> pragma(sqlite3* db, const char* sql, const std::string& what) {
  sqlite3_stmt* statement = nullptr;
  if (sqlite3_prepare_v2(db, sql, -1, &statement, nullptr) != SQLITE_OK) return error_of(db, what);
  const int rc = sqlite3_step(statement);
  const std::int64_t value = rc == SQLITE_ROW ? sqlite3_column_int64(statement, 0) : 0;
  sqlite3_finalize(statement);
  if (rc != SQLITE_ROW) return error_of(db, what);
  return value;
}

// hql_import(path, name) -> pages: adopts a copy of a SQLite file as the replicated database `name`, which must not exist with content.
void fn_import(sqlite3_context* context, int count, sqlite3_value** values) noexcept {
  guarded(context, [&]() -> Status {
    const Arguments arguments("hql_import", count, values);
    HQL_ASSIGN(path, arguments.text(0, "path"));
    HQL_ASSIGN(name, arguments.text(1, "name"));
    HQL_TRY(pages::valid_database_name(name));
    if (::access(path.c_str(), R_OK) != 0)
      return base::make_error(Code::kNotFound,
                              "hql_import(): \"" + path + "\" cannot be read; give the path of a SQLite file");
    HQL_ASSIGN(from, open(path, SQLITE_OPEN_READONLY, "unix"));
    HQL_ASSIGN(page_size, pragma(from.get(), "PRAGMA page_size", path));
    HQL_ASSIGN(page_count, pragma(from.get(), "PRAGMA page_count", path));
    HQL_ASSIGN(uri, uri_of(context, name));
    uri += "&hql_import=1&page_size=" + std::to_string(page_size);
    HQL_ASSIGN(to, open(uri, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI, "hiqlite"));
    HQL_ASSIGN(tables, pragma(to.get(), "SELECT count(*) FROM sqlite_master", name));
    if (tables != 0)
      return base::make_error(Code::kExists,
                              "hql_import(): the replicated database \"" + name +
                                  "\" already has tables; import under another name, or hql_drop_database('" + name +
                                  "') first");
    HQL_TRY(copy(to.get(), from.get(), "hql_import(): " + path));
    sqlite3_result_int64(context, page_count);
    return {};
  });
}

// hql_export(name, path) -> pages: a plain SQLite file (journal_mode=DELETE) of the present local state; `path` must not exist.
void fn_export(sqlite3_context* context, int count, sqlite3_value** values) noexcept {
  guarded(context, [&]() -> Status {
    const Arguments arguments("hql_export", count, values);
    HQL_ASSIGN(name, arguments.text(0, "name"));
    HQL_ASSIGN(path, arguments.text(1, "path"));
    HQL_TRY(pages::valid_database_name(name));
    // SQLite takes these two for a database without a name, which is gone when it is closed.
    if (path.empty() || path == ":memory:")
      return base::make_error(
          Code::kArgument, "hql_export(): argument 2 (path): \"" + path + "\" is no file; give the path of a new file");
    if (::access(path.c_str(), F_OK) == 0)
      return base::make_error(Code::kExists, "hql_export(): \"" + path + "\" exists; remove it or give another path");
    HQL_ASSIGN(uri, uri_of(context, name));
    HQL_ASSIGN(from, open(uri, SQLITE_OPEN_READWRITE | SQLITE_OPEN_URI, "hiqlite"));
    HQL_ASSIGN(to, open(path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, "unix"));
    HQL_TRY(copy(to.get(), from.get(), "hql_export(): " + path));
    if (sqlite3_exec(to.get(), "PRAGMA journal_mode=DELETE", nullptr, nullptr, nullptr) != SQLITE_OK)
      return error_of(to.get(), path);
    HQL_ASSIGN(page_count, pragma(to.get(), "PRAGMA page_count", path));
    sqlite3_result_int64(context, page_count);
    return {};
  });
}

constexpr SqlFunction kFunctions[] = {
    {"hql_import", 2, kActs, fn_import},
    {"hql_export", 2, kActs, fn_export},
};

}  // namespace

std::span<const SqlFunction> file_functions() { return kFunctions; }

}  // namespace ext

// What a managed connection is not allowed, and what it is told instead (DESIGN 5.1): "a database that is opened but not replicating is
// the worst failure". Also the questions the shim asks SQLite about the statement that is running. SQL threads, inside SQLite.
#include <strings.h>

#include <array>
#include <cstring>
#include <string>

#include "vfs/connection_table.h"
#include "vfs/last_error.h"
#include "vfs/shim_connection.h"

namespace vfs {
namespace {

constexpr int kVersionDbName = 3039000;  // sqlite3_db_name()

bool same(const char* a, const char* b) { return a != nullptr && ::strcasecmp(a, b) == 0; }

// Whether the database file of a schema says WAL (bytes 18 and 19 of its header).
bool is_wal_database(sqlite3* db, const char* schema) {
  sqlite3_file* file = nullptr;
  if (sqlite3_file_control(db, schema, SQLITE_FCNTL_FILE_POINTER, &file) != SQLITE_OK) return false;
  if (file == nullptr || file->pMethods == nullptr) return false;
  std::array<unsigned char, 100> header{};
  if (file->pMethods->xRead(file, header.data(), static_cast<int>(header.size()), 0) != SQLITE_OK) return false;
  return header[18] == 2;
}

base::Error two_databases(const ShimConnection& connection, const std::string& other) {
  return base::make_error(base::Code::kRefused,
                          "database " + connection.name + ": this transaction has already written to " + other +
                              "; SQLite cannot commit two WAL databases atomically: write to them in two transactions");
}

char* sqlite_copy(const std::string& text) { return sqlite3_mprintf("%s", text.c_str()); }

}  // namespace

base::Status check_single_database(ShimConnection& connection) {
  sqlite3* const db = connection.db;
  if (db == nullptr) return base::ok();
  if (const ShimConnection* const other = writer_of(db, &connection)) return two_databases(connection, other->name);
  if (sqlite3_libversion_number() < kVersionDbName) return base::ok();
  for (int at = 0;; ++at) {
    const char* const schema = sqlite3_db_name(db, at);
    if (schema == nullptr) return base::ok();
    if (at == 1 || connection_of(db, schema) != nullptr) continue;  // temp; ours
    if (sqlite3_txn_state(db, schema) == SQLITE_TXN_WRITE && is_wal_database(db, schema))
      return two_databases(connection, schema);
  }
}

int answer_pragma(ShimConnection& connection, char** arguments) {
  const char* const pragma = arguments[1];
  char* const value = arguments[2];
  if (same(pragma, "journal_mode")) {
    arguments[0] = sqlite_copy("wal");
    return SQLITE_OK;
  }
  if (same(pragma, "locking_mode")) {
    arguments[0] = sqlite_copy("normal");
    return SQLITE_OK;
  }
  if (same(pragma, "wal_checkpoint")) {
    // Only the node resets the WAL file. RESTART gives the same answer row, and everything is in the database file as well; the text
    // is SQLite's own buffer of the token, which it reads again after this call.
    if (same(value, "truncate")) std::memcpy(value, "restart", sizeof "restart");
    return SQLITE_NOTFOUND;  // lock_checkpoint() runs the node's when the statement runs
  }
  if (same(pragma, "mmap_size")) {
    arguments[0] = sqlite_copy("0");
    return SQLITE_OK;
  }
  if (same(pragma, "page_size") && value != nullptr && std::to_string(connection.page_size) != value) {
    const base::Error error = base::make_error(
        base::Code::kRefused, "database " + connection.name + " has pages of " + std::to_string(connection.page_size) +
                                  " bytes; page_size= is a URI parameter of its creation");
    arguments[0] = sqlite_copy(base::to_string(error));
    return report(&connection, error);
  }
  return SQLITE_NOTFOUND;
}

bool checkpoint_by_statement(sqlite3* db) {
  for (sqlite3_stmt* at = sqlite3_next_stmt(db, nullptr); at != nullptr; at = sqlite3_next_stmt(db, at)) {
    if (sqlite3_stmt_busy(at) == 0) continue;
    const char* const sql = sqlite3_sql(at);
    if (sql != nullptr && ::strcasestr(sql, "wal_checkpoint") != nullptr) return true;
  }
  return false;
}

// sqlite3_step() forgets the current row before it runs on, sqlite3_reset() and sqlite3_finalize() after they have ended the
// statement: a writing statement that still has a row while its transaction commits is being reset. The one behind a blob handle never has
// columns, and is the only kind without SQL; while it is busy, what fails is told by a blob function or by the close, or takes its write along.
bool commit_in_reset(sqlite3* db) {
  if (sqlite3_get_autocommit(db) == 0) return false;  // it ends without a commit
  for (sqlite3_stmt* at = sqlite3_next_stmt(db, nullptr); at != nullptr; at = sqlite3_next_stmt(db, at))
    if (sqlite3_stmt_busy(at) != 0 && sqlite3_stmt_readonly(at) == 0 &&
        (sqlite3_data_count(at) > 0 || sqlite3_sql(at) == nullptr))
      return true;
  return false;
}

}  // namespace vfs

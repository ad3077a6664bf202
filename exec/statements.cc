// See statements.h. The cache keys on the SQL text; statements are reset and their bindings cleared after each use.
#include "exec/statements.h"

#include <cstring>
#include <utility>

#include "exec/json.h"
#include "vfs/gate.h"

namespace exec {
namespace {

constexpr std::size_t kCachedStatementsMax = 256;  // enough for an application's distinct statements; ~10 KiB each
constexpr std::size_t kCachedSqlMax =
    8 << 10;  // a statement compiled takes ten times its text, and a dump's INSERTs never come again
constexpr std::size_t kRowsMax = base::kEntryPayloadMax / 2;  // JSON of one request; its answer travels in one frame
constexpr int kProgressInstructions = 4000;                   // a check of the clock costs about as much as 50 of these

// Pragmas that only read, or that write to the database file like any other statement.
constexpr const char* kPragmas[] = {
    "table_info",         "table_xinfo",       "table_list",      "index_list",    "index_info",   "index_xinfo",
    "foreign_key_list",   "foreign_key_check", "integrity_check", "quick_check",   "user_version", "application_id",
    "schema_version",     "database_list",     "collation_list",  "function_list", "pragma_list",  "compile_options",
    "page_count",         "freelist_count",    "page_size",       "encoding",      "optimize",     "incremental_vacuum",
    "defer_foreign_keys", "data_version"};  // FTS5 asks for it inside the user's statement

bool allowed_pragma(const char* name) {
  for (const char* allowed : kPragmas)
    if (sqlite3_stricmp(allowed, name) == 0) return true;
  return false;
}

// Where setting them changes what the connection does to a new database, or at a later VACUUM.
bool fixed_pragma(const char* name) {
  return sqlite3_stricmp("page_size", name) == 0 || sqlite3_stricmp("encoding", name) == 0;
}

int bind(sqlite3_stmt* statement, int position, const Value& value) {
  if (const auto* integer = std::get_if<std::int64_t>(&value)) return sqlite3_bind_int64(statement, position, *integer);
  if (const auto* real = std::get_if<double>(&value)) return sqlite3_bind_double(statement, position, *real);
  if (const auto* text = std::get_if<std::string>(&value))
    return sqlite3_bind_text64(statement, position, text->data(), text->size(), SQLITE_STATIC, SQLITE_UTF8);
  if (const auto* blob = std::get_if<Blob>(&value)) {
    if (blob->bytes.empty()) return sqlite3_bind_zeroblob(statement, position, 0);
    return sqlite3_bind_blob64(statement, position, blob->bytes.data(), blob->bytes.size(), SQLITE_STATIC);
  }
  return sqlite3_bind_null(statement, position);
}

// SQLite would read it up to there, and say nothing of the rest.
base::Status check_text(const std::string& sql) {
  const auto at = sql.find('\0');
  if (at == std::string::npos) return {};
  return base::make_error(base::Code::kArgument, "the SQL text has a zero byte, behind " + std::to_string(at) +
                                                     " others: pass such a value as a parameter");
}

bool only_space(const char* text) {
  for (; *text != '\0'; ++text)
    if (std::strchr(" \t\r\n;", *text) == nullptr) return false;
  return true;
}

}  // namespace

Statements::Statements(sqlite3* db, vfs::Gate& gate) : db_(db), gate_(gate), leftovers_(db) {
  sqlite3_set_authorizer(db_, authorize, this);
  sqlite3_progress_handler(db_, kProgressInstructions, progress, this);
}

Statements::~Statements() {
  sqlite3_finalize(uncached_);
  for (auto& [sql, cached] : cache_) sqlite3_finalize(cached.statement);
  for (auto& [sql, statement] : control_) sqlite3_finalize(statement);
  sqlite3_set_authorizer(db_, nullptr, nullptr);
  sqlite3_progress_handler(db_, 0, nullptr, nullptr);
}

// Temporary objects live until the end of their request (Leftovers): of one statement that would be nothing.
constexpr const char* kTemporaryAlone =
    "CREATE TEMP is not possible in a forwarded request of one statement: temporary objects end with their request; "
    "create and use them "
    "in one hql_txn or hql_batch, or create a table in the database";

// AUTOINCREMENT of a temporary table, or ANALYZE of one, makes tables that cannot be dropped, and hide those of the database by their names.
constexpr const char* kTemporaryStays =
    "AUTOINCREMENT in a temporary table and ANALYZE of one are not possible in forwarded SQL: they leave tables that "
    "outlive their request; use INTEGER PRIMARY KEY without AUTOINCREMENT";

int Statements::authorize(void* self, int action, const char* one, const char* two, const char*,
                          const char* trigger) noexcept {
  auto& statements = *static_cast<Statements*>(self);
  if (!statements.user_sql_) return SQLITE_OK;
  const auto deny = [&](std::string reason) {
    statements.denied_ = std::move(reason);
    return SQLITE_DENY;
  };
  switch (action) {
    case SQLITE_ATTACH:
    case SQLITE_DETACH:
      return deny(
          "ATTACH and DETACH are not possible in forwarded SQL: it runs on the leader, in one replicated database");
    case SQLITE_TRANSACTION:
    case SQLITE_SAVEPOINT:
      return deny(
          "BEGIN, COMMIT, ROLLBACK and SAVEPOINT are not possible in forwarded SQL: use hql_txn or hql_batch, which "
          "are atomic");
    case SQLITE_PRAGMA:
      if (!allowed_pragma(one)) return deny(std::string("PRAGMA ") + one + " is not possible in forwarded SQL");
      if (two != nullptr && fixed_pragma(one))
        return deny(std::string("PRAGMA ") + one +
                    " can only be read in forwarded SQL: what it sets is fixed at creation");
      if (two != nullptr && sqlite3_stricmp(one, "defer_foreign_keys") == 0) statements.leftovers_.note_deferred();
      return SQLITE_OK;
    case SQLITE_CREATE_TEMP_INDEX:
    case SQLITE_CREATE_TEMP_TABLE:
    case SQLITE_CREATE_TEMP_TRIGGER:
    case SQLITE_CREATE_TEMP_VIEW:
      if (statements.alone_) return deny(kTemporaryAlone);
      [[fallthrough]];
    case SQLITE_CREATE_INDEX:
    case SQLITE_CREATE_TABLE:
    case SQLITE_CREATE_TRIGGER:
    case SQLITE_CREATE_VIEW:
    case SQLITE_CREATE_VTABLE:
      // CREATE TABLE temp.t says here that it is in temp, CREATE TRIGGER temp.r ON t does not: run() looks what was made.
      statements.creates_ = true;
      statements.leftovers_.note_creation();
      return SQLITE_OK;
    case SQLITE_INSERT:
    case SQLITE_UPDATE:
    case SQLITE_DELETE:
      if (trigger != nullptr) statements.triggers_ = true;
      return SQLITE_OK;
    case SQLITE_FUNCTION:
      // fts3_tokenizer() takes the address of code as a value, and the leader would jump to it.
      if (two != nullptr && (sqlite3_strnicmp(two, "hql_", 4) == 0 || sqlite3_stricmp(two, "load_extension") == 0 ||
                             sqlite3_stricmp(two, "fts3_tokenizer") == 0))
        return deny(std::string(two) + "() is not possible in forwarded SQL");
      return SQLITE_OK;
    default:
      return SQLITE_OK;
  }
}

int Statements::progress(void* self) noexcept {
  auto& statements = *static_cast<Statements*>(self);
  return statements.user_sql_ && !statements.may_go_on() ? 1 : 0;
}

// Asked while a statement runs, and between statements: short ones end before their progress is ever looked at.
base::Status Statements::may_go_on() const {
  if (interrupted_.load())
    return base::make_error(base::Code::kInterrupted, "the statement was interrupted: leadership may have moved");
  if (deadline_ != 0 && gate_.now() > deadline_)
    return base::make_error(
        base::Code::kTimeout,
        "the statement ran longer than its limit (statement_timeout_ms, or timeout_ms of the call)");
  return {};
}

base::Error Statements::sqlite_error() const {
  base::Error error = base::make_error(base::Code::kSql, sqlite3_errmsg(db_));
  error.sqlite_code = sqlite3_extended_errcode(db_);
  // Of a denied function SQLite says SQLITE_ERROR, of everything else SQLITE_AUTH.
  if (!denied_.empty()) return base::make_error(base::Code::kRefused, denied_);
  if ((error.sqlite_code & 0xff) == SQLITE_INTERRUPT && user_sql_)
    if (const base::Status why = may_go_on(); !why) return why.error();
  return error;
}

int Statements::control(const char* sql) {
  auto& statement = control_[sql];
  if (statement == nullptr) {
    const int rc = sqlite3_prepare_v3(db_, sql, -1, SQLITE_PREPARE_PERSISTENT, &statement, nullptr);
    if (rc != SQLITE_OK) return rc;
  }
  sqlite3_step(statement);
  return sqlite3_reset(statement);
}

base::Result<sqlite3_stmt*> Statements::prepare(const std::string& sql) {
  denied_.clear();
  if (const auto found = cache_.find(sql); found != cache_.end()) {
    if (found->second.creates) leftovers_.note_creation();
    triggers_ = found->second.triggers;
    order_.splice(order_.begin(), order_, found->second.place);
    return found->second.statement;
  }
  creates_ = triggers_ = false;
  const bool keep = sql.size() <= kCachedSqlMax;
  sqlite3_stmt* statement = nullptr;
  const char* tail = nullptr;
  if (sqlite3_prepare_v3(db_, sql.c_str(), static_cast<int>(sql.size() + 1), keep ? SQLITE_PREPARE_PERSISTENT : 0,
                         &statement, &tail) != SQLITE_OK)
    return sqlite_error();
  if (statement == nullptr) return base::make_error(base::Code::kArgument, "the SQL text holds no statement");
  if (!only_space(tail)) {
    sqlite3_stmt* second = nullptr;  // a comment after the statement is fine
    const int rc = sqlite3_prepare_v3(db_, tail, -1, 0, &second, nullptr);
    const bool more = rc != SQLITE_OK || second != nullptr;
    sqlite3_finalize(second);
    if (more) {
      sqlite3_finalize(statement);
      return base::make_error(base::Code::kArgument, std::string("one statement expected, more follow at \"") +
                                                         std::string(tail).substr(0, 40) +
                                                         "\": use hql_batch or hql_txn");
    }
  }
  if (!keep) {
    sqlite3_finalize(std::exchange(uncached_, statement));
    return statement;
  }
  if (cache_.size() >= kCachedStatementsMax) {
    const auto oldest = cache_.find(order_.back());
    sqlite3_finalize(oldest->second.statement);
    cache_.erase(oldest);
    order_.pop_back();
  }
  order_.push_front(sql);
  cache_.emplace(sql, Cached{statement, order_.begin(), creates_, triggers_});
  return statement;
}

base::Status Statements::run_statement(sqlite3_stmt* statement, const Statement& source, std::string* rows,
                                       Answer& answer) {
  const int wanted = sqlite3_bind_parameter_count(statement);
  if (static_cast<std::size_t>(wanted) != source.params.size())
    return base::make_error(base::Code::kArgument, "the statement has " + std::to_string(wanted) + " parameters, " +
                                                       std::to_string(source.params.size()) + " values were given");
  for (int i = 0; i < wanted; ++i)
    if (bind(statement, i + 1, source.params[static_cast<std::size_t>(i)]) != SQLITE_OK) return sqlite_error();
  const auto before = total_changes_of(db_);
  std::string list = "[";
  int rc = SQLITE_OK;
  while ((rc = sqlite3_step(statement)) == SQLITE_ROW) {
    if (rows == nullptr) continue;
    if (list.size() > 1) list += ',';
    append_row(list, statement);
    if (answer_size_ + list.size() > kRowsMax) {
      sqlite3_reset(statement);
      sqlite3_clear_bindings(statement);
      return base::make_error(base::Code::kTooLarge, "the rows of one request are limited to 32 MiB of JSON");
    }
  }
  base::Status status;
  if (rc != SQLITE_DONE) status = sqlite_error();
  sqlite3_reset(statement);
  sqlite3_clear_bindings(statement);
  if (!status) return status;
  if (rows != nullptr) *rows = list + "]";
  // changes() of a statement that is not INSERT, UPDATE or DELETE is the previous one's: total_changes tells them apart.
  const auto changed = total_changes_of(db_) != before ? changes_of(db_) : 0;
  answer.rows_changed += changed;
  answer.last_rowid = sqlite3_last_insert_rowid(db_);
  return status;
}

base::Status Statements::run_script(const std::string& script, Answer& answer) {
  HQL_TRY(check_text(script));
  const char* at = script.c_str();
  answer.json = "[";
  while (!only_space(at)) {
    HQL_TRY(may_go_on());
    answer_size_ = answer.json.size();
    sqlite3_stmt* statement = nullptr;
    denied_.clear();
    const char* tail = nullptr;
    if (sqlite3_prepare_v3(db_, at, -1, 0, &statement, &tail) != SQLITE_OK) return sqlite_error();
    at = tail;
    if (statement == nullptr) continue;  // a comment
    Answer one;
    std::string rows;
    const bool returns = sqlite3_column_count(statement) > 0;
    auto status = run_statement(statement, {}, returns ? &rows : nullptr, one);
    sqlite3_finalize(statement);
    if (!status) return status;
    if (answer.json.size() > 1) answer.json += ',';
    answer.json +=
        "{\"rows_changed\":" + std::to_string(one.rows_changed) + ",\"last_rowid\":" + std::to_string(one.last_rowid);
    if (returns) answer.json += ",\"rows\":" + rows;
    answer.json += "}";
    answer.rows_changed += one.rows_changed;
    answer.last_rowid = one.last_rowid;
  }
  answer.json += "]";
  return {};
}

base::Result<Answer> Statements::run(const Request& request, base::Micros deadline) {
  deadline_ = deadline;
  answer_size_ = 0;
  triggers_ = false;
  alone_ = request.kind != RequestKind::kBatch && request.statements.size() == 1;
  leftovers_.begin();
  user_sql_ = true;
  auto answer = run_request(request);
  user_sql_ = false;  // our own SQL runs outside the authorizer again
  sqlite3_finalize(std::exchange(uncached_, nullptr));
  if (sqlite3_get_autocommit(db_) != 0) return answer;  // rolled back, and its temporary objects with it
  const auto dropped = leftovers_.drop_temporary();
  if (!answer) return answer;
  if (!dropped) return dropped.error();
  if (leftovers_.temporary_stays()) return base::make_error(base::Code::kRefused, kTemporaryStays);
  if (alone_ && *dropped > 0) return base::make_error(base::Code::kRefused, kTemporaryAlone);
  return answer;
}

base::Result<Answer> Statements::run_request(const Request& request) {
  Answer answer;
  if (request.kind == RequestKind::kBatch) {
    HQL_TRY(run_script(request.statements[0].sql, answer));
    return answer;
  }
  const bool many = request.kind == RequestKind::kTransaction;
  if (many) answer.json = "[";
  for (std::size_t i = 0; i < request.statements.size(); ++i) {
    const Statement& source = request.statements[i];
    HQL_TRY(check_text(source.sql));
    HQL_TRY(may_go_on());
    answer_size_ = answer.json.size();
    HQL_ASSIGN(statement, prepare(source.sql));
    Answer one;
    std::string rows;
    const bool wants_rows = returns_rows(request) && sqlite3_column_count(statement) > 0;
    HQL_TRY(run_statement(statement, source, wants_rows ? &rows : nullptr, one));
    answer.rows_changed += one.rows_changed;
    answer.last_rowid = one.last_rowid;
    if (request.kind == RequestKind::kReturning) answer.json = rows.empty() ? "[]" : rows;
    if (!many) continue;
    if (i > 0) answer.json += ',';
    answer.json +=
        "{\"rows_changed\":" + std::to_string(one.rows_changed) + ",\"last_rowid\":" + std::to_string(one.last_rowid);
    if (wants_rows) answer.json += ",\"rows\":" + rows;
    answer.json += "}";
  }
  if (many) answer.json += "]";
  return answer;
}

}  // namespace exec

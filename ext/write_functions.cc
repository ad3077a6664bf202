// hql_execute and its family: SQL that is run by the leader's executor, from any node (DESIGN 5.3, docs/SQL.md).
#include <algorithm>
#include <nlohmann/json.hpp>

#include "exec/json.h"
#include "exec/request.h"
#include "ext/runtime.h"
#include "ext/sql_function.h"
#include "vfs/shim.h"

namespace ext {
namespace {

using base::Code;
using base::Result;
using base::Status;
using exec::Answer;
using exec::Request;
using exec::RequestKind;
using exec::Value;

struct Options {
  std::uint32_t timeout_ms = 0;
  std::string database;
};

Result<Options> options_of(const std::string& text) {
  const auto json = nlohmann::json::parse(text, nullptr, false);
  const auto wrong = [&](const std::string& what) {
    return base::make_error(Code::kArgument, "options " + text.substr(0, 80) + ": " + what);
  };
  if (!json.is_object()) return wrong("expected a JSON object");
  Options options;
  for (const auto& [key, value] : json.items()) {
    if (key == "timeout_ms" && value.is_number_integer() && value.get<std::int64_t>() > 0 &&
        value.get<std::int64_t>() <= 86'400'000) {
      options.timeout_ms = value.get<std::uint32_t>();
    } else if (key == "db" && value.is_string()) {
      options.database = value.get<std::string>();
    } else {
      return wrong("\"" + key + "\": known are \"timeout_ms\" (1..86400000) and \"db\" (a name)");
    }
  }
  return options;
}

Result<Value> value_of(sqlite3_value* value) {
  switch (sqlite3_value_type(value)) {
    case SQLITE_INTEGER:
      return Value(std::int64_t{sqlite3_value_int64(value)});
    case SQLITE_FLOAT:
      return Value(sqlite3_value_double(value));
    case SQLITE_TEXT: {
      const auto* text = reinterpret_cast<const char*>(sqlite3_value_text(value));
      if (text == nullptr) return no_memory();
      return Value(std::string(text, static_cast<std::size_t>(sqlite3_value_bytes(value))));
    }
    case SQLITE_BLOB: {
      // Before its bytes are asked for: a zeroblob() is made real there, and is NULL once there was no memory for it.
      const auto size = static_cast<std::size_t>(sqlite3_value_bytes(value));
      const auto* data = static_cast<const std::byte*>(sqlite3_value_blob(value));
      if (data == nullptr && size > 0) return no_memory();
      return Value(exec::Blob{base::Bytes(data, data + size)});
    }
    default:
      return Value(std::monostate{});
  }
}

Result<exec::Statement> statement_of(const Arguments& arguments, int first) {
  HQL_ASSIGN(sql, arguments.text(first, "sql"));
  exec::Statement statement;
  statement.sql = std::move(sql);
  for (int i = first + 1; i < arguments.count(); ++i) {
    HQL_ASSIGN(value, value_of(arguments.raw(i)));
    statement.params.push_back(std::move(value));
  }
  return statement;
}

// An initializer list would copy the statements, and with them parameters of any size.
Request request_of(RequestKind kind, std::vector<exec::Statement> statements) {
  return {.kind = kind, .statements = std::move(statements)};
}
Request request_of(RequestKind kind, exec::Statement statement) {
  std::vector<exec::Statement> one;
  one.push_back(std::move(statement));
  return request_of(kind, std::move(one));
}

// The database a call means: its option, the connection's main database if that is one of the node's, else `filename_db`.
Result<Answer> send(sqlite3* db, Request request, const Options& options) {
  const auto info = vfs::connection_info(db);
  const CallDefaults defaults = defaults_of(db);
  std::string database = !options.database.empty() ? options.database : info.managed ? info.name : opened_plainly(db);
  if (database.empty()) database = defaults.database;
  if (vfs::writes_to(db, database))
    return base::make_error(
        Code::kMisuse,
        "this connection has an open write transaction on \"" + database +
            "\": it would wait for itself; COMMIT first, or write with plain SQL inside the transaction");
  int foreign_keys = 0;
  sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_FKEY, -1, &foreign_keys);
  request.foreign_keys = foreign_keys != 0 ? 1 : 0;
  request.timeout_ms = options.timeout_ms;
  const std::uint32_t timeout = options.timeout_ms != 0 ? options.timeout_ms : defaults.timeout_ms;
  const Call execute{.op = Op::kExecute, .text = database, .timeout_ms = timeout, .request = exec::encode(request)};
  HQL_ASSIGN(reply, call(db, execute, timeout));
  return answer_in(reply, request);
}

// hql_execute(sql, ...) -> rows changed
void fn_execute(sqlite3_context* context, int count, sqlite3_value** values) noexcept {
  guarded(context, [&]() -> Status {
    const Arguments arguments("hql_execute", count, values);
    HQL_TRY(arguments.expect(1, -1, "hql_execute(sql[, parameter ...])"));
    HQL_ASSIGN(statement, statement_of(arguments, 0));
    HQL_ASSIGN(answer,
               send(sqlite3_context_db_handle(context), request_of(RequestKind::kExecute, std::move(statement)), {}));
    sqlite3_result_int64(context, answer.rows_changed);
    return {};
  });
}

// hql_execute_opts(json, sql, ...) -> rows changed
void fn_execute_opts(sqlite3_context* context, int count, sqlite3_value** values) noexcept {
  guarded(context, [&]() -> Status {
    const Arguments arguments("hql_execute_opts", count, values);
    HQL_TRY(arguments.expect(2, -1, "hql_execute_opts(json, sql[, parameter ...])"));
    HQL_ASSIGN(json, arguments.text(0, "json"));
    HQL_ASSIGN(options, options_of(json));
    HQL_ASSIGN(statement, statement_of(arguments, 1));
    HQL_ASSIGN(answer, send(sqlite3_context_db_handle(context), request_of(RequestKind::kExecute, std::move(statement)),
                            options));
    sqlite3_result_int64(context, answer.rows_changed);
    return {};
  });
}

// hql_execute_returning(sql, ...) -> JSON array of rows
void fn_execute_returning(sqlite3_context* context, int count, sqlite3_value** values) noexcept {
  guarded(context, [&]() -> Status {
    const Arguments arguments("hql_execute_returning", count, values);
    HQL_TRY(arguments.expect(1, -1, "hql_execute_returning(sql[, parameter ...])"));
    HQL_ASSIGN(statement, statement_of(arguments, 0));
    HQL_ASSIGN(answer,
               send(sqlite3_context_db_handle(context), request_of(RequestKind::kReturning, std::move(statement)), {}));
    give_text(context, answer.json);
    return {};
  });
}

// hql_batch(script) -> JSON per statement, atomic
void fn_batch(sqlite3_context* context, int count, sqlite3_value** values) noexcept {
  guarded(context, [&]() -> Status {
    const Arguments arguments("hql_batch", count, values);
    HQL_ASSIGN(script, arguments.text(0, "script"));
    HQL_ASSIGN(answer, send(sqlite3_context_db_handle(context),
                            request_of(RequestKind::kBatch, exec::Statement{std::move(script), {}}), {}));
    give_text(context, answer.json);
    return {};
  });
}

// hql_txn('[["sql",p...],...]') -> JSON per statement, atomic
void fn_txn(sqlite3_context* context, int count, sqlite3_value** values) noexcept {
  guarded(context, [&]() -> Status {
    const Arguments arguments("hql_txn", count, values);
    HQL_ASSIGN(json, arguments.text(0, "statements"));
    HQL_ASSIGN(statements, exec::statements_of_json(json));
    HQL_ASSIGN(answer, send(sqlite3_context_db_handle(context),
                            request_of(RequestKind::kTransaction, std::move(statements)), {}));
    give_text(context, answer.json);
    return {};
  });
}

// hql_drop_database(name) -> 1
void fn_drop_database(sqlite3_context* context, int count, sqlite3_value** values) noexcept {
  guarded(context, [&]() -> Status {
    const Arguments arguments("hql_drop_database", count, values);
    HQL_ASSIGN(name, arguments.text(0, "name"));
    const auto timeout = defaults_of(sqlite3_context_db_handle(context)).timeout_ms;
    HQL_TRY(call(sqlite3_context_db_handle(context), {.op = Op::kDrop, .text = name, .timeout_ms = timeout}, timeout));
    sqlite3_result_int(context, 1);
    return {};
  });
}

constexpr SqlFunction kFunctions[] = {
    {"hql_execute", -1, kActs, fn_execute},
    {"hql_execute_opts", -1, kActs, fn_execute_opts},
    {"hql_execute_returning", -1, kActs, fn_execute_returning},
    {"hql_batch", 1, kActs, fn_batch},
    {"hql_txn", 1, kActs, fn_txn},
    {"hql_drop_database", 1, kActs, fn_drop_database},
};

}  // namespace

std::span<const SqlFunction> write_functions() { return kFunctions; }

}  // namespace ext

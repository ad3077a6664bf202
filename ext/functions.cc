// Registers the groups of SQL functions and the sets (docs/SQL.md). One loop; the tables stand beside the functions.
// The functions run on the host's threads, inside sqlite3_step().
#include "ext/functions.h"

#include <string>

#include "ext/sql_function.h"

namespace ext {
namespace {

void fn_version(sqlite3_context* context, int, sqlite3_value**) noexcept {
  sqlite3_result_text(context, HQL_VERSION, -1, SQLITE_STATIC);
}

constexpr SqlFunction kFunctions[] = {
    {"hql_version", 0, SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_INNOCUOUS, fn_version},
};

base::Status register_group(sqlite3* db, std::span<const SqlFunction> group) {
  for (const SqlFunction& function : group) {
    const int rc = sqlite3_create_function_v2(db, function.name, function.arguments, function.flags, nullptr,
                                              function.call, nullptr, nullptr, nullptr);
    if (rc != SQLITE_OK)
      return base::make_error(base::Code::kInternal,
                              "cannot register " + std::string(function.name) + ": " + sqlite3_errstr(rc));
  }
  return base::ok();
}

}  // namespace

base::Status register_functions(sqlite3* db) {
  HQL_TRY(register_group(db, kFunctions));
  HQL_TRY(register_group(db, node_functions()));
  HQL_TRY(register_group(db, write_functions()));
  HQL_TRY(register_group(db, file_functions()));
  return register_sets(db);
}

}  // namespace ext

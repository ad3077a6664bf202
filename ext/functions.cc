// The table of SQL functions (docs: the SQL reference). One row per function, one loop that registers them.
// The functions run on the host's threads, inside sqlite3_step().
#include "ext/functions.h"

#include <string>

namespace ext {
namespace {

void fn_version(sqlite3_context* context, int, sqlite3_value**) noexcept {
  sqlite3_result_text(context, HQL_VERSION, -1, SQLITE_STATIC);
}

struct SqlFunction {
  const char* name;
  int arguments;  // -1: any number
  int flags;
  void (*call)(sqlite3_context*, int, sqlite3_value**) noexcept;
};

constexpr SqlFunction kFunctions[] = {
    {"hql_version", 0, SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_INNOCUOUS, fn_version},
};

}  // namespace

base::Status register_functions(sqlite3* db) {
  for (const SqlFunction& function : kFunctions) {
    const int rc = sqlite3_create_function_v2(db, function.name, function.arguments, function.flags, nullptr, function.call, nullptr,
                                              nullptr, nullptr);
    if (rc != SQLITE_OK)
      return base::make_error(base::Code::kInternal, "cannot register " + std::string(function.name) + ": " + sqlite3_errstr(rc));
  }
  return base::ok();
}

}  // namespace ext

// Fills `sqlite3_api` before any test runs, as a host does for a loadable extension: the table comes with a connection's auto-extension.
// The test binary links the system's SQLite.
#include "base/check.h"
#include "base/sqlite.h"

// The library's own functions, not the entries of the table that is still empty.
#undef sqlite3_auto_extension
#undef sqlite3_cancel_auto_extension
#undef sqlite3_close
#undef sqlite3_open

namespace {

extern "C" int take_api(sqlite3*, char**, const sqlite3_api_routines* api) {
  sqlite3_api = api;
  return 0;
}

bool load_api() {
  const auto entry = reinterpret_cast<void (*)()>(take_api);
  CHECK(sqlite3_auto_extension(entry) == 0);
  sqlite3* db = nullptr;
  CHECK(sqlite3_open(":memory:", &db) == 0);
  CHECK(sqlite3_close(db) == 0);
  CHECK(sqlite3_cancel_auto_extension(entry) == 1);
  return sqlite3_api != nullptr;
}

[[maybe_unused]] const bool loaded = load_api();

}  // namespace

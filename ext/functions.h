// The SQL functions of a connection. Called by ext/entry.cc for the connection that loads the extension and for every later one.
#pragma once

#include "base/result.h"
#include "base/sqlite.h"

namespace ext {

// Registers every function and table on `db`. kInternal with SQLite's code when it refuses one. Thread of the connection.
base::Status register_functions(sqlite3* db);

}  // namespace ext

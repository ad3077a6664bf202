// Is this SQLite one that we can live in? (DESIGN of the loader: docs/ARCHITECTURE.md, "Living in somebody else's process".)
// Called once per load by ext/entry.cc on the host's thread, before anything is registered.
#pragma once

#include "base/result.h"
#include "base/sqlite.h"

namespace ext {

// 3.35.0: the oldest SQLite whose routine table and WAL behaviour the code relies on.
inline constexpr int kSqliteVersionMin = 3035000;

// kRefused, with what was found and what to do: too old, built with SQLITE_THREADSAFE=0, or a default VFS other than "unix".
// Reads only entries of the table that every version has before it knows the version: the table has no size field.
base::Status check_host(const sqlite3_api_routines* api);
// kRefused when `api` is the table of another copy of SQLite than the one this process was loaded into.
base::Status check_same_host(const sqlite3_api_routines* api);

}  // namespace ext

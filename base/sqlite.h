// The one way to SQLite: its extension header. Every `sqlite3_*` function is a macro over a pointer in the host's table of
// routines, so nothing links -lsqlite3 (DESIGN section 3). `sqlite3.h` and `sqlite3ext.h` are included nowhere else.
// The variable `sqlite3_api` is defined once, in vfs/sqlite_api.cc; the entry point fills it before any other call. `base` itself
// uses no SQLite: a target that includes this header links hql_vfs.
#pragma once

#include <sqlite3ext.h>

SQLITE_EXTENSION_INIT3

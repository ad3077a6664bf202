// Loading into a process: what the exported entry of the core does (core_entry.cc), kept apart from it so that tests can link it.
#pragma once

#include "base/sqlite.h"

namespace ext {

// Init of a loadable extension. First call of the process: checks the host (ext/host.h), takes the process (ext/single_copy.h), registers
// the VFS, the exit and fork handlers and the automatic extension. Every call: gives `db` the functions.
// Returns SQLITE_OK_LOAD_PERMANENTLY; else SQLITE_ERROR with a text in *message (sqlite3_malloc'ed), and nothing was registered.
// Any thread, any number of times.
int load(sqlite3* db, char** message, const sqlite3_api_routines* api) noexcept;

}  // namespace ext

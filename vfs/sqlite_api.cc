// The one definition of `sqlite3_api`, the host's table of routines (base/sqlite.h). Written once by ext/entry.cc before any other use.
#include "base/sqlite.h"

SQLITE_EXTENSION_INIT1

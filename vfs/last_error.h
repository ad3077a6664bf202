// How a refusal's text reaches people. SQLite keeps no text of a VFS: sqlite3_errmsg() of a failed COMMIT is SQLite's own sentence for the
// primary code. So every refusal of the shim (1) carries our number in the extended code, (2) is kept per thread and per connection for
// hql_last_error(), and (3) goes once to the host's sqlite3_log(). Only pragmas can return a text of their own (SQLITE_FCNTL_PRAGMA).
// Any thread.
#pragma once

#include "base/result.h"

namespace vfs {

class ShimConnection;

// Keeps the error for this thread and (when not null) the connection, tells the host's log, returns `code`.
int report(ShimConnection* connection, const base::Error& error, int code);
// The same with the code of the table: primary | (number << 8).
int report(ShimConnection* connection, const base::Error& error);

}  // namespace vfs

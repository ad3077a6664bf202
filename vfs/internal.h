// The node's own SQLite connections (recovery and checkpoints) and the VFS under them, `hiqlite-internal`: the host's unix VFS but for
// the two WAL locks that the keeper already holds for this process (R5). Private to vfs/, but for internal_open_active(), which the
// extension's entry for new connections and the shim ask, to stay away from them.
// x_* run on the thread that uses the connection: start-up, the maintenance lane, close().
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/result.h"
#include "base/sqlite.h"

namespace vfs {

// What the internal VFS asks of the database it serves. Called inside SQLite calls: never calls SQLite.
class InternalHooks {
 public:
  virtual ~InternalHooks() = default;
  // The `-shm` has just been opened and its first region mapped, before SQLite reads or recovers it: the keeper's locks are taken here.
  // SQLITE_OK, or the code that the connection's read then fails with.
  virtual int shm_mapped() = 0;
  // SQLite asks for / gives back WAL_WRITE_LOCK: to look at a torn header, to recover, or in a RESTART checkpoint.
  virtual bool internal_lock_writer() = 0;
  virtual void internal_unlock_writer() = 0;
};

// Whether this thread is opening an internal connection right now. Any thread.
bool internal_open_active();

struct CloseConnection {
  void operator()(sqlite3* db) const { sqlite3_close(db); }
};
using InternalConnection = std::unique_ptr<sqlite3, CloseConnection>;

// Opens `path` on the internal VFS, without reading from it. The hooks outlive the connection.
// Errors: kSql with SQLite's code and message, kRefused when the process has no unix VFS.
base::Result<InternalConnection> open_internal(const std::string& path, InternalHooks& hooks);
// Runs statements without results. kSql on failure.
base::Status execute(sqlite3* db, const char* sql);
base::Error sqlite_error(sqlite3* db, int rc, const std::string& what);

}  // namespace vfs

// Loading into a process (ext/entry.h). The order matters: nothing is registered before host and process are accepted, and what cannot be
// undone (the exit handler, the automatic extension) comes last.
#include "ext/entry.h"

#include <exception>

#include "base/mutex.h"
#include "base/result.h"
#include "ext/functions.h"
#include "ext/host.h"
#include "ext/lifecycle.h"
#include "ext/runtime.h"
#include "ext/single_copy.h"
#include "vfs/shim.h"

namespace ext {
namespace {

// Trivially destructible state for the life of the process: no static destructor may run under the host's threads (R2).
base::Mutex g_mutex;
bool g_loaded GUARDED_BY(g_mutex) = false;

// `api` is the caller's table: after a refusal ours may belong to another SQLite.
int fail(char** message, const sqlite3_api_routines* api, const base::Error& error) {
  if (message != nullptr) *message = api->mprintf("%s", base::to_string(error).c_str());
  return SQLITE_ERROR;
}

// What sqlite3_auto_extension() runs on every connection that the process opens from now on. An error fails that open.
int open_connection(sqlite3* db, char** message, const sqlite3_api_routines* api) noexcept {
  try {
    if (auto opened = vfs::check_opened(db); !opened) return fail(message, api, opened.error());
    if (auto registered = register_functions(db); !registered) return fail(message, api, registered.error());
    return SQLITE_OK;
  } catch (const std::exception& exception) {
    return fail(message, api, base::make_error(base::Code::kInternal, exception.what()));
  }
}

// `db` was open before the automatic extension was. Registering again while one of its statements runs (SELECT load_extension(...)) would
// be refused by SQLite, so a connection that has the functions is left alone.
base::Status ensure_functions(sqlite3* db) {
  sqlite3_stmt* statement = nullptr;
  const int rc = sqlite3_prepare_v2(db, "SELECT hql_version()", -1, &statement, nullptr);
  sqlite3_finalize(statement);
  return rc == SQLITE_OK ? base::ok() : register_functions(db);
}

// Registered in this order because the last two cannot be undone.
base::Status register_all(sqlite3* db) {
  HQL_TRY(vfs::register_vfs());
  HQL_TRY(register_functions(db));
  HQL_TRY(install_lifecycle());
  vfs::set_autostart(start_for_open);
  if (sqlite3_auto_extension(reinterpret_cast<void (*)()>(open_connection)) != SQLITE_OK)
    return base::make_error(base::Code::kInternal, "sqlite3_auto_extension: out of memory");
  return base::ok();
}

base::Status load_first(sqlite3* db, const sqlite3_api_routines* api) {
  HQL_TRY(check_host(api));
  HQL_TRY(claim_process());
  sqlite3_api = api;
  auto registered = register_all(db);
  if (!registered) release_process();
  return registered;
}

}  // namespace

int load(sqlite3* db, char** message, const sqlite3_api_routines* api) noexcept {
  try {
    const base::MutexLock lock(g_mutex);
    if (g_loaded) {
      if (auto same = check_same_host(api); !same) return fail(message, api, same.error());
      if (auto registered = ensure_functions(db); !registered) return fail(message, api, registered.error());
    } else {
      if (auto loaded = load_first(db, api); !loaded) return fail(message, api, loaded.error());
      g_loaded = true;
    }
    return SQLITE_OK_LOAD_PERMANENTLY;
  } catch (const std::exception& exception) {
    return fail(message, api, base::make_error(base::Code::kInternal, exception.what()));
  }
}

}  // namespace ext

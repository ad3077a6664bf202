// The last error of each thread, and the host's log (vfs/last_error.h).
#include "vfs/last_error.h"

#include <atomic>

#include "base/sqlite.h"
#include "vfs/shim.h"
#include "vfs/shim_connection.h"

namespace vfs {
namespace {

struct Kept {
  bool any = false;
  base::Error error;
};
thread_local Kept kept;
std::atomic<bool> host_log_gone{false};

}  // namespace

base::Error last_error() { return kept.error; }
bool has_last_error() { return kept.any; }
void set_last_error(const base::Error& error) {
  kept.any = true;
  kept.error = error;
}
void clear_last_error() { kept = {}; }

void forget_host_log() { host_log_gone.store(true); }

int report(ShimConnection* connection, const base::Error& error, int code) {
  set_last_error(error);
  if (connection != nullptr) connection->remember(error);
  if (!host_log_gone.load()) sqlite3_log(code, "%s", base::to_string(error).c_str());
  return code;
}

int report(ShimConnection* connection, const base::Error& error) {
  return report(connection, error, base::extended_code(error.code));
}

}  // namespace vfs

// Checks of the host's SQLite (ext/host.h).
#include "ext/host.h"

#include <cstring>
#include <string>

namespace ext {
namespace {

std::string version_text(int number) {
  return std::to_string(number / 1000000) + "." + std::to_string(number / 1000 % 1000) + "." +
         std::to_string(number % 1000);
}

base::Error refused(std::string message) { return base::make_error(base::Code::kRefused, std::move(message)); }

}  // namespace

base::Status check_host(const sqlite3_api_routines* api) {
  const int version = api->libversion_number();
  if (version < kSqliteVersionMin)
    return refused("this process uses SQLite " + version_text(version) + "; SQLite " + version_text(kSqliteVersionMin) +
                   " or newer is needed");
  if (api->xthreadsafe() == 0)
    return refused("this process uses SQLite " + version_text(version) +
                   " built with SQLITE_THREADSAFE=0; one built with SQLITE_THREADSAFE=1 or 2 is needed");
  const sqlite3_vfs* lower = api->vfs_find(nullptr);
  const char* name = lower != nullptr ? lower->zName : "(none)";
  if (std::strcmp(name, "unix") != 0)
    return refused("the default VFS of this process is \"" + std::string(name) +
                   "\"; hiqlite works over \"unix\" only: load it before " + "another VFS is made the default");
  return base::ok();
}

base::Status check_same_host(const sqlite3_api_routines* api) {
  // A function, not the table: a host may hand out copies of the table.
  if (api->libversion_number == sqlite3_api->libversion_number) return base::ok();
  return refused("two copies of SQLite are in this process (" + version_text(sqlite3_libversion_number()) +
                 " loaded the extension first, " + version_text(api->libversion_number()) +
                 " tries now); only one can use it");
}

}  // namespace ext

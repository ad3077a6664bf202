// The VFS `hiqlite`: registration and the VFS-level methods, each of them the lower unix VFS's but for names and files of ours.
// Registered by ext/ when the extension is loaded; any thread.
#include "vfs/shim.h"

#include <cstring>
#include <string>

#include "base/mutex.h"
#include "vfs/boundary.h"
#include "vfs/fork.h"
#include "vfs/last_error.h"
#include "vfs/names.h"
#include "vfs/shim_connection.h"

namespace vfs {

namespace {

sqlite3_vfs* lower_of_vfs(sqlite3_vfs* self) { return static_cast<sqlite3_vfs*>(self->pAppData); }

// The managed connection that a WAL or journal name belongs to. The pager keeps all its names in one block, at whose start its file is.
ShimConnection* owner_of(const char* filename) {
  if (filename == nullptr) return nullptr;
  sqlite3_file* const main = sqlite3_database_file_object(filename);
  return main == nullptr || main->pMethods == nullptr ? nullptr : connection_of(main);
}

int x_open(sqlite3_vfs* self, const char* filename, sqlite3_file* file, int flags, int* out_flags) noexcept {
  return boundary(SQLITE_NOMEM, [&] {
    sqlite3_vfs* const lower = lower_of_vfs(self);
    if ((flags & SQLITE_OPEN_MAIN_DB) != 0) return open_main_file(lower, filename, file, flags, out_flags);
    if ((flags & SQLITE_OPEN_WAL) != 0) {
      if (ShimConnection* const owner = owner_of(filename))
        return open_wal_file(lower, filename, file, flags, out_flags, *owner);
    }
    if ((flags & SQLITE_OPEN_MAIN_JOURNAL) != 0) {
      if (ShimConnection* const owner = owner_of(filename)) {
        file->pMethods = nullptr;
        return report(owner, base::make_error(base::Code::kRefused,
                                              "database " + owner->name +
                                                  ": a rollback journal; a replicated database stays in WAL mode"));
      }
    }
    return lower->xOpen(lower, filename, file, flags, out_flags);
  });
}

// Of a registered database, also its -wal and the like.
bool is_managed_path(const std::string& path) {
  auto [node, name] = node_of_path(path);
  if (!node) return false;
  for (const char* const suffix : {"-wal", "-shm", "-journal"}) {
    const std::size_t length = std::strlen(suffix);
    if (name.size() > length && name.compare(name.size() - length, length, suffix) == 0) {
      name.resize(name.size() - length);
      break;
    }
  }
  const NodeUse use(*node);
  return use && node->binding().find(name) != nullptr;
}

int x_delete(sqlite3_vfs* self, const char* path, int sync_dir) noexcept {
  return boundary(SQLITE_NOMEM, [&] {
    if (path != nullptr && is_managed_path(path))
      return report(nullptr,
                    base::make_error(base::Code::kRefused,
                                     std::string(path) + " belongs to a node; hql_drop_database() removes a database"));
    sqlite3_vfs* const lower = lower_of_vfs(self);
    return lower->xDelete(lower, path, sync_dir);
  });
}

int x_access(sqlite3_vfs* self, const char* path, int flags, int* result) noexcept {
  sqlite3_vfs* const lower = lower_of_vfs(self);
  return lower->xAccess(lower, path, flags, result);
}

// "app.db" with vfs=hiqlite becomes <data_dir>/db/app.db, so that every name derived from it (-wal, -shm) is right, and so is what
// PRAGMA database_list shows. The pager is the caller, with a name whose URI parameters can be asked for.
int x_full_pathname(sqlite3_vfs* self, const char* name, int size, char* out) noexcept {
  return boundary(SQLITE_NOMEM, [&] {
    sqlite3_vfs* const lower = lower_of_vfs(self);
    auto request = parse_open_request(name);
    if (!request) return report(nullptr, request.error());
    if (!request->ours) return lower->xFullPathname(lower, name, size, out);
    if (in_forked_child()) return report(nullptr, forked_error());
    auto node = choose_node(request->node);
    if (!node) return report(nullptr, node.error());
    auto database = database_name(request->name, (*node)->db_dir());
    if (!database) return report(nullptr, database.error());
    const std::string path = (*node)->db_dir() + "/" + *database;
    if (path.size() + 1 > static_cast<std::size_t>(size))
      return report(nullptr,
                    base::make_error(base::Code::kConfig, "data_dir is too long: " + (*node)->binding().data_dir));
    std::memcpy(out, path.c_str(), path.size() + 1);
    note_resolved(path, std::move(*request));
    return SQLITE_OK;
  });
}

void* x_dl_open(sqlite3_vfs* self, const char* path) noexcept {
  return lower_of_vfs(self)->xDlOpen(lower_of_vfs(self), path);
}
void x_dl_error(sqlite3_vfs* self, int size, char* out) noexcept {
  lower_of_vfs(self)->xDlError(lower_of_vfs(self), size, out);
}
void (*x_dl_sym(sqlite3_vfs* self, void* library, const char* symbol) noexcept)(void) {
  return lower_of_vfs(self)->xDlSym(lower_of_vfs(self), library, symbol);
}
void x_dl_close(sqlite3_vfs* self, void* library) noexcept {
  lower_of_vfs(self)->xDlClose(lower_of_vfs(self), library);
}
int x_randomness(sqlite3_vfs* self, int size, char* out) noexcept {
  return lower_of_vfs(self)->xRandomness(lower_of_vfs(self), size, out);
}

// sqliteDefaultBusyCallback() sleeps here: a thread that waits for WRITER sleeps until its turn instead.
int x_sleep(sqlite3_vfs* self, int microseconds) noexcept {
  return boundary(microseconds, [&] {
    if (sleep_in_queue(microseconds)) return microseconds;
    return lower_of_vfs(self)->xSleep(lower_of_vfs(self), microseconds);
  });
}

int x_current_time(sqlite3_vfs* self, double* out) noexcept {
  return lower_of_vfs(self)->xCurrentTime(lower_of_vfs(self), out);
}
int x_current_time_int64(sqlite3_vfs* self, sqlite3_int64* out) noexcept {
  return lower_of_vfs(self)->xCurrentTimeInt64(lower_of_vfs(self), out);
}

// The number is the system's (SQLite keeps it for sqlite3_system_errno()); the text is ours when there is one.
int x_get_last_error(sqlite3_vfs* self, int size, char* out) noexcept {
  return boundary(0, [&] {
    sqlite3_vfs* const lower = lower_of_vfs(self);
    const int number = lower->xGetLastError != nullptr ? lower->xGetLastError(lower, size, out) : 0;
    if (out != nullptr && size > 0 && has_last_error()) {
      const std::string text = base::to_string(last_error());
      const std::size_t length = std::min(text.size(), static_cast<std::size_t>(size - 1));
      std::memcpy(out, text.data(), length);
      out[length] = '\0';
    }
    return number;
  });
}

int x_set_system_call(sqlite3_vfs* self, const char* name, sqlite3_syscall_ptr call) noexcept {
  return lower_of_vfs(self)->xSetSystemCall(lower_of_vfs(self), name, call);
}
sqlite3_syscall_ptr x_get_system_call(sqlite3_vfs* self, const char* name) noexcept {
  return lower_of_vfs(self)->xGetSystemCall(lower_of_vfs(self), name);
}
const char* x_next_system_call(sqlite3_vfs* self, const char* name) noexcept {
  return lower_of_vfs(self)->xNextSystemCall(lower_of_vfs(self), name);
}

struct Registration {
  base::Mutex mutex;
  sqlite3_vfs vfs GUARDED_BY(mutex){};
  bool done GUARDED_BY(mutex) = false;
  sqlite3_vfs* default_before GUARDED_BY(mutex) = nullptr;
};
Registration& registration() {
  static Registration* const only = new Registration;  // SQLite keeps a pointer into it for ever
  return *only;
}

sqlite3_vfs make_vfs(sqlite3_vfs* lower) {
  sqlite3_vfs vfs{};
  vfs.iVersion = std::min(lower->iVersion, 3);
  vfs.szOsFile = kShimFileSize + lower->szOsFile;
  vfs.mxPathname = lower->mxPathname;
  vfs.zName = kVfsName;
  vfs.pAppData = lower;
  vfs.xOpen = x_open;
  vfs.xDelete = x_delete;
  vfs.xAccess = x_access;
  vfs.xFullPathname = x_full_pathname;
  if (lower->xDlOpen != nullptr) {  // null in hosts built without loading
    vfs.xDlOpen = x_dl_open;
    vfs.xDlError = x_dl_error;
    vfs.xDlSym = x_dl_sym;
    vfs.xDlClose = x_dl_close;
  }
  vfs.xRandomness = x_randomness;
  vfs.xSleep = x_sleep;
  vfs.xCurrentTime = x_current_time;
  vfs.xGetLastError = x_get_last_error;
  if (vfs.iVersion >= 2) vfs.xCurrentTimeInt64 = x_current_time_int64;
  if (vfs.iVersion >= 3) {
    vfs.xSetSystemCall = x_set_system_call;
    vfs.xGetSystemCall = x_get_system_call;
    vfs.xNextSystemCall = x_next_system_call;
  }
  return vfs;
}

}  // namespace

base::Status register_vfs() {
  HQL_TRY(watch_for_fork());
  Registration& ours = registration();
  base::MutexLock lock(ours.mutex);
  if (ours.done) return base::ok();
  sqlite3_vfs* const lower = sqlite3_vfs_find(nullptr);
  if (lower == nullptr || lower->zName == nullptr || std::strcmp(lower->zName, "unix") != 0)
    return base::make_error(base::Code::kRefused,
                            std::string("the default VFS of this process is \"") +
                                (lower != nullptr && lower->zName != nullptr ? lower->zName : "none") +
                                "\"; hiqlite works over \"unix\" only: load it before other VFS shims");
  ours.vfs = make_vfs(lower);
  if (sqlite3_vfs_register(&ours.vfs, 0) != SQLITE_OK)
    return base::make_error(base::Code::kInternal, "sqlite3_vfs_register: out of memory");
  ours.done = true;
  ours.default_before = lower;
  return base::ok();
}

base::Status set_default_vfs(bool on) {
  HQL_TRY(register_vfs());
  Registration& ours = registration();
  base::MutexLock lock(ours.mutex);
  if (sqlite3_vfs_register(on ? &ours.vfs : ours.default_before, 1) != SQLITE_OK)
    return base::make_error(base::Code::kInternal, "sqlite3_vfs_register failed");
  return base::ok();
}

}  // namespace vfs

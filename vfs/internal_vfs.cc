// The VFS `hiqlite-internal` (vfs/internal.h): forwards to the unix VFS. Only xOpen of a main database, xShmMap of the first region and
// the WRITE and CKPT bits of xShmLock are its own.
#include <cstring>
#include <new>

#include "base/fault.h"
#include "base/mutex.h"
#include "vfs/internal.h"

namespace vfs {
namespace {

constexpr const char* kVfsName = "hiqlite-internal";
// wal.c: WAL_WRITE_LOCK 0, WAL_CKPT_LOCK 1. The keeper holds both on the real file.
constexpr unsigned kWriteBit = 1u << 0;
constexpr unsigned kVirtualBits = kWriteBit | 1u << 1;

thread_local InternalHooks* t_opening = nullptr;

struct InternalFile {
  sqlite3_file base;
  InternalHooks* hooks;
  bool announced;  // shm_mapped() was called
  bool holds_writer;
};

InternalFile& mine(sqlite3_file* file) { return *reinterpret_cast<InternalFile*>(file); }
sqlite3_file* lower(sqlite3_file* file) { return reinterpret_cast<sqlite3_file*>(&mine(file) + 1); }
sqlite3_vfs* lower(sqlite3_vfs* vfs) { return static_cast<sqlite3_vfs*>(vfs->pAppData); }

int x_close(sqlite3_file* file) noexcept { return lower(file)->pMethods->xClose(lower(file)); }
int x_read(sqlite3_file* file, void* out, int amount, sqlite3_int64 offset) noexcept {
  return lower(file)->pMethods->xRead(lower(file), out, amount, offset);
}
int x_write(sqlite3_file* file, const void* data, int amount, sqlite3_int64 offset) noexcept {
  return lower(file)->pMethods->xWrite(lower(file), data, amount, offset);
}
int x_truncate(sqlite3_file* file, sqlite3_int64 size) noexcept {
  return lower(file)->pMethods->xTruncate(lower(file), size);
}
// The sync that ends a backfill: without it the WAL could be restarted over pages that exist nowhere else.
int x_sync(sqlite3_file* file, int flags) noexcept {
  if (HQL_FAULT_POINT("image.db_sync")) return SQLITE_IOERR_FSYNC;
  return lower(file)->pMethods->xSync(lower(file), flags);
}
int x_file_size(sqlite3_file* file, sqlite3_int64* size) noexcept {
  return lower(file)->pMethods->xFileSize(lower(file), size);
}
int x_lock(sqlite3_file* file, int level) noexcept { return lower(file)->pMethods->xLock(lower(file), level); }
int x_unlock(sqlite3_file* file, int level) noexcept { return lower(file)->pMethods->xUnlock(lower(file), level); }
int x_check_reserved_lock(sqlite3_file* file, int* out) noexcept {
  return lower(file)->pMethods->xCheckReservedLock(lower(file), out);
}
int x_file_control(sqlite3_file* file, int op, void* argument) noexcept {
  return lower(file)->pMethods->xFileControl(lower(file), op, argument);
}
int x_sector_size(sqlite3_file* file) noexcept { return lower(file)->pMethods->xSectorSize(lower(file)); }
int x_device_characteristics(sqlite3_file* file) noexcept {
  return lower(file)->pMethods->xDeviceCharacteristics(lower(file)) | SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

int x_shm_map(sqlite3_file* file, int region, int size, int extend, void volatile** out) noexcept {
  const int rc = lower(file)->pMethods->xShmMap(lower(file), region, size, extend, out);
  if (rc != SQLITE_OK || mine(file).announced || *out == nullptr) return rc;
  const int announced = mine(file).hooks->shm_mapped();
  mine(file).announced = announced == SQLITE_OK;
  return announced;
}

// Calls the lower xShmLock for each run of adjacent bits in `bits`; undone when a later run fails.
int lock_real(sqlite3_file* file, unsigned bits, int flags) {
  unsigned done = 0;
  for (int first = 0; first < SQLITE_SHM_NLOCK; ++first) {
    if ((bits >> first & 1) == 0) continue;
    int count = 1;
    while (first + count < SQLITE_SHM_NLOCK && (bits >> (first + count) & 1) != 0) ++count;
    const int rc = lower(file)->pMethods->xShmLock(lower(file), first, count, flags);
    if (rc != SQLITE_OK) {
      if ((flags & SQLITE_SHM_LOCK) != 0 && done != 0)
        lock_real(file, done, (flags & ~SQLITE_SHM_LOCK) | SQLITE_SHM_UNLOCK);
      return rc;
    }
    done |= ((1u << count) - 1) << first;
    first += count;
  }
  return SQLITE_OK;
}

int x_shm_lock(sqlite3_file* file, int offset, int count, int flags) noexcept {
  const unsigned bits = ((1u << count) - 1) << offset;
  const bool locks = (flags & SQLITE_SHM_LOCK) != 0;
  const bool takes_writer = locks && (bits & kWriteBit) != 0 && !mine(file).holds_writer;
  if (takes_writer && !mine(file).hooks->internal_lock_writer()) return SQLITE_BUSY;
  const int rc = lock_real(file, bits & ~kVirtualBits, flags);
  const bool gives_writer =
      locks ? takes_writer && rc != SQLITE_OK : (bits & kWriteBit) != 0 && mine(file).holds_writer;
  if (gives_writer) mine(file).hooks->internal_unlock_writer();
  if (takes_writer)
    mine(file).holds_writer = rc == SQLITE_OK;
  else if (gives_writer)
    mine(file).holds_writer = false;
  return rc;
}

void x_shm_barrier(sqlite3_file* file) noexcept { lower(file)->pMethods->xShmBarrier(lower(file)); }
int x_shm_unmap(sqlite3_file* file, int delete_file) noexcept {
  return lower(file)->pMethods->xShmUnmap(lower(file), delete_file);
}
int x_fetch(sqlite3_file* file, sqlite3_int64 offset, int amount, void** out) noexcept {
  return lower(file)->pMethods->xFetch(lower(file), offset, amount, out);
}
int x_unfetch(sqlite3_file* file, sqlite3_int64 offset, void* page) noexcept {
  return lower(file)->pMethods->xUnfetch(lower(file), offset, page);
}

const sqlite3_io_methods kMethods = {3,
                                     x_close,
                                     x_read,
                                     x_write,
                                     x_truncate,
                                     x_sync,
                                     x_file_size,
                                     x_lock,
                                     x_unlock,
                                     x_check_reserved_lock,
                                     x_file_control,
                                     x_sector_size,
                                     x_device_characteristics,
                                     x_shm_map,
                                     x_shm_lock,
                                     x_shm_barrier,
                                     x_shm_unmap,
                                     x_fetch,
                                     x_unfetch};

int x_open(sqlite3_vfs* vfs, const char* name, sqlite3_file* file, int flags, int* out_flags) noexcept {
  if ((flags & SQLITE_OPEN_MAIN_DB) == 0) return lower(vfs)->xOpen(lower(vfs), name, file, flags, out_flags);
  file->pMethods = nullptr;
  if (t_opening == nullptr) return SQLITE_CANTOPEN;  // not for the host
  new (file) InternalFile{{nullptr}, t_opening, false, false};
  const int rc = lower(vfs)->xOpen(lower(vfs), name, lower(file), flags, out_flags);
  if (rc == SQLITE_OK && lower(file)->pMethods->iVersion < 3) {
    lower(file)->pMethods->xClose(lower(file));
    return SQLITE_CANTOPEN;
  }
  if (rc == SQLITE_OK) file->pMethods = &kMethods;
  return rc;
}
int x_delete(sqlite3_vfs* vfs, const char* name, int sync_dir) noexcept {
  return lower(vfs)->xDelete(lower(vfs), name, sync_dir);
}
int x_access(sqlite3_vfs* vfs, const char* name, int flags, int* out) noexcept {
  return lower(vfs)->xAccess(lower(vfs), name, flags, out);
}
int x_full_pathname(sqlite3_vfs* vfs, const char* name, int size, char* out) noexcept {
  return lower(vfs)->xFullPathname(lower(vfs), name, size, out);
}
int x_randomness(sqlite3_vfs* vfs, int size, char* out) noexcept {
  return lower(vfs)->xRandomness(lower(vfs), size, out);
}
int x_sleep(sqlite3_vfs* vfs, int micros) noexcept { return lower(vfs)->xSleep(lower(vfs), micros); }
int x_current_time(sqlite3_vfs* vfs, double* out) noexcept { return lower(vfs)->xCurrentTime(lower(vfs), out); }
int x_get_last_error(sqlite3_vfs* vfs, int size, char* out) noexcept {
  return lower(vfs)->xGetLastError(lower(vfs), size, out);
}
int x_current_time_int64(sqlite3_vfs* vfs, sqlite3_int64* out) noexcept {
  return lower(vfs)->xCurrentTimeInt64(lower(vfs), out);
}

base::Status register_internal_vfs() {
  static base::Mutex* const mutex = new base::Mutex;
  static sqlite3_vfs* const vfs = new sqlite3_vfs{};  // SQLite keeps the pointer until the process ends
  const base::MutexLock lock(*mutex);
  if (vfs->zName != nullptr) return base::ok();
  sqlite3_vfs* unix_vfs = sqlite3_vfs_find("unix");
  if (unix_vfs == nullptr || unix_vfs->iVersion < 2)
    return base::make_error(base::Code::kRefused, "this process's SQLite has no \"unix\" VFS");
  vfs->iVersion = 2;
  vfs->szOsFile = static_cast<int>(sizeof(InternalFile)) + unix_vfs->szOsFile;
  vfs->mxPathname = unix_vfs->mxPathname;
  vfs->pAppData = unix_vfs;
  vfs->xOpen = x_open;
  vfs->xDelete = x_delete;
  vfs->xAccess = x_access;
  vfs->xFullPathname = x_full_pathname;
  vfs->xRandomness = x_randomness;
  vfs->xSleep = x_sleep;
  vfs->xCurrentTime = x_current_time;
  vfs->xGetLastError = x_get_last_error;
  vfs->xCurrentTimeInt64 = x_current_time_int64;
  vfs->zName = kVfsName;
  if (sqlite3_vfs_register(vfs, 0) != SQLITE_OK) {
    vfs->zName = nullptr;
    return base::make_error(base::Code::kInternal, "SQLite does not register the VFS hiqlite-internal");
  }
  return base::ok();
}

class OpenScope {
 public:
  explicit OpenScope(InternalHooks& hooks) : before_(t_opening) { t_opening = &hooks; }
  ~OpenScope() { t_opening = before_; }
  OpenScope(const OpenScope&) = delete;
  OpenScope& operator=(const OpenScope&) = delete;

 private:
  InternalHooks* before_;
};

}  // namespace

bool internal_open_active() { return t_opening != nullptr; }

base::Error sqlite_error(sqlite3* db, int rc, const std::string& what) {
  base::Error error =
      base::make_error(base::Code::kSql, what + ": " + (db != nullptr ? sqlite3_errmsg(db) : sqlite3_errstr(rc)));
  error.sqlite_code = db != nullptr ? sqlite3_extended_errcode(db) : rc;
  return error;
}

base::Result<InternalConnection> open_internal(const std::string& path, InternalHooks& hooks) {
  HQL_TRY(register_internal_vfs());
  const OpenScope scope(hooks);
  sqlite3* raw = nullptr;
  const int rc = sqlite3_open_v2(path.c_str(), &raw, SQLITE_OPEN_READWRITE | SQLITE_OPEN_FULLMUTEX, kVfsName);
  InternalConnection db(raw);
  if (rc != SQLITE_OK) return sqlite_error(raw, rc, "open " + path);
  sqlite3_extended_result_codes(raw, 1);
  return db;
}

base::Status execute(sqlite3* db, const char* sql) {
  const int rc = sqlite3_exec(db, sql, nullptr, nullptr, nullptr);
  if (rc != SQLITE_OK) return sqlite_error(db, rc, sql);
  return base::ok();
}

}  // namespace vfs

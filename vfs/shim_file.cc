// The main database file of a managed connection: a table of methods over the lower unix VFS's file. SQLite reads pages and takes its read
// locks as ever; the two WAL locks are virtual (writer_lock.cc); the file itself is written by the node's checkpoints only. SQL threads.
#include <string>

#include "vfs/boundary.h"
#include "vfs/fork.h"
#include "vfs/last_error.h"
#include "vfs/names.h"
#include "vfs/shim_connection.h"

namespace vfs {
namespace {

constexpr int kLockWrite = 0;
constexpr int kLockCheckpoint = 1;
constexpr int kLockReadFirst = 3;  // READ(0); 2 is RECOVER
constexpr int kVirtualLocks = 2;   // WRITE and CKPT
constexpr unsigned kWriteBit = 1U << kLockWrite;
constexpr unsigned kCheckpointBit = 1U << kLockCheckpoint;

ShimConnection& of(sqlite3_file* file) { return *reinterpret_cast<MainFile*>(file)->connection; }

int refuse_write(ShimConnection& connection, const char* what) {
  // A checkpoint by SQLite that found more to do than nothing: BUSY ends it quietly.
  if (connection.holds_checkpoint) return SQLITE_BUSY;
  return report(&connection, base::make_error(base::Code::kRefused,
                                              "database " + connection.name + ": " + what +
                                                  " of the database file; only the node's checkpoints write it"));
}

int x_close(sqlite3_file* file) noexcept {
  return boundary(SQLITE_IOERR_NOMEM, [file] {
    ShimConnection* const connection = &of(file);
    unlock_writer(*connection);
    forget_waiter(*connection);
    if (!in_forked_child()) {
      if (const NodeUse use(*connection->node); use) {
        connection->node->remove(*connection);
        connection->database->detach(*connection);
      } else {
        connection->node->remove(*connection);  // waits for an unbind that is cutting it off
      }
    }
    const int rc = connection->lower->pMethods->xClose(connection->lower);
    delete connection;
    return rc;
  });
}

int x_read(sqlite3_file* file, void* out, int amount, sqlite3_int64 offset) noexcept {
  sqlite3_file* const lower = lower_of(file);
  return lower->pMethods->xRead(lower, out, amount, offset);
}

int x_write(sqlite3_file* file, const void*, int, sqlite3_int64) noexcept {
  return boundary(SQLITE_IOERR_NOMEM, [file] { return refuse_write(of(file), "a write"); });
}

int x_truncate(sqlite3_file* file, sqlite3_int64) noexcept {
  return boundary(SQLITE_IOERR_NOMEM, [file] { return refuse_write(of(file), "a truncation"); });
}

int x_sync(sqlite3_file*, int) noexcept { return SQLITE_OK; }  // nothing was written through this file

int x_file_size(sqlite3_file* file, sqlite3_int64* size) noexcept {
  sqlite3_file* const lower = lower_of(file);
  return lower->pMethods->xFileSize(lower, size);
}

// SHARED only: with EXCLUSIVE the last connection to close would checkpoint and delete the WAL (R16).
int x_lock(sqlite3_file* file, int level) noexcept {
  if (level > SQLITE_LOCK_SHARED) return SQLITE_BUSY;
  sqlite3_file* const lower = lower_of(file);
  return lower->pMethods->xLock(lower, level);
}

int x_unlock(sqlite3_file* file, int level) noexcept {
  sqlite3_file* const lower = lower_of(file);
  return lower->pMethods->xUnlock(lower, level);
}

int x_check_reserved_lock(sqlite3_file* file, int* reserved) noexcept {
  sqlite3_file* const lower = lower_of(file);
  return lower->pMethods->xCheckReservedLock(lower, reserved);
}

int x_file_control(sqlite3_file* file, int operation, void* argument) noexcept {
  return boundary(SQLITE_NOMEM, [&] {
    sqlite3_file* const lower = lower_of(file);
    switch (operation) {
      case SQLITE_FCNTL_PRAGMA:
        return answer_pragma(of(file), static_cast<char**>(argument));
      case SQLITE_FCNTL_PDB:
        // Told again for every connection that joins a shared cache: check_opened() refuses those, but not an ATTACH.
        if (of(file).db == nullptr)
          of(file).db = *static_cast<sqlite3**>(argument);
        else if (of(file).db != *static_cast<sqlite3**>(argument))
          of(file).sharers.fetch_add(1);
        return SQLITE_OK;
      case SQLITE_FCNTL_MMAP_SIZE:
        *static_cast<sqlite3_int64*>(argument) = 0;
        return SQLITE_OK;
      case SQLITE_FCNTL_SIZE_HINT:   // would grow the file
      case SQLITE_FCNTL_CHUNK_SIZE:  // would make later writes grow it in steps
        return SQLITE_OK;
      case SQLITE_FCNTL_BEGIN_ATOMIC_WRITE:
      case SQLITE_FCNTL_COMMIT_ATOMIC_WRITE:
        return SQLITE_NOTFOUND;
      case SQLITE_FCNTL_VFSNAME: {
        const int rc = lower->pMethods->xFileControl(lower, operation, argument);
        char** const name = static_cast<char**>(argument);
        if (rc == SQLITE_OK) *name = sqlite3_mprintf("%s/%z", kVfsName, *name);
        return rc;
      }
      default:
        return lower->pMethods->xFileControl(lower, operation, argument);
    }
  });
}

int x_sector_size(sqlite3_file* file) noexcept {
  sqlite3_file* const lower = lower_of(file);
  return lower->pMethods->xSectorSize(lower);
}

// sqlite3WalOpen() asks the database file: without POWERSAFE_OVERWRITE commit frames are padded and repeated.
int x_device_characteristics(sqlite3_file* file) noexcept {
  sqlite3_file* const lower = lower_of(file);
  const int flags = lower->pMethods->xDeviceCharacteristics(lower);
  return (flags | SQLITE_IOCAP_POWERSAFE_OVERWRITE) & ~(SQLITE_IOCAP_BATCH_ATOMIC | SQLITE_IOCAP_IMMUTABLE);
}

int x_shm_map(sqlite3_file* file, int region, int size, int extend, void volatile** out) noexcept {
  return boundary(SQLITE_IOERR_NOMEM, [&] {
    ShimConnection& connection = of(file);
    // The first region opens the -shm by name, which may be that of the next database by now. Who has it mapped may finish.
    if (connection.wal_index == nullptr)
      if (auto usable = connection.usable(); !usable) return report(&connection, usable.error());
    const int rc = connection.lower->pMethods->xShmMap(connection.lower, region, size, extend, out);
    if (region == 0 && rc == SQLITE_OK) connection.wal_index = *out;
    return rc;
  });
}

// The range of a lock call without the virtual locks, which come first in it.
struct Range {
  int offset = 0;
  int count = 0;
};
Range real_part(int offset, int count) {
  const int first = offset < kVirtualLocks ? kVirtualLocks : offset;
  return {first, offset + count - first};
}

unsigned read_bits(Range range) {
  unsigned bits = 0;
  for (int at = range.offset; at < range.offset + range.count; ++at)
    if (at >= kLockReadFirst) bits |= 1U << (at - kLockReadFirst);
  return bits;
}

int shm_unlock(ShimConnection& connection, unsigned mask, Range real, int flags) {
  int rc = SQLITE_OK;
  if (real.count > 0) rc = connection.lower->pMethods->xShmLock(connection.lower, real.offset, real.count, flags);
  if ((flags & SQLITE_SHM_SHARED) != 0) connection.read_locks &= ~read_bits(real);
  if ((mask & kCheckpointBit) != 0) unlock_checkpoint(connection);
  if ((mask & kWriteBit) != 0) unlock_writer(connection);
  return rc;
}

// A lock that is about to be asked for: a lost write, a stopped node, a fork or a shared cache must be told first.
int before_lock(ShimConnection& connection) {
  if (connection.mark == nullptr)
    connection.queue->used_by_this_thread();  // the executor keeps its transactions to itself
  if (auto usable = connection.usable(); !usable) return report(&connection, usable.error());
  // `db` is then another handle than the one that is inside: a question about it would wait for the shared cache's own mutex.
  if (connection.sharers.load() != 0)
    return report(&connection,
                  base::make_error(base::Code::kRefused,
                                   "database " + connection.name +
                                       " is attached by several connections with a shared cache, which would bypass "
                                       "the locks of the node; detach it from all of them and attach it "
                                       "without SQLITE_OPEN_SHAREDCACHE or cache=shared"));
  if (!connection.lost_write) return SQLITE_OK;
  connection.lost_write = false;
  return report(&connection,
                base::make_error(base::Code::kLostWrite,
                                 "database " + connection.name +
                                     ": a statement with RETURNING was reset before it ended, or a blob handle "
                                     "closed, and its commit then failed: " +
                                     base::to_string(connection.lost_write_cause)));
}

int shm_lock(ShimConnection& connection, unsigned mask, Range real, int flags) {
  if (const int rc = before_lock(connection); rc != SQLITE_OK) return rc;
  if ((mask & kWriteBit) != 0) {
    if (const int rc = lock_writer(connection); rc != SQLITE_OK) return rc;
  }
  if ((mask & kCheckpointBit) != 0) {
    if (const int rc = lock_checkpoint(connection); rc != SQLITE_OK) {
      if ((mask & kWriteBit) != 0) unlock_writer(connection);
      return rc;
    }
  }
  if (real.count <= 0) return SQLITE_OK;
  const int rc = connection.lower->pMethods->xShmLock(connection.lower, real.offset, real.count, flags);
  if (rc == SQLITE_OK) {
    if ((flags & SQLITE_SHM_SHARED) != 0) connection.read_locks |= read_bits(real);
    return rc;
  }
  if ((mask & kCheckpointBit) != 0) unlock_checkpoint(connection);
  if ((mask & kWriteBit) != 0) unlock_writer(connection);
  return rc;
}

int x_shm_lock(sqlite3_file* file, int offset, int count, int flags) noexcept {
  return boundary(SQLITE_IOERR_NOMEM, [&] {
    const unsigned mask = ((1U << count) - 1U) << offset;
    const Range real = real_part(offset, count);
    if ((flags & SQLITE_SHM_UNLOCK) != 0) return shm_unlock(of(file), mask, real, flags);
    return shm_lock(of(file), mask, real, flags);
  });
}

void x_shm_barrier(sqlite3_file* file) noexcept {
  sqlite3_file* const lower = lower_of(file);
  lower->pMethods->xShmBarrier(lower);
}

int x_shm_unmap(sqlite3_file* file, int) noexcept {
  return boundary(SQLITE_IOERR_NOMEM, [file] {
    of(file).wal_index = nullptr;
    sqlite3_file* const lower = lower_of(file);
    return lower->pMethods->xShmUnmap(lower, 0);  // never deletes: the node has it open
  });
}

// Version 2: no xFetch, so no page of the file is ever memory-mapped.
constexpr sqlite3_io_methods kMethods = {2,
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
                                         nullptr,
                                         nullptr};

}  // namespace

const sqlite3_io_methods* main_file_methods() { return &kMethods; }

ShimConnection* connection_of(sqlite3_file* file) {
  return file->pMethods == &kMethods ? reinterpret_cast<MainFile*>(file)->connection : nullptr;
}

}  // namespace vfs

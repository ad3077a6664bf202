// Keeper: the locks that make this process the owner of a database's WAL (R5), and the descriptors they live on.
// OFD locks, because POSIX locks vanish when anything in the process opens and closes the file. For the same reason the descriptors are
// never closed while a connection of this process may hold POSIX locks on the file: closing any descriptor drops those.
// Used by vfs::Database; acquire() on the thread that opens it, the descriptors on any thread.
#pragma once

#include <string>

#include "base/result.h"

namespace vfs {

class Keeper {
 public:
  Keeper() = default;
  ~Keeper();
  Keeper(const Keeper&) = delete;
  Keeper& operator=(const Keeper&) = delete;

  // Opens `path` and `path`-shm, which SQLite has just opened, and takes
  //   -shm      F_WRLCK bytes 120..121 (WAL_WRITE_LOCK, WAL_CKPT_LOCK), F_RDLCK byte 128 (the dead man's switch)
  //   database  F_RDLCK bytes 0x40000002, 510 (SHARED)
  // Waits a little for a plain process that is in the middle of a write. kOwned when it does not end, kIo.
  base::Status acquire(const std::string& path);
  [[nodiscard]] bool held() const { return held_; }
  [[nodiscard]] int database_fd() const { return database_fd_; }
  [[nodiscard]] int shm_fd() const { return shm_fd_; }

  // READ(0) shared and READ(1..4) exclusive: nobody reads the WAL, so that it may be restarted. False: a reader is in it.
  bool lock_readers_out();
  void unlock_readers();

  // Gives the locks up; the descriptors stay open. Idempotent.
  void release();
  // After the internal connection was closed: closes the descriptors, or keeps them for the process's life when a connection still uses
  // the files.
  void close_descriptors();

 private:
  int database_fd_ = -1;
  int shm_fd_ = -1;
  bool held_ = false;
};

// In a forked child: replaces the keepers' descriptors by /dev/null, or the child would keep the locks alive. Async-signal-safe.
// Registered with pthread_atfork by the first acquire().
void keeper_abandon_descriptors() noexcept;

}  // namespace vfs

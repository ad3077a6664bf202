// ShimConnection: what the shim knows of one open managed database file: its Database, its locks, the transaction being captured.
// Created and destroyed by the main file's xOpen and xClose; shared by its WAL file object. All members belong to the thread that is
// inside SQLite with this connection (SQLite's own mutex orders them), but for doom(), which any thread may call.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "base/mutex.h"
#include "base/sqlite.h"
#include "vfs/capture.h"
#include "vfs/connection_table.h"
#include "vfs/database.h"
#include "vfs/names.h"
#include "vfs/shim.h"
#include "vfs/writer_queue.h"

namespace vfs {

enum class WriterHold : std::uint8_t {
  kNone,
  kLocal,   // recovery of a torn header, or a checkpoint that finds nothing to do: no lease, writes no frame
  kLeased,  // a write transaction
};

class ShimConnection final : public Connection {
 public:
  ShimConnection(std::shared_ptr<BoundNode> node, Database& database, sqlite3_file* lower, ExecutorMark* mark);
  ~ShimConnection() override = default;

  // --- Connection ---
  // With kDropped for good: no read begins any more either.
  void doom(const base::Error& reason) override;
  bool is_executor() const override { return mark != nullptr; }
  bool others_wait() override { return queue->is_waited_for(); }
  const char* kind() const override { return is_executor() ? "executor" : "local connection"; }

  [[nodiscard]] bool doomed() const { return doomed_.load(); }
  base::Error doom_reason();
  void clear_doom();
  // The node is being unbound and no method is inside: lets the Database go.
  void cut_off();

  void remember(const base::Error& error);
  base::Error last_error();

  // kForked, kStopped, kDropped; or ok.
  base::Status usable() const;

  const std::shared_ptr<BoundNode> node;  // shared: see BoundNode
  Database* database;                     // null after cut_off(); use inside a NodeUse
  const base::DatabaseId database_id;
  const std::string name;
  const std::string path;
  const std::uint32_t page_size;
  const std::shared_ptr<WriterQueue> queue;  // shared with the other connections of the database
  sqlite3_file* const lower;
  ExecutorMark* const mark;
  std::atomic<sqlite3*> db{nullptr};  // SQLITE_FCNTL_PDB; other connections look for theirs (connection_table.h)
  std::atomic<int> sharers{0};        // handles that joined this file by a shared cache, and were not refused
  base::Micros busy_timeout = 0;      // of our busy handler

  unsigned read_locks = 0;  // bit i: READ(i) held shared
  WriterHold writer = WriterHold::kNone;
  bool holds_checkpoint = false;   // the virtual CKPT lock
  bool checkpoint_writes = false;  // and WRITER with it, which SQLite takes for some checkpoints only
  Grant grant;
  base::LogId committed_in_hold;  // {} while nothing was committed since WRITER was obtained
  base::LogId last_commit;
  bool lost_write = false;  // the next lock call must report it
  base::Error lost_write_cause;
  bool wal_header_synced = false;            // nothing was written to the WAL since
  base::Micros refused_at = 0;               // last time that no lease could be had; 0: not since the last grant
  base::Micros busy_deadline = 0;            // of the busy handler's current series
  volatile const void* wal_index = nullptr;  // region 0, once mapped
  Capture capture;

 private:
  std::atomic<bool> doomed_{false};
  std::atomic<bool> dropped_{false};
  base::Mutex mutex_;
  base::Error doom_reason_ GUARDED_BY(mutex_);
  base::Error last_error_ GUARDED_BY(mutex_);
};

// --- files (shim_file.cc, wal_file.cc) --------------------------------------------------------------------------------
// The objects that SQLite allocates (szOsFile bytes): ours in front, the lower VFS's behind it.
struct MainFile {
  sqlite3_file base;
  ShimConnection* connection;
};
struct WalFile {
  sqlite3_file base;
  ShimConnection* connection;  // of the main file, which is closed later
};
inline constexpr int kShimFileSize = (static_cast<int>(sizeof(MainFile)) + 15) / 16 * 16;
static_assert(sizeof(WalFile) <= kShimFileSize);
inline sqlite3_file* lower_of(sqlite3_file* file) {
  return reinterpret_cast<sqlite3_file*>(reinterpret_cast<std::byte*>(file) + kShimFileSize);
}

// The connection of a main file of ours; null for every other file.
ShimConnection* connection_of(sqlite3_file* file);
// The connection of a schema ("main") of a sqlite3*; null when it is not managed. Any thread that may use `db`.
ShimConnection* connection_of(sqlite3* db, const char* schema);

const sqlite3_io_methods* main_file_methods();
// xFullPathname has made `path` of a name that asked for `request`; open_main_file(path) may follow on this thread. Where SQLite does not read
// names as URIs, `path` comes without its parameters.
void note_resolved(std::string path, OpenRequest request);
// open_file.cc. `file` gets methods only on SQLITE_OK. A main file that is not managed is the lower VFS's own object, untouched.
int open_main_file(sqlite3_vfs* lower, const char* filename, sqlite3_file* file, int flags, int* out_flags);
int open_wal_file(sqlite3_vfs* lower, const char* filename, sqlite3_file* file, int flags, int* out_flags,
                  ShimConnection& connection);

// --- the virtual locks (writer_lock.cc) -------------------------------------------------------------------------------
int lock_writer(ShimConnection& connection);
void unlock_writer(ShimConnection& connection);
int lock_checkpoint(ShimConnection& connection);
void unlock_checkpoint(ShimConnection& connection);
// The busy handler of managed connections; `context` is the sqlite3*.
int busy_handler(void* context, int count) noexcept;
// xSleep on this thread after a WRITER that was busy: sleeps until its turn. False: nothing to wait for, sleep as asked.
bool sleep_in_queue(int microseconds);
// The connection goes away: no thread waits for it any more.
void forget_waiter(const ShimConnection& connection);

// --- the held commit (held_commit.cc) ---------------------------------------------------------------------------------
// The commit frame's page has come: proposes, waits, and when committed writes the frame. A SQLite code.
int commit_held_frame(ShimConnection& connection, sqlite3_file* wal, base::ByteView page);
// The code of an operation on the WAL: what fails after the commit was allowed is HQL_COMMITTED, so that nobody runs it again; what fails before,
// where drivers drop the code, is noted as a lost write.
int wal_code(ShimConnection& connection, int code);
// After WRITER was used: whether SQLite published the transaction that was allowed; if not, reports kCommitted.
void check_published(ShimConnection& connection);

// --- refusals (refusals.cc) -------------------------------------------------------------------------------------------
// Another database of this connection that has a write transaction open and cannot commit with this one; or ok.
base::Status check_single_database(ShimConnection& connection);
// SQLITE_FCNTL_PRAGMA. SQLITE_NOTFOUND: SQLite goes on with it.
int answer_pragma(ShimConnection& connection, char** arguments);
// A checkpoint asked for by a statement of the connection, not by the autocheckpoint hook.
bool checkpoint_by_statement(sqlite3* db);
// Whether a commit running now runs inside sqlite3_reset or sqlite3_finalize of a statement whose row was already seen, or inside
// sqlite3_blob_close.
bool commit_in_reset(sqlite3* db);

}  // namespace vfs

// Database: one replicated SQLite file of this node: the real DatabaseImage, and what the shim needs of it.
// It owns the page hashes (R11), the virtual WRITER and CKPT locks (R4, R5), the keeper's OFD locks, the wal-index writer, sync points,
// checkpoints and recovery. The shim (vfs/shim) is its other user.
// Threads: shim methods run on any SQL thread; image methods on the loop, apply and maintenance lanes; state is guarded by mutex_,
// which is never held across I/O, a SQLite call or a wait.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/env.h"
#include "base/lane.h"
#include "pages/image.h"
#include "pages/sums.h"
#include "vfs/gate.h"

namespace vfs {

struct DatabaseParams {
  base::Env* env = nullptr;
  Gate* gate = nullptr;
  base::Lane* loop = nullptr;
  base::Lane* apply = nullptr;
  base::Lane* maintenance = nullptr;
  std::string dir;  // absolute <data_dir>/db
  std::string name;
  base::DatabaseId id;
  std::uint32_t page_size = 4096;
};

using pages::RedoCandidate;

// The state a transaction is computed on: fixed while WRITER is held.
struct CommittedState {
  base::LogId last;  // last published transaction (or the CreateDatabase entry)
  std::uint64_t digest = 0;
  pages::PageNo page_count = 0;
};

// One open main-database file of a connection through the shim. Owned by the shim's file object; registered with its Database.
// The flags are read by the shim's thread and set by others.
class Connection;

class Database : public pages::DatabaseImage {
 public:
  // Creates the files (page 1 goes into the database file first) and the sums; durable when it returns. Apply lane or start-up.
  static base::Result<std::unique_ptr<Database>> create(DatabaseParams params, base::LogId id,
                                                        const pages::CreateDatabase& create);
  // Start-up, before lanes run: SQLite recovers its WAL, the digest gives the position among base and `candidates`.
  // After it, the node publishes every effective transaction after status().applied.
  // kForeignWrite when it matches none, unless it may be ahead of the log and `adopt` knows what to do (pages/image.h).
  static base::Result<std::unique_ptr<Database>> open(DatabaseParams params,
                                                      const std::vector<RedoCandidate>& candidates,
                                                      const pages::Adopt& adopt = {});
  // The base recorded in <name>.sums: candidates are wanted from there on. kNotFound when there is none.
  static base::Result<base::LogId> recorded_base(base::Env& env, const std::string& dir, const std::string& name);

  // Stops: checkpoints if it can (2 s at most, and not when `deadline` has passed, Env::now() scale), releases the keeper locks and closes the
  // internal connections. With no reader left the WAL
  // is then gone and the file is a plain database. Not on a lane. Destroying an image without close() leaves all to recovery.
  virtual void close(base::Micros deadline = INT64_MAX) = 0;

  // --- for the shim, on SQL threads ------------------------------------------------------------------------------------
  virtual const DatabaseParams& params() const = 0;
  virtual std::string file_path() const = 0;                // <dir>/<name>
  virtual base::Status attach(Connection& connection) = 0;  // kDropped, kStopped
  virtual void detach(Connection& connection) = 0;
  // The virtual WRITER lock. kBusy at once when another local connection holds it; the applier and checkpoints hold it shortly and are
  // waited for (kBusy after a second). Connection::doom may be called, under the database's mutex, as soon as it is held.
  virtual base::Status try_lock_writer(Connection& connection) = 0;
  // Waits until the image has published `through` (a Grant) and WRITER is taken by `connection`, or the deadline (kTimeout).
  virtual base::Status lock_writer_after(Connection& connection, base::LogId through, base::Micros deadline) = 0;
  // Idempotent. If a commit of `connection` was allowed but SQLite did not publish it, the applier does.
  virtual void unlock_writer(Connection& connection) = 0;
  // The virtual CKPT lock: ours is the only checkpointer; kBusy for everybody else.
  // Runs the node's checkpoint and waits for it (PRAGMA wal_checkpoint), up to the deadline.
  virtual base::Status run_checkpoint(base::Micros deadline) = 0;

  // WRITER held: the state to compute a transaction on.
  virtual CommittedState committed_state() = 0;
  // WRITER held (or the applier): the last committed image of a page, page_size bytes, checked against the page hashes:
  // kDiverged when they disagree (R11). kNotFound beyond the end.
  virtual base::Status committed_page(pages::PageNo page, base::MutableByteView out) = 0;
  // WRITER held: digest and page hashes that the transaction would give; remembered as pending until committed() or dropped.
  // `changed` = (page, hash of the new image); pages beyond size_after leave the digest.
  virtual std::uint64_t digest_with(const std::vector<std::pair<pages::PageNo, std::uint64_t>>& changed,
                                    pages::PageNo size_after) = 0;
  // The held commit of `connection` (origin as submitted) was allowed: from now on it is committed whatever SQLite does.
  virtual void commit_allowed(Connection& connection, base::LogId id, std::uint64_t digest_after,
                              pages::PageNo size_after,
                              std::vector<std::pair<pages::PageNo, std::uint64_t>> changed) = 0;
  // A new WAL header is about to be written with these salts, its bytes 16..19 and 20..23 as big-endian numbers (walRestartHdr): they are
  // recorded in .sums before the first frame (section 7).
  virtual base::Status wal_restarted(std::uint32_t salt1, std::uint32_t salt2) = 0;
  // WRITER held: the -wal reaches to the byte offset `end` at least, so that what is written before it needs no more space. kFull, kIo.
  virtual base::Status reserve_wal(std::uint64_t end) = 0;
  // WRITER held: the -wal was cut.
  virtual void wal_truncated() = 0;
};

// A connection as its Database sees it (the shim derives from it).
class Connection {
 public:
  virtual ~Connection() = default;
  // Its open write transaction can no longer commit (R4). Any thread; sticky until unlock_writer.
  virtual void doom(const base::Error& reason) = 0;
  // The executor's connection: its batches have limits of their own. Any thread.
  virtual bool is_executor() const = 0;
  // Whether another connection waits for WRITER. Any thread, under the database's mutex.
  virtual bool others_wait() = 0;
  // "local connection", "executor": for status.
  virtual const char* kind() const = 0;
};

}  // namespace vfs

// DatabaseImage: one database of this node as the node sees it (R1). Real: vfs::Database (a SQLite file, its -wal and wal-index).
// Simulated: tests/sim (page arrays over Env). All calls come from the loop lane unless said otherwise and never block; the work runs
// on the apply or maintenance lane, and `done` is called on the *loop* lane.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "pages/tx.h"

namespace pages {

// What the node tells the image about one transaction to publish. Payloads as in the log; a chain's parts come first.
struct PublishJob {
  LogId id;  // of the Tx (the final one of a chain)
  TxHeader header;
  base::SharedBytes payload;             // the Tx entry
  std::vector<base::SharedBytes> parts;  // TxPart entries in order
};

enum class ImageState : std::uint8_t { kOk, kParked, kInstalling, kDiverged, kForeignWrite, kAheadOfLog, kDropped };
const char* to_string(ImageState state);  // the words of hql_status()

struct ImageStatus {
  ImageState state = ImageState::kOk;
  std::string path;
  LogId applied;  // last published transaction
  LogId base;     // last sync point
  std::uint64_t digest = 0;
  PageNo page_count = 0;
  std::string writer;  // "", "local connection", "executor", "applier"
  std::string apply_blocked_by;
  // Env::now(): a local transaction that is doomed holds WRITER since then; 0: none does
  base::Micros doomed_since = 0;
};

// An open write transaction that keeps others from writing (DESIGN 5.2).
struct Overdue {
  base::Micros began_before = 0;  // Env::now(): holds WRITER since before this
  bool lease_is_wanted = false;   // somebody waits for the lease; else only who waits for WRITER counts
};

class DatabaseImage {
 public:
  virtual ~DatabaseImage() = default;
  // Makes an effective transaction visible here; in log order per database, the next only after `done` of the one before.
  // If the transaction was made by a local connection that still holds WRITER, this waits until that connection has published it
  // and unlocked; if SQLite failed after the commit was allowed, the image publishes it itself. If another local connection
  // holds WRITER, its transaction is doomed and the job parks until the unlock (R4).
  // Errors: kDiverged (old image or digest_after do not match; nothing was published), kIo, kFull (tried again by the node later).
  virtual void publish(PublishJob job, std::function<void(base::Status)> done) = 0;
  // Makes everything applied so far durable in SQLite's own files and records it as base (DESIGN section 7). The caller guarantees that
  // the log up to the applied index is durable, and that it stays so until `done`. done: the new base.
  virtual void sync_point(std::function<void(base::Result<LogId>)> done) = 0;
  // Bulk PASSIVE, then RESTART without waiting, after a sync point of its own: the same guarantee is wanted. done(ok) also when readers kept
  // it from finishing.
  virtual void checkpoint(std::function<void(base::Status)> done) = 0;
  // The local transaction that holds WRITER can no longer commit: its further WAL reads, writes and commit fail (R4). One whose commit has
  // begun is left alone: its outcome is the log's.
  virtual void doom_local_writer(const base::Error& reason) = 0;
  // The same, if it is the application's (the executor's batches have limits of their own), overdue, and somebody waits. True: this call
  // doomed it.
  virtual bool doom_overdue_writer(const Overdue& overdue, const base::Error& reason) = 0;
  // Refuses new connections and fails open ones with kDropped; removes the files when the last connection has gone.
  virtual void drop(std::function<void(base::Status)> done) = 0;
  // Any thread.
  virtual ImageStatus status() = 0;
};

// A transaction of the log that may be in the SQLite files, for recovery by digest (DESIGN section 7). In log order, after base.
struct RedoCandidate {
  LogId id;
  std::uint64_t digest_after = 0;
  PageNo size_after = 0;
  std::vector<PageNo> touched;
};

// The content of a database that is none of the states that the log knows, by a WAL that this node wrote: after a power cut the files may
// hold transactions that the log has lost (log_sync = "interval_<ms>", DESIGN section 7).
struct AheadOfLog {
  std::uint64_t digest = 0;
  PageNo size = 0;
  std::vector<PageNo> changed;  // every page that can differ from the state after the last candidate
  std::function<base::Status(PageNo, base::MutableByteView out)> read;
};
// Makes the content a transaction of the log, durably, and returns its id; or the error that the open is to fail with.
using Adopt = std::function<base::Result<LogId>(const AheadOfLog& content)>;

// Makes and opens the images of one node. Real: vfs/images.h. Simulated: tests/sim.
class ImageFactory {
 public:
  virtual ~ImageFactory() = default;
  // Creates the files durably. Apply lane (blocking is allowed there). An existing file of a half-done create is replaced.
  virtual base::Result<std::unique_ptr<DatabaseImage>> create(const CreateDatabase& create, LogId id) = 0;
  // Start-up, before lanes run; see vfs::Database::open. After it status().applied is the position. A content that the log does not know is
  // kForeignWrite; but when it may be ahead of the log, and `adopt` is not empty, that is asked.
  virtual base::Result<std::unique_ptr<DatabaseImage>> open(const std::string& name, DatabaseId db,
                                                            std::uint32_t page_size,
                                                            const std::vector<RedoCandidate>& candidates,
                                                            const Adopt& adopt) = 0;
  // Start-up: renames the files of a database that is not open, `suffix` behind their names, durably. What is missing is left out.
  virtual base::Status set_aside(const std::string& name, const std::string& suffix) = 0;
  // The sync point on disk: redo candidates are wanted after it. kNotFound: no such database here.
  virtual base::Result<LogId> recorded_base(const std::string& name) = 0;
};

}  // namespace pages

// Checkpoints: SQLite's own, on the internal connection (DESIGN section 7). The three syncs: the WAL before a backfill (SQLite's, at
// synchronous=FULL), the database before a restart of the WAL (SQLite syncs it when it finishes a backfill, and only then is a restart
// possible), the header of the new WAL before its first frame (publish.cc and the shim). Maintenance lane and close().
#include <memory>

#include "base/posix_env.h"
#include "vfs/database_impl.h"
#include "vfs/slot.h"

namespace vfs {
namespace {

// How long a checkpoint waits for its turn as WRITER: transactions that wait for a quorum hold it for milliseconds.
constexpr base::Micros kWriterWaitMax = 500 * base::kMillisecond;
// A header torn by the applier makes SQLite ask for WRITER, which it does not get: a look later it is whole.
constexpr int kTornHeaderTriesMax = 100;

base::Status wait_for(Slot<base::Status>& slot, base::Micros deadline, const std::string& too_late) {
  const auto answer = slot.wait(
      deadline, [] { return base::posix_env().now(); }, [] { return false; });
  return answer ? *answer : base::make_error(base::Code::kTimeout, too_late);
}

}  // namespace

void DatabaseImpl::checkpoint(std::function<void(base::Status)> done) {
  post(params_.maintenance, [this, done = std::move(done)]() mutable {
    report<base::Status>(std::move(done), checkpoint_now(params_.env->now() + kWriterWaitMax));
  });
}

// Until `deadline`. An error holds nothing: an answer that comes too late gives back what it holds.
base::Status DatabaseImpl::hold_log(base::Micros deadline) {
  Gate* const gate = params_.gate;
  if (gate == nullptr) return base::ok();
  const auto slot = std::make_shared<Slot<base::Status>>([gate](const base::Status& late) {
    if (late) gate->release_log();
  });
  gate->hold_log([slot](base::Status held) { slot->set(std::move(held)); });
  return wait_for(*slot, deadline, "the log is still being synced");
}

base::Status DatabaseImpl::run_checkpoint(base::Micros deadline) {
  {
    const base::MutexLock lock(mutex_);
    HQL_TRY(usable());
  }
  HQL_TRY(hold_log(deadline));
  const auto slot = std::make_shared<Slot<base::Status>>();
  post(params_.maintenance, [this, slot, deadline] {
    base::Status status = checkpoint_now(deadline);
    if (params_.gate != nullptr) params_.gate->release_log();
    slot->set(std::move(status));
  });
  return wait_for(*slot, deadline, "the checkpoint of " + params_.name + " is still running");
}

base::Status DatabaseImpl::checkpoint_now(base::Micros writer_deadline) {
  // base first: afterwards the WAL may be restarted, and what it held is then in the database.
  const auto base = sync_point_now();
  if (!base) return base.error();
  const Backfill left = backfill_left();
  if (left == Backfill::kNothing) return base::ok();
  if (left == Backfill::kSome) {
    HQL_ASSIGN(all, backfill(SQLITE_CHECKPOINT_PASSIVE));
    if (all) return base::ok();
  }
  // Under load PASSIVE never reaches the end: the rest is done while nobody appends. Without waiting for readers.
  if (!lock_for_maintenance(writer_deadline)) return base::ok();
  base::Status status = base::ok();
  if (const auto header = sound_header(); !header && header.error().code == base::Code::kDiverged)
    status = named(header.error());
  else if (const auto rest = backfill(SQLITE_CHECKPOINT_RESTART); !rest)
    status = rest.error();
  unlock_for_maintenance();
  return status;
}

// A checkpoint with nothing to do must not begin. SQLite's copies the header, then compares the copy's last frame with the live count of
// what is backfilled (sqlite3WalCheckpoint, walCheckpoint) and does not look at the header again: a restart of the WAL in between sets the
// count to 0, and the frames of the new WAL are taken for those of the old one. A local writer's read lock tells it; the applier's are gone
// by then. While something is left nobody restarts the WAL: only this lane raises the count.
DatabaseImpl::Backfill DatabaseImpl::backfill_left() const {
  for (int attempt = 0; attempt < kTornHeaderTriesMax; ++attempt)
    if (const auto all = index_->all_backfilled()) return *all ? Backfill::kNothing : Backfill::kSome;
  return Backfill::kUnknown;
}

// True: every frame is in the database.
base::Result<bool> DatabaseImpl::backfill(int mode) {
  HQL_TRY(require_syncs_ok());
  for (int attempt = 0;; ++attempt) {
    int frames = -1;
    int done = -1;
    const int rc = sqlite3_wal_checkpoint_v2(connection_.get(), "main", mode, &frames, &done);
    if (rc == SQLITE_OK) {
      if (frames < 0) return named(base::make_error(base::Code::kInternal, "SQLite's checkpoint did not see a WAL"));
      return frames == done;
    }
    if ((rc & 0xff) == SQLITE_BUSY) {
      if (frames < 0 && attempt < kTornHeaderTriesMax) continue;
      return false;
    }
    base::Error error = named(sqlite_error(connection_.get(), rc, "checkpoint"));
    if ((rc & 0xff) == SQLITE_FULL) error.code = base::Code::kFull;
    // Which of its writes or syncs failed is not known: none is tried again (R13).
    if ((rc & 0xff) == SQLITE_IOERR) note_failed_sync();
    return error;
  }
}

}  // namespace vfs

// Sync points: everything applied becomes durable in SQLite's own files and is recorded as base in `.sums` (DESIGN section 7).
// Maintenance lane and close(); wal_restarted() on whoever restarts the WAL.
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/fault.h"
#include "vfs/database_impl.h"

namespace vfs {

void DatabaseImpl::sync_point(std::function<void(base::Result<base::LogId>)> done) {
  post(params_.maintenance, [this, done = std::move(done)]() mutable {
    report<base::Result<base::LogId>>(std::move(done), sync_point_now());
  });
}

base::Status DatabaseImpl::require_syncs_ok() {
  const base::MutexLock lock(mutex_);
  if (sync_failed_)
    return named(base::make_error(base::Code::kIo, "a sync of its files failed; restart the node: it redoes the log"));
  return base::ok();
}

// A base beyond the end of the log would be a state that nobody can redo. Whoever asks for a sync point holds the log synced.
base::Status DatabaseImpl::require_synced_log() {
  if (params_.gate == nullptr || params_.gate->log_synced()) return base::ok();
  return base::make_error(base::Code::kBusy, "the log is not synced up to what is applied");
}

void DatabaseImpl::note_failed_sync() {
  const base::MutexLock lock(mutex_);
  sync_failed_ = true;
}

base::Status DatabaseImpl::sync_wal() {
  HQL_TRY(require_syncs_ok());
  if (const auto fault = HQL_FAULT_POINT("image.wal_sync")) {
    note_failed_sync();
    return named(fault->error("sync the WAL"));
  }
  if (::fdatasync(wal_fd_) == 0) return base::ok();
  const int error = errno;
  note_failed_sync();
  return named(base::make_error(base::Code::kIo, std::string("sync the WAL: ") + std::strerror(error)));
}

base::Result<base::LogId> DatabaseImpl::sync_point_now() {
  HQL_TRY(require_syncs_ok());
  const base::MutexLock sums_lock(sums_mutex_);
  if (!sums_file_) return base::make_error(base::Code::kDropped, "database " + params_.name + " was dropped");
  pages::SumsRecord record = sums_file_->record();
  std::vector<std::pair<std::uint32_t, base::Bytes>> blocks;
  {
    const base::MutexLock lock(mutex_);
    if (state_ != pages::ImageState::kOk) {
      if (const base::Status status = usable(); !status) return status.error();
    }
    for (const std::uint32_t block : sums_.take_dirty_blocks()) blocks.emplace_back(block, sums_.block(block));
    if (blocks.empty() && applied_ == base_) return base_;
    record.base = applied_;
    record.digest = sums_.digest();
    record.page_count = sums_.page_count();
  }
  base::Status status = require_synced_log();
  if (status) status = sync_wal();
  if (status) status = sums_file_->write_blocks(blocks);
  if (status) status = sums_file_->write_record(record);
  const base::MutexLock lock(mutex_);
  if (!status) {
    // What the failed writes left in `.sums` is found by its checksums; here every block counts as unsaved again.
    sums_.mark_all_dirty();
    sync_failed_ = sync_failed_ || status.error().code == base::Code::kIo;
    return named(status.error());
  }
  base_ = record.base;
  return base_;
}

base::Status DatabaseImpl::wal_restarted(std::uint32_t salt1, std::uint32_t salt2) {
  const base::MutexLock lock(sums_mutex_);
  pages::SumsRecord record = sums_file_->record();
  record.wal_salt[0] = record.wal_salt_next[0];
  record.wal_salt[1] = record.wal_salt_next[1];
  record.wal_salt_next[0] = salt1;
  record.wal_salt_next[1] = salt2;
  const base::Status status = sums_file_->write_record(record);
  if (!status) return named(status.error());
  return base::ok();
}

}  // namespace vfs

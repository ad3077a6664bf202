// WRITER and the bookkeeping around it, status, drop and close (vfs/database_impl.h). SQL threads and the loop lane.
#include "vfs/database_impl.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "base/posix_env.h"

namespace vfs {
namespace {

constexpr base::Micros kCloseMax = 2 * base::kSecond;
// The applier and checkpoints hold WRITER for milliseconds: waiting for them spares the application a BUSY that no other writer caused.
constexpr base::Micros kShortHoldMax = base::kSecond;

}  // namespace

class DatabaseImpl::Ticket {
 public:
  explicit Ticket(std::shared_ptr<Outstanding> outstanding) : outstanding_(std::move(outstanding)) {
    const base::MutexLock lock(outstanding_->mutex);
    ++outstanding_->count;
  }
  ~Ticket() {
    const base::MutexLock lock(outstanding_->mutex);
    if (--outstanding_->count == 0) outstanding_->gone.notify_all();
  }
  Ticket(const Ticket&) = delete;
  Ticket& operator=(const Ticket&) = delete;

 private:
  const std::shared_ptr<Outstanding> outstanding_;
};

DatabaseImpl::DatabaseImpl(DatabaseParams params)
    : params_(std::move(params)), path_(params_.dir + "/" + params_.name), sums_(params_.page_size) {}

DatabaseImpl::~DatabaseImpl() {
  {
    const base::MutexLock lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  while (!wait_for_tickets(base::posix_env().now() + kCloseMax))
    base::log_warn("database " + params_.name + ": work is still running");
  connection_.reset();
  if (wal_fd_ >= 0) ::close(wal_fd_);
}

void DatabaseImpl::post(base::Lane* lane, std::function<void()> work) {
  auto ticket = std::make_shared<Ticket>(outstanding_);
  lane->post([ticket = std::move(ticket), work = std::move(work)] { work(); });
}

bool DatabaseImpl::wait_for_tickets(base::Micros deadline) {
  const base::MutexLock lock(outstanding_->mutex);
  while (outstanding_->count > 0)
    if (!outstanding_->gone.wait_until(outstanding_->mutex, deadline)) return outstanding_->count == 0;
  return true;
}

base::Error DatabaseImpl::named(base::Error error) const {
  error.message = "database " + params_.name + ": " + error.message;
  return error;
}

void DatabaseImpl::set_state(pages::ImageState state, const std::string& why) {
  if (state_ != pages::ImageState::kOk) return;  // the first trouble names the database's state
  state_ = state;
  state_reason_ = why;
  changed_.notify_all();
  base::log_error("database " + params_.name + " is " + to_string(state) + ": " + why);
}

base::Status DatabaseImpl::usable() const {
  switch (state_) {
    case pages::ImageState::kDropped:
      return base::make_error(base::Code::kDropped, "database " + params_.name + " was dropped");
    case pages::ImageState::kDiverged:
      return base::make_error(base::Code::kDiverged, "database " + params_.name + ": " + state_reason_);
    case pages::ImageState::kForeignWrite:
      return base::make_error(base::Code::kForeignWrite, "database " + params_.name + ": " + state_reason_);
    case pages::ImageState::kOk:
    case pages::ImageState::kParked:
    case pages::ImageState::kInstalling:
    case pages::ImageState::kAheadOfLog:
      break;
  }
  if (stopping_) return base::make_error(base::Code::kStopped, "the node is stopping");
  return base::ok();
}

// --- WRITER ---------------------------------------------------------------------------------------------------------------

void DatabaseImpl::take_for(Connection& connection) {
  CHECK(holder_ == Holder::kNone);
  holder_ = Holder::kConnection;
  writer_ = &connection;
  writer_since_ = params_.env->now();
  doomed_ = false;
  pending_digest_.reset();
  allowed_.reset();
}

void DatabaseImpl::hand_over() {
  const bool from_applier = holder_ == Holder::kApplier;
  holder_ = Holder::kNone;
  writer_ = nullptr;
  doomed_ = false;
  internal_took_ = false;
  pending_digest_.reset();
  if (maintenance_waiting_ > 0 && !maintenance_granted_ && (from_applier || !parked_)) {
    holder_ = Holder::kMaintenance;
    maintenance_granted_ = true;
  } else if (parked_) {
    holder_ = Holder::kApplier;
    auto parked = std::make_shared<Parked>(std::move(*parked_));
    parked_.reset();
    post(params_.apply, [this, parked] { run_publish(*parked); });
  }
  changed_.notify_all();
}

base::Status DatabaseImpl::attach(Connection& connection) {
  const base::MutexLock lock(mutex_);
  if (state_ == pages::ImageState::kDropped) return usable();
  if (stopping_) return base::make_error(base::Code::kStopped, "the node is stopping");
  attached_.insert(&connection);
  return base::ok();
}

void DatabaseImpl::detach(Connection& connection) {
  unlock_writer(connection);
  {
    const base::MutexLock lock(mutex_);
    attached_.erase(&connection);
  }
  let_files_go();
}

base::Status DatabaseImpl::try_lock_writer(Connection& connection) {
  const base::MutexLock lock(mutex_);
  HQL_TRY(usable());
  if (holder_ == Holder::kConnection && writer_ == &connection) return base::ok();
  if (holder_ == Holder::kApplier || holder_ == Holder::kMaintenance) {
    const base::Micros deadline = base::posix_env().now() + kShortHoldMax;
    while ((holder_ == Holder::kApplier || holder_ == Holder::kMaintenance) && base::posix_env().now() < deadline)
      (void)changed_.wait_until(mutex_, deadline);
    HQL_TRY(usable());
  }
  if (holder_ != Holder::kNone)
    return base::make_error(base::Code::kBusy, "another transaction writes to " + params_.name);
  if (owed_)
    return base::make_error(base::Code::kBusy, "a committed transaction of " + params_.name + " is being published");
  take_for(connection);
  return base::ok();
}

base::Status DatabaseImpl::lock_writer_after(Connection& connection, base::LogId through, base::Micros deadline) {
  const base::MutexLock lock(mutex_);
  while (true) {
    HQL_TRY(usable());
    if (holder_ == Holder::kConnection && writer_ == &connection) return base::ok();
    if (holder_ == Holder::kNone && !owed_ && applied_.index >= through.index) {
      take_for(connection);
      return base::ok();
    }
    if (params_.env->now() >= deadline) break;
    (void)changed_.wait_until(mutex_, deadline);
  }
  const char* what = applied_.index < through.index ? " has not applied what the grant names" : " is being written to";
  return base::make_error(base::Code::kTimeout, "database " + params_.name + what);
}

void DatabaseImpl::unlock_writer(Connection& connection) {
  std::function<void(base::Status)> published_done;
  base::Lane* const loop = params_.loop;
  base::MutexLock lock(mutex_);
  if (holder_ != Holder::kConnection || writer_ != &connection) return;
  bool published = false;
  if (allowed_) {
    const auto header = index_->header();
    published = header && allowed_->header_known && !(*header == allowed_->before);
    if (published)
      account(allowed_->id, allowed_->size_after, allowed_->changed);
    else
      owed_ = allowed_->id;
    allowed_.reset();
  }
  if (doomed_ && !published) {
    // Its page cache may hold what it read while its transaction was already lost: a changed header empties it (R4).
    if (auto header = index_->header()) {
      ++header->change;
      index_->publish(*header);
    }
  }
  if (parked_ && parked_->job.id.index <= applied_.index) {
    published_done = std::move(parked_->done);
    parked_.reset();
  }
  hand_over();
  lock.unlock();
  // Waking the loop's thread for this would only put it in the way of the next transaction.
  if (published_done) loop->post_and_help([done = std::move(published_done)] { done(base::ok()); });
}

bool DatabaseImpl::lock_for_maintenance(base::Micros deadline) {
  const base::MutexLock lock(mutex_);
  if (holder_ == Holder::kNone) {
    holder_ = Holder::kMaintenance;
    return true;
  }
  ++maintenance_waiting_;
  while (!maintenance_granted_ && base::posix_env().now() < deadline) (void)changed_.wait_until(mutex_, deadline);
  --maintenance_waiting_;
  const bool granted = maintenance_granted_;
  maintenance_granted_ = false;
  return granted;
}

void DatabaseImpl::unlock_for_maintenance() {
  const base::MutexLock lock(mutex_);
  CHECK(holder_ == Holder::kMaintenance);
  hand_over();
}

bool DatabaseImpl::internal_lock_writer() {
  const base::MutexLock lock(mutex_);
  if (!started_ || closed_) return true;
  if (holder_ == Holder::kMaintenance) return true;  // the checkpoint that asks holds it
  if (holder_ != Holder::kNone) return false;
  holder_ = Holder::kMaintenance;
  internal_took_ = true;
  return true;
}

void DatabaseImpl::internal_unlock_writer() {
  const base::MutexLock lock(mutex_);
  if (internal_took_) hand_over();
}

void DatabaseImpl::doom_local_writer(const base::Error& reason) {
  const base::MutexLock lock(mutex_);
  if (can_be_doomed()) doom_writer(reason);
}

bool DatabaseImpl::doom_overdue_writer(const pages::Overdue& overdue, const base::Error& reason) {
  const base::MutexLock lock(mutex_);
  if (!can_be_doomed() || doomed_ || writer_->is_executor() || writer_since_ >= overdue.began_before) return false;
  if (!overdue.lease_is_wanted && !writer_->others_wait()) return false;
  doom_writer(reason);
  return true;
}

// With the digest that it would give, a transaction goes to the gate: from there on it commits or rolls back without being told.
bool DatabaseImpl::can_be_doomed() const { return holder_ == Holder::kConnection && !pending_digest_ && !allowed_; }

void DatabaseImpl::doom_writer(const base::Error& reason) {
  if (!doomed_) doomed_since_ = params_.env->now();
  doomed_ = true;
  writer_->doom(reason);
}

// --- what a transaction is computed on, and its bookkeeping -----------------------------------------------------------------

CommittedState DatabaseImpl::committed_state() {
  const base::MutexLock lock(mutex_);
  return {applied_, sums_.digest(), sums_.page_count()};
}

std::uint64_t DatabaseImpl::digest_if(const ChangedPages& changed, pages::PageNo size_after) const {
  std::uint64_t digest = sums_.digest();
  for (pages::PageNo page = size_after + 1; page <= sums_.page_count(); ++page) digest ^= sums_.at(page);
  const pages::PageNo lock_page = pages::lock_byte_page(params_.page_size);
  for (const auto& [page, hash] : changed)
    if (page <= size_after && page != lock_page) digest ^= sums_.at(page) ^ hash;
  return digest;
}

std::uint64_t DatabaseImpl::digest_with(const ChangedPages& changed, pages::PageNo size_after) {
  const base::MutexLock lock(mutex_);
  pending_digest_ = digest_if(changed, size_after);
  return *pending_digest_;
}

void DatabaseImpl::account(base::LogId id, pages::PageNo size_after, const ChangedPages& changed) {
  // An exception (out of memory) on the way leaves hashes and index of different transactions: nothing is recorded then until a restart.
  const bool sync_failed = std::exchange(sync_failed_, true);
  sums_.resize(size_after);
  for (const auto& [page, hash] : changed)
    if (page <= size_after) sums_.set(page, hash);
  applied_ = id;
  if (owed_ && owed_->index <= id.index) owed_.reset();
  sync_failed_ = sync_failed;
}

void DatabaseImpl::commit_allowed(Connection& connection, base::LogId id, std::uint64_t digest_after,
                                  pages::PageNo size_after, ChangedPages changed) {
  const base::MutexLock lock(mutex_);
  CHECK(holder_ == Holder::kConnection);
  CHECK(writer_ == &connection);
  Allowed allowed;
  allowed.id = id;
  allowed.digest_after = digest_after;
  allowed.size_after = size_after;
  allowed.changed = std::move(changed);
  if (const auto header = index_->header()) {
    allowed.before = *header;
    allowed.header_known = true;
  }
  allowed_ = std::move(allowed);
}

// The job is the transaction that the local writer waits for: it publishes it itself. Known by its digest until the log's answer reached
// the writer's thread.
bool DatabaseImpl::is_own(const pages::TxHeader& header) const {
  return allowed_.has_value() || (pending_digest_ && *pending_digest_ == header.digest_after);
}

void DatabaseImpl::fail_parked(base::Code code, const std::string& why) {
  if (!parked_) return;
  report<base::Status>(std::move(parked_->done), base::make_error(code, why));
  parked_.reset();
}

pages::ImageStatus DatabaseImpl::status() {
  const base::MutexLock lock(mutex_);
  pages::ImageStatus status;
  status.state = state_ == pages::ImageState::kOk && parked_ ? pages::ImageState::kParked : state_;
  status.path = path_;
  status.applied = applied_;
  status.base = base_;
  status.digest = sums_.digest();
  status.page_count = sums_.page_count();
  switch (holder_) {
    case Holder::kNone:
      break;
    case Holder::kConnection:
      status.writer = writer_->kind();
      break;
    case Holder::kApplier:
      status.writer = "applier";
      break;
    case Holder::kMaintenance:
      status.writer = "checkpoint";
      break;
  }
  if (holder_ == Holder::kConnection && doomed_) status.doomed_since = doomed_since_;
  if (parked_)
    status.apply_blocked_by = status.writer;
  else if (state_ != pages::ImageState::kOk)
    status.apply_blocked_by = state_reason_;
  return status;
}

void DatabaseImpl::drop(std::function<void(base::Status)> done) {
  const base::MutexLock lock(mutex_);
  state_ = pages::ImageState::kDropped;
  state_reason_ = "dropped";
  // Everyone who has it open: also what only reads would go on reading a file without a name. A commit that was allowed is finished first.
  for (Connection* const connection : attached_) {
    if (holder_ == Holder::kConnection && connection == writer_) {
      if (allowed_) continue;
      doom_writer(base::make_error(base::Code::kDropped, "database " + params_.name + " was dropped"));
      continue;
    }
    connection->doom(base::make_error(base::Code::kDropped, "database " + params_.name + " was dropped"));
  }
  fail_parked(base::Code::kDropped, "database " + params_.name + " was dropped");
  changed_.notify_all();
  // The names go at once, so that they may be created again; open connections keep the nameless files until they close.
  post(params_.maintenance, [this, done = std::move(done)]() mutable {
    base::Status removed = base::ok();
    // While the names are there: SQLite logs the close of an unlinked file, at exit through a callback of a host that has gone.
    connection_.reset();
    for (const char* suffix : {".sums", "", "-wal", "-shm"}) {
      const base::Status status = params_.env->remove(path_ + suffix);
      if (!status && status.error().code != base::Code::kNotFound && removed) removed = named(status.error());
    }
    if (const base::Status synced = params_.env->sync_dir(params_.dir); !synced && removed)
      removed = named(synced.error());
    {
      const base::MutexLock state_lock(mutex_);
      names_gone_ = true;
    }
    let_files_go();
    report<base::Status>(std::move(done), std::move(removed));
  });
}

// The space of a dropped database comes back when nobody has its files open: the last of the drop, the applier and the connections closes
// them. Nobody takes WRITER any more, without which the wal-index and the descriptors are not touched.
void DatabaseImpl::let_files_go() {
  {
    const base::MutexLock lock(mutex_);
    if (!names_gone_ || holder_ != Holder::kNone || !attached_.empty()) return;
    names_gone_ = false;
  }
  {
    const base::MutexLock lock(sums_mutex_);
    sums_file_.reset();
  }
  index_.reset();
  if (wal_fd_ >= 0) ::close(std::exchange(wal_fd_, -1));
  keeper_.release();
  keeper_.close_descriptors();
}

void DatabaseImpl::close(base::Micros deadline) {
  bool clean = false;
  {
    const base::MutexLock lock(mutex_);
    if (closed_) return;
    stopping_ = true;
    fail_parked(base::Code::kStopped, "the node is stopping");
    changed_.notify_all();
    // A log that could not be synced may know less than the files: they are left to recovery.
    clean = state_ == pages::ImageState::kOk && require_synced_log();
  }
  deadline = std::min(deadline, base::posix_env().now() + kCloseMax);
  if (!wait_for_tickets(deadline)) {
    // A lane is still inside a checkpoint or a publication: connection and locks stay until it is out, all else is left to recovery.
    base::log_warn("database " + params_.name + ": work is still running, so it is closed as after a crash");
    return;
  }
  // The checkpoint only spares the next start some work: without time for it the files stay as they are (R2).
  clean = clean && base::posix_env().now() < deadline;
  {
    const base::MutexLock lock(mutex_);
    // Its lane was stopped with the task still queued.
    if (holder_ == Holder::kApplier) hand_over();
  }
  if (clean) {
    if (const base::Status status = checkpoint_now(deadline); !status)
      base::log_warn("database " + params_.name + ": " + status.error().message);
  }
  {
    const base::MutexLock lock(mutex_);
    closed_ = true;
  }
  // Without the keeper's locks the last connection's close is SQLite's own: it checkpoints the rest and removes the WAL. A database that
  // is in doubt keeps its files as they are.
  if (clean) keeper_.release();
  connection_.reset();
  keeper_.release();
  keeper_.close_descriptors();
}

}  // namespace vfs

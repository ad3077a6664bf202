// DatabaseImpl: vfs::Database on a SQLite file (vfs/database.h is its contract). Split by operation:
//   database_impl.cc  WRITER, bookkeeping, status, close     publish.cc     the applier
//   sync_point.cc     base in .sums, WAL restarts            checkpoint.cc  SQLite's own checkpoint, three syncs
//   recovery.cc       create, open, position by digest
//
// WRITER (R4) is one value, `holder_`, handed over under mutex_; the files and the wal-index belong to its holder. Three lines of work
// take it: connections through the shim, the apply lane, the maintenance lane (RESTART checkpoints). At a hand-over a parked
// transaction goes before maintenance, and before connections; after the applier, maintenance goes first, so that nobody starves.
//
// Mutexes: mutex_ for the state, never across I/O, SQLite or a wait; sums_mutex_ orders the writers of `.sums` and is held across its
// syncs (the maintenance lane and whoever restarts the WAL; nobody else waits for it). sums_mutex_ is taken before mutex_.
#pragma once

#include <deque>
#include <optional>
#include <set>

#include "base/mutex.h"
#include "vfs/database.h"
#include "vfs/internal.h"
#include "vfs/keeper.h"
#include "vfs/wal_index.h"
#include "vfs/wal_room.h"
#include "vfs/wal_writer.h"

namespace vfs {

using ChangedPages = std::vector<std::pair<pages::PageNo, std::uint64_t>>;

class DatabaseImpl final : public Database, private InternalHooks {
 public:
  explicit DatabaseImpl(DatabaseParams params);
  // Without close(): as after a crash, everything is left to recovery. Waits for posted work.
  ~DatabaseImpl() override;

  // --- recovery.cc; before anybody else has the object ---
  base::Status create_files(base::LogId id, const pages::CreateDatabase& create);
  base::Status set_stranger_aside();
  base::Status recover(const std::vector<RedoCandidate>& candidates, const pages::Adopt& adopt);

  // --- pages::DatabaseImage ---
  void publish(pages::PublishJob job, std::function<void(base::Status)> done) override;
  void sync_point(std::function<void(base::Result<base::LogId>)> done) override;
  void checkpoint(std::function<void(base::Status)> done) override;
  void doom_local_writer(const base::Error& reason) override;
  bool doom_overdue_writer(const pages::Overdue& overdue, const base::Error& reason) override;
  void drop(std::function<void(base::Status)> done) override;
  pages::ImageStatus status() override;

  // --- Database ---
  void close(base::Micros deadline) override;
  const DatabaseParams& params() const override { return params_; }
  std::string file_path() const override { return path_; }
  base::Status attach(Connection& connection) override;
  void detach(Connection& connection) override;
  base::Status try_lock_writer(Connection& connection) override;
  base::Status lock_writer_after(Connection& connection, base::LogId through, base::Micros deadline) override;
  void unlock_writer(Connection& connection) override;
  base::Status run_checkpoint(base::Micros deadline) override;
  CommittedState committed_state() override;
  base::Status committed_page(pages::PageNo page, base::MutableByteView out) override;
  std::uint64_t digest_with(const ChangedPages& changed, pages::PageNo size_after) override;
  void commit_allowed(Connection& connection, base::LogId id, std::uint64_t digest_after, pages::PageNo size_after,
                      ChangedPages changed) override;
  base::Status wal_restarted(std::uint32_t salt1, std::uint32_t salt2) override;
  base::Status reserve_wal(std::uint64_t end) override { return wal_room_.reserve(wal_fd_, end); }
  void wal_truncated() override { wal_room_.forget(); }

 private:
  enum class Backfill : std::uint8_t { kNothing, kSome, kUnknown };
  enum class Holder : std::uint8_t { kNone, kConnection, kApplier, kMaintenance };

  // A commit that the log has made effective, until the wal-index shows it.
  struct Allowed {
    base::LogId id;
    std::uint64_t digest_after = 0;
    pages::PageNo size_after = 0;
    ChangedPages changed;
    WalIndexHeader before;  // what SQLite's publishing replaces
    bool header_known = false;
  };
  struct Parked {
    pages::PublishJob job;
    std::function<void(base::Status)> done;
  };
  // Posted tasks whose closures still exist, run or not. Shared by the object and the closures, which may outlive each other's last use.
  struct Outstanding {
    base::Mutex mutex;
    base::CondVar gone;
    int count GUARDED_BY(mutex) = 0;
  };
  class Ticket;

  // --- InternalHooks ---
  int shm_mapped() override;
  bool internal_lock_writer() override;
  void internal_unlock_writer() override;

  // database_impl.cc
  base::Status usable() const REQUIRES(mutex_);
  void hand_over() REQUIRES(mutex_);
  void take_for(Connection& connection) REQUIRES(mutex_);
  bool can_be_doomed() const REQUIRES(mutex_);
  void doom_writer(const base::Error& reason) REQUIRES(mutex_);
  void account(base::LogId id, pages::PageNo size_after, const ChangedPages& changed) REQUIRES(mutex_);
  std::uint64_t digest_if(const ChangedPages& changed, pages::PageNo size_after) const REQUIRES(mutex_);
  bool is_own(const pages::TxHeader& header) const REQUIRES(mutex_);
  void fail_parked(base::Code code, const std::string& why) REQUIRES(mutex_);
  // True: taken for maintenance. Waits for its turn until `deadline`.
  bool lock_for_maintenance(base::Micros deadline);
  void unlock_for_maintenance();
  void post(base::Lane* lane, std::function<void()> work);
  // False: some are still there at the deadline.
  bool wait_for_tickets(base::Micros deadline);
  template <class Outcome>
  void report(std::function<void(Outcome)> done, Outcome outcome) {
    params_.loop->post([done = std::move(done), outcome = std::move(outcome)] { done(outcome); });
  }
  base::Error named(base::Error error) const;
  void let_files_go();
  void set_state(pages::ImageState state, const std::string& why) REQUIRES(mutex_);

  // publish.cc; WRITER held
  void run_publish(const Parked& parked);
  base::Status apply(const pages::PublishJob& job);
  base::Result<WalIndexHeader> sound_header();
  base::Result<WalIndexHeader> writable_header();
  base::Result<WalIndexHeader> start_wal(WalIndexHeader header);
  base::Status patch_page(const pages::Patch& patch, pages::PageNo size_after, base::MutableByteView image);
  base::Status read_committed(const WalIndexHeader& header, pages::PageNo page, base::MutableByteView out);

  // sync_point.cc; maintenance lane, close()
  base::Result<base::LogId> sync_point_now();
  base::Status sync_wal();
  base::Status require_syncs_ok();
  base::Status require_synced_log();
  void note_failed_sync();

  // checkpoint.cc; maintenance lane, close()
  base::Status hold_log(base::Micros deadline);
  base::Status checkpoint_now(base::Micros writer_deadline);
  Backfill backfill_left() const;
  base::Result<bool> backfill(int mode);

  // recovery.cc
  base::Status open_internal_connection();
  base::Status open_wal_state();
  base::Status find_position(pages::SumsFile::Loaded& loaded, const std::vector<RedoCandidate>& candidates,
                             bool all_pages, const pages::Adopt& adopt);
  base::Result<bool> wal_is_known(const pages::SumsRecord& record);
  base::Status remember_salts();
  base::Status write_initial(const pages::CreateDatabase& create);
  pages::PageNo size_on_disk(const WalIndexHeader& header) const;

  const DatabaseParams params_;
  const std::string path_;

  // Set before the object is shared, then constant. Order: the connection is closed before the keeper lets go of its descriptors.
  Keeper keeper_;
  InternalConnection connection_;
  std::unique_ptr<WalIndex> index_;  // the pages in it: whoever holds WRITER
  int wal_fd_ = -1;
  WalRoom wal_room_;            // whoever holds WRITER
  bool started_ = false;        // false: start-up, where the internal connection may take WRITER freely
  base::Status keeper_status_;  // of the keeper's acquire() inside the internal connection's first read

  base::Mutex sums_mutex_;
  std::unique_ptr<pages::SumsFile> sums_file_ GUARDED_BY(sums_mutex_);

  base::Mutex mutex_;
  base::CondVar changed_;  // holder_, applied_ or state_ changed
  Holder holder_ GUARDED_BY(mutex_) = Holder::kNone;
  Connection* writer_ GUARDED_BY(mutex_) = nullptr;
  base::Micros writer_since_ GUARDED_BY(mutex_) = 0;
  bool doomed_ GUARDED_BY(mutex_) = false;  // writer_ was
  base::Micros doomed_since_ GUARDED_BY(mutex_) = 0;
  int maintenance_waiting_ GUARDED_BY(mutex_) = 0;
  bool maintenance_granted_ GUARDED_BY(mutex_) = false;
  // holder_ is kMaintenance because SQLite asked, not lock_for_maintenance()
  bool internal_took_ GUARDED_BY(mutex_) = false;
  std::optional<std::uint64_t> pending_digest_ GUARDED_BY(mutex_);
  std::optional<Allowed> allowed_ GUARDED_BY(mutex_);
  std::optional<Parked> parked_ GUARDED_BY(mutex_);
  // A commit that was allowed and that SQLite did not publish: nobody but the applier gets WRITER before it is.
  std::optional<base::LogId> owed_ GUARDED_BY(mutex_);
  std::set<Connection*> attached_ GUARDED_BY(mutex_);
  pages::PageSums sums_ GUARDED_BY(mutex_);
  base::LogId applied_ GUARDED_BY(mutex_);
  base::LogId base_ GUARDED_BY(mutex_);
  pages::ImageState state_ GUARDED_BY(mutex_) = pages::ImageState::kOk;
  std::string state_reason_ GUARDED_BY(mutex_);
  bool names_gone_ GUARDED_BY(mutex_) = false;  // dropped, with its files still open
  bool stopping_ GUARDED_BY(mutex_) = false;
  bool closed_ GUARDED_BY(mutex_) = false;
  bool sync_failed_ GUARDED_BY(mutex_) = false;  // R13: a failed sync is never tried again

  const std::shared_ptr<Outstanding> outstanding_ = std::make_shared<Outstanding>();
};

}  // namespace vfs

// Housekeeping: sync points, checkpoints, seals, segments made ahead, the log's floor (DESIGN section 7). Loop lane; the work itself runs on the
// log, apply and maintenance lanes.
#include <algorithm>
#include <memory>
#include <utility>

#include "node/node_impl.h"

namespace node {
namespace {

using base::Code;
using base::Index;
using base::Micros;
using base::Result;
using base::Status;

constexpr std::uint64_t kSyncBytes = std::uint64_t{16} << 20;  // log bytes between two sync points under load
constexpr std::uint64_t kCheckpointBytes = std::uint64_t{4}
                                           << 20;  // WAL bytes between two checkpoints (SQLite's own 1000 pages)
constexpr Micros kSealIdle = 300 * base::kMillisecond;
constexpr Micros kSyncIdle = base::kSecond;
constexpr Micros kFillPause = 3;                  // zero-filling rests this many times as long as it worked
constexpr Micros kSpaceRetry = base::kSecond;     // how often a full log asks the disk for space
constexpr Micros kRoundMax = 60 * base::kSecond;  // a round waits so long for the applier

}  // namespace

void NodeImpl::maintain() {
  prepare_segments();
  const std::uint64_t bytes = driver_->appended_bytes();
  if (bytes != seen_bytes_) {
    seen_bytes_ = bytes;
    changed_at_ = now();
    sealed_ = false;
  }
  const Micros idle = now() - changed_at_;
  if (!sealed_ && idle > kSealIdle) {
    sealed_ = true;
    driver_->with_log([](wal::Log& log) { return log.seal(); },
                      [this](const Status& status) {
                        if (!status && status.error().code == Code::kPoisoned) fail_node(status.error());
                      });
  }
  const bool unsynced = apply_->published() != synced_published_;
  if (unsynced && !sync_.running && (bytes - synced_bytes_ >= kSyncBytes || idle > kSyncIdle))
    sync_round([](const Result<Index>&) {});
  for (const base::DatabaseId db : apply_->ids()) {
    std::uint64_t& frames = frames_[db];
    frames += apply_->take_frames(db);
    if (checkpointing_[db] || apply_->stopped(db)) continue;
    if (frames < kCheckpointBytes && (frames == 0 || idle <= kSyncIdle)) continue;
    const SharedImage image = apply_->image(db);
    if (!image) continue;
    frames = 0;
    checkpointing_[db] = true;
    driver_->hold_synced([this, db, image](const Status& held) {
      if (!held) return;  // the node is at its end
      image->checkpoint([this, db, image](const Status& status) {
        driver_->release_synced();
        checkpointing_[db] = false;
        if (!status) events_.add("error", "checkpoint: " + base::to_string(status.error()));
      });
    });
  }
}

void NodeImpl::prepare_segments() {
  const std::uint64_t bytes = data_dir_.opened.log->bytes() + driver_->appended_bytes() / config_.wal_size;
  // A full log waits for this alone when nobody writes: nobody may, as long as it is full.
  const bool again = data_dir_.opened.log->full() && now() - prepared_at_ >= kSpaceRetry;
  if (preparing_ || (bytes == prepared_for_ && !again)) return;
  preparing_ = true;
  prepared_at_ = now();
  prepared_for_ = bytes;
  parts_.maintenance->post([this] { prepare_slice(); });
}

// Maintenance lane. A slice per task, so that other work of the lane is not delayed; and pauses, so that most of the disk is left to the
// syncs that commits wait for. A log that outruns this grows by itself, a little slower.
void NodeImpl::prepare_slice() {
  const Micros began = now();
  const auto done = data_dir_.opened.log->prepare_segments();
  if (done && !*done) {
    const Micros took = now() - began;
    parts_.maintenance->post_at(now() + kFillPause * took, [this] { prepare_slice(); });
    return;
  }
  // A failure (no space) is seen by the log itself, which then refuses; it is tried again as the log grows, and while it is full.
  parts_.loop->post([this] { preparing_ = false; });
}

void NodeImpl::sync_round(std::function<void(Result<Index>)> done) {
  if (sync_.running) {
    sync_.next.push_back(std::move(done));
    return;
  }
  sync_.running = true;
  sync_.waiting.push_back(std::move(done));
  synced_bytes_ = driver_->appended_bytes();
  synced_published_ = apply_->published();
  // While a chain is open no index can be recorded (R15): the databases are synced all the same.
  Catalogue catalogue;
  if (!ledger_.chain_open()) catalogue = ledger_.catalogue();
  const Index wanted = catalogue.at.index;
  const auto go = [this, catalogue](const Status& reached) {
    if (!reached) {
      sync_finished(reached, catalogue);
      return;
    }
    // No base and no catalogue of entries that the log may forget.
    driver_->hold_synced([this, catalogue](const Status& held) {
      if (!held) {
        sync_finished(held, catalogue);
      } else {
        sync_databases(catalogue);
      }
    });
  };
  if (apply_->applied() >= wanted) {
    go(base::ok());
  } else {
    index_waiters_.push_back({wanted, now() + kRoundMax, go});
  }
}

void NodeImpl::sync_databases(Catalogue catalogue) {
  struct Round {
    std::size_t left = 1;
    Status status;
  };
  auto round = std::make_shared<Round>();  // shared by the callbacks below
  auto one_done = [this, round, catalogue = std::move(catalogue)](const Status& status) {
    if (!status && round->status) round->status = status;
    if (--round->left > 0) return;
    driver_->release_synced();
    sync_finished(round->status, catalogue);
  };
  for (const base::DatabaseId db : apply_->ids()) {
    const SharedImage image = apply_->image(db);
    if (!image || apply_->stopped(db)) continue;  // a stopped database pins nothing
    ++round->left;
    image->sync_point([one_done, image](const Result<base::LogId>& base) {
      one_done(base || base.error().code == Code::kDropped ? base::ok() : Status(base.error()));
    });
  }
  one_done(base::ok());
}

void NodeImpl::sync_finished(const Status& status, const Catalogue& catalogue) {
  const auto finish = [this, index = catalogue.at.index](const Status& result) {
    sync_.running = false;
    auto waiting = std::exchange(sync_.waiting, {});
    for (auto& waiter : waiting) {
      if (result) {
        waiter(index);
      } else {
        waiter(result.error());
      }
    }
    if (sync_.next.empty() || stopped()) return;
    auto next = std::exchange(sync_.next, {});
    sync_round([next = std::move(next)](const Result<Index>& index_reached) {
      for (const auto& waiter : next) waiter(index_reached);
    });
  };
  if (!status) {
    events_.add("error", "sync point: " + base::to_string(status.error()));
    synced_published_ = UINT64_MAX;  // tried again
    finish(status);
    return;
  }
  if (stopped() || catalogue.at.index <= meta_.catalogue.at.index) {
    finish(base::ok());
    return;
  }
  meta_.catalogue = catalogue;
  write_meta([this, finish, catalogue] {
    // Members that were away, or wiped, catch up from the log: it is kept whole until snapshots can be sent to them.
    const bool purge = embedded() && data_dir_.opened.log->bytes() > 4 * config_.wal_size;
    if (!purge) {
      finish(base::ok());
      return;
    }
    move_floor(catalogue.at, finish);
  });
}

void NodeImpl::move_floor(base::LogId floor, std::function<void(Status)> done) {
  const auto configuration = configuration_at(floor.index);
  if (!configuration || floor.index <= meta_.groups[0].floor.index) {
    done(base::ok());
    return;
  }
  meta_.groups[0] = {floor, configuration};
  write_meta([this, floor, configuration = *configuration, done = std::move(done)] {
    driver_->with_log([floor](wal::Log& log) { return log.set_floor(base::Group::kData, floor); },
                      [this, floor, configuration, done](const Status& status) {
                        if (status && !stopped()) driver_->core().set_floor(floor, configuration);
                        if (!status && status.error().code == Code::kPoisoned) fail_node(status.error());
                        done(status);
                      });
  });
}

// What the catalogue holds the log may forget.
base::LogId NodeImpl::floor_keeping(std::uint64_t keep) const {
  const Index last = ledger_.at().index;
  if (keep >= last.value) return {};
  const Index index = std::min(meta_.catalogue.at.index, Index{last.value - keep});
  if (index <= meta_.groups[0].floor.index) return {};
  const auto term = driver_->core().term_at(index);
  return term ? base::LogId{*term, index} : base::LogId{};
}

void NodeImpl::snapshot(std::function<void(Result<Index>)> done) {
  post([this, done = std::move(done)]() mutable {
    if (final_error_) {
      done(*final_error_);
      return;
    }
    sync_round(std::move(done));
  });
}

void NodeImpl::compact(std::uint64_t keep, std::function<void(Result<Index>)> done) {
  post([this, keep, done = std::move(done)]() mutable {
    if (final_error_) {
      done(*final_error_);
      return;
    }
    sync_round([this, keep, done = std::move(done)](const Result<Index>& synced) {
      const Index floor = meta_.groups[0].floor.index;
      if (!synced || stopped()) {
        done(synced ? Result<Index>(*final_error_) : synced);
        return;
      }
      const base::LogId wanted = embedded() ? floor_keeping(keep) : base::LogId{};
      if (!wanted.index) {
        done(floor);
        return;
      }
      move_floor(wanted, [this, done](const Status& status) {
        if (status) {
          done(meta_.groups[0].floor.index);
        } else {
          done(status.error());
        }
      });
    });
  });
}

}  // namespace node

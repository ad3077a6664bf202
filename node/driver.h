// Driver: the only place that knows the order persist -> send -> apply (DESIGN 6.1). Owns the consensus core of the database group and
// the use of the log. Loop lane; the log itself is touched on the log lane only.
//
// One log batch is in flight while the next collects: everything that becomes ready meanwhile shares one write and one sync
// (group commit).
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "base/env.h"
#include "base/lane.h"
#include "raft/core.h"
#include "wal/log.h"

namespace node {

class Driver {
 public:
  struct Hooks {
    std::function<void(const raft::Message&)> send;
    std::function<void()> flush;                 // what was sent leaves
    std::function<void(base::Entry)> committed;  // in order, with payload
    std::function<void(const raft::ReadResult&)> read;
    std::function<void()> status_changed;
    std::function<void(const base::Error&)> failed;  // the log is poisoned, or cannot be read: the node is at its end
    std::function<void(bool full)> full_changed;     // the log refuses (disk full), or accepts again
  };
  // `sync_interval`: 0 = every batch is synced before it counts; else a batch counts when it is written, and is synced so long after.
  Driver(base::Env& env, base::Lane& loop, base::Lane& log_lane, wal::Log& log, base::Micros sync_interval,
         Hooks hooks);

  // The core; one at a time. Before it (an empty node) nothing ticks.
  void adopt(std::unique_ptr<raft::Core> core);
  // Forgets the core of a cluster that was being joined and of which no entry is held.
  void release();
  [[nodiscard]] bool has_core() const { return core_ != nullptr; }
  [[nodiscard]] raft::Core& core() { return *core_; }
  // After every input to the core: takes what is ready. Not reentrant: an input given from within a hook is taken by the running call.
  void pump();

  // Somebody on `member` waits for what is committed.
  void announce_commit(base::Member member);

  // Entries first..last (fewer when over `bytes_max`) with payloads, from the log.
  void read_log(base::Index first, base::Index last, std::size_t bytes_max,
                std::function<void(base::Result<std::vector<base::Entry>>)> done);
  // Any other work with the log, on the log lane; `done` on the loop.
  void with_log(std::function<base::Status(wal::Log&)> work, std::function<void(base::Status)> done);

  // Calls `held` when everything that counts is on the disk; and so it stays until release_synced(): batches are synced before they count
  // meanwhile. What is made durable from applied entries needs it (R8): sync points, checkpoints, the catalogue. Nests. An error holds nothing.
  void hold_synced(std::function<void(base::Status)> held);
  void release_synced();

  // No more inputs reach the core and no completion is passed on (stop, poison).
  void halt() { halted_ = true; }
  [[nodiscard]] bool halted() const { return halted_; }
  [[nodiscard]] bool full() const { return full_; }
  // When the batch in flight was handed to the log lane; 0 when none is.
  [[nodiscard]] base::Micros in_flight_since() const { return in_flight_ ? in_flight_since_ : 0; }
  [[nodiscard]] std::uint64_t appended_bytes() const { return appended_bytes_; }

 private:
  void take(raft::Ready ready);
  void flush();
  void write(std::shared_ptr<std::vector<wal::Append>> appends);
  void persisted(const base::Status& status);
  void sync_later();
  void fail(const base::Error& why);
  void drain_committed();
  void pay_later();

  base::Env& env_;
  base::Lane& loop_;
  base::Lane& log_lane_;
  wal::Log& log_;
  const base::Micros sync_interval_;
  Hooks hooks_;
  std::unique_ptr<raft::Core> core_;
  bool pumping_ = false;
  bool pump_again_ = false;
  bool halted_ = false;
  bool full_ = false;
  std::vector<raft::PersistJob> pending_;  // collected while a batch is in flight
  std::vector<raft::PersistJob> writing_;
  std::shared_ptr<std::vector<wal::Append>> appends_;
  bool in_flight_ = false;
  bool sync_due_ = false;  // its timer runs, or the sync itself
  int holds_ = 0;          // hold_synced() without release_synced()
  base::Micros in_flight_since_ = 0;
  std::uint64_t appended_bytes_ = 0;
  std::deque<base::Entry> committed_;
  bool draining_ = false;
  bool paying_ = false;  // the timer is set
  bool reading_committed_ = false;
};

}  // namespace node

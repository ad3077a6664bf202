// The virtual WRITER and CKPT locks: WRITER with the write lease (DESIGN 5.2), waiting for it, and the busy handler. SQL threads.
//
// SQLite asks for WRITE in three situations. With a read lock held it begins a write transaction: lease and WRITER. Without one it
// recovers a torn wal-index header, or runs a checkpoint: WRITER of this node only, never anything but OK or BUSY, because a plain
// SELECT may stand behind it.
#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

#include "vfs/boundary.h"
#include "vfs/fork.h"
#include "vfs/last_error.h"
#include "vfs/shim_connection.h"
#include "vfs/slot.h"

namespace vfs {
namespace {

// After "no quorum" a busy handler or busy timeout asks again and again: within this time each further answer is awaited only briefly,
// so that a busy timeout of t does not become t times the commit timeout.
constexpr base::Micros kRefusalMemory = 10 * base::kSecond;
constexpr base::Micros kRepeatedWait = 50 * base::kMillisecond;
// How long a checkpoint that was asked for waits for the write transaction of another connection.
constexpr base::Micros kCheckpointWait = 500 * base::kMillisecond;

// What xSleep on this thread waits for: the queue of the last WRITER that was busy. Identity of the connection only.
struct LastBusy {
  std::shared_ptr<WriterQueue> queue;  // shared with the connections of the database
  WriterQueue::Waiter who = nullptr;
};
thread_local LastBusy last_busy;
// The last WRITER on this thread was refused with a BUSY code that waiting does not mend (no quorum).
thread_local bool last_refused = false;

// A host built with SQLITE_ENABLE_SETLK_TIMEOUT takes WRITE before the read lock; the header then tells writing from recovering.
bool setlk_build() {
  static const bool built = sqlite3_compileoption_used("ENABLE_SETLK_TIMEOUT") != 0;
  return built;
}

bool header_valid(const ShimConnection& connection) {
  if (connection.wal_index == nullptr) return false;
  constexpr std::size_t kHeader = 48;  // WalIndexHdr, twice
  unsigned char copies[2 * kHeader];
  const auto* const from = static_cast<volatile const unsigned char*>(connection.wal_index);
  for (std::size_t at = 0; at < sizeof copies; ++at) copies[at] = from[at];
  return copies[12] != 0 && std::memcmp(copies, copies + kHeader, kHeader) == 0;
}

bool begins_writing(const ShimConnection& connection) {
  if (connection.read_locks != 0) return true;
  return setlk_build() && !connection.holds_checkpoint && header_valid(connection);
}

int busy(ShimConnection& connection) {
  last_busy = {connection.queue, &connection};
  return SQLITE_BUSY;
}

void begin_hold(ShimConnection& connection, WriterHold hold) {
  connection.writer = hold;
  connection.capture.reset();
  connection.committed_in_hold = {};
  connection.queue->took(&connection);
}

int lock_local(ShimConnection& connection) {
  if (!connection.database->try_lock_writer(connection)) return SQLITE_BUSY;
  begin_hold(connection, WriterHold::kLocal);
  return SQLITE_OK;
}

// What the gate's refusal is to SQLite: plain BUSY calls the busy handler and is asked again.
int refuse_lease(ShimConnection& connection, const base::Error& error) {
  if (error.code == base::Code::kBusy) return busy(connection);
  const int primary = base::code_info(error.code).sqlite;
  if (primary == SQLITE_BUSY) {
    connection.refused_at = connection.node->gate().now();
    last_refused = true;
  }
  return report(&connection, error);
}

void give_back(ShimConnection& connection, const Grant& grant) {
  connection.node->gate().release_lease(connection.database_id, grant.lease, {});
}

// WRITER without a lease: a doom that came meanwhile was this hold's and not the next one's.
void let_go(ShimConnection& connection) {
  connection.database->unlock_writer(connection);
  connection.clear_doom();
}

// Waits for the grant without WRITER, so that the applier can reach the index that the grant names.
base::Result<Grant> wait_for_grant(ShimConnection& connection, Slot<base::Result<Grant>>& slot, base::Micros deadline) {
  Gate& gate = connection.node->gate();
  auto answer = slot.wait(
      deadline, [&gate] { return gate.now(); }, [&connection] { return connection.node->stopped(); });
  if (answer) return std::move(*answer);
  if (connection.node->stopped()) return connection.node->stopped_error();
  return base::make_error(base::Code::kNoQuorum, "database " + connection.name +
                                                     ": no answer about the write lease within " +
                                                     std::to_string(gate.commit_timeout() / base::kMillisecond) +
                                                     " ms (commit_timeout_ms); nothing was written");
}

// WRITER, once this node has published what the grant names. In slices, so that a stopping node does not wait for it.
base::Status lock_after_grant(ShimConnection& connection, base::LogId through, base::Micros deadline) {
  Gate& gate = connection.node->gate();
  while (true) {
    const base::Micros slice = std::min(deadline, gate.now() + kWaitSlice);
    auto locked = connection.database->lock_writer_after(connection, through, slice);
    if (locked || locked.error().code != base::Code::kTimeout || gate.now() >= deadline) return locked;
    if (connection.node->stopped()) return connection.node->stopped_error();
  }
}

int lock_leased(ShimConnection& connection) {
  Database& database = *connection.database;
  Gate& gate = connection.node->gate();
  if (auto alive = gate.still_alive(); !alive) return refuse_lease(connection, alive.error());
  if (!connection.queue->may_ask(&connection)) return busy(connection);
  if (auto locked = database.try_lock_writer(connection); !locked) {
    if (locked.error().code == base::Code::kBusy) return busy(connection);
    return report(&connection, locked.error());
  }

  const base::DatabaseId id = connection.database_id;
  auto slot = std::make_shared<Slot<base::Result<Grant>>>([&gate, id](base::Result<Grant> late) {
    if (late) gate.release_lease(id, late->lease, {});
  });
  gate.acquire_lease(id, [slot](base::Result<Grant> granted) { slot->set(std::move(granted)); });

  auto answer = slot->poll();
  const bool at_once = answer.has_value();
  const base::Micros now = gate.now();
  const bool refused_lately = connection.refused_at != 0 && now - connection.refused_at < kRefusalMemory;
  const base::Micros deadline = now + (refused_lately ? kRepeatedWait : gate.commit_timeout());
  if (!at_once) {
    let_go(connection);
    answer = wait_for_grant(connection, *slot, deadline);
  }
  base::Result<Grant>& granted = *answer;
  if (!granted) {
    if (at_once) let_go(connection);
    return refuse_lease(connection, granted.error());
  }
  connection.refused_at = 0;
  if (!at_once || database.committed_state().last.index < granted->apply_through.index) {
    if (at_once) let_go(connection);
    if (auto locked = lock_after_grant(connection, granted->apply_through, deadline); !locked) {
      give_back(connection, *granted);
      return refuse_lease(connection, locked.error());
    }
  }
  connection.grant = *granted;
  begin_hold(connection, WriterHold::kLeased);
  return SQLITE_OK;
}

}  // namespace

int lock_writer(ShimConnection& connection) {
  last_busy = {};
  last_refused = false;
  const NodeUse use(*connection.node);
  const bool writes = begins_writing(connection);
  if (!use) {
    if (!writes) return SQLITE_BUSY;
    return report(&connection, connection.usable().error());
  }
  if (connection.checkpoint_writes) return SQLITE_OK;              // has it already
  if (connection.writer != WriterHold::kNone) return SQLITE_BUSY;  // never asked twice by SQLite
  if (!writes) return lock_local(connection);
  if (auto single = check_single_database(connection); !single) return report(&connection, single.error());
  return lock_leased(connection);
}

void unlock_writer(ShimConnection& connection) {
  if (connection.writer == WriterHold::kNone) return;
  const WriterHold hold = connection.writer;
  check_published(connection);
  connection.writer = WriterHold::kNone;
  connection.checkpoint_writes = false;
  connection.capture.reset();
  if (const NodeUse use(*connection.node); use) {
    // Before the lease goes: the next holder on this node must find WRITER free.
    connection.database->unlock_writer(connection);
    if (hold == WriterHold::kLeased)
      connection.node->gate().release_lease(connection.database_id, connection.grant.lease,
                                            connection.committed_in_hold);
  }
  connection.clear_doom();
  if (!in_forked_child()) connection.queue->released(&connection);
}

// The node is the one checkpointer (R5). A statement that asks for a checkpoint gets the node's, and then a lock under which SQLite finds
// nothing left to do (and may write nothing: the main file refuses). An autocheckpoint is refused before any I/O.
int lock_checkpoint(ShimConnection& connection) {
  const NodeUse use(*connection.node);
  if (!use) return SQLITE_BUSY;
  const bool recovers = connection.writer == WriterHold::kLocal;
  if (!recovers) {
    if (connection.db == nullptr || !checkpoint_by_statement(connection.db)) return SQLITE_BUSY;
    Gate& gate = connection.node->gate();
    if (auto done = connection.database->run_checkpoint(gate.now() + gate.commit_timeout()); !done) {
      report(&connection, done.error(), SQLITE_BUSY);
      return SQLITE_BUSY;
    }
    // Nobody restarts the WAL under a checkpoint with nothing to do (checkpoint.cc, backfill_left()).
    if (auto locked = connection.database->lock_writer_after(connection, {}, gate.now() + kCheckpointWait); !locked) {
      report(&connection, locked.error(), SQLITE_BUSY);
      return SQLITE_BUSY;
    }
    begin_hold(connection, WriterHold::kLocal);
    connection.checkpoint_writes = true;
  }
  connection.holds_checkpoint = true;
  return SQLITE_OK;
}

void unlock_checkpoint(ShimConnection& connection) {
  connection.holds_checkpoint = false;
  if (connection.checkpoint_writes) unlock_writer(connection);
}

bool sleep_in_queue(int microseconds) {
  if (last_busy.who == nullptr || in_forked_child()) return false;
  const LastBusy wanted = std::exchange(last_busy, {});  // every BUSY sets it again
  // SQLite fails at once when the holder is the caller itself; a busy timeout cannot, but need not sleep either.
  if (wanted.queue->held_by_this_thread(wanted.who)) return true;
  wanted.queue->wait(wanted.who, microseconds);
  return true;
}

void forget_waiter(const ShimConnection& connection) {
  if (last_busy.who == &connection) last_busy = {};
  if (!in_forked_child()) connection.queue->forget(&connection);
}

int busy_handler(void* context, int count) noexcept {
  return boundary(0, [&] {
    if (in_forked_child()) return 0;
    auto* const db = static_cast<sqlite3*>(context);
    ShimConnection* const main = connection_of(db, "main");
    if (main == nullptr) return 0;
    const auto now = [] {
      return std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now().time_since_epoch())
          .count();
    };
    if (count == 0) main->busy_deadline = now() + main->busy_timeout;
    const base::Micros left = main->busy_deadline - now();
    const LastBusy wanted = std::exchange(last_busy, {});
    const bool waits_for_itself = wanted.queue && wanted.queue->held_by_this_thread(wanted.who);
    if (left <= 0 || main->node->stopped() || last_refused || waits_for_itself) {
      if (wanted.queue) wanted.queue->forget(wanted.who);
      return 0;
    }
    if (wanted.queue) wanted.queue->wait(wanted.who, std::min(left, kWaitSlice));
    // a reader behind a recovery or an install
    else
      sqlite3_sleep(1);
    return 1;
  });
}

}  // namespace vfs

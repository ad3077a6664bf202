// Leases: who may write a database (DESIGN 5.2). Volatile state of one leader term; for now leases are given on the leader's own node
// only: to its executor and its local connections, one at a time, in the order of asking.
// acquire() and release() from any thread; the rest on the loop lane. Callbacks run outside the mutex.
//
// While a proposal of a database is undecided its lease is not given on: a grant names only transactions that are decided, so nobody
// waits for an index that never comes.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <vector>

#include "base/ids.h"
#include "base/mutex.h"
#include "base/result.h"
#include "vfs/gate.h"

namespace node {

class Leases {
 public:
  using Done = std::function<void(base::Result<vfs::Grant>)>;

  // Any thread. Free: `done` inside the call. While leadership is undecided the request waits until `deadline`.
  void acquire(base::DatabaseId db, base::Micros deadline, Done done);
  void release(base::DatabaseId db, base::LeaseId lease);

  // This node leads `term` and knows the last transaction of every database.
  void activate(base::Term term);
  // It does not. `why` answers requests from now on: at once when `final` is kAnswer, at their deadline when kWait.
  enum class Refusal : std::uint8_t { kAnswer, kWait };
  void deactivate(Refusal refusal, const base::Error& why);
  void add(base::DatabaseId db, base::LogId last);
  void remove(base::DatabaseId db);
  void decided(base::DatabaseId db, base::LogId last);  // effective or void: `last` is the last effective one now
  // Proposed under a lease: it stays with its database until decided. False: the lease is not (or no longer) the current one.
  bool begin_proposal(base::DatabaseId db, base::Term term, base::LeaseId lease);
  // The proposal was refused before it entered the log.
  void cancel_proposal(base::DatabaseId db);
  void expire(base::Micros now);
  [[nodiscard]] bool held(base::DatabaseId db) const;
  [[nodiscard]] bool wanted(base::DatabaseId db) const;  // somebody waits for it
  // Databases whose lease was held when the node was last deactivated; cleared by the call.
  std::vector<base::DatabaseId> take_lost();

 private:
  struct Waiter {
    base::Micros deadline = 0;
    Done done;
  };
  struct Cell {
    base::LeaseId holder;
    base::LogId last;
    bool undecided = false;
    std::deque<Waiter> waiters;
  };
  using Calls = std::vector<std::function<void()>>;
  void grant_next(Cell& cell, Calls& calls) REQUIRES(mutex_);

  mutable base::Mutex mutex_;
  base::Term term_ GUARDED_BY(mutex_);  // 0: not active
  std::uint64_t last_lease_ GUARDED_BY(mutex_) = 0;
  Refusal refusal_ GUARDED_BY(mutex_) = Refusal::kWait;
  base::Error why_ GUARDED_BY(mutex_);
  std::map<base::DatabaseId, Cell> cells_ GUARDED_BY(mutex_);
  std::vector<base::DatabaseId> lost_ GUARDED_BY(mutex_);
};

}  // namespace node

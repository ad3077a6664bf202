// Write leases on the leader's node.
#include "node/lease.h"

#include <utility>

namespace node {

using base::Code;
using base::MutexLock;

void Leases::grant_next(Cell& cell, Calls& calls) {
  if (!term_ || cell.holder || cell.undecided || cell.waiters.empty()) return;
  cell.holder = base::LeaseId{++last_lease_};
  calls.push_back([done = std::move(cell.waiters.front().done), grant = vfs::Grant{term_, cell.holder, cell.last}] {
    done(grant);
  });
  cell.waiters.pop_front();
}

void Leases::acquire(base::DatabaseId db, base::Micros deadline, Done done) {
  Calls calls;
  {
    MutexLock lock(mutex_);
    const auto it = cells_.find(db);
    if (it == cells_.end()) {
      calls.push_back([done] { done(base::make_error(Code::kDropped, "the database was dropped")); });
    } else if (!term_ && refusal_ == Refusal::kAnswer) {
      calls.push_back([done, why = why_] { done(why); });
    } else {
      it->second.waiters.push_back({deadline, std::move(done)});
      grant_next(it->second, calls);
    }
  }
  for (const auto& call : calls) call();
}

void Leases::release(base::DatabaseId db, base::LeaseId lease) {
  Calls calls;
  {
    MutexLock lock(mutex_);
    const auto it = cells_.find(db);
    if (it == cells_.end() || it->second.holder != lease) return;  // a lease of an earlier term
    it->second.holder = {};
    grant_next(it->second, calls);
  }
  for (const auto& call : calls) call();
}

void Leases::activate(base::Term term) {
  Calls calls;
  {
    MutexLock lock(mutex_);
    term_ = term;
    for (auto& [db, cell] : cells_) grant_next(cell, calls);
  }
  for (const auto& call : calls) call();
}

void Leases::deactivate(Refusal refusal, const base::Error& why) {
  Calls calls;
  {
    MutexLock lock(mutex_);
    term_ = {};
    refusal_ = refusal;
    why_ = why;
    for (auto& [db, cell] : cells_) {
      if (cell.holder) lost_.push_back(db);
      cell.holder = {};
      cell.undecided = false;
      if (refusal == Refusal::kWait) continue;
      for (Waiter& waiter : cell.waiters) calls.push_back([done = std::move(waiter.done), why] { done(why); });
      cell.waiters.clear();
    }
  }
  for (const auto& call : calls) call();
}

void Leases::add(base::DatabaseId db, base::LogId last) {
  MutexLock lock(mutex_);
  cells_[db].last = last;
}

void Leases::remove(base::DatabaseId db) {
  Calls calls;
  {
    MutexLock lock(mutex_);
    const auto it = cells_.find(db);
    if (it == cells_.end()) return;
    for (Waiter& waiter : it->second.waiters)
      calls.push_back(
          [done = std::move(waiter.done)] { done(base::make_error(Code::kDropped, "the database was dropped")); });
    cells_.erase(it);
  }
  for (const auto& call : calls) call();
}

void Leases::decided(base::DatabaseId db, base::LogId last) {
  Calls calls;
  {
    MutexLock lock(mutex_);
    const auto it = cells_.find(db);
    if (it == cells_.end()) return;
    it->second.last = last;
    it->second.undecided = false;
    grant_next(it->second, calls);
  }
  for (const auto& call : calls) call();
}

bool Leases::begin_proposal(base::DatabaseId db, base::Term term, base::LeaseId lease) {
  MutexLock lock(mutex_);
  const auto it = cells_.find(db);
  if (it == cells_.end() || !term_ || term != term_ || !lease || it->second.holder != lease || it->second.undecided)
    return false;
  it->second.undecided = true;
  return true;
}

void Leases::cancel_proposal(base::DatabaseId db) {
  Calls calls;
  {
    MutexLock lock(mutex_);
    const auto it = cells_.find(db);
    if (it == cells_.end()) return;
    it->second.undecided = false;
    grant_next(it->second, calls);
  }
  for (const auto& call : calls) call();
}

void Leases::expire(base::Micros now) {
  Calls calls;
  {
    MutexLock lock(mutex_);
    const base::Error why =
        term_ ? base::make_error(Code::kBusy, "another transaction holds the database's write lease") : why_;
    for (auto& [db, cell] : cells_) {
      std::deque<Waiter> kept;
      for (Waiter& waiter : cell.waiters) {
        if (waiter.deadline > now) {
          kept.push_back(std::move(waiter));
        } else {
          calls.push_back([done = std::move(waiter.done), why] { done(why); });
        }
      }
      cell.waiters = std::move(kept);
    }
  }
  for (const auto& call : calls) call();
}

bool Leases::held(base::DatabaseId db) const {
  MutexLock lock(mutex_);
  const auto it = cells_.find(db);
  return it != cells_.end() && it->second.holder;
}

bool Leases::wanted(base::DatabaseId db) const {
  MutexLock lock(mutex_);
  const auto it = cells_.find(db);
  return it != cells_.end() && !it->second.waiters.empty();
}

std::vector<base::DatabaseId> Leases::take_lost() {
  MutexLock lock(mutex_);
  return std::exchange(lost_, {});
}

}  // namespace node

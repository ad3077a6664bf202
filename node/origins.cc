// Outcomes of this node's own transactions (R7).
#include "node/origins.h"

#include <utility>
#include <vector>

namespace node {

using base::Code;
using vfs::Outcome;
using vfs::OutcomeKind;

void Origins::proposed(std::uint64_t sequence, base::Term term, base::DatabaseId db, base::Micros deadline, Done done) {
  waiting_[sequence] = {term, db, deadline, std::move(done)};
  by_database_.insert(db);
  deadlines_.insert({deadline, sequence});
}

void Origins::finish(std::map<std::uint64_t, Waiting>::iterator it, Outcome outcome) {
  Done done = std::move(it->second.done);
  by_database_.erase(by_database_.find(it->second.db));
  deadlines_.erase({it->second.deadline, it->first});
  waiting_.erase(it);
  done(std::move(outcome));
}

void Origins::reached_term(base::Term term) {
  std::vector<std::uint64_t> absent;
  for (const auto& [sequence, waiting] : waiting_)
    if (waiting.term < term) absent.push_back(sequence);
  for (const std::uint64_t sequence : absent) {
    const auto it = waiting_.find(sequence);
    if (it == waiting_.end()) continue;
    finish(it, {OutcomeKind::kNotApplied,
                {},
                base::make_error(Code::kLeaseLost,
                                 "the leader changed before the transaction was replicated; it was not applied")});
  }
}

void Origins::decided(const Decision& decision) {
  if (!decision.decides_transaction) return;
  if (decision.origin.incarnation != incarnation_ || decision.origin.boot != boot_) return;
  const auto it = waiting_.find(decision.origin.sequence);
  if (it == waiting_.end()) return;
  if (decision.effect == Effect::kPublish) {
    finish(it, {OutcomeKind::kCommitted, decision.id, {}});
  } else {
    finish(it, {OutcomeKind::kNotApplied,
                {},
                base::make_error(Code::kLeaseLost,
                                 "another transaction came first (" + decision.reason + "); it was not applied")});
  }
}

void Origins::expire(base::Micros now) {
  while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
    const auto it = waiting_.find(deadlines_.begin()->second);
    finish(it, {OutcomeKind::kUnknown,
                {},
                base::make_error(Code::kUnknownOutcome,
                                 "no quorum confirmed the transaction in time; whether it was applied is not known")});
  }
}

void Origins::abandon(const base::Error& why) {
  while (!waiting_.empty())
    finish(waiting_.begin(), {OutcomeKind::kUnknown,
                              {},
                              base::make_error(Code::kUnknownOutcome,
                                               why.message + "; whether the transaction was applied is not known")});
}

}  // namespace node

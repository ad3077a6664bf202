// Local transactions that keep others from writing (DESIGN 5.2, R4). Called by the leader's tick, on the loop lane.
//
// A write transaction of the application that is older than transaction_timeout_ms while somebody waits is doomed: it can no longer
// commit. WRITER is still its own until the application ends it, which may be never: so a leader with a doomed transaction hands leadership
// over, and the database can be written elsewhere.
#include <algorithm>

#include "node/node_impl.h"

namespace node {
namespace {

using base::Member;
using base::Micros;

// An application that goes on has met its error by then and rolled back.
constexpr Micros kStuckMax = 500 * base::kMillisecond;
// Between two hand-overs of this node while it stays stuck: the others may be stuck as well, and leadership must not only travel.
constexpr Micros kPauseMin = 5 * base::kSecond;
constexpr Micros kPauseMax = 60 * base::kSecond;

// The voter that is furthest in the log, another one than last time if there is one: that one came to be stuck too. {}: none answers.
Member successor(const raft::Status& status, Member last_time) {
  const raft::PeerStatus* best = nullptr;
  const auto better = [&](const raft::PeerStatus& peer) {
    if (best == nullptr) return true;
    const bool again = peer.member == last_time;
    const bool best_again = best->member == last_time;
    return again == best_again ? peer.match > best->match : best_again;
  };
  for (const raft::PeerStatus& peer : status.peers)
    if (peer.voter && peer.recent_active && better(peer)) best = &peer;
  return best == nullptr ? Member{} : best->member;
}

}  // namespace

void NodeImpl::check_writers() {
  if (!active_term_) return;
  bool any_doomed = false;
  bool stuck = false;
  for (const base::DatabaseId db : apply_->ids()) {
    const SharedImage image = apply_->image(db);
    const Ledger::Database* const database = ledger_.find(db);
    if (!image || database == nullptr || apply_->stopped(db)) continue;
    if (config_.transaction_timeout_ms > 0) {
      const pages::Overdue overdue{now() - config_.transaction_timeout_ms * base::kMillisecond, leases_.wanted(db)};
      const base::Error why = base::make_error(
          base::Code::kLeaseLost, "database " + database->name + ": the write transaction was open for longer than " +
                                      std::to_string(config_.transaction_timeout_ms) +
                                      " ms (transaction_timeout_ms) while others waited to write; it was not applied");
      if (image->doom_overdue_writer(overdue, why)) events_.add("doomed", why.message);
    }
    const Micros since = image->status().doomed_since;
    any_doomed |= since != 0;
    stuck |= since != 0 && now() - since >= kStuckMax;
  }
  if (!any_doomed) stuck_ = {};
  if (stuck && now() >= stuck_.next) hand_over_stuck();
}

void NodeImpl::hand_over_stuck() {
  raft::Core& core = driver_->core();
  const Member to = successor(core.status(), stuck_.to);
  if (!to || !core.transfer(to)) return;  // nobody there, or a transfer runs: looked at again
  events_.add("leader", "handing leadership over to " + node_name(to.id) +
                            ": a transaction of this process holds the write lock of a database and cannot commit");
  stuck_.pause = std::clamp(2 * stuck_.pause, kPauseMin, kPauseMax);
  stuck_.next = now() + stuck_.pause;
  stuck_.to = to;
  driver_->pump();
}

}  // namespace node

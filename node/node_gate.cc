// vfs::Gate and the public calls: any thread, posted to the loop lane. A caller that is going to wait helps the lane (ask()).
#include <algorithm>
#include <utility>

#include "node/node_impl.h"

namespace node {
namespace {

using base::Code;
using base::DatabaseId;
using base::Index;
using base::Micros;
using base::Result;
using base::Status;
using vfs::Outcome;
using vfs::OutcomeKind;

constexpr std::size_t kPartBytesMax = std::size_t{1} << 20;  // R15: a longer transaction is a chain of parts
constexpr Micros kReadTimeout = base::kSecond;               // a lost read-index request is asked again after this

Outcome not_applied(base::Error error) { return {OutcomeKind::kNotApplied, {}, std::move(error)}; }

std::size_t patch_bytes(const pages::Tx& tx) {
  std::size_t bytes = 0;
  for (const pages::Patch& patch : tx.patches) bytes += patch.body.size() + 16;
  return bytes;
}

// The entries of one transaction: parts of about kPartBytesMax, then the final one with the rest.
std::vector<base::SharedBytes> entries_of(pages::Tx tx) {
  std::vector<base::SharedBytes> out;
  tx.header.patch_count = static_cast<std::uint32_t>(tx.patches.size());
  tx.header.request_count = static_cast<std::uint32_t>(tx.requests.size());
  std::size_t left = patch_bytes(tx);
  std::size_t next = 0;
  while (left > kPartBytesMax) {
    pages::TxPart part{tx.header.db,
                       tx.header.origin,
                       tx.header.lease_term,
                       tx.header.lease,
                       static_cast<std::uint32_t>(out.size()),
                       {}};
    std::size_t bytes = 0;
    while (next < tx.patches.size() && bytes < kPartBytesMax) {
      bytes += tx.patches[next].body.size() + 16;
      part.patches.push_back(std::move(tx.patches[next++]));
    }
    left -= bytes;
    out.push_back(base::share(pages::encode(part)));
  }
  tx.patches.erase(tx.patches.begin(), tx.patches.begin() + static_cast<std::ptrdiff_t>(next));
  tx.header.part_count = static_cast<std::uint32_t>(out.size());
  out.push_back(base::share(pages::encode(tx)));
  return out;
}

}  // namespace

void NodeImpl::acquire_lease(DatabaseId db, std::function<void(Result<vfs::Grant>)> done) {
  // A little earlier than the caller gives up by itself, so that it hears the reason.
  leases_.acquire(db, now() + commit_timeout() / 10 * 9, std::move(done));
}

void NodeImpl::release_lease(DatabaseId db, base::LeaseId lease, base::LogId) { leases_.release(db, lease); }

// Encodes on the caller's thread; only the proposal itself is the loop's.
void NodeImpl::submit(vfs::Submission submission, std::function<void(Outcome)> done) {
  pages::Tx& tx = submission.tx;
  Proposal proposal;
  proposal.db = tx.header.db;
  proposal.origin = {self_.incarnation, meta_.boot, ++sequence_};
  proposal.term = tx.header.lease_term;
  proposal.lease = tx.header.lease;
  proposal.of_executor = !tx.requests.empty();
  proposal.deadline = submission.deadline;
  proposal.done = std::move(done);
  tx.header.origin = proposal.origin;
  proposal.payloads = entries_of(std::move(tx));
  for (const base::SharedBytes& payload : proposal.payloads) {
    if (payload->size() <= base::kEntryPayloadMax) continue;
    proposal.done(not_applied(
        base::make_error(Code::kTooLarge, "the transaction does not fit into the log; it was not applied")));
    return;
  }
  ask([this, proposal = std::move(proposal)]() mutable { propose(std::move(proposal)); });
}

void NodeImpl::propose(Proposal proposal) {
  if (const Status may = may_propose(); !may) {
    proposal.done(not_applied(may.error()));
    return;
  }
  if (!active_term_ || proposal.term != active_term_ ||
      !leases_.begin_proposal(proposal.db, proposal.term, proposal.lease)) {
    proposal.done(
        not_applied(base::make_error(Code::kLeaseLost, "the write lease ended before the commit; it was not applied")));
    return;
  }
  if (proposal.of_executor && !execution_->may_propose(proposal.db)) {
    leases_.cancel_proposal(proposal.db);
    proposal.done(
        not_applied(base::make_error(Code::kLeaseLost, "its batch was taken in an earlier term; it was not applied")));
    return;
  }
  raft::Core& core = driver_->core();
  std::size_t proposed = 0;
  base::Error refused;
  for (const base::SharedBytes& payload : proposal.payloads) {
    const auto nature = proposed == 0 ? raft::Proposal::kWhole : raft::Proposal::kContinuesChain;
    const auto id = core.propose(base::EntryKind::kData, payload, nature);
    if (!id) {
      refused = id.error();
      break;
    }
    ++proposed;
  }
  if (proposed < proposal.payloads.size()) {
    // Without its final entry the transaction has no effect, whatever becomes of the parts.
    if (proposed > 0) {
      const pages::TxAbort abort{proposal.db, proposal.origin, proposal.term, proposal.lease};
      // Refused as well when leadership is gone: then the next term's first entry ends the chain.
      static_cast<void>(
          core.propose(base::EntryKind::kData, base::share(pages::encode(abort)), raft::Proposal::kContinuesChain));
    }
    leases_.cancel_proposal(proposal.db);
    proposal.done(not_applied(std::move(refused)));
  } else {
    origins_.proposed(proposal.origin.sequence, proposal.term, proposal.db, proposal.deadline,
                      std::move(proposal.done));
  }
  driver_->pump();
}

void NodeImpl::create_database(pages::CreateDatabase create, Micros deadline,
                               std::function<void(Result<DatabaseId>)> done) {
  if (const Status valid = pages::valid_database_name(create.name); !valid) {
    done(valid.error());
    return;
  }
  create.origin = {self_.incarnation, meta_.boot, ++sequence_};
  create.seen = Index{commit_index_.load(std::memory_order_acquire)};
  base::SharedBytes payload = base::share(pages::encode(create));
  if (payload->size() > base::kEntryPayloadMax) {
    done(base::make_error(Code::kTooLarge, "database " + create.name + " is too large to be created in one log entry"));
    return;
  }
  ask([this, create = std::move(create), payload = std::move(payload), deadline, done = std::move(done)]() mutable {
    if (final_error_) {
      done(*final_error_);
      return;
    }
    const std::uint64_t token = ++last_token_;
    CreateWaiter& waiter = creates_[token];
    waiter.create = std::move(create);
    waiter.create.initial.clear();  // the payload has them
    waiter.payload = std::move(payload);
    waiter.deadline = deadline;
    waiter.done = std::move(done);
    if (const Ledger::Database* found = ledger_.find(waiter.create.name)) waiter.created = found->id;
    ask_create(token);
    settle_waiters();
  });
}

void NodeImpl::drop_database(const std::string& name, Micros deadline, std::function<void(Status)> done) {
  if (const Status valid = pages::valid_database_name(name); !valid) {
    post([error = valid.error(), done = std::move(done)] { done(error); });
    return;
  }
  ask([this, name, deadline, done = std::move(done)]() mutable {
    if (final_error_) {
      done(*final_error_);
      return;
    }
    const Ledger::Database* found = ledger_.find(name);
    if (found == nullptr) {
      done(base::make_error(Code::kNotFound, "no database \"" + name + "\"; hql_databases lists them"));
      return;
    }
    const std::uint64_t token = ++last_token_;
    DropWaiter& waiter = drops_[token];
    waiter.id = found->id;
    waiter.deadline = deadline;
    waiter.done = std::move(done);
    ask_drop(token);
  });
}

void NodeImpl::hold_log(std::function<void(Status)> held) {
  ask([this, held = std::move(held)]() mutable {
    if (final_error_) {
      held(*final_error_);
      return;
    }
    driver_->hold_synced(std::move(held));
  });
}

void NodeImpl::release_log() {
  post([this] { driver_->release_synced(); });
}

void NodeImpl::execute(const std::string& database, base::Bytes body, Micros deadline,
                       std::function<void(Result<ExecuteReply>)> done) {
  if (const Status valid = pages::valid_database_name(database); !valid) {
    post([error = valid.error(), done = std::move(done)] { done(error); });
    return;
  }
  if (body.size() > kRequestBytesMax) {
    post([size = body.size(), done = std::move(done)] {
      done(base::make_error(Code::kTooLarge, "the request has " + std::to_string(size) +
                                                 " bytes of SQL and values, limit " + std::to_string(kRequestBytesMax) +
                                                 ": use several, or plain SQL on the leader"));
    });
    return;
  }
  ask([this, database, body = std::move(body), deadline, done = std::move(done)]() mutable {
    if (final_error_ || stopping_) {
      done(unavailable());
      return;
    }
    forwards_->begin(++sequence_, database, std::move(body), deadline, std::move(done));
  });
}

void NodeImpl::wait_applied(Index index, Micros deadline, std::function<void(Status)> done) {
  ask([this, index, deadline, done = std::move(done)]() mutable {
    if (final_error_) {
      done(*final_error_);
    } else if (apply_->applied() >= index) {
      done(base::ok());
    } else {
      index_waiters_.push_back({index, deadline, std::move(done)});
    }
  });
}

void NodeImpl::wait_healthy(Micros deadline, std::function<void(Status)> done) {
  ask([this, deadline, done = std::move(done)]() mutable {
    if (final_error_) {
      done(*final_error_);
      return;
    }
    health_waiters_.push_back({deadline, std::move(done)});
    settle_waiters();
  });
}

void NodeImpl::transfer_leader(base::NodeId to, Micros deadline, std::function<void(Result<base::NodeId>)> done) {
  ask([this, to, deadline, done = std::move(done)]() mutable {
    if (final_error_) {
      done(*final_error_);
      return;
    }
    const base::NodeId leader = driver_->has_core() ? driver_->core().leader().id : base::NodeId{};
    if (to && leader == to) {
      done(to);
      return;
    }
    const std::uint64_t token = ++last_token_;
    if (const Status status = ask_transfer(to, token); !status) {
      done(status.error());
      return;
    }
    transfers_.push_back({token, to, leader, deadline, std::move(done), now()});
  });
}

Status NodeImpl::ask_transfer(base::NodeId to, std::uint64_t token) {
  if (driver_->has_core() && driver_->core().leader() == self_) return transfer_here(to);
  base::Writer body;
  body.u64(to.value);
  return ask_leader(ControlKind::kTransfer, token, body.take()) ? base::ok() : Status(unavailable());
}

Status NodeImpl::transfer_here(base::NodeId to) {
  base::Member member;
  if (to) {
    for (const raft::MemberInfo& info : driver_->core().status().configuration.voters)
      if (info.member.id == to) member = info.member;
    if (!member) return base::make_error(Code::kNotFound, "node " + std::to_string(to.value) + " is not a voter");
    // A core that has just begun to lead has not had the time to miss anybody.
    const auto peer = peers_.find(to);
    if (member != self_ && (peer == peers_.end() || peer->second.member != member))
      return base::make_error(Code::kNotFound,
                              "node " + std::to_string(to.value) + " does not answer at the moment, so it cannot lead");
  }
  HQL_TRY(driver_->core().transfer(member));
  events_.add("leader", "handing leadership over");
  driver_->pump();
  return base::ok();
}

void NodeImpl::force_bootstrap(std::function<void(Status)> done) {
  post([this, done = std::move(done)] {
    if (bootstrap_->belongs()) {
      done(base::make_error(Code::kMisuse, "this node belongs to a cluster already"));
      return;
    }
    events_.add("bootstrap", "forced by the operator");
    bootstrap_->force();
    run_bootstrap();
    done(base::ok());
  });
}

std::optional<DatabaseId> NodeImpl::database_id(const std::string& name) {
  base::MutexLock lock(shown_mutex_);
  const auto it = names_.find(name);
  return it == names_.end() ? std::nullopt : std::optional(it->second);
}

// --- reads ---------------------------------------------------------------------------------------------------------------

void NodeImpl::barrier(Micros deadline, std::function<void(Result<Index>)> done) {
  ask([this, deadline, done = std::move(done)]() mutable { try_barrier(deadline, std::move(done)); });
}

void NodeImpl::try_barrier(Micros deadline, std::function<void(Result<Index>)> done) {
  if (final_error_ || stopping_ || now() >= deadline) {
    done(unavailable());
    return;
  }
  read_index([this, deadline, done = std::move(done)](Result<Index> index) mutable {
    if (!index) {
      // No leader answered: asked again until the deadline.
      if (final_error_ || stopping_) {
        done(unavailable());
        return;
      }
      parts_.loop->post_at(
          now() + config_.heartbeat_ms * base::kMillisecond,
          [this, deadline, done = std::move(done)]() mutable { try_barrier(deadline, std::move(done)); });
      return;
    }
    if (apply_->applied() >= *index) {
      done(*index);
      return;
    }
    index_waiters_.push_back({*index, deadline, [done = std::move(done), at = *index](const Status& status) {
                                if (status) {
                                  done(at);
                                } else {
                                  done(status.error());
                                }
                              }});
  });
}

void NodeImpl::read_index(std::function<void(Result<Index>)> done) {
  if (!driver_->has_core() || stopped()) {
    post([done = std::move(done), why = unavailable()] { done(why); });
    return;
  }
  const std::uint64_t context = ++last_context_;
  reads_[context] = {now(), std::move(done)};
  driver_->core().read_index(context);
  driver_->pump();
}

void NodeImpl::on_read(const raft::ReadResult& result) {
  const auto it = reads_.find(result.context);
  if (it == reads_.end()) return;
  auto done = std::move(it->second.done);
  reads_.erase(it);
  if (result.ok) {
    done(result.index);
  } else {
    done(base::make_error(Code::kNoQuorum, "no leader confirmed the read"));
  }
}

void NodeImpl::expire_reads() {
  std::vector<std::uint64_t> late;
  for (const auto& [context, read] : reads_)
    if (now() - read.started >= kReadTimeout) late.push_back(context);
  for (const std::uint64_t context : late) on_read({context, false, {}});
}

}  // namespace node

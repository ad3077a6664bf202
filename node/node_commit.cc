// Committed entries: decided, answered, handed to the applier; and the local callers that wait for them.
#include <algorithm>
#include <utility>

#include "node/first_page.h"
#include "node/membership.h"
#include "node/node_impl.h"

namespace node {
namespace {

using base::Code;
using base::DatabaseId;
using base::Error;
using base::Index;
using base::Micros;
using base::Status;

constexpr Micros kAskAgain = 500 * base::kMillisecond;

}  // namespace

// Committed and durable here (R8), in order. The origin learns its outcome before any page is touched.
void NodeImpl::on_committed(const base::Entry& entry) {
  if (stopped()) return;
  if (entry.id.index <= ledger_.at().index) {
    // Decided before damage took it from the log (R12), and here again: only who the members were is not known any more.
    if (entry.kind == base::EntryKind::kConfig) configuration_committed(entry);
    return;
  }
  if (entry.id.term > ledger_.at().term) {
    origins_.reached_term(entry.id.term);
    forwards_->reached_term(entry.id.term);
  }
  const Decision decision = ledger_.decide(entry);
  if (entry.kind == base::EntryKind::kConfig) configuration_committed(entry);
  commit_index_.store(entry.id.index.value, std::memory_order_release);
  switch (decision.effect) {
    case Effect::kCreate:
      leases_.add(decision.db, decision.id);
      creating_.erase(decision.name);
      for (auto& [token, waiter] : creates_)
        if (waiter.create.name == decision.name) waiter.created = decision.db;
      break;
    case Effect::kDrop:
      leases_.remove(decision.db);
      execution_->dropped(decision.db);
      events_.add("database", "dropped " + decision.name);
      break;
    case Effect::kPublish:
      leases_.decided(decision.db, decision.id);
      break;
    case Effect::kVoid:
      events_.add("void", "entry " + std::to_string(decision.id.index.value) + ": " + decision.reason);
      creating_.erase(decision.name);
      if (const Ledger::Database* database = ledger_.find(decision.db);
          database != nullptr && decision.decides_transaction)
        leases_.decided(decision.db, database->last);
      break;
    case Effect::kNone:
      break;
  }
  if (decision.effect == Effect::kCreate || decision.effect == Effect::kDrop) {
    base::MutexLock lock(shown_mutex_);
    if (decision.effect == Effect::kCreate) {
      names_[decision.name] = decision.db;
    } else {
      names_.erase(decision.name);
    }
  }
  origins_.decided(decision);
  apply_->enqueue(decision);
  forwards_->decided(decision);
  bootstrap_->set_committed();
  run_bootstrap();
  try_activate();
  applied_changed();
  if (entry.kind == base::EntryKind::kConfig) halt_if_superseded();
}

void NodeImpl::configuration_committed(const base::Entry& entry) {
  auto configuration = raft::decode_configuration(base::view_of(entry.payload));
  if (!configuration) return;  // the core refuses malformed ones before they enter the log
  configurations_.emplace_back(entry.id.index, std::move(*configuration));
  if (started_ && !configurations_.back().second.joint()) {
    std::string voters;
    for (const raft::MemberInfo& info : configurations_.back().second.voters)
      voters += (voters.empty() ? "" : ", ") + std::to_string(info.member.id.value);
    events_.add("member",
                "voters are " + voters + ", learners " + std::to_string(configurations_.back().second.learners.size()));
  }
}

std::optional<raft::Configuration> NodeImpl::configuration_at(Index index) const {
  std::optional<raft::Configuration> found = meta_.groups[0].configuration;
  for (const auto& [at, configuration] : configurations_)
    if (at <= index) found = configuration;
  return found;
}

void NodeImpl::applied_changed() {
  const Index applied = apply_->applied();
  applied_index_.store(applied.value, std::memory_order_release);
  if (driver_->has_core() && !driver_->halted()) driver_->core().applied(applied);
  forwards_->applied_changed();
  execution_->progressed();
  settle_waiters();
}

void NodeImpl::settle_waiters() {
  const Index applied = apply_->applied();
  for (auto it = index_waiters_.begin(); it != index_waiters_.end();) {
    if (it->index > applied) {
      ++it;
      continue;
    }
    auto done = std::move(it->done);
    it = index_waiters_.erase(it);
    post([done = std::move(done)] { done(base::ok()); });
  }
  for (auto it = creates_.begin(); it != creates_.end();) {
    const std::optional<DatabaseId> created = it->second.created;  // and maybe dropped since
    if (!created || (ledger_.find(*created) != nullptr && apply_->image(*created) == nullptr)) {
      ++it;
      continue;
    }
    auto done = std::move(it->second.done);
    it = creates_.erase(it);
    post([done = std::move(done), id = *created] { done(id); });
  }
  for (auto it = drops_.begin(); it != drops_.end();) {
    if (ledger_.find(it->second.id) != nullptr || apply_->image(it->second.id) != nullptr) {
      ++it;
      continue;
    }
    auto done = std::move(it->second.done);
    it = drops_.erase(it);
    post([done = std::move(done)] { done(base::ok()); });
  }
  const base::NodeId leader = driver_->has_core() ? driver_->core().leader().id : base::NodeId{};
  for (auto it = transfers_.begin(); it != transfers_.end();) {
    const bool there = leader && (it->to ? leader == it->to : leader != it->from);
    if (!there) {
      ++it;
      continue;
    }
    auto done = std::move(it->done);
    it = transfers_.erase(it);
    post([done = std::move(done), leader] { done(leader); });
  }
  if (health_waiters_.empty()) return;
  std::vector<base::NodeId> missing;
  if (state_word(missing) != "healthy") return;
  refresh_status();  // who waited for it sees it
  for (HealthWaiter& waiter : std::exchange(health_waiters_, {}))
    post([done = std::move(waiter.done)] { done(base::ok()); });
}

void NodeImpl::expire_waiters() {
  const Micros time = now();
  for (auto it = index_waiters_.begin(); it != index_waiters_.end();) {
    if (it->deadline > time) {
      ++it;
      continue;
    }
    auto done = std::move(it->done);
    const Error why =
        base::make_error(Code::kTimeout, "index " + std::to_string(it->index.value) + " is not applied here yet (" +
                                             std::to_string(apply_->applied().value) + " is)");
    it = index_waiters_.erase(it);
    done(why);
  }
  for (auto it = health_waiters_.begin(); it != health_waiters_.end();) {
    if (it->deadline > time) {
      ++it;
      continue;
    }
    auto done = std::move(it->done);
    it = health_waiters_.erase(it);
    done(unavailable());
  }
  std::vector<base::NodeId> transfers_again;
  for (auto it = transfers_.begin(); it != transfers_.end();) {
    if (it->deadline > time) {
      // The order may be lost, and a leader that cannot carry it out gives it up after an election timeout.
      const bool late = time - it->asked_at >= config_.election_timeout_ms * base::kMillisecond;
      if (late) transfers_again.push_back(it->to);
      if (late) it->asked_at = time;
      ++it;
      continue;
    }
    auto done = std::move(it->done);
    it = transfers_.erase(it);
    done(base::make_error(Code::kTimeout, "leadership did not move in time"));
  }
  // Whether it can be was answered to the first question; now there may be no leader just then, or the target is gone: the leader refuses
  // then, and goes on serving.
  for (const base::NodeId to : transfers_again) static_cast<void>(ask_transfer(to, 0).has_value());
  // Asking may let the log move on and end other waiters: the tables are looked up anew for each.
  std::vector<std::uint64_t> tokens;
  for (const auto& [token, waiter] : creates_) tokens.push_back(token);
  for (const std::uint64_t token : tokens) {
    const auto it = creates_.find(token);
    if (it == creates_.end()) continue;
    if (it->second.deadline > time) {
      ask_create(token);
      continue;
    }
    auto done = std::move(it->second.done);
    const Error why = overdue(it->second.asked);
    creates_.erase(it);
    done(why);
  }
  tokens.clear();
  for (const auto& [token, waiter] : drops_) tokens.push_back(token);
  for (const std::uint64_t token : tokens) {
    const auto it = drops_.find(token);
    if (it == drops_.end()) continue;
    if (it->second.deadline > time) {
      ask_drop(token);
      continue;
    }
    auto done = std::move(it->second.done);
    const Error why = overdue(it->second.asked);
    drops_.erase(it);
    done(why);
  }
}

// Why a waiter's deadline passed. What every leader refused was surely not proposed.
Error NodeImpl::overdue(const Asked& asked) const {
  if (asked.open > 0)
    return base::make_error(Code::kUnknownOutcome, "the deadline passed; whether it will still happen is not known");
  return asked.refusal ? *asked.refusal : unavailable();
}

// Creation and drop are asked again until the log shows them. Asking twice creates once: the second entry is void, while the database is there,
// and after its drop, which the asker had not seen. A drop names the id, since the name may be another database's by then. The waiter may be
// gone when a proposal returns.
void NodeImpl::ask_create(std::uint64_t token) {
  CreateWaiter& waiter = creates_.at(token);
  if (waiter.created) return;
  if (waiter.create.seen < ledger_.last_drop()) see_drops(waiter);
  Asked& asked = waiter.asked;
  if (active_term_) {
    if (creating_.count(waiter.create.name) != 0 && creating_[waiter.create.name] == active_term_) {
      // Somebody else's proposal of this term is under way, and may become true after this waiter's deadline.
      if (asked.open == 0) asked.open = 1;
      return;
    }
    ++asked.open;
    const pages::CreateDatabase create = waiter.create;
    if (const Status status = propose_create(create, waiter.payload); !status) ask_refused(token, status.error());
    return;
  }
  if (asked.at != 0 && now() - asked.at < kAskAgain) return;
  if (!ask_leader(ControlKind::kCreate, token, *waiter.payload)) return;
  asked.at = now();
  ++asked.open;
}

// A database was dropped since the question was put into words, and what was asked for was not created before: so it is still wanted.
void NodeImpl::see_drops(CreateWaiter& waiter) {
  auto create = pages::decode_create(*waiter.payload);
  CHECK(create.has_value());
  create->seen = waiter.create.seen = ledger_.at().index;
  waiter.payload = base::share(pages::encode(*create));
}

void NodeImpl::ask_drop(std::uint64_t token) {
  DropWaiter& waiter = drops_.at(token);
  if (ledger_.find(waiter.id) == nullptr) return;
  Asked& asked = waiter.asked;
  if (active_term_) {
    if (waiter.proposed_in == active_term_) return;
    waiter.proposed_in = active_term_;
    ++asked.open;
    if (const Status status = propose_drop(waiter.id); !status) ask_refused(token, status.error());
    return;
  }
  if (asked.at != 0 && now() - asked.at < kAskAgain) return;
  base::Writer body;
  body.u64(waiter.id.value);
  if (!ask_leader(ControlKind::kDrop, token, body.take())) return;
  asked.at = now();
  ++asked.open;
}

// A leader, this node or another, did not do what was asked for. Creation and drop are asked again; a transfer is not.
void NodeImpl::ask_refused(std::uint64_t token, const Error& why) {
  const auto note = [&](Asked& asked) {
    --asked.open;
    if (!asked.refusal || asked.refusal->message != why.message) events_.add("refused", base::to_string(why));
    asked.refusal = why;
  };
  if (const auto create = creates_.find(token); create != creates_.end()) note(create->second.asked);
  if (const auto drop = drops_.find(token); drop != drops_.end()) {
    note(drop->second.asked);
    drop->second.proposed_in = {};
  }
  const auto transfer = std::find_if(transfers_.begin(), transfers_.end(),
                                     [token](const TransferWaiter& waiter) { return waiter.token == token; });
  if (transfer == transfers_.end()) return;
  auto done = std::move(transfer->done);
  transfers_.erase(transfer);
  done(why);
}

Status NodeImpl::propose_create(const pages::CreateDatabase& create, base::SharedBytes payload) {
  HQL_TRY(may_propose());
  const auto known = creating_.find(create.name);
  if (known != creating_.end() && known->second == active_term_) return base::ok();
  const auto id = driver_->core().propose(base::EntryKind::kData, std::move(payload));
  if (!id) return id.error();
  creating_[create.name] = active_term_;
  events_.add("database", "creating " + create.name);
  driver_->pump();
  return base::ok();
}

Status NodeImpl::propose_drop(DatabaseId db) {
  HQL_TRY(may_propose());
  const Ledger::Database* found = ledger_.find(db);
  if (found == nullptr) return base::make_error(Code::kNotFound, "no database of id " + std::to_string(db.value));
  pages::DropDatabase drop;
  drop.db = db;
  drop.name = found->name;
  drop.origin = {self_.incarnation, meta_.boot, ++sequence_};
  const auto id = driver_->core().propose(base::EntryKind::kData, base::share(pages::encode(drop)));
  if (!id) return id.error();
  driver_->pump();
  return base::ok();
}

// Refused (a full disk, leadership on its way elsewhere), it is asked again at every tick while statements wait for it.
Status NodeImpl::create_for_execution(const std::string& name) {
  if (!active_term_) return unavailable();
  if (const auto known = creating_.find(name); known != creating_.end() && known->second == active_term_)
    return base::ok();
  const pages::CreateDatabase create =
      empty_database(name, {self_.incarnation, meta_.boot, ++sequence_}, ledger_.at().index);
  return propose_create(create, base::share(pages::encode(create)));
}

std::optional<Error> NodeImpl::stopped_here(DatabaseId db) const {
  if (!apply_->stopped(db)) return std::nullopt;
  const Ledger::Database* database = ledger_.find(db);
  return base::make_error(
      Code::kDiverged,
      "database " + (database != nullptr ? database->name : "") + " has stopped on the leader, " + node_name(self_.id) +
          " (hql_status() there says why); not applied; hql_transfer_leader() makes another node lead");
}

}  // namespace node

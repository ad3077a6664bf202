// The node's life: opening, starting, ticking, roles, stopping.
#include "node/node_impl.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/random.h"

namespace node {
namespace {

using base::Code;
using base::Error;
using base::Index;
using base::Micros;
using base::NodeId;
using base::Result;
using base::Status;

constexpr Micros kStopSyncMax = 1200 * base::kMillisecond;  // of the 2 s that R2 allows
constexpr Micros kTransferMax = 300 * base::kMillisecond;
constexpr Micros kBatchMax = 300 * base::kMillisecond;  // for batches of the executor that run when the node is stopped
constexpr Micros kMetaRetry = 500 * base::kMillisecond;
constexpr int kElectionTicksMin = 3;
// Of its own in the address space, and untouched: it costs nothing until it is given back, when memory has run out.
constexpr std::size_t kReserveBytes = std::size_t{1} << 20;

Error broken_error() {
  return base::make_error(Code::kPoisoned,
                          "a thread of the node ran out of memory; the node has stopped taking part; restart it");
}

std::uint64_t first_nonce(base::Env& env) {
  const std::uint64_t number = env.random();
  return number != 0 ? number : 1;
}

}  // namespace

Result<std::unique_ptr<Node>> Node::open(Parts parts, Config config) {
  HQL_ASSIGN(data_dir, open_data_dir(*parts.env, config));
  if (data_dir.opened.damage && config.embedded())
    return base::make_error(
        Code::kCorrupt, "the log is damaged at " + data_dir.opened.damage->where + "; " + start_anew(config.data_dir));
  return std::unique_ptr<Node>(std::make_unique<NodeImpl>(parts, std::move(config), std::move(data_dir)));
}

NodeImpl::NodeImpl(Parts parts, Config config, DataDir data_dir)
    : parts_(parts),
      config_(std::move(config)),
      data_dir_(std::move(data_dir)),
      meta_(data_dir_.meta),
      self_{meta_.node, meta_.incarnation},
      boot_nonce_(first_nonce(*parts.env)),
      events_(*parts.env),
      origins_(meta_.incarnation, meta_.boot) {
  reserve_ = new std::byte[kReserveBytes];
  for (const std::string& note : data_dir_.notes) events_.add("identity", note);
  if (data_dir_.opened.damage) {
    last_error_ =
        "the log is damaged at " + data_dir_.opened.damage->where + "; what is lost is fetched from the other nodes";
    events_.add("error", last_error_);
    base::log_error("node: " + last_error_);
  }
  if (config_.sync_interval() > 0)
    events_.add("config", "log_sync=" + config_.log_sync + ": acknowledged means " + config_.acknowledged_means());
  {
    base::MutexLock lock(shown_mutex_);
    shown_.node_id = self_.id;
    shown_.incarnation = self_.incarnation;
  }
}

NodeImpl::~NodeImpl() { delete[] reserve_.exchange(nullptr); }

// An embedded node is its own cluster at once: the first entry names it alone.
Status NodeImpl::form_alone() {
  const Ballot ballot{meta_.promise.number + 1, self_.incarnation};
  meta_.promise = ballot;
  meta_.cluster = ballot;
  HQL_TRY(data_dir_.meta_file->write(meta_));
  raft::Configuration configuration;
  raft::MemberInfo info;
  info.member = self_;
  if (const NodeAddress* address = config_.self()) {
    info.raft_addr = address->raft_addr;
    info.api_addr = address->api_addr;
  }
  configuration.voters.push_back(std::move(info));
  const base::Entry first{
      {base::Term{1}, Index{1}}, base::EntryKind::kConfig, base::share(raft::encode(configuration))};
  wal::Append append;
  append.hard_state = raft::encode(raft::HardState{base::Term{1}, {}, {}});
  append.entries.push_back(first);
  wal::Recovered& log = data_dir_.opened.groups[0];
  log.hard_state = *append.hard_state;
  log.entries.push_back(first);
  log.sizes.push_back(first.payload->size());
  return data_dir_.opened.log->append_batch({std::move(append)});
}

Status NodeImpl::attach(pages::ImageFactory& images, ExecutorFactory& executors, base::Transport* transport) {
  images_ = &images;
  transport_ = transport;
  wal::Recovered& log = data_dir_.opened.groups[0];
  bool holds_entry = !log.entries.empty() || log.floor.index > Index{};
  if (!holds_entry && embedded()) {
    HQL_TRY(form_alone());
    holds_entry = true;
  }
  // R12: a log of which damage has left nothing is not an empty one. Its node belongs, and follows, and is no voter before its log is as long again.
  if (data_dir_.opened.damage && data_dir_.opened.damage->last_known[0].index > Index{} && meta_.cluster)
    holds_entry = true;
  if (!holds_entry) meta_.cluster = {};  // a vote, a promise or an intention is not membership (DESIGN 6.2)

  Bootstrap::Options boot;
  boot.self = self_;
  for (const NodeAddress& address : config_.nodes)
    boot.nodes.push_back({{address.id, {}}, address.raft_addr, address.api_addr});
  if (config_.nodes.empty()) boot.nodes.push_back({{self_.id, {}}, "", ""});
  boot.promise = meta_.promise;
  boot.cluster = meta_.cluster;
  if (!log.entries.empty() && log.entries.front().id.index == Index{1} &&
      log.entries.front().kind == base::EntryKind::kConfig)
    if (auto first = raft::decode_configuration(base::view_of(log.entries.front().payload)))
      boot.first = std::move(*first);
  bootstrap_ = std::make_unique<Bootstrap>(std::move(boot));

  make_driver();
  ApplyQueue::Hooks apply;
  apply.read_log = [this](Index first, Index last, std::size_t bytes_max, auto done) {
    driver_->read_log(first, last, bytes_max, std::move(done));
  };
  apply.sync_log = [this](std::function<void()> done) {
    driver_->hold_synced([this, done = std::move(done)](const Status& held) {
      if (!held) return;  // the node is at its end
      driver_->release_synced();
      done();
    });
  };
  apply.progressed = [this] { applied_changed(); };
  apply.stopped = [this](const std::string& name, const Error& why) {
    last_error_ = "database " + name + ": " + base::to_string(why);
    events_.add("error", last_error_);
    base::log_error("node: " + last_error_);
  };
  apply_ = std::make_unique<ApplyQueue>(*parts_.env, *parts_.loop, *parts_.apply, images, std::move(apply));

  Forwards::Hooks forwards;
  forwards.target = [this] { return forward_target(); };
  forwards.send = [this](NodeId leader, Forward forward) { return send_forward(leader, std::move(forward)); };
  forwards.applied = [this] { return apply_->applied(); };
  forwards.now = [this] { return now(); };
  forwards.no_leader = [this] { return unavailable(); };
  forwards_ = std::make_unique<Forwards>(self_.incarnation, meta_.boot, std::move(forwards));

  Execution::Hooks execution;
  execution.now = [this] { return now(); };
  execution.ledger = [this]() -> const Ledger& { return ledger_; };
  execution.ready = [this](base::DatabaseId db) { return apply_->image(db) != nullptr && !apply_->stopped(db); };
  execution.stopped = [this](base::DatabaseId db) { return stopped_here(db); };
  execution.create = [this](const std::string& name) { return create_for_execution(name); };
  execution.read_index = [this](auto done) { read_index(std::move(done)); };
  execution.may_take = [this] { return may_propose(); };
  execution.after = [this](Micros delay, base::Task task) { parts_.loop->post_at(now() + delay, std::move(task)); };
  execution.retire = [this](std::shared_ptr<Executor> executor) {
    parts_.maintenance->post([executor = std::move(executor)]() mutable { executor.reset(); });
  };
  execution_ = std::make_unique<Execution>(executors, std::move(execution));

  AheadRule ahead;
  if (config_.sync_interval() > 0 || data_dir_.opened.damage) {
    ahead.policy = embedded() ? AheadPolicy::kAdopt : AheadPolicy::kRebuild;
    ahead.origin = {self_.incarnation, meta_.boot, 0};  // sequences of this boot begin at 1
    ahead.aside_suffix = ".set-aside-" + base::hex16(parts_.env->random());
  }
  HQL_ASSIGN(recovered, recover_node(data_dir_.opened, meta_, images, ahead));
  for (const std::string& warning : recovered.warnings) {
    if (last_error_.empty()) last_error_ = warning;  // else it is the damage, and stays until that is healed
    events_.add("ahead_of_log", warning);
    base::log_warn("node: " + warning);
  }
  ledger_ = std::move(recovered.ledger);
  for (const base::Entry& entry : recovered.restored.entries)
    if (entry.id.index <= recovered.restored.applied && entry.kind == base::EntryKind::kConfig)
      configuration_committed(entry);
  for (OpenedDatabase& database : recovered.databases) {
    if (!database.image) {
      last_error_ = "database " + database.database.name + ": " + base::to_string(database.error);
      events_.add("error", last_error_);
      base::log_error("node: " + last_error_);
    }
    apply_->add_opened(database.database, SharedImage(std::move(database.image)), database.state, database.applied);
  }
  for (const auto& [id, database] : ledger_.databases()) leases_.add(id, database.last);
  {
    base::MutexLock lock(shown_mutex_);
    for (const auto& [id, database] : ledger_.databases()) names_[database.name] = id;
  }
  for (const Decision& decision : recovered.decisions) apply_->enqueue(decision);
  apply_->set_decided(ledger_.at().index);
  commit_index_ = ledger_.at().index.value;
  applied_index_ = apply_->applied().value;
  if (recovered.restored.applied > Index{}) bootstrap_->set_committed();
  if (holds_entry) restored_ = std::move(recovered.restored);
  leases_.deactivate(Leases::Refusal::kWait, unavailable());
  return base::ok();
}

void NodeImpl::make_driver() {
  Driver::Hooks hooks;
  hooks.send = [this](const raft::Message& message) { send_raft(message); };
  hooks.flush = [this] {
    if (transport_ != nullptr) transport_->flush();
  };
  hooks.committed = [this](const base::Entry& entry) { on_committed(entry); };
  hooks.read = [this](const raft::ReadResult& result) { on_read(result); };
  hooks.status_changed = [this] { role_changed(); };
  hooks.failed = [this](const Error& why) { fail_node(why); };
  hooks.full_changed = [this](bool full) {
    events_.add("disk", full ? "the log cannot grow: its disk, or the table of open files, is full; writes are refused "
                               "until there is room"
                             : "the log has space again");
    refresh_status();
  };
  driver_ = std::make_unique<Driver>(*parts_.env, *parts_.loop, *parts_.log, *data_dir_.opened.log,
                                     config_.sync_interval(), std::move(hooks));
}

void NodeImpl::make_core(raft::Restored restored) {
  raft::Options options;
  options.self = self_;
  options.heartbeat_ticks = 1;
  options.tick_micros = std::max(1, config_.heartbeat_ms) * base::kMillisecond;  // tick() below
  options.election_ticks = std::max(kElectionTicksMin, config_.election_timeout_ms / std::max(1, config_.heartbeat_ms));
  options.seed = base::mix64(boot_nonce_);
  driver_->adopt(std::make_unique<raft::Core>(options, std::move(restored)));
  for (const auto& [id, peer] : peers_) driver_->core().peer_up(peer.member);
}

void NodeImpl::start() {
  post([this] { begin(); });
}

void NodeImpl::begin() {
  if (std::exchange(started_, true) || (stopped() && !broken_)) return;
  if (broken_) return break_off("", "a task of the start let an exception out");
  apply_->start();
  if (restored_) make_core(std::move(*std::exchange(restored_, std::nullopt)));
  if (transport_ != nullptr) transport_->start(*this);
  events_.add("node", "started as " + node_name(self_.id));
  if (halt_if_superseded()) return;
  if (transport_ != nullptr) {
    std::vector<base::PeerAddress> peers;
    for (const NodeAddress& address : config_.nodes)
      if (address.id != self_.id) peers.push_back({address.id, address.raft_addr});
    transport_->set_peers(peers);
  }
  changed_at_ = last_tick_ = now();
  if (embedded() && driver_->has_core()) driver_->core().campaign();
  driver_->pump();
  role_changed();
  tick();
}

void NodeImpl::tick() {
  if (broken_) break_off("", "no memory was left to say where");  // nothing, when that was said
  if (stopped()) return;
  const Micros period = std::max(1, config_.heartbeat_ms) * base::kMillisecond;
  parts_.loop->post_at(now() + period, [this] { tick(); });
  last_tick_ = now();
  if (driver_->has_core()) {
    const Micros since = driver_->in_flight_since();
    const bool stalled = since != 0 && now() - since > config_.election_timeout_ms * base::kMillisecond / 2;
    driver_->core().disk_stalled(stalled);
    driver_->core().tick();
    driver_->pump();
  }
  if (stopped()) return;
  bootstrap_->tick();
  run_bootstrap();
  origins_.expire(now());
  leases_.expire(now());
  forwards_->tick();
  execution_->tick();
  expire_reads();
  settle_waiters();
  expire_waiters();
  if (!stopping_) {
    try_activate();
    check_members();
    check_contradicted();
    check_writers();
    maintain();
  }
  refresh_status();
}

std::string NodeImpl::node_name(NodeId id) const {
  for (const NodeAddress& address : config_.nodes)
    if (address.id == id) return "node " + std::to_string(id.value) + " (" + address.raft_addr + ")";
  return "node " + std::to_string(id.value);
}

Error NodeImpl::unavailable() const {
  if (final_error_) return *final_error_;
  if (broken_) return broken_error();
  if (stopping_) return base::make_error(Code::kStopped, "the node is stopping");
  std::string who;
  for (const NodeId id : bootstrap_->missing()) who += (who.empty() ? "" : ", ") + node_name(id);
  if (!bootstrap_->belongs() || !ledger_.formed())
    return base::make_error(Code::kWaitingForNodes, who.empty() ? "the cluster is being formed; try again"
                                                                : "the first start needs every node; missing: " + who);
  return base::make_error(Code::kNoQuorum, who.empty() ? "no leader at the moment; not applied"
                                                       : "no leader; not connected to " + who + "; not applied");
}

// The core's role, leader or term changed.
void NodeImpl::role_changed() {
  if (!driver_->has_core() || stopped()) return;
  raft::Core& core = driver_->core();
  const bool leads = core.is_leader();
  const base::Member leader = core.leader();
  if (active_term_ && (!leads || core.term() != active_term_)) {
    events_.add("role", "no longer leader of term " + std::to_string(active_term_.value));
    active_term_ = {};
  }
  if (!leads || core.term() != active_term_) {
    const bool elsewhere = leader && leader != self_ && peers_.count(leader.id) != 0;
    if (elsewhere) {
      std::string api;
      for (const NodeAddress& address : config_.nodes)
        if (address.id == leader.id)
          api = " (" + (address.api_addr.empty() ? address.raft_addr : address.api_addr) + ")";
      const bool learner = core.status().configuration.is_learner(self_);
      const std::string name = "node " + std::to_string(leader.id.value) + api;
      step_down(Leases::Refusal::kAnswer, base::make_error(learner ? Code::kLearner : Code::kNotLeader,
                                                           "write on " + name + " or use hql_execute"));
    } else {
      step_down(Leases::Refusal::kWait, unavailable());
    }
  }
  const raft::Role role = core.status().role;
  if (role != shown_role_)
    events_.add("role", raft::to_string(role) + (" in term " + std::to_string(core.term().value)));
  if (leader.id != shown_leader_)
    events_.add("leader",
                leader ? node_name(leader.id) + " leads term " + std::to_string(core.term().value) : "no leader");
  shown_role_ = role;
  shown_leader_ = leader.id;
  if (!stopping_) try_activate();
  forwards_->leader_changed();
  settle_waiters();
  refresh_status();
}

void NodeImpl::step_down(Leases::Refusal refusal, const Error& why) {
  leases_.deactivate(refusal, why);
  if (execution_->active()) execution_->deactivate();
  if (!driver_->has_core() || !driver_->core().is_leader()) early_forwards_.clear();
  for (const base::DatabaseId db : leases_.take_lost()) {
    // A transaction that is proposed learns its outcome from the log; one that is not can no longer commit (R4).
    if (origins_.pending(db)) continue;
    if (const SharedImage image = apply_->image(db))
      image->doom_local_writer(
          base::make_error(Code::kLeaseLost, "the leader changed; the transaction was not applied"));
  }
}

// A leader serves when an entry of its own term is decided here (so it knows the last transaction of every database) and when the cluster
// is formed (DESIGN 6.2).
void NodeImpl::try_activate() {
  if (!driver_->has_core() || stopped() || stopping_) return;
  raft::Core& core = driver_->core();
  if (!core.is_leader() || core.term() == active_term_ || ledger_.at().term != core.term()) return;
  if (!ledger_.formed()) {
    if (formed_proposed_in_ == core.term() || !bootstrap_->belongs()) return;
    const raft::Status status = core.status();
    const auto holds = [&](base::Member member) {
      if (member == self_ || !status.configuration.contains(member)) return true;
      for (const raft::PeerStatus& peer : status.peers)
        if (peer.member == member) return peer.match >= Index{1};
      return false;
    };
    const auto first = configuration_at(Index{1});
    if (!first) return;
    for (const raft::MemberInfo& voter : first->voters)
      if (!holds(voter.member)) return;
    if (core.propose(base::EntryKind::kData, base::share({kFormedEntry}))) formed_proposed_in_ = core.term();
    driver_->pump();
    return;
  }
  active_term_ = core.term();
  events_.add("role", "leads term " + std::to_string(active_term_.value));
  leases_.activate(active_term_);
  execution_->activate(active_term_);
  drain_early_forwards();
  forwards_->leader_changed();
  settle_waiters();
  refresh_status();
}

Status NodeImpl::may_propose() const {
  if (final_error_) return *final_error_;
  if (broken_) return broken_error();
  if (stopping_) return base::make_error(Code::kStopped, "the node is stopping");
  if (driver_->full() || data_dir_.opened.log->full())
    return base::make_error(
        Code::kFull, "the disk of " + config_.data_dir +
                         " is full, or this process may open no more files; writes are refused until there is room");
  return base::ok();
}

void NodeImpl::write_meta(std::function<void()> done) {
  driver_->with_log([this, meta = meta_](wal::Log&) { return data_dir_.meta_file->write(meta); },
                    [this, done = std::move(done)](const Status& status) {
                      if (stopped()) return;
                      if (!status && status.error().code == Code::kFull) {
                        // Nothing that depends on it happens before there is space again.
                        parts_.loop->post_at(now() + kMetaRetry, [this, done] { write_meta(done); });
                        return;
                      }
                      if (!status) {
                        fail_node(status.error());
                        return;
                      }
                      done();
                    });
}

// R13: the log (or the meta file) failed: the node stops voting and acknowledging, and every later call says why.
void NodeImpl::fail_node(const Error& why) {
  const bool poisoned = why.code != Code::kCorrupt;
  halt("poisoned", poisoned ? base::make_error(Code::kPoisoned, why.message + "; restart the node") : why);
}

// R2: memory ran out in a task, and whatever it worked on is half done: the core, the ledger, a lease, a file. So nothing of it is used again.
// What left before was true when it left; entries that were not yet acknowledged are the log's to decide, and who waits for them is told
// that their outcome is not known.
void NodeImpl::lane_failed(const std::string& lane, const std::string& what) noexcept {
  broken_ = true;
  delete[] reserve_.exchange(nullptr);
  try {
    if (parts_.loop->is_current()) {
      break_off(lane, what);
    } else {
      post([this, lane, what] { break_off(lane, what); });
    }
  } catch (const std::exception&) {
    // The next tick says it, or nobody does: broken_ keeps the node from everything else.
  }
}

void NodeImpl::break_off(const std::string& lane, const std::string& what) {
  if (!started_) return;  // attach() may be at work on another thread; begin() comes back to it
  const Error why = base::make_error(Code::kPoisoned, "thread " + (lane.empty() ? "?" : lane) +
                                                          ": out of memory or of another resource (" + what +
                                                          "); the node has stopped taking part; restart it");
  halt("poisoned", why);
}

Status NodeImpl::still_alive() {
  if (!broken_.load() && !ended_.load()) return base::ok();
  {
    base::MutexLock lock(shown_mutex_);
    if (shown_end_) return *shown_end_;
  }
  return broken_error();
}

void NodeImpl::halt(const std::string& state, const Error& why) {
  if (!final_state_.empty()) return;
  driver_->halt();
  final_state_ = state;
  final_error_ = why;
  {
    base::MutexLock lock(shown_mutex_);
    shown_end_ = why;
  }
  ended_ = true;
  last_error_ = base::to_string(why);
  events_.add("error", last_error_);
  base::log_error("node: " + last_error_);
  active_term_ = {};
  step_down(Leases::Refusal::kAnswer, why);
  fail_waiters(why);
  if (transport_ != nullptr) transport_->set_peers({});
  refresh_status();
  if (stop_done_) finish_stop();
}

void NodeImpl::fail_waiters(const Error& why) {
  origins_.abandon(why);
  forwards_->abandon(why);
  for (auto& [token, waiter] : std::exchange(creates_, {})) waiter.done(why);
  for (auto& [token, waiter] : std::exchange(drops_, {})) waiter.done(why);
  for (TransferWaiter& waiter : std::exchange(transfers_, {})) waiter.done(why);
  for (IndexWaiter& waiter : std::exchange(index_waiters_, {})) waiter.done(why);
  for (HealthWaiter& waiter : std::exchange(health_waiters_, {})) waiter.done(why);
  for (auto& [context, read] : std::exchange(reads_, {})) read.done(why);
  for (auto& waiter : std::exchange(sync_.next, {})) waiter(why);
}

void NodeImpl::stop(std::function<void()> done) {
  post([this, done = std::move(done)]() mutable {
    if (stop_done_ || final_state_ == "stopped") {
      if (done) done();
      return;
    }
    if (!execution_) {  // attach() failed, or was never called
      final_state_ = "stopped";
      if (done) done();
      return;
    }
    stop_done_ = done ? std::move(done) : [] {};
    if (stopped() || !started_) {
      finish_stop();
      return;
    }
    events_.add("node", "stopping");
    // What runs ends as it would have: no statement of ours fails while the process ends, when SQLite would tell a log of the host that may
    // be gone (the sqlite3 shell's is a variable of its main()).
    execution_->wind_down(base::make_error(Code::kStopped, "the node is stopping"), [this] { stop_serving(); });
    parts_.loop->post_at(now() + kBatchMax, [this] { stop_serving(); });
  });
}

void NodeImpl::stop_serving() {
  if (!stop_done_ || stopping_) return;
  if (stopped()) {  // it has failed meanwhile
    finish_stop();
    return;
  }
  stopping_ = true;
  const Error why = base::make_error(Code::kStopped, "the node is stopping");
  const bool hand_over = driver_->has_core() && driver_->core().is_leader() && !embedded();
  active_term_ = {};
  step_down(Leases::Refusal::kAnswer, why);
  fail_waiters(why);
  refresh_status();
  const auto sync = [this] {
    if (!stop_done_) return;
    sync_round([this](const Result<Index>&) { finish_stop(); });
    parts_.loop->post_at(now() + kStopSyncMax, [this] { finish_stop(); });
  };
  if (hand_over && driver_->core().transfer({})) {
    driver_->pump();
    parts_.loop->post_at(now() + kTransferMax, sync);
  } else {
    sync();
  }
}

void NodeImpl::finish_stop() {
  if (!stop_done_) return;
  auto done = std::exchange(stop_done_, nullptr);
  const bool clean = !stopped();
  apply_->halt();
  driver_->halt();
  final_state_ = "stopped";
  if (!final_error_) final_error_ = base::make_error(Code::kStopped, "the node was stopped");
  step_down(Leases::Refusal::kAnswer, *final_error_);
  fail_waiters(*final_error_);
  refresh_status();
  parts_.log->post([this, clean, done = std::move(done)]() mutable {
    // Everything is on the disk already; the seal only says so. If it fails, the next start finds a tail to check.
    if (clean) static_cast<void>(data_dir_.opened.log->seal());
    parts_.loop->post(std::move(done));
  });
}

}  // namespace node

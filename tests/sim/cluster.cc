// The simulated cluster (cluster.h).
#include "tests/sim/cluster.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "node/first_page.h"
#include "node/hello.h"

namespace sim {
namespace {

using base::Micros;
using base::NodeId;

constexpr std::uint64_t kSampleSteps = 37;  // nodes are asked for their status every so many tasks

// Shows every frame that a node sends to the invariants. What is left of a process that was killed in this very task sends nothing.
class TapTransport final : public base::Transport {
 public:
  TapTransport(std::unique_ptr<base::Transport> inner, const SimLane& loop, Invariants& invariants)
      : inner_(std::move(inner)), loop_(loop), invariants_(invariants) {}
  void start(base::TransportHandler& handler) override { inner_->start(handler); }
  void set_peers(const std::vector<base::PeerAddress>& peers) override { inner_->set_peers(peers); }
  bool send(NodeId peer, base::Channel channel, base::SharedBytes frame) override {
    if (loop_.alive()) invariants_.sent(loop_.node(), *frame);
    return inner_->send(peer, channel, std::move(frame));
  }
  void disconnect(NodeId peer) override { inner_->disconnect(peer); }

 private:
  std::unique_ptr<base::Transport> inner_;
  const SimLane& loop_;
  Invariants& invariants_;
};

// What of SimNetwork's wild faults the product survives by what its frames say. Raft messages name both members and their term, forwarded
// requests their origin. Bootstrap frames name no incarnation: that they come over the sender's own connection tells whose they are. Control
// requests are not remembered by the leader, and the asker counts the refusals: they rest on a transport that doubles nothing.
Tolerance tolerance_of(base::ByteView bytes) {
  const auto frame = node::parse_frame(bytes);
  if (!frame) return {};
  switch (frame->kind) {
    case node::FrameKind::kRaft:
    case node::FrameKind::kForward:
    case node::FrameKind::kForwardReply:
      return {.lost = true, .doubled = true, .overtaken = true, .belated = true};
    case node::FrameKind::kBootstrap:
    case node::FrameKind::kSuperseded:
      return {.lost = true, .doubled = true, .overtaken = true, .belated = false};
    case node::FrameKind::kControl:
    case node::FrameKind::kControlReply:
      return {.lost = true, .doubled = false, .overtaken = true, .belated = false};
  }
  return {};
}

}  // namespace

Cluster::Cluster(Options options)
    : options_(options), scheduler_(options.seed), network_(scheduler_, options.seed ^ 0x6e6574) {
  for (int i = 1; i <= options_.nodes; ++i) {
    Host& host = hosts_[NodeId(static_cast<std::uint64_t>(i))];
    host.id = NodeId(static_cast<std::uint64_t>(i));
    DiskOptions disk;
    host.disk = std::make_unique<SimDisk>(options_.seed * 1000 + static_cast<std::uint64_t>(i), disk);
    host.disk->on_crash([this, id = host.id] {
      log("node " + std::to_string(id.value) + " crashes at a disk operation");
      scheduler_.kill(id);
      bury(this->host(id));
    });
    host.log = std::make_unique<LogWatch>(
        "/data/log", options_.log_sync == "immediate" ? LogWatch::Sync::kEveryBatch : LogWatch::Sync::kInterval);
    invariants_.watch(host.id, *host.log);
    host.disk->on_changed([this, id = host.id](DiskOp op, const std::string& path, const SimFile& file) {
      this->host(id).log->changed(op, path, file,
                                  [this, id](const LogImage::Entry& entry) { invariants_.stored(id, entry); });
    });
  }
  NetworkOptions network = network_.options();
  network.tolerates = tolerance_of;
  network_.set_options(std::move(network));
  scheduler_.after_step([this] { after_step(); });
}

Cluster::~Cluster() {
  for (auto& [id, host] : hosts_) {
    if (!host.process) continue;
    scheduler_.kill(id);
    bury(host);
  }
  graves_.clear();
}

void Cluster::log(const std::string& line) {
  if (!options_.trace) return;
  std::printf("%10.4f %s\n", static_cast<double>(scheduler_.now()) / 1e6, line.c_str());
}

std::vector<NodeId> Cluster::ids() const {
  std::vector<NodeId> out;
  for (const auto& [id, host] : hosts_) out.push_back(id);
  return out;
}

node::Config Cluster::config_of(NodeId id) const {
  node::Config config;
  config.node_id = id;
  config.data_dir = "/data";
  config.wal_size = options_.wal_size;
  config.log_sync = options_.log_sync;
  config.transaction_timeout_ms = options_.transaction_timeout_ms;
  config.election_timeout_ms = 500;
  config.heartbeat_ms = options_.heartbeat_ms;
  config.commit_timeout_ms = 5000;
  if (options_.nodes > 1)
    for (const auto& [other, host] : hosts_)
      config.nodes.push_back({other, "sim:" + std::to_string(other.value), "sim:" + std::to_string(100 + other.value)});
  return config;
}

void Cluster::start(NodeId id) {
  Host& host = this->host(id);
  if (host.process || host.starting) return;
  host.starting = true;
  scheduler_.lane(id, "main").post([this, id] { boot(this->host(id)); });
}

void Cluster::start_all() {
  for (const NodeId id : ids()) start(id);
}

void Cluster::boot(Host& host) {
  host.starting = false;
  host.error.clear();
  ++host.boots;
  const NodeId id = host.id;
  log("node " + std::to_string(id.value) + " starts");
  host.process = std::make_unique<Process>();
  Process& process = *host.process;
  process.env = host.disk->boot(&scheduler_.clock(id));
  SimLane& loop = scheduler_.lane(id, "loop");
  node::Parts parts{process.env.get(), &loop, &scheduler_.lane(id, "log"), &scheduler_.lane(id, "apply"),
                    &scheduler_.lane(id, "maintenance")};
  ImageParts image;
  image.env = process.env.get();
  image.loop = parts.loop;
  image.apply = parts.apply;
  image.maintenance = parts.maintenance;
  image.sql = &scheduler_.lane(id, "sql");
  image.dir = "/data/db";
  image.seed = options_.seed ^ host.boots << 8 ^ id.value;
  image.published = [this, id](base::DatabaseId db, base::LogId at, std::uint64_t digest) {
    invariants_.published(id, db, at, digest);
  };
  image.breach = [this, id](const std::string& what) {
    invariants_.breach("node " + std::to_string(id.value) + ": " + what);
  };
  process.images = std::make_unique<SimImages>(std::move(image));
  process.executors = std::make_unique<SimExecutors>(*process.images, *process.env, loop, scheduler_.lane(id, "sql"),
                                                     4 * base::kSecond);
  const auto fail = [&](const base::Error& error) {
    if (host.process == nullptr) return;  // it crashed meanwhile
    host.error = base::to_string(error);
    log("node " + std::to_string(id.value) + " does not start: " + host.error);
    scheduler_.kill(id);
    host.disk->kill_process();
    bury(host);
  };
  auto opened = node::Node::open(parts, config_of(id));
  if (host.process == nullptr) return;
  if (!opened) {
    fail(opened.error());
    return;
  }
  process.node = std::move(*opened);
  process.images->set_gate(process.node.get());
  base::PeerInfo self;
  self.id = id;
  self.incarnation = process.node->self().incarnation;
  self.boot_nonce = process.node->boot_nonce();
  if (options_.nodes > 1)
    process.transport = std::make_unique<TapTransport>(network_.attach(self, loop), loop, invariants_);
  const base::Status attached = process.node->attach(*process.images, *process.executors, process.transport.get());
  if (host.process == nullptr) return;
  if (!attached) {
    fail(attached.error());
    return;
  }
  for (const node::Event& event : process.node->events(0)) {
    if (event.kind != "ahead_of_log") continue;
    ++found_ahead_;
    log("node " + std::to_string(id.value) + ": " + event.text);
    if (event.text.find("beyond the end of the log") != std::string::npos)
      invariants_.breach("node " + std::to_string(id.value) + ": " + event.text);
  }
  // A damaged log promises less than its bytes: such a node's frames are not held against it.
  if (!host.log->opened(*process.env))
    log("node " + std::to_string(id.value) + ": its log is damaged, its promises are not checked");
  process.node->start();
}

// The process is dead. Its objects may be on the stack: they are destroyed after the running task.
void Cluster::bury(Host& host) {
  host.starting = false;
  host.log->forget();
  if (!host.process) return;
  graves_.push_back(std::move(host.process));
  lost_operations(host.id);
}

void Cluster::lost_operations(NodeId id) {
  for (auto& [number, op] : ops_)
    if (op.node == id && op.state == OpState::kPending) op.state = OpState::kUnknown;
  for (auto& [name, other] : others_) {
    if (other.node != id) continue;
    if (other.created == OpState::kPending) other.created = OpState::kUnknown;
    if (other.dropped == OpState::kPending) other.dropped = OpState::kUnknown;
  }
}

void Cluster::stop(NodeId id, Stop how) {
  Host& host = this->host(id);
  log("node " + std::to_string(id.value) +
      (how == Stop::kKill   ? " is killed"
       : how == Stop::kWipe ? " is wiped"
                            : " loses power"));
  network_.set_death(id, how == Stop::kKill ? Death::kReset : Death::kSilent);
  scheduler_.kill(id);
  bury(host);
  switch (how) {
    case Stop::kKill:
      host.disk->kill_process();
      break;
    case Stop::kPowerCut:
      host.disk->power_cut();
      break;
    case Stop::kWipe:
      host.disk->wipe();
      break;
  }
}

bool Cluster::stop_cleanly(NodeId id) {
  if (!up(id)) return false;
  auto done = std::make_shared<bool>(false);  // shared with the callback
  node(id)->stop([done] { *done = true; });
  run_until([done] { return *done; }, 5 * base::kSecond);
  if (!*done) return false;
  Host& host = this->host(id);
  scheduler_.kill(id);
  host.process->env->shut_down();
  bury(host);
  return true;
}

bool Cluster::up(NodeId id) const { return host(id).process != nullptr && host(id).process->node != nullptr; }
node::Node* Cluster::node(NodeId id) const { return up(id) ? host(id).process->node.get() : nullptr; }
SimImage* Cluster::image(NodeId id) const { return up(id) ? host(id).process->images->find(kDatabase) : nullptr; }
std::string Cluster::start_error(NodeId id) const { return host(id).error; }

void Cluster::after_step() {
  graves_.clear();
  if (scheduler_.steps() % kSampleSteps != 0) return;
  for (auto& [id, host] : hosts_) {
    if (!host.process || !host.process->node) continue;
    invariants_.sampled(id, host.process->node->raft_status(), host.process->node->status());
  }
}

NodeId Cluster::leader() const {
  NodeId found;
  base::Term term;
  for (const auto& [id, host] : hosts_) {
    if (!up(id)) continue;
    const node::NodeStatus status = host.process->node->status();
    if (status.role != "leader" || status.state != "healthy" || status.term < term) continue;
    term = status.term;
    found = id;
  }
  return found;
}

bool Cluster::healthy(NodeId id) const { return up(id) && node(id)->status().state == "healthy"; }

bool Cluster::all_healthy() const {
  const auto all = ids();
  return std::all_of(all.begin(), all.end(), [this](NodeId id) { return healthy(id); });
}

bool Cluster::run_until(const std::function<bool()>& condition, Micros within) {
  return scheduler_.run_until([&] { return !invariants_.breach().empty() || condition(); },
                              scheduler_.now() + within) &&
         condition();
}

std::uint64_t Cluster::new_op(NodeId id) {
  ops_[++last_op_] = {OpState::kPending, id, host(id).boots, ""};
  return last_op_;
}

void Cluster::settle(std::uint64_t number, OpState state, const std::string& error) {
  Op& op = ops_.at(number);
  if (op.state != OpState::kPending) return;  // its process died first
  op.state = state;
  op.error = error;
  if (state != OpState::kAcked) log("operation " + std::to_string(number) + ": " + error);
}

std::uint64_t Cluster::write(NodeId id, Micros timeout) {
  const std::uint64_t number = new_op(id);
  node::Node* node = this->node(id);
  CHECK(node != nullptr);
  node->execute(kDatabase, encode_request(RequestKind::kWrite, number), node->now() + timeout,
                [this, number, id](const base::Result<node::ExecuteReply>& reply) {
                  if (reply) {
                    // Read your own write: this node has it now.
                    const SimImage* image = this->image(id);
                    if (image != nullptr) {
                      const auto there = image->operations();
                      if (std::find(there.begin(), there.end(), number) == there.end() &&
                          node::NodeStatus(this->node(id)->status()).applied_index >= reply->committed.index)
                        invariants_.breach("operation " + std::to_string(number) + " is acknowledged on node " +
                                           std::to_string(id.value) + " and not in its database");
                    }
                    settle(number, OpState::kAcked, "");
                  } else {
                    const bool unknown = reply.error().code == base::Code::kUnknownOutcome;
                    settle(number, unknown ? OpState::kUnknown : OpState::kRefused, base::to_string(reply.error()));
                  }
                });
  return number;
}

void Cluster::read(NodeId id, Micros timeout) {
  node::Node* node = this->node(id);
  CHECK(node != nullptr);
  const std::size_t acked = count(OpState::kAcked);
  node->execute(kDatabase, encode_request(RequestKind::kRead, 0), node->now() + timeout,
                [this, acked](const base::Result<node::ExecuteReply>& reply) {
                  if (!reply || reply->rows_lost) return;
                  base::Reader in(reply->body);
                  const std::uint64_t seen = in.u64();
                  // Linearizable: everything acknowledged before the read began is in what it saw.
                  if (seen < acked)
                    invariants_.breach("stale read: " + std::to_string(seen) + " operations seen, " +
                                       std::to_string(acked) + " were acknowledged before");
                });
}

std::uint64_t Cluster::local_write(NodeId id, Micros timeout, std::size_t count) {
  SimImage* image = this->image(id);
  CHECK(image != nullptr);
  std::vector<std::uint64_t> numbers;
  for (std::size_t i = 0; i < count; ++i) numbers.push_back(new_op(id));
  image->transact(numbers, {}, false, node(id)->now() + timeout, [this, numbers](const LocalResult& result) {
    for (const std::uint64_t number : numbers) {
      switch (result.outcome.kind) {
        case vfs::OutcomeKind::kCommitted:
          settle(number, OpState::kAcked, "");
          break;
        case vfs::OutcomeKind::kNotApplied:
          settle(number, OpState::kRefused, base::to_string(result.outcome.error));
          break;
        case vfs::OutcomeKind::kUnknown:
          settle(number, OpState::kUnknown, base::to_string(result.outcome.error));
          break;
      }
    }
  });
  return numbers.back();
}

bool Cluster::all_answered() const {
  return count(OpState::kPending) == 0 && std::none_of(others_.begin(), others_.end(), [](const auto& other) {
           return other.second.created == OpState::kPending || other.second.dropped == OpState::kPending;
         });
}

OpState Cluster::state_of(const base::Status& status) {
  if (status) return OpState::kAcked;
  return status.error().code == base::Code::kUnknownOutcome ? OpState::kUnknown : OpState::kRefused;
}

void Cluster::create_other(NodeId id, Micros timeout) {
  const std::string name = "other" + std::to_string(others_.size()) + ".db";
  others_[name] = {OpState::kPending, std::nullopt, id};
  node(id)->create_database(
      node::empty_database(name, {}, {}), node(id)->now() + timeout, [this, name](const auto& result) {
        Other& other = others_.at(name);
        if (other.created != OpState::kPending) return;
        other.created = state_of(result ? base::ok() : base::Status(result.error()));
        log(name + ": " + (result ? "created" : "not created: " + base::to_string(result.error())));
      });
}

void Cluster::drop_other(NodeId id, Micros timeout) {
  for (auto& [name, other] : others_) {
    if (other.created != OpState::kAcked || other.dropped) continue;
    other.dropped = OpState::kPending;
    other.node = id;
    node(id)->drop_database(name, node(id)->now() + timeout, [this, name = name](const base::Status& status) {
      Other& asked = others_.at(name);
      if (asked.dropped != OpState::kPending) return;
      asked.dropped = state_of(status);
      log(name + ": " + (status ? "dropped" : "not dropped: " + base::to_string(status.error())));
    });
    return;
  }
}

// What was answered is so on every node, and what was not is the same on all.
std::string Cluster::check_others() const {
  for (const auto& [name, other] : others_) {
    std::size_t there = 0;
    for (const auto& [id, host] : hosts_) there += node(id)->database_id(name) ? 1 : 0;
    const std::string found = " is on " + std::to_string(there) + " nodes, ";
    if (there != 0 && there != hosts_.size()) return name + found + "and not on all";
    if (other.created == OpState::kPending || other.dropped == OpState::kPending) return name + " was never answered";
    if (there != 0 && other.created == OpState::kRefused) return name + found + "and its creation was refused";
    if (there != 0 && other.dropped == OpState::kAcked) return name + found + "and was dropped";
    if (there == 0 && other.created == OpState::kAcked && (!other.dropped || other.dropped == OpState::kRefused))
      return name + found + "and was created";
  }
  return "";
}

std::size_t Cluster::count(OpState state) const {
  return static_cast<std::size_t>(
      std::count_if(ops_.begin(), ops_.end(), [state](const auto& op) { return op.second.state == state; }));
}

std::string Cluster::check_content() const {
  if (const std::string wrong = check_others(); !wrong.empty()) return wrong;
  for (const auto& [id, host] : hosts_) {
    const std::string who = "node " + std::to_string(id.value) + ": ";
    const SimImage* image = this->image(id);
    if (image == nullptr) {
      if (count(OpState::kAcked) == 0) continue;
      return who + "no database, but there are acknowledged writes";
    }
    std::map<std::uint64_t, int> times;
    for (const std::uint64_t op : image->operations()) ++times[op];
    for (const auto& [number, op] : ops_) {
      const int seen = times.count(number) != 0 ? times[number] : 0;
      const std::string what = "operation " + std::to_string(number) + " of node " + std::to_string(op.node.value);
      if (seen > 1) return who + what + " was applied " + std::to_string(seen) + " times";
      if (op.state == OpState::kAcked && seen == 0) return who + what + " was acknowledged and is lost";
      if (op.state == OpState::kRefused && seen != 0)
        return who + what + " was refused (" + op.error + ") and is there";
      if (op.state == OpState::kPending) return who + what + " was never answered";
      times.erase(number);
    }
    if (!times.empty()) return who + "an operation that nobody asked for";
  }
  return "";
}

std::string Cluster::dump() const {
  std::string out;
  for (const auto& [id, host] : hosts_) {
    out += "node " + std::to_string(id.value) + ": ";
    if (!up(id)) {
      out += "down " + host.error + "\n";
      continue;
    }
    node::Node& node = *host.process->node;
    const node::NodeStatus status = node.status();
    out += status.state + " " + status.role + " term " + std::to_string(status.term.value) + " leader " +
           std::to_string(status.leader_id.value) + " commit " + std::to_string(status.commit_index.value) +
           " durable " + std::to_string(status.durable_index.value) + " applied " +
           std::to_string(status.applied_index.value) + " cluster " + base::hex16(status.cluster_id) + " " +
           status.last_error + "\n";
    for (const node::MemberStatus& member : status.members)
      out += "    member " + std::to_string(member.id.value) + " " + member.role +
             (member.reachable ? "" : " unreachable") + " match " + std::to_string(member.match.value) + "\n";
    for (const node::DatabaseStatus& database : status.databases)
      out += "    " + database.name + " " + pages::to_string(database.image.state) + " applied " +
             std::to_string(database.image.applied.index.value) + " base " +
             std::to_string(database.image.base.index.value) + " writer '" + database.image.writer + "'\n";
    const auto events = node.events(0);
    for (std::size_t i = events.size() > 12 ? events.size() - 12 : 0; i < events.size(); ++i)
      out += "    " + events[i].kind + ": " + events[i].text + "\n";
  }
  return out;
}

}  // namespace sim

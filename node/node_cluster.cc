// Other nodes: frames, the first start, members, requests that one node forwards to another.
#include <algorithm>
#include <utility>

#include "base/log.h"
#include "node/membership.h"
#include "node/node_impl.h"

namespace node {
namespace {

using base::Channel;
using base::Code;
using base::DatabaseId;
using base::Error;
using base::Index;
using base::Member;
using base::NodeId;
using base::Status;

constexpr base::Micros kMemberCheck = 300 * base::kMillisecond;
constexpr base::Micros kFullRetry = 500 * base::kMillisecond;  // a full disk is asked again for the first entry
constexpr std::size_t kEarlyForwardsMax = 4096;

}  // namespace

// --- the transport's handler ---------------------------------------------------------------------------------------------

base::Bytes NodeImpl::make_hello() {
  Hello hello;
  hello.incarnation = self_.incarnation;
  hello.boot = meta_.boot;
  hello.cluster = bootstrap_->cluster();
  hello.promise = bootstrap_->promise();
  if (driver_->has_core()) {
    const raft::Status status = driver_->core().status();
    hello.term = status.term;
    hello.last = status.last;
    hello.damaged = !status.may_vote;
  }
  hello.nodes_hash = nodes_hash(config_);
  hello.unsynced = config_.sync_interval() > 0;
  return encode(hello);
}

Status NodeImpl::on_up(const base::PeerInfo& peer) {
  if (stopped()) return base::make_error(Code::kStopped, "node " + std::to_string(self_.id.value) + " has stopped");
  const auto hello = decode_hello(peer.hello);
  Status admitted = hello ? admit(peer, *hello) : Status(hello.error());
  if (!admitted) {
    peer_trouble(admitted.error());
    return admitted;
  }
  const Member member{peer.id, peer.incarnation};
  peers_[peer.id] = {member, *hello};
  events_.add("peer", node_name(peer.id) + " connected");
  bootstrap_->peer_up(member, hello->cluster, hello->promise);
  run_bootstrap();
  if (driver_->has_core()) {
    driver_->core().peer_up(member);
    driver_->pump();
  }
  role_changed();
  forwards_->peer_connected(peer.id);
  return base::ok();
}

// Whether this peer may talk to this node. The message is read on both sides: it names both nodes.
Status NodeImpl::admit(const base::PeerInfo& peer, const Hello& hello) {
  const std::string name = node_name(peer.id);
  const std::string own = "node " + std::to_string(self_.id.value);
  const auto refuse = [&](const std::string& why) { return base::make_error(Code::kRefused, name + why); };
  if (hello.incarnation != peer.incarnation) return refuse(": its statement names another incarnation");
  const bool configured =
      std::any_of(config_.nodes.begin(), config_.nodes.end(), [&](const NodeAddress& a) { return a.id == peer.id; });
  if (!configured || peer.id == self_.id)
    return refuse(configured ? ": its id is that of " + own : ": it is not in `nodes` of " + own);
  // R10: while one incarnation of an id is connected, another is refused.
  if (const auto known = peers_.find(peer.id);
      known != peers_.end() && known->second.member.incarnation != peer.incarnation)
    return refuse(": id in use by another process");
  const Ballot& cluster = bootstrap_->cluster();
  if (hello.cluster && bootstrap_->belongs() && hello.cluster != cluster)
    return refuse(" belongs to cluster " + base::hex16(cluster_id(hello.cluster)) + ", " + own + " to " +
                  base::hex16(cluster_id(cluster)) + "; one of them must be wiped");
  if (!bootstrap_->belongs() && !hello.cluster && hello.nodes_hash != nodes_hash(config_))
    return refuse(" and " + own + " have different `nodes` lists; the first start needs the same list on every node");
  if (const Status life = lives_.check({peer.id, peer.incarnation}, peer.boot_nonce, hello); !life)
    return refuse(": " + life.error().message);
  return base::ok();
}

// What the core knows of the committed entries on the disk of a member that disconnects (R10). Of others it may know of a later moment than
// the statement that is on its way from them.
void NodeImpl::remember_held(const Member& member) {
  const raft::Status status = driver_->core().status();
  if (status.role == raft::Role::kLeader)
    for (const raft::PeerStatus& peer : status.peers)
      if (peer.member == member) lives_.held(member, std::min(peer.match, status.commit));
  for (const auto& [voter, index] : status.heartbeat_held)
    if (voter == member) lives_.held(member, index);
}

void NodeImpl::peer_trouble(const Error& why) {
  if (stopped()) return;
  const std::string text = base::to_string(why);
  if (text == last_error_) return;  // it comes again with every attempt
  last_error_ = text;
  events_.add("refused", text);
  refresh_status();
}

void NodeImpl::on_down(NodeId peer) {
  const auto it = peers_.find(peer);
  if (it == peers_.end()) return;
  const Member member = it->second.member;
  peers_.erase(it);
  if (stopped()) return;
  events_.add("peer", node_name(peer) + " disconnected");
  bootstrap_->peer_down(peer);
  run_bootstrap();
  if (driver_->has_core()) {
    remember_held(member);
    driver_->core().peer_down(member);
    driver_->pump();
  }
  role_changed();
}

void NodeImpl::on_frame(NodeId from, Channel, base::ByteView bytes) {
  const auto it = peers_.find(from);
  if (it == peers_.end() || stopped()) return;
  const Peer peer = it->second;
  const auto frame = parse_frame(bytes);
  if (!frame || frame->group != base::Group::kData) {
    events_.add("refused", node_name(from) + ": malformed frame");
    transport_->disconnect(from);
    return;
  }
  if (frame->kind == FrameKind::kBootstrap) {
    const auto message = decode_bootstrap(frame->body);
    if (!message) {
      transport_->disconnect(from);
      return;
    }
    bootstrap_->step(peer.member, *message);
    run_bootstrap();
    return;
  }
  // Everything else is of one cluster.
  const Ballot mine = bootstrap_->belongs() ? bootstrap_->cluster() : bootstrap_->joining();
  if (!mine || frame->cluster != cluster_id(mine) || !driver_->has_core()) return;
  switch (frame->kind) {
    case FrameKind::kRaft:
      on_raft(peer, *frame);
      return;
    case FrameKind::kForward:
      on_forward(peer, *frame);
      return;
    case FrameKind::kForwardReply:
      if (const auto reply = decode_forward_reply(frame->body)) {
        forwards_->on_reply(*reply);
      } else {
        transport_->disconnect(from);
      }
      return;
    case FrameKind::kControl:
      on_control(peer, *frame);
      return;
    case FrameKind::kControlReply:
      on_control_reply(peer, *frame);
      return;
    case FrameKind::kSuperseded:
      on_superseded(peer, *frame);
      return;
    case FrameKind::kBootstrap:
      return;
  }
}

void NodeImpl::send_raft(const raft::Message& message) {
  const auto it = peers_.find(message.to.id);
  if (it == peers_.end() || it->second.member != message.to) return;
  const Channel channel = raft::is_control(message) ? Channel::kControl : Channel::kData;
  send_frame(message.to.id, channel, FrameKind::kRaft, raft::encode(message));
}

bool NodeImpl::send_frame(NodeId to, Channel channel, FrameKind kind, base::ByteView body) {
  if (transport_ == nullptr || peers_.count(to) == 0) return false;
  const Ballot mine = bootstrap_->belongs() ? bootstrap_->cluster() : bootstrap_->joining();
  return transport_->send(to, channel, make_frame(base::Group::kData, kind, cluster_id(mine), body));
}

void NodeImpl::on_raft(const Peer& peer, const Frame& frame) {
  auto message = raft::decode_message(frame.body);
  if (!message || message->from != peer.member) {
    transport_->disconnect(peer.member.id);
    return;
  }
  if (message->to != self_) return;
  // A node that holds no entry of the cluster has no voice in it.
  if (!bootstrap_->belongs() && std::holds_alternative<raft::VoteRequest>(message->body)) return;
  if (raft::says_durable_term(*message)) lives_.has_term(message->from, message->term);
  driver_->core().step(std::move(*message));
  driver_->pump();
  check_joined();
}

// --- first start -----------------------------------------------------------------------------------------------------------

void NodeImpl::run_bootstrap() {
  if (running_bootstrap_ || stopped()) return;
  running_bootstrap_ = true;
  for (bool more = true; more && !stopped();) {
    Bootstrap::Actions actions = bootstrap_->take_actions();
    more = actions.leave || actions.persist_promise || actions.persist_first || actions.join || !actions.sends.empty();
    for (const std::string& note : actions.notes) events_.add("bootstrap", note);
    if (actions.leave && driver_->has_core() && !bootstrap_->belongs()) {
      // It never voted (a node without an entry does not), but it has seen terms.
      data_dir_.opened.groups[0].hard_state = raft::encode(raft::HardState{driver_->core().term(), {}, {}});
      driver_->release();
    }
    for (const Bootstrap::Send& send : actions.sends)
      send_frame(send.to, Channel::kControl, FrameKind::kBootstrap, encode(send.message));
    if (actions.persist_promise) {
      meta_.promise = *actions.persist_promise;
      meta_.cluster = {};
      write_meta([this, ballot = *actions.persist_promise] {
        bootstrap_->promise_durable(ballot);
        run_bootstrap();
      });
    }
    if (actions.persist_first) take_first(*actions.persist_first);
    if (actions.join) {
      meta_.cluster = *actions.join;
      write_meta([this, cluster = *actions.join] {
        if (bootstrap_->joining() == cluster && !driver_->has_core()) join();
      });
    }
  }
  running_bootstrap_ = false;
}

// The first entry is on the disk before the node says that it belongs.
void NodeImpl::take_first(const Bootstrap::Actions::First& first) {
  meta_.cluster = first.cluster;
  const base::Entry entry{
      {base::Term{1}, Index{1}}, base::EntryKind::kConfig, base::share(raft::encode(first.configuration))};
  raft::HardState hard;
  if (const base::Bytes& known = data_dir_.opened.groups[0].hard_state; !known.empty())
    if (const auto decoded = raft::decode_hard_state(known)) hard = *decoded;
  if (hard.term < base::Term{1}) hard.term = base::Term{1};
  hard.commit = {};
  write_meta([this, entry, hard] { write_first(entry, hard); });
}

void NodeImpl::write_first(const base::Entry& entry, const raft::HardState& hard) {
  driver_->with_log(
      [entry, hard](wal::Log& log) {
        wal::Append append;
        append.hard_state = raft::encode(hard);
        append.entries.push_back(entry);
        return log.append_batch({std::move(append)});
      },
      [this, entry, hard](const Status& status) {
        if (stopped()) return;
        if (!status && status.error().code == Code::kFull) {
          // Nothing was remembered, and nobody was told.
          parts_.loop->post_at(now() + kFullRetry, [this, entry, hard] {
            if (!stopped()) write_first(entry, hard);
          });
          return;
        }
        if (!status) {
          fail_node(status.error());
          return;
        }
        raft::Restored restored;
        restored.hard = hard;
        restored.entries.push_back(entry);
        restored.sizes.push_back(entry.payload->size());
        limit_votes(data_dir_.opened, restored);
        configurations_.clear();
        if (auto configuration = raft::decode_configuration(*entry.payload))
          configurations_.emplace_back(Index{1}, std::move(*configuration));
        const bool alone = configurations_.back().second.voters.size() == 1;
        make_core(std::move(restored));
        bootstrap_->first_durable();
        if (alone) driver_->core().campaign();
        run_bootstrap();
        driver_->pump();
        role_changed();
      });
}

// An empty log that follows the cluster: its leader makes this node a learner, then a voter.
void NodeImpl::join() {
  raft::Restored restored;
  if (const base::Bytes& known = data_dir_.opened.groups[0].hard_state; !known.empty())
    if (const auto decoded = raft::decode_hard_state(known)) restored.hard = *decoded;
  restored.hard.commit = {};
  limit_votes(data_dir_.opened, restored);
  make_core(std::move(restored));
  events_.add("bootstrap", "joining cluster " + base::hex16(cluster_id(bootstrap_->joining())));
  driver_->pump();
  role_changed();
}

void NodeImpl::check_joined() {
  if (bootstrap_->belongs() || !bootstrap_->joining() || !driver_->has_core()) return;
  if (driver_->core().status().last.index == Index{}) return;
  bootstrap_->entry_held();
  run_bootstrap();
}

// --- members ---------------------------------------------------------------------------------------------------------------

void NodeImpl::check_members() {
  if (!driver_->has_core() || now() - last_member_check_ < kMemberCheck) return;
  last_member_check_ = now();
  tell_superseded();
  if (!driver_->core().is_leader()) return;
  const raft::Status status = driver_->core().status();
  std::vector<raft::MemberInfo> connected;
  for (const NodeAddress& address : config_.nodes) {
    const auto it = peers_.find(address.id);
    if (it == peers_.end()) continue;
    const Member member = it->second.member;
    if (!status.configuration.contains(member) && was_voter(member)) continue;  // it was replaced
    connected.push_back({member, address.raft_addr, address.api_addr});
  }
  const auto change = plan_change(status, connected);
  if (!change) return;
  if (driver_->core().change_configuration(change->voters, change->learners)) events_.add("member", change->what);
  driver_->pump();
}

// The log is kept whole, so all committed configurations are known.
bool NodeImpl::was_voter(Member member) const {
  return std::any_of(configurations_.begin(), configurations_.end(),
                     [member](const auto& at) { return at.second.is_voter(member); });
}

// Whoever was replaced learns it from a committed, simple configuration (R10).
void NodeImpl::tell_superseded() {
  if (configurations_.empty() || !bootstrap_->belongs()) return;
  const auto& [index, configuration] = configurations_.back();
  for (const auto& [id, peer] : peers_) {
    if (!was_voter(peer.member) || !superseded_by(configuration, peer.member)) continue;
    base::Writer body;
    body.u64(index.value);
    body.blob(raft::encode(configuration));
    send_frame(id, Channel::kControl, FrameKind::kSuperseded, body.view());
  }
}

void NodeImpl::on_superseded(const Peer& peer, const Frame& frame) {
  base::Reader in(frame.body);
  const Index index{in.u64()};
  const auto configuration = raft::decode_configuration(in.blob());
  if (!in.at_end() || !configuration) return transport_->disconnect(peer.member.id);
  // A node on its way in is in no configuration yet, and a newer committed configuration of its own says more.
  if (!driver_->core().status().configuration.contains(self_) && !was_voter(self_)) return;
  if (!configurations_.empty() && index < configurations_.back().first) return;
  if (!configuration->contains(peer.member) || !superseded_by(*configuration, self_)) return;
  halt_superseded();
}

// The own log may say it as well: whoever leaves is served until it knows.
bool NodeImpl::halt_if_superseded() {
  if (stopped() || configurations_.empty() || !was_voter(self_)) return false;
  if (!superseded_by(configurations_.back().second, self_)) return false;
  halt_superseded();
  return true;
}

void NodeImpl::halt_superseded() {
  halt("stopped", base::make_error(Code::kSuperseded, "another incarnation of node " + std::to_string(self_.id.value) +
                                                          " has taken its place; start it with an empty data_dir"));
}

// The leader has committed something else where this node has committed an entry: those that had acknowledged it have forgotten it in a power
// cut (log_sync = "interval_<ms>"). What the cluster holds now is the truth; this node's files are kept, and it begins again without them.
void NodeImpl::check_contradicted() {
  if (!contradicted_ || told_contradicted_ || stopped()) return;
  told_contradicted_ = true;
  const std::string at = std::to_string(contradicted_.value);
  if (config_.sync_interval() == 0) {
    last_error_ =
        "the log of this node contradicts the cluster's: entry " + at +
        " is committed in both and not the same; one of them was restored from a copy, or lost acknowledged entries";
    events_.add("error", last_error_);
    base::log_error("node: " + last_error_);
    return;
  }
  const std::string reason = "the cluster has lost entry " + at +
                             ", which was committed here, in a power cut (log_sync=" + config_.log_sync +
                             "), and went on without it";
  driver_->with_log([this, reason](wal::Log&) { return end_life(*parts_.env, config_.data_dir, reason); },
                    [this, reason](const Status& written) {
                      if (!written) {
                        fail_node(written.error());
                        return;
                      }
                      halt("poisoned", base::make_error(Code::kDiverged,
                                                        reason + "; restart this node: it keeps its files under "
                                                                 "other names and takes everything from the others"));
                    });
}

// --- forwarded requests ------------------------------------------------------------------------------------------------------

std::optional<Forwards::Target> NodeImpl::forward_target() {
  if (!driver_->has_core() || stopped()) return std::nullopt;
  const Member leader = driver_->core().leader();
  if (!leader) return std::nullopt;
  const base::Term term = driver_->core().term();
  if (leader == self_) return active_term_ ? std::optional(Forwards::Target{term, self_.id}) : std::nullopt;
  // What is not sent is surely not applied. Before the cluster is formed that leader takes nothing (DESIGN 6.2): better to wait here, and to
  // say who is missing.
  if (!ledger_.formed()) return std::nullopt;
  const auto it = peers_.find(leader.id);
  if (it == peers_.end() || it->second.member != leader) return std::nullopt;
  return Forwards::Target{term, leader.id};
}

bool NodeImpl::send_forward(NodeId leader, Forward forward) {
  if (leader != self_.id) return send_frame(leader, Channel::kData, FrameKind::kForward, encode(forward));
  // Not inside the call: the answer must not come before the caller has noted that it was sent.
  post([this, forward = std::move(forward)]() mutable {
    if (!stopped()) take_forward(std::move(forward), [this](const ForwardReply& reply) { forwards_->on_reply(reply); });
  });
  return true;
}

void NodeImpl::on_forward(const Peer& peer, const Frame& frame) {
  auto forward = decode_forward(frame.body);
  if (!forward || forward->origin.incarnation != peer.member.incarnation) {
    transport_->disconnect(peer.member.id);
    return;
  }
  const Member to = peer.member;
  driver_->core().hurry(to);  // its caller waits for the entry
  take_forward(std::move(*forward), [this, to](const ForwardReply& reply) {
    const auto it = peers_.find(to.id);
    if (it == peers_.end() || it->second.member != to) return;  // it asks again when it is back
    driver_->announce_commit(to);                               // its caller waits until this is applied there
    send_frame(to.id, Channel::kData, FrameKind::kForwardReply, encode(reply));
  });
}

void NodeImpl::take_forward(Forward forward, Execution::Reply reply) {
  raft::Core& core = driver_->core();
  const bool early = core.is_leader() && core.term() == forward.term && !active_term_ && !stopping_;
  if (early && early_forwards_.size() < kEarlyForwardsMax) {
    early_forwards_.emplace_back(std::move(forward), std::move(reply));
    return;
  }
  execution_->take(std::move(forward), std::move(reply));
}

void NodeImpl::drain_early_forwards() {
  auto waiting = std::exchange(early_forwards_, {});
  for (auto& [forward, reply] : waiting) execution_->take(std::move(forward), std::move(reply));
}

bool NodeImpl::ask_leader(ControlKind kind, std::uint64_t token, base::Bytes body) {
  if (!driver_->has_core()) return false;
  const Member leader = driver_->core().leader();
  const auto it = peers_.find(leader.id);
  if (!leader || it == peers_.end() || it->second.member != leader) return false;
  return send_frame(leader.id, Channel::kData, FrameKind::kControl, encode(Control{kind, token, std::move(body)}));
}

void NodeImpl::on_control(const Peer& peer, const Frame& frame) {
  const auto control = decode_control(frame.body);
  const Member from = peer.member;
  const auto malformed = [&] { transport_->disconnect(from.id); };
  if (!control) return malformed();
  if (!driver_->core().is_leader()) return;  // it asks again
  driver_->core().hurry(from);               // its caller waits for the entry
  Status status;
  switch (control->kind) {
    case ControlKind::kCreate: {
      const auto create = pages::decode_create(control->body);
      if (!create) return malformed();
      if (!active_term_ || ledger_.find(create->name) != nullptr) return;
      status = propose_create(*create, base::share(control->body));
      break;
    }
    case ControlKind::kDrop: {
      base::Reader in(control->body);
      const DatabaseId db{in.u64()};
      if (!in.at_end()) return malformed();
      if (!active_term_) return;
      status = propose_drop(db);
      break;
    }
    case ControlKind::kTransfer: {
      base::Reader in(control->body);
      const NodeId to{in.u64()};
      if (!in.at_end()) return malformed();
      status = transfer_here(to);
      break;
    }
  }
  if (status || control->token == 0) return;
  send_frame(from.id, Channel::kData, FrameKind::kControlReply, encode(ControlReply{control->token, status.error()}));
}

void NodeImpl::on_control_reply(const Peer& peer, const Frame& frame) {
  const auto reply = decode_control_reply(frame.body);
  if (!reply) {
    transport_->disconnect(peer.member.id);
    return;
  }
  ask_refused(reply->token, reply->error);
}

}  // namespace node

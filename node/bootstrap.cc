// The first start (DESIGN 6.2).
#include "node/bootstrap.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace node {
namespace {

using base::Code;
using base::Member;
using base::NodeId;

std::string text(const Ballot& ballot) {
  if (!ballot) return "none";
  return std::to_string(ballot.number) + "/" + base::hex16(ballot.holder.value).substr(12);
}

}  // namespace

base::Bytes encode(const BootstrapMessage& message) {
  base::Writer out;
  out.u8(static_cast<std::uint8_t>(message.kind));
  write_ballot(out, message.ballot);
  write_ballot(out, message.promise);
  write_ballot(out, message.cluster);
  out.u8(message.committed ? 1 : 0);
  out.blob(message.configuration ? base::ByteView(raft::encode(*message.configuration)) : base::ByteView());
  return out.take();
}

base::Result<BootstrapMessage> decode_bootstrap(base::ByteView body) {
  base::Reader in(body);
  BootstrapMessage message;
  const std::uint8_t kind = in.u8();
  message.ballot = read_ballot(in);
  message.promise = read_ballot(in);
  message.cluster = read_ballot(in);
  const std::uint8_t committed = in.u8();
  message.committed = committed == 1;
  const base::ByteView configuration = in.blob();
  if (!in.at_end() || kind < 1 || kind > static_cast<std::uint8_t>(BootstrapKind::kOver) || committed > 1)
    return base::make_error(Code::kProtocol, "malformed bootstrap frame");
  message.kind = static_cast<BootstrapKind>(kind);
  if (!configuration.empty()) {
    HQL_ASSIGN(decoded, raft::decode_configuration(configuration));
    message.configuration = std::move(decoded);
  }
  if (message.kind == BootstrapKind::kFirst && !message.configuration)
    return base::make_error(Code::kProtocol, "bootstrap frame without its configuration");
  return message;
}

std::string to_string(const BootstrapMessage& message) {
  switch (message.kind) {
    case BootstrapKind::kState:
      return "state cluster=" + text(message.cluster) + " promise=" + text(message.promise) +
             (message.committed ? " committed" : "");
    case BootstrapKind::kPrepare:
      return "prepare " + text(message.ballot);
    case BootstrapKind::kPromise:
      return "promise " + text(message.ballot);
    case BootstrapKind::kRefuse:
      return "refuse promise=" + text(message.promise);
    case BootstrapKind::kFirst:
      return "first " + text(message.cluster) + (message.committed ? " committed" : "");
    case BootstrapKind::kInvite:
      return "invite " + text(message.cluster) + (message.committed ? " committed" : "");
    case BootstrapKind::kOver:
      return "over found=" + text(message.cluster);
  }
  return "?";
}

Bootstrap::Bootstrap(Options options)
    : options_(std::move(options)), promise_(options_.promise), cluster_(options_.cluster), first_(options_.first) {
  highest_number_ = promise_.number;
}

Bootstrap::Actions Bootstrap::take_actions() { return std::exchange(actions_, {}); }

void Bootstrap::send(NodeId to, BootstrapMessage message) { actions_.sends.push_back({to, std::move(message)}); }

void Bootstrap::send_state(NodeId to) {
  BootstrapMessage message;
  message.kind = BootstrapKind::kState;
  message.cluster = cluster_;
  message.promise = promise_;
  message.committed = committed_;
  send(to, std::move(message));
}

bool Bootstrap::lowest() const {
  for (const raft::MemberInfo& node : options_.nodes)
    if (node.member.id < options_.self.id) return false;
  return true;
}

std::vector<NodeId> Bootstrap::missing() const {
  std::vector<NodeId> out;
  for (const raft::MemberInfo& node : options_.nodes)
    if (node.member.id != options_.self.id && peers_.count(node.member.id) == 0) out.push_back(node.member.id);
  return out;
}

// What a promise forbids, and what lifts the ban: the cluster's ballot is not lower, or the cluster was admitted by name, or it has
// committed an entry, or the promise is our own and its round is over.
bool Bootstrap::may_follow(const Ballot& cluster, bool committed) const {
  if (promising_) return false;
  if (promise_ <= cluster || admitted_ == cluster || committed) return true;
  return promise_.holder == options_.self.incarnation && !round_;
}

void Bootstrap::peer_up(Member peer, const Ballot& cluster, const Ballot& promise) {
  highest_number_ = std::max({highest_number_, promise.number, cluster.number});
  peers_[peer.id] = {peer, cluster, promise, false};
  if (round_) {
    const auto asked = round_->asked.find(peer.id);
    if (asked != round_->asked.end() && asked->second != peer)
      give_up("node " + std::to_string(peer.id.value) + " came back as another");
  }
  send_state(peer.id);
  if (cluster) found(cluster);
  if (belongs() && !cluster) help(peers_[peer.id]);
}

void Bootstrap::peer_down(NodeId peer) {
  peers_.erase(peer);
  if (round_ && round_->asked.count(peer) != 0) give_up("node " + std::to_string(peer.value) + " went away");
}

// A cluster exists: an own round is over before anything else follows from it.
void Bootstrap::found(const Ballot& cluster) {
  highest_number_ = std::max(highest_number_, cluster.number);
  if (belongs() || taking_) return;
  if (round_ && !round_->lifts) give_up("cluster " + text(cluster) + " exists");
  if (found_ == cluster) return;
  found_ = cluster;
  for (const auto& [id, peer] : peers_) send_over(peer);
}

void Bootstrap::send_over(const Peer& peer) {
  const Ballot known = belongs() ? cluster_ : found_;
  // With a promise of an own round that made its cluster there is nothing to lift.
  if (!known || round_ || taking_ || peer.cluster || known.holder == options_.self.incarnation) return;
  if (peer.promise.holder != options_.self.incarnation) return;
  BootstrapMessage message;
  message.kind = BootstrapKind::kOver;
  message.cluster = known;
  send(peer.member.id, std::move(message));
}

void Bootstrap::help(const Peer& peer) {
  BootstrapMessage message;
  message.cluster = cluster_;
  message.committed = committed_;
  const bool named = first_ && first_->is_voter(peer.member);
  message.kind = named ? BootstrapKind::kFirst : BootstrapKind::kInvite;
  if (named) message.configuration = first_;
  send(peer.member.id, std::move(message));
}

void Bootstrap::give_up(const std::string& why) {
  actions_.notes.push_back("bootstrap round " + text(round_->ballot) + " given up: " + why);
  round_.reset();
}

void Bootstrap::tick() {
  if (belongs()) {
    for (const auto& [id, peer] : peers_) {
      if (peer.cluster) continue;
      send_over(peer);
      help(peer);
    }
    return;
  }
  if (taking_ || promising_) return;
  for (const auto& [id, peer] : peers_) send_over(peer);
  const auto follows = [this](const auto& asked) { return static_cast<bool>(peers_.at(asked.first).cluster); };
  if (round_ && round_->lifts && std::any_of(round_->asked.begin(), round_->asked.end(), follows))
    give_up("one of those who were asked follows a cluster already");
  if (round_) {
    BootstrapMessage message;
    message.kind = BootstrapKind::kPrepare;
    message.ballot = round_->ballot;
    for (const auto& [id, member] : round_->asked)
      if (round_->promised.count(id) == 0) send(id, message);
    return;
  }
  start_lifting();
  if (!round_) start_round();
}

void Bootstrap::force() {
  forced_ = true;
  if (!round_ && !belongs() && !taking_ && !promising_) start_round();
}

void Bootstrap::start_round() {
  if (!forced_ && (!lowest() || !missing().empty())) return;
  for (const auto& [id, peer] : peers_)
    if (peer.cluster) return;  // it will invite us, or hand us the first entry
  Round round;
  for (const auto& [id, peer] : peers_) round.asked[id] = peer.member;
  found_ = {};
  begin(std::move(round));
}

// Nobody but the lowest id makes rounds, so the holder of a promise that is not ours and not connected was an earlier incarnation of this
// node. Did its round form a cluster? Not while somebody holds `found_`: it needed the promises of all, empty as they were, and who gave one
// follows no lower ballot (DESIGN 6.2). All have to be here, so that nobody has another cluster (one that was forced) out of sight.
void Bootstrap::start_lifting() {
  if (!lowest() || !missing().empty()) return;
  bool exists = false;
  Round round;
  round.lifts = true;
  for (const auto& [id, peer] : peers_) {
    if (peer.cluster) {
      if (peer.cluster != found_) return;
      exists = true;
      continue;
    }
    const Ballot& promise = peer.promise;
    const auto holds = [&promise](const auto& each) { return each.second.member.incarnation == promise.holder; };
    const bool gone = promise.holder != options_.self.incarnation && std::none_of(peers_.begin(), peers_.end(), holds);
    if (gone && promise > found_) round.asked[id] = peer.member;
  }
  if (exists && !round.asked.empty()) begin(std::move(round));
}

void Bootstrap::begin(Round round) {
  // What was being joined has a lower ballot than this one, and no entry of it is held. Is everybody empty, that cluster is gone; else its
  // members invite again.
  if (std::exchange(joining_, {})) actions_.leave = true;
  round.ballot = {std::max(highest_number_, promise_.number) + 1, options_.self.incarnation};
  highest_number_ = round.ballot.number;
  round_ = std::move(round);
  promising_ = round_->ballot;
  promise_for_.reset();
  actions_.persist_promise = promising_;
}

void Bootstrap::promise_durable(const Ballot& ballot) {
  if (promising_ != ballot) return;
  promise_ = ballot;
  promising_.reset();
  admitted_ = {};
  if (round_ && round_->ballot == ballot) {
    round_->durable = true;
    if (round_->asked.empty()) {
      finish_round();
    } else {
      tick();
    }
    return;
  }
  const auto asker = std::exchange(promise_for_, std::nullopt);
  if (!asker || peers_.count(*asker) == 0) return;
  BootstrapMessage message;
  message.kind = BootstrapKind::kPromise;
  message.ballot = ballot;
  send(*asker, std::move(message));
}

void Bootstrap::step(Member from, const BootstrapMessage& message) {
  const auto it = peers_.find(from.id);
  if (it == peers_.end() || it->second.member != from) return;
  Peer& peer = it->second;
  highest_number_ = std::max({highest_number_, message.ballot.number, message.promise.number, message.cluster.number});
  switch (message.kind) {
    case BootstrapKind::kState:
      peer.cluster = message.cluster;
      peer.promise = message.promise;
      peer.committed = message.committed;
      if (peer.cluster) found(peer.cluster);
      if (belongs() && !peer.cluster) help(peer);
      return;
    case BootstrapKind::kPrepare:
      on_prepare(peer, message);
      return;
    case BootstrapKind::kPromise:
      peer.promise = message.ballot;
      on_promise(peer, message);
      return;
    case BootstrapKind::kRefuse:
      peer.promise = message.promise;
      if (round_ && message.promise >= round_->ballot)
        give_up("node " + std::to_string(from.id.value) + " promised a higher one");
      return;
    case BootstrapKind::kFirst:
      peer.cluster = message.cluster;
      on_first(message);
      return;
    case BootstrapKind::kInvite:
      peer.cluster = message.cluster;
      on_invite(message);
      return;
    case BootstrapKind::kOver:
      // Only the holder of our promise can lift it.
      if (!belongs() && !promising_ && promise_ && promise_.holder == from.incarnation) admitted_ = message.cluster;
      return;
  }
}

void Bootstrap::on_prepare(const Peer& from, const BootstrapMessage& message) {
  const NodeId to = from.member.id;
  if (belongs() || taking_) {
    send_state(to);
    return;
  }
  if (message.ballot.holder != from.member.incarnation || promising_) return;
  if (message.ballot == promise_) {
    BootstrapMessage reply;
    reply.kind = BootstrapKind::kPromise;
    reply.ballot = promise_;
    send(to, std::move(reply));
    return;
  }
  if (message.ballot < promise_) {
    BootstrapMessage reply;
    reply.kind = BootstrapKind::kRefuse;
    reply.promise = promise_;
    send(to, std::move(reply));
    return;
  }
  if (round_) give_up("node " + std::to_string(to.value) + " asks with a higher ballot");
  // Whatever was being joined has a lower ballot, and no entry of it is held.
  if (std::exchange(joining_, {})) actions_.leave = true;
  promising_ = message.ballot;
  promise_for_ = to;
  actions_.persist_promise = promising_;
}

void Bootstrap::on_promise(const Peer& from, const BootstrapMessage& message) {
  if (!round_ || taking_ || !round_->durable || message.ballot != round_->ballot) return;
  const auto asked = round_->asked.find(from.member.id);
  if (asked == round_->asked.end() || asked->second != from.member) return;
  round_->promised.insert(from.member.id);
  if (round_->promised.size() == round_->asked.size()) finish_round();
}

void Bootstrap::finish_round() {
  if (round_->lifts) {
    actions_.notes.push_back("took over the promises of an earlier life, for cluster " + text(found_));
    round_.reset();
    for (const auto& [id, peer] : peers_) send_over(peer);
    return;
  }
  raft::Configuration configuration;
  for (raft::MemberInfo node : options_.nodes) {
    if (node.member.id == options_.self.id) {
      node.member = options_.self;
    } else {
      const auto asked = round_->asked.find(node.member.id);
      if (asked == round_->asked.end()) continue;  // forced: the missing ones join later
      node.member = asked->second;
    }
    configuration.voters.push_back(std::move(node));
  }
  std::sort(configuration.voters.begin(), configuration.voters.end());
  taking_ = Actions::First{round_->ballot, std::move(configuration)};
  actions_.persist_first = taking_;
}

void Bootstrap::first_durable() {
  CHECK(taking_.has_value());
  cluster_ = taking_->cluster;
  first_ = std::move(taking_->configuration);
  taking_.reset();
  round_.reset();
  joining_ = {};
  actions_.notes.push_back("belongs to cluster " + base::hex16(cluster_id(cluster_)));
  for (const auto& [id, peer] : peers_) {
    send_state(id);
    if (!peer.cluster) help(peer);
  }
}

void Bootstrap::entry_held() {
  if (belongs() || !joining_) return;
  cluster_ = std::exchange(joining_, {});
  actions_.notes.push_back("joined cluster " + base::hex16(cluster_id(cluster_)));
  for (const auto& [id, peer] : peers_) send_state(id);
}

void Bootstrap::set_committed() {
  if (std::exchange(committed_, true)) return;
  for (const auto& [id, peer] : peers_) send_state(id);
}

void Bootstrap::on_first(const BootstrapMessage& message) {
  if (belongs() || taking_) return;
  found(message.cluster);
  if (!message.configuration->is_voter(options_.self) || !may_follow(message.cluster, message.committed)) return;
  if (joining_ && joining_ != message.cluster) return;
  if (joining_) actions_.leave = true;
  joining_ = {};
  taking_ = Actions::First{message.cluster, *message.configuration};
  actions_.persist_first = taking_;
}

void Bootstrap::on_invite(const BootstrapMessage& message) {
  if (belongs() || taking_) return;
  found(message.cluster);
  if (joining_ == message.cluster || !may_follow(message.cluster, message.committed)) return;
  if (joining_ && joining_ > message.cluster && !message.committed) return;
  if (joining_) actions_.leave = true;
  joining_ = message.cluster;
  actions_.join = joining_;
}

}  // namespace node

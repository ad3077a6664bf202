// Checks of the simulator (invariants.h).
#include "tests/sim/invariants.h"

#include "base/checksum.h"
#include "node/hello.h"

namespace sim {
namespace {

using base::Index;
using base::LogId;
using base::Member;
using base::Term;

// Nobody of the simulator writes so much: a bound that is kept by luck is none, but what grows without one gets there.
constexpr std::size_t kUncommittedBytesMax = std::size_t{256} << 20;
constexpr std::size_t kCachedBytesMax = std::size_t{64} << 20;

std::string text(LogId id) { return std::to_string(id.index.value) + "@" + std::to_string(id.term.value); }
std::string text(Member member) {
  return std::to_string(member.id.value) + "/" + base::hex16(member.incarnation.value).substr(12);
}
std::string text(const raft::Message& message) {
  return "node " + text(message.from) + " to " + text(message.to) + " in term " + std::to_string(message.term.value);
}

}  // namespace

void Invariants::stored(base::NodeId node, const LogImage::Entry& entry) {
  if (history_holds_) same_content(node, entry.id, {entry.previous, entry.hash});
}

// Log matching (paper 5.3): entries of one index and term are equal, and so is everything before them.
void Invariants::same_content(base::NodeId node, LogId id, Content content) {
  // The first entry is not proposed by a leader: each ballot of a first start has its own (DESIGN 6.2).
  if (id.index == Index{1}) return;
  const auto known = contents_.emplace(id, content).first;
  if (known->second.previous != content.previous || known->second.hash != content.hash)
    breach("log matching: node " + std::to_string(node.value) + " has another entry " + text(id) + " after term " +
           std::to_string(content.previous.value) + " than the one known, after term " +
           std::to_string(known->second.previous.value));
}

void Invariants::published(base::NodeId node, base::DatabaseId db, LogId id, std::uint64_t digest) {
  ++publications_;
  const auto log = logs_.find(node);
  // R8. Before the node has opened everything its log is not asked: what the databases held at the start is recovery's to judge.
  if (log != logs_.end() && log->second->ready()) {
    const auto term = log->second->counted().term_at(id.index);
    if (term != id.term && id.index > log->second->counted().floor().index)
      breach("applied before durable: node " + std::to_string(node.value) + " shows " + text(id) + ", its log holds " +
             text(log->second->counted().last()));
  }
  if (!history_holds_) return;
  const auto term = terms_.emplace(id.index, id.term).first;
  if (term->second != id.term)
    breach("log matching: node " + std::to_string(node.value) + " shows " + text(id) + ", another node term " +
           std::to_string(term->second.value));
  const auto known = digests_.emplace(std::pair{db, id.index}, digest).first;
  if (known->second != digest)
    breach("digest: node " + std::to_string(node.value) + " has " + base::hex16(digest) + " at " + text(id) +
           ", another node " + base::hex16(known->second));
}

void Invariants::sent(base::NodeId node, base::ByteView frame) {
  const auto parsed = node::parse_frame(frame);
  if (!parsed || parsed->kind != node::FrameKind::kRaft) return;
  const auto message = raft::decode_message(parsed->body);
  if (!message) {
    breach("node " + std::to_string(node.value) + " sends a message that cannot be decoded");
    return;
  }
  std::visit([&](const auto& body) { check(*message, body); }, message->body);
}

const LogWatch* Invariants::log_of(const raft::Message& message) {
  const auto found = logs_.find(message.from.id);
  if (found == logs_.end() || !found->second->ready()) return nullptr;
  ++promise_count_;
  if (!found->second->strict_is_synced())
    breach("not synced: " + text(message) +
           ": its log holds a hard state, a truncation or a configuration that no sync covers");
  return found->second->durable().hard().term > message.term ? nullptr : found->second;
}

void Invariants::check_vote(const raft::Message& message, Member candidate) {
  const LogWatch* log = log_of(message);
  if (log == nullptr) return;
  const raft::HardState& hard = log->durable().hard();
  if (hard.term != message.term || hard.voted_for != candidate)
    breach("vote before its sync: " + text(message) + " for " + text(candidate) + ", on its disk is term " +
           std::to_string(hard.term.value) + " with a vote for " + text(hard.voted_for));
}

void Invariants::check(const raft::Message& message, const raft::VoteRequest& request) {
  if (!request.pre) check_vote(message, message.from);  // it counts its own vote
}

// One vote per term and incarnation.
void Invariants::check(const raft::Message& message, const raft::VoteReply& reply) {
  if (reply.pre || !reply.granted) return;
  ++vote_count_;
  check_vote(message, message.to);
  const auto known = votes_.emplace(std::pair{message.term, message.from}, message.to).first;
  if (known->second != message.to)
    breach("two votes: " + text(message.from) + " in term " + std::to_string(message.term.value) + " for " +
           text(known->second) + " and " + text(message.to));
}

void Invariants::leads(const raft::Message& message) {
  const auto known = leaders_.emplace(message.term, message.from).first;
  if (known->second != message.from)
    breach("two leaders of term " + std::to_string(message.term.value) + ": " + text(known->second) + " and " +
           text(message.from));
}

// A leader has `id`: it never has another there in its term, and it has what was committed before it (leader completeness, paper 5.4).
void Invariants::holds(const raft::Message& message, LogId id) {
  if (!id.index || !history_holds_) return;
  const auto known = leader_logs_.emplace(std::pair{message.term, id.index}, id.term).first;
  if (known->second != id.term)
    breach("leader append only: " + text(message) + " has " + text(id) + " where it had term " +
           std::to_string(known->second.value));
  const auto committed = committed_.find(id.index);
  if (committed != committed_.end() && committed->second.in <= message.term && committed->second.term != id.term)
    breach("leader completeness: " + text(message) + " leads with " + text(id) + ", but term " +
           std::to_string(committed->second.term.value) + " is committed there since term " +
           std::to_string(committed->second.in.value));
}

void Invariants::check(const raft::Message& message, const raft::AppendRequest& request) {
  leads(message);
  holds(message, request.previous);
  LogId before = request.previous;
  for (const base::Entry& entry : request.entries) {
    holds(message, entry.id);
    if (history_holds_)
      same_content(message.from.id, entry.id,
                   {before.term, base::xxh3(base::view_of(entry.payload), static_cast<std::uint64_t>(entry.kind))});
    before = entry.id;
  }
  note_commit(message, request.commit);
}

void Invariants::check(const raft::Message& message, const raft::Heartbeat& beat) {
  leads(message);
  note_commit(message, beat.commit);
}

void Invariants::check(const raft::Message& message, const raft::TimeoutNow&) { leads(message); }

void Invariants::check_held(const raft::Message& message, Index index, Claim claim) {
  const char* const what = claim == Claim::kMatch ? "match" : "durable";
  const LogWatch* log = log_of(message);
  if (log == nullptr) return;
  const LogId last = log->counted().last();
  if (index > last.index) {
    breach("acknowledged before its sync: " + text(message) + " says " + what + " " + std::to_string(index.value) +
           ", its log holds " + text(last));
    return;
  }
  if (claim == Claim::kLength) return;
  const auto sent = leader_logs_.find({message.term, index});
  const auto held = log->counted().term_at(index);
  if (history_holds_ && sent != leader_logs_.end() && held && *held != sent->second)
    breach("acknowledged another entry: " + text(message) + " says " + what + " " + std::to_string(index.value) +
           ", its log holds term " + std::to_string(held->value) + " there, the leader's term " +
           std::to_string(sent->second.value));
}

void Invariants::check(const raft::Message& message, const raft::AppendReply& reply) {
  if (!reply.accepted) return;
  check_held(message, reply.match, Claim::kMatch);
  check_held(message, reply.durable, Claim::kLength);
  // A later life must not give its vote to somebody of an earlier term than this one's leader.
  const LogWatch* log = log_of(message);
  if (log != nullptr && log->durable().hard().term < message.term)
    breach("acknowledged before its sync: " + text(message) + ", on its disk is term " +
           std::to_string(log->durable().hard().term.value));
}

void Invariants::check(const raft::Message& message, const raft::HeartbeatReply& reply) {
  check_held(message, reply.match, Claim::kMatch);
}

// Everything up to `commit` is committed: its terms are known from what leaders have sent.
void Invariants::note_commit(const raft::Message& message, Index commit) {
  const Index known = committed();
  if (commit <= known || !history_holds_) return;
  LogId id{Term{}, commit};
  const auto sent = leader_logs_.find({message.term, commit});
  const auto log = logs_.find(message.from.id);
  if (sent != leader_logs_.end()) {
    id.term = sent->second;
  } else if (log != logs_.end() && log->second->ready()) {
    id.term = log->second->counted().term_at(commit).value_or(Term{});
  }
  while (id.term && id.index > known) {
    committed_[id.index] = {id.term, message.term};
    const auto content = contents_.find(id);
    id = {content == contents_.end() ? Term{} : content->second.previous, Index(id.index.value - 1)};
  }
  const auto below = committed_.find(known);
  if (id.term && known && below != committed_.end() && below->second.term != id.term)
    breach("two histories: " + text(message) + " has committed " + std::to_string(commit.value) + " after " + text(id) +
           ", where term " + std::to_string(below->second.term.value) + " is committed");
}

void Invariants::sampled(base::NodeId node, const raft::Status& raft, const node::NodeStatus& status) {
  if (raft.role == raft::Role::kLeader) {
    const Member self{node, status.incarnation};
    const auto known = leaders_.emplace(raft.term, self).first;
    if (known->second != self)
      breach("two leaders of term " + std::to_string(raft.term.value) + ": " + text(known->second) + " and " +
             text(self));
  }
  const std::string who = "node " + std::to_string(node.value);
  if (status.applied_index > status.commit_index)
    breach(who + " applied " + std::to_string(status.applied_index.value) + " over its commit index " +
           std::to_string(status.commit_index.value));
  const auto log = logs_.find(node);
  if (log != logs_.end() && log->second->ready() && status.applied_index > log->second->counted().last().index)
    breach("applied before durable: " + who + " applied " + std::to_string(status.applied_index.value) +
           ", its log holds " + text(log->second->counted().last()));
  if (raft.cached_bytes > kCachedBytesMax || raft.uncommitted_bytes > kUncommittedBytesMax)
    breach("memory: " + who + " caches " + std::to_string(raft.cached_bytes) + " bytes of entries, " +
           std::to_string(raft.uncommitted_bytes) + " are not committed");
}

}  // namespace sim

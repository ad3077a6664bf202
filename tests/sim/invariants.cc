// Checks of the simulator (invariants.h).
#include "tests/sim/invariants.h"

#include "node/hello.h"

namespace sim {
namespace {

std::string text(base::LogId id) { return std::to_string(id.index.value) + "@" + std::to_string(id.term.value); }
std::string text(base::Member member) {
  return std::to_string(member.id.value) + "/" + base::hex16(member.incarnation.value).substr(12);
}

}  // namespace

void Invariants::published(base::NodeId node, base::DatabaseId db, base::LogId id, std::uint64_t digest) {
  ++publications_;
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
  const auto* vote = std::get_if<raft::VoteReply>(&message->body);
  if (vote == nullptr || vote->pre || !vote->granted) return;
  ++vote_count_;
  const auto known = votes_.emplace(std::pair{message->term, message->from}, message->to).first;
  if (known->second != message->to)
    breach("two votes: " + text(message->from) + " in term " + std::to_string(message->term.value) + " for " +
           text(known->second) + " and " + text(message->to));
}

void Invariants::sampled(base::NodeId node, const raft::Status& raft, const node::NodeStatus& status) {
  if (raft.role == raft::Role::kLeader) {
    const base::Member self{node, status.incarnation};
    const auto known = leaders_.emplace(raft.term, self).first;
    if (known->second != self)
      breach("two leaders of term " + std::to_string(raft.term.value) + ": " + text(known->second) + " and " +
             text(self));
  }
  if (status.applied_index > status.commit_index)
    breach("node " + std::to_string(node.value) + " applied " + std::to_string(status.applied_index.value) +
           " over its commit index " + std::to_string(status.commit_index.value));
}

}  // namespace sim

// Invariants of TESTING.md section 2, fed by the simulator as things happen. The first breach is kept and ends the run.
//
// What a node claims in a frame is held against the bytes on its disk at that moment (log_watch.h), not against what it says of itself:
// votes, candidacies and acknowledgements before their sync (R9), and pages ahead of the own log (R8), show at the frame or the page
// itself, whether or not a crash follows.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "base/transport.h"
#include "node/node.h"
#include "raft/message.h"
#include "tests/sim/log_watch.h"

namespace sim {

class Invariants {
 public:
  // The log of a node, for as long as this object lives. Without it nothing durable is checked.
  void watch(base::NodeId node, const LogWatch& log) { logs_[node] = &log; }
  // An entry has reached the disk of `node`.
  void stored(base::NodeId node, const LogImage::Entry& entry);
  // A database shows transaction `id` with `digest` on some node: everywhere the same at the same index, and one term per index.
  void published(base::NodeId node, base::DatabaseId db, base::LogId id, std::uint64_t digest);
  // A frame leaves `node`.
  void sent(base::NodeId node, base::ByteView frame);
  // What a node says of itself, sampled.
  void sampled(base::NodeId node, const raft::Status& raft, const node::NodeStatus& status);
  // More than the promised faults happened: what was published may be lost, and another history may take its place.
  void allow_lost_history() { history_holds_ = false; }
  void breach(const std::string& what) {
    if (breach_.empty()) breach_ = what;
  }
  [[nodiscard]] const std::string& breach() const { return breach_; }
  [[nodiscard]] std::uint64_t votes() const { return vote_count_; }
  [[nodiscard]] std::uint64_t publications() const { return publications_; }
  // Frames that were held against the disk of their sender.
  [[nodiscard]] std::uint64_t promises() const { return promise_count_; }
  [[nodiscard]] base::Index committed() const {
    return committed_.empty() ? base::Index{} : committed_.rbegin()->first;
  }

 private:
  struct Content {
    base::Term previous;  // term of the entry before it
    std::uint64_t hash = 0;
  };
  struct Committed {
    base::Term term;
    base::Term in;  // the term whose leader first said so
  };
  void check(const raft::Message& message, const raft::VoteRequest& request);
  void check(const raft::Message& message, const raft::VoteReply& reply);
  void check(const raft::Message& message, const raft::AppendRequest& request);
  void check(const raft::Message& message, const raft::AppendReply& reply);
  void check(const raft::Message& message, const raft::Heartbeat& beat);
  void check(const raft::Message& message, const raft::HeartbeatReply& reply);
  void check(const raft::Message& message, const raft::TimeoutNow& order);
  template <class Other>
  void check(const raft::Message&, const Other&) {}

  // The log of who sends, when it is known and has not gone on to a later term, in which what it had may be truncated.
  const LogWatch* log_of(const raft::Message& message);
  // The sender's disk must say that it gave its vote of this term to `candidate`, or that the term is over.
  void check_vote(const raft::Message& message, base::Member candidate);
  // Its disk reaches as far; and up to a match it has what the leader has.
  enum class Claim : std::uint8_t { kLength, kMatch };
  void check_held(const raft::Message& message, base::Index index, Claim claim);
  void leads(const raft::Message& message);
  void holds(const raft::Message& message, base::LogId id);
  void same_content(base::NodeId node, base::LogId id, Content content);
  void note_commit(const raft::Message& message, base::Index commit);

  std::map<base::NodeId, const LogWatch*> logs_;
  std::map<base::Term, base::Member> leaders_;
  std::map<std::pair<base::Term, base::Member>, base::Member> votes_;
  std::map<base::Index, base::Term> terms_;
  std::map<std::pair<base::DatabaseId, base::Index>, std::uint64_t> digests_;
  std::map<base::LogId, Content> contents_;
  std::map<std::pair<base::Term, base::Index>, base::Term>
      leader_logs_;  // as far as the leader of each term has sent it
  std::map<base::Index, Committed> committed_;
  std::string breach_;
  bool history_holds_ = true;
  std::uint64_t vote_count_ = 0;
  std::uint64_t publications_ = 0;
  std::uint64_t promise_count_ = 0;
};

}  // namespace sim

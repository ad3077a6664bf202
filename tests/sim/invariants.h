// Invariants of TESTING.md section 2, fed by the simulator as things happen. The first breach is kept and ends the run.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "base/transport.h"
#include "node/node.h"
#include "raft/message.h"

namespace sim {

class Invariants {
 public:
  // A database shows transaction `id` with `digest` on some node: everywhere the same at the same index, and one term per index.
  void published(base::NodeId node, base::DatabaseId db, base::LogId id, std::uint64_t digest);
  // A frame leaves `node`: a granted vote goes to one candidate per (term, incarnation).
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

 private:
  std::map<base::Term, base::Member> leaders_;
  std::map<std::pair<base::Term, base::Member>, base::Member> votes_;
  std::map<base::Index, base::Term> terms_;
  std::map<std::pair<base::DatabaseId, base::Index>, std::uint64_t> digests_;
  std::string breach_;
  bool history_holds_ = true;
  std::uint64_t vote_count_ = 0;
  std::uint64_t publications_ = 0;
};

}  // namespace sim

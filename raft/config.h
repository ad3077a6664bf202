// Configuration: who votes and who learns, as an entry payload (base::EntryKind::kConfig) and as the core's view of it.
// Joint consensus only (Raft section 6): while `outgoing` is not empty, every decision needs a majority of both.
// Value type, any thread.
#pragma once

#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"

namespace raft {

struct MemberInfo {
  base::Member member;
  std::string raft_addr;  // "host:port"; empty on an embedded node
  std::string api_addr;
  auto operator<=>(const MemberInfo&) const = default;
};

struct Configuration {
  std::vector<MemberInfo> voters;      // the (incoming) voters, sorted by member
  std::vector<base::Member> outgoing;  // the old voters during a joint change, else empty
  std::vector<MemberInfo> learners;
  auto operator<=>(const Configuration&) const = default;

  [[nodiscard]] bool joint() const { return !outgoing.empty(); }
  [[nodiscard]] bool is_voter(base::Member member) const;  // in voters or outgoing
  [[nodiscard]] bool is_learner(base::Member member) const;
  [[nodiscard]] bool contains(base::Member member) const { return is_voter(member) || is_learner(member); }
  // Everyone to replicate to, each once.
  [[nodiscard]] std::vector<base::Member> all() const;
};

base::Bytes encode(const Configuration& configuration);
// kCorrupt on malformed, duplicate or empty member lists. Hostile input (R18).
base::Result<Configuration> decode_configuration(base::ByteView bytes);

}  // namespace raft

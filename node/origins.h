// Origins: the transactions that this node proposed itself and whose outcome is not known yet (R7). The log alone decides: seen and valid,
// seen and void, or provably absent (the first entry of a later term was reached without it). Loop lane.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>

#include "base/ids.h"
#include "node/ledger.h"
#include "vfs/gate.h"

namespace node {

class Origins {
 public:
  using Done = std::function<void(vfs::Outcome)>;
  Origins(base::Incarnation incarnation, std::uint64_t boot) : incarnation_(incarnation), boot_(boot) {}

  // Proposed in `term` by this node, the leader of it.
  void proposed(std::uint64_t sequence, base::Term term, base::DatabaseId db, base::Micros deadline, Done done);
  // Before an entry of `term` is decided: everything proposed in an earlier term and not yet seen is absent for ever.
  void reached_term(base::Term term);
  void decided(const Decision& decision);
  // Those past their deadline become unknown.
  void expire(base::Micros now);
  // The node stops, or lost its log: all become unknown.
  void abandon(const base::Error& why);
  [[nodiscard]] bool pending(base::DatabaseId db) const { return by_database_.count(db) != 0; }
  [[nodiscard]] bool empty() const { return waiting_.empty(); }

 private:
  struct Waiting {
    base::Term term;
    base::DatabaseId db;
    base::Micros deadline = 0;
    Done done;
  };
  void finish(std::map<std::uint64_t, Waiting>::iterator it, vfs::Outcome outcome);

  base::Incarnation incarnation_;
  std::uint64_t boot_;
  std::map<std::uint64_t, Waiting> waiting_;  // by sequence
  std::multiset<base::DatabaseId> by_database_;
  std::set<std::pair<base::Micros, std::uint64_t>> deadlines_;  // (deadline, sequence)
};

}  // namespace node

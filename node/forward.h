// Forwards: the requests of hql_execute that began on this node, until they are answered (DESIGN 5.3, R7). Sent to the leader's executor,
// sent again with the same sequence within the term, sent anew only when provably absent. Loop lane.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "base/ids.h"
#include "node/hello.h"
#include "node/ledger.h"
#include "node/node.h"

namespace node {

class Forwards {
 public:
  struct Target {
    base::Term term;
    base::NodeId leader;  // may be this node
  };
  struct Hooks {
    std::function<std::optional<Target>()> target;           // the leader, when one is known and reachable
    std::function<bool(base::NodeId leader, Forward)> send;  // false: it surely did not leave
    std::function<base::Index()> applied;
    std::function<base::Micros()> now;
    std::function<base::Error()> no_leader;  // why nothing can be sent, for people
  };
  using Done = std::function<void(base::Result<ExecuteReply>)>;

  Forwards(base::Incarnation incarnation, std::uint64_t boot, Hooks hooks)
      : incarnation_(incarnation), boot_(boot), hooks_(std::move(hooks)) {}

  void begin(std::uint64_t sequence, std::string database, base::Bytes body, base::Micros deadline, Done done);
  void on_reply(const ForwardReply& reply);
  // The committed entries, in order: first the term, then the decision.
  void reached_term(base::Term term);
  void decided(const Decision& decision);
  void applied_changed();
  // A leader became known, connected again, or time has passed: sends what is idle, repeats what is unanswered, ends what is overdue.
  void tick();
  void leader_changed();
  void peer_connected(base::NodeId peer);
  void abandon(const base::Error& why);
  [[nodiscard]] bool empty() const { return pending_.empty(); }

 private:
  struct Pending {
    std::string database;
    base::Bytes body;
    base::Micros deadline = 0;
    Done done;
    bool sent = false;  // in `term`, outcome open
    base::Term term;
    base::NodeId leader;
    base::Micros sent_at = 0;
    std::optional<ExecuteReply> logged;  // seen in the log: committed, with the small result
    base::Micros logged_at = 0;
    std::optional<ExecuteReply> result;  // answered when applied() reaches `apply_through`
    std::optional<base::Error> error;    // the request's own error, likewise
    base::Index apply_through;
  };
  using Iterator = std::map<std::uint64_t, Pending>::iterator;
  void try_send(Iterator it);
  void settle(Iterator it);  // answers it when its result may be seen
  void finish(Iterator it, base::Result<ExecuteReply> result);
  void use_logged(Pending& pending);

  base::Incarnation incarnation_;
  std::uint64_t boot_;
  Hooks hooks_;
  std::map<std::uint64_t, Pending> pending_;  // by sequence
};

}  // namespace node

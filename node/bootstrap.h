// Bootstrap: how empty nodes form one cluster, or join the one that exists (DESIGN 6.2). A pure state machine: inputs change it, actions come
// out; the node carries them out (promises and the first entry are durable before anything that follows from them is sent). Loop lane.
//
// A node belongs only while its log holds its cluster's first entry; until then it is "empty", whatever it promised. The lowest configured id
// asks every configured node for a promise of one ballot, each from the incarnation connected at that moment, and only with all of them
// writes the first entry: the configuration that lists them. Nodes that belong hand the first entry to the members it names and invite
// everybody else to join as a learner.
//
// A promise keeps its giver out of clusters with a lower ballot until its holder says that its round is over. A holder that was wiped says
// nothing any more: its successor, the next incarnation of the lowest id, asks for higher promises in its place, and lifts those.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"
#include "node/meta.h"
#include "raft/config.h"

namespace node {

enum class BootstrapKind : std::uint8_t {
  kState = 1,    // what the sender is: `cluster` ({} = empty), `promise`, `committed`
  kPrepare = 2,  // asks for a promise of `ballot`
  kPromise = 3,  // `ballot` is promised, durably
  kRefuse = 4,   // `promise` is higher
  kFirst = 5,    // the first entry of `cluster`: `configuration`; `committed`
  kInvite = 6,   // join `cluster`; `committed`
  kOver = 7,     // the sender's rounds are over, it made no cluster with them and will not; it found `cluster`
};

struct BootstrapMessage {
  BootstrapKind kind = BootstrapKind::kState;
  Ballot ballot;
  Ballot promise;
  Ballot cluster;
  bool committed = false;  // the cluster has committed an entry
  std::optional<raft::Configuration> configuration;
};
base::Bytes encode(const BootstrapMessage& message);
// kProtocol; hostile input (R18).
base::Result<BootstrapMessage> decode_bootstrap(base::ByteView body);
std::string to_string(const BootstrapMessage& message);

class Bootstrap {
 public:
  struct Options {
    base::Member self;
    std::vector<raft::MemberInfo> nodes;       // every configured node with addresses; incarnations are ignored
    Ballot promise;                            // durable
    Ballot cluster;                            // {}: empty
    std::optional<raft::Configuration> first;  // the first entry, when this node belongs
  };
  struct Send {
    base::NodeId to;
    BootstrapMessage message;
  };
  struct Actions {
    std::vector<Send> sends;
    std::optional<Ballot> persist_promise;  // then promise_durable()
    struct First {
      Ballot cluster;
      raft::Configuration configuration;
    };
    std::optional<First> persist_first;  // the meta file's cluster, then entry 1; then first_durable()
    std::optional<Ballot> join;      // an empty log that follows this cluster; then entry_held() with the first entry
    bool leave = false;              // forget the cluster that was being joined (no entry of it is held)
    std::vector<std::string> notes;  // for the event list
  };

  explicit Bootstrap(Options options);

  void peer_up(base::Member peer, const Ballot& cluster, const Ballot& promise);
  void peer_down(base::NodeId peer);
  void step(base::Member from, const BootstrapMessage& message);
  void tick();  // resends; starts rounds
  void promise_durable(const Ballot& ballot);
  void first_durable();
  void entry_held();     // a joining node holds its first entry
  void set_committed();  // this cluster has committed an entry, as seen here
  void force();          // the operator: do without the nodes that are not connected
  Actions take_actions();

  [[nodiscard]] bool belongs() const { return static_cast<bool>(cluster_); }
  [[nodiscard]] const Ballot& cluster() const { return cluster_; }
  [[nodiscard]] const Ballot& promise() const { return promise_; }
  [[nodiscard]] const Ballot& joining() const { return joining_; }
  // Configured nodes that are not connected.
  [[nodiscard]] std::vector<base::NodeId> missing() const;

 private:
  struct Peer {
    base::Member member;
    Ballot cluster;
    Ballot promise;
    bool committed = false;
  };
  struct Round {
    Ballot ballot;
    bool durable = false;
    bool lifts = false;                          // forms nothing: only takes over promises, to lift them for `found_`
    std::map<base::NodeId, base::Member> asked;  // who must promise
    std::set<base::NodeId> promised;
  };
  void send(base::NodeId to, BootstrapMessage message);
  void send_state(base::NodeId to);
  void help(const Peer& peer);  // what a node that belongs does for an empty one
  void start_round();
  void start_lifting();
  void begin(Round round);
  void give_up(const std::string& why);
  void found(const Ballot& cluster);
  void send_over(const Peer& peer);
  void finish_round();
  [[nodiscard]] bool lowest() const;
  [[nodiscard]] bool may_follow(const Ballot& cluster, bool committed) const;
  void on_prepare(const Peer& from, const BootstrapMessage& message);
  void on_promise(const Peer& from, const BootstrapMessage& message);
  void on_first(const BootstrapMessage& message);
  void on_invite(const BootstrapMessage& message);

  Options options_;
  Ballot promise_;                   // durable
  std::optional<Ballot> promising_;  // being made durable
  std::optional<base::NodeId> promise_for_;
  Ballot cluster_;
  std::optional<raft::Configuration> first_;
  std::optional<Actions::First> taking_;  // being made durable
  Ballot joining_;
  Ballot admitted_;  // by name; a later promise cancels it
  Ballot found_;     // a cluster that exists, for kOver
  bool committed_ = false;
  bool forced_ = false;
  std::uint64_t highest_number_ = 0;  // seen anywhere
  std::optional<Round> round_;
  std::map<base::NodeId, Peer> peers_;
  Actions actions_;
};

}  // namespace node

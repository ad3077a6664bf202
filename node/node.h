// Node: joins Raft, log, images, executor and transport, and owns the lanes' order of work (docs/ARCHITECTURE.md).
// Everything that decides runs on the loop lane; the public calls may come from any thread and post there. Nothing here blocks but
// open() and stop(). The simulator runs this same class over simulated parts (R1).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/env.h"
#include "base/lane.h"
#include "base/transport.h"
#include "node/config.h"
#include "node/executor.h"
#include "pages/image.h"
#include "raft/core.h"
#include "vfs/gate.h"

namespace node {

struct Parts {
  base::Env* env = nullptr;
  base::Lane* loop = nullptr;
  base::Lane* log = nullptr;
  base::Lane* apply = nullptr;
  base::Lane* maintenance = nullptr;
};

struct MemberStatus {
  base::NodeId id;
  base::Incarnation incarnation;
  std::string role;  // voter | learner | leaving
  std::string raft_addr;
  std::string api_addr;
  bool reachable = false;
  base::Index match;
};

struct DatabaseStatus {
  base::DatabaseId id;
  std::string name;
  pages::ImageStatus image;
};

struct NodeStatus {
  std::string state =
      "starting";  // SQL.md: starting|waiting_for_nodes|healthy|no_quorum|poisoned|disk_full|stopping|stopped
  base::NodeId node_id;
  base::Incarnation incarnation;
  std::uint64_t cluster_id = 0;
  std::string role;  // leader | follower | candidate | learner
  base::NodeId leader_id;
  base::Term term;
  base::Index commit_index;
  base::Index durable_index;
  base::Index applied_index;
  std::uint64_t log_bytes = 0;
  std::uint64_t term_changes = 0;
  std::string last_error;
  std::vector<MemberStatus> members;
  std::vector<DatabaseStatus> databases;
  std::vector<base::NodeId> missing;  // waiting_for_nodes / no_quorum: who is not reachable
};

struct Event {  // hql_events
  std::uint64_t sequence = 0;
  base::Micros wall_time = 0;
  std::string kind;  // role, leader, member, database, error, ...
  std::string text;
};

struct ExecuteReply {
  base::Bytes body;        // exec/request.h
  base::LogId committed;   // {} when nothing changed
  bool rows_lost = false;  // the leader died after the commit: `body` is the small result from the log
};

class Node : public vfs::Gate, public base::TransportHandler {
 public:
  // Start-up, blocking, before the lanes run: data directory, identity (R10), log, meta, catalogue, databases (recovery by digest).
  // kOwned, kCorrupt, kForeignWrite (that database only: it is marked, the node starts), kIo, kPermission, kConfig.
  static base::Result<std::unique_ptr<Node>> open(Parts parts, Config config);
  ~Node() override = default;

  // Identity, for the handshake.
  virtual base::Member self() const = 0;
  virtual std::uint64_t boot_nonce() const = 0;
  // Once, after open(): images and executors need the node as their gate, so they come second. Recovers the databases. Blocking.
  virtual base::Status attach(pages::ImageFactory& images, ExecutorFactory& executors, base::Transport* transport) = 0;
  // Starts ticking, connecting, bootstrapping. Any thread, once.
  virtual void start() = 0;
  // Refuses new work, fails waiters, sync points, seals the log. `done` on the loop lane; the caller then stops the lanes.
  virtual void stop(std::function<void()> done) = 0;

  // --- any thread; `done` on the loop lane, exactly once -------------------------------------------------------------------
  // hql_execute and its family. `database` by name; created on the leader when missing. Forwarded to the leader, exactly once (R7),
  // answered when this node has applied the result (read your writes).
  virtual void execute(const std::string& database, base::Bytes body, base::Micros deadline,
                       std::function<void(base::Result<ExecuteReply>)> done) = 0;
  virtual void drop_database(const std::string& name, base::Micros deadline,
                             std::function<void(base::Status)> done) = 0;
  // to = 0: the best one. done when this node sees the new leader.
  virtual void transfer_leader(base::NodeId to, base::Micros deadline,
                               std::function<void(base::Result<base::NodeId>)> done) = 0;
  virtual void wait_applied(base::Index index, base::Micros deadline, std::function<void(base::Status)> done) = 0;
  virtual void wait_healthy(base::Micros deadline, std::function<void(base::Status)> done) = 0;
  // Sync points of all databases; the index up to which SQLite's own files are durable.
  virtual void snapshot(std::function<void(base::Result<base::Index>)> done) = 0;
  // Drops log entries that nobody needs, keeping at least the last `keep`; the new floor: the last entry that is gone. A cluster keeps its
  // whole log: the floor stays.
  virtual void compact(std::uint64_t keep, std::function<void(base::Result<base::Index>)> done) = 0;
  // `hiqlite bootstrap --force`: forms the cluster without the nodes that are missing (DESIGN 6.2).
  virtual void force_bootstrap(std::function<void(base::Status)> done) = 0;

  // Any thread, a consistent copy.
  virtual NodeStatus status() = 0;
  virtual std::vector<Event> events(std::uint64_t since) = 0;
  virtual raft::Status raft_status() = 0;
  virtual const Config& config() const = 0;
  // Name or "" and the id of a database; for messages.
  virtual std::optional<base::DatabaseId> database_id(const std::string& name) = 0;
  // A task of the lane `lane` let a standard exception out (out of memory): what it worked on is half done. The node is at its end as with a
  // failed log (R13): from this call on it votes, acknowledges and answers nothing more, and every later call says why. Any thread; needs
  // little memory itself, and without that it is mute all the same.
  virtual void lane_failed(const std::string& lane, const std::string& what) noexcept = 0;
  // The transport refused a peer, or was refused by one: shown as last_error and in the events. Loop lane.
  virtual void peer_trouble(const base::Error& why) = 0;
};

}  // namespace node

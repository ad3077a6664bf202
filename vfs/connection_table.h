// The nodes bound to the VFS and the open main-database files of each. Any thread.
// A shim method that uses a node's Gate or Database does so inside a NodeUse; unbind_node() turns new ones away, waits for the last to
// leave, and then cuts every connection off its Database, so that no pointer of a stopped node is followed afterwards (R2).
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "base/sqlite.h"
#include "vfs/shim.h"

namespace vfs {

class ShimConnection;
class WriterQueue;

// One binding. Shared by the table and the connections opened through it, which may outlive the binding.
class BoundNode {
 public:
  explicit BoundNode(NodeBinding binding);

  [[nodiscard]] const NodeBinding& binding() const { return binding_; }
  [[nodiscard]] Gate& gate() const { return *binding_.gate; }
  [[nodiscard]] const std::string& db_dir() const { return db_dir_; }  // <data_dir>/db
  [[nodiscard]] bool stopped() const { return stopped_.load(); }
  [[nodiscard]] base::Error stopped_error() const;

  // Inside a NodeUse.
  void add(ShimConnection& connection);
  std::shared_ptr<WriterQueue> queue_of(base::DatabaseId database);
  ShimConnection* writer_of(const sqlite3* db, const ShimConnection* except);
  // Any time; after stop() it finds nothing to remove.
  void remove(ShimConnection& connection);
  void stop();

 private:
  friend class NodeUse;
  bool enter();
  void leave();

  const NodeBinding binding_;
  const std::string db_dir_;
  std::atomic<bool> stopped_{false};
  std::atomic<int> inside_{0};
  base::Mutex mutex_;
  base::CondVar left_;
  std::vector<ShimConnection*> connections_ GUARDED_BY(mutex_);
  std::unordered_map<base::DatabaseId, std::shared_ptr<WriterQueue>> queues_ GUARDED_BY(mutex_);
};

// While alive, the node's Gate and Databases are. False when the node is stopped (or this is a forked child).
class NodeUse {
 public:
  explicit NodeUse(BoundNode& node) : node_(node), inside_(node.enter()) {}
  ~NodeUse() {
    if (inside_) node_.leave();
  }
  NodeUse(const NodeUse&) = delete;
  NodeUse& operator=(const NodeUse&) = delete;
  explicit operator bool() const { return inside_; }

 private:
  BoundNode& node_;
  const bool inside_;
};

// The node that `wanted` names, or the only one. Calls the autostart function (without locks) when there is none.
// kNotStarted, kArgument (several nodes, or no such node).
base::Result<std::shared_ptr<BoundNode>> choose_node(std::optional<base::NodeId> wanted);
// The node in whose database directory `path` lies, and the rest of the path. Null when there is none.
std::pair<std::shared_ptr<BoundNode>, std::string> node_of_path(const std::string& path);
// A main-database file of `db`, whichever schema, whose transaction holds WRITER; not `except`. The caller is inside a call of that handle, so
// what it finds is its own. Null: none.
ShimConnection* writer_of(const sqlite3* db, const ShimConnection* except);
// Installs the handlers of pthread_atfork: a child that is forked while a node is bound is marked (vfs/fork.h). Idempotent. kInternal when out
// of memory.
base::Status watch_for_fork();

}  // namespace vfs

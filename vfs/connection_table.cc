// Bound nodes and their connections (vfs/connection_table.h).
#include "vfs/connection_table.h"

#include <pthread.h>

#include <algorithm>

#include "vfs/fork.h"
#include "vfs/shim_connection.h"
#include "vfs/writer_queue.h"

namespace vfs {
namespace {

struct Table {
  base::Mutex mutex;
  std::vector<std::shared_ptr<BoundNode>> nodes GUARDED_BY(mutex);
  std::function<base::Status()> autostart GUARDED_BY(mutex);
  int bound GUARDED_BY(mutex) = 0;  // `nodes` and those that unbind_node() still waits for
};

// Never destroyed: host threads may be inside SQLite while the process exits (R2).
Table& table() {
  static Table* const only = new Table;
  return *only;
}

// fork() copies one thread only: the mutex is held across it, so that the child finds the table whole and the mutex free.
void before_fork() NO_THREAD_SAFETY_ANALYSIS { table().mutex.lock(); }
void after_fork_in_parent() NO_THREAD_SAFETY_ANALYSIS { table().mutex.unlock(); }
void after_fork_in_child() NO_THREAD_SAFETY_ANALYSIS {
  Table& all = table();
  if (all.bound > 0) mark_forked_child();
  all.mutex.unlock();
}

base::Result<std::shared_ptr<BoundNode>> choose_bound(std::optional<base::NodeId> wanted) {
  Table& all = table();
  base::MutexLock lock(all.mutex);
  std::string ids;
  for (const auto& node : all.nodes) {
    if (wanted == node->binding().id) return node;
    ids += (ids.empty() ? "" : ", ") + std::to_string(node->binding().id.value);
  }
  if (all.nodes.empty())
    return base::make_error(base::Code::kNotStarted, "no node runs in this process; SELECT hql_start() starts one");
  if (wanted)
    return base::make_error(base::Code::kArgument, "node=" + std::to_string(wanted->value) +
                                                       ": no such node in this process (running: " + ids + ")");
  if (all.nodes.size() > 1)
    return base::make_error(base::Code::kArgument, "several nodes run in this process (" + ids +
                                                       "); say which one: file:<name>?vfs=hiqlite&node=<id>");
  return all.nodes.front();
}

}  // namespace

BoundNode::BoundNode(NodeBinding binding) : binding_(std::move(binding)), db_dir_(binding_.data_dir + "/db") {}

base::Error BoundNode::stopped_error() const {
  return base::make_error(base::Code::kStopped, "node " + std::to_string(binding_.id.value) +
                                                    " was stopped; close this connection and open it again");
}

bool BoundNode::enter() {
  if (in_forked_child()) return false;
  inside_.fetch_add(1);
  if (!stopped_.load()) return true;
  leave();
  return false;
}

void BoundNode::leave() {
  if (inside_.fetch_sub(1) != 1) return;
  if (!stopped_.load()) return;
  base::MutexLock lock(mutex_);
  left_.notify_all();
}

void BoundNode::add(ShimConnection& connection) {
  base::MutexLock lock(mutex_);
  connections_.push_back(&connection);
}

void BoundNode::remove(ShimConnection& connection) {
  base::MutexLock lock(mutex_);
  connections_.erase(std::remove(connections_.begin(), connections_.end(), &connection), connections_.end());
}

std::shared_ptr<WriterQueue> BoundNode::queue_of(base::DatabaseId database) {
  base::MutexLock lock(mutex_);
  auto& queue = queues_[database];
  if (!queue) queue = std::make_shared<WriterQueue>();
  return queue;
}

ShimConnection* BoundNode::writer_of(const sqlite3* db, const ShimConnection* except) {
  base::MutexLock lock(mutex_);
  for (ShimConnection* const connection : connections_)
    if (connection != except && connection->db.load() == db && connection->writer == WriterHold::kLeased)
      return connection;
  return nullptr;
}

void BoundNode::stop() {
  stopped_.store(true);
  base::MutexLock lock(mutex_);
  while (inside_.load() != 0) left_.wait(mutex_);
  // remove() waits for the mutex, so every connection here is alive; no method of one is inside.
  for (ShimConnection* const connection : connections_) connection->cut_off();
  connections_.clear();
}

base::Result<std::shared_ptr<BoundNode>> choose_node(std::optional<base::NodeId> wanted) {
  auto chosen = choose_bound(wanted);
  if (chosen || chosen.error().code != base::Code::kNotStarted) return chosen;
  std::function<base::Status()> start;
  {
    Table& all = table();
    base::MutexLock lock(all.mutex);
    start = all.autostart;
  }
  // The executor's node is stopping when it is not bound: a start would wait for that stop, which waits for the executor.
  if (!start || executor_opens()) return chosen;
  HQL_TRY(start());
  return choose_bound(wanted);
}

std::pair<std::shared_ptr<BoundNode>, std::string> node_of_path(const std::string& path) {
  Table& all = table();
  base::MutexLock lock(all.mutex);
  for (const auto& node : all.nodes) {
    const std::string prefix = node->db_dir() + "/";
    if (path.rfind(prefix, 0) == 0) return {node, path.substr(prefix.size())};
  }
  return {nullptr, {}};
}

ShimConnection* writer_of(const sqlite3* db, const ShimConnection* except) {
  Table& all = table();
  base::MutexLock lock(all.mutex);
  for (const auto& node : all.nodes)
    if (ShimConnection* const found = node->writer_of(db, except)) return found;
  return nullptr;
}

base::Status watch_for_fork() {
  static const int failed = ::pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
  if (failed == 0) return base::ok();
  return base::make_error(base::Code::kInternal, "pthread_atfork: out of memory");
}

void bind_node(NodeBinding binding) {
  CHECK(binding.gate != nullptr);
  CHECK(static_cast<bool>(binding.find));
  auto node = std::make_shared<BoundNode>(std::move(binding));
  Table& all = table();
  base::MutexLock lock(all.mutex);
  all.nodes.push_back(std::move(node));
  ++all.bound;
}

void unbind_node(base::NodeId id) {
  std::shared_ptr<BoundNode> gone;
  {
    Table& all = table();
    base::MutexLock lock(all.mutex);
    const auto at =
        std::find_if(all.nodes.begin(), all.nodes.end(), [id](const auto& node) { return node->binding().id == id; });
    if (at == all.nodes.end()) return;
    gone = *at;
    all.nodes.erase(at);
  }
  gone->stop();
  Table& all = table();
  base::MutexLock lock(all.mutex);
  --all.bound;
}

void set_autostart(std::function<base::Status()> start) {
  Table& all = table();
  base::MutexLock lock(all.mutex);
  all.autostart = std::move(start);
}

}  // namespace vfs

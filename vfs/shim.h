// The VFS `hiqlite`: registers it and maps names to databases. SQL threads. docs/ARCHITECTURE.md describes the commit path.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "base/result.h"
#include "vfs/database.h"
#include "vfs/gate.h"

namespace vfs {

// What the patches of one transaction may add up to: they are collected in memory before the node makes a chain of parts of them (R15).
// Handing parts over as they fill would lift this limit.
inline constexpr std::size_t kTransactionBytesMax = std::size_t{256} << 20;

// One node of this process as the shim sees it; several may be registered (URI parameter node=<id>).
struct NodeBinding {
  base::NodeId id;
  std::string data_dir;  // absolute, real path
  Gate* gate = nullptr;
  // The open database of that name, or null. The pointer stays valid until unbind_node returns.
  std::function<Database*(const std::string& name)> find;
};

// Registers the VFS (not as default) over the process's default unix VFS. Idempotent. kRefused for another lower VFS.
base::Status register_vfs();
// hql_default_vfs(0/1): unregistered paths pass straight through.
base::Status set_default_vfs(bool on);
void bind_node(NodeBinding binding);
// Fails waiters and new calls with kStopped; returns when no SQL thread is inside a shim method that uses the node.
void unbind_node(base::NodeId id);
// Called by the shim when a name is opened with vfs=hiqlite and no node runs: starts one by hql_start()'s rules. Set by ext/.
void set_autostart(std::function<base::Status()> start);

// The executor: its connections are marked, and the requests of its batch ride in the transaction's entry (DESIGN 5.3).
struct ExecutorMark {
  std::function<std::vector<pages::RequestRecord>()> requests;  // called at the held commit
};
// Marks connections opened by this thread while alive as the executor's.
class ExecutorScope {
 public:
  explicit ExecutorScope(ExecutorMark* mark);
  ~ExecutorScope();
  ExecutorScope(const ExecutorScope&) = delete;
  ExecutorScope& operator=(const ExecutorScope&) = delete;
};
bool executor_opens();  // this thread is inside such a scope

// The last error of ours on this thread (hql_last_error()), and of one connection (sqlite3*).
// SQLite keeps no text of a VFS: a failed COMMIT has SQLite's own sentence in sqlite3_errmsg() and our number in its extended code; the
// text is here, in xGetLastError of the VFS, and once in the host's sqlite3_log().
base::Error last_error();
bool has_last_error();
void set_last_error(const base::Error& error);
void clear_last_error();
// The process ends: the host's log callback may use what is gone by now. No error is told to it any more.
void forget_host_log();
// The last error on a managed connection, by any thread; empty message: none.
base::Error last_error_of(void* db);

// What a connection's main database is. `db` is a sqlite3*.
struct ConnectionInfo {
  bool managed = false;
  base::NodeId node;
  std::string data_dir;  // the node's: another one may have the same id later
  base::DatabaseId database;
  std::string name;
  bool holds_writer = false;
  base::LogId last_commit;  // of this connection
  // the transaction its open transaction is computed on (Database::committed_state().last while it holds WRITER)
  base::LogId last_seen;
};
ConnectionInfo connection_info(void* db);
// Whether the handle (a sqlite3*, inside a call of it) has an open write transaction on the managed database `name`, as main or attached.
bool writes_to(void* db, const std::string& name);

// Fails the open of a connection whose name says vfs=hiqlite or lies in a data dir of ours while its VFS is not ours (DESIGN section 3).
base::Status check_opened(void* db);

}  // namespace vfs

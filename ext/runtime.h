// The process's nodes: which node a call of a connection means, starting, stopping, attaching to the owner's socket.
// Any SQL thread. No mutex is held while a node starts, stops or answers.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/ids.h"
#include "base/result.h"
#include "base/sqlite.h"
#include "ext/call.h"
#include "node/config.h"

namespace ext {

// hql_start: `config` is a TOML path or JSON text; without it HQL_CONFIG, then ./hiqlite.toml, then the embedded node (DESIGN section 13).
// Returns at once with the node's id; a second call for the same data dir is a success, for another one starts a further node.
// kConfig, kOwned, kAddress, kCorrupt, kForked, kIo, kPermission.
base::Result<base::NodeId> start_node(const std::optional<std::string>& config);
// For an open through the VFS when no node runs: as start_node() without a configuration. kRefused in an attached process.
base::Status start_for_open();
// Stops the node a call of `db` means (all = every node of the process), within about `timeout_ms`. kNotStarted, kStopped, kForked.
base::Status stop_node(sqlite3* db, std::uint32_t timeout_ms);
void stop_all_nodes();
// hql_* calls of this process go to the owner behind `<data_dir>/sock` from now on. kNotFound when nobody answers there.
base::Status attach_to_owner(const std::string& data_dir);

// One request to the node that `db` means: its main database's node; for a connection with none the last one started, else the attached
// owner. Waits at most `timeout_ms` plus a grace for the answer. kNotStarted, kStopped (the main database's node was stopped), and whatever
// the operation may say.
base::Result<base::Bytes> call(sqlite3* db, const Call& request, std::uint32_t timeout_ms);
// That node, when it is one of this process. kStopped.
base::Result<std::optional<base::NodeId>> node_of(sqlite3* db);
// What calls on that node use when they do not say otherwise. The owner's `filename_db` is known to the owner: an attached process leaves the
// name empty.
struct CallDefaults {
  std::string database;
  std::uint32_t timeout_ms = static_cast<std::uint32_t>(node::Config().commit_timeout_ms);
};
CallDefaults defaults_of(sqlite3* db);
// The database of that node whose file is the connection's main one, opened without the VFS; empty: none is.
std::string opened_plainly(sqlite3* db);

}  // namespace ext

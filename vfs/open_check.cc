// Called for every new connection of the process by the automatic extension (ext/): a connection that says vfs=hiqlite but is not ours would
// write a file that is silently not replicated (DESIGN section 3). Managed connections get our busy handler here. SQL threads.
#include <cstring>
#include <string>

#include "vfs/connection_table.h"
#include "vfs/internal.h"
#include "vfs/last_error.h"
#include "vfs/names.h"
#include "vfs/shim_connection.h"

namespace vfs {
namespace {

base::Status check_unmanaged(sqlite3* db) {
  const char* const path = sqlite3_db_filename(db, "main");
  if (path == nullptr || path[0] == '\0') return base::ok();
  const bool says_ours = std::strstr(path, (std::string("vfs=") + kVfsName).c_str()) != nullptr;
  if (says_ours)
    return base::make_error(
        base::Code::kRefused,
        std::string(path) +
            " was opened as a plain file: this driver does not pass SQLITE_OPEN_URI. SELECT hql_default_vfs(1) "
            "before opening makes the name mean the replicated database");
  // The VFS was named, not inherited from hql_default_vfs(): an ATTACH and a VACUUM INTO of a managed connection do not come here.
  sqlite3_vfs* used = nullptr;
  if (sqlite3_file_control(db, "main", SQLITE_FCNTL_VFS_POINTER, &used) == SQLITE_OK && used != nullptr &&
      used == sqlite3_vfs_find(kVfsName) && used != sqlite3_vfs_find(nullptr))
    return base::make_error(
        base::Code::kRefused,
        std::string(path) + " was opened with the VFS " + kVfsName +
            " but not by a URI, and would be a plain file that is not replicated; open file:<name>?vfs=" + kVfsName +
            " with SQLITE_OPEN_URI, or leave the VFS away for a plain file");
  const auto [node, name] = node_of_path(path);
  if (!node || sqlite3_db_readonly(db, "main") == 1) return base::ok();
  return base::make_error(base::Code::kRefused,
                          std::string(path) + " belongs to node " + std::to_string(node->binding().id.value) +
                              "; write to it through file:" + name + "?vfs=hiqlite, or read it with mode=ro");
}

}  // namespace

base::Status check_opened(void* opaque) {
  if (internal_open_active()) return base::ok();
  auto* const db = static_cast<sqlite3*>(opaque);
  ShimConnection* const connection = connection_of(db, "main");
  base::Status checked = base::ok();
  if (connection == nullptr) {
    checked = check_unmanaged(db);
  } else if (connection->db.load() != nullptr && connection->db.load() != db) {
    connection->sharers.fetch_sub(1);  // counted by SQLITE_FCNTL_PDB; it goes away again
    checked =
        base::make_error(base::Code::kRefused, "database " + connection->name +
                                                   ": shared cache would bypass the locks of the node; open it without "
                                                   "SQLITE_OPEN_SHAREDCACHE or cache=shared");
  } else {
    connection->db = db;
    sqlite3_busy_handler(db, busy_handler, db);
  }
  if (!checked) report(nullptr, checked.error());
  return checked;
}

bool writes_to(void* db, const std::string& name) {
  const ShimConnection* const writer = writer_of(static_cast<sqlite3*>(db), nullptr);
  return writer != nullptr && writer->name == name;
}

ConnectionInfo connection_info(void* db) {
  ConnectionInfo info;
  const ShimConnection* const connection = connection_of(static_cast<sqlite3*>(db), "main");
  if (connection == nullptr) return info;
  info.managed = true;
  info.node = connection->node->binding().id;
  info.data_dir = connection->node->binding().data_dir;
  info.database = connection->database_id;
  info.name = connection->name;
  info.holds_writer = connection->writer == WriterHold::kLeased;
  info.last_commit = connection->last_commit;
  if (info.holds_writer)
    if (const NodeUse use(*connection->node); use) info.last_seen = connection->database->committed_state().last;
  return info;
}

}  // namespace vfs

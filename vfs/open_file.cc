// Opening the main file of a connection: decides whether it is managed, finds or creates its database, refuses what cannot replicate.
// Called by the VFS's xOpen (shim.cc), on SQL threads.
#include <array>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "vfs/fork.h"
#include "vfs/last_error.h"
#include "vfs/names.h"
#include "vfs/shim_connection.h"
#include "vfs/slot.h"

namespace vfs {
namespace {

thread_local ExecutorMark* executor_mark = nullptr;

struct Resolved {
  std::string path;
  OpenRequest request;
};
thread_local std::optional<Resolved> last_resolved;

base::Result<OpenRequest> request_of(const char* filename) {
  const std::optional<Resolved> resolved = std::exchange(last_resolved, std::nullopt);
  HQL_ASSIGN(request, parse_open_request(filename));
  if (!request.ours && resolved && filename != nullptr && resolved->path == filename) return resolved->request;
  return request;
}

// A file opened through the lower VFS, which knows how to close one file of an inode without dropping the locks of another.
class LowerFile {
 public:
  LowerFile(sqlite3_vfs* lower, const char* path, int flags)
      : memory_(static_cast<std::size_t>(lower->szOsFile) / 16 + 1) {
    rc_ = lower->xOpen(lower, path, file(), flags, nullptr);
  }
  ~LowerFile() {
    if (file()->pMethods != nullptr) file()->pMethods->xClose(file());
  }
  LowerFile(const LowerFile&) = delete;
  LowerFile& operator=(const LowerFile&) = delete;
  [[nodiscard]] int rc() const { return rc_; }
  sqlite3_file* file() { return reinterpret_cast<sqlite3_file*>(memory_.data()); }

 private:
  struct alignas(16) Unit {
    std::byte bytes[16]{};
  };
  std::vector<Unit> memory_;
  int rc_ = SQLITE_OK;
};

// Whether the name, as a plain path, is somebody's SQLite file.
bool plain_file_exists(sqlite3_vfs* lower, const std::string& name, const std::string& managed_path) {
  std::string full(static_cast<std::size_t>(lower->mxPathname) + 1, '\0');
  const int rc = lower->xFullPathname(lower, name.c_str(), static_cast<int>(full.size()), full.data());
  if ((rc & 0xff) != SQLITE_OK) return false;
  full.resize(std::strlen(full.c_str()));
  if (full == managed_path) return false;
  int exists = 0;
  if (lower->xAccess(lower, full.c_str(), SQLITE_ACCESS_EXISTS, &exists) != SQLITE_OK || exists == 0) return false;
  const char* const filename = sqlite3_create_filename(full.c_str(), "", "", 0, nullptr);
  if (filename == nullptr) return false;
  bool sqlite = false;
  {
    LowerFile plain(lower, filename, SQLITE_OPEN_READONLY | SQLITE_OPEN_MAIN_DB);
    std::array<char, 16> magic{};
    sqlite =
        plain.rc() == SQLITE_OK &&
        plain.file()->pMethods->xRead(plain.file(), magic.data(), static_cast<int>(magic.size()), 0) == SQLITE_OK &&
        std::memcmp(magic.data(), "SQLite format 3", magic.size()) == 0;
  }
  sqlite3_free_filename(const_cast<char*>(filename));
  return sqlite;
}

// Creates the database cluster-wide and waits until this node has it open.
base::Result<Database*> create_database(sqlite3_vfs* lower, BoundNode& node, const std::string& name,
                                        const OpenRequest& request) {
  if (!request.importing && plain_file_exists(lower, name, node.db_dir() + "/" + name))
    return base::make_error(base::Code::kExists, "./" + name + " exists and is not replicated; SELECT hql_import('" +
                                                     name + "', '" + name +
                                                     "') adopts a copy, or open it without vfs=hiqlite");
  Gate& gate = node.gate();
  const base::Micros deadline = gate.now() + request.timeout.value_or(gate.commit_timeout());
  auto slot = std::make_shared<Slot<base::Result<base::DatabaseId>>>();
  gate.create_database(make_create(name, request.page_size, request.auto_vacuum), deadline,
                       [slot](base::Result<base::DatabaseId> id) { slot->set(std::move(id)); });
  auto created = slot->wait(
      deadline + base::kSecond, [&gate] { return gate.now(); }, [&node] { return node.stopped(); });
  if (!created) {
    if (node.stopped()) return node.stopped_error();
    return base::make_error(base::Code::kUnknownOutcome,
                            "creation of database " + name + ": no answer in time; open it again");
  }
  if (!*created) return created->error();
  if (Database* const found = node.binding().find(name)) return found;
  return base::make_error(base::Code::kNotFound,
                          "database " + name + " was created and dropped again before it was opened");
}

base::Result<Database*> find_or_create(sqlite3_vfs* lower, BoundNode& node, const std::string& name,
                                       const OpenRequest& request, int flags) {
  if (Database* const found = node.binding().find(name)) return found;
  if (request.ours && (flags & SQLITE_OPEN_CREATE) != 0) return create_database(lower, node, name, request);
  return base::make_error(base::Code::kNotFound, "node " + std::to_string(node.binding().id.value) +
                                                     " has no database " + name + "; opening file:" + name +
                                                     "?vfs=hiqlite&mode=rwc creates it");
}

int open_managed(sqlite3_vfs* lower, const std::shared_ptr<BoundNode>& node, const std::string& name,
                 const OpenRequest& request, const char* filename, sqlite3_file* file, int flags, int* out_flags) {
  if (in_forked_child()) return report(nullptr, forked_error());
  // With the VFS inherited or by default the URI is of a plain path, and has parameters all the same.
  const std::string refused = request.ours ? request.refused : refused_parameter(filename);
  if (!refused.empty())
    return report(nullptr, base::make_error(base::Code::kRefused,
                                            "database " + name + ": " + refused +
                                                " would bypass the locks of the node; open it without that parameter"));
  const NodeUse use(*node);
  if (!use) return report(nullptr, node->stopped_error());
  auto database = find_or_create(lower, *node, name, request, flags);
  if (!database) return report(nullptr, database.error());

  sqlite3_file* const lower_file = lower_of(file);
  std::memset(lower_file, 0, static_cast<std::size_t>(lower->szOsFile));
  const int rc = lower->xOpen(lower, filename, lower_file, flags & ~SQLITE_OPEN_CREATE, out_flags);
  if (rc != SQLITE_OK) {
    if (lower_file->pMethods != nullptr) lower_file->pMethods->xClose(lower_file);
    return rc;
  }
  auto connection = std::make_unique<ShimConnection>(node, **database, lower_file, executor_mark);
  if (request.timeout) connection->busy_timeout = *request.timeout;
  if (auto attached = (*database)->attach(*connection); !attached) {
    lower_file->pMethods->xClose(lower_file);
    return report(nullptr, attached.error());
  }
  node->add(*connection);
  auto* const main = reinterpret_cast<MainFile*>(file);
  main->connection = connection.release();  // x_close() deletes it
  main->base.pMethods = main_file_methods();
  return SQLITE_OK;
}

}  // namespace

ExecutorScope::ExecutorScope(ExecutorMark* mark) {
  CHECK(executor_mark == nullptr);
  executor_mark = mark;
}
ExecutorScope::~ExecutorScope() { executor_mark = nullptr; }
bool executor_opens() { return executor_mark != nullptr; }

void note_resolved(std::string path, OpenRequest request) { last_resolved = {std::move(path), std::move(request)}; }

int open_main_file(sqlite3_vfs* lower, const char* filename, sqlite3_file* file, int flags, int* out_flags) {
  file->pMethods = nullptr;
  auto request = request_of(filename);
  if (!request) return report(nullptr, request.error());
  auto [node, name] =
      filename != nullptr ? node_of_path(filename) : std::pair<std::shared_ptr<BoundNode>, std::string>{};
  if (!node) {
    // x_full_pathname() puts every name of ours into a node's directory: here the node went away in between.
    if (request->ours)
      return report(nullptr, base::make_error(base::Code::kStopped,
                                              std::string(filename) + ": the node was stopped while it was opened"));
    return lower->xOpen(lower, filename, file, flags, out_flags);
  }
  const NodeUse use(*node);
  if (!use) return report(nullptr, in_forked_child() ? forked_error() : node->stopped_error());
  const bool registered = node->binding().find(name) != nullptr;
  if (!registered && !request->ours) {
    // Nobody looks for a file of another's in the directory where the node creates its own.
    if ((flags & SQLITE_OPEN_READWRITE) != 0)
      return report(nullptr,
                    base::make_error(base::Code::kRefused, std::string(filename) + " is no database of node " +
                                                               std::to_string(node->binding().id.value) +
                                                               " but lies in its directory; file:" + name +
                                                               "?vfs=hiqlite creates one, mode=ro reads the file"));
    return lower->xOpen(lower, filename, file, flags, out_flags);
  }
  return open_managed(lower, node, name, *request, filename, file, flags, out_flags);
}

}  // namespace vfs

// From the name a program opens to a database of a node (DESIGN section 4), and page 1 of a new database. Pure but for the URI accessors.
//   file:app.db?vfs=hiqlite[&node=2][&page_size=4096][&auto_vacuum=full][&timeout_ms=3000]
// Drivers that open without SQLITE_OPEN_URI pass that text literally; when the VFS is the default one it means the same.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"
#include "pages/tx.h"

namespace vfs {

inline constexpr const char* kVfsName = "hiqlite";

enum class AutoVacuum : std::uint8_t { kNone = 0, kFull = 1, kIncremental = 2 };

struct OpenRequest {
  bool ours = false;  // its own URI says vfs=hiqlite
  std::string name;   // as written, before node and directory are known
  std::optional<base::NodeId> node;
  std::uint32_t page_size = 4096;
  AutoVacuum auto_vacuum = AutoVacuum::kNone;
  std::optional<base::Micros> timeout;
  bool importing = false;  // hql_import: a plain file of the name beside it is what it copies
  std::string refused;     // the first parameter that a managed database cannot have ("cache=shared"), or empty
};

// `filename` comes from SQLite's pager, so that sqlite3_uri_parameter() works on it (a sqlite3_filename), or is null.
// kArgument naming the parameter with a bad value; only when `ours`.
base::Result<OpenRequest> parse_open_request(const char* filename);

// The first parameter of the pager's `filename` that a managed database cannot have, whether or not it says vfs=hiqlite; or empty.
std::string refused_parameter(const char* filename);

// The database's name: `written` may be "app.db", "./app.db" or "<db_dir>/app.db". kArgument for any other path or a bad name.
base::Result<std::string> database_name(const std::string& written, const std::string& db_dir);

// Page 1 of an empty database in WAL mode, as every node writes it.
base::Bytes make_first_page(std::uint32_t page_size, AutoVacuum auto_vacuum);
pages::CreateDatabase make_create(const std::string& name, std::uint32_t page_size, AutoVacuum auto_vacuum);

}  // namespace vfs

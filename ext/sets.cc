// The eponymous table-valued functions hql_members, hql_raft, hql_databases, hql_config and hql_events: one read-only module whose
// rows are the objects of a JSON array that the node gave at xFilter. No side effects: the planner may call them again.
#include <cstring>
#include <nlohmann/json.hpp>

#include "ext/runtime.h"
#include "ext/sql_function.h"

namespace ext {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::uint32_t kQuickMs = 5'000;

struct Set {
  const char* name;
  const char* schema;                // visible columns are the JSON keys; a HIDDEN last column is the argument
  std::vector<const char*> columns;  // JSON keys in schema order, without the hidden one
  Op op;
  const char* array;  // key of the array in the answer, or nullptr: the answer is the array (or one object = one row)
  bool argument;      // hql_events(since)
};

const Set* all_sets(std::size_t& count) {
  static const Set* const sets = new Set[5]{
      {"hql_members",
       "CREATE TABLE x(id INTEGER, incarnation TEXT, role TEXT, raft_addr TEXT, api_addr TEXT, reachable INTEGER, "
       "match_index INTEGER)",
       {"id", "incarnation", "role", "raft_addr", "api_addr", "reachable", "match_index"},
       Op::kStatus,
       "members",
       false},
      {"hql_databases",
       "CREATE TABLE x(id INTEGER, name TEXT, path TEXT, applied_index INTEGER, base_index INTEGER, digest TEXT, "
       "page_count INTEGER, "
       "state TEXT, writer TEXT, apply_blocked_by TEXT)",
       {"id", "name", "path", "applied_index", "base_index", "digest", "page_count", "state", "writer",
        "apply_blocked_by"},
       Op::kStatus,
       "databases",
       false},
      {"hql_raft",
       "CREATE TABLE x(role TEXT, term INTEGER, leader_id INTEGER, commit_index INTEGER, durable_index INTEGER, "
       "last_index INTEGER, "
       "last_term INTEGER, floor_index INTEGER, configuration_index INTEGER, joint INTEGER, uncommitted_bytes INTEGER, "
       "peers TEXT)",
       {"role", "term", "leader_id", "commit_index", "durable_index", "last_index", "last_term", "floor_index",
        "configuration_index", "joint", "uncommitted_bytes", "peers"},
       Op::kRaft,
       nullptr,
       false},
      {"hql_config",
       "CREATE TABLE x(key TEXT, value TEXT, origin TEXT, description TEXT)",
       {"key", "value", "origin", "description"},
       Op::kConfig,
       nullptr,
       false},
      {"hql_events",
       "CREATE TABLE x(sequence INTEGER, time_ms INTEGER, kind TEXT, text TEXT, since INTEGER HIDDEN)",
       {"sequence", "time_ms", "kind", "text"},
       Op::kEvents,
       nullptr,
       true},
  };
  count = 5;
  return sets;
}

struct Table {
  sqlite3_vtab base;  // first, as SQLite wants it
  sqlite3* db;
  const Set* set;
};
struct Cursor {
  sqlite3_vtab_cursor base;
  Json rows;
  std::size_t at;
  sqlite3_int64 since;
};

int set_error(sqlite3_vtab* table, const base::Error& error) {
  sqlite3_free(table->zErrMsg);
  table->zErrMsg = sqlite3_mprintf("%s", base::to_string(error).c_str());
  return error.code == base::Code::kSql ? error.sqlite_code : base::extended_code(error.code);
}

int x_connect(sqlite3* db, void* aux, int, const char* const*, sqlite3_vtab** out, char**) noexcept {
  const auto* set = static_cast<const Set*>(aux);
  const int rc = sqlite3_declare_vtab(db, set->schema);
  if (rc != SQLITE_OK) return rc;
  auto* table = new (std::nothrow) Table{{}, db, set};
  if (table == nullptr) return SQLITE_NOMEM;
  *out = &table->base;
  return SQLITE_OK;
}

int x_disconnect(sqlite3_vtab* table) noexcept {
  delete reinterpret_cast<Table*>(table);
  return SQLITE_OK;
}

int x_best_index(sqlite3_vtab* raw, sqlite3_index_info* info) noexcept {
  const Set& set = *reinterpret_cast<Table*>(raw)->set;
  info->estimatedCost = 1000;
  info->idxNum = 0;
  if (!set.argument) return SQLITE_OK;
  bool unusable = false;
  for (int i = 0; i < info->nConstraint; ++i) {
    const auto& constraint = info->aConstraint[i];
    if (constraint.iColumn != static_cast<int>(set.columns.size()) || constraint.op != SQLITE_INDEX_CONSTRAINT_EQ)
      continue;
    if (constraint.usable == 0) {
      unusable = true;
      continue;
    }
    // The argument; with `hql_events(3) WHERE since = 4` SQLite compares the other one itself.
    info->aConstraintUsage[i].argvIndex = 1;
    info->aConstraintUsage[i].omit = 1;
    info->idxNum = 1;
    return SQLITE_OK;
  }
  return unusable ? SQLITE_CONSTRAINT : SQLITE_OK;
}

int x_open(sqlite3_vtab*, sqlite3_vtab_cursor** out) noexcept {
  auto* cursor = new (std::nothrow) Cursor{{}, {}, 0, 0};
  if (cursor == nullptr) return SQLITE_NOMEM;
  *out = &cursor->base;
  return SQLITE_OK;
}

int x_close(sqlite3_vtab_cursor* cursor) noexcept {
  delete reinterpret_cast<Cursor*>(cursor);
  return SQLITE_OK;
}

int x_filter(sqlite3_vtab_cursor* raw, int index, const char*, int, sqlite3_value** values) noexcept {
  try {
    auto& cursor = *reinterpret_cast<Cursor*>(raw);
    const auto& table = *reinterpret_cast<Table*>(raw->pVtab);
    cursor.at = 0;
    cursor.since = index == 1 ? sqlite3_value_int64(values[0]) : 0;
    const auto since = static_cast<std::uint64_t>(std::max<sqlite3_int64>(0, cursor.since));
    const auto reply = call(table.db, {.op = table.set->op, .number = since}, kQuickMs);
    if (!reply) return set_error(raw->pVtab, reply.error());
    Json json = Json::parse(base::text_of(*reply), nullptr, false);
    if (table.set->array != nullptr && json.is_object()) json = json[table.set->array];
    cursor.rows = json.is_array() ? json : Json::array({json});
    return SQLITE_OK;
  } catch (...) {
    return SQLITE_NOMEM;
  }
}

int x_next(sqlite3_vtab_cursor* cursor) noexcept {
  ++reinterpret_cast<Cursor*>(cursor)->at;
  return SQLITE_OK;
}

int x_eof(sqlite3_vtab_cursor* raw) noexcept {
  const auto& cursor = *reinterpret_cast<Cursor*>(raw);
  return cursor.at >= cursor.rows.size() ? 1 : 0;
}

int x_column(sqlite3_vtab_cursor* raw, sqlite3_context* context, int column) noexcept {
  try {
    const auto& cursor = *reinterpret_cast<Cursor*>(raw);
    const Set& set = *reinterpret_cast<Table*>(raw->pVtab)->set;
    if (column >= static_cast<int>(set.columns.size())) {
      sqlite3_result_int64(context, cursor.since);
      return SQLITE_OK;
    }
    const Json& row = cursor.rows[cursor.at];
    const auto found = row.is_object() ? row.find(set.columns[static_cast<std::size_t>(column)]) : row.end();
    if (found == row.end() || found->is_null()) {
      sqlite3_result_null(context);
    } else if (found->is_boolean()) {
      sqlite3_result_int(context, found->get<bool>() ? 1 : 0);
    } else if (found->is_number_integer()) {
      sqlite3_result_int64(context, found->get<sqlite3_int64>());
    } else if (found->is_string()) {
      give_text(context, found->get<std::string>());
    } else {
      give_text(context, found->dump(-1, ' ', false, Json::error_handler_t::replace));
    }
    return SQLITE_OK;
  } catch (...) {
    return SQLITE_NOMEM;
  }
}

int x_rowid(sqlite3_vtab_cursor* raw, sqlite3_int64* out) noexcept {
  *out = static_cast<sqlite3_int64>(reinterpret_cast<Cursor*>(raw)->at) + 1;
  return SQLITE_OK;
}

// xCreate null makes the table eponymous-only: it cannot be created, only named.
const sqlite3_module& module() {
  static sqlite3_module made = [] {
    sqlite3_module m;
    std::memset(&m, 0, sizeof m);
    m.xConnect = x_connect;
    m.xBestIndex = x_best_index;
    m.xDisconnect = x_disconnect;
    m.xOpen = x_open;
    m.xClose = x_close;
    m.xFilter = x_filter;
    m.xNext = x_next;
    m.xEof = x_eof;
    m.xColumn = x_column;
    m.xRowid = x_rowid;
    return m;
  }();
  return made;
}

}  // namespace

base::Status register_sets(sqlite3* db) {
  std::size_t count = 0;
  const Set* sets = all_sets(count);
  for (std::size_t i = 0; i < count; ++i) {
    const int rc = sqlite3_create_module_v2(db, sets[i].name, &module(), const_cast<Set*>(&sets[i]), nullptr);
    if (rc != SQLITE_OK)
      return base::make_error(base::Code::kInternal,
                              std::string("cannot register ") + sets[i].name + ": " + sqlite3_errstr(rc));
  }
  return {};
}

}  // namespace ext

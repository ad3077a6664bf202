// hql_start, hql_stop, hql_status and the other functions about the node itself (docs/SQL.md).
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "ext/lifecycle.h"
#include "ext/runtime.h"
#include "ext/sql_function.h"
#include "vfs/shim.h"

namespace ext {
namespace {

using base::Code;
using base::Status;
using Json = nlohmann::ordered_json;

constexpr std::uint32_t kHealthyMs = 30'000;
constexpr std::uint32_t kQuickMs = 5'000;

sqlite3* db_of(sqlite3_context* context) { return sqlite3_context_db_handle(context); }

// One request whose reply is a number, as the function's result.
Status give_number(sqlite3_context* context, const Call& request, std::uint32_t timeout_ms) {
  HQL_ASSIGN(reply, call(db_of(context), request, timeout_ms));
  HQL_ASSIGN(number, decode_number(reply));
  sqlite3_result_int64(context, static_cast<std::int64_t>(number));
  return {};
}

base::Result<Json> status_of(sqlite3* db) {
  HQL_ASSIGN(reply, call(db, {Op::kStatus}, kQuickMs));
  Json json = Json::parse(base::text_of(reply), nullptr, false);
  if (!json.is_object()) return base::make_error(Code::kProtocol, "the node's status is not a JSON object");
  return json;
}

// hql_start([toml path or JSON]) -> node id
void fn_start(sqlite3_context* context, int count, sqlite3_value** values) noexcept {
  guarded(context, [&]() -> Status {
    const Arguments arguments("hql_start", count, values);
    HQL_TRY(arguments.expect(0, 1, "hql_start([toml path or JSON])"));
    std::optional<std::string> config;
    if (arguments.has(0)) {
      HQL_ASSIGN(text, arguments.text(0, "config"));
      config = text;
    }
    HQL_ASSIGN(id, start_node(config));
    sqlite3_result_int64(context, static_cast<std::int64_t>(id.value));
    return {};
  });
}

// hql_stop([ms]) -> 1
void fn_stop(sqlite3_context* context, int count, sqlite3_value** values) noexcept {
  guarded(context, [&]() -> Status {
    const Arguments arguments("hql_stop", count, values);
    HQL_TRY(arguments.expect(0, 1, "hql_stop([ms])"));
    HQL_ASSIGN(timeout, arguments.milliseconds(0, "ms", kQuickMs));
    HQL_TRY(stop_node(db_of(context), timeout));
    sqlite3_result_int(context, 1);
    return {};
  });
}

// hql_wait_healthy([ms]) -> 1
void fn_wait_healthy(sqlite3_context* context, int count, sqlite3_value** values) noexcept {
  guarded(context, [&]() -> Status {
    const Arguments arguments("hql_wait_healthy", count, values);
    HQL_TRY(arguments.expect(0, 1, "hql_wait_healthy([ms])"));
    HQL_ASSIGN(timeout, arguments.milliseconds(0, "ms", kHealthyMs));
    HQL_TRY(call(db_of(context), {.op = Op::kWaitHealthy, .timeout_ms = timeout}, timeout));
    sqlite3_result_int(context, 1);
    return {};
  });
}

// hql_status() -> JSON; "managed" is the database of this connection, or null
void fn_status(sqlite3_context* context, int, sqlite3_value**) noexcept {
  guarded(context, [&]() -> Status {
    HQL_ASSIGN(json, status_of(db_of(context)));
    const auto info = vfs::connection_info(db_of(context));
    if (info.managed) json["managed"] = info.name;
    give_text(context, json.dump(-1, ' ', false, Json::error_handler_t::replace));
    return {};
  });
}

// hql_is_leader() -> 0/1
void fn_is_leader(sqlite3_context* context, int, sqlite3_value**) noexcept {
  guarded(context, [&]() -> Status {
    HQL_ASSIGN(json, status_of(db_of(context)));
    sqlite3_result_int(context, json["role"] == "leader" ? 1 : 0);
    return {};
  });
}

// hql_leader() -> id or NULL
void fn_leader(sqlite3_context* context, int, sqlite3_value**) noexcept {
  guarded(context, [&]() -> Status {
    HQL_ASSIGN(json, status_of(db_of(context)));
    if (json["leader_id"].is_number()) sqlite3_result_int64(context, json["leader_id"].get<std::int64_t>());
    return {};
  });
}

// hql_debug() -> JSON: build, process and connection, for bug reports
void fn_debug(sqlite3_context* context, int, sqlite3_value**) noexcept {
  guarded(context, [&]() -> Status {
    const auto info = vfs::connection_info(db_of(context));
    Json json = {{"version", HQL_VERSION},
                 {"sqlite_version", sqlite3_libversion()},
                 {"sqlite_source_id", sqlite3_sourceid()},
                 {"threadsafe", sqlite3_threadsafe()},
                 {"pid", static_cast<std::int64_t>(::getpid())},
                 {"compiler", __VERSION__},
                 {"managed", info.managed ? Json(info.name) : Json(nullptr)},
                 {"holds_writer", info.holds_writer},
                 {"last_commit_index", info.last_commit.index.value}};
    const auto status = status_of(db_of(context));
    if (status) json["status"] = *status;
    if (!status) json["status_error"] = base::to_string(status.error());
    give_text(context, json.dump(-1, ' ', false, Json::error_handler_t::replace));
    return {};
  });
}

// hql_last_error() -> text or NULL: the last error of ours on this thread
void fn_last_error(sqlite3_context* context, int, sqlite3_value**) noexcept {
  guarded(context, [&]() -> Status {
    const base::Error error = vfs::last_error();
    if (!error.message.empty()) give_text(context, base::to_string(error));
    return {};
  });
}

// hql_default_vfs(0/1) -> the argument
void fn_default_vfs(sqlite3_context* context, int count, sqlite3_value** values) noexcept {
  guarded(context, [&]() -> Status {
    const Arguments arguments("hql_default_vfs", count, values);
    HQL_ASSIGN(on, arguments.integer(0, "on", 0, 1));
    HQL_TRY(vfs::set_default_vfs(on == 1));
    sqlite3_result_int64(context, on);
    return {};
  });
}

// hql_transfer_leader([id]) -> leader
void fn_transfer_leader(sqlite3_context* context, int count, sqlite3_value** values) noexcept {
  guarded(context, [&]() -> Status {
    const Arguments arguments("hql_transfer_leader", count, values);
    HQL_TRY(arguments.expect(0, 1, "hql_transfer_leader([id])"));
    std::uint64_t to = 0;
    if (arguments.has(0)) {
      HQL_ASSIGN(id, arguments.integer(0, "id", 1, 65535));
      to = static_cast<std::uint64_t>(id);
    }
    return give_number(context, {.op = Op::kTransfer, .number = to, .timeout_ms = kHealthyMs}, kHealthyMs);
  });
}

// hql_last_index() -> Raft index: the last applied one of this node, or of this connection's own commit if that is later
void fn_last_index(sqlite3_context* context, int, sqlite3_value**) noexcept {
  guarded(context, [&]() -> Status {
    HQL_ASSIGN(json, status_of(db_of(context)));
    const auto own = static_cast<std::int64_t>(vfs::connection_info(db_of(context)).last_commit.index.value);
    sqlite3_result_int64(context, std::max(own, json["applied_index"].get<std::int64_t>()));
    return {};
  });
}

// hql_wait_index(i[,ms]) -> i
void fn_wait_index(sqlite3_context* context, int count, sqlite3_value** values) noexcept {
  guarded(context, [&]() -> Status {
    const Arguments arguments("hql_wait_index", count, values);
    HQL_TRY(arguments.expect(1, 2, "hql_wait_index(index[,ms])"));
    HQL_ASSIGN(index, arguments.integer(0, "index", 0, INT64_MAX));
    HQL_ASSIGN(timeout, arguments.milliseconds(1, "ms", kHealthyMs));
    const auto number = static_cast<std::uint64_t>(index);
    HQL_TRY(call(db_of(context), {.op = Op::kWaitIndex, .number = number, .timeout_ms = timeout}, timeout));
    sqlite3_result_int64(context, index);
    return {};
  });
}

// hql_barrier([level]) -> index: waits until this node has applied everything that was acknowledged before the call
void fn_barrier(sqlite3_context* context, int count, sqlite3_value** values) noexcept {
  guarded(context, [&]() -> Status {
    const Arguments arguments("hql_barrier", count, values);
    HQL_TRY(arguments.expect(0, 1, "hql_barrier(['linearizable'])"));
    if (arguments.has(0)) {
      HQL_ASSIGN(level, arguments.text(0, "level"));
      if (level != "linearizable")
        return base::make_error(Code::kArgument, "hql_barrier(): argument 1 (level): \"" + level +
                                                     "\" is not supported; use 'linearizable'");
    }
    const auto timeout = defaults_of(db_of(context)).timeout_ms;
    return give_number(context, {.op = Op::kBarrier, .timeout_ms = timeout}, timeout);
  });
}

// hql_snapshot() -> index: SQLite's own files of this node are durable up to here
void fn_snapshot(sqlite3_context* context, int, sqlite3_value**) noexcept {
  guarded(context, [&] { return give_number(context, {Op::kSnapshot}, kHealthyMs); });
}

// hql_compact([keep]) -> purged index
void fn_compact(sqlite3_context* context, int count, sqlite3_value** values) noexcept {
  guarded(context, [&]() -> Status {
    const Arguments arguments("hql_compact", count, values);
    HQL_TRY(arguments.expect(0, 1, "hql_compact([keep])"));
    std::int64_t keep = 0;
    if (arguments.has(0)) {
      HQL_ASSIGN(given, arguments.integer(0, "keep", 0, INT64_MAX));
      keep = given;
    }
    return give_number(context, {.op = Op::kCompact, .number = static_cast<std::uint64_t>(keep)}, kHealthyMs);
  });
}

// hql_remote('unix:<data_dir>'): this process has no node of its own and uses the one that owns the data dir
void fn_remote(sqlite3_context* context, int count, sqlite3_value** values) noexcept {
  guarded(context, [&]() -> Status {
    const Arguments arguments("hql_remote", count, values);
    HQL_TRY(arguments.expect(1, 1, "hql_remote('unix:<data_dir>')"));
    HQL_ASSIGN(address, arguments.text(0, "address"));
    if (!address.starts_with("unix:"))
      return base::make_error(Code::kArgument,
                              "hql_remote(): \"" + address + "\": expected 'unix:<data_dir>' of a node on this host");
    HQL_TRY(attach_to_owner(address.substr(5)));
    sqlite3_result_int(context, 1);
    return {};
  });
}

constexpr SqlFunction kFunctions[] = {
    {"hql_start", -1, kActs, fn_start},
    {"hql_stop", -1, kActs, fn_stop},
    {"hql_wait_healthy", -1, kActs, fn_wait_healthy},
    {"hql_status", 0, kReads, fn_status},
    {"hql_debug", 0, kReads, fn_debug},
    {"hql_is_leader", 0, kReads, fn_is_leader},
    {"hql_leader", 0, kReads, fn_leader},
    {"hql_last_error", 0, kReads, fn_last_error},
    {"hql_default_vfs", 1, kActs, fn_default_vfs},
    {"hql_transfer_leader", -1, kActs, fn_transfer_leader},
    {"hql_last_index", 0, kReads, fn_last_index},
    {"hql_wait_index", -1, kActs, fn_wait_index},
    {"hql_barrier", -1, kActs, fn_barrier},
    {"hql_snapshot", 0, kActs, fn_snapshot},
    {"hql_compact", -1, kActs, fn_compact},
    {"hql_remote", -1, kActs, fn_remote},
};

}  // namespace

std::span<const SqlFunction> node_functions() { return kFunctions; }

}  // namespace ext

// hiqlite serve: the node as a daemon. It is an ordinary SQLite process that loads the extension and calls hql_start(), so that the
// daemon runs the very code that an application runs. sqlite3.h is included here because this program is the host (docs/ARCHITECTURE.md).
#include <sqlite3.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "base/posix_env.h"
#include "cli/command.h"

namespace cli {
namespace {

// The exit code of an extended SQLite code that the library gave: `primary | (number << 8)` of the table in base/code.h.
int exit_of(int extended) {
  for (int i = 0; i < base::code_count(); ++i)
    if (base::extended_code(base::code_at(i)) == extended) return exit_code(base::code_at(i));
  return kFailed;
}

// One value as text; on failure prints SQLite's message and leaves the exit code in `failed`.
std::string query(sqlite3* db, const std::string& sql, const std::string& parameter, int& failed) {
  sqlite3_stmt* statement = nullptr;
  std::string text;
  failed = kOk;
  int rc = sqlite3_prepare_v2(db, sql.c_str(), -1, &statement, nullptr);
  if (rc == SQLITE_OK && sqlite3_bind_parameter_count(statement) == 1)
    sqlite3_bind_text(statement, 1, parameter.data(), static_cast<int>(parameter.size()), SQLITE_TRANSIENT);
  if (rc == SQLITE_OK) rc = sqlite3_step(statement);
  if (rc == SQLITE_ROW) {
    const auto* value = reinterpret_cast<const char*>(sqlite3_column_text(statement, 0));
    text = value != nullptr ? value : "";
  } else {
    std::fprintf(stderr, "%s\n", sqlite3_errmsg(db));
    failed = exit_of(sqlite3_extended_errcode(db));
  }
  sqlite3_finalize(statement);
  return text;
}

void announce(const nlohmann::json& status, long ready_fd) {
  const auto text = [&](const char* key) { return status.value(key, std::string()); };
  // The port that is really bound (port 0 of a single node) stands in node.json.
  std::string raft_addr = text("raft_addr");
  if (const auto file = base::read_file(base::posix_env(), text("data_dir") + "/node.json", 1 << 16)) {
    const auto json = nlohmann::json::parse(base::text_of(*file), nullptr, false);
    if (json.is_object()) raft_addr = json.value("raft_addr", raft_addr);
  }
  const std::string line = "hiqlite: ready node=" + std::to_string(status.value("node_id", 0)) + " raft=" + raft_addr +
                           " api=" + text("api_addr") + " data_dir=" + text("data_dir") +
                           " pid=" + std::to_string(::getpid()) + "\n";
  std::fputs(line.c_str(), stdout);
  std::fflush(stdout);
  if (ready_fd >= 0 && ::write(static_cast<int>(ready_fd), line.data(), line.size()) < 0)
    std::perror("hiqlite: --ready-fd");
}

}  // namespace

int run_serve(const Parsed& parsed) {
  const long ready_fd = parsed.number("ready-fd", -1, 0, 1 << 20);
  if (parsed.has("data-dir")) ::setenv("HQL_DATA_DIR", parsed.get("data-dir").c_str(), 1);
  const auto config = load_config(parsed);
  if (!config) return report(config.error());

  // Blocked before any thread starts, so that sigwait() below is the only place that sees them.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);

  sqlite3* db = nullptr;
  sqlite3_open(":memory:", &db);
  sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 1, nullptr);
  char* message = nullptr;
  if (sqlite3_load_extension(db, extension_path().c_str(), nullptr, &message) != SQLITE_OK) {
    std::fprintf(stderr, "hiqlite: cannot load %s: %s\n", extension_path().c_str(), message != nullptr ? message : "");
    return kFailed;
  }
  int failed = kOk;
  // What was found above is found again: without -c by the same rules.
  query(db, parsed.has("config") ? "SELECT hql_start(?1)" : "SELECT hql_start()", parsed.get("config"), failed);
  if (failed != kOk) return failed;
  const auto status = nlohmann::json::parse(query(db, "SELECT hql_status()", "", failed), nullptr, false);
  if (failed != kOk || !status.is_object()) return failed != kOk ? failed : int{kFailed};
  announce(status, ready_fd);

  int signal_number = 0;
  ::sigwait(&signals, &signal_number);
  query(db, "SELECT hql_stop()", "", failed);
  sqlite3_close(db);
  return failed;
}

}  // namespace cli

// The dispatch of service.h.
#include "ext/service.h"

#include <memory>
#include <nlohmann/json.hpp>

#include "base/sqlite.h"
#include "pages/tx.h"

namespace ext {
namespace {

using base::Bytes;
using base::Result;

constexpr std::uint32_t kTimeoutMsMax = 24U * 3600 * 1000;

base::Micros deadline_in(node::Node& node, std::uint32_t timeout_ms) {
  return node.now() + base::Micros{std::min(timeout_ms, kTimeoutMsMax)} * base::kMillisecond;
}

Bytes text_bytes(const std::string& text) { return base::copy_of(base::view_of(text)); }

template <class T>
std::function<void(Result<T>)> numbered(Answered done) {
  return [done = std::move(done)](Result<T> result) {
    if (!result) return done(result.error());
    done(encode_number(result->value));
  };
}

std::function<void(base::Status)> plain(Answered done) {
  return [done = std::move(done)](const base::Status& status) {
    if (!status) return done(status.error());
    done(Bytes());
  };
}

std::string events_json(const std::vector<node::Event>& events) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const auto& event : events)
    rows.push_back({{"sequence", event.sequence},
                    {"time_ms", event.wall_time / 1000},
                    {"kind", event.kind},
                    {"text", event.text}});
  return rows.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

std::string config_json(const node::Config& config) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const auto& row : node::describe(config))
    rows.push_back({{"key", row.key}, {"value", row.value}, {"origin", row.origin}, {"description", row.description}});
  return rows.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

struct CloseDatabase {
  void operator()(sqlite3* each) const { sqlite3_close(each); }
};

// Whether `request`, run on an empty database, would leave it empty: it only reads, or fails before it writes. Only compiled, not run.
bool leaves_empty(const exec::Request& request) {
  sqlite3* raw = nullptr;
  const int opened = sqlite3_open_v2(":memory:", &raw, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, nullptr);
  const std::unique_ptr<sqlite3, CloseDatabase> scratch(raw);
  if (opened != SQLITE_OK) return false;
  for (const exec::Statement& each : request.statements) {
    const char* rest = each.sql.c_str();
    while (*rest != '\0') {
      sqlite3_stmt* statement = nullptr;
      const int rc = sqlite3_prepare_v2(raw, rest, -1, &statement, &rest);
      const bool writes = rc == SQLITE_OK && statement != nullptr && sqlite3_stmt_readonly(statement) == 0;
      sqlite3_finalize(statement);
      if (writes) return false;
      if (rc != SQLITE_OK) return true;
    }
  }
  return true;
}

// Whether `call` names a database that is not here and would not be made by a write: a name that is misspelt would stay for ever.
bool reads_the_unknown(node::Node& node, const Call& call) {
  const std::string& name = call.text;
  if (name == node.config().filename_db || !pages::valid_database_name(name) || node.database_id(name)) return false;
  const auto request = exec::decode_request(call.request);
  return request && leaves_empty(*request);
}

void run(node::Node& node, const std::string& database, Bytes request, base::Micros deadline, Answered done) {
  node.execute(database, std::move(request), deadline, [done = std::move(done)](Result<node::ExecuteReply> reply) {
    if (!reply) return done(reply.error());
    done(encode(Executed{reply->committed.index, reply->rows_lost, std::move(reply->body)}));
  });
}

// A database is created by its first write, never by a read.
void execute(node::Node& node, Call call, base::Micros deadline, Answered done) {
  if (call.text.empty()) call.text = node.config().filename_db;
  if (!reads_the_unknown(node, call)) return run(node, call.text, std::move(call.request), deadline, std::move(done));
  // It may have been created a moment ago on another node.
  node.barrier(deadline, [&node, call = std::move(call), deadline,
                          done = std::move(done)](const Result<base::Index>& index) mutable {
    if (!index) return done(index.error());
    if (!node.database_id(call.text))
      return done(
          base::make_error(base::Code::kNotFound,
                           "no database \"" + call.text + "\"; hql_databases lists them, the first write creates one"));
    run(node, call.text, std::move(call.request), deadline, std::move(done));
  });
}

}  // namespace

void serve(node::Node& node, base::ByteView request, Answered done) {
  auto call = decode_call(request);
  if (!call) return done(call.error());
  const base::Micros deadline = deadline_in(node, call->timeout_ms);
  switch (call->op) {
    case Op::kStatus:
      return done(text_bytes(status_json(node.status(), node.config())));
    case Op::kExecute:
      return execute(node, std::move(*call), deadline, std::move(done));
    case Op::kWaitHealthy:
      return node.wait_healthy(deadline, plain(std::move(done)));
    case Op::kTransfer:
      return node.transfer_leader(base::NodeId(call->number), deadline, numbered<base::NodeId>(std::move(done)));
    case Op::kDrop:
      return node.drop_database(call->text, deadline, plain(std::move(done)));
    case Op::kBarrier:
      return node.barrier(deadline, numbered<base::Index>(std::move(done)));
    case Op::kWaitIndex:
      return node.wait_applied(base::Index(call->number), deadline, plain(std::move(done)));
    case Op::kSnapshot:
      return node.snapshot(numbered<base::Index>(std::move(done)));
    case Op::kCompact:
      return node.compact(call->number, numbered<base::Index>(std::move(done)));
    case Op::kBootstrap:
      return node.force_bootstrap(plain(std::move(done)));
    case Op::kRaft:
      return done(text_bytes(raft_json(node.raft_status())));
    case Op::kConfig:
      return done(text_bytes(config_json(node.config())));
    case Op::kEvents:
      return done(text_bytes(events_json(node.events(call->number))));
  }
}

}  // namespace ext

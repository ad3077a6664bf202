// The dispatch of service.h.
#include "ext/service.h"

#include <nlohmann/json.hpp>

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

}  // namespace

void serve(node::Node& node, base::ByteView request, Answered done) {
  auto call = decode_call(request);
  if (!call) return done(call.error());
  const base::Micros deadline = deadline_in(node, call->timeout_ms);
  switch (call->op) {
    case Op::kStatus:
      return done(text_bytes(status_json(node.status(), node.config())));
    case Op::kExecute:
      return node.execute(call->text.empty() ? node.config().filename_db : call->text, std::move(call->request),
                          deadline, [done = std::move(done)](Result<node::ExecuteReply> reply) {
                            if (!reply) return done(reply.error());
                            done(encode(Executed{reply->committed.index, reply->rows_lost, std::move(reply->body)}));
                          });
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

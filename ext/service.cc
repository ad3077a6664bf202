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

Bytes number_bytes(std::uint64_t number) {
  base::Writer out;
  out.u64(number);
  return out.take();
}

template <class T>
std::function<void(Result<T>)> numbered(Answered done) {
  return [done = std::move(done)](Result<T> result) {
    if (!result) return done(result.error());
    done(number_bytes(result->value));
  };
}

std::function<void(base::Status)> plain(Answered done) {
  return [done = std::move(done)](base::Status status) {
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
  base::Reader in(request);
  const std::uint8_t op = in.u8();
  const auto malformed = [&] {
    done(base::make_error(base::Code::kProtocol, "malformed request (operation " + std::to_string(op) +
                                                     "): use the program and the library of one version"));
  };
  if (!in.ok() || op == 0 || op > kOpLast) return malformed();
  switch (static_cast<Op>(op)) {
    case Op::kStatus:
      return done(text_bytes(status_json(node.status(), node.config())));
    case Op::kExecute: {
      const std::string database = in.text();
      const std::uint32_t timeout_ms = in.u32();
      Bytes body = base::copy_of(in.blob());
      if (!in.at_end()) return malformed();
      node.execute(database, std::move(body), deadline_in(node, timeout_ms),
                   [done = std::move(done)](Result<node::ExecuteReply> reply) {
                     if (!reply) return done(reply.error());
                     base::Writer out;
                     out.u64(reply->committed.index.value);
                     out.u8(reply->rows_lost ? 1 : 0);
                     out.blob(reply->body);
                     done(out.take());
                   });
      return;
    }
    case Op::kWaitHealthy: {
      const std::uint32_t timeout_ms = in.u32();
      if (!in.at_end()) return malformed();
      return node.wait_healthy(deadline_in(node, timeout_ms), plain(std::move(done)));
    }
    case Op::kTransfer: {
      const base::NodeId to(in.u64());
      const std::uint32_t timeout_ms = in.u32();
      if (!in.at_end()) return malformed();
      return node.transfer_leader(to, deadline_in(node, timeout_ms), numbered<base::NodeId>(std::move(done)));
    }
    case Op::kDrop: {
      const std::string name = in.text();
      const std::uint32_t timeout_ms = in.u32();
      if (!in.at_end()) return malformed();
      return node.drop_database(name, deadline_in(node, timeout_ms), plain(std::move(done)));
    }
    case Op::kBarrier: {
      const std::uint32_t timeout_ms = in.u32();
      if (!in.at_end()) return malformed();
      return node.barrier(deadline_in(node, timeout_ms), numbered<base::Index>(std::move(done)));
    }
    case Op::kWaitIndex: {
      const base::Index index(in.u64());
      const std::uint32_t timeout_ms = in.u32();
      if (!in.at_end()) return malformed();
      return node.wait_applied(index, deadline_in(node, timeout_ms), plain(std::move(done)));
    }
    case Op::kSnapshot:
      return node.snapshot(numbered<base::Index>(std::move(done)));
    case Op::kCompact: {
      const std::uint64_t keep = in.u64();
      if (!in.at_end()) return malformed();
      return node.compact(keep, numbered<base::Index>(std::move(done)));
    }
    case Op::kBootstrap:
      return node.force_bootstrap(plain(std::move(done)));
    case Op::kRaft:
      return done(text_bytes(raft_json(node.raft_status())));
    case Op::kConfig:
      return done(text_bytes(config_json(node.config())));
    case Op::kEvents: {
      const std::uint64_t since = in.u64();
      if (!in.at_end()) return malformed();
      return done(text_bytes(events_json(node.events(since))));
    }
  }
}

}  // namespace ext

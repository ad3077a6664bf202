// status, exec, bootstrap: requests to the owner of the data directory over <data_dir>/sock (ext/call.h).
#include <poll.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/posix_env.h"
#include "cli/command.h"
#include "exec/request.h"
#include "ext/call.h"
#include "net/local_client.h"

namespace cli {
namespace {

using base::Bytes;
using base::Result;
using Json = nlohmann::ordered_json;

constexpr long kDefaultTimeoutMs = 10'000;
constexpr long kTimeoutMsMax = 24L * 3600 * 1000;
constexpr long kGraceMs = 5'000;
constexpr int kAskAgainMs = 20;

Result<Bytes> ask(const node::Config& config, const ext::Call& call, long timeout_ms) {
  HQL_ASSIGN(client, net::LocalClient::connect(config.data_dir + "/sock", timeout_ms + kGraceMs));
  return client->call(encode(call), timeout_ms + kGraceMs);
}

// Until the node is healthy. `serve` may just have been started beside: one that is not there yet is waited for as well.
Result<Bytes> wait_healthy(const node::Config& config, long timeout_ms) {
  const auto now = [] { return base::posix_env().now(); };
  const base::Micros deadline = now() + timeout_ms * base::kMillisecond;
  for (;;) {
    const long left_ms = std::max<long>(0, static_cast<long>((deadline - now()) / base::kMillisecond));
    const ext::Call call{.op = ext::Op::kWaitHealthy, .timeout_ms = static_cast<std::uint32_t>(left_ms)};
    auto reply = ask(config, call, left_ms);
    if (reply || reply.error().code != base::Code::kNotStarted || left_ms == 0) return reply;
    ::poll(nullptr, 0, kAskAgainMs);
  }
}

std::string shown(const Json& value) { return value.is_string() ? value.get<std::string>() : value.dump(); }

void print_rows(const Json& rows, const std::vector<const char*>& columns) {
  std::vector<std::size_t> widths;
  widths.reserve(columns.size());
  for (const char* column : columns) widths.push_back(std::string(column).size());
  for (const auto& row : rows)
    for (std::size_t i = 0; i < columns.size(); ++i)
      widths[i] = std::max(widths[i], shown(row.value(columns[i], Json())).size());
  const auto line = [&](const auto& cell) {
    for (std::size_t i = 0; i < columns.size(); ++i)
      std::printf("%s%-*s", i > 0 ? "  " : "", static_cast<int>(widths[i]), cell(i).c_str());
    std::printf("\n");
  };
  line([&](std::size_t i) { return std::string(columns[i]); });
  for (const auto& row : rows) line([&](std::size_t i) { return shown(row.value(columns[i], Json())); });
}

void print_status(const Json& status) {
  std::printf("node %s: %s, %s, term %s, leader %s\n", shown(status["node_id"]).c_str(), shown(status["state"]).c_str(),
              shown(status["role"]).c_str(), shown(status["term"]).c_str(), shown(status["leader_id"]).c_str());
  std::printf("commit %s, durable %s, applied %s, log %s bytes, pid %s, data_dir %s\n",
              shown(status["commit_index"]).c_str(), shown(status["durable_index"]).c_str(),
              shown(status["applied_index"]).c_str(), shown(status["log_bytes"]).c_str(), shown(status["pid"]).c_str(),
              shown(status["data_dir"]).c_str());
  std::printf("log_sync %s: acknowledged means %s\n", shown(status["log_sync"]).c_str(),
              shown(status["acknowledged"]).c_str());
  if (!shown(status["last_error"]).empty()) std::printf("last error: %s\n", shown(status["last_error"]).c_str());
  std::printf("\n");
  print_rows(status["members"], {"id", "role", "raft_addr", "api_addr", "reachable", "match_index"});
  std::printf("\n");
  print_rows(status["databases"], {"id", "name", "applied_index", "digest", "page_count", "state"});
}

}  // namespace

int run_status(const Parsed& parsed) {
  const auto config = load_config(parsed);
  if (!config) return report(config.error());
  const long timeout = parsed.number("timeout", kDefaultTimeoutMs, 0, kTimeoutMsMax);
  if (parsed.has("wait")) {
    if (parsed.get("wait") != "healthy")
      return usage_error(*parsed.command, "--wait \"" + parsed.get("wait") + "\": expected \"healthy\"");
    const auto healthy = wait_healthy(*config, timeout);
    if (!healthy) return report(healthy.error());
  }
  const auto reply = ask(*config, {ext::Op::kStatus}, timeout);
  if (!reply) return report(reply.error());
  const Json status = Json::parse(base::text_of(*reply), nullptr, false);
  if (!status.is_object())
    return report(base::make_error(base::Code::kProtocol, "the node's status is not a JSON object"));
  if (parsed.has("field")) {
    const std::string name = parsed.get("field");
    if (!status.contains(name)) {
      std::string all;
      for (const auto& [key, value] : status.items()) all += (all.empty() ? "" : ", ") + key;
      return usage_error(*parsed.command, "--field \"" + name + "\": known are " + all);
    }
    std::printf("%s\n", shown(status[name]).c_str());
  } else if (parsed.has("json")) {
    std::printf("%s\n", status.dump(2, ' ', false, Json::error_handler_t::replace).c_str());
  } else {
    print_status(status);
  }
  return kOk;
}

int run_exec(const Parsed& parsed) {
  if (parsed.words.size() != 1) return usage_error(*parsed.command, "one SQL statement is wanted");
  const auto config = load_config(parsed);
  if (!config) return report(config.error());
  const long timeout = parsed.number("timeout", config->commit_timeout_ms, 1, kTimeoutMsMax);
  const auto kind = parsed.has("json") ? exec::RequestKind::kReturning : exec::RequestKind::kExecute;
  const exec::Request request{kind, 0, 0, {{parsed.words[0], {}}}};
  const ext::Call execute{.op = ext::Op::kExecute,
                          .text = parsed.get("db", config->filename_db),
                          .timeout_ms = static_cast<std::uint32_t>(timeout),
                          .request = exec::encode(request)};
  const auto reply = ask(*config, execute, timeout);
  if (!reply) return report(reply.error());
  const auto answer = ext::answer_in(*reply, request);
  if (!answer) return report(answer.error());
  if (parsed.has("json")) {
    std::printf("%s\n", answer->json.c_str());
  } else {
    std::printf("%lld\n", static_cast<long long>(answer->rows_changed));
  }
  return kOk;
}

int run_bootstrap(const Parsed& parsed) {
  if (!parsed.has("force"))
    return usage_error(
        *parsed.command,
        "nodes form their cluster by themselves once all of them run; --force forms it without the missing ones");
  const auto config = load_config(parsed);
  if (!config) return report(config.error());
  const auto reply = ask(*config, {ext::Op::kBootstrap}, kDefaultTimeoutMs);
  if (!reply) return report(reply.error());
  // The node has begun; that it is done is another matter when nodes that are here refuse.
  const auto healthy = wait_healthy(*config, kDefaultTimeoutMs);
  if (!healthy) return report(healthy.error());
  std::printf("cluster formed\n");
  return kOk;
}

}  // namespace cli

// Fuzz target: the node's configuration (node/config.h). An error names what is wrong: the place in the file or the key. What is accepted keeps
// the ranges that the descriptions promise, and written out again, as TOML and as JSON, gives the same configuration.
//
// input: the text of the file; behind a zero byte, lines KEY=VALUE of the environment
#include "node/config.h"

#include <map>

#include "tests/fuzz/fuzz.h"

namespace {

constexpr char kSource[] = "fuzz.toml";

bool names_the_place(const std::string& message) {
  if (message.rfind("fuzz.toml", 0) != 0 && message.rfind("environment: HQL_", 0) != 0) return false;
  if (message.find("unknown key \"") != std::string::npos || message.find("not a JSON object") != std::string::npos)
    return true;
  const std::string place = "fuzz.toml:";
  if (message.size() > place.size() && message[place.size()] >= '0' && message[place.size()] <= '9')
    return true;  // line:column
  std::string folded = message;
  for (char& c : folded)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  for (const node::ConfigRow& row : node::describe(node::Config{}))
    if (folded.find(row.key) != std::string::npos) return true;
  return false;
}

std::string write(const node::Config& config, const char* equals, const char* separator, const char* quote) {
  std::string nodes;
  for (const node::NodeAddress& each : config.nodes)
    nodes += (nodes.empty() ? "" : ", ") +
             node::toml_string(std::to_string(each.id.value) + " " + each.raft_addr + " " + each.api_addr);
  const std::vector<std::pair<std::string, std::string>> rows = {
      {"node_id", std::to_string(config.node_id.value)},
      {"nodes", "[" + nodes + "]"},
      {"data_dir", node::toml_string(config.data_dir)},
      {"filename_db", node::toml_string(config.filename_db)},
      {"secret_raft", node::toml_string(config.secret_raft)},
      {"secret_api", node::toml_string(config.secret_api)},
      {"log_sync", node::toml_string(config.log_sync)},
      {"wal_size", std::to_string(config.wal_size)},
      {"listen_addr_raft", node::toml_string(config.listen_addr_raft)},
      {"listen_addr_api", node::toml_string(config.listen_addr_api)},
      {"election_timeout_ms", std::to_string(config.election_timeout_ms)},
      {"heartbeat_ms", std::to_string(config.heartbeat_ms)},
      {"commit_timeout_ms", std::to_string(config.commit_timeout_ms)},
      {"statement_timeout_ms", std::to_string(config.statement_timeout_ms)},
      {"transaction_timeout_ms", std::to_string(config.transaction_timeout_ms)},
      {"log_level", node::toml_string(config.log_level)}};
  FUZZ_REQUIRE(rows.size() == node::describe(config).size());  // a new key: write it here too
  std::string out;
  for (const auto& [key, value] : rows) out += (out.empty() ? "" : separator) + (quote + key + quote) + equals + value;
  return out;
}

bool same(const node::Config& a, const node::Config& b) { return write(a, "=", "\n", "") == write(b, "=", "\n", ""); }

// host:port with a port that is a number.
bool is_address(const std::string& address) {
  const std::size_t colon = address.rfind(':');
  if (colon == std::string::npos || colon == 0 || colon + 1 == address.size()) return false;
  return address.find_first_not_of("0123456789", colon + 1) == std::string::npos &&
         std::stoul(address.substr(colon + 1)) <= 65535;
}

void check_ranges(const node::Config& config) {
  FUZZ_REQUIRE(config.node_id.value >= 1 && config.node_id.value <= 65535);
  FUZZ_REQUIRE(config.nodes.empty() || config.self() != nullptr);
  for (const node::NodeAddress& each : config.nodes)
    FUZZ_REQUIRE(is_address(each.raft_addr) && is_address(each.api_addr));
  for (const std::string& address : {config.listen_addr_raft, config.listen_addr_api})
    FUZZ_REQUIRE(address.empty() || is_address(address));
  FUZZ_REQUIRE(!config.data_dir.empty());
  FUZZ_REQUIRE(config.secret_raft.empty() || config.secret_raft.size() >= 16);
  FUZZ_REQUIRE(config.wal_size >= 65536 && config.wal_size <= 1 << 30 && config.wal_size % 4096 == 0);
  FUZZ_REQUIRE(config.election_timeout_ms >= 50 && config.election_timeout_ms <= 60000);
  FUZZ_REQUIRE(config.heartbeat_ms >= 5 && config.heartbeat_ms * 3 <= config.election_timeout_ms);
  for (const int timeout : {config.commit_timeout_ms, config.statement_timeout_ms})
    FUZZ_REQUIRE(timeout >= 10 && timeout <= 3600000);
  const int transaction_timeout = config.transaction_timeout_ms;
  FUZZ_REQUIRE(transaction_timeout == 0 || (transaction_timeout >= 10 && transaction_timeout <= 3600000));
}

}  // namespace

void fuzz::run(base::ByteView input) {
  const std::string text(base::text_of(input));
  const std::size_t zero = text.find('\0');
  std::map<std::string, std::string> variables;
  for (std::size_t at = zero; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at + 1), text.size());
    const std::string line = text.substr(at + 1, end - at - 1);
    if (const std::size_t equals = line.find('='); equals != std::string::npos)
      variables["HQL_" + line.substr(0, equals)] = line.substr(equals + 1);
    at = end;
  }
  const auto environment = [&](const std::string& name) -> std::optional<std::string> {
    const auto found = variables.find(name);
    if (found == variables.end()) return std::nullopt;
    return found->second;
  };
  const auto config = node::parse_config(text.substr(0, zero), kSource, environment);
  if (!config) {
    FUZZ_REQUIRE(config.error().code == base::Code::kConfig);
    if (!names_the_place(config.error().message))
      fail(__FILE__, __LINE__, "the error names its place", config.error().message);
    return;
  }
  accepted();
  FUZZ_CANARY(config->heartbeat_ms < 100 && config->nodes.empty());
  check_ranges(*config);
  for (const node::ConfigRow& row : node::describe(*config))
    FUZZ_REQUIRE(row.key.rfind("secret_", 0) != 0 || row.value.empty() || row.value == "***");
  // The environment gives bytes, a file gives UTF-8.
  if (!variables.empty()) return;
  const auto none = [](const std::string&) -> std::optional<std::string> { return std::nullopt; };
  const auto toml = node::parse_config(write(*config, " = ", "\n", ""), kSource, none);
  FUZZ_REQUIRE_OK(toml);
  FUZZ_REQUIRE(same(*config, *toml));
  const auto json = node::parse_config("{" + write(*config, ":", ",", "\"") + "}", kSource, none);
  FUZZ_REQUIRE_OK(json);
  FUZZ_REQUIRE(same(*config, *json));
}

std::vector<fuzz::Seed> fuzz::seeds() {
  const auto bytes = [](std::string_view text) { return base::copy_of(base::view_of(text)); };
  using std::string_view_literals::operator""sv;
  return {
      {"valid-generated", bytes(node::generate_config(2, 3, "./node2", 8100, "0123456789abcdefghij"))},
      {"valid-short", bytes("node_id = 1\nheartbeat_ms = 100\nwal_size = \"64MiB\"\n")},
      {"valid-section",
       bytes("[hiqlite]\nnode_id = 2\nnodes = [\"1 a:1 a:2\", \"2 b:1 b:2\"]\nlog_level = \"info\"\n")},
      {"valid-json",
       bytes(
           R"({"node_id": 1, "nodes": ["1 [::1]:1 h:2"], "secret_api": "abcdefghijklmnop", "commit_timeout_ms": 50})")},
      {"valid-environment", bytes("node_id = 1\n\0NODES=1 a:1 a:2,2 b:1 b:2\nHEARTBEAT_MS=20"sv)},
      {"unknown-key", bytes("node_idd = 1\n")},
      {"syntax", bytes("node_id = = 1\n")},
      {"not-an-address", bytes("nodes = [\"1 a:99999 b\"]\n")}};
}

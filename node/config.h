// The node's configuration: TOML keys at the top or under [hiqlite], each overridable by HQL_<KEY> (DESIGN section 13, SQL.md).
// Pure parsing: no file is read here. Value types.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"

namespace node {

struct NodeAddress {
  base::NodeId id;
  std::string raft_addr;  // host:port
  std::string api_addr;   // host:port
};

struct Config {
  base::NodeId node_id{1};
  std::vector<NodeAddress> nodes;  // empty: the embedded single node, no TCP port
  std::string data_dir = "./hiqlite-data";
  std::string filename_db = "hiqlite.db";  // database of hql_* calls on an unmanaged connection
  std::string secret_raft;
  std::string secret_api;
  std::string log_sync = "immediate";                // or interval_<ms>, 1..60000
  std::uint64_t wal_size = std::uint64_t{64} << 20;  // bytes of a log segment
  std::string listen_addr_raft;                      // default: the own address in `nodes`
  std::string listen_addr_api;
  int election_timeout_ms = 1000;
  int heartbeat_ms = 100;
  int commit_timeout_ms = 10000;
  int statement_timeout_ms = 30000;
  int transaction_timeout_ms = 60000;  // 0: no limit
  std::string log_level = "warn";      // error | warn | info | debug
  std::string source;                  // file name for messages, or "(defaults)"
  std::set<std::string> overridden;    // keys that HQL_<KEY> of the environment gave

  // 0: a write counts when it is on the disk. Else it counts when the operating system has it, and is synced so long after.
  [[nodiscard]] base::Micros sync_interval() const;
  // What an acknowledged write can rely on, for people.
  [[nodiscard]] std::string acknowledged_means() const;
  [[nodiscard]] const NodeAddress* self() const;
  // majority-less embedded node: no peers
  [[nodiscard]] bool embedded() const { return nodes.size() <= 1; }
  // A node that is in `nodes`, alone or not, listens on its Raft address.
  [[nodiscard]] bool listens() const { return !nodes.empty(); }
};

using Environment = std::function<std::optional<std::string>(const std::string& name)>;

// `text` is TOML, or JSON when it begins with '{'. `source` is named in errors: `node1.toml: nodes[2] "3 host:8100": expected ...`.
// kConfig: unknown keys (with a suggestion), wrong types, values out of range, duplicate ids, own id missing in nodes, weak secrets.
base::Result<Config> parse_config(const std::string& text, const std::string& source, const Environment& environment);
// Every key with its value as text, secrets as "***"; for hql_config and check-config.
struct ConfigRow {
  std::string key;
  std::string value;
  std::string origin;  // default | <source> | environment
  std::string description;
};
std::vector<ConfigRow> describe(const Config& config);
// `text` as a basic string of TOML, with its quotes; JSON reads it as the same text.
std::string toml_string(const std::string& text);
// A commented TOML file for node `id` of a cluster of `count` nodes on this host from `first_port` (generate-config).
std::string generate_config(int id, int count, const std::string& data_dir, int first_port, const std::string& secret);

}  // namespace node

// Parsing of the configuration: one table of keys drives TOML, JSON, the environment, hql_config and the error messages.
// Called at start-up on the caller's thread. toml++ and nlohmann/json read the syntax; every rule about values stands here.
#include "node/config.h"

#define TOML_EXCEPTIONS 0
#define TOML_HEADER_ONLY 1
#define TOML_ENABLE_FORMATTERS 0
// toml++ 3.3 asserts before it reports some syntax errors ("[" and a control byte): a file must not end the host's process.
// With NDEBUG the same conditions would become promises to the compiler.
#undef NDEBUG
#define TOML_ASSERT(condition) static_assert(true)
#include <toml++/toml.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <variant>

#include "pages/tx.h"

namespace node {
namespace {

using base::Code;
using base::Result;
using base::Status;

// A value as the file gives it, before its key says what it must be. The list is a type of its own for the reason at exec::Blob.
struct List {
  std::vector<std::string> items;
};
using Raw = std::variant<std::string, std::int64_t, List>;

struct Context {
  std::string source;  // file or environment variable
  std::string key;
  [[nodiscard]] base::Error error(const std::string& text) const {
    return base::make_error(Code::kConfig, source + ": " + key + ": " + text);
  }
};

Result<std::int64_t> number(const Context& at, const Raw& raw, std::int64_t low, std::int64_t high) {
  std::int64_t value = 0;
  if (const auto* text = std::get_if<std::string>(&raw)) {
    const auto [end, ec] = std::from_chars(text->data(), text->data() + text->size(), value);
    if (ec != std::errc() || end != text->data() + text->size())
      return at.error("\"" + *text + "\" is not a whole number");
  } else if (const auto* integer = std::get_if<std::int64_t>(&raw)) {
    value = *integer;
  } else {
    return at.error("expected a whole number, got a list");
  }
  if (value < low || value > high)
    return at.error(std::to_string(value) + " is outside " + std::to_string(low) + ".." + std::to_string(high));
  return value;
}

Result<std::string> text(const Context& at, const Raw& raw) {
  if (const auto* value = std::get_if<std::string>(&raw)) return *value;
  if (const auto* integer = std::get_if<std::int64_t>(&raw)) return std::to_string(*integer);
  return at.error("expected a string, got a list");
}

Result<std::string> one_of(const Context& at, const Raw& raw, const std::vector<std::string>& words) {
  HQL_ASSIGN(value, text(at, raw));
  if (std::find(words.begin(), words.end(), value) != words.end()) return value;
  std::string all;
  for (const auto& word : words) all += (all.empty() ? "" : ", ") + word;
  return at.error("\"" + value + "\" is none of: " + all);
}

// The port of "host:port" or "[IPv6]:port"; none: the text is something else.
std::optional<std::uint16_t> port_of(const std::string& address) {
  const auto colon = address.rfind(':');
  if (colon == std::string::npos || colon == 0) return std::nullopt;
  const std::string host = address.substr(0, colon);
  const bool brackets = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (!brackets && host.find_first_of(":[]") != std::string::npos) return std::nullopt;
  std::uint16_t port = 0;
  const char* const last = address.data() + address.size();
  const auto [end, ec] = std::from_chars(address.data() + colon + 1, last, port);
  return ec == std::errc() && end == last ? std::optional(port) : std::nullopt;
}

Status host_and_port(const Context& at, const std::string& address) {
  if (port_of(address)) return {};
  return at.error("\"" + address + "\": expected \"host:port\", for example \"127.0.0.1:8100\" or \"[::1]:8100\"");
}

Result<std::string> secret(const Context& at, const Raw& raw) {
  HQL_ASSIGN(value, text(at, raw));
  constexpr std::size_t kSecretLengthMin = 16;  // 128 bits if every character carries 8; `generate-config` makes 256
  const std::set<char> distinct(value.begin(), value.end());
  if (!value.empty() && (value.size() < kSecretLengthMin || distinct.size() < 6))
    return at.error(
        "the secret is too weak: use at least 16 random characters, for example the output of `openssl rand -hex 32`");
  return value;
}

// A byte count: a number, or text such as "64MiB", "16 MB".
Result<std::int64_t> byte_count(const Context& at, const Raw& raw, std::int64_t low, std::int64_t high) {
  const auto* given = std::get_if<std::string>(&raw);
  if (given == nullptr) return number(at, raw, low, high);
  std::int64_t value = 0;
  const auto [end, ec] = std::from_chars(given->data(), given->data() + given->size(), value);
  std::string unit(end, given->data() + given->size());
  unit.erase(std::remove(unit.begin(), unit.end(), ' '), unit.end());
  std::transform(unit.begin(), unit.end(), unit.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  static const std::map<std::string, int> kShift = {{"", 0},     {"b", 0},   {"k", 10},  {"kb", 10},
                                                    {"kib", 10}, {"m", 20},  {"mb", 20}, {"mib", 20},
                                                    {"g", 30},   {"gb", 30}, {"gib", 30}};
  const auto shift = kShift.find(unit);
  if (ec != std::errc() || shift == kShift.end() || value < 0 || value > (std::int64_t{1} << 32))
    return at.error("\"" + *given + "\" is not a size: write bytes or for example \"64MiB\"");
  return number(at, Raw(value << shift->second), low, high);
}

Result<std::vector<NodeAddress>> node_list(const Context& at, const Raw& raw) {
  std::vector<std::string> lines;
  if (const auto* list = std::get_if<List>(&raw)) {
    lines = list->items;
  } else if (const auto* joined = std::get_if<std::string>(&raw)) {  // the environment: one node per line or comma
    std::string line;
    for (const char c : *joined + "\n") {
      if (c != '\n' && c != ',') {
        line += c;
      } else if (line.find_first_not_of(" \t\r") != std::string::npos) {
        lines.push_back(line);
        line.clear();
      } else {
        line.clear();
      }
    }
  } else {
    return at.error("expected a list of strings");
  }
  std::vector<NodeAddress> nodes;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const Context here{at.source, at.key + "[" + std::to_string(i) + "] \"" + lines[i] + "\""};
    std::vector<std::string> words;
    std::string word;
    for (const char c : lines[i] + " ") {
      if (c != ' ' && c != '\t') {
        word += c;
      } else if (!word.empty()) {
        words.push_back(word);
        word.clear();
      }
    }
    std::uint64_t id = 0;
    if (!words.empty()) {
      const auto& digits = words[0];
      const auto [end, ec] = std::from_chars(digits.data(), digits.data() + digits.size(), id);
      if (ec != std::errc() || end != digits.data() + digits.size()) id = 0;
    }
    if (words.size() != 3 || id == 0 || id > 65535) return here.error("expected \"id raft_host:port api_host:port\"");
    HQL_TRY(host_and_port(here, words[1]));
    HQL_TRY(host_and_port(here, words[2]));
    for (const auto& other : nodes) {
      if (other.id.value == id) return here.error("node " + words[0] + " is listed twice");
      if (other.raft_addr == words[1])
        return here.error("node " + std::to_string(other.id.value) + " has the same address");
    }
    nodes.push_back({base::NodeId(id), words[1], words[2]});
  }
  return nodes;
}

Status set_int(const Context& at, const Raw& raw, std::int64_t low, std::int64_t high, int& out) {
  HQL_ASSIGN(value, number(at, raw, low, high));
  out = static_cast<int>(value);
  return {};
}
Status set_text(const Context& at, const Raw& raw, std::string& out) {
  HQL_ASSIGN(value, text(at, raw));
  out = value;
  return {};
}
Status set_address(const Context& at, const Raw& raw, std::string& out) {
  HQL_TRY(set_text(at, raw, out));
  return out.empty() ? Status() : host_and_port(at, out);
}

// Of "interval_<ms>", within its range; 0: it is something else.
base::Micros interval_of(const std::string& value) {
  constexpr std::string_view kPrefix = "interval_";
  constexpr int kMillisecondsMax = 60000;
  if (value.compare(0, kPrefix.size(), kPrefix) != 0) return 0;
  const char* const end = value.data() + value.size();
  int milliseconds = 0;
  const auto read = std::from_chars(value.data() + kPrefix.size(), end, milliseconds);
  if (read.ec != std::errc() || read.ptr != end || milliseconds < 1 || milliseconds > kMillisecondsMax) return 0;
  return milliseconds * base::kMillisecond;
}

struct Key {
  const char* name;
  const char* description;
  Status (*set)(const Context&, const Raw&, Config&);
  std::string (*get)(const Config&);
};

std::string join_nodes(const Config& config) {
  std::string all;
  for (const auto& node : config.nodes)
    all += (all.empty() ? "" : ", ") + std::to_string(node.id.value) + " " + node.raft_addr + " " + node.api_addr;
  return all;
}
std::string hidden(const std::string& secret_text) { return secret_text.empty() ? "" : "***"; }

const Key kKeys[] = {
    {"node_id", "this node's number in `nodes`, 1..65535",
     [](const Context& at, const Raw& raw, Config& c) -> Status {
       HQL_ASSIGN(id, number(at, raw, 1, 65535));
       c.node_id = base::NodeId(static_cast<std::uint64_t>(id));
       return {};
     },
     [](const Config& c) { return std::to_string(c.node_id.value); }},
    {"nodes", "all nodes, the same list on each: [\"id raft_host:port api_host:port\", ...]; empty: one embedded node",
     [](const Context& at, const Raw& raw, Config& c) -> Status {
       HQL_ASSIGN(nodes, node_list(at, raw));
       c.nodes = nodes;
       return {};
     },
     join_nodes},
    {"data_dir", "directory of this node's files; one node each",
     [](const Context& at, const Raw& raw, Config& c) -> Status {
       HQL_TRY(set_text(at, raw, c.data_dir));
       if (c.data_dir.find('\0') != std::string::npos) return at.error("no path holds a zero byte");
       return c.data_dir.empty() ? Status(at.error("must not be empty")) : Status();
     },
     [](const Config& c) { return c.data_dir; }},
    {"filename_db", "database of hql_* calls on a connection that has no replicated database",
     [](const Context& at, const Raw& raw, Config& c) -> Status {
       HQL_TRY(set_text(at, raw, c.filename_db));
       const Status valid = pages::valid_database_name(c.filename_db);
       return valid ? valid : Status(at.error(valid.error().message));
     },
     [](const Config& c) { return c.filename_db; }},
    {"secret_raft", "shared by all nodes; needed to listen on anything but loopback",
     [](const Context& at, const Raw& raw, Config& c) -> Status {
       HQL_ASSIGN(value, secret(at, raw));
       c.secret_raft = value;
       return {};
     },
     [](const Config& c) { return hidden(c.secret_raft); }},
    {"secret_api", "for clients of the API address",
     [](const Context& at, const Raw& raw, Config& c) -> Status {
       HQL_ASSIGN(value, secret(at, raw));
       c.secret_api = value;
       return {};
     },
     [](const Config& c) { return hidden(c.secret_api); }},
    {"log_sync",
     "immediate: acknowledged means on disk on a quorum; interval_<ms> (1..60000): in memory on a quorum, on disk so "
     "much later",
     [](const Context& at, const Raw& raw, Config& c) -> Status {
       HQL_TRY(set_text(at, raw, c.log_sync));
       if (c.log_sync == "immediate" || interval_of(c.log_sync) > 0) return {};
       return at.error(
           "\"" + c.log_sync +
           "\" is neither \"immediate\" nor \"interval_<ms>\" with 1 to 60000 milliseconds, as in \"interval_200\"");
     },
     [](const Config& c) { return c.log_sync; }},
    {"wal_size", "bytes of one log segment, 64 KiB .. 1 GiB; \"64MiB\" is understood",
     [](const Context& at, const Raw& raw, Config& c) -> Status {
       HQL_ASSIGN(size, byte_count(at, raw, 64 << 10, 1 << 30));
       c.wal_size = static_cast<std::uint64_t>(size) / 4096 * 4096;
       return {};
     },
     [](const Config& c) { return std::to_string(c.wal_size); }},
    {"listen_addr_raft", "host:port to listen on for nodes; default: the own Raft address in `nodes`",
     [](const Context& at, const Raw& raw, Config& c) { return set_address(at, raw, c.listen_addr_raft); },
     [](const Config& c) { return c.listen_addr_raft; }},
    {"listen_addr_api", "host:port to listen on for clients; default: the own API address in `nodes`",
     [](const Context& at, const Raw& raw, Config& c) { return set_address(at, raw, c.listen_addr_api); },
     [](const Config& c) { return c.listen_addr_api; }},
    {"election_timeout_ms", "a follower that hears nothing for this long (up to twice) campaigns, 50..60000",
     [](const Context& at, const Raw& raw, Config& c) { return set_int(at, raw, 50, 60000, c.election_timeout_ms); },
     [](const Config& c) { return std::to_string(c.election_timeout_ms); }},
    {"heartbeat_ms", "interval of the leader's heartbeats, 5..10000, at most a third of election_timeout_ms",
     [](const Context& at, const Raw& raw, Config& c) { return set_int(at, raw, 5, 10000, c.heartbeat_ms); },
     [](const Config& c) { return std::to_string(c.heartbeat_ms); }},
    {"commit_timeout_ms", "how long a write waits for its quorum, 10..3600000",
     [](const Context& at, const Raw& raw, Config& c) { return set_int(at, raw, 10, 3600000, c.commit_timeout_ms); },
     [](const Config& c) { return std::to_string(c.commit_timeout_ms); }},
    {"statement_timeout_ms", "a forwarded statement that runs longer is interrupted, 10..3600000",
     [](const Context& at, const Raw& raw, Config& c) { return set_int(at, raw, 10, 3600000, c.statement_timeout_ms); },
     [](const Config& c) { return std::to_string(c.statement_timeout_ms); }},
    {"transaction_timeout_ms",
     "an open write transaction that lasts longer, while others wait to write, is not committed; 10..3600000, 0: no "
     "limit",
     [](const Context& at, const Raw& raw, Config& c) {
       c.transaction_timeout_ms = 0;
       return number(at, raw, 0, 0) ? Status() : set_int(at, raw, 10, 3600000, c.transaction_timeout_ms);
     },
     [](const Config& c) { return std::to_string(c.transaction_timeout_ms); }},
    {"log_level", "error, warn, info or debug; messages go to standard error",
     [](const Context& at, const Raw& raw, Config& c) -> Status {
       HQL_ASSIGN(value, one_of(at, raw, {"error", "warn", "info", "debug"}));
       c.log_level = value;
       return {};
     },
     [](const Config& c) { return c.log_level; }},
};

const Key* find_key(const std::string& name) {
  for (const Key& key : kKeys)
    if (name == key.name) return &key;
  return nullptr;
}

std::string upper(std::string name) {
  for (char& c : name) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return name;
}

// Levenshtein distance, for "did you mean".
std::size_t distance(const std::string& a, const std::string& b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0]++;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t above = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)});
      diagonal = above;
    }
  }
  return row[b.size()];
}

base::Error unknown_key(const std::string& source, const std::string& name) {
  const Key* best = nullptr;
  std::size_t best_distance = 4;  // more typing errors than three are another word
  for (const Key& key : kKeys) {
    const std::size_t d = distance(name, key.name);
    if (d < best_distance) {
      best = &key;
      best_distance = d;
    }
  }
  std::string message = source + ": unknown key \"" + name + "\"";
  message += best != nullptr ? std::string("; did you mean \"") + best->name + "\"?"
                             : "; `hiqlite generate-config` prints all keys";
  return base::make_error(Code::kConfig, message);
}

using Table = std::vector<std::pair<std::string, Raw>>;

Result<Raw> raw_of(const Context& at, const toml::node& value) {
  if (const auto s = value.value_exact<std::string>()) return Raw(*s);
  if (const auto i = value.value_exact<std::int64_t>()) return Raw(*i);
  if (const auto* array = value.as_array()) {
    List list;
    for (const auto& item : *array) {
      const auto s = item.value_exact<std::string>();
      if (!s) return at.error("expected a list of strings");
      list.items.push_back(*s);
    }
    return Raw(list);
  }
  return at.error("expected a string, a whole number or a list of strings");
}

Result<Table> read_toml(const std::string& content, const std::string& source) {
  const toml::parse_result parsed = toml::parse(content);
  if (!parsed) {
    const auto& where = parsed.error().source().begin;
    return base::make_error(Code::kConfig, source + ":" + std::to_string(where.line) + ":" +
                                               std::to_string(where.column) + ": " +
                                               std::string(parsed.error().description()));
  }
  Table table;
  const auto add = [&](const toml::table& from) -> Status {
    for (const auto& [key, value] : from) {
      const std::string name(key.str());
      if (&from == &parsed.table() && name == "hiqlite" && value.is_table()) continue;
      if (find_key(name) == nullptr) return unknown_key(source, name);
      HQL_ASSIGN(raw, raw_of({source, name}, value));
      table.emplace_back(name, raw);
    }
    return {};
  };
  HQL_TRY(add(parsed.table()));
  if (const auto* section = parsed.table()["hiqlite"].as_table()) HQL_TRY(add(*section));
  return table;
}

Result<Table> read_json(const std::string& content, const std::string& source) {
  const auto parsed = nlohmann::json::parse(content, nullptr, /*allow_exceptions=*/false);
  if (!parsed.is_object()) return base::make_error(Code::kConfig, source + ": not a JSON object");
  Table table;
  for (const auto& [name, value] : parsed.items()) {
    const Context at{source, name};
    if (find_key(name) == nullptr) return unknown_key(source, name);
    if (value.is_string()) {
      table.emplace_back(name, value.get<std::string>());
    } else if (value.is_number_integer()) {
      table.emplace_back(name, value.get<std::int64_t>());
    } else if (value.is_array() &&
               std::all_of(value.begin(), value.end(), [](const auto& item) { return item.is_string(); })) {
      table.emplace_back(name, List{value.get<std::vector<std::string>>()});
    } else {
      return at.error("expected a string, a whole number or a list of strings");
    }
  }
  return table;
}

Status check_whole(const Config& config) {
  const auto fail = [&](const std::string& message) {
    return base::make_error(Code::kConfig, config.source + ": " + message);
  };
  if (!config.nodes.empty() && config.self() == nullptr)
    return fail("node_id: " + std::to_string(config.node_id.value) + " is not in nodes (" + join_nodes(config) + ")");
  if (config.heartbeat_ms * 3 > config.election_timeout_ms)
    return fail("heartbeat_ms: " + std::to_string(config.heartbeat_ms) +
                " is more than a third of election_timeout_ms (" + std::to_string(config.election_timeout_ms) +
                "): followers would campaign against a living leader");
  if (config.nodes.size() > 1) {
    for (const auto& node : config.nodes)
      if (port_of(node.raft_addr) == 0)
        return fail("nodes: \"" + node.raft_addr + "\": port 0 is for a single node; the others must know the port");
  }
  return {};
}

}  // namespace

base::Micros Config::sync_interval() const { return interval_of(log_sync); }

std::string Config::acknowledged_means() const {
  const auto milliseconds = sync_interval() / base::kMillisecond;
  if (milliseconds == 0) return "on disk on a quorum";
  return "in memory on a quorum, on disk " + std::to_string(milliseconds) + " ms later";
}

const NodeAddress* Config::self() const {
  for (const auto& node : nodes)
    if (node.id == node_id) return &node;
  return nullptr;
}

Result<Config> parse_config(const std::string& content, const std::string& source, const Environment& environment) {
  const auto first = content.find_first_not_of(" \t\r\n");
  const bool json = first != std::string::npos && content[first] == '{';
  HQL_ASSIGN(table, json ? read_json(content, source) : read_toml(content, source));
  Config config;
  config.source = source;
  for (const auto& [name, raw] : table) HQL_TRY(find_key(name)->set({source, name}, raw, config));
  for (const Key& key : kKeys) {
    const std::string variable = "HQL_" + upper(key.name);
    const auto value = environment(variable);
    if (!value) continue;
    HQL_TRY(key.set({"environment", variable}, Raw(*value), config));
    config.overridden.insert(key.name);
  }
  HQL_TRY(check_whole(config));
  return config;
}

std::vector<ConfigRow> describe(const Config& config) {
  const Config defaults;
  std::vector<ConfigRow> rows;
  for (const Key& key : kKeys) {
    const std::string value = key.get(config);
    const bool overridden = config.overridden.count(key.name) != 0;
    rows.push_back({key.name, value,
                    overridden                   ? "environment"
                    : value == key.get(defaults) ? "default"
                                                 : config.source,
                    key.description});
  }
  return rows;
}

std::string toml_string(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    char escaped[8];
    if (c == '"' || c == '\\') {
      out += std::string("\\") + c;
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      std::snprintf(escaped, sizeof escaped, "\\u%04x", static_cast<unsigned char>(c));
      out += escaped;
    } else {
      out += c;
    }
  }
  return out + "\"";
}

std::string generate_config(int id, int count, const std::string& data_dir, int first_port,
                            const std::string& secret_text) {
  std::string out =
      "# Configuration of a libhiqlite node. Every key may also be given as HQL_<KEY> in the environment.\n\n";
  const Config defaults;
  for (const Key& key : kKeys) {
    const std::string name = key.name;
    out += "# " + std::string(key.description) + "\n";
    if (name == "node_id") {
      out += "node_id = " + std::to_string(id) + "\n\n";
    } else if (name == "nodes") {
      out += "nodes = [\n";
      for (int i = 0; i < count; ++i) {
        const auto host = [&](int port) { return "127.0.0.1:" + std::to_string(port); };
        out += "  \"" + std::to_string(i + 1) + " " + host(first_port + i) + " " + host(first_port + 100 + i) + "\",\n";
      }
      out += "]\n\n";
    } else if (name == "data_dir") {
      out += "data_dir = " + toml_string(data_dir) + "\n\n";
    } else if (name == "secret_raft") {
      out += "secret_raft = \"" + secret_text + "\"\n\n";
    } else {
      const std::string value = key.get(defaults);
      const bool numeric = !value.empty() && value.find_first_not_of("0123456789") == std::string::npos;
      out += "# " + name + " = " + (numeric ? value : "\"" + value + "\"") + "\n\n";
    }
  }
  return out;
}

}  // namespace node

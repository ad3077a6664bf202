// hiqlite: the command line. The table of commands is the documentation: --help is printed from it.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "cli/command.h"
#include "ext/find_config.h"

namespace cli {
namespace {

const Option kConfig = {"--config", "-c", "FILE",
                        "configuration (TOML); default: $HQL_CONFIG, ./hiqlite.toml, else the embedded defaults"};
const Option kDataDir = {"--data-dir", nullptr, "DIR", "overrides data_dir of the configuration"};
const Option kTimeout = {"--timeout", nullptr, "MS", "how long to wait, in milliseconds"};

int run_version(const Parsed&) {
  std::printf("hiqlite %s\n", HQL_VERSION);
  return kOk;
}

void print_command_help(const Command& command) {
  std::printf("usage: hiqlite %s %s\n\n%s\n\n", command.name, command.arguments, command.summary);
  if (!command.options.empty()) std::printf("options:\n");
  for (const Option& option : command.options) {
    std::string left = std::string(option.shorthand != nullptr ? option.shorthand : "") +
                       (option.shorthand != nullptr ? ", " : "    ") + option.name +
                       (option.value != nullptr ? " " + std::string(option.value) : "");
    std::printf("  %-28s %s\n", left.c_str(), option.help);
  }
}

void print_help() {
  std::printf("hiqlite %s: SQLite, replicated\n\nusage: hiqlite <command> [options]; hiqlite <command> --help\n\n",
              HQL_VERSION);
  for (const Command& command : commands()) std::printf("  %-16s %s\n", command.name, command.summary);
  std::printf(
      "\nexit codes: 0 ok, 1 failed, 2 usage, 3 configuration, 4 corrupt or verify failed, 5 address in use, 6 data "
      "dir owned,\n"
      "            7 no quorum or timeout, 8 permission\n");
}

const Command* find_command(const std::string& name) {
  for (const Command& command : commands())
    if (name == command.name) return &command;
  return nullptr;
}

const Option* find_option(const Command& command, const std::string& word) {
  for (const Option& option : command.options)
    if (word == option.name || (option.shorthand != nullptr && word == option.shorthand)) return &option;
  return nullptr;
}

int run(int count, char** words) {
  const std::string name = count > 1 ? words[1] : "--help";
  if (name == "--help" || name == "-h" || name == "help") {
    print_help();
    return count > 1 ? kOk : kUsage;
  }
  if (name == "--version") return run_version({});
  const Command* command = find_command(name);
  if (command == nullptr) {
    std::fprintf(stderr, "hiqlite: unknown command \"%s\"; `hiqlite --help` lists them\n", name.c_str());
    return kUsage;
  }
  Parsed parsed;
  parsed.command = command;
  for (int i = 2; i < count; ++i) {
    std::string word = words[i];
    if (word == "--help" || word == "-h") {
      print_command_help(*command);
      return kOk;
    }
    if (word.size() < 2 || word[0] != '-') {
      parsed.words.push_back(word);
      continue;
    }
    std::optional<std::string> value;
    if (const auto equals = word.find('='); word.starts_with("--") && equals != std::string::npos) {
      value = word.substr(equals + 1);
      word = word.substr(0, equals);
    }
    const Option* option = find_option(*command, word);
    if (option == nullptr) return usage_error(*command, "unknown option \"" + word + "\"");
    if (option->value == nullptr) {
      if (value) return usage_error(*command, word + " takes no value");
      value = "1";
    } else if (!value) {
      if (i + 1 >= count) return usage_error(*command, word + " needs a value (" + option->value + ")");
      value = words[++i];
    }
    parsed.options[option->name + 2] = *value;
  }
  if (static_cast<int>(parsed.words.size()) > command->positional_max)
    return usage_error(*command,
                       "unexpected \"" + parsed.words[static_cast<std::size_t>(command->positional_max)] + "\"");
  return command->run(parsed);
}

}  // namespace

const std::vector<Command>& commands() {  // NOLINT(readability-function-size): one table
  static const auto* const all = new std::vector<Command>{
      {"serve",
       "-c FILE [--data-dir D] [--ready-fd N]",
       "Runs a node as a daemon in the foreground until SIGTERM or SIGINT.",
       {kConfig, kDataDir, {"--ready-fd", nullptr, "N", "also write the ready line to this descriptor"}},
       0,
       run_serve},
      {"status",
       "-c FILE [--json] [--wait healthy] [--field NAME]",
       "Shows the state of the node that owns the data directory.",
       {kConfig,
        kDataDir,
        {"--json", nullptr, nullptr, "the JSON of hql_status()"},
        {"--wait", nullptr, "healthy", "wait for a leader and a quorum"},
        {"--field", nullptr, "NAME", "print one field of the JSON"},
        kTimeout},
       0,
       run_status},
      {"exec",
       "-c FILE [--db NAME] SQL",
       "Runs one SQL statement on the leader (hql_execute); prints the rows changed.",
       {kConfig,
        kDataDir,
        {"--db", nullptr, "NAME", "database; default: filename_db"},
        {"--json", nullptr, nullptr, "print the rows of SELECT or RETURNING as JSON"},
        kTimeout},
       1,
       run_exec},
      {"shell",
       "-c FILE [DB] [SQL]",
       "The stock sqlite3 shell on this node's file, with hql_* functions; writes by hql_execute().",
       {kConfig, kDataDir},
       2,
       run_shell},
      {"dump",
       "[-c FILE | DATA_DIR]",
       "Prints the files of a data directory: id, meta, page hashes, and the log record by record.",
       {kConfig, kDataDir},
       1,
       run_dump},
      {"verify",
       "[-c FILE | DATA_DIR]",
       "Checks what a stopped node would read: id, meta, page hashes, and every checksum of the log.",
       {kConfig, kDataDir},
       1,
       run_verify},
      {"generate-config",
       "[--node-id N] [--nodes N] [--port P] [--data-dir D] [--out DIR]",
       "Prints a commented configuration; with --out writes one file per node.",
       {{"--node-id", nullptr, "N", "whose configuration to print, default 1"},
        {"--nodes", nullptr, "N", "how many nodes, default 1"},
        {"--port", nullptr, "P", "first Raft port, default 8100"},
        {"--data-dir", nullptr, "D", "default ./hiqlite-data-<node>"},
        {"--out", nullptr, "DIR", "write node1.toml ... into DIR"}},
       0,
       run_generate_config},
      {"check-config",
       "-c FILE",
       "Checks a configuration and shows every key with its value.",
       {kConfig, kDataDir},
       0,
       run_check_config},
      {"bootstrap",
       "-c FILE --force",
       "Forms a new cluster although configured nodes are missing (they must be empty).",
       {kConfig,
        kDataDir,
        {"--force", nullptr, nullptr, "required: says that the missing nodes hold no data of another cluster"}},
       0,
       run_bootstrap},
      {"rebuild",
       "-c FILE DB",
       "Sets a damaged database's files aside, so that the next start makes them again from the log.",
       {kConfig, kDataDir},
       1,
       run_rebuild},
      {"fault-points",
       "",
       "Lists the fault points of a test build (HQL_FAULT=<point>:<kill|eio|enospc|oom|delay_ms=N>[:nth]).",
       {},
       0,
       run_fault_points},
      {"version", "", "Prints the version.", {}, 0, run_version},
  };
  return *all;
}

int exit_code(base::Code code) {
  switch (code) {
    case base::Code::kConfig:
      return kBadConfig;
    case base::Code::kCorrupt:
    case base::Code::kDiverged:
    case base::Code::kForeignWrite:
      return kCorruptExit;
    case base::Code::kAddress:
      return kAddressInUse;
    case base::Code::kOwned:
      return kOwnedExit;
    case base::Code::kNoQuorum:
    case base::Code::kWaitingForNodes:
    case base::Code::kTimeout:
      return kNoQuorumExit;
    case base::Code::kPermission:
      return kPermissionExit;
    default:
      return kFailed;
  }
}

std::string Parsed::get(const std::string& name, const std::string& fallback) const {
  const auto found = options.find(name);
  return found == options.end() ? fallback : found->second;
}

long Parsed::number(const std::string& name, long fallback, long low, long high) const {
  if (!has(name)) return fallback;
  const std::string text = get(name);
  char* end = nullptr;
  const long value = std::strtol(text.c_str(), &end, 10);
  if (text.empty() || *end != '\0' || value < low || value > high)
    std::exit(usage_error(*command, "--" + name + " \"" + text + "\": expected a whole number from " +
                                        std::to_string(low) + " to " + std::to_string(high)));
  return value;
}

int report(const base::Error& error) {
  // SQLite's own error with its code behind it, as sqlite3 prints it.
  const std::string code = error.sqlite_code != 0 ? " (" + std::to_string(error.sqlite_code) + ")" : "";
  std::fprintf(stderr, "%s%s\n", base::to_string(error).c_str(), code.c_str());
  return exit_code(error.code);
}

int usage_error(const Command& command, const std::string& text) {
  std::fprintf(stderr, "hiqlite %s: %s\nusage: hiqlite %s %s\n", command.name, text.c_str(), command.name,
               command.arguments);
  return kUsage;
}

base::Result<node::Config> load_config(const Parsed& parsed) {
  HQL_ASSIGN(config, ext::find_config(parsed.has("config") ? std::optional(parsed.get("config")) : std::nullopt));
  if (parsed.has("data-dir")) config.data_dir = parsed.get("data-dir");
  return config;
}

std::string extension_path() {
  char self[4096];
  const ssize_t length = ::readlink("/proc/self/exe", self, sizeof self - 1);
  const std::string path(self, length > 0 ? static_cast<std::size_t>(length) : 0);
  const std::string bin = path.substr(0, path.rfind('/'));
  return bin.substr(0, bin.rfind('/')) + "/lib/libhiqlite.so";
}

}  // namespace cli

int main(int count, char** words) { return cli::run(count, words); }

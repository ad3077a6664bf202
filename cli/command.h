// What the subcommands of `hiqlite` share: exit codes (SQL.md), options, and the way to a running node.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "node/config.h"

namespace cli {

enum Exit : int {
  kOk = 0,
  kFailed = 1,
  kUsage = 2,
  kBadConfig = 3,
  kCorruptExit = 4,
  kAddressInUse = 5,
  kOwnedExit = 6,
  kNoQuorumExit = 7,
  kPermissionExit = 8,
};
int exit_code(base::Code code);

// `--name value`, `--name` (a flag) and positional words.
struct Option {
  const char* name;       // "--config"
  const char* shorthand;  // "-c" or nullptr
  const char* value;      // what to call the value in --help, nullptr: a flag
  const char* help;
};
struct Command {
  const char* name;
  const char* arguments;  // for the usage line
  const char* summary;
  std::vector<Option> options;
  int positional_max;
  int (*run)(const struct Parsed&);
};
struct Parsed {
  const Command* command = nullptr;
  std::map<std::string, std::string> options;  // by long name without the dashes; flags hold "1"
  std::vector<std::string> words;
  [[nodiscard]] bool has(const std::string& name) const { return options.count(name) != 0; }
  [[nodiscard]] std::string get(const std::string& name, const std::string& fallback = "") const;
  // A whole number within bounds; prints and exits with kUsage otherwise.
  [[nodiscard]] long number(const std::string& name, long fallback, long low, long high) const;
};

const std::vector<Command>& commands();
// Prints "hiqlite: HQL_X: text", or SQLite's "text (extended code)", to standard error; the exit code of the error.
int report(const base::Error& error);
int usage_error(const Command& command, const std::string& text);
// -c FILE, else HQL_CONFIG, else ./hiqlite.toml, else defaults; --data-dir overrides.
base::Result<node::Config> load_config(const Parsed& parsed);
// <exe dir>/../lib/libhiqlite.so, real path.
std::string extension_path();

int run_serve(const Parsed& parsed);   // serve.cc
int run_status(const Parsed& parsed);  // client_commands.cc
int run_exec(const Parsed& parsed);
int run_bootstrap(const Parsed& parsed);
int run_shell(const Parsed& parsed);  // shell.cc
int run_dump(const Parsed& parsed);   // file_commands.cc
int run_verify(const Parsed& parsed);
int run_rebuild(const Parsed& parsed);
int run_generate_config(const Parsed& parsed);  // config_commands.cc
int run_check_config(const Parsed& parsed);
int run_fault_points(const Parsed& parsed);

}  // namespace cli

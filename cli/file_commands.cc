// dump, verify, rebuild: the files of a stopped node.
#include <cstdio>

#include "base/posix_env.h"
#include "cli/command.h"
#include "cli/node_files.h"
#include "ext/data_dir_lock.h"
#include "pages/tx.h"
#include "wal/log.h"

namespace cli {
namespace {

// Where the files are: of -c FILE's data directory or the positional word; that may be a log alone.
struct Place {
  std::string data_dir;  // "" for a log alone
  std::string log;
};
base::Result<Place> place_of(const Parsed& parsed) {
  std::string dir;
  if (!parsed.words.empty()) {
    dir = parsed.words[0];
  } else {
    HQL_ASSIGN(config, load_config(parsed));
    dir = config.data_dir;
  }
  HQL_ASSIGN(below, base::posix_env().exists(dir + "/log"));
  return below ? Place{dir, dir + "/log"} : Place{"", dir};
}

void print_line(const std::string& line) { std::printf("%s\n", line.c_str()); }

}  // namespace

int run_dump(const Parsed& parsed) {
  const auto place = place_of(parsed);
  if (!place) return report(place.error());
  if (!place->data_dir.empty())
    if (const auto status = dump_node_files(base::posix_env(), place->data_dir, print_line); !status)
      return report(status.error());
  const auto status = wal::dump(base::posix_env(), place->log, print_line);
  return status ? int{kOk} : report(status.error());
}

int run_verify(const Parsed& parsed) {
  const auto place = place_of(parsed);
  if (!place) return report(place.error());
  base::Status status = base::ok();
  if (!place->data_dir.empty()) status = verify_node_files(base::posix_env(), place->data_dir, print_line);
  if (status) status = wal::verify(base::posix_env(), place->log);
  if (!status) {
    report(status.error());
    return kCorruptExit;
  }
  print_line(place->log + ": ok");
  return kOk;
}

int run_rebuild(const Parsed& parsed) {
  if (parsed.words.size() != 1) return usage_error(*parsed.command, "the name of a database is wanted");
  const auto config = load_config(parsed);
  if (!config) return report(config.error());
  base::Env& env = base::posix_env();
  const std::string dir = config->data_dir + "/db/";
  const std::string& name = parsed.words[0];
  if (const auto valid = pages::valid_database_name(name); !valid) return report(valid.error());
  const auto there = env.exists(config->data_dir);
  if (!there) return report(there.error());
  if (!*there)
    return report(
        base::make_error(base::Code::kNotFound,
                         "data_dir \"" + config->data_dir + "\" does not exist; name the node with -c or --data-dir"));
  // A running node has these files open.
  const auto lock = ext::DataDirLock::take(config->data_dir, config->node_id);
  if (!lock) return report(lock.error());
  if (const auto exists = env.exists(dir + name); !exists || !*exists)
    return report(base::make_error(base::Code::kNotFound,
                                   dir + name + " does not exist; give the name of a database of this node"));
  const std::string suffix = ".set-aside-" + base::hex16(env.random());
  for (const char* part : {"", "-wal", "-shm", ".sums"}) {
    const std::string path = dir + name + part;
    const auto exists = env.exists(path);
    if (!exists) return report(exists.error());
    if (!*exists) continue;
    if (const auto moved = env.rename(path, path + suffix); !moved) return report(moved.error());
    std::printf("%s%s%s -> %s%s%s%s\n", dir.c_str(), name.c_str(), part, dir.c_str(), name.c_str(), part,
                suffix.c_str());
  }
  if (const auto synced = env.sync_dir(config->data_dir + "/db"); !synced) return report(synced.error());
  std::printf("start the node: it makes \"%s\" again from its log\n", name.c_str());
  return kOk;
}

}  // namespace cli

// dump, verify, rebuild: the files of a stopped node.
#include <cstdio>

#include "base/posix_env.h"
#include "cli/command.h"
#include "ext/data_dir_lock.h"
#include "wal/log.h"

namespace cli {
namespace {

// The data directory of -c FILE or the positional word; its log directory when there is one below.
base::Result<std::string> log_dir(const Parsed& parsed) {
  std::string dir;
  if (!parsed.words.empty()) {
    dir = parsed.words[0];
  } else {
    HQL_ASSIGN(config, load_config(parsed));
    dir = config.data_dir;
  }
  HQL_ASSIGN(below, base::posix_env().exists(dir + "/log"));
  return below ? dir + "/log" : dir;
}

}  // namespace

int run_dump(const Parsed& parsed) {
  const auto dir = log_dir(parsed);
  if (!dir) return report(dir.error());
  const auto status =
      wal::dump(base::posix_env(), *dir, [](const std::string& line) { std::printf("%s\n", line.c_str()); });
  return status ? int{kOk} : report(status.error());
}

int run_verify(const Parsed& parsed) {
  const auto dir = log_dir(parsed);
  if (!dir) return report(dir.error());
  if (const auto status = wal::verify(base::posix_env(), *dir); !status) {
    report(status.error());
    return kCorruptExit;
  }
  std::printf("%s: ok\n", dir->c_str());
  return kOk;
}

int run_rebuild(const Parsed& parsed) {
  if (parsed.words.size() != 1) return usage_error(*parsed.command, "the name of a database is wanted");
  const auto config = load_config(parsed);
  if (!config) return report(config.error());
  base::Env& env = base::posix_env();
  const std::string dir = config->data_dir + "/db/";
  const std::string& name = parsed.words[0];
  // A running node has these files open.
  const auto lock = ext::DataDirLock::take(config->data_dir, config->node_id);
  if (!lock) return report(lock.error());
  if (const auto exists = env.exists(dir + name); !exists || !*exists)
    return report(base::make_error(base::Code::kNotFound,
                                   dir + name + " does not exist; give the name of a database of this node"));
  const std::string suffix = ".set-aside-" + base::hex16(env.random());
  for (const char* part : {"", "-wal", "-shm", ".sums"}) {
    const auto exists = env.exists(dir + name + part);
    if (!exists) return report(exists.error());
    if (!*exists) continue;
    if (const auto moved = env.rename(dir + name + part, dir + name + part + suffix); !moved)
      return report(moved.error());
    std::printf("%s%s%s -> %s%s%s%s\n", dir.c_str(), name.c_str(), part, dir.c_str(), name.c_str(), part,
                suffix.c_str());
  }
  if (const auto synced = env.sync_dir(config->data_dir + "/db"); !synced) return report(synced.error());
  std::printf("start the node: it makes \"%s\" again from its log\n", name.c_str());
  return kOk;
}

}  // namespace cli

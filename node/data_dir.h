// DataDir: what a node finds when it starts: identity, meta and log, checked against each other (R10). Blocking, before lanes run.
// <data_dir>/{id, meta, log/*.seg, db/}. The exclusive ownership of <data_dir> is taken by the caller (ext, cli) before.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/env.h"
#include "node/config.h"
#include "node/meta.h"
#include "wal/log.h"

namespace node {

struct DataDir {
  std::string path;
  std::unique_ptr<MetaFile> meta_file;
  Meta meta;  // boot already counted and durable
  wal::Opened opened;
  std::vector<std::string> notes;  // what was set aside and why; for the event list
};

// The incarnation is one only when the id file, the meta file and the log say the same; otherwise a new one begins with an empty log and
// the old files are renamed to <name>.aside-<incarnation>, never deleted. On an embedded node that would present an empty database as
// the whole truth, so there it is an error instead. kConfig (the directory is of another node id), kCorrupt, kIo, kFull, kPermission.
base::Result<DataDir> open_data_dir(base::Env& env, const Config& config);

// What helps a node without others whose log is damaged or gone, as the end of a message: its databases are plain SQLite files. Not
// `hiqlite rebuild`, which makes a database again from the log.
std::string start_anew(const std::string& dir);

// Durably: the next start of this data directory begins a new incarnation, for this reason, and sets everything aside. kIo, kFull.
base::Status end_life(base::Env& env, const std::string& dir, const std::string& reason);

}  // namespace node

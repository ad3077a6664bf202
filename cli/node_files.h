// What dump and verify say of the files beside the log: id, meta and the .sums of each database (docs/FORMATS.md). They only read. Callers:
// cli/file_commands.cc, on a stopped node's directory; of a running one's they show a moment.
#pragma once

#include <functional>
#include <string>

#include "base/env.h"
#include "base/result.h"

namespace cli {

using Line = std::function<void(const std::string&)>;

// Every field, one line for each file, slot, group and database. A file that cannot be read is a line too.
base::Status dump_node_files(base::Env& env, const std::string& data_dir, const Line& line);
// "<file>: ok" for each file that a node would take; the first error otherwise. What a node mends by itself is none: one of two slots, and
// blocks of hashes, which it makes again from the pages.
base::Status verify_node_files(base::Env& env, const std::string& data_dir, const Line& line);

}  // namespace cli

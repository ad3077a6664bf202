// find_config(): where a node's configuration comes from, the same for hql_start() and for the command line. Any thread.
#pragma once

#include <optional>
#include <string>

#include "base/result.h"
#include "node/config.h"

namespace ext {

// `given`: the path of a TOML file, or JSON text (it begins with "{"). Without it: the file that HQL_CONFIG names, else ./hiqlite.toml if
// it is there, else defaults. HQL_<KEY> in the environment overrides in every case. kConfig naming the file and the key.
base::Result<node::Config> find_config(const std::optional<std::string>& given);

}  // namespace ext

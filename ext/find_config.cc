// See find_config.h. The syntax is node/config.h's.
#include "ext/find_config.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/posix_env.h"

namespace ext {
namespace {

constexpr std::size_t kConfigSizeMax = 1 << 20;

std::optional<std::string> environment(const std::string& name) {
  const char* value = ::getenv(name.c_str());
  if (value == nullptr) return std::nullopt;
  return std::string(value);
}

base::Result<node::Config> parse_file(const std::string& path) {
  if (path.empty())
    return base::make_error(base::Code::kConfig,
                            "the configuration \"\" is no file; give the path of a TOML file or JSON text");
  const auto bytes = base::read_file(base::posix_env(), path, kConfigSizeMax);
  if (!bytes)
    return base::make_error(base::Code::kConfig,
                            path + ": " + bytes.error().message + "; give the path of a TOML file or JSON text");
  return node::parse_config(std::string(base::text_of(*bytes)), path, environment);
}

}  // namespace

base::Result<node::Config> find_config(const std::optional<std::string>& given) {
  if (given) {
    const auto first = given->find_first_not_of(" \t\r\n");
    if (first != std::string::npos && (*given)[first] == '{')
      return node::parse_config(*given, "hql_start() JSON", environment);
    return parse_file(*given);
  }
  if (const auto path = environment("HQL_CONFIG")) return parse_file(*path);
  if (::access("hiqlite.toml", F_OK) == 0) return parse_file("hiqlite.toml");
  return node::parse_config("", "(defaults)", environment);
}

}  // namespace ext

// generate-config, check-config, fault-points.
#include <unistd.h>

#include <cstdio>

#include "base/fault.h"
#include "base/posix_env.h"
#include "cli/command.h"

namespace cli {
namespace {

std::string random_secret() {
  base::Env& env = base::posix_env();
  std::string secret;
  for (int i = 0; i < 4; ++i) secret += base::hex16(env.random());
  return secret;  // 256 bits
}

}  // namespace

int run_generate_config(const Parsed& parsed) {
  const int nodes = static_cast<int>(parsed.number("nodes", 1, 1, 99));
  const int id = static_cast<int>(parsed.number("node-id", 1, 1, nodes));
  const int port = static_cast<int>(parsed.number("port", 8100, 1, 65335));
  const auto data_dir = [&](int node) {
    return parsed.has("data-dir") ? parsed.get("data-dir") : "./hiqlite-data-" + std::to_string(node);
  };
  const std::string secret = random_secret();
  if (!parsed.has("out")) {
    std::fputs(node::generate_config(id, nodes, data_dir(id), port, secret).c_str(), stdout);
    return kOk;
  }
  base::Env& env = base::posix_env();
  const std::string dir = parsed.get("out");
  if (const auto made = env.make_dir(dir); !made) return report(made.error());
  const auto name_of = [](int node) { return "node" + std::to_string(node) + ".toml"; };
  for (int node = 1; node <= nodes; ++node) {
    const std::string path = dir + "/" + name_of(node);
    const auto exists = env.exists(path);
    if (!exists) return report(exists.error());
    if (*exists)
      return report(base::make_error(
          base::Code::kExists,
          path + " exists, and the secret of its cluster with it; give another --out, or remove it first"));
  }
  for (int node = 1; node <= nodes; ++node) {
    const std::string own = parsed.has("data-dir") ? parsed.get("data-dir") + "/node" + std::to_string(node)
                                                   : dir + "/data" + std::to_string(node);
    const std::string text = node::generate_config(node, nodes, own, port, secret);
    if (const auto written = base::write_file_atomic(env, dir, name_of(node), base::view_of(text)); !written)
      return report(written.error());
    std::printf("%s/%s\n", dir.c_str(), name_of(node).c_str());
  }
  return kOk;
}

int run_check_config(const Parsed& parsed) {
  const auto config = load_config(parsed);
  if (!config) return report(config.error());
  for (const auto& row : node::describe(*config))
    std::printf("%-24s %-12s %s\n", row.key.c_str(), row.origin.c_str(), row.value.c_str());
  return kOk;
}

int run_fault_points(const Parsed&) {
  const auto& points = base::fault_points();
  if (points.empty()) std::printf("this build has no fault points (build the preset dev or tsan)\n");
  for (const auto& point : points) std::printf("%s\n", std::string(point.name).c_str());
  return kOk;
}

}  // namespace cli

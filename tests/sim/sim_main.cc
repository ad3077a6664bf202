// sim: runs seeds of the simulator and prints the first failure with the command that repeats it.
//   sim --seed N [--seeds K] [--nodes n] [--steps m] [--log-sync immediate|interval_<ms>] [--trace]
#include <cstdio>
#include <cstdlib>
#include <string>

#include "base/log.h"
#include "tests/sim/sim_run.h"

namespace {

int usage() {
  std::fprintf(
      stderr,
      "usage: sim --seed N [--seeds K] [--nodes n] [--steps m] [--log-sync immediate|interval_<ms>] [--trace]\n");
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  base::set_level(base::Level::kOff);  // errors of nodes that die are part of the run
  sim::RunOptions options;
  std::uint64_t seeds = 1;
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--trace") {
      options.trace = true;
      continue;
    }
    if (i + 1 >= argc) return usage();
    if (name == "--log-sync") {
      options.log_sync = argv[++i];
      continue;
    }
    char* end = nullptr;
    const std::uint64_t value = std::strtoull(argv[++i], &end, 10);
    if (end == argv[i] || *end != '\0') return usage();
    if (name == "--seed") {
      options.seed = value;
    } else if (name == "--seeds") {
      seeds = value;
    } else if (name == "--nodes") {
      options.nodes = static_cast<int>(value);
    } else if (name == "--steps") {
      options.steps = static_cast<int>(value);
    } else {
      return usage();
    }
  }
  if (options.nodes < 1 || options.nodes > 9) return usage();
  sim::RunResult total;
  const std::uint64_t last = options.seed + seeds;
  for (; options.seed < last; ++options.seed) {
    const sim::RunResult result = sim::run_seed(options);
    if (!result.failure.empty()) {
      std::printf("seed %llu failed: %s\nrepeat: sim --seed %llu --nodes %d --steps %d --log-sync %s --trace\n",
                  static_cast<unsigned long long>(options.seed), result.failure.c_str(),
                  static_cast<unsigned long long>(options.seed), options.nodes, options.steps,
                  options.log_sync.c_str());
      return 1;
    }
    total.acked += result.acked;
    total.refused += result.refused;
    total.unknown += result.unknown;
    total.tasks += result.tasks;
    total.votes += result.votes;
    total.ahead += result.ahead;
    total.promises += result.promises;
    total.lost += result.lost;
    total.strays += result.strays;
    total.belated += result.belated;
    total.trace ^= result.trace;
  }
  std::printf(
      "%llu seeds, %d nodes: %llu writes acknowledged, %llu refused, %llu unknown, %llu votes, %llu databases "
      "ahead of their log, %llu tasks, trace %016llx\n"
      "%llu promises held against the disk; %llu frames lost, %llu doubled or overtaken, %llu belated\n",
      static_cast<unsigned long long>(seeds), options.nodes, static_cast<unsigned long long>(total.acked),
      static_cast<unsigned long long>(total.refused), static_cast<unsigned long long>(total.unknown),
      static_cast<unsigned long long>(total.votes), static_cast<unsigned long long>(total.ahead),
      static_cast<unsigned long long>(total.tasks), static_cast<unsigned long long>(total.trace),
      static_cast<unsigned long long>(total.promises), static_cast<unsigned long long>(total.lost),
      static_cast<unsigned long long>(total.strays), static_cast<unsigned long long>(total.belated));
  if (total.acked == 0) {
    std::printf("nothing was acknowledged: the run proves nothing\n");
    return 1;
  }
  if (seeds >= 50 && options.nodes > 1 &&
      (total.promises == 0 || total.lost == 0 || total.strays == 0 || total.belated == 0)) {
    std::printf("the network was too kind: the run proves little\n");
    return 1;
  }
  return 0;
}

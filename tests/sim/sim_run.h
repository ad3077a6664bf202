// One run of the simulator: a seed makes a cluster, a workload and faults, in two phases: safety under faults, then liveness on a healed
// cluster (TESTING.md, section 2). Separate random streams for workload and faults, so that faults can be taken out of a failing seed.
#pragma once

#include <cstdint>
#include <string>

namespace sim {

struct RunOptions {
  std::uint64_t seed = 1;
  int nodes = 3;
  int steps = 60;  // faults in the first phase
  bool trace = false;
  std::string log_sync = "immediate";
};
struct RunResult {
  std::string failure;  // "" when all invariants held
  std::uint64_t acked = 0;
  std::uint64_t refused = 0;
  std::uint64_t unknown = 0;
  std::uint64_t tasks = 0;
  std::uint64_t publications = 0;
  std::uint64_t votes = 0;
  std::uint64_t ahead = 0;     // databases found ahead of their node's log
  std::uint64_t promises = 0;  // frames that were held against the disk of their sender
  std::uint64_t lost = 0;  // frames; likewise those that came twice or out of order, and copies over a later connection
  std::uint64_t strays = 0;
  std::uint64_t belated = 0;
  std::uint64_t trace = 0;  // hash of the schedule: equal for equal seeds
};
RunResult run_seed(const RunOptions& options);

}  // namespace sim

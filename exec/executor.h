// The real node::Executor: forwarded SQL on a connection of its own through the shim, one transaction per batch (DESIGN 5.3).
// One lane per active database; `done` goes to the loop lane.
#pragma once

#include <memory>

#include "base/lane.h"
#include "node/executor.h"
#include "vfs/gate.h"

namespace exec {

struct ExecutorParams {
  vfs::Gate* gate = nullptr;
  base::Lane* loop = nullptr;
  base::NodeId node;
  std::uint32_t statement_timeout_ms = 30'000;
  base::ThreadLane::FailureHandler on_failure;  // of the executors' lanes
};

std::unique_ptr<node::ExecutorFactory> make_executors(ExecutorParams params);

}  // namespace exec

// The flag of a forked child (vfs/fork.h).
#include "vfs/fork.h"

#include <unistd.h>

#include <atomic>
#include <string>

namespace vfs {
namespace {

std::atomic<bool> forked{false};

}  // namespace

void mark_forked_child() noexcept { forked.store(true, std::memory_order_relaxed); }
bool in_forked_child() noexcept { return forked.load(std::memory_order_relaxed); }

base::Error forked_error() {
  return base::make_error(base::Code::kForked, "process " + std::to_string(::getpid()) +
                                                   " was forked from the owner of the node (now process " +
                                                   std::to_string(::getppid()) +
                                                   "); open databases and start a node after the fork, not before");
}

}  // namespace vfs

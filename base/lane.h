// Lane: where a piece of work runs. One thread in reality (the libuv loop is one), a queue in virtual time in the simulator.
// Tasks of one lane run one after another in the order they were posted; timed tasks not before their time.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/ids.h"

namespace base {

using Task = std::function<void()>;

class Lane {
 public:
  virtual ~Lane() = default;
  // Any thread. Never blocks, never runs `task` inside the call. After stop() tasks are dropped.
  virtual void post(Task task) = 0;
  // Runs `task` at `time` (Env::now() scale) or later. A timer cannot be cancelled: the task checks whether it is still wanted.
  virtual void post_at(Micros time, Task task) = 0;
  // Whether the caller runs on this lane.
  [[nodiscard]] virtual bool is_current() const = 0;
};

// A lane with a thread of its own (base/thread_lane.cc); SIGPIPE and every other signal is blocked in it (R2).
class ThreadLane : public Lane {
 public:
  // What to do with a standard exception (out of memory) that a task lets out: stop the node, not the process (R2). Runs on the
  // lane, which then goes on with its next task.
  using FailureHandler = std::function<void(const std::string& what)>;
  // `name` is the thread's name, at most 15 characters. Without a handler such an exception ends the process.
  static std::unique_ptr<ThreadLane> start(const std::string& name, FailureHandler on_failure = {});
  // Runs the tasks posted so far, then joins. Timed tasks that are not due and later posts are dropped (their closures are
  // destroyed). Not from the lane itself. Idempotent; the destructor calls it.
  virtual void stop() = 0;
};

}  // namespace base

// Lane: where a piece of work runs. In reality a thread (the libuv loop is one, which waiting threads may help), in the simulator a queue
// in virtual time.
// Tasks of one lane run one after another in the order they were posted; timed tasks not before their time.
#pragma once

#include <cstdint>
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
  // post() by a thread that is about to wait for what follows from `task` and holds no mutex: if the lane is idle, the caller may run it,
  // and what it posts, inside this call, and *is* the lane meanwhile. That spares the hand-over to another thread and back.
  virtual void post_and_help(Task task) { post(std::move(task)); }
  // Runs `task` at `time` (Env::now() scale) or later. A timer cannot be cancelled: the task checks whether it is still wanted.
  virtual void post_at(Micros time, Task task) = 0;
  // Whether the caller runs on this lane.
  [[nodiscard]] virtual bool is_current() const = 0;
};

// A lane with a thread of its own (base/thread_lane.cc); SIGPIPE and every other signal is blocked in it (R2).
class ThreadLane : public Lane {
 public:
  // What to do with a standard exception (out of memory) that a task lets out: stop the node, not the process (R2). Runs on the
  // lane, which then goes on with its next task. Lets nothing out itself.
  using FailureHandler = std::function<void(const std::string& what)>;
  // Whether the thread, when it wakes, may push another aside that is running (SCHED_OTHER), or waits for a free moment (SCHED_BATCH).
  enum class Urgency : std::uint8_t { kUrgent, kPatient };
  // `name` is the thread's name, at most 15 characters. Without a handler such an exception ends the process.
  static std::unique_ptr<ThreadLane> start(const std::string& name, FailureHandler on_failure = {},
                                           Urgency urgency = Urgency::kUrgent);
  // Runs the tasks posted so far, then joins. Timed tasks that are not due and later posts are dropped (their closures are
  // destroyed). Not from the lane itself. Idempotent; the destructor calls it.
  virtual void stop() = 0;
};

}  // namespace base

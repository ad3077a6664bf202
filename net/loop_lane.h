// LoopLane: a base::Lane whose thread runs a libuv loop. Sockets, timers and every task of the lane share that thread.
// Callers: node/ (one per node), net/ itself for its sockets. post() and post_at() from any thread, loop() only on
// the lane.
//
// One turn: sockets are polled without waiting and read -> a slice of the posted tasks -> the timed tasks that were due *before* that poll
// began -> what was left for the end of the turn (sockets write what was queued). Then the thread waits, outside the turn, for an event,
// a post or the next time.
//
// "A stalled process drains its sockets before its election timers fire" (DESIGN 6.1) holds without a threshold: a timed task never runs
// on the strength of a clock that was read after the poll. Whatever stopped the process (a slow task, SIGSTOP, a swapped-out page, also in
// the middle of epoll_wait), the sockets are polled once more before anything that fell due meanwhile. The price is one extra poll that
// does not wait per expiry.
//
// Whose thread: the turn belongs to whoever holds `turn_`. Mostly that is the lane's own thread, which does not hold it while it waits;
// post_and_help() takes it for the caller then. So a commit that needs no other node runs on the committing thread from its proposal to its
// outcome, and a thread hand-over (20 to 30 us each on a small machine) is paid only where something is really waited for.
#pragma once

#include <pthread.h>
#include <uv.h>

#include <atomic>
#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <queue>
#include <string>
#include <utility>
#include <vector>

#include "base/ids.h"
#include "base/lane.h"
#include "base/mutex.h"
#include "base/result.h"

namespace net {

class LoopLane final : public base::Lane {
 public:
  using FailureHandler = base::ThreadLane::FailureHandler;

  // `name` is the thread's name, at most 15 characters. Every signal is blocked in the thread. `on_failure` learns of
  // a standard exception that a task or a callback let out (out of memory) and runs on the lane, which goes on; it lets nothing out itself;
  // without it such an exception ends the process. Errors: kInternal (no descriptors, no thread).
  static base::Result<std::unique_ptr<LoopLane>> start(const std::string& name, FailureHandler on_failure = {});
  ~LoopLane() override;
  LoopLane(const LoopLane&) = delete;
  LoopLane& operator=(const LoopLane&) = delete;

  void post(base::Task task) override;
  void post_at(base::Micros time, base::Task task) override;
  // Every signal is blocked meanwhile, as in the lane's thread (R2). Timed tasks and sockets are left to that thread.
  void post_and_help(base::Task task) override;
  [[nodiscard]] bool is_current() const override;

  // Runs the tasks posted so far, closes the lane's own handles, joins. Timed tasks that did not run and later posts
  // are dropped. Whoever put handles on the loop has closed them before. Not from the lane itself. Idempotent; the
  // destructor calls it.
  void stop();

  // For handles of net/, on the lane only.
  [[nodiscard]] uv_loop_t* loop() { return &handles_->loop; }
  // Runs `task` once, when the tasks of this turn are through. On the lane only.
  void at_end_of_turn(base::Task task) { end_of_turn_.push_back(std::move(task)); }

  // Runs `callback` for a C callback: no exception leaves it.
  template <class Callback>
  void guard(Callback&& callback) noexcept {
    if (!on_failure_) {
      callback();
      return;
    }
    try {
      callback();
    } catch (const std::exception& exception) {
      on_failure_(exception.what());
    }
  }

 private:
  // The loop and the lane's handles on it. Apart from the lane, because a name look-up of libuv's own threads cannot
  // be cancelled: if one hangs at stop(), this is left behind for it.
  struct Handles {
    uv_loop_t loop{};
    uv_async_t async{};
    uv_timer_t timer{};  // the end of stop()'s patience with a look-up
  };
  struct Posted {
    base::Micros time;  // 0: now
    base::Task task;
  };
  struct Timed {
    base::Micros time;
    std::uint64_t sequence;                     // equal times run in the order they were posted
    mutable base::Task task;                    // moved out right before pop()
    bool operator<(const Timed& other) const {  // std::priority_queue has the greatest on top
      return time != other.time ? time > other.time : sequence > other.sequence;
    }
  };

  explicit LoopLane(FailureHandler on_failure);
  static void* thread_main(void* self) noexcept;
  void push(Posted posted);
  [[nodiscard]] bool enqueue(Posted posted);
  void run();
  void turn();
  void take_and_run();
  void take_posted();
  void run_posted();
  void run_timed();
  void run_end_of_turn();
  [[nodiscard]] bool loop_wants_turn() const;
  [[nodiscard]] int wait_ms();
  void help() RELEASE(turn_);
  void wake();
  void begin_close();
  void finish_loop();

  const FailureHandler on_failure_;
  std::unique_ptr<Handles> handles_;

  base::Mutex mutex_;
  std::vector<Posted> queue_ GUARDED_BY(mutex_);
  bool stopping_ GUARDED_BY(mutex_) = false;
  // Somebody looks at the queue before the lane's thread waits: a post need not wake it.
  bool attended_ GUARDED_BY(mutex_) = true;
  std::atomic<int> waking_{0};  // threads between their decision to wake and their uv_async_send

  // Held for a turn; never taken while holding mutex_. What follows belongs to its holder.
  base::Mutex turn_;
  std::atomic<bool> thread_wants_turn_{false};
  std::deque<base::Task> batch_;
  std::vector<base::Task> end_of_turn_;
  std::priority_queue<Timed> timed_;
  std::uint64_t next_sequence_ = 0;
  base::Micros poll_began_ = 0;
  bool closed_ = false;
  base::Micros waits_until_ = 0;  // the lane's thread, in its poll; 0: it is not waiting

  base::Mutex join_mutex_;
  bool joined_ GUARDED_BY(join_mutex_) = true;
  pthread_t thread_{};
};

}  // namespace net

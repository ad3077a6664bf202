// The turn that net/loop_lane.h describes, on the lane's own thread or on one that helps.
#include "net/loop_lane.h"

#include <sched.h>
#include <sys/epoll.h>

#include <algorithm>

#include "base/check.h"
#include "base/posix_env.h"
#include "base/signals_blocked.h"

namespace net {
namespace {

constexpr std::size_t kNameSizeMax = 15;                        // pthread_setname_np(3)
constexpr std::size_t kSliceTasksMax = 256;                     // posted tasks before the sockets are polled again
constexpr base::Micros kSliceTimeMax = 2 * base::kMillisecond;  // the same, for tasks that take long
constexpr int kHelpRoundsMax = 16;                              // rounds of tasks that a helper runs before it leaves
constexpr base::Micros kWaitMax = base::kSecond * 3600;
constexpr std::uint64_t kResolverWaitMs = 1000;  // how long stop() waits for a name look-up that hangs

thread_local const void* t_current_loop = nullptr;

base::Micros now() { return base::posix_env().now(); }

// A helper is the lane for a while, with the lane's signal mask.
class AsTheLane {
 public:
  explicit AsTheLane(const void* lane) : before_(std::exchange(t_current_loop, lane)) {}
  ~AsTheLane() { t_current_loop = before_; }
  AsTheLane(const AsTheLane&) = delete;
  AsTheLane& operator=(const AsTheLane&) = delete;

 private:
  const base::AllSignalsBlocked blocked_;
  const void* const before_;
};

}  // namespace

LoopLane::LoopLane(FailureHandler on_failure)
    : on_failure_(std::move(on_failure)), handles_(std::make_unique<Handles>()) {}

base::Result<std::unique_ptr<LoopLane>> LoopLane::start(const std::string& name, FailureHandler on_failure) {
  CHECK(!name.empty());
  CHECK(name.size() <= kNameSizeMax);
  std::unique_ptr<LoopLane> lane(new LoopLane(std::move(on_failure)));
  Handles& h = *lane->handles_;
  if (const int rc = uv_loop_init(&h.loop); rc != 0) {
    return base::make_error(base::Code::kInternal, std::string("cannot make an event loop: ") + uv_strerror(rc));
  }
  h.loop.data = lane.get();
  if (const int rc = uv_async_init(&h.loop, &h.async, [](uv_async_t*) {}); rc != 0) {
    CHECK(uv_loop_close(&h.loop) == 0);
    return base::make_error(base::Code::kInternal, std::string("cannot make an event loop: ") + uv_strerror(rc));
  }
  CHECK(uv_timer_init(&h.loop, &h.timer) == 0);

  int rc = 0;
  {
    const base::AllSignalsBlocked blocked;
    rc = pthread_create(&lane->thread_, nullptr, &LoopLane::thread_main, lane.get());
  }
  if (rc != 0) {
    lane->begin_close();
    lane->finish_loop();
    return base::make_error(base::Code::kInternal, "cannot start the thread of the event loop");
  }
  pthread_setname_np(lane->thread_, name.c_str());
  {
    const base::MutexLock lock(lane->join_mutex_);
    lane->joined_ = false;
  }
  return lane;
}

LoopLane::~LoopLane() { stop(); }

bool LoopLane::is_current() const { return t_current_loop == this; }

void LoopLane::post(base::Task task) { push(Posted{0, std::move(task)}); }

void LoopLane::post_at(base::Micros time, base::Task task) { push(Posted{time > 0 ? time : 1, std::move(task)}); }

void LoopLane::push(Posted posted) {
  if (enqueue(std::move(posted))) wake();
}

// True: nobody attends to the queue, and wake() must follow. Until it did, the handle that it uses is not closed.
bool LoopLane::enqueue(Posted posted) {
  const base::MutexLock lock(mutex_);
  if (stopping_) return false;
  queue_.push_back(std::move(posted));
  if (std::exchange(attended_, true)) return false;
  waking_.fetch_add(1, std::memory_order_relaxed);
  return true;
}

void LoopLane::wake() {
  uv_async_send(&handles_->async);
  waking_.fetch_sub(1, std::memory_order_release);
}

void LoopLane::post_and_help(base::Task task) {
  const bool wanted = enqueue(Posted{0, std::move(task)});
  // The lane's own thread comes first: it alone reads the sockets and runs the timed tasks.
  if (!is_current() && !thread_wants_turn_.load(std::memory_order_relaxed) && turn_.try_lock()) {
    if (wanted) waking_.fetch_sub(1, std::memory_order_release);
    help();
  } else if (wanted) {
    wake();
  }
}

// A turn of a thread that is not the lane's.
void LoopLane::help() {
  if (closed_) {  // since the task was queued; it has run
    turn_.unlock();
    return;
  }
  bool hand_over = false;
  {
    const AsTheLane lane(this);
    bool more = true;
    for (int round = 0; more && round < kHelpRoundsMax; ++round) {
      take_and_run();
      run_end_of_turn();
      const base::MutexLock lock(mutex_);
      more = !queue_.empty() || !batch_.empty();
    }
    const bool earlier = !timed_.empty() && timed_.top().time < waits_until_;
    const base::MutexLock lock(mutex_);
    // The thread of the lane was perhaps woken for what a helper has taken: it is told again of all that is left, the end included.
    hand_over = more || earlier || stopping_ || !queue_.empty() || !end_of_turn_.empty() || loop_wants_turn();
    attended_ = hand_over;
    if (hand_over) waking_.fetch_add(1, std::memory_order_relaxed);
  }
  turn_.unlock();
  if (hand_over) wake();
}

void* LoopLane::thread_main(void* self) noexcept {
  auto& lane = *static_cast<LoopLane*>(self);
  t_current_loop = &lane;
  lane.run();
  lane.batch_.clear();
  lane.end_of_turn_.clear();
  lane.timed_ = {};
  t_current_loop = nullptr;
  return nullptr;
}

void LoopLane::run() {
  const int poll_fd = uv_backend_fd(&handles_->loop);
  while (true) {
    int wait = 0;
    {
      thread_wants_turn_.store(true, std::memory_order_relaxed);
      const base::MutexLock lock(turn_);
      thread_wants_turn_.store(false, std::memory_order_relaxed);
      {
        const base::MutexLock queue_lock(mutex_);
        attended_ = true;
      }
      turn();
      bool stop_now = false;
      {
        const base::MutexLock queue_lock(mutex_);
        stop_now = stopping_ && queue_.empty() && batch_.empty();
      }
      if (stop_now) {
        closed_ = true;
        begin_close();
        finish_loop();
        return;
      }
      wait = wait_ms();
    }
    if (wait == 0) continue;
    // Level-triggered: the event stays there for uv_run, which takes it. Whatever the answer, the next turn finds out what there is.
    epoll_event event{};
    static_cast<void>(::epoll_wait(poll_fd, &event, 1, wait));
  }
}

// Closes what is on the loop, and the loop.
void LoopLane::finish_loop() {
  Handles& h = *handles_;
  uv_run(&h.loop, UV_RUN_DEFAULT);
  // Here everything else is closed, or a look-up that hangs is left and the timer ended the run.
  uv_close(reinterpret_cast<uv_handle_t*>(&h.timer), nullptr);
  uv_run(&h.loop, UV_RUN_NOWAIT);
  if (uv_loop_close(&h.loop) != 0) static_cast<void>(handles_.release());  // see Handles
}

void LoopLane::turn() {
  poll_began_ = now();
  uv_run(&handles_->loop, UV_RUN_NOWAIT);
  take_and_run();
  run_timed();
  run_end_of_turn();
}

void LoopLane::take_and_run() {
  guard([this] { take_posted(); });
  run_posted();
}

// Moves what was posted to where it waits: a batch in order, or the heap of times.
void LoopLane::take_posted() {
  std::vector<Posted> taken;
  {
    const base::MutexLock lock(mutex_);
    taken.swap(queue_);
  }
  for (Posted& posted : taken) {
    if (posted.time == 0) {
      batch_.push_back(std::move(posted.task));
    } else {
      timed_.push(Timed{posted.time, next_sequence_++, std::move(posted.task)});
    }
  }
}

void LoopLane::run_posted() {
  const base::Micros end = now() + kSliceTimeMax;
  for (std::size_t i = 0; i < kSliceTasksMax && !batch_.empty(); ++i) {
    guard([this] {
      const base::Task task = std::move(batch_.front());
      batch_.pop_front();
      task();
    });
    if (now() >= end) break;
  }
}

void LoopLane::run_timed() {
  while (!timed_.empty() && timed_.top().time <= poll_began_) {
    guard([this] {
      const base::Task task = std::move(timed_.top().task);
      timed_.pop();
      task();
    });
  }
}

void LoopLane::run_end_of_turn() {
  // What a task leaves here again is for the next turn.
  for (const base::Task& task : std::exchange(end_of_turn_, {})) guard([&task] { task(); });
}

// uv_run() has something to do that no event announces. Until libuv 1.45 uv_backend_timeout() does not see watchers that wait to be
// registered: that is done at the beginning of uv_run's poll.
bool LoopLane::loop_wants_turn() const {
  const uv_loop_t& loop = handles_->loop;
#if UV_VERSION_HEX < 0x012D00
  if (loop.watcher_queue[0] != static_cast<const void*>(&loop.watcher_queue)) return true;
#endif
  return uv_backend_timeout(&loop) == 0;
}

// How long the lane's thread may wait: not at all, until the next timed task, or for an event. Milliseconds.
int LoopLane::wait_ms() {
  waits_until_ = 0;
  if (!batch_.empty() || !end_of_turn_.empty() || loop_wants_turn()) return 0;
  const base::Micros time = now();
  const base::Micros until = timed_.empty() ? time + kWaitMax : std::min(timed_.top().time, time + kWaitMax);
  if (until <= time) return 0;
  const base::MutexLock lock(mutex_);
  if (!queue_.empty() || stopping_) return 0;
  attended_ = false;
  waits_until_ = until;
  return static_cast<int>((until - time + base::kMillisecond - 1) / base::kMillisecond);
}

// Only the timer stays, unreferenced: it ends the run when a look-up hangs.
void LoopLane::begin_close() {
  while (waking_.load(std::memory_order_acquire) != 0) sched_yield();  // a poster is inside uv_async_send
  Handles& h = *handles_;
  uv_close(reinterpret_cast<uv_handle_t*>(&h.async), nullptr);
  uv_timer_start(
      &h.timer, [](uv_timer_t* handle) { uv_stop(handle->loop); }, kResolverWaitMs, 0);
  uv_unref(reinterpret_cast<uv_handle_t*>(&h.timer));
}

void LoopLane::stop() {
  CHECK(!is_current());
  bool first = false;
  {
    const base::MutexLock lock(mutex_);
    first = !stopping_;
    stopping_ = true;
    if (first) waking_.fetch_add(1, std::memory_order_relaxed);
  }
  const base::MutexLock lock(join_mutex_);
  if (first) {
    if (!joined_) uv_async_send(&handles_->async);
    waking_.fetch_sub(1, std::memory_order_release);
  }
  if (joined_) return;
  CHECK(pthread_join(thread_, nullptr) == 0);
  joined_ = true;
}

}  // namespace net

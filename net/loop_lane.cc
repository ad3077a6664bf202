// The turn of the loop that net/loop_lane.h describes: flush, poll, tasks, timed tasks.
#include "net/loop_lane.h"

#include <sched.h>
#include <signal.h>

#include "base/check.h"
#include "base/posix_env.h"

namespace net {
namespace {

constexpr std::size_t kNameSizeMax = 15;                        // pthread_setname_np(3)
constexpr std::size_t kSliceTasksMax = 256;                     // posted tasks before the sockets are polled again
constexpr base::Micros kSliceTimeMax = 2 * base::kMillisecond;  // the same, for tasks that take long
constexpr std::uint64_t kResolverWaitMs = 1000;                 // how long stop() waits for a name look-up that hangs

thread_local const void* t_current_loop = nullptr;

base::Micros now() { return base::posix_env().now(); }

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
  // These four cannot fail.
  CHECK(uv_prepare_init(&h.loop, &h.prepare) == 0);
  CHECK(uv_check_init(&h.loop, &h.check) == 0);
  CHECK(uv_idle_init(&h.loop, &h.idle) == 0);
  CHECK(uv_timer_init(&h.loop, &h.timer) == 0);
  CHECK(uv_prepare_start(&h.prepare, [](uv_prepare_t* handle) {
          static_cast<LoopLane*>(handle->loop->data)->poll_began_ = now();
        }) == 0);
  CHECK(uv_check_start(&h.check, [](uv_check_t* handle) { static_cast<LoopLane*>(handle->loop->data)->on_check(); }) ==
        0);

  // The new thread inherits a mask that blocks everything, from its first instruction on (R2).
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  CHECK(pthread_sigmask(SIG_SETMASK, &all, &before) == 0);
  const int rc = pthread_create(&lane->thread_, nullptr, &LoopLane::thread_main, lane.get());
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
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
  bool was_empty = false;
  {
    const base::MutexLock lock(mutex_);
    if (stopping_) return;
    was_empty = queue_.empty();
    queue_.push_back(std::move(posted));
    if (was_empty) waking_.fetch_add(1, std::memory_order_relaxed);
  }
  if (!was_empty) return;
  if (is_current()) {
    // The loop is awake: an idle handle keeps the next poll from waiting, without a system call.
    uv_idle_start(&handles_->idle, [](uv_idle_t*) {});
  } else {
    uv_async_send(&handles_->async);
  }
  waking_.fetch_sub(1, std::memory_order_release);
}

void* LoopLane::thread_main(void* self) noexcept {
  auto& lane = *static_cast<LoopLane*>(self);
  t_current_loop = &lane;
  lane.finish_loop();
  lane.batch_.clear();
  lane.timed_ = {};
  t_current_loop = nullptr;
  return nullptr;
}

// Runs the loop until it is closed.
void LoopLane::finish_loop() {
  Handles& h = *handles_;
  uv_run(&h.loop, UV_RUN_DEFAULT);
  // Here everything else is closed, or a look-up that hangs is left and the timer ended the run.
  uv_close(reinterpret_cast<uv_handle_t*>(&h.timer), nullptr);
  uv_run(&h.loop, UV_RUN_NOWAIT);
  if (uv_loop_close(&h.loop) != 0) static_cast<void>(handles_.release());  // see Handles
}

void LoopLane::on_check() {
  if (closing_) return;
  guard([this] { take_posted(); });
  run_posted();
  run_timed();
  bool stop_now = false;
  {
    const base::MutexLock lock(mutex_);
    stop_now = stopping_ && queue_.empty() && batch_.empty();
  }
  if (stop_now) {
    begin_close();
  } else {
    arm();
  }
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

// Decides how the next poll waits: not at all, until the next timed task, or for an event.
void LoopLane::arm() {
  bool backlog = !batch_.empty();
  if (!backlog) {
    const base::MutexLock lock(mutex_);
    backlog = !queue_.empty();
  }
  uv_idle_t* const idle = &handles_->idle;
  const base::Micros time = now();
  const bool due = !timed_.empty() && timed_.top().time <= time;
  if (backlog || due) {
    uv_idle_start(idle, [](uv_idle_t*) {});
  } else {
    uv_idle_stop(idle);
  }
  if (timed_.empty() || due || armed_for_ == timed_.top().time) return;
  armed_for_ = timed_.top().time;
  const auto delay_ms = static_cast<std::uint64_t>((armed_for_ - time + base::kMillisecond - 1) / base::kMillisecond);
  uv_update_time(&handles_->loop);
  uv_timer_start(
      &handles_->timer,
      [](uv_timer_t* handle) {
        auto& lane = *static_cast<LoopLane*>(handle->loop->data);
        lane.armed_for_ = 0;
        uv_idle_start(&lane.handles_->idle, [](uv_idle_t*) {});
      },
      delay_ms, 0);
}

// Only the timer stays, unreferenced: it ends the run when a look-up hangs.
void LoopLane::begin_close() {
  closing_ = true;
  while (waking_.load(std::memory_order_acquire) != 0) sched_yield();  // a poster is inside uv_async_send
  Handles& h = *handles_;
  uv_close(reinterpret_cast<uv_handle_t*>(&h.async), nullptr);
  uv_close(reinterpret_cast<uv_handle_t*>(&h.prepare), nullptr);
  uv_close(reinterpret_cast<uv_handle_t*>(&h.check), nullptr);
  uv_close(reinterpret_cast<uv_handle_t*>(&h.idle), nullptr);
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

// ThreadLane (base/lane.h): one thread, one queue, one heap of timed tasks. A timed task that is due joins the end of the
// queue, so neither kind starves the other.
#include <pthread.h>
#include <sched.h>

#include <chrono>
#include <deque>
#include <exception>
#include <new>
#include <queue>
#include <thread>

#include "base/lane.h"
#include "base/mutex.h"
#include "base/posix_env.h"
#include "base/signals_blocked.h"

namespace base {
namespace {

constexpr std::size_t kNameSizeMax = 15;  // pthread_setname_np(3)

struct TimedTask {
  Micros time;
  std::uint64_t sequence;  // equal times run in the order they were posted
  // The heap gives only const access to its top; the task is moved out right before pop().
  mutable Task task;
  bool operator<(const TimedTask& other) const {  // std::priority_queue has the greatest on top
    return time != other.time ? time > other.time : sequence > other.sequence;
  }
};

thread_local const void* t_current_lane = nullptr;

class ThreadLaneImpl final : public ThreadLane {
 public:
  ThreadLaneImpl(std::string name, FailureHandler on_failure, Urgency urgency)
      : name_(std::move(name)), on_failure_(std::move(on_failure)), urgency_(urgency) {
    const AllSignalsBlocked blocked;
    thread_ = std::thread([this] { run(); });
  }
  ~ThreadLaneImpl() override { shut_down(); }

  void post(Task task) override {
    {
      const MutexLock lock(mutex_);
      if (stopping_) return;
      queue_.push_back(std::move(task));
    }
    wake_.notify_one();
  }

  void post_at(Micros time, Task task) override {
    {
      const MutexLock lock(mutex_);
      if (stopping_) return;
      timed_.push(TimedTask{time, next_sequence_++, std::move(task)});
    }
    wake_.notify_one();
  }

  [[nodiscard]] bool is_current() const override { return t_current_lane == this; }
  void stop() override { shut_down(); }

 private:
  // Not virtual, for the destructor.
  void shut_down() {
    CHECK(!is_current());
    {
      const MutexLock lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_one();
    const MutexLock lock(join_mutex_);  // a second caller waits until the first has joined
    if (thread_.joinable()) thread_.join();
  }

  void run() {
    pthread_setname_np(pthread_self(), name_.c_str());
    if (urgency_ == Urgency::kPatient) {
      const sched_param none{};
      static_cast<void>(pthread_setschedparam(pthread_self(), SCHED_BATCH, &none));  // refused: it is only less polite
    }
    t_current_lane = this;
    while (true) {
      Task task = next_task();
      if (!task) break;
      run_guarded(task);
    }
    drop_timed();
  }

  void run_guarded(Task& task) {
    if (!on_failure_) {
      task();
      return;
    }
    try {
      task();
    } catch (const std::exception& exception) {
      on_failure_(exception.what());
    }
  }

  // Waits for the next task; an empty one says that the lane is stopping and the queue is empty.
  Task next_task() {
    const MutexLock lock(mutex_);
    while (true) {
      if (!stopping_) enqueue_due();
      if (!queue_.empty()) {
        Task task = std::move(queue_.front());
        queue_.pop_front();
        return task;
      }
      if (stopping_) return {};
      if (timed_is_due()) return take_timed();  // no memory for a place in the queue, which is empty now
      if (timed_.empty()) {
        wake_.wait(mutex_);
      } else {
        wake_.wait_until(mutex_, timed_.top().time);
      }
    }
  }

  // Without memory for it a task stays where it is, until the queue is empty.
  void enqueue_due() REQUIRES(mutex_) {
    try {
      while (timed_is_due()) {
        queue_.emplace_back();
        queue_.back() = take_timed();
      }
    } catch (const std::bad_alloc&) {
    }
  }

  [[nodiscard]] bool timed_is_due() const REQUIRES(mutex_) {
    return !timed_.empty() && timed_.top().time <= posix_env().now();
  }

  Task take_timed() REQUIRES(mutex_) {
    Task task = std::move(timed_.top().task);
    timed_.pop();
    return task;
  }

  // Destroys what is left on the lane itself: closures may own things that belong to it.
  void drop_timed() {
    std::priority_queue<TimedTask> dropped;
    {
      const MutexLock lock(mutex_);
      dropped.swap(timed_);
    }
  }

  const std::string name_;
  const FailureHandler on_failure_;
  const Urgency urgency_;
  Mutex mutex_;
  CondVar wake_;
  std::deque<Task> queue_ GUARDED_BY(mutex_);
  std::priority_queue<TimedTask> timed_ GUARDED_BY(mutex_);
  std::uint64_t next_sequence_ GUARDED_BY(mutex_) = 0;
  bool stopping_ GUARDED_BY(mutex_) = false;
  Mutex join_mutex_;
  std::thread
      thread_;  // set once in the constructor, joined under join_mutex_; declared last: it uses all of the above
};

}  // namespace

std::unique_ptr<ThreadLane> ThreadLane::start(const std::string& name, FailureHandler on_failure, Urgency urgency) {
  CHECK(!name.empty());
  CHECK(name.size() <= kNameSizeMax);
  return std::make_unique<ThreadLaneImpl>(name, std::move(on_failure), urgency);
}

}  // namespace base

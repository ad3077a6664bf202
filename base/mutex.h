// Mutex, MutexLock, CondVar: the standard ones with Clang's thread-safety annotations, which libstdc++ does not carry.
// A field says GUARDED_BY(mutex_), a private helper REQUIRES(mutex_); the clang build makes violations errors, g++ sees nothing.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>

#include "base/ids.h"

#if defined(__clang__)
#define HQL_THREAD_ANNOTATION(x) __attribute__((x))
#else
#define HQL_THREAD_ANNOTATION(x)
#endif

#define CAPABILITY(name) HQL_THREAD_ANNOTATION(capability(name))
#define SCOPED_CAPABILITY HQL_THREAD_ANNOTATION(scoped_lockable)
#define GUARDED_BY(mutex) HQL_THREAD_ANNOTATION(guarded_by(mutex))
#define PT_GUARDED_BY(mutex) HQL_THREAD_ANNOTATION(pt_guarded_by(mutex))
#define REQUIRES(...) HQL_THREAD_ANNOTATION(requires_capability(__VA_ARGS__))
#define ACQUIRE(...) HQL_THREAD_ANNOTATION(acquire_capability(__VA_ARGS__))
#define RELEASE(...) HQL_THREAD_ANNOTATION(release_capability(__VA_ARGS__))
#define TRY_ACQUIRE(...) HQL_THREAD_ANNOTATION(try_acquire_capability(__VA_ARGS__))
#define EXCLUDES(...) HQL_THREAD_ANNOTATION(locks_excluded(__VA_ARGS__))
#define RETURN_CAPABILITY(x) HQL_THREAD_ANNOTATION(lock_returned(x))
#define NO_THREAD_SAFETY_ANALYSIS HQL_THREAD_ANNOTATION(no_thread_safety_analysis)
// A lane is a capability too: a class names its lane, `RUNS_ON(loop_lane_)` says where a method may be called.
#define RUNS_ON(...) HQL_THREAD_ANNOTATION(requires_capability(__VA_ARGS__))

namespace base {

class CAPABILITY("mutex") Mutex {
 public:
  Mutex() = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;
  void lock() ACQUIRE() { mutex_.lock(); }
  void unlock() RELEASE() { mutex_.unlock(); }
  bool try_lock() TRY_ACQUIRE(true) { return mutex_.try_lock(); }

 private:
  friend class CondVar;
  std::mutex mutex_;
};

// Holds a Mutex for a scope; unlock() and lock() open a gap in it.
class SCOPED_CAPABILITY MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) ACQUIRE(mutex) : mutex_(mutex) { mutex_.lock(); }
  ~MutexLock() RELEASE() {
    if (held_) mutex_.unlock();
  }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;
  void unlock() RELEASE() {
    mutex_.unlock();
    held_ = false;
  }
  void lock() ACQUIRE() {
    mutex_.lock();
    held_ = true;
  }

 private:
  Mutex& mutex_;
  bool held_ = true;
};

// Waits may return for no reason: loop over the condition.
class CondVar {
 public:
  CondVar() = default;
  CondVar(const CondVar&) = delete;
  CondVar& operator=(const CondVar&) = delete;

  void wait(Mutex& mutex) REQUIRES(mutex) {
    std::unique_lock<std::mutex> lock(mutex.mutex_, std::adopt_lock);
    condition_.wait(lock);
    lock.release();
  }
  // Until notified or until `time`, on the scale of posix_env().now(). False: the time has passed.
  bool wait_until(Mutex& mutex, Micros time) REQUIRES(mutex) {
    std::unique_lock<std::mutex> lock(mutex.mutex_, std::adopt_lock);
    // The clock counts nanoseconds: later than this would overflow, and is "never" all the same.
    constexpr Micros kTimeMax = Micros{1} << 52;
    const std::chrono::steady_clock::time_point deadline{std::chrono::microseconds(time < kTimeMax ? time : kTimeMax)};
    const std::cv_status status = condition_.wait_until(lock, deadline);
    lock.release();
    return status == std::cv_status::no_timeout;
  }
  void notify_one() { condition_.notify_one(); }
  void notify_all() { condition_.notify_all(); }

 private:
  std::condition_variable condition_;
};

}  // namespace base

// Slot<T>: where a callback of the Gate leaves its answer for the SQL thread that waits (waiting exists only in vfs/ and ext/, R1).
// The waiter may leave first: a late answer then goes to `late`, on the answering lane. Shared by the waiter and the callback.
#pragma once

#include <functional>
#include <optional>
#include <utility>

#include "base/mutex.h"

namespace vfs {

// How long a wait may sleep before it looks whether the node stops.
inline constexpr base::Micros kWaitSlice = 20 * base::kMillisecond;

template <class T>
class Slot {
 public:
  explicit Slot(std::function<void(T)> late = {}) : late_(std::move(late)) {}

  void set(T value) {
    if (!keep(value)) {
      if (late_) late_(std::move(value));
      return;
    }
    // With the mutex free: who wakes needs it. The caller's share of this slot keeps it alive.
    answered_.notify_one();
  }
  // The answer, if it is there already.
  std::optional<T> poll() {
    base::MutexLock lock(mutex_);
    return std::exchange(value_, std::nullopt);
  }
  // Waits until `deadline` (scale of `now`) or until give_up() is true; empty then, and a later answer is late.
  std::optional<T> wait(base::Micros deadline, const std::function<base::Micros()>& now,
                        const std::function<bool()>& give_up) {
    base::MutexLock lock(mutex_);
    while (!value_) {
      const base::Micros left = deadline - now();
      if (left <= 0 || give_up()) {
        left_ = true;
        return std::nullopt;
      }
      answered_.wait_until(mutex_, steady_now() + (left < kWaitSlice ? left : kWaitSlice));
    }
    return std::exchange(value_, std::nullopt);
  }

 private:
  // False: the waiter has left.
  bool keep(T& value) {
    base::MutexLock lock(mutex_);
    if (left_) return false;
    value_.emplace(std::move(value));
    return true;
  }
  static base::Micros steady_now() {
    return std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
  }

  base::Mutex mutex_;
  base::CondVar answered_;
  std::optional<T> value_ GUARDED_BY(mutex_);
  bool left_ GUARDED_BY(mutex_) = false;
  const std::function<void(T)> late_;
};

}  // namespace vfs

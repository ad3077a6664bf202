// The order of waiting writers (vfs/writer_queue.h).
#include "vfs/writer_queue.h"

#include <algorithm>
#include <chrono>

namespace vfs {
namespace {

base::Micros steady_now() {
  return std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace

WriterQueue::Entry* WriterQueue::find(Waiter who) {
  for (Entry& entry : waiting_)
    if (entry.who == who) return &entry;
  return nullptr;
}

// The front entry has the reservation when its turn is set. One that has run out is dropped and passes on to the next.
bool WriterQueue::reserved_for_other(Waiter who) {
  while (!waiting_.empty() && waiting_.front().turn) {
    if (waiting_.front().who == who) return false;
    if (steady_now() < reserved_until_) return true;
    waiting_.pop_front();
    reserve_next();
  }
  return false;
}

void WriterQueue::reserve_next() {
  if (holder_ != nullptr || waiting_.empty() || waiting_.front().turn) return;
  waiting_.front().turn = true;
  reserved_until_ = steady_now() + kReservation;
  woken_.notify_all();
}

bool WriterQueue::may_ask(Waiter who) {
  base::MutexLock lock(mutex_);
  return !reserved_for_other(who);
}

void WriterQueue::took(Waiter who) {
  base::MutexLock lock(mutex_);
  holder_ = who;
  holder_thread_ = std::this_thread::get_id();
  waiting_.remove_if([who](const Entry& entry) { return entry.who == who; });
}

void WriterQueue::released(Waiter who) {
  base::MutexLock lock(mutex_);
  if (holder_ == who) holder_ = nullptr;
  reserve_next();
}

void WriterQueue::used_by_this_thread() {
  const std::thread::id me = std::this_thread::get_id();
  std::thread::id first = first_thread_.load();
  if (first == me || several_threads_.load()) return;
  if (first == std::thread::id{} && first_thread_.compare_exchange_strong(first, me)) return;
  if (first != me) several_threads_.store(true);
}

bool WriterQueue::held_by_this_thread(Waiter who) {
  if (several_threads_.load()) return false;
  base::MutexLock lock(mutex_);
  return holder_ != nullptr && holder_ != who && holder_thread_ == std::this_thread::get_id();
}

bool WriterQueue::wait(Waiter who, base::Micros timeout) {
  const base::Micros deadline = steady_now() + timeout;
  base::MutexLock lock(mutex_);
  Entry* entry = find(who);
  if (entry == nullptr) {
    entry = &waiting_.emplace_back();
    entry->who = who;
  } else {
    entry->turn = false;  // it had its turn and met somebody who does not queue: it stays in front
  }
  entry->asleep = true;
  while (!entry->turn) {
    const base::Micros left = deadline - steady_now();
    if (left <= 0) {
      entry->asleep = false;
      return false;
    }
    if (holder_ == nullptr) {
      // Nobody of the queue holds WRITER: whoever does will not wake us.
      woken_.wait_until(mutex_, steady_now() + std::min(left, kQueuePoll));
      if (!reserved_for_other(who)) reserve_next();
    } else {
      woken_.wait_until(mutex_, deadline);
    }
    entry = find(who);
    if (entry == nullptr) return true;  // a reservation that ran out while this thread was not scheduled
  }
  entry->asleep = false;
  return true;
}

bool WriterQueue::is_waited_for() {
  base::MutexLock lock(mutex_);
  return std::any_of(waiting_.begin(), waiting_.end(), [](const Entry& entry) { return entry.asleep; });
}

void WriterQueue::forget(Waiter who) {
  base::MutexLock lock(mutex_);
  waiting_.remove_if([who](const Entry& entry) { return entry.who == who; });
  reserve_next();
}

}  // namespace vfs

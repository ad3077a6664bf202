// WriterQueue: who waits on this node for the WRITER of one database, first come, first served. SQLite itself only polls; here a waiter
// sleeps until its turn and the holder's unlock wakes exactly one, for which WRITER stays reserved for a moment (measured: 8 writers, worst
// wait 18 ms instead of 730 ms). The lock itself is the Database's; this is the order of asking. Any thread.
#pragma once

#include <atomic>
#include <list>
#include <thread>

#include "base/ids.h"
#include "base/mutex.h"

namespace vfs {

// A woken waiter that does not ask again within this time has left (its driver gave up): the next one may go.
inline constexpr base::Micros kReservation = 20 * base::kMillisecond;
// WRITER may be held by the applier or a checkpoint, which do not wake: then look again after this time.
inline constexpr base::Micros kQueuePoll = base::kMillisecond;

class WriterQueue {
 public:
  using Waiter = const void*;  // a connection, by identity only

  // Whether `who` may ask for WRITER now: nobody else has the reservation.
  bool may_ask(Waiter who);
  // `who` holds WRITER, on the calling thread.
  void took(Waiter who);
  // `who` gave WRITER up, or never had it: wakes the next one.
  void released(Waiter who);
  // The calling thread uses a connection of the database.
  void used_by_this_thread();
  // Whether the calling thread itself holds WRITER, by another connection: waiting would be for ever. Only while all connections are used by
  // one thread: where transactions may move between threads, another one may end what this one began, and it waits as in SQLite.
  bool held_by_this_thread(Waiter who);
  // Sleeps until it is the turn of `who`, at most `timeout`. True: ask now.
  bool wait(Waiter who, base::Micros timeout);
  // Whether a thread sleeps in wait() just now. Who gave up, or polls by itself, does not count.
  bool is_waited_for();
  // `who` does not want WRITER any more.
  void forget(Waiter who);

 private:
  struct Entry {
    Waiter who = nullptr;
    bool turn = false;
    bool asleep = false;  // in wait()
  };
  Entry* find(Waiter who) REQUIRES(mutex_);
  bool reserved_for_other(Waiter who) REQUIRES(mutex_);
  void reserve_next() REQUIRES(mutex_);

  std::atomic<std::thread::id> first_thread_{};
  std::atomic<bool> several_threads_{false};
  base::Mutex mutex_;
  base::CondVar woken_;  // one for all: an entry may be dropped while its thread is about to wake
  Waiter holder_ GUARDED_BY(mutex_) = nullptr;
  std::thread::id holder_thread_ GUARDED_BY(mutex_);
  std::list<Entry> waiting_ GUARDED_BY(mutex_);  // front: next; an entry with turn == true holds the reservation
  base::Micros reserved_until_ GUARDED_BY(mutex_) = 0;
};

}  // namespace vfs

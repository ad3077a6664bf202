// Events: what happened on this node lately, for people (hql_events). Written on the loop lane (and at start-up), read from any thread.
#pragma once

#include <deque>
#include <string>
#include <vector>

#include "base/env.h"
#include "base/mutex.h"
#include "node/node.h"

namespace node {

class Events {
 public:
  static constexpr std::size_t kKeptMax = 1000;  // older ones are dropped
  explicit Events(base::Env& env) : env_(env) {}

  void add(std::string kind, std::string text) {
    base::MutexLock lock(mutex_);
    events_.push_back({++sequence_, env_.wall_clock(), std::move(kind), std::move(text)});
    if (events_.size() > kKeptMax) events_.pop_front();
  }
  std::vector<Event> since(std::uint64_t sequence) const {
    base::MutexLock lock(mutex_);
    std::vector<Event> out;
    for (const Event& event : events_)
      if (event.sequence > sequence) out.push_back(event);
    return out;
  }

 private:
  base::Env& env_;
  mutable base::Mutex mutex_;
  std::uint64_t sequence_ GUARDED_BY(mutex_) = 0;
  std::deque<Event> events_ GUARDED_BY(mutex_);
};

}  // namespace node

// Exit and fork of the host process (ext/lifecycle.h).
#include "ext/lifecycle.h"

#include <openssl/crypto.h>
#include <pthread.h>

#include <atomic>
#include <cstdlib>
#include <utility>
#include <vector>

#include "base/mutex.h"

namespace ext {
namespace {

struct Registry {
  base::Mutex mutex;
  std::vector<std::function<void()>> stops GUARDED_BY(mutex);
  std::vector<std::function<bool()>> fork_children GUARDED_BY(mutex);
  bool exit_handler_installed GUARDED_BY(mutex) = false;
  std::atomic<bool> forked{false};
};

// Never destroyed: it is used while the process ends.
Registry& registry() {
  static Registry* const instance = new Registry;
  return *instance;
}

void run_stops() noexcept {
  Registry& all = registry();
  while (!all.forked.load()) {
    std::function<void()> stop;
    {
      const base::MutexLock lock(all.mutex);
      if (all.stops.empty()) return;
      stop = std::move(all.stops.back());
      all.stops.pop_back();
    }
    stop();
  }
}

// fork() copies one thread only: the mutex is held across it so that the child finds the lists whole.
void before_fork() NO_THREAD_SAFETY_ANALYSIS { registry().mutex.lock(); }
void after_fork_in_parent() NO_THREAD_SAFETY_ANALYSIS { registry().mutex.unlock(); }
void after_fork_in_child() NO_THREAD_SAFETY_ANALYSIS {
  Registry& all = registry();
  for (const auto& close : all.fork_children)
    if (close()) all.forked.store(true);
  all.mutex.unlock();
}

}  // namespace

base::Status install_lifecycle() {
  registry();
  if (pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child) != 0)
    return base::make_error(base::Code::kInternal, "pthread_atfork: out of memory");
  return base::ok();
}

void register_stop(std::function<void()> stop) {
  Registry& all = registry();
  const base::MutexLock lock(all.mutex);
  all.stops.push_back(std::move(stop));
  if (std::exchange(all.exit_handler_installed, true)) return;
  // Handlers run in reverse order. OpenSSL's must not run before ours: either it is installed already, or it will never be.
  OPENSSL_init_crypto(OPENSSL_INIT_NO_ATEXIT, nullptr);
  std::atexit(run_stops);
}

void register_fork_child(std::function<bool()> close) {
  Registry& all = registry();
  const base::MutexLock lock(all.mutex);
  all.fork_children.push_back(std::move(close));
}

base::Status check_process() {
  if (!registry().forked.load()) return base::ok();
  return base::make_error(base::Code::kForked,
                          "this process was forked from one that runs a node; load the extension and call hql_start() "
                          "in a process of its own");
}

}  // namespace ext

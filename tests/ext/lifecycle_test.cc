// Exit and fork handlers (ext/lifecycle.h), each in a child process of the test, since they end it.
#include "ext/lifecycle.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <thread>

#include "base/mutex.h"

// The thread sanitizer takes threads of the parent, which a forked child does not have, for leaked ones.
extern "C" __attribute__((visibility("default"))) const char* __tsan_default_options() {
  return "report_thread_leaks=0";
}

namespace ext {
namespace {

// Runs `body` in a forked child and returns its wait status.
int in_child(const std::function<void()>& body) {
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    body();
    _exit(99);  // body ends the process itself
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return status;
}

class Lifecycle : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    static const bool installed = install_lifecycle().has_value();
    ASSERT_TRUE(installed);
  }
};

TEST_F(Lifecycle, Exit_StopsRunLastRegisteredFirst) {
  int pipe_ends[2];
  ASSERT_EQ(pipe(pipe_ends), 0);
  const int status = in_child([&] {
    for (const char* name : {"a", "b", "c"}) register_stop([&, name] { EXPECT_EQ(write(pipe_ends[1], name, 1), 1); });
    std::exit(0);
  });
  EXPECT_EQ(status, 0);
  char order[4] = {};
  EXPECT_EQ(read(pipe_ends[0], order, 3), 3);
  EXPECT_STREQ(order, "cba");
  close(pipe_ends[0]);
  close(pipe_ends[1]);
}

// What crashed 18 of 20 shells: threads of ours still running while the process is torn down.
TEST_F(Lifecycle, Exit_ThreadIsJoinedBeforeStaticsGo) {
  const int status = in_child([] {
    struct Worker {
      base::Mutex mutex;
      base::CondVar wake;
      bool stop = false;
      std::thread thread;
    };
    auto* worker = new Worker;  // never destroyed, like a node
    worker->thread = std::thread([worker] {
      worker->mutex.lock();
      while (!worker->stop) worker->wake.wait(worker->mutex);
      worker->mutex.unlock();
    });
    register_stop([worker] {
      {
        const base::MutexLock lock(worker->mutex);
        worker->stop = true;
      }
      worker->wake.notify_all();
      worker->thread.join();
    });
    std::exit(7);
  });
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 7) << "the host's exit status is its own";
}

TEST_F(Lifecycle, ForkWithNode_ChildRefusesAndRunsNoStops) {
  const int status = in_child([] {
    static int closed = 0;
    register_fork_child([] {
      ++closed;
      return true;
    });
    register_stop([] { _exit(50); });  // must run in the parent, never in the child
    if (!check_process()) _exit(10);
    const pid_t child = fork();
    if (child == 0) {
      const auto refused = check_process();
      if (closed != 1 || refused || refused.error().code != base::Code::kForked) _exit(11);
      std::exit(0);
    }
    int grandchild = 0;
    waitpid(child, &grandchild, 0);
    if (grandchild != 0) _exit(12);
    if (closed != 0 || !check_process()) _exit(13);
    std::exit(0);
  });
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 50);
}

TEST_F(Lifecycle, ForkWithoutNode_ChildGoesOn) {
  const int status = in_child([] {
    register_fork_child([] { return false; });
    const pid_t child = fork();
    if (child == 0) _exit(check_process() ? 0 : 11);
    int grandchild = 0;
    waitpid(child, &grandchild, 0);
    _exit(grandchild == 0 ? 0 : 12);
  });
  EXPECT_EQ(status, 0);
}

TEST_F(Lifecycle, ForkWhileRegistering_ChildDoesNotHang) {
  const int status = in_child([] {
    std::thread registrar([] {
      for (int i = 0; i < 20000; ++i) register_fork_child([] { return false; });
    });
    for (int i = 0; i < 20; ++i) {
      const pid_t child = fork();
      if (child == 0) {
        register_fork_child([] { return false; });
        _exit(check_process() ? 0 : 11);
      }
      int grandchild = 0;
      waitpid(child, &grandchild, 0);
      if (grandchild != 0) _exit(12);
    }
    registrar.join();
    _exit(0);
  });
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace ext

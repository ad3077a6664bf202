// ThreadLane (base/lane.h): order, timers, stop, signals, failures.
#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>

#include <array>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "base/lane.h"
#include "base/mutex.h"
#include "base/posix_env.h"

namespace base {
namespace {

constexpr Micros kDeadline = 20 * kSecond;  // far beyond what a loaded machine needs

// Opens once; waits with a deadline.
class Gate {
 public:
  void open() {
    const MutexLock lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  [[nodiscard]] bool wait() {
    const Micros deadline = posix_env().now() + kDeadline;
    const MutexLock lock(mutex_);
    while (!open_)
      if (!changed_.wait_until(mutex_, deadline)) return open_;
    return true;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  bool open_ GUARDED_BY(mutex_) = false;
};

TEST(ThreadLane, Post_ManyTasks_RunInOrderOnTheLane) {
  auto lane = ThreadLane::start("order");
  std::vector<int> ran;  // the lane's alone until stop()
  bool all_on_lane = true;
  for (int i = 0; i < 1000; ++i) {
    lane->post([&, i] {
      ran.push_back(i);
      all_on_lane = all_on_lane && lane->is_current();
    });
  }
  EXPECT_FALSE(lane->is_current());
  lane->stop();
  ASSERT_EQ(ran.size(), 1000U) << "stop() runs what was posted before";
  for (int i = 0; i < 1000; ++i) ASSERT_EQ(ran[static_cast<std::size_t>(i)], i);
  EXPECT_TRUE(all_on_lane);
}

TEST(ThreadLane, Post_FromManyThreads_EachInItsOrder) {
  auto lane = ThreadLane::start("many");
  constexpr int kThreads = 4;
  constexpr int kPosts = 500;
  std::array<std::vector<int>, kThreads> ran;
  std::vector<std::thread> posters;
  for (std::size_t t = 0; t < kThreads; ++t) {
    posters.emplace_back([&, t] {
      for (int i = 0; i < kPosts; ++i) lane->post([&ran, t, i] { ran[t].push_back(i); });
    });
  }
  for (std::thread& poster : posters) poster.join();
  lane->stop();
  for (const std::vector<int>& numbers : ran) {
    ASSERT_EQ(numbers.size(), static_cast<std::size_t>(kPosts));
    for (int i = 0; i < kPosts; ++i) ASSERT_EQ(numbers[static_cast<std::size_t>(i)], i);
  }
}

TEST(ThreadLane, PostAt_OutOfOrder_RunByTimeAndNotEarly) {
  auto lane = ThreadLane::start("timers");
  const Micros start = posix_env().now();
  std::vector<int> ran;
  bool early = false;
  Gate done;
  const auto timed = [&](int number, Micros delay) {
    lane->post_at(start + delay, [&, number, delay] {
      early = early || posix_env().now() < start + delay;
      ran.push_back(number);
      if (number == 3) done.open();
    });
  };
  timed(3, 30 * kMillisecond);
  timed(1, 10 * kMillisecond);
  timed(2, 20 * kMillisecond);
  timed(0, -kSecond);
  ASSERT_TRUE(done.wait());
  lane->stop();
  EXPECT_EQ(ran, (std::vector<int>{0, 1, 2, 3}));
  EXPECT_FALSE(early);
}

TEST(ThreadLane, PostAt_EqualTimes_RunInPostOrder) {
  auto lane = ThreadLane::start("equal");
  const Micros time = posix_env().now() + 5 * kMillisecond;
  std::vector<int> ran;
  Gate done;
  for (int i = 0; i < 50; ++i) lane->post_at(time, [&ran, i] { ran.push_back(i); });
  lane->post_at(time, [&done] { done.open(); });
  ASSERT_TRUE(done.wait());
  lane->stop();
  ASSERT_EQ(ran.size(), 50U);
  for (int i = 0; i < 50; ++i) ASSERT_EQ(ran[static_cast<std::size_t>(i)], i);
}

TEST(ThreadLane, PostAt_TheEndOfTime_WaitsAndDisturbsNobody) {
  auto lane = ThreadLane::start("never");
  bool never = false;
  Gate done;
  lane->post_at(INT64_MAX, [&] { never = true; });
  lane->post_at(posix_env().now() + kMillisecond, [&] { done.open(); });
  ASSERT_TRUE(done.wait());
  lane->stop();
  EXPECT_FALSE(never);
}

TEST(ThreadLane, Stop_TimersAndLatePosts_DroppedAndDestroyed) {
  auto lane = ThreadLane::start("stop");
  auto token = std::make_shared<int>(0);
  lane->post_at(posix_env().now() + 3600 * kSecond, [token] { ++*token; });
  lane->stop();
  lane->post([token] { ++*token; });
  lane->post_at(0, [token] { ++*token; });
  lane->stop();
  EXPECT_EQ(*token, 0);
  EXPECT_EQ(token.use_count(), 1) << "closures are destroyed at stop, not kept";
}

TEST(ThreadLane, Stop_TaskPostsTask_LaterOneDropped) {
  auto lane = ThreadLane::start("repost");
  bool second = false;
  Gate stopping;
  lane->post([&] {
    EXPECT_TRUE(stopping.wait());
    lane->post([&] { second = true; });
  });
  std::thread stopper([&] { lane->stop(); });
  // stop() has begun once a post of ours is dropped: its closure is then destroyed at once.
  while (true) {
    auto token = std::make_shared<int>(0);
    lane->post([token] {});
    if (token.use_count() == 1) break;
    std::this_thread::yield();
  }
  stopping.open();
  stopper.join();
  EXPECT_FALSE(second);
}

TEST(ThreadLane, Thread_SignalsAndName_BlockedAndSet) {
  auto lane = ThreadLane::start("hql-named");
  sigset_t inside;
  sigemptyset(&inside);
  std::array<char, 16> name{};
  lane->post([&] {
    pthread_sigmask(SIG_BLOCK, nullptr, &inside);
    pthread_getname_np(pthread_self(), name.data(), name.size());
  });
  lane->stop();
  for (const int signal : {SIGPIPE, SIGINT, SIGTERM, SIGALRM, SIGCHLD, SIGUSR1, SIGPROF})
    EXPECT_EQ(sigismember(&inside, signal), 1) << signal;
  EXPECT_STREQ(name.data(), "hql-named");
  sigset_t outside;
  pthread_sigmask(SIG_BLOCK, nullptr, &outside);
  EXPECT_EQ(sigismember(&outside, SIGINT), 0) << "the host's own mask is as before";
}

TEST(ThreadLane, TaskLetsExceptionOut_HandlerToldAndLaneGoesOn) {
  std::string what;
  auto lane = ThreadLane::start("failing", [&](const std::string& text) { what = text; });
  bool after = false;
  lane->post([] {
    // The standard library's own: what an allocation that cannot be had does.
    std::vector<char> impossible;
    impossible.reserve(impossible.max_size() + 1);
  });
  lane->post([&] { after = true; });
  lane->stop();
  EXPECT_FALSE(what.empty());
  EXPECT_TRUE(after);
}

TEST(ThreadLaneDeathTest, Stop_FromTheLane_EndsTheProcess) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        auto lane = ThreadLane::start("self");
        Gate never;
        lane->post([&] { lane->stop(); });
        static_cast<void>(never.wait());
      },
      "CHECK failed");
}

}  // namespace
}  // namespace base

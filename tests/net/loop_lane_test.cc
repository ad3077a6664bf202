// The lane on a libuv loop: order, times, the stall rule, signals, the end.
#include "net/loop_lane.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "tests/net/harness.h"

namespace net_test {
namespace {

std::unique_ptr<net::LoopLane> start_lane(net::LoopLane::FailureHandler on_failure = {}) {
  auto lane = net::LoopLane::start("test-loop", std::move(on_failure));
  EXPECT_TRUE(lane);
  return std::move(*lane);
}

// Tasks numbered by the thread that posts them, and whether each ran once and in its order. run() on the lane.
class Order {
 public:
  explicit Order(int threads) : next_(static_cast<std::size_t>(threads)) {}
  void run(int thread, int number) {
    if (next_[static_cast<std::size_t>(thread)]++ != number) ++out_of_order_;
  }
  void expect_all(int posts) const {
    EXPECT_EQ(out_of_order_, 0);
    for (const int count : next_) EXPECT_EQ(count, posts);
  }

 private:
  std::vector<int> next_;
  int out_of_order_ = 0;
};

TEST(LoopLane, PostsOfManyThreads_RunOnceEachInTheOrderOfTheirThread) {
  auto lane = start_lane();
  constexpr int kThreads = 4;
  constexpr int kPosts = 5000;
  Order order(kThreads);
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kPosts; ++i) {
        lane->post([&order, t, i] { order.run(t, i); });
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  lane->stop();
  order.expect_all(kPosts);
}

TEST(LoopLane, IsCurrent_OnlyOnTheLane) {
  auto lane = start_lane();
  auto other = start_lane();
  EXPECT_FALSE(lane->is_current());
  EXPECT_TRUE(on_lane(*lane, [&] { return lane->is_current() && !other->is_current(); }));
}

TEST(LoopLane, TimedTasks_RunInOrderOfTimeNotBeforeIt) {
  auto lane = start_lane();
  std::vector<int> order;
  std::promise<void> done;
  const base::Micros start = now();
  bool early = false;
  const auto at = [&](int number, base::Micros delay) {
    lane->post_at(start + delay, [&, number, delay] {
      early = early || now() < start + delay;
      order.push_back(number);
      if (number == 4) done.set_value();
    });
  };
  at(4, 40 * base::kMillisecond);
  at(2, 20 * base::kMillisecond);
  at(1, 20 * base::kMillisecond - 1);
  at(3, 20 * base::kMillisecond);
  at(0, -base::kSecond);
  done.get_future().get();
  lane->stop();
  EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 3, 4}));
  EXPECT_FALSE(early);
}

// DESIGN 6.1: the loop stands still past a timer's time while bytes arrive: they are read first.
TEST(LoopLane, Stall_SocketsAreReadBeforeTimedTasks) {
  auto lane = start_lane();
  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
  std::vector<std::string> order;  // the lane's
  uv_poll_t poll;
  poll.data = &order;
  on_lane(*lane, [&] {
    ASSERT_EQ(uv_poll_init(lane->loop(), &poll, pair[0]), 0);
    ASSERT_EQ(uv_poll_start(&poll, UV_READABLE,
                            [](uv_poll_t* handle, int, int) {
                              static_cast<std::vector<std::string>*>(handle->data)->push_back("socket");
                              uv_poll_stop(handle);
                            }),
              0);
  });
  std::promise<void> fired;
  on_lane(*lane, [&] {
    const base::Micros time = now() + 5 * base::kMillisecond;
    lane->post_at(time, [&] {
      order.push_back("timer");
      fired.set_value();
    });
    lane->post([&, time] {  // the stall: the heap has the timer, the loop is busy until long after its time
      while (now() < time + 5 * base::kMillisecond) {
      }
      EXPECT_EQ(::write(pair[1], "x", 1), 1);
    });
  });
  fired.get_future().get();
  on_lane(*lane, [&] { uv_close(reinterpret_cast<uv_handle_t*>(&poll), nullptr); });
  lane->stop();
  EXPECT_EQ(order, (std::vector<std::string>{"socket", "timer"}));
  ::close(pair[0]);
  ::close(pair[1]);
}

TEST(LoopLane, TaskThatPostsItselfAgain_DoesNotStarveTimersAndSockets) {
  auto lane = start_lane();
  std::atomic<bool> enough{false};
  std::function<void()> again = [&] {
    if (!enough) lane->post(again);
  };
  lane->post(again);
  std::promise<void> fired;
  lane->post_at(now() + base::kMillisecond, [&] { fired.set_value(); });
  fired.get_future().get();
  enough = true;
  lane->stop();
}

TEST(LoopLane, Signals_AreAllBlocked) {
  auto lane = start_lane();
  EXPECT_TRUE(on_lane(*lane, [] {
    sigset_t blocked;
    return pthread_sigmask(SIG_SETMASK, nullptr, &blocked) == 0 && sigismember(&blocked, SIGPIPE) == 1 &&
           sigismember(&blocked, SIGTERM) == 1 && sigismember(&blocked, SIGUSR1) == 1;
  }));
}

TEST(LoopLane, Stop_RunsWhatWasPostedDropsTheRest) {
  auto lane = start_lane();
  int ran = 0;
  bool late = false;
  auto owned = std::make_shared<int>(1);
  const std::weak_ptr<int> dropped = owned;
  lane->post_at(now() + 3600 * base::kSecond, [owned = std::move(owned), &late] { late = true; });
  for (int i = 0; i < 1000; ++i) lane->post([&] { ++ran; });
  lane->stop();
  EXPECT_EQ(ran, 1000);
  EXPECT_FALSE(late);
  EXPECT_TRUE(dropped.expired());
  lane->post([&] { late = true; });
  lane->post_at(0, [&] { late = true; });
  lane->stop();
  EXPECT_FALSE(late);
}

TEST(LoopLane, ExceptionOfATask_IsReportedAndTheLaneGoesOn) {
  std::promise<std::string> what;
  auto lane = start_lane([&](const std::string& text) { what.set_value(text); });
  lane->post([] {
    std::vector<int> empty;
    static_cast<void>(empty.at(7));
  });
  EXPECT_NE(what.get_future().get(), "");
  EXPECT_EQ(on_lane(*lane, [] { return 3; }), 3);
}

// ---- a waiting thread helps ----

// The lane's thread waits in its poll when this returns, as nearly as can be seen from outside: it has nothing to do.
void let_it_idle(net::LoopLane& lane) {
  on_lane(lane, [] { return 0; });
}

// Helping is an offer: until the lane's thread waits it may decline, so that the task runs there.
bool help_until_helped(net::LoopLane& lane, const std::function<void()>& inside) {
  for (int attempt = 0; attempt < 100000; ++attempt) {
    std::promise<bool> helped;
    const auto caller = std::this_thread::get_id();
    lane.post_and_help([&] {
      const bool here = std::this_thread::get_id() == caller;
      if (here) inside();
      helped.set_value(here);
    });
    if (helped.get_future().get()) return true;
  }
  return false;
}

TEST(LoopLane, HelpedTask_RunsOnTheCallerWhichIsTheLaneMeanwhile) {
  auto lane = start_lane();
  sigset_t before;
  pthread_sigmask(SIG_SETMASK, nullptr, &before);
  bool current = false;
  bool blocked = false;
  ASSERT_TRUE(help_until_helped(*lane, [&] {
    current = lane->is_current();
    sigset_t mask;
    blocked = pthread_sigmask(SIG_SETMASK, nullptr, &mask) == 0 && sigismember(&mask, SIGTERM) == 1;
  }));
  EXPECT_TRUE(current);
  EXPECT_TRUE(blocked);
  EXPECT_FALSE(lane->is_current());
  sigset_t after;
  pthread_sigmask(SIG_SETMASK, nullptr, &after);
  EXPECT_EQ(sigismember(&after, SIGTERM), sigismember(&before, SIGTERM));
}

TEST(LoopLane, HelpersAndPosters_NeverTwoAtOnceEachTaskOnceInOrder) {
  auto lane = start_lane();
  constexpr int kThreads = 4;
  constexpr int kPosts = 5000;
  Order order(kThreads);
  std::atomic<int> inside{0};
  std::atomic<int> overlaps{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kPosts; ++i) {
        const auto task = [&, t, i] {
          if (inside.fetch_add(1) != 0) ++overlaps;
          order.run(t, i);
          inside.fetch_sub(1);
        };
        if (t == 0) {
          lane->post(task);
        } else {
          lane->post_and_help(task);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  lane->stop();
  order.expect_all(kPosts);
  EXPECT_EQ(overlaps, 0);
}

// As callers do: one task at a time, then waiting for its end, or for its being dropped by a lane that stops.
void ask(net::LoopLane& lane) {
  auto done = std::make_shared<std::promise<void>>();
  const auto answered = done->get_future();
  lane.post_and_help([done = std::move(done)] { done->set_value(); });
  answered.wait();
}

TEST(LoopLane, TimedTasks_RunWhileThreadsHelpWithoutPause) {
  auto lane = start_lane();
  std::atomic<bool> enough{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t)
    threads.emplace_back([&] {
      while (!enough) ask(*lane);
    });
  for (int round = 0; round < 20; ++round) {
    std::promise<void> fired;
    lane->post_at(now() + base::kMillisecond, [&] { fired.set_value(); });
    fired.get_future().get();
  }
  enough = true;
  for (std::thread& thread : threads) thread.join();
}

TEST(LoopLane, TimedTaskOfAHelper_WakesTheThreadThatWaitsForLater) {
  auto lane = start_lane();
  lane->post_at(now() + 3600 * base::kSecond, [] {});
  let_it_idle(*lane);
  std::promise<void> fired;
  ASSERT_TRUE(help_until_helped(*lane, [&] { lane->post_at(now() + base::kMillisecond, [&] { fired.set_value(); }); }));
  fired.get_future().get();
}

TEST(LoopLane, SocketOfAHelper_IsWatched) {
  auto lane = start_lane();
  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
  std::promise<void> readable;
  uv_poll_t poll;
  poll.data = &readable;
  ASSERT_TRUE(help_until_helped(*lane, [&] {
    EXPECT_EQ(uv_poll_init(lane->loop(), &poll, pair[0]), 0);
    EXPECT_EQ(uv_poll_start(&poll, UV_READABLE,
                            [](uv_poll_t* handle, int, int) {
                              static_cast<std::promise<void>*>(handle->data)->set_value();
                              uv_poll_stop(handle);
                            }),
              0);
  }));
  EXPECT_EQ(::write(pair[1], "x", 1), 1);
  readable.get_future().get();
  on_lane(*lane, [&] { uv_close(reinterpret_cast<uv_handle_t*>(&poll), nullptr); });
  lane->stop();
  ::close(pair[0]);
  ::close(pair[1]);
}

TEST(LoopLane, EndOfTurn_ComesAfterTheTasksOfTheTurnAlsoForAHelper) {
  auto lane = start_lane();
  std::vector<std::string> order;
  ASSERT_TRUE(help_until_helped(*lane, [&] {
    lane->at_end_of_turn([&] { order.push_back("end"); });
    order.push_back("task");
  }));
  lane->stop();
  EXPECT_EQ(order, (std::vector<std::string>{"task", "end"}));
}

TEST(LoopLane, Stop_UnderHelpersEndsAndDropsOnlyWhatComesLater) {
  for (int round = 0; round < 50; ++round) {
    auto lane = start_lane();
    std::atomic<bool> enough{false};
    std::vector<std::thread> threads;
    for (int t = 0; t < 2; ++t)
      threads.emplace_back([&] {
        while (!enough) ask(*lane);
      });
    bool ran = false;
    lane->post([&] { ran = true; });
    lane->stop();
    enough = true;
    for (std::thread& thread : threads) thread.join();
    EXPECT_TRUE(ran);
  }
}

}  // namespace
}  // namespace net_test

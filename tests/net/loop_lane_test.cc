// The lane on a libuv loop: order, times, the stall rule, signals, the end.
#include "net/loop_lane.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <new>
#include <thread>

#include "tests/net/harness.h"

namespace net_test {
namespace {

std::unique_ptr<net::LoopLane> start_lane(net::LoopLane::FailureHandler on_failure = {}) {
  auto lane = net::LoopLane::start("test-loop", std::move(on_failure));
  EXPECT_TRUE(lane);
  return std::move(*lane);
}

TEST(LoopLane, PostsOfManyThreads_RunOnceEachInTheOrderOfTheirThread) {
  auto lane = start_lane();
  constexpr int kThreads = 4;
  constexpr int kPosts = 5000;
  std::vector<int> next(kThreads, 0);  // the lane's
  int out_of_order = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kPosts; ++i) {
        lane->post([&, t, i] {
          if (next[static_cast<std::size_t>(t)]++ != i) ++out_of_order;
        });
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  lane->stop();
  EXPECT_EQ(out_of_order, 0);
  for (const int count : next) EXPECT_EQ(count, kPosts);
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

}  // namespace
}  // namespace net_test

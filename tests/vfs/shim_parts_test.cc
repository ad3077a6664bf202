// The parts of the shim that need no SQLite: the frame map of a transaction, and the order of waiting writers.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "base/posix_env.h"
#include "vfs/capture.h"
#include "vfs/slot.h"
#include "vfs/writer_queue.h"

namespace shim_test {
namespace {

base::Bytes page_of(unsigned value) { return base::Bytes(512, static_cast<std::byte>(value)); }

std::vector<std::pair<pages::PageNo, std::uint32_t>> frames_of(const vfs::Capture& capture, pages::PageNo held,
                                                               pages::PageNo size) {
  std::vector<std::pair<pages::PageNo, std::uint32_t>> all;
  for (const auto& page : capture.last_frames(held, size)) all.emplace_back(page.number, page.frame);
  return all;
}

using Frames = std::vector<std::pair<pages::PageNo, std::uint32_t>>;

TEST(Capture, LastImageOfAPage_Wins) {
  vfs::Capture capture;
  capture.reset();
  for (const auto& [frame, page] : {std::pair{11U, 3U}, {12U, 4U}, {13U, 3U}}) {
    ASSERT_TRUE(capture.add_header(frame, page));
    ASSERT_TRUE(capture.add_page(frame, page_of(frame)));
  }
  capture.hold(14, {});
  EXPECT_EQ(frames_of(capture, 5, 10), (Frames{{3, 13}, {4, 12}, {5, 14}}));
  EXPECT_EQ(frames_of(capture, 4, 10), (Frames{{3, 13}, {4, 14}})) << "the commit frame repeats a spilled page";
  EXPECT_EQ(frames_of(capture, 1, 3), (Frames{{1, 14}, {3, 13}})) << "page 4 is beyond the end";
  EXPECT_EQ(capture.first_frame(), 11U);
}

TEST(Capture, OverwrittenPage_HasItsNewImage) {
  vfs::Capture capture;
  capture.reset();
  ASSERT_TRUE(capture.add_header(1, 2));
  ASSERT_TRUE(capture.add_page(1, page_of(1)));
  ASSERT_TRUE(capture.add_page(1, page_of(9)));
  base::Bytes scratch;
  const auto image = capture.image(1, nullptr, scratch, 512);
  ASSERT_TRUE(image);
  EXPECT_EQ((*image)[0], std::byte{9});
}

TEST(Capture, RollbackTo_CutsTheUndoneFrames) {
  vfs::Capture capture;
  capture.reset();
  for (std::uint32_t frame = 5; frame < 10; ++frame) {
    ASSERT_TRUE(capture.add_header(frame, frame));
    ASSERT_TRUE(capture.add_page(frame, page_of(frame)));
  }
  ASSERT_TRUE(capture.add_header(7, 20));
  ASSERT_TRUE(capture.add_page(7, page_of(20)));
  capture.hold(8, {});
  EXPECT_EQ(frames_of(capture, 6, 30), (Frames{{5, 5}, {6, 8}, {20, 7}}));
  // The commit frame itself stands where undone frames stood.
  capture.hold(6, {});
  EXPECT_EQ(frames_of(capture, 1, 30), (Frames{{1, 6}, {5, 5}}));
}

TEST(Capture, GapsAndPagesWithoutHeader_AreErrors) {
  vfs::Capture capture;
  capture.reset();
  EXPECT_FALSE(capture.add_page(3, page_of(1)));
  ASSERT_TRUE(capture.add_header(3, 1));
  EXPECT_FALSE(capture.add_header(5, 1));
  EXPECT_FALSE(capture.add_header(2, 1));
  EXPECT_FALSE(capture.add_page(4, page_of(1)));
}

TEST(Capture, OnlyTheReEncodedCommit_AnswersForItsChecksum) {
  vfs::Capture capture;
  capture.reset();
  capture.hold(9, {});
  capture.committed(true);
  EXPECT_FALSE(capture.answers_checksum_of(8));
  EXPECT_TRUE(capture.answers_checksum_of(9));
  EXPECT_TRUE(capture.answers_checksum_of(40));
  capture.reset();
  capture.hold(9, {});
  capture.committed(false);
  EXPECT_FALSE(capture.answers_checksum_of(40));
}

TEST(WriterQueue, Release_ReservesForTheFirstWaiter) {
  vfs::WriterQueue queue;
  int a = 0;
  int b = 0;
  int c = 0;
  queue.took(&a);
  EXPECT_TRUE(queue.held_by_this_thread(&b));
  EXPECT_FALSE(queue.held_by_this_thread(&a));
  std::atomic<bool> turn{false};
  std::thread waiter([&] {
    while (!queue.wait(&b, base::kSecond)) {
    }
    turn.store(true);
    EXPECT_TRUE(queue.may_ask(&b));
    queue.took(&b);
  });
  // Until b is in the queue, c waits behind it or before it; with the holder there nobody gets a turn.
  EXPECT_FALSE(queue.wait(&c, base::kMillisecond));
  EXPECT_FALSE(turn.load());
  queue.forget(&c);
  queue.released(&a);
  waiter.join();
  EXPECT_TRUE(turn.load());
  queue.released(&b);
  EXPECT_TRUE(queue.may_ask(&c));
}

TEST(WriterQueue, WaiterThatLeft_DoesNotKeepTheReservation) {
  vfs::WriterQueue queue;
  int a = 0;
  int b = 0;
  int c = 0;
  queue.took(&a);
  EXPECT_FALSE(queue.wait(&b, 0));  // in the queue, and its driver gives up without telling
  queue.released(&a);
  const base::Micros deadline = base::posix_env().now() + 5 * base::kSecond;
  while (!queue.may_ask(&c) && base::posix_env().now() < deadline) std::this_thread::yield();
  EXPECT_TRUE(queue.may_ask(&c));
}

TEST(Slot, LateAnswer_GoesToTheLateFunction) {
  int late = 0;
  vfs::Slot<int> slot([&late](int value) { late = value; });
  const auto now = [] { return base::posix_env().now(); };
  EXPECT_FALSE(slot.wait(now() + base::kMillisecond, now, [] { return false; }));
  slot.set(7);
  EXPECT_EQ(late, 7);
  vfs::Slot<int> answered;
  answered.set(3);
  EXPECT_EQ(answered.wait(now(), now, [] { return true; }), 3);
}

}  // namespace
}  // namespace shim_test

// The order of the driver alone, with a log lane that runs when the test says so: what counts as durable and what is sent only after the
// sync (R8, R9); and its timer, which pays followers what the core owes them.
#include "node/driver.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <utility>
#include <variant>
#include <vector>

#include "base/posix_env.h"

namespace node {
namespace {

raft::MemberInfo info(std::uint64_t id) {
  raft::MemberInfo out;
  out.member = {base::NodeId{id}, base::Incarnation{id + 10}};
  return out;
}

class HeldLane final : public base::Lane {
 public:
  void post(base::Task task) override { tasks_.push_back(std::move(task)); }
  void post_at(base::Micros, base::Task task) override { timers.push_back(std::move(task)); }
  [[nodiscard]] bool is_current() const override { return true; }
  void run() {
    while (!tasks_.empty()) {
      const base::Task task = std::move(tasks_.front());
      tasks_.pop_front();
      task();
    }
  }
  // Every time comes.
  void run_timers() {
    expire_timers();
    run();
  }
  void expire_timers() {
    for (const base::Task& task : std::exchange(timers, {})) task();
  }
  std::vector<base::Task> timers;

 private:
  std::deque<base::Task> tasks_;
};

// Durable at once, when the lane gets that far.
class MemoryLog final : public wal::Log {
 public:
  using wal::Log::append_batch;
  base::Status append_batch(std::vector<wal::Append> appends, wal::Durability wanted) override {
    batches += appends.size();
    if (wanted == wal::Durability::kWritten) unsynced = true;
    return base::ok();
  }
  base::Status sync() override {
    ++syncs;
    unsynced = false;
    return sync_result;
  }
  base::Status seal() override { return base::ok(); }
  base::Result<std::vector<base::Entry>> read(wal::Group, wal::Index, wal::Index, std::size_t) override {
    return base::make_error(base::Code::kNotFound, "not asked for in these tests");
  }
  base::Status set_floor(wal::Group, wal::LogId) override { return base::ok(); }
  base::Status reset(wal::Group, wal::LogId) override { return base::ok(); }
  base::Result<bool> prepare_segments() override { return true; }
  void set_cluster(std::uint64_t) override {}
  [[nodiscard]] std::uint64_t bytes() const override { return 0; }
  [[nodiscard]] bool poisoned() const override { return false; }
  [[nodiscard]] bool synced() const override { return !unsynced; }
  [[nodiscard]] bool full() const override { return false; }
  [[nodiscard]] std::uint64_t sync_count() const override { return batches; }
  std::size_t batches = 0;
  std::size_t syncs = 0;
  bool unsynced = false;
  base::Status sync_result;
};

class DriverTest : public ::testing::Test {
 protected:
  void start(const std::vector<raft::MemberInfo>& voters, base::Micros sync_interval = 0) {
    Driver::Hooks hooks;
    hooks.send = [this](const raft::Message& message) { sent_.push_back(message); };
    hooks.flush = [] {};
    hooks.committed = [this](base::Entry entry) { committed_.push_back(std::move(entry)); };
    hooks.read = [](const raft::ReadResult&) {};
    hooks.status_changed = [] {};
    hooks.failed = [this](const base::Error& error) { failures_.push_back(base::to_string(error)); };
    hooks.full_changed = [](bool) {};
    driver_ = std::make_unique<Driver>(base::posix_env(), loop_, log_lane_, log_, sync_interval, std::move(hooks));
    raft::Options options;
    options.self = info(1).member;
    raft::Restored restored;
    restored.floor_configuration.voters = voters;
    driver_->adopt(std::make_unique<raft::Core>(options, std::move(restored)));
  }
  // Until neither lane has anything left to do.
  void let_the_disk_work() {
    for (int i = 0; i < 10; ++i) {
      log_lane_.run();
      loop_.run();
    }
  }
  // One that leads alone, with nothing left to do.
  void lead_alone(base::Micros sync_interval) {
    start({info(1)}, sync_interval);
    driver_->core().campaign();
    driver_->pump();
    let_the_disk_work();
    ASSERT_EQ(driver_->core().status().role, raft::Role::kLeader);
    loop_.run_timers();
    let_the_disk_work();
  }
  void propose() {
    ASSERT_TRUE(driver_->core().propose(base::EntryKind::kData, base::share(base::Bytes(3))));
    driver_->pump();
    let_the_disk_work();
  }
  // Member `id` grants every vote, has every entry on its disk at once, and echoes heartbeats. Until it has heard everything so far.
  void answer(std::uint64_t id) {
    std::size_t& heard = heard_[id];
    for (; heard < sent_.size(); ++heard) {
      const raft::Message message = sent_[heard];
      if (message.to != info(id).member) continue;
      raft::Message reply{message.to, message.from, message.term, raft::HeartbeatReply{}};
      if (const auto* vote = std::get_if<raft::VoteRequest>(&message.body)) {
        reply.body = raft::VoteReply{.pre = vote->pre, .granted = true};
      } else if (const auto* append = std::get_if<raft::AppendRequest>(&message.body)) {
        const base::Index last = append->entries.empty() ? append->previous.index : append->entries.back().id.index;
        reply.body = raft::AppendReply{.accepted = true, .match = last, .round = append->round, .durable = last};
        match_[id] = std::max(match_[id], last);
      } else if (const auto* beat = std::get_if<raft::Heartbeat>(&message.body)) {
        reply.body = raft::HeartbeatReply{.round = beat->round, .match = match_[id]};
      }
      driver_->core().step(std::move(reply));
      driver_->pump();
      let_the_disk_work();
    }
  }
  // Of three voters this one leads, and the last commit did not need member 3.
  void lead_with_patient_third() {
    start({info(1), info(2), info(3)});
    driver_->core().campaign();
    driver_->pump();
    for (int i = 0; i < 3; ++i) {
      let_the_disk_work();
      answer(2);
      answer(3);
    }
    for (int i = 0; i < 10; ++i) {
      driver_->core().tick();
      driver_->pump();
      answer(2);
      answer(3);
    }
    propose();
    answer(2);
    answer(3);
    // The first one may be older than the entry, and pays what is older than itself.
    for (int i = 0; i < 2; ++i) {
      loop_.expire_timers();
      answer(2);
      answer(3);
    }
    ASSERT_EQ(loop_.timers.size(), 0u);
    sent_.clear();
    heard_.clear();
  }
  template <class Body>
  std::size_t count_sent_to(std::uint64_t id) const {
    return static_cast<std::size_t>(std::count_if(sent_.begin(), sent_.end(), [&](const raft::Message& message) {
      return message.to == info(id).member && std::holds_alternative<Body>(message.body);
    }));
  }
  std::map<std::uint64_t, std::size_t> heard_;
  std::map<std::uint64_t, base::Index> match_;
  void TearDown() override { EXPECT_EQ(failures_, expected_failures_); }
  template <class Body>
  std::size_t count_sent() const {
    std::size_t count = 0;
    for (const raft::Message& message : sent_) count += std::holds_alternative<Body>(message.body);
    return count;
  }
  HeldLane loop_;
  HeldLane log_lane_;
  MemoryLog log_;
  std::vector<raft::Message> sent_;
  std::vector<base::Entry> committed_;
  std::vector<std::string> failures_;
  std::vector<std::string> expected_failures_;
  std::unique_ptr<Driver> driver_;
};

TEST_F(DriverTest, Vote_LeavesAfterItsSync) {
  start({info(1), info(2), info(3)});
  driver_->core().step({info(2).member, info(1).member, base::Term{5}, raft::VoteRequest{}});
  driver_->pump();
  loop_.run();
  EXPECT_EQ(count_sent<raft::VoteReply>(), 0u);
  EXPECT_EQ(log_.batches, 0u);
  let_the_disk_work();
  EXPECT_EQ(log_.batches, 1u);
  ASSERT_EQ(count_sent<raft::VoteReply>(), 1u);
  EXPECT_TRUE(std::get<raft::VoteReply>(sent_.back().body).granted);
}

TEST_F(DriverTest, Ack_LeavesAfterItsSync) {
  start({info(1), info(2), info(3)});
  raft::AppendRequest append;
  append.entries.push_back({{base::Term{5}, base::Index{1}}, base::EntryKind::kNoop, nullptr});
  driver_->core().step({info(2).member, info(1).member, base::Term{5}, append});
  driver_->pump();
  loop_.run();
  for (const raft::Message& message : sent_) {
    const auto* const reply = std::get_if<raft::AppendReply>(&message.body);
    EXPECT_TRUE(reply == nullptr || reply->match == base::Index{0});
  }
  EXPECT_EQ(driver_->core().status().durable, base::Index{0});
  let_the_disk_work();
  ASSERT_GE(count_sent<raft::AppendReply>(), 1u);
  EXPECT_EQ(std::get<raft::AppendReply>(sent_.back().body).match, base::Index{1});
}

TEST_F(DriverTest, OwnEntry_IsCommittedAfterItsSync) {
  start({info(1)});
  driver_->core().campaign();
  driver_->pump();
  let_the_disk_work();
  ASSERT_EQ(driver_->core().status().role, raft::Role::kLeader);
  const std::size_t before = committed_.size();
  ASSERT_TRUE(driver_->core().propose(base::EntryKind::kData, base::share(base::Bytes(3))));
  driver_->pump();
  loop_.run();
  driver_->pump();
  EXPECT_EQ(committed_.size(), before);
  let_the_disk_work();
  EXPECT_EQ(committed_.size(), before + 1);
}

// log_sync = "interval_<ms>": a batch counts when it is written, and the timer syncs all there is.
TEST_F(DriverTest, Interval_BatchesCountWhenWritten_TheTimerSyncsThem) {
  lead_alone(200 * base::kMillisecond);
  const std::size_t committed = committed_.size();
  const std::size_t syncs = log_.syncs;
  for (int i = 0; i < 3; ++i) propose();
  EXPECT_EQ(committed_.size(), committed + 3);
  EXPECT_EQ(log_.syncs, syncs);
  EXPECT_TRUE(log_.unsynced);
  loop_.run_timers();
  let_the_disk_work();
  EXPECT_EQ(log_.syncs, syncs + 1);
  EXPECT_FALSE(log_.unsynced);
  loop_.run_timers();  // nothing is left to sync
  let_the_disk_work();
  EXPECT_EQ(log_.syncs, syncs + 1);
  propose();
  loop_.run_timers();
  let_the_disk_work();
  EXPECT_EQ(log_.syncs, syncs + 2);
}

TEST_F(DriverTest, HeldSynced_WaitsForTheSyncAndSyncsEveryBatchUntilReleased) {
  lead_alone(200 * base::kMillisecond);
  propose();
  ASSERT_TRUE(log_.unsynced);
  int held = 0;
  const auto count = [&](const base::Status& status) {
    EXPECT_TRUE(status);
    EXPECT_FALSE(log_.unsynced);
    ++held;
  };
  driver_->hold_synced(count);
  EXPECT_EQ(held, 0);
  let_the_disk_work();
  EXPECT_EQ(held, 1);
  propose();
  EXPECT_FALSE(log_.unsynced);
  driver_->hold_synced(count);
  let_the_disk_work();
  driver_->release_synced();
  propose();
  EXPECT_FALSE(log_.unsynced);
  driver_->release_synced();
  EXPECT_EQ(held, 2);
  propose();
  EXPECT_TRUE(log_.unsynced);
}

// The batch in flight was begun before the hold, and is only written.
TEST_F(DriverTest, HeldSyncedWithABatchInFlight_CoversItToo) {
  lead_alone(200 * base::kMillisecond);
  ASSERT_TRUE(driver_->core().propose(base::EntryKind::kData, base::share(base::Bytes(3))));
  driver_->pump();
  bool held = false;
  driver_->hold_synced([&](const base::Status&) {
    held = true;
    EXPECT_FALSE(log_.unsynced);
  });
  let_the_disk_work();
  EXPECT_TRUE(held);
}

TEST_F(DriverTest, LateSyncFails_NothingGoesOn) {
  lead_alone(200 * base::kMillisecond);
  propose();
  log_.sync_result = base::make_error(base::Code::kPoisoned, "the sync failed");
  expected_failures_ = {base::to_string(log_.sync_result.error())};
  loop_.run_timers();
  let_the_disk_work();
  EXPECT_TRUE(driver_->halted());
  const std::size_t batches = log_.batches;
  driver_->pump();
  let_the_disk_work();
  EXPECT_EQ(log_.batches, batches);
}

TEST_F(DriverTest, PatientFollower_IsPaidByTheTimer) {
  lead_with_patient_third();
  propose();
  EXPECT_EQ(count_sent_to<raft::AppendRequest>(2), 1u);
  EXPECT_EQ(count_sent_to<raft::AppendRequest>(3), 0u);
  ASSERT_EQ(loop_.timers.size(), 1u);
  answer(2);
  propose();
  answer(2);
  // The second one is younger than the timer: more may come. A timer of its own sees that no more has.
  loop_.expire_timers();
  EXPECT_EQ(count_sent_to<raft::AppendRequest>(3), 0u);
  ASSERT_EQ(loop_.timers.size(), 1u);
  loop_.expire_timers();
  ASSERT_EQ(count_sent_to<raft::AppendRequest>(3), 1u);
  answer(3);
  EXPECT_EQ(loop_.timers.size(), 0u);
}

TEST_F(DriverTest, QuickFollowerThatIsLate_TheOtherIsSentToByTheTimer) {
  lead_with_patient_third();
  const std::size_t before = committed_.size();
  propose();
  loop_.expire_timers();
  ASSERT_EQ(count_sent_to<raft::AppendRequest>(3), 1u);
  answer(3);
  EXPECT_EQ(committed_.size(), before + 1);
}

TEST_F(DriverTest, AnnouncedCommit_ReachesThatFollowerOnly) {
  lead_with_patient_third();
  propose();
  answer(2);
  driver_->announce_commit(info(2).member);
  EXPECT_EQ(count_sent_to<raft::Heartbeat>(2), 1u);
  EXPECT_EQ(count_sent_to<raft::Heartbeat>(3), 0u);
  EXPECT_EQ(count_sent_to<raft::AppendRequest>(3), 0u);
  driver_->announce_commit(info(3).member);
  EXPECT_EQ(count_sent_to<raft::AppendRequest>(3), 1u);
}

}  // namespace
}  // namespace node

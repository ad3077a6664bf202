// The queue alone: what start-up enqueues is not handed to the images before start(). Their answers come on the loop, which runs already,
// while start-up is still at work on another thread.
#include "node/apply_queue.h"

#include <gtest/gtest.h>

#include <memory>
#include <utility>
#include <vector>

#include "base/posix_env.h"
#include "tests/node/no_images.h"

namespace node {
namespace {

using base::Index;
using base::LogId;
using base::Status;
using base::Term;

// Nothing of these tests reaches a lane.
class NoLane final : public base::Lane {
 public:
  void post(base::Task) override { ADD_FAILURE() << "posted"; }
  void post_at(base::Micros, base::Task) override { ADD_FAILURE() << "posted"; }
  [[nodiscard]] bool is_current() const override { return true; }
};

// Keeps what it is to publish, and the answers.
class HeldImage final : public pages::DatabaseImage {
 public:
  void publish(pages::PublishJob job, std::function<void(Status)> done) override {
    ids.push_back(job.id);
    answers.push_back(std::move(done));
  }
  void sync_point(std::function<void(base::Result<LogId>)>) override {}
  void checkpoint(std::function<void(Status)>) override {}
  void doom_local_writer(const base::Error&) override {}
  bool doom_overdue_writer(const pages::Overdue&, const base::Error&) override { return false; }
  void drop(std::function<void(Status)>) override {}
  pages::ImageStatus status() override { return {}; }

  std::vector<LogId> ids;
  std::vector<std::function<void(Status)>> answers;
};

Decision transaction(base::DatabaseId db, std::uint64_t index) {
  Decision decision;
  decision.id = {Term{1}, Index{index}};
  decision.effect = Effect::kPublish;
  decision.db = db;
  decision.payload = base::share(base::Bytes(10));
  return decision;
}

TEST(ApplyQueue, WhatStartUpEnqueues_WaitsForStart) {
  NoLane lane;
  NoImages factory;
  ApplyQueue::Hooks hooks;
  hooks.progressed = [] {};
  ApplyQueue queue(base::posix_env(), lane, lane, factory, std::move(hooks));
  const auto image = std::make_shared<HeldImage>();
  Ledger::Database database;
  database.id = base::DatabaseId{2};
  database.name = "app.db";
  queue.add_opened(database, image, pages::ImageState::kOk, {Term{1}, Index{2}});
  queue.enqueue(transaction(database.id, 3));
  queue.enqueue(transaction(database.id, 4));
  EXPECT_TRUE(image->ids.empty());
  EXPECT_EQ(queue.applied(), Index{2});

  queue.start();
  ASSERT_EQ(image->ids.size(), 1u);
  image->answers[0](base::ok());
  ASSERT_EQ(image->ids.size(), 2u);
  EXPECT_EQ(queue.applied(), Index{3});
  image->answers[1](base::ok());
  EXPECT_EQ(queue.applied(), Index{4});
  EXPECT_EQ(image->ids, (std::vector<LogId>{{Term{1}, Index{3}}, {Term{1}, Index{4}}}));
}

}  // namespace
}  // namespace node

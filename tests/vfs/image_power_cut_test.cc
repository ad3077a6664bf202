// The three syncs of a checkpoint and of the WAL's restart (DESIGN section 7): that each is made where it must be, as the calls that reach
// the operating system show, and what a power cut at each stage leaves. The log is the redo log: it has every transaction.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <set>

#include "base/fault.h"
#include "tests/vfs/disk_spy.h"
#include "tests/vfs/image_history.h"

namespace image_test {
namespace {

const std::vector<std::string> kFiles = {"app.db", "app.db-wal", "app.db.sums"};

struct PowerCut : ::testing::Test {
  PowerCut() : seed(base::posix_env().random()), random(seed), create(source.create()), node(live.path()) {}

  // A power cut now; what it leaves is recovered later, outside the call that it was made in.
  void cut(DiskSpy& spy, const std::string& stage) {
    cuts.push_back({std::make_unique<TempDir>(), stage});
    spy.cut_power(cuts.back().dir->path(), random);
    stages.insert(stage);
  }
  void recover_all(const std::vector<pages::PublishJob>& jobs) {
    for (const Cut& each : cuts) {
      SCOPED_TRACE("before " + each.stage + ", seed " + std::to_string(seed));
      recover_and_finish(each.dir->path(), source, jobs);
      if (HasFatalFailure()) return;
    }
    cuts.clear();
  }

  struct Cut {
    std::unique_ptr<TempDir> dir;
    std::string stage;
  };
  const std::uint64_t seed;
  std::mt19937_64 random;
  Source source;
  const pages::CreateDatabase create;
  TempDir live;
  Node node;
  std::vector<Cut> cuts;
  std::set<std::string> stages;
};

// 1: the WAL before the backfill. 2: the database behind it. 3: the new WAL's header before its first frame.
TEST_F(PowerCut, CheckpointAndNewWal_PassTheThreeSyncsInOrder) {
  const auto jobs = make_history(source, 4);
  ASSERT_OK(node.create(create));
  for (std::size_t i = 0; i < 3; ++i) ASSERT_OK(node.publish(jobs[i]));
  ASSERT_OK(node.sync_point());
  DiskSpy spy(live.path(), kFiles);
  ASSERT_OK(node.checkpoint());
  EXPECT_EQ(spy.take_calls(),
            (std::vector<std::string>{"sync app.db-wal", "write app.db", "truncate app.db", "sync app.db"}));
  ASSERT_OK(node.publish(jobs[3]));
  EXPECT_EQ(spy.take_calls(), (std::vector<std::string>{"write app.db.sums", "sync app.db.sums", "write app.db-wal",
                                                        "sync app.db-wal", "write app.db-wal"}))
      << "the salts, the header, and then the frames, which are not synced";
}

// A transaction that is published between the sync point and the backfill is backfilled too.
TEST_F(PowerCut, FramesBehindTheSyncPoint_AreSyncedBeforeTheBackfill) {
  const auto jobs = make_history(source, 12);
  ASSERT_OK(node.create(create));
  for (std::size_t i = 0; i < 6; ++i) ASSERT_OK(node.publish(jobs[i]));
  DiskSpy spy(live.path(), kFiles);
  std::size_t next = 6;
  spy.before = [&](DiskCall call, const std::string& name) {
    if (call == DiskCall::kSync && name == "app.db.sums" && next < 10) {
      EXPECT_TRUE(node.publish(jobs[next++]));
    }
    if (call == DiskCall::kWrite && name == "app.db") cut(spy, "write app.db");
  };
  ASSERT_OK(node.checkpoint());
  spy.before = nullptr;
  ASSERT_EQ(next, 8u) << "a sync point syncs .sums twice";
  const auto calls = spy.take_calls();
  const auto backfill = std::find(calls.begin(), calls.end(), "write app.db");
  ASSERT_NE(backfill, calls.end());
  ASSERT_NE(backfill, calls.begin());
  EXPECT_EQ(*(backfill - 1), "sync app.db-wal");
  EXPECT_NE(std::find(calls.begin(), backfill, "write app.db-wal"), backfill);
  recover_all(jobs);
}

// What the database and the WAL hold between them must be whole before each call of a checkpoint and of the restart behind it.
TEST_F(PowerCut, AtEachStageOfAWalRestart_NothingAppliedIsLost) {
  const auto jobs = make_history(source, 24 + 6 * static_cast<int>(test_scale()));
  ASSERT_OK(node.create(create));
  DiskSpy spy(live.path(), kFiles);
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    const bool restarts = i % 6 == 0;
    spy.before = [&](DiskCall call, const std::string& name) {
      if (call == DiskCall::kSync) cut(spy, "sync " + name);
      // A checkpoint writes tens of pages, a transaction a few frames.
      if (call == DiskCall::kWrite && (name != "app.db" || random() % 16 == 0)) cut(spy, "write " + name);
    };
    if (!restarts) spy.before = nullptr;
    ASSERT_OK(node.publish(jobs[i]));
    cut(spy, "the end of a transaction");
    if (i % 6 == 5) {
      spy.before = [&](DiskCall call, const std::string& name) {
        if (call == DiskCall::kSync) cut(spy, "sync " + name);
        if (call == DiskCall::kWrite && random() % 8 == 0) cut(spy, "write " + name);
      };
      ASSERT_OK(node.checkpoint());
      cut(spy, "the end of a checkpoint");
    }
    recover_all(jobs);
    if (HasFatalFailure()) return;
  }
  for (const char* const stage :
       {"sync app.db", "sync app.db-wal", "sync app.db.sums", "write app.db", "write app.db-wal", "write app.db.sums",
        "the end of a checkpoint", "the end of a transaction"})
    EXPECT_EQ(stages.count(stage), 1u) << "no power cut before " << stage;
}

// R13: a database whose sync failed is never restarted over: the WAL stays whole until recovery has read it.
TEST_F(PowerCut, FailedSyncOfTheDatabase_KeepsTheWal) {
  NEEDS_FAULTS();
  const auto jobs = make_history(source, 12);
  ASSERT_OK(node.create(create));
  for (std::size_t i = 0; i < 6; ++i) ASSERT_OK(node.publish(jobs[i]));
  DiskSpy spy(live.path(), kFiles);
  ASSERT_OK(base::arm_faults("image.db_sync:eio:1,image.wal_restart:delay_ms=0"));
  EXPECT_EQ(node.checkpoint().error().code, base::Code::kSql);
  EXPECT_EQ(base::fault_hits("image.db_sync"), 1u);
  EXPECT_EQ(node.checkpoint().error().code, base::Code::kIo);
  EXPECT_EQ(base::fault_hits("image.db_sync"), 1u) << "tried again";
  ASSERT_OK(node.publish(jobs[6]));
  EXPECT_EQ(base::fault_hits("image.wal_restart"), 0u);
  base::disarm_faults();
  for (int i = 0; i < 8; ++i) cut(spy, "the failed sync was noticed");
  recover_all(jobs);
}

}  // namespace
}  // namespace image_test

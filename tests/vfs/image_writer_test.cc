// WRITER between local connections, the applier and checkpoints (R4): own commits, parked and doomed ones, commits that SQLite dropped
// after they were allowed. A connection of the shim is played by the test: a WalAppender writes what SQLite would.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <future>

#include "tests/vfs/image_fixture.h"
#include "vfs/wal_index.h"
#include "vfs/wal_writer.h"

namespace image_test {
namespace {

struct Writer : ::testing::Test {
  Writer() : node(dir.path()) {
    EXPECT_TRUE(node.create(source.create()));
    EXPECT_TRUE(node.publish(source.transact("CREATE TABLE t(x); INSERT INTO t VALUES(1),(2),(3)")));
    shm_fd = ::open((node.path() + "-shm").c_str(), O_RDWR | O_CLOEXEC);
    wal_fd = ::open((node.path() + "-wal").c_str(), O_RDWR | O_CLOEXEC);
    index = std::move(*vfs::WalIndex::map(shm_fd));
  }
  ~Writer() override {
    index.reset();
    ::close(shm_fd);
    ::close(wal_fd);
  }
  // The changed pages of a job as the shim computes them: old image from the database, new hash.
  std::vector<std::pair<pages::PageNo, std::uint64_t>> changes(const pages::PublishJob& job) {
    std::vector<std::pair<pages::PageNo, std::uint64_t>> changed;
    images.clear();
    const auto tx = pages::decode_tx(base::view_of(job.payload));
    for (const pages::Patch& patch : tx->patches) {
      base::Bytes image(4096);
      if (patch.kind == pages::PatchKind::kRuns) {
        EXPECT_TRUE(node->committed_page(patch.page, image));
      }
      EXPECT_TRUE(pages::apply_patch(patch, image));
      changed.emplace_back(patch.page, pages::page_hash(patch.page, image));
      images.emplace_back(patch.page, image);
    }
    return changed;
  }
  // What SQLite does at the commit: frames and header.
  void publish_as_sqlite(const pages::PublishJob& job) {
    const auto header = index->header();
    ASSERT_TRUE(header);
    vfs::WalAppender appender(wal_fd, *index, *header, 4096);
    for (const auto& [page, image] : images) ASSERT_OK(appender.add(page, image));
    ASSERT_OK(appender.commit(job.header.size_after));
  }
  std::future<base::Status> publish_async(const pages::PublishJob& job) {
    auto outcome = std::make_shared<std::promise<base::Status>>();
    auto future = outcome->get_future();
    node->publish(job, [outcome](base::Status status) { outcome->set_value(std::move(status)); });
    return future;
  }
  static bool waits(std::future<base::Status>& future) {
    return future.wait_for(std::chrono::milliseconds(30)) == std::future_status::timeout;
  }
  base::Bytes seen() {
    Plain reader(node.path(), SQLITE_OPEN_READONLY);
    return reader.serialize();
  }

  TempDir dir;
  Source source;
  Node node;
  FakeConnection connection;
  std::vector<std::pair<pages::PageNo, base::Bytes>> images;
  int shm_fd = -1;
  int wal_fd = -1;
  std::unique_ptr<vfs::WalIndex> index;
};

TEST_F(Writer, SecondConnection_IsBusyAtOnce) {
  FakeConnection second;
  ASSERT_OK(node->try_lock_writer(connection));
  ASSERT_OK(node->try_lock_writer(connection));
  EXPECT_EQ(node->try_lock_writer(second).error().code, base::Code::kBusy);
  EXPECT_EQ(node->status().writer, "local connection");
  EXPECT_EQ(node->lock_writer_after(second, {}, base::posix_env().now() + 1000).error().code, base::Code::kTimeout);
  node->unlock_writer(second);  // not the holder: nothing
  EXPECT_EQ(node->try_lock_writer(second).error().code, base::Code::kBusy);
  node->unlock_writer(connection);
  ASSERT_OK(node->try_lock_writer(second));
  node->unlock_writer(second);
}

TEST_F(Writer, CommittedState_IsThatOfTheLastTransaction) {
  ASSERT_OK(node->try_lock_writer(connection));
  const vfs::CommittedState state = node->committed_state();
  EXPECT_EQ(state.last, source.last());
  EXPECT_EQ(state.digest, source.digest());
  EXPECT_EQ(state.page_count, source.image().size());
  for (pages::PageNo page = 1; page <= state.page_count; ++page) {
    base::Bytes image(4096);
    ASSERT_OK(node->committed_page(page, image));
    EXPECT_EQ(image, source.image()[page - 1]);
  }
  base::Bytes image(4096);
  EXPECT_EQ(node->committed_page(state.page_count + 1, image).error().code, base::Code::kNotFound);
  node->unlock_writer(connection);
}

TEST_F(Writer, OwnCommit_IsBookedAtTheUnlock) {
  const pages::PublishJob job = source.transact("INSERT INTO t VALUES(4)");
  ASSERT_OK(node->try_lock_writer(connection));
  const auto changed = changes(job);
  EXPECT_EQ(node->digest_with(changed, job.header.size_after), job.header.digest_after);
  auto published = publish_async(job);  // the log is faster than the waiting thread
  EXPECT_TRUE(waits(published));
  EXPECT_FALSE(connection.doomed);
  node->commit_allowed(connection, job.id, job.header.digest_after, job.header.size_after, changed);
  publish_as_sqlite(job);
  EXPECT_TRUE(waits(published));
  node->unlock_writer(connection);
  ASSERT_OK(published.get());
  EXPECT_EQ(node->status().applied, job.id);
  EXPECT_EQ(node->status().digest, source.digest());
  EXPECT_EQ(seen(), joined(source.image()));
  ASSERT_OK(node.publish(source.transact("INSERT INTO t VALUES(5)")));
  EXPECT_EQ(seen(), joined(source.image()));
}

TEST_F(Writer, OwnCommitThatSqliteDropped_IsPublishedByTheApplier) {
  const pages::PublishJob job = source.transact("INSERT INTO t VALUES(4)");
  ASSERT_OK(node->try_lock_writer(connection));
  const auto changed = changes(job);
  (void)node->digest_with(changed, job.header.size_after);
  node->commit_allowed(connection, job.id, job.header.digest_after, job.header.size_after, changed);
  node->unlock_writer(connection);  // rolled back by SQLite
  EXPECT_EQ(node->try_lock_writer(connection).error().code, base::Code::kBusy);
  EXPECT_NE(node->status().applied, job.id);
  ASSERT_OK(node.publish(job));
  EXPECT_EQ(seen(), joined(source.image()));
  ASSERT_OK(node->try_lock_writer(connection));
  EXPECT_EQ(node->committed_state().last, job.id);
  node->unlock_writer(connection);
}

TEST_F(Writer, ForeignEntryUnderALocalWriter_DoomsItAndParks) {
  ASSERT_OK(node->try_lock_writer(connection));
  const base::Bytes before = joined(source.image());
  const pages::PublishJob job = source.transact("INSERT INTO t VALUES(4)");
  auto published = publish_async(job);
  EXPECT_TRUE(waits(published));
  EXPECT_TRUE(connection.doomed);
  EXPECT_EQ(connection.why.code, base::Code::kLeaseLost);
  EXPECT_EQ(node->status().state, pages::ImageState::kParked);
  EXPECT_EQ(node->status().apply_blocked_by, "local connection");
  EXPECT_EQ(seen(), before);  // readers go on meanwhile
  node->unlock_writer(connection);
  ASSERT_OK(published.get());
  EXPECT_EQ(node->status().state, pages::ImageState::kOk);
  EXPECT_EQ(seen(), joined(source.image()));
}

// Frames that the doomed transaction spilled, and their hash entries, are overwritten without a trace.
TEST_F(Writer, SpilledFramesOfADoomedWriter_LeaveNoTrace) {
  ASSERT_OK(node->try_lock_writer(connection));
  const auto header = index->header();
  ASSERT_TRUE(header);
  const base::Bytes junk(4096, std::byte{0xcc});
  for (vfs::FrameNo i = 1; i <= 20; ++i) {
    ASSERT_OK(index->append(header->max_frame + i, 1 + i % 2));
    ASSERT_TRUE(vfs::write_exact(wal_fd, vfs::frame_offset(header->max_frame + i, 4096) + 24, junk, "spill"));
  }
  base::Bytes image(4096);
  ASSERT_OK(node->committed_page(2, image));
  EXPECT_EQ(image, source.image()[1]);
  auto published = publish_async(source.transact("INSERT INTO t VALUES(4)"));
  EXPECT_TRUE(waits(published));
  node->unlock_writer(connection);
  ASSERT_OK(published.get());
  EXPECT_EQ(seen(), joined(source.image()));
  for (int i = 0; i < 10; ++i) ASSERT_OK(node.publish(source.transact("INSERT INTO t VALUES(hex(randomblob(900)))")));
  EXPECT_EQ(seen(), joined(source.image()));
}

TEST_F(Writer, DoomedWithoutASuccessor_ReadersSeeAChangedHeader) {
  ASSERT_OK(node->try_lock_writer(connection));
  const std::uint32_t change = index->header()->change;
  node->doom_local_writer(base::make_error(base::Code::kLeaseLost, "the lease ended"));
  EXPECT_TRUE(connection.doomed);
  node->unlock_writer(connection);
  EXPECT_EQ(index->header()->change, change + 1);
  EXPECT_EQ(seen(), joined(source.image()));
}

TEST_F(Writer, OverdueTransaction_IsDoomedWhenSomebodyWaits) {
  const base::Error reason = base::make_error(base::Code::kLeaseLost, "too long");
  const auto later = [] { return base::posix_env().now() + base::kSecond; };
  EXPECT_FALSE(node->doom_overdue_writer({later(), true}, reason));  // nobody writes
  ASSERT_OK(node->try_lock_writer(connection));
  EXPECT_FALSE(node->doom_overdue_writer({later(), false}, reason));  // nobody waits
  connection.waited_for = true;
  EXPECT_FALSE(node->doom_overdue_writer({later() - 60 * base::kSecond, false}, reason));  // it has time left
  connection.executor = true;
  EXPECT_FALSE(node->doom_overdue_writer({later(), true}, reason));
  connection.executor = false;
  EXPECT_FALSE(connection.doomed);
  EXPECT_EQ(node->status().doomed_since, 0);
  EXPECT_TRUE(node->doom_overdue_writer({later(), false}, reason));
  EXPECT_TRUE(connection.doomed);
  EXPECT_EQ(connection.why.message, "too long");
  const base::Micros since = node->status().doomed_since;
  EXPECT_GT(since, 0);
  EXPECT_FALSE(node->doom_overdue_writer({later(), false}, reason));  // it is already
  node->doom_local_writer(reason);
  EXPECT_EQ(node->status().doomed_since, since);
  node->unlock_writer(connection);
  EXPECT_EQ(node->status().doomed_since, 0);
  // Who waits for the lease counts as well.
  connection.waited_for = false;
  ASSERT_OK(node->try_lock_writer(connection));
  EXPECT_TRUE(node->doom_overdue_writer({later(), true}, reason));
  node->unlock_writer(connection);
}

// From its digest on, the log decides about a transaction.
TEST_F(Writer, CommitThatHasBegun_IsNotDoomed) {
  const pages::PublishJob job = source.transact("INSERT INTO t VALUES(4)");
  ASSERT_OK(node->try_lock_writer(connection));
  const auto changed = changes(job);
  (void)node->digest_with(changed, job.header.size_after);
  const base::Error reason = base::make_error(base::Code::kLeaseLost, "too long");
  EXPECT_FALSE(node->doom_overdue_writer({base::posix_env().now() + base::kSecond, true}, reason));
  node->doom_local_writer(reason);
  EXPECT_FALSE(connection.doomed);
  node->commit_allowed(connection, job.id, job.header.digest_after, job.header.size_after, changed);
  publish_as_sqlite(job);
  node->unlock_writer(connection);
  EXPECT_EQ(node->status().applied, job.id);
  EXPECT_EQ(seen(), joined(source.image()));
}

TEST_F(Writer, LockAfter_WaitsForTheGrantsIndex) {
  const pages::PublishJob job = source.transact("INSERT INTO t VALUES(4)");
  auto locked = std::async(std::launch::async, [&] {
    return node->lock_writer_after(connection, job.id, base::posix_env().now() + 20 * base::kSecond);
  });
  EXPECT_TRUE(waits(locked));
  ASSERT_OK(node.publish(job));
  ASSERT_OK(locked.get());
  EXPECT_EQ(node->committed_state().last, job.id);
  node->unlock_writer(connection);
}

TEST_F(Writer, CheckpointUnderALocalWriter_BackfillsWhatItCan) {
  ASSERT_OK(node->try_lock_writer(connection));
  ASSERT_OK(node.checkpoint());
  EXPECT_EQ(index->backfilled(), index->header()->max_frame);
  node->unlock_writer(connection);
  ASSERT_OK(node->run_checkpoint(base::posix_env().now() + 20 * base::kSecond));
}

TEST_F(Writer, Drop_DoomsFailsAndRemoves) {
  ASSERT_OK(node->attach(connection));
  ASSERT_OK(node->try_lock_writer(connection));
  std::promise<base::Status> dropped;
  node->drop([&](base::Status status) { dropped.set_value(std::move(status)); });
  ASSERT_OK(dropped.get_future().get());
  EXPECT_TRUE(connection.doomed);
  EXPECT_EQ(connection.why.code, base::Code::kDropped);
  FakeConnection second;
  EXPECT_EQ(node->attach(second).error().code, base::Code::kDropped);
  EXPECT_EQ(node->try_lock_writer(second).error().code, base::Code::kDropped);
  EXPECT_EQ(node.publish(source.transact("INSERT INTO t VALUES(4)")).error().code, base::Code::kDropped);
  for (const char* suffix : {"", "-wal", "-shm", ".sums"})
    EXPECT_FALSE(std::filesystem::exists(node.path() + suffix)) << suffix;
  node->detach(connection);
}

// A checkpoint on a disk that stands still outlives the stop's patience: it finds connection and locks where they were.
TEST_F(Writer, CloseUnderStalledWork_LeavesItConnectionAndLocks) {
  std::promise<void> disk_moves;
  node.params().maintenance->post([moves = disk_moves.get_future().share()] { moves.wait(); });
  std::promise<base::Status> checkpointed;
  node->checkpoint([&](base::Status status) { checkpointed.set_value(std::move(status)); });
  auto published = publish_async(source.transact("INSERT INTO t VALUES(4)"));
  ASSERT_OK(published.get());
  node->close();
  EXPECT_NE(shell("sqlite3 " + node.path() + " \"INSERT INTO t VALUES(9)\"").find("locked"), std::string::npos);
  disk_moves.set_value();
  ASSERT_OK(checkpointed.get_future().get());
  node.crash();
  ASSERT_OK(node.open(source.history()));
  EXPECT_EQ(seen(), joined(source.image()));
}

TEST_F(Writer, StopUnderAParkedJob_FailsIt) {
  ASSERT_OK(node->try_lock_writer(connection));
  auto published = publish_async(source.transact("INSERT INTO t VALUES(4)"));
  EXPECT_TRUE(waits(published));
  node->close();
  EXPECT_EQ(published.get().error().code, base::Code::kStopped);
  node->unlock_writer(connection);
}

}  // namespace
}  // namespace image_test

// Checkpoints beside the applier: what happens between the moment when SQLite's checkpoint copies the wal-index header and the moment when it
// compares the copy with the count of backfilled frames. There, and nowhere else, it calls xUnfetch when the header has changed: the test's
// own method, put into the files that the unix VFS opens meanwhile.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <functional>
#include <utility>

#include "tests/vfs/image_fixture.h"
#include "vfs/wal_index.h"

namespace image_test {
namespace {

std::function<void()> header_was_read;  // called once
decltype(sqlite3_vfs::xOpen) unix_open = nullptr;
decltype(sqlite3_io_methods::xUnfetch) unix_unfetch = nullptr;
sqlite3_io_methods hooked_methods;

int hooked_unfetch(sqlite3_file* file, sqlite3_int64 offset, void* page) {
  if (header_was_read) std::exchange(header_was_read, nullptr)();
  return unix_unfetch(file, offset, page);
}

int hooked_open(sqlite3_vfs* vfs, const char* name, sqlite3_file* file, int flags, int* out_flags) {
  const int rc = unix_open(vfs, name, file, flags, out_flags);
  if (rc != SQLITE_OK || (flags & SQLITE_OPEN_MAIN_DB) == 0) return rc;
  hooked_methods = *file->pMethods;
  unix_unfetch = hooked_methods.xUnfetch;
  hooked_methods.xUnfetch = hooked_unfetch;
  file->pMethods = &hooked_methods;
  return rc;
}

struct Checkpoint : ::testing::Test {
  Checkpoint() : node(dir.path()) {
    sqlite3_vfs* const unix_vfs = sqlite3_vfs_find("unix");
    unix_open = std::exchange(unix_vfs->xOpen, hooked_open);
    EXPECT_TRUE(node.create(source.create()));  // opens the connection that checkpoints
    unix_vfs->xOpen = unix_open;
    shm_fd = ::open((node.path() + "-shm").c_str(), O_RDWR | O_CLOEXEC);
    index = std::move(*vfs::WalIndex::map(shm_fd));
    publish("CREATE TABLE t(id INTEGER PRIMARY KEY, x)");
    for (int i = 0; i < 10; ++i) publish("INSERT INTO t(x) VALUES (hex(randomblob(3000)))");
  }
  ~Checkpoint() override {
    header_was_read = nullptr;
    index.reset();
    ::close(shm_fd);
  }
  void publish(const std::string& sql) {
    const base::Status published = node.publish(source.transact(sql));
    EXPECT_TRUE(published.has_value()) << base::to_string(published.error());
  }
  // SQLite's copy of the header is no longer the live one, though nothing was committed.
  void bump_header() {
    FakeConnection connection;
    ASSERT_OK(node->try_lock_writer(connection));
    node->doom_local_writer(base::make_error(base::Code::kLeaseLost, "the lease ended"));
    node->unlock_writer(connection);
  }
  vfs::FrameNo last_frame() { return index->header()->max_frame; }
  void expect_everything_is_seen() {
    EXPECT_LE(index->backfilled(), last_frame());
    Plain reader(node.path(), SQLITE_OPEN_READONLY);
    EXPECT_EQ(reader.serialize(), joined(source.image()));
  }
  TempDir dir;
  Source source;
  Node node;
  int shm_fd = -1;
  std::unique_ptr<vfs::WalIndex> index;
};

TEST_F(Checkpoint, NothingToDo_IsNotBegunUnderARestartOfTheWal) {
  ASSERT_OK(node.checkpoint());
  ASSERT_EQ(index->backfilled(), last_frame());
  ASSERT_GT(last_frame(), 10u);
  bump_header();
  bool between = false;
  header_was_read = [&] {
    between = true;
    publish("UPDATE t SET x='new' WHERE id=1");  // everything is backfilled and nobody reads: in a new WAL
  };
  ASSERT_OK(node.checkpoint());
  EXPECT_FALSE(between) << "SQLite was asked for a checkpoint of nothing";
  header_was_read = nullptr;
  if (!between) publish("UPDATE t SET x='new' WHERE id=1");
  EXPECT_LT(last_frame(), 10u);  // the WAL was restarted
  expect_everything_is_seen();
  ASSERT_OK(node.checkpoint());
  expect_everything_is_seen();
  EXPECT_EQ(node->status().state, pages::ImageState::kOk);
}

// The canary of the one above, and the reason why it is enough: with something left nobody restarts the WAL.
TEST_F(Checkpoint, SomethingToDo_NobodyRestartsTheWalMeanwhile) {
  ASSERT_OK(node.checkpoint());
  publish("INSERT INTO t(x) VALUES ('before')");
  const vfs::FrameNo before = last_frame();
  bool between = false;
  header_was_read = [&] {
    between = true;
    publish("UPDATE t SET x='new' WHERE id=1");
    EXPECT_GT(last_frame(), before);
  };
  ASSERT_OK(node.checkpoint());
  EXPECT_TRUE(between);
  expect_everything_is_seen();
  ASSERT_OK(node.checkpoint());
  EXPECT_EQ(index->backfilled(), last_frame());
  expect_everything_is_seen();
}

TEST_F(Checkpoint, MoreBackfilledThanThereIs_StopsTheDatabase) {
  ASSERT_OK(node.checkpoint());
  vfs::WalIndexHeader header = *index->header();
  ASSERT_GT(header.max_frame, 1u);
  --header.max_frame;
  index->publish(header);
  const base::Status refused = node.publish(source.transact("UPDATE t SET x='new' WHERE id=1"));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, base::Code::kDiverged);
  EXPECT_EQ(node->status().state, pages::ImageState::kDiverged);
  FakeConnection connection;
  EXPECT_EQ(node->try_lock_writer(connection).error().code, base::Code::kDiverged);
}

// The owner was killed between the two steps of a restart, and a plain reader has kept the wal-index alive.
TEST_F(Checkpoint, RestartThatWasCutOff_IsFinishedAtTheOpen) {
  ASSERT_OK(node.checkpoint());
  Plain reader(node.path(), SQLITE_OPEN_READONLY);
  ASSERT_EQ(reader.value("SELECT count(*) FROM t"), "10");
  vfs::WalIndexHeader header = *index->header();
  header.max_frame = 0;
  index->publish(header);
  ASSERT_GT(index->backfilled(), 0u);
  node.crash();
  ASSERT_OK(node.open(source.history()));
  EXPECT_EQ(index->backfilled(), 0u);
  publish("UPDATE t SET x='new' WHERE id=1");
  EXPECT_EQ(reader.value("SELECT x FROM t WHERE id=1"), "new");
  expect_everything_is_seen();
}

}  // namespace
}  // namespace image_test

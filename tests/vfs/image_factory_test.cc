// vfs::Images: the table behind the node and the shim; drop and create of one name; which syncs are passed.
#include <gtest/gtest.h>

#include <fstream>
#include <future>

#include "base/fault.h"
#include "tests/vfs/image_fixture.h"
#include "vfs/images.h"

namespace image_test {
namespace {

base::Status wait_for(const std::function<void(std::function<void(base::Status)>)>& call) {
  std::promise<base::Status> outcome;
  call([&](base::Status status) { outcome.set_value(std::move(status)); });
  return outcome.get_future().get();
}

base::LogId id_at(std::uint64_t index) { return {base::Term(1), base::Index(index)}; }

TEST(Images, CreateFindCloseOpen_KeepTheDatabase) {
  TempDir dir;
  Node lanes(dir.path());
  Source source;
  auto images = vfs::Images::make(lanes.params());
  EXPECT_EQ(images->find("app.db"), nullptr);
  auto image = images->create(source.create(), id_at(1));
  ASSERT_OK(image);
  vfs::Database* found = images->find("app.db");
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(found->params().id, base::DatabaseId(1));
  const auto job = source.transact("CREATE TABLE t(x)");
  ASSERT_OK(wait_for([&](auto done) { (*image)->publish(job, done); }));
  images->close_all();
  EXPECT_EQ(images->find("app.db"), nullptr);
  image->reset();
  EXPECT_EQ(images->recorded_base("app.db")->index, source.last().index);
  auto again = images->open("app.db", base::DatabaseId(1), 4096, source.history(), {});
  ASSERT_OK(again);
  EXPECT_EQ((*again)->status().applied, source.last());
  EXPECT_EQ(images->open("../app.db", base::DatabaseId(1), 4096, {}, {}).error().code, base::Code::kArgument);
  EXPECT_EQ(images->recorded_base("other.db").error().code, base::Code::kNotFound);
}

// TESTING case 11: the old connection's files stay nameless, the new database is another one.
TEST(Images, DropAndCreateOfOneName_UnderAnOpenConnection) {
  TempDir dir;
  Node lanes(dir.path());
  Source source;
  const pages::CreateDatabase create = source.create();
  auto images = vfs::Images::make(lanes.params());
  auto first = images->create(create, id_at(1));
  ASSERT_OK(first);
  const auto job = source.transact("CREATE TABLE t(x); INSERT INTO t VALUES(1)");
  ASSERT_OK(wait_for([&](auto done) { (*first)->publish(job, done); }));
  vfs::Database* old = images->find("app.db");
  FakeConnection connection;
  ASSERT_OK(old->attach(connection));
  Plain reader(dir.path() + "/app.db", SQLITE_OPEN_READONLY);
  EXPECT_EQ(reader.value("SELECT count(*) FROM t"), "1");
  ASSERT_OK(wait_for([&](auto done) { (*first)->drop(done); }));
  EXPECT_EQ(images->find("app.db"), nullptr);
  auto second = images->create(create, id_at(3));
  ASSERT_OK(second);
  ASSERT_NE(images->find("app.db"), nullptr);
  EXPECT_NE(images->find("app.db"), old);
  EXPECT_EQ(images->find("app.db")->params().id, base::DatabaseId(3));
  first->reset();  // the pointer stays valid: the shim may hold it
  EXPECT_EQ(old->try_lock_writer(connection).error().code, base::Code::kDropped);
  EXPECT_EQ(reader.value("SELECT count(*) FROM t"), "1");
  Plain fresh(dir.path() + "/app.db", SQLITE_OPEN_READONLY);
  EXPECT_EQ(fresh.value("SELECT count(*) FROM sqlite_master"), "0");
  old->detach(connection);
  images->close_all();
  EXPECT_TRUE(std::filesystem::exists(dir.path() + "/app.db"));
  EXPECT_EQ(fresh.value("PRAGMA integrity_check"), "ok");
}

struct Descriptors {
  std::size_t open = 0;
  std::size_t deleted = 0;  // of files without a name
};
Descriptors descriptors() {
  Descriptors all;
  std::error_code gone;
  for (const auto& each : std::filesystem::directory_iterator("/proc/self/fd")) {
    ++all.open;
    if (std::filesystem::read_symlink(each.path(), gone).string().ends_with("(deleted)")) ++all.deleted;
  }
  return all;
}

TEST(Images, DroppedDatabases_KeepNoDescriptor) {
  TempDir dir;
  Node lanes(dir.path());
  Source source;
  const pages::CreateDatabase create = source.create();
  const auto job = source.transact("CREATE TABLE t(x); INSERT INTO t VALUES(1)");
  auto images = vfs::Images::make(lanes.params());
  const std::size_t deleted_before = descriptors().deleted;
  std::size_t open_after_the_first = 0;
  for (std::uint64_t round = 0; round < 50; ++round) {
    auto image = images->create(create, id_at(1 + round * 2));
    ASSERT_OK(image);
    pages::PublishJob again = job;
    again.id = id_at(2 + round * 2);
    ASSERT_OK(wait_for([&](auto done) { (*image)->publish(again, done); }));
    vfs::Database* const database = images->find("app.db");
    FakeConnection connection;
    ASSERT_OK(database->attach(connection));
    if (round % 3 == 0) ASSERT_OK(database->try_lock_writer(connection));
    ASSERT_OK(wait_for([&](auto done) { (*image)->drop(done); }));
    if (round % 2 == 0) image->reset();
    EXPECT_GT(descriptors().deleted, deleted_before) << "the connection that has it open still needs them";
    database->detach(connection);
    image->reset();
    EXPECT_EQ(descriptors().deleted, deleted_before);
    if (round == 0) open_after_the_first = descriptors().open;
  }
  EXPECT_EQ(descriptors().open, open_after_the_first);
  images->close_all();
}

// Each of the syncs is passed where the design puts it; their effect is the business of the crash tests.
TEST(Syncs, SyncPointAndNewWal_PassTheSyncOfTheWal) {
  NEEDS_FAULTS();
  TempDir dir;
  Source source;
  Node node(dir.path());
  ASSERT_OK(node.create(source.create()));
  ASSERT_OK(base::arm_faults("image.wal_sync:delay_ms=0,image.wal_restart:delay_ms=0"));
  ASSERT_OK(node.publish(source.transact("CREATE TABLE t(x)")));
  EXPECT_EQ(base::fault_hits("image.wal_restart"), 1u);
  EXPECT_EQ(base::fault_hits("image.wal_sync"), 1u);  // the new header
  ASSERT_OK(node.publish(source.transact("INSERT INTO t VALUES(1)")));
  EXPECT_EQ(base::fault_hits("image.wal_sync"), 1u);  // a commit is not synced: the log is the redo log
  ASSERT_OK(node.sync_point());
  EXPECT_EQ(base::fault_hits("image.wal_sync"), 2u);
  ASSERT_OK(node.sync_point());  // nothing new
  EXPECT_EQ(base::fault_hits("image.wal_sync"), 2u);
  ASSERT_OK(node.checkpoint());
  ASSERT_OK(node.publish(source.transact("INSERT INTO t VALUES(2)")));
  EXPECT_EQ(base::fault_hits("image.wal_restart"), 2u);
  EXPECT_EQ(base::fault_hits("image.wal_sync"), 3u);
  base::disarm_faults();
  // The salts of the newest WAL and of the one before stand in `.sums`.
  const auto sums = pages::SumsFile::open(base::posix_env(), node.path() + ".sums");
  ASSERT_OK(sums);
  std::ifstream wal(node.path() + "-wal", std::ios::binary);
  std::vector<char> header(32);
  wal.read(header.data(), 32);
  const auto* bytes = reinterpret_cast<const std::byte*>(header.data());
  EXPECT_EQ((*sums)->record().wal_salt_next[0], base::load_be32(bytes + 16));
  EXPECT_EQ((*sums)->record().wal_salt_next[1], base::load_be32(bytes + 20));
  EXPECT_NE((*sums)->record().wal_salt[0], (*sums)->record().wal_salt_next[0]);
}

}  // namespace
}  // namespace image_test

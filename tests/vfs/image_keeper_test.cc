// The keeper: what a plain SQLite process may and may not do while the node runs (R5), and that nothing in this process loosens it.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <functional>

#include "tests/vfs/image_fixture.h"

namespace image_test {
namespace {

struct Keeper : ::testing::Test {
  Keeper() : node(dir.path()) {
    EXPECT_TRUE(node.create(source.create()));
    EXPECT_TRUE(node.publish(source.transact("CREATE TABLE t(x); INSERT INTO t VALUES(1),(2),(3)")));
  }
  std::string cli(const std::string& sql) { return shell("sqlite3 " + node.path() + " \"" + sql + "\""); }
  TempDir dir;
  Source source;
  Node node;
};

TEST_F(Keeper, PlainProcess_Reads) {
  EXPECT_EQ(cli("SELECT count(*) FROM t"), "3");
  EXPECT_EQ(cli("PRAGMA integrity_check"), "ok");
}

TEST_F(Keeper, PlainProcess_CannotWriteNorCheckpointNorDeleteTheWal) {
  EXPECT_NE(cli("INSERT INTO t VALUES(4)").find("database is locked"), std::string::npos);
  EXPECT_EQ(cli("PRAGMA wal_checkpoint(TRUNCATE)").substr(0, 1), "1");  // busy
  EXPECT_NE(cli("PRAGMA journal_mode=DELETE").find("locked"), std::string::npos);
  EXPECT_TRUE(std::filesystem::exists(node.path() + "-wal"));
  EXPECT_GT(std::filesystem::file_size(node.path() + "-wal"), 0u);
  EXPECT_EQ(cli("SELECT count(*) FROM t"), "3");
}

TEST_F(Keeper, PlainConnectionOfThisProcess_CannotWriteEither) {
  Plain plain(node.path());
  sqlite3_busy_timeout(plain.get(), 0);
  EXPECT_EQ(plain.value("SELECT count(*) FROM t"), "3");
  EXPECT_EQ(plain.exec("INSERT INTO t VALUES(4)") & 0xff, SQLITE_BUSY);
}

// POSIX locks would be gone after any open and close of the file in this process.
TEST_F(Keeper, OpenAndCloseInThisProcess_LoosensNothing) {
  for (const char* suffix : {"", "-shm", "-wal"}) {
    const int fd = ::open((node.path() + suffix).c_str(), O_RDONLY | O_CLOEXEC);
    ASSERT_GE(fd, 0);
    ::close(fd);
  }
  {
    Plain plain(node.path());
    EXPECT_EQ(plain.value("SELECT count(*) FROM t"), "3");
  }
  EXPECT_NE(cli("INSERT INTO t VALUES(4)").find("database is locked"), std::string::npos);
  EXPECT_EQ(cli("SELECT count(*) FROM t"), "3");
  EXPECT_TRUE(std::filesystem::exists(node.path() + "-wal"));
  ASSERT_OK(node.publish(source.transact("INSERT INTO t VALUES(4)")));
  EXPECT_EQ(cli("SELECT count(*) FROM t"), "4");
}

TEST_F(Keeper, Close_LeavesAPlainDatabase) {
  node.close();
  EXPECT_FALSE(std::filesystem::exists(node.path() + "-wal"));
  EXPECT_FALSE(std::filesystem::exists(node.path() + "-shm"));
  std::ifstream file(node.path(), std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), {});
  EXPECT_EQ(base::copy_of(base::view_of(bytes)), joined(source.image()));
  ASSERT_OK(node.open(source.history()));
  EXPECT_EQ(node->status().applied, source.last());
  EXPECT_EQ(node->status().base, source.last());
}

// R2: the time of a stop is over, and what a checkpoint would have spared the next start is left to it.
TEST_F(Keeper, CloseAfterItsDeadline_LeavesTheFilesToRecovery) {
  const auto size = std::filesystem::file_size(node.path() + "-wal");
  node.close(0);
  ASSERT_TRUE(std::filesystem::exists(node.path() + "-wal"));
  EXPECT_EQ(std::filesystem::file_size(node.path() + "-wal"), size);
  ASSERT_OK(node.open(source.history()));
  EXPECT_EQ(node->status().applied, source.last());
  EXPECT_EQ(cli("SELECT count(*) FROM t"), "3");
}

TEST_F(Keeper, CloseUnderAReader_KeepsTheWalAndTheReader) {
  Plain reader(node.path(), SQLITE_OPEN_READONLY);
  ASSERT_EQ(reader.exec("BEGIN"), SQLITE_OK);
  EXPECT_EQ(reader.value("SELECT count(*) FROM t"), "3");
  node.close();
  EXPECT_TRUE(std::filesystem::exists(node.path() + "-wal"));
  EXPECT_EQ(reader.value("SELECT count(*) FROM t"), "3");
  ASSERT_OK(node.open(source.history()));
  ASSERT_OK(node.publish(source.transact("INSERT INTO t VALUES(4)")));
  EXPECT_EQ(reader.value("SELECT count(*) FROM t"), "3");
  ASSERT_EQ(reader.exec("COMMIT"), SQLITE_OK);
  EXPECT_EQ(reader.value("SELECT count(*) FROM t"), "4");
}

// Closing a descriptor drops every POSIX lock that this process has on the file: the reader's too.
TEST_F(Keeper, CloseUnderAReader_KeepsItsReadLock) {
  Plain reader(node.path(), SQLITE_OPEN_READONLY);
  ASSERT_EQ(reader.exec("BEGIN"), SQLITE_OK);
  EXPECT_EQ(reader.value("SELECT count(*) FROM t"), "3");
  node.close();
  EXPECT_EQ(cli("INSERT INTO t VALUES(4); SELECT count(*) FROM t"), "4");
  EXPECT_EQ(cli("PRAGMA wal_checkpoint(TRUNCATE)").substr(0, 1), "1");  // busy: the reader still needs the WAL
  EXPECT_EQ(reader.value("SELECT count(*) FROM t"), "3");
}

// An owner that is killed unlocks nothing itself: the locks must not live on in the descriptors of a child that it forked.
TEST(KeeperFork, OwnerKilledWhileItsChildLives_LocksAreGone) {
  TempDir dir;
  Source source;
  const pages::CreateDatabase create = source.create();
  const pages::PublishJob job = source.transact("CREATE TABLE t(x); INSERT INTO t VALUES(1),(2),(3)");
  int gate[2];
  int ready[2];
  ASSERT_EQ(::pipe(gate), 0);
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t owner = ::fork();
  if (owner == 0) {
    Node node(dir.path());
    if (!node.create(create) || !node.publish(job)) ::_exit(3);
    if (::fork() == 0) {
      ::close(gate[1]);
      char byte = 1;
      if (::write(ready[1], &byte, 1) != 1) ::_exit(4);
      (void)!::read(gate[0], &byte, 1);  // until the test is through
      ::_exit(0);
    }
    ::pause();
  }
  ::close(gate[0]);
  ::close(ready[1]);
  char byte = 0;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  ::kill(owner, SIGKILL);
  int status = 0;
  ASSERT_EQ(::waitpid(owner, &status, 0), owner);
  EXPECT_EQ(shell("sqlite3 " + dir.path() + "/app.db \"INSERT INTO t VALUES(9); SELECT count(*) FROM t\""), "4");
  ::close(gate[1]);
  EXPECT_EQ(::read(ready[0], &byte, 1), 0);  // the child has ended
  ::close(ready[0]);
}

// An owner that ends in order unlocks by itself, whatever a child that it forked still holds.
TEST_F(Keeper, ForkedChild_DoesNotKeepTheLocks) {
  int gate[2];
  ASSERT_EQ(::pipe(gate), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    ::close(gate[1]);
    char byte;
    (void)!::read(gate[0], &byte, 1);  // until the parent is through
    ::_exit(0);
  }
  ::close(gate[0]);
  node.crash();
  EXPECT_EQ(cli("INSERT INTO t VALUES(9); SELECT count(*) FROM t"), "4");
  ::close(gate[1]);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace image_test

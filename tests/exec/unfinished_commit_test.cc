// A batch that was committed though SQLite could not finish it. On the node without a log of tests/vfs/.
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <future>

#include "exec/executor.h"
#include "exec/request.h"
#include "tests/vfs/shim_world.h"

namespace {

using shim_test::Db;
using shim_test::World;

std::atomic<bool> fail_page_writes{false};

ssize_t pwrite_or_fail(int fd, const void* data, size_t size, off_t offset) {
  if (fail_page_writes.load() && size >= 512) {
    errno = EIO;
    return -1;
  }
  return ::pwrite(fd, data, size, offset);
}

void pass_writes_through(sqlite3_syscall_ptr call) {
  sqlite3_vfs* const unix_vfs = sqlite3_vfs_find("unix");
  for (const char* const name : {"pwrite", "pwrite64"})
    if (unix_vfs->xGetSystemCall(unix_vfs, name) != nullptr) unix_vfs->xSetSystemCall(unix_vfs, name, call);
}

node::BatchResult run(node::Executor& executor, const std::string& sql) {
  exec::Request request;
  request.statements.push_back({sql, {}});
  std::promise<node::BatchResult> outcome;
  executor.run({{{base::Incarnation(3), 1, 1}, exec::encode(request)}},
               [&](node::BatchResult result) { outcome.set_value(std::move(result)); });
  return outcome.get_future().get();
}

// The index is what the caller's node waits for before it answers: without it, the answer would come before its own node shows the row.
TEST(Executor, CommitThatSqliteDidNotFinish_NamesItsIndex) {
  World world;
  Db reader("app.db");
  ASSERT_EQ(reader.exec("CREATE TABLE t(x)"), SQLITE_OK);
  const auto loop = base::ThreadLane::start("exec-loop");
  exec::ExecutorParams params;
  params.gate = &world.gate();
  params.loop = loop.get();
  params.node = base::NodeId(1);
  const auto executor = exec::make_executors(params)->make("app.db", world.database("app.db").params().id);

  pass_writes_through(reinterpret_cast<sqlite3_syscall_ptr>(pwrite_or_fail));
  world.gate().before_decision = [] { fail_page_writes.store(true); };
  const node::BatchResult failed = run(*executor, "INSERT INTO t VALUES (1)");
  fail_page_writes.store(false);
  world.gate().before_decision = nullptr;
  pass_writes_through(nullptr);

  EXPECT_EQ(failed.outcome.kind, vfs::OutcomeKind::kCommitted);
  ASSERT_EQ(failed.results.size(), 1U);
  EXPECT_TRUE(failed.results[0].body);
  world.settle();
  EXPECT_EQ(failed.outcome.id, world.database("app.db").status().applied);
  EXPECT_EQ(reader.rows("SELECT x FROM t"), "1");

  const node::BatchResult next = run(*executor, "INSERT INTO t VALUES (2)");
  EXPECT_EQ(next.outcome.kind, vfs::OutcomeKind::kCommitted);
  world.settle();
  EXPECT_EQ(next.outcome.id, world.database("app.db").status().applied);
  EXPECT_EQ(reader.rows("SELECT x FROM t"), "1\n2");
}

}  // namespace

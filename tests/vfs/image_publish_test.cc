// Publishing: every entry becomes visible to plain readers exactly, over checkpoints, WAL restarts, growth and shrinking.
#include <gtest/gtest.h>

#include <fstream>
#include <future>
#include <thread>

#include "tests/vfs/image_fixture.h"

namespace image_test {
namespace {

constexpr const char* kSchema =
    "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, n INTEGER); CREATE INDEX t_n ON t(n);";

std::string insert_sql(int first, int count) {
  return "WITH RECURSIVE c(i) AS (SELECT " + std::to_string(first) + " UNION ALL SELECT i+1 FROM c WHERE i<" +
         std::to_string(first + count - 1) + ") INSERT INTO t SELECT i, hex(randomblob(20)), random()%1000 FROM c;";
}

using Publish = FreshDatabase;

TEST_F(Publish, EveryTransaction_IsVisibleToPlainReaders) {
  Plain reader(node.path(), SQLITE_OPEN_READONLY);
  EXPECT_EQ(reader.serialize(), joined(source.image()));
  ASSERT_OK(node.publish(source.transact(kSchema)));
  for (int i = 0; i < 200; ++i) {
    std::string sql;
    if (i % 10 == 9)
      sql = "DELETE FROM t WHERE id%3=0;";
    else if (i % 10 == 5)
      sql = "UPDATE t SET name=hex(randomblob(300)) WHERE id%7=0;";
    else if (i % 50 == 48)
      sql = "VACUUM;";
    else
      sql = insert_sql(i * 20 + 1, 20);
    ASSERT_OK(node.publish(source.transact(sql)));
    ASSERT_EQ(reader.serialize(), joined(source.image())) << sql;
    if (i % 23 == 22) ASSERT_OK(node.checkpoint());
    if (i % 17 == 16) ASSERT_OK(node.sync_point());
  }
  EXPECT_EQ(reader.value("PRAGMA integrity_check"), "ok");
  EXPECT_EQ(shell("sqlite3 -readonly " + node.path() + " 'PRAGMA integrity_check; SELECT count(*) FROM t'"),
            "ok\n" + source.plain().value("SELECT count(*) FROM t"));
  const auto status = node->status();
  EXPECT_EQ(status.applied, source.last());
  EXPECT_EQ(status.digest, source.digest());
  EXPECT_EQ(status.state, pages::ImageState::kOk);
}

TEST(PublishPages, OfOtherSizes_Work) {
  for (const std::uint32_t page_size : {512u, 1024u, 65536u}) {
    TempDir dir;
    Source source(page_size);
    Node node(dir.path(), page_size);
    ASSERT_OK(node.create(source.create()));
    ASSERT_OK(node.publish(source.transact(kSchema)));
    for (int i = 0; i < 12; ++i) {
      ASSERT_OK(node.publish(source.transact(insert_sql(i * 100 + 1, 100))));
      if (i % 4 == 3) ASSERT_OK(node.checkpoint());
    }
    Plain reader(node.path(), SQLITE_OPEN_READONLY);
    EXPECT_EQ(reader.serialize(), joined(source.image())) << page_size;
    EXPECT_EQ(reader.value("PRAGMA integrity_check"), "ok");
  }
}

TEST_F(Publish, CheckpointedWal_IsRestartedAndStaysSmall) {
  ASSERT_OK(node.publish(source.transact(kSchema)));
  for (int i = 0; i < 60; ++i) {
    ASSERT_OK(node.publish(source.transact(insert_sql(i * 10 + 1, 10))));
    if (i % 5 == 4) ASSERT_OK(node.checkpoint());
  }
  EXPECT_LT(std::filesystem::file_size(node.path() + "-wal"), 400'000u);
  Plain reader(node.path(), SQLITE_OPEN_READONLY);
  EXPECT_EQ(reader.serialize(), joined(source.image()));
}

// A reader in an old snapshot keeps it over checkpoints, and the WAL is not restarted under it.
TEST_F(Publish, OldReader_KeepsItsSnapshot) {
  ASSERT_OK(node.publish(source.transact(kSchema)));
  ASSERT_OK(node.publish(source.transact(insert_sql(1, 50))));
  Plain reader(node.path(), SQLITE_OPEN_READONLY);
  ASSERT_EQ(reader.exec("BEGIN"), SQLITE_OK);
  EXPECT_EQ(reader.value("SELECT count(*) FROM t"), "50");
  const base::Bytes before = reader.serialize();
  for (int i = 1; i < 30; ++i) {
    ASSERT_OK(node.publish(source.transact(insert_sql(i * 50 + 1, 50))));
    ASSERT_OK(node.checkpoint());
    ASSERT_EQ(reader.serialize(), before);
  }
  EXPECT_EQ(reader.value("SELECT count(*) FROM t"), "50");
  EXPECT_EQ(reader.value("PRAGMA integrity_check"), "ok");
  ASSERT_EQ(reader.exec("COMMIT"), SQLITE_OK);
  EXPECT_EQ(reader.serialize(), joined(source.image()));
}

// What the origin computes its patches against (R11).
TEST_F(Publish, RottenCommittedPage_IsRefusedToTheOrigin) {
  ASSERT_OK(node.publish(source.transact(kSchema)));
  ASSERT_OK(node.checkpoint());
  ASSERT_OK(node.publish(source.transact("CREATE TABLE other(x)")));  // restarts the WAL: page 2 is in the file alone
  base::Bytes page(4096);
  ASSERT_OK(node->committed_page(2, page));
  {
    std::fstream file(node.path(), std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(4096 + 2000);
    file.put('\x5a');
  }
  EXPECT_EQ(node->committed_page(2, page).error().code, base::Code::kDiverged);
  EXPECT_EQ(node->status().state, pages::ImageState::kDiverged);
}

TEST_F(Publish, Chain_IsOneTransaction) {
  ASSERT_OK(node.publish(source.transact(kSchema)));
  ASSERT_OK(node.publish(source.transact_chain(insert_sql(1, 20000), 5)));
  Plain reader(node.path(), SQLITE_OPEN_READONLY);
  EXPECT_EQ(reader.serialize(), joined(source.image()));
  pages::PublishJob job = source.transact_chain("UPDATE t SET name=hex(randomblob(20))", 3);
  std::swap(job.parts[0], job.parts[1]);
  const auto status = node.publish(job);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, base::Code::kDiverged);
}

TEST_F(Publish, RepeatedJob_IsDoneAlready) {
  const pages::PublishJob job = source.transact(kSchema);
  ASSERT_OK(node.publish(job));
  ASSERT_OK(node.publish(job));
  EXPECT_EQ(node->status().applied, source.last());
}

TEST_F(Publish, WrongDigest_IsRefusedAndNothingIsVisible) {
  ASSERT_OK(node.publish(source.transact(kSchema)));
  const base::Bytes before = joined(source.image());
  pages::PublishJob job = source.transact(insert_sql(1, 10));
  pages::Tx tx = *pages::decode_tx(base::view_of(job.payload));
  tx.header.digest_after ^= 1;
  job.header = tx.header;
  job.payload = base::share(pages::encode(tx));
  const auto status = node.publish(job);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, base::Code::kDiverged);
  EXPECT_EQ(node->status().state, pages::ImageState::kDiverged);
  Plain reader(node.path(), SQLITE_OPEN_READONLY);
  EXPECT_EQ(reader.serialize(), before);
  FakeConnection connection;
  EXPECT_EQ(node->try_lock_writer(connection).error().code, base::Code::kDiverged);
}

TEST_F(Publish, RottenOldPage_IsDetected) {
  ASSERT_OK(node.publish(source.transact(kSchema)));
  ASSERT_OK(node.publish(source.transact(insert_sql(1, 50))));
  ASSERT_OK(node.checkpoint());
  ASSERT_OK(
      node.publish(source.transact("CREATE TABLE other(x)")));  // restarts the WAL: t's pages are in the file alone
  {
    std::fstream file(node.path(), std::ios::binary | std::ios::in | std::ios::out);
    const std::size_t page = 2;  // the table's root
    file.seekp(static_cast<std::streamoff>((page - 1) * 4096 + 2000));
    file.put('\x5a');
  }
  const auto status = node.publish(source.transact("UPDATE t SET n=n+1"));
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, base::Code::kDiverged);
  EXPECT_EQ(node->status().state, pages::ImageState::kDiverged);
}

TEST_F(Publish, AtFullSpeed_ReadersInThisAndAnotherProcessSeeNoError) {
  ASSERT_OK(node.publish(source.transact(
      "CREATE TABLE acc(id INTEGER PRIMARY KEY, v INTEGER, pad TEXT);"
      "INSERT INTO acc SELECT value, 100, hex(randomblob(200)) FROM (WITH RECURSIVE c(value) AS (SELECT 1 "
      "UNION ALL SELECT value+1 FROM c WHERE value<200) SELECT value FROM c)")));
  std::vector<pages::PublishJob> jobs;
  const int count = static_cast<int>(400 * test_scale());
  for (int i = 0; i < count; ++i)
    jobs.push_back(source.transact("BEGIN; UPDATE acc SET v=v-7, pad=hex(randomblob(100+" + std::to_string(i % 90) +
                                   ")) WHERE id=" + std::to_string(i % 200 + 1) + "; UPDATE acc SET v=v+7 WHERE id=" +
                                   std::to_string((i * 31 + 17) % 200 + 1) + "; COMMIT"));
  const std::string script = dir.path() + "/script.sql";
  {
    std::ofstream file(script);
    file << ".timeout 10000\n";
    for (int i = 0; i < 150; ++i) file << "SELECT sum(v)=20000 FROM acc; PRAGMA integrity_check;\n";
  }
  std::atomic<bool> stop{false};
  std::atomic<int> reads{0};
  std::vector<std::thread> readers;
  std::vector<std::string> problems(2);
  for (std::size_t r = 0; r < problems.size(); ++r)
    readers.emplace_back([&, r] {
      Plain reader(node.path(), SQLITE_OPEN_READONLY);
      while (!stop) {
        const std::string sum = reader.value("SELECT sum(v) FROM acc");
        const std::string check = r == 0 ? reader.value("PRAGMA integrity_check") : "ok";
        if (sum != "20000" || check != "ok") {
          problems[r] = sum + " / " + check;
          return;
        }
        ++reads;
      }
    });
  auto other =
      std::async(std::launch::async, [&] { return shell("sqlite3 -readonly " + node.path() + " < " + script); });
  std::size_t next = 0;
  // Until the other process has read enough and the jobs are through.
  while (next < jobs.size() || other.wait_for(std::chrono::seconds(0)) != std::future_status::ready) {
    if (next < jobs.size()) {
      ASSERT_OK(node.publish(jobs[next]));
      if (next % 40 == 39) ASSERT_OK(node.checkpoint());
      ++next;
    } else {
      other.wait_for(std::chrono::milliseconds(20));
    }
  }
  stop = true;
  for (std::thread& thread : readers) thread.join();
  for (const std::string& problem : problems) EXPECT_EQ(problem, "");
  EXPECT_GT(reads, 0);
  std::string expected;
  for (int i = 0; i < 150; ++i) expected += "1\nok\n";
  expected.pop_back();
  EXPECT_EQ(other.get(), expected);
  Plain reader(node.path(), SQLITE_OPEN_READONLY);
  EXPECT_EQ(reader.serialize(), joined(source.image()));
}

}  // namespace
}  // namespace image_test

// The history and the recovery (image_history.h).
#include "tests/vfs/image_history.h"

#include <algorithm>
#include <filesystem>

namespace image_test {

std::vector<pages::PublishJob> make_history(Source& source, int count) {
  source.keep_images();
  std::vector<pages::PublishJob> jobs;
  jobs.push_back(source.transact("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT); CREATE INDEX t_name ON t(name)"));
  for (int i = 1; i < count; ++i) {
    std::string sql = "INSERT INTO t(name) SELECT hex(randomblob(40)) FROM (VALUES(1),(2),(3),(4),(5),(6),(7),(8))";
    if (i % 9 == 8) sql = "DELETE FROM t WHERE id%4=" + std::to_string(i % 4);
    if (i % 5 == 3) sql = "UPDATE t SET name=hex(randomblob(60)) WHERE id%11=" + std::to_string(i % 11);
    if (i % 31 == 30) sql = "VACUUM";
    if (i % 13 == 12)
      sql = "INSERT INTO t(name) SELECT hex(randomblob(700)) FROM (VALUES(1),(2),(3),(4),(5),(6),(7),(8))";
    jobs.push_back(source.transact(sql));
  }
  return jobs;
}

std::vector<pages::RedoCandidate> after(const Source& source, base::LogId base) {
  std::vector<pages::RedoCandidate> candidates;
  for (const pages::RedoCandidate& candidate : source.history())
    if (candidate.id.index > base.index) candidates.push_back(candidate);
  return candidates;
}

base::Bytes seen(const std::string& path) {
  Plain reader(path, SQLITE_OPEN_READONLY);
  return reader.serialize();
}

void recover_and_finish(const std::string& dir, const Source& source, const std::vector<pages::PublishJob>& jobs,
                        base::Index* position) {
  const auto base = vfs::Database::recorded_base(base::posix_env(), dir, "app.db");
  ASSERT_OK(base);
  Node node(dir);
  ASSERT_OK(node.open(after(source, *base)));
  const base::LogId applied = node->status().applied;
  if (position != nullptr) *position = applied.index;
  ASSERT_GE(applied.index, base->index);
  ASSERT_EQ(seen(node.path()), source.bytes_at(applied.index))
      << "position " << applied.index.value << " base " << base->index.value;
  for (const pages::PublishJob& job : jobs)
    if (job.id.index > applied.index) {
      ASSERT_OK(node.publish(job));
    }
  ASSERT_EQ(seen(node.path()), joined(source.image()));
  ASSERT_EQ(node->status().digest, source.digest());
  ASSERT_OK(node.sync_point());
  ASSERT_OK(node.checkpoint());
  node.close();
  ASSERT_EQ(seen(dir + "/app.db"), joined(source.image()));
}

void copy_database(const std::string& from, const std::string& to) {
  for (const char* suffix : {"", "-wal", ".sums"})
    std::filesystem::copy_file(from + "/app.db" + suffix, to + "/app.db" + suffix,
                               std::filesystem::copy_options::overwrite_existing);
}

}  // namespace image_test

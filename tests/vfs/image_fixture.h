// What the tests of the image side share: a plain SQLite database whose commits become Tx entries, a node's image with its lanes, plain
// readers.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/lane.h"
#include "base/posix_env.h"
#include "base/sqlite.h"
#include "pages/sums.h"
#include "vfs/database.h"

// Release builds have no fault points.
#if defined(HQL_FAULTS)
#define NEEDS_FAULTS() static_cast<void>(0)
#else
#define NEEDS_FAULTS() GTEST_SKIP() << "this build has no fault points (HQL_FAULTS); dev and tsan have"
#endif

#define ASSERT_OK(expression)                                                   \
  do {                                                                          \
    const auto& assert_ok_ = (expression);                                      \
    ASSERT_TRUE(assert_ok_.has_value()) << base::to_string(assert_ok_.error()); \
  } while (false)

namespace image_test {

unsigned test_scale();

class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// A plain connection on the unix VFS.
class Plain {
 public:
  explicit Plain(const std::string& path, int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE);
  ~Plain();
  Plain(const Plain&) = delete;
  Plain& operator=(const Plain&) = delete;
  int exec(const std::string& sql);           // SQLite's code
  std::string value(const std::string& sql);  // first column of the first row, or "error: ..."
  base::Bytes serialize();                    // the whole database as this connection sees it
  sqlite3* get() { return db_; }

 private:
  sqlite3* db_ = nullptr;
};

// Output of a shell command, with its error output.
std::string shell(const std::string& command);

using Image = std::vector<base::Bytes>;  // [page - 1]

// Runs SQL in a scratch database and turns what it changed into entries.
class Source {
 public:
  explicit Source(std::uint32_t page_size = 4096);
  // The creation entry of the empty database; its LogId is (1, 1).
  pages::CreateDatabase create() const;
  // One transaction. The SQL must change something.
  pages::PublishJob transact(const std::string& sql);
  // The same as a chain of `parts` parts and a final.
  pages::PublishJob transact_chain(const std::string& sql, std::uint32_t parts);
  [[nodiscard]] const Image& image() const { return image_; }
  [[nodiscard]] base::LogId last() const { return last_; }
  [[nodiscard]] std::uint64_t digest() const { return sums_.digest(); }
  // All transactions so far, for recovery.
  [[nodiscard]] const std::vector<pages::RedoCandidate>& history() const { return history_; }
  // The whole database after a transaction (its index), as one string of bytes.
  [[nodiscard]] base::Bytes bytes_at(base::Index index) const;
  void keep_images() { keep_images_ = true; }
  // Patches for all pages of the transaction's frames, the unchanged ones too.
  void patch_every_frame() { every_frame_ = true; }
  Plain& plain() { return plain_; }

 private:
  pages::Tx diff(const std::string& sql);
  pages::PublishJob finish(pages::Tx tx, std::vector<pages::TxPart> parts);
  Image read_file() const;

  TempDir dir_;
  std::uint32_t page_size_;
  std::string path_;
  Plain plain_;
  Image image_;
  pages::PageSums sums_;
  base::LogId last_{base::Term(1), base::Index(1)};
  std::vector<pages::RedoCandidate> history_;
  std::vector<pages::PageNo> framed_pages() const;

  bool every_frame_ = false;
  bool keep_images_ = false;
  std::vector<base::Bytes> images_;  // [index - 1]
};

base::Bytes joined(const Image& image);

// Lanes and parameters of one node with one database "app.db".
class Node {
 public:
  explicit Node(const std::string& dir, std::uint32_t page_size = 4096);
  ~Node();
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;
  vfs::DatabaseParams params() const;
  base::Status create(const pages::CreateDatabase& create);
  base::Status open(const std::vector<pages::RedoCandidate>& candidates, const pages::Adopt& adopt = {});
  base::Status publish(const pages::PublishJob& job);  // waits
  base::Result<base::LogId> sync_point();
  base::Status checkpoint();
  void crash() { database_.reset(); }  // without close()
  void close(base::Micros deadline = INT64_MAX);
  vfs::Database& operator*() { return *database_; }
  vfs::Database* operator->() { return database_.get(); }
  [[nodiscard]] std::string path() const { return dir_ + "/app.db"; }

 private:
  std::string dir_;
  std::uint32_t page_size_;
  std::unique_ptr<base::ThreadLane> loop_, apply_, maintenance_;
  std::unique_ptr<vfs::Database> database_;
};

// A node with the database that `source` begins with.
struct FreshDatabase : ::testing::Test {
  FreshDatabase() : node(dir.path()) {}
  void SetUp() override { ASSERT_OK(node.create(source.create())); }
  TempDir dir;
  Source source;
  Node node;
};

// A local connection as the shim would be.
class FakeConnection final : public vfs::Connection {
 public:
  void doom(const base::Error& reason) override {
    doomed = true;
    why = reason;
  }
  bool is_executor() const override { return executor; }
  bool others_wait() override { return waited_for; }
  const char* kind() const override { return "local connection"; }
  bool executor = false;
  bool waited_for = false;
  bool doomed = false;
  base::Error why;
};

}  // namespace image_test

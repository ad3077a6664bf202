// Identity of a data directory (R10), on the real file system: anything missing or different begins a new incarnation and is kept aside.
#include "node/data_dir.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/bytes.h"
#include "base/checksum.h"
#include "base/posix_env.h"
#include "tests/base/temp_dir.h"

namespace node {
namespace {

Config config_in(const std::string& dir, int nodes) {
  Config config;
  config.data_dir = dir;
  config.wal_size = 64 << 10;
  for (int i = 1; nodes > 1 && i <= nodes; ++i)
    config.nodes.push_back({base::NodeId(static_cast<std::uint64_t>(i)), "a:1", "a:2"});
  return config;
}

std::size_t count_aside(const std::string& dir) {
  std::size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(dir))
    if (entry.path().filename().string().find(".aside-") != std::string::npos) ++count;
  return count;
}

class DataDirTest : public ::testing::Test {
 protected:
  // Opens, and writes one entry when the log is new, as a node that lives would.
  base::Result<Meta> live(const Config& config) {
    HQL_ASSIGN(opened, open_data_dir(base::posix_env(), config));
    if (opened.opened.groups[0].entries.empty()) {
      wal::Append append;
      append.entries.push_back({{base::Term{1}, base::Index{1}}, base::EntryKind::kNoop, nullptr});
      HQL_TRY(opened.opened.log->append_batch({append}));
    }
    return opened.meta;
  }
  testing_base::TempDir temp_;
  const std::string dir_ = temp_.path() + "/node";
};

TEST_F(DataDirTest, SecondStart_IsTheSameIncarnationAndTheNextBoot) {
  const auto first = live(config_in(dir_, 3));
  ASSERT_TRUE(first.has_value()) << first.error().message;
  const auto second = live(config_in(dir_, 3));
  ASSERT_TRUE(second.has_value()) << second.error().message;
  EXPECT_EQ(second->incarnation, first->incarnation);
  EXPECT_EQ(second->boot, first->boot + 1);
  EXPECT_EQ(count_aside(dir_), 0u);
}

TEST_F(DataDirTest, AnyPartMissing_BeginsANewIncarnationAndKeepsTheOldAside) {
  for (const char* part : {"id", "meta", "log"}) {
    SCOPED_TRACE(part);
    const std::string dir = dir_ + part;
    const auto first = live(config_in(dir, 3));
    ASSERT_TRUE(first.has_value()) << first.error().message;
    std::filesystem::remove_all(dir + "/" + part);
    const auto second = live(config_in(dir, 3));
    ASSERT_TRUE(second.has_value()) << second.error().message;
    EXPECT_NE(second->incarnation, first->incarnation);
    EXPECT_GT(count_aside(dir), 0u);
  }
}

TEST_F(DataDirTest, LogOfAnotherLife_BeginsANewIncarnation) {
  const std::string other = temp_.path() + "/other";
  ASSERT_TRUE(live(config_in(dir_, 3)).has_value());
  ASSERT_TRUE(live(config_in(other, 3)).has_value());
  std::filesystem::remove_all(dir_ + "/log");
  std::filesystem::copy(other + "/log", dir_ + "/log");
  const auto again = live(config_in(dir_, 3));
  ASSERT_TRUE(again.has_value()) << again.error().message;
  EXPECT_EQ(again->boot, 1u);
  EXPECT_GT(count_aside(dir_), 0u);
}

TEST_F(DataDirTest, IdFileOfAnotherLife_BeginsANewIncarnation) {
  const std::string other = temp_.path() + "/other";
  const auto first = live(config_in(dir_, 3));
  const auto stranger = live(config_in(other, 3));
  ASSERT_TRUE(first.has_value());
  ASSERT_TRUE(stranger.has_value());
  std::filesystem::copy_file(other + "/id", dir_ + "/id", std::filesystem::copy_options::overwrite_existing);
  const auto again = live(config_in(dir_, 3));
  ASSERT_TRUE(again.has_value()) << again.error().message;
  EXPECT_NE(again->incarnation, first->incarnation);
  EXPECT_NE(again->incarnation, stranger->incarnation);
  EXPECT_GT(count_aside(dir_), 0u);
}

TEST_F(DataDirTest, EmbeddedNodeWithDatabasesButNoLog_IsRefused) {
  ASSERT_TRUE(live(config_in(dir_, 1)).has_value());
  ASSERT_TRUE(base::write_file_atomic(base::posix_env(), dir_ + "/db", "app.db", base::view_of(std::string_view("x")))
                  .has_value());
  std::filesystem::remove_all(dir_ + "/log");
  const auto again = live(config_in(dir_, 1));
  ASSERT_FALSE(again.has_value());
  EXPECT_EQ(again.error().code, base::Code::kCorrupt);
  EXPECT_NE(again.error().message.find("the log is missing"), std::string::npos) << again.error().message;
  // tests/cluster/test_damage.py does what it says.
  EXPECT_NE(again.error().message.find("hql_import("), std::string::npos) << again.error().message;
  EXPECT_EQ(again.error().message.find("rebuild"), std::string::npos) << again.error().message;
  EXPECT_TRUE(std::filesystem::exists(dir_ + "/db/app.db"));
}

// The cluster went on without what this life had committed (log_sync = "interval_<ms>"); the next one begins by itself, once.
TEST_F(DataDirTest, EndedLife_NextStartBeginsANewOneAndKeepsTheOldAside) {
  const auto first = live(config_in(dir_, 3));
  ASSERT_TRUE(first.has_value());
  ASSERT_TRUE(end_life(base::posix_env(), dir_, "the others forgot entry 7").has_value());
  {
    const auto opened = open_data_dir(base::posix_env(), config_in(dir_, 3));
    ASSERT_TRUE(opened.has_value()) << opened.error().message;
    EXPECT_NE(opened->meta.incarnation, first->incarnation);
    ASSERT_FALSE(opened->notes.empty());
    EXPECT_NE(opened->notes.front().find("the others forgot entry 7"), std::string::npos) << opened->notes.front();
  }
  EXPECT_GE(count_aside(dir_), 4u);
  const auto second = live(config_in(dir_, 3));
  ASSERT_TRUE(second.has_value());
  const auto third = live(config_in(dir_, 3));
  ASSERT_TRUE(third.has_value());
  EXPECT_EQ(second->incarnation, third->incarnation);
}

TEST_F(DataDirTest, OfAnotherNode_IsRefused) {
  ASSERT_TRUE(live(config_in(dir_, 3)).has_value());
  Config other = config_in(dir_, 3);
  other.node_id = base::NodeId{2};
  const auto opened = live(other);
  ASSERT_FALSE(opened.has_value());
  EXPECT_EQ(opened.error().code, base::Code::kConfig);
}

// --- files of a newer version --------------------------------------------------------------------------------------------

using Bytes = base::Bytes;
Bytes read_all(const std::string& path) {
  auto bytes = base::read_file(base::posix_env(), path, std::size_t{64} << 20);
  EXPECT_TRUE(bytes.has_value()) << path;
  return bytes ? *bytes : Bytes();
}
void write_all(const std::string& path, const Bytes& bytes) {
  auto file = base::posix_env().open(path, base::OpenMode::kReadWrite);
  ASSERT_TRUE(file.has_value()) << path;
  ASSERT_TRUE((*file)->write(0, bytes).has_value());
}

void make_newer_id(const std::string& dir) {
  Bytes bytes = read_all(dir + "/id");
  bytes[7] = std::byte{'2'};
  bytes.insert(bytes.end() - 4, std::byte{9});  // it may be longer
  base::store_u32(bytes.data() + bytes.size() - 4, base::crc32c(base::ByteView(bytes).first(bytes.size() - 4)));
  write_all(dir + "/id", bytes);
}
void make_newer_meta(const std::string& dir) {
  Bytes bytes = read_all(dir + "/meta");
  bytes[24] = std::byte{2};
  const std::uint32_t length = base::load_u32(bytes.data() + 16);
  const base::ByteView all(bytes);
  base::store_u32(bytes.data() + 20, base::crc32c(all.subspan(24, length), base::crc32c(all.first(20))));
  write_all(dir + "/meta", bytes);
}
void make_newer_log(const std::string& dir) {
  for (const auto& entry : std::filesystem::directory_iterator(dir + "/log")) {
    if (entry.path().extension() != ".seg") continue;
    Bytes bytes = read_all(entry.path());
    for (std::byte* at : {bytes.data(), bytes.data() + 4096}) {
      base::store_u32(at + 8, 2);
      base::store_u32(at, base::crc32c(base::ByteView(at + 4, 4092)));
    }
    write_all(entry.path(), bytes);
  }
}

// After a rollback of the program on all nodes, new lives beside the old would be an empty cluster that looks healthy.
TEST_F(DataDirTest, FilesOfANewerVersion_AreRefusedAndLeftAlone) {
  const std::vector<std::pair<std::string, void (*)(const std::string&)>> parts = {
      {"id", make_newer_id}, {"meta", make_newer_meta}, {"log", make_newer_log}};
  for (const auto& [part, make_newer] : parts) {
    for (const int nodes : {1, 3}) {
      SCOPED_TRACE(part + " of " + std::to_string(nodes));
      const std::string dir = dir_ + part + std::to_string(nodes);
      ASSERT_TRUE(live(config_in(dir, nodes)).has_value());
      make_newer(dir);
      const Bytes meta = read_all(dir + "/meta");
      const auto refused = live(config_in(dir, nodes));
      ASSERT_FALSE(refused.has_value());
      EXPECT_EQ(refused.error().code, base::Code::kNewerFormat);
      EXPECT_NE(refused.error().message.find(part), std::string::npos) << refused.error().message;
      EXPECT_NE(refused.error().message.find("start the version that wrote it"), std::string::npos)
          << refused.error().message;
      EXPECT_EQ(count_aside(dir), 0u);
      EXPECT_EQ(read_all(dir + "/meta"), meta) << "not even the boot counter";
    }
  }
}

// A disk that cannot be read now may be readable tomorrow: that is no missing file.
TEST_F(DataDirTest, IdThatCannotBeRead_IsAnErrorAndNoNewLife) {
  ASSERT_TRUE(live(config_in(dir_, 3)).has_value());
  std::filesystem::rename(dir_ + "/id", dir_ + "/id.kept");
  std::filesystem::create_directory(dir_ + "/id");  // reading it fails with EISDIR
  const auto refused = live(config_in(dir_, 3));
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, base::Code::kIo) << refused.error().message;
  EXPECT_EQ(count_aside(dir_), 0u);
}

}  // namespace
}  // namespace node

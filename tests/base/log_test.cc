// base/log.h: levels, sinks, one clean line per text.
#include "base/log.h"

#include <gtest/gtest.h>

#include <cctype>
#include <vector>

#include "base/posix_env.h"
#include "tests/base/temp_dir.h"

namespace base {
namespace {

class LogTest : public testing::Test {
 protected:
  void TearDown() override {
    set_sink_stderr();
    set_level(Level::kWarn);
  }
};

TEST_F(LogTest, Level_BelowWanted_Dropped) {
  std::vector<std::string> lines;
  set_sink([&](Level, const std::string& text) { lines.push_back(text); });
  set_level(Level::kInfo);
  log_debug("d");
  log_info("i");
  log_error("e");
  set_level(Level::kOff);
  log_error("never");
  EXPECT_EQ(lines, (std::vector<std::string>{"i", "e"}));
  EXPECT_FALSE(log_enabled(Level::kError));
}

TEST_F(LogTest, Names_EveryLevel_RoundTrip) {
  for (const Level level : {Level::kDebug, Level::kInfo, Level::kWarn, Level::kError, Level::kOff})
    EXPECT_EQ(parse_level(level_name(level)), level);
  EXPECT_FALSE(parse_level("loud"));
}

TEST_F(LogTest, File_HostileText_OneCleanLine) {
  const testing_base::TempDir dir;
  ASSERT_TRUE(set_sink_file(dir / "log"));
  log_warn("peer said \"a\nb\x1b[31m\"");
  log_error(std::string(100000, 'x'));
  set_sink_stderr();
  const Bytes bytes = read_file(posix_env(), dir / "log", 1 << 20).value();
  const std::string text(text_of(bytes));
  const std::size_t end = text.find('\n');
  ASSERT_NE(end, std::string::npos);
  std::string shape = text.substr(0, end);
  for (char& c : shape)
    if (std::isdigit(static_cast<unsigned char>(c)) != 0) c = '0';
  EXPECT_EQ(shape, "0000-00-00T00:00:00.000000Z W peer said \"a b [00m\"");
  EXPECT_LT(text.size(), 9000U) << "a long text is cut";
  EXPECT_EQ(text.find('\n', end + 1), text.size() - 1);
}

TEST_F(LogTest, File_CannotBeOpened_ErrorAndOldSink) {
  std::vector<std::string> lines;
  set_sink([&](Level, const std::string& text) { lines.push_back(text); });
  const testing_base::TempDir dir;
  EXPECT_EQ(set_sink_file(dir / "none/log").error().code, Code::kNotFound);
  log_error("still here");
  EXPECT_EQ(lines.size(), 1U);
}

}  // namespace
}  // namespace base

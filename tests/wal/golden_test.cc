// Golden bytes: the log's format, version by version, kept for ever. A program that writes other bytes has changed the format; one that
// does not read these has broken it. HQL_REWRITE=1 writes the file of the current version anew.
#include <fstream>
#include <sstream>

#include "tests/wal/fixture.h"

namespace wal_test {
namespace {

constexpr char kGolden[] = HQL_GOLDEN_DIR "/log-v1.txt";

// Rows of 16 bytes that are not all zero: "path offset: hex".
std::string to_text(const std::map<std::string, Bytes>& files) {
  std::string text;
  char row[128];
  for (const auto& [path, bytes] : files) {
    std::snprintf(row, sizeof row, "%s size %zu\n", path.c_str(), bytes.size());
    text += row;
    for (std::size_t at = 0; at < bytes.size(); at += 16) {
      std::string hex;
      bool zero = true;
      for (std::size_t i = at; i < at + 16; ++i) {
        zero = zero && bytes[i] == std::byte{0};
        std::snprintf(row, sizeof row, " %02x", std::to_integer<unsigned>(bytes[i]));
        hex += row;
      }
      if (zero) continue;
      std::snprintf(row, sizeof row, "%06zx:", at);
      text += row + hex + "\n";
    }
  }
  return text;
}

std::map<std::string, Bytes> from_text(const std::string& text) {
  std::map<std::string, Bytes> files;
  std::istringstream lines(text);
  std::string line;
  Bytes* file = nullptr;
  while (std::getline(lines, line)) {
    std::istringstream words(line);
    std::string first;
    std::string second;
    words >> first >> second;
    if (second == "size") {
      std::size_t size = 0;
      words >> size;
      file = &files[first];
      file->resize(size);
      continue;
    }
    std::size_t at = std::stoul(first, nullptr, 16);
    for (std::string hex = second; !hex.empty();) {
      file->at(at++) = static_cast<std::byte>(std::stoul(hex, nullptr, 16));
      hex.clear();
      words >> hex;
    }
  }
  return files;
}

class GoldenTest : public LogTest {
 protected:
  static Entry entry(std::uint64_t term, std::uint64_t index, EntryKind kind, std::size_t size) {
    Bytes bytes(size);
    // Rows of zeros are left out of the golden file: large entries are zeros but for their ends.
    for (std::size_t i = 0; i < size; ++i)
      bytes[i] = size > 1000 && i > 16 && i + 16 < size ? std::byte{0} : static_cast<std::byte>(index + i / 16);
    Entry made{{Term(term), Index(index)}, kind, nullptr};
    if (kind != EntryKind::kNoop) made.payload = base::share(std::move(bytes));
    return made;
  }

  // The same calls on the same random numbers: every kind of record, two segments, a seal.
  void write() {
    open();
    wal::Append data;
    data.hard_state = Bytes(5, std::byte{0x11});
    data.entries = {entry(1, 1, EntryKind::kNoop, 0), entry(1, 2, EntryKind::kConfig, 40),
                    entry(1, 3, EntryKind::kData, 100)};
    wal::Append cache;
    cache.group = Group::kCache;
    cache.entries = {entry(1, 1, EntryKind::kNoop, 0)};
    ASSERT_TRUE(log_->append_batch({data, cache}));
    model_.apply(data);
    model_.apply(cache);
    wal::Append replace;
    replace.truncate_from = Index(3);
    replace.entries = {entry(2, 3, EntryKind::kData, 33)};
    ASSERT_TRUE(append(replace));
    ASSERT_TRUE(set_floor(Group::kData, 1));
    ASSERT_TRUE(log_->reset(Group::kCache, {Term(2), Index(10)}));
    model_.reset(Group::kCache, {Term(2), Index(10)});
    wal::Append large;
    large.entries = {entry(2, 4, EntryKind::kData, 60000)};
    ASSERT_TRUE(append(large));
    ASSERT_TRUE(log_->seal());
  }
};

TEST_F(GoldenTest, Writing_TheSameCalls_GivesTheSameBytes) {
  write();
  log_.reset();
  const std::string text = to_text(env_.snapshot());
  if (std::getenv("HQL_REWRITE") != nullptr) std::ofstream(kGolden) << text;
  std::ifstream golden(kGolden);
  ASSERT_TRUE(golden) << kGolden;
  std::stringstream expected;
  expected << golden.rdbuf();
  EXPECT_TRUE(expected.str() == text) << "the log's bytes differ from " << kGolden;
}

TEST_F(GoldenTest, Reading_VersionOne_GivesWhatWasWritten) {
  write();
  std::ifstream golden(kGolden);
  ASSERT_TRUE(golden) << kGolden;
  std::stringstream text;
  text << golden.rdbuf();
  env_.restore(from_text(text.str()));
  ASSERT_TRUE(wal::verify(env_, "log"));
  open();
  EXPECT_FALSE(damage_);
  ASSERT_TRUE(append(entries(Group::kData, 1, 10)));
  open();
}

}  // namespace
}  // namespace wal_test

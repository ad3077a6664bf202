// Golden bytes of every entry type and of the sums slots: a format version is kept for ever.
// HQL_REWRITE_GOLDEN=1 writes the files anew; the diff is then read by a person.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "pages/tx.h"
#include "tests/pages/samples.h"

namespace pages_test {
namespace {

std::string hex_lines(base::ByteView bytes) {
  static const char* digits = "0123456789abcdef";
  std::string text;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const auto value = std::to_integer<unsigned>(bytes[i]);
    text += digits[value >> 4];
    text += digits[value & 15];
    text += i % 16 == 15 || i + 1 == bytes.size() ? '\n' : ' ';
  }
  return text;
}

base::Bytes bytes_from(const std::string& text) {
  base::Bytes bytes;
  std::istringstream in(text);
  for (std::string pair; in >> pair;) bytes.push_back(static_cast<std::byte>(std::stoul(pair, nullptr, 16)));
  return bytes;
}

// What is encoded now must be the file, and the file must decode.
base::Bytes check_golden(const std::string& name, const base::Bytes& bytes) {
  const std::string path = std::string(HQL_GOLDEN_DIR) + "/" + name + ".hex";
  if (std::getenv("HQL_REWRITE_GOLDEN") != nullptr) std::ofstream(path) << hex_lines(bytes);
  std::ifstream file(path);
  EXPECT_TRUE(file.is_open()) << path;
  std::stringstream text;
  text << file.rdbuf();
  EXPECT_EQ(text.str(), hex_lines(bytes)) << path;
  return bytes_from(text.str());
}

TEST(Golden, TxPlain_IsVersion1) {
  pages::Tx tx = sample_tx();
  tx.patches.pop_back();
  tx.header.patch_count = 2;
  const auto decoded = pages::decode_tx(check_golden("tx_v1", encode(tx)));
  ASSERT_TRUE(decoded);
  EXPECT_TRUE(same(decoded->patches, tx.patches));
}

// LZ4's output is its own business: only the decoding of the kept bytes is fixed.
TEST(Golden, TxLz4_IsVersion1) {
  const std::string path = std::string(HQL_GOLDEN_DIR) + "/tx_lz4_v1.hex";
  if (std::getenv("HQL_REWRITE_GOLDEN") != nullptr) std::ofstream(path) << hex_lines(encode(sample_tx()));
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  const auto decoded = pages::decode_tx(bytes_from(text.str()));
  ASSERT_TRUE(decoded);
  EXPECT_TRUE(same(decoded->patches, sample_tx().patches));
}

TEST(Golden, Part_IsVersion1) {
  pages::TxPart part = sample_part();
  part.patches.pop_back();
  ASSERT_TRUE(pages::decode_tx_part(check_golden("tx_part_v1", encode(part))));
}

TEST(Golden, Abort_IsVersion1) { ASSERT_TRUE(pages::decode_tx_abort(check_golden("tx_abort_v1", encode(sample_abort())))); }
TEST(Golden, Create_IsVersion1) { ASSERT_TRUE(pages::decode_create(check_golden("create_v1", encode(sample_create())))); }
TEST(Golden, Drop_IsVersion1) { ASSERT_TRUE(pages::decode_drop(check_golden("drop_v1", encode(sample_drop())))); }

}  // namespace
}  // namespace pages_test

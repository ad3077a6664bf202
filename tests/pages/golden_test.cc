// Golden bytes of every entry type.
#include "tests/base/golden.h"

#include <gtest/gtest.h>

#include "pages/tx.h"
#include "tests/pages/samples.h"

namespace pages_test {
namespace {

using testing_base::bytes_from;
using testing_base::check_golden;
using testing_base::golden_text;
using testing_base::rewrite_golden;

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
  rewrite_golden("tx_lz4_v1", encode(sample_tx()));
  const auto decoded = pages::decode_tx(bytes_from(golden_text("tx_lz4_v1")));
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

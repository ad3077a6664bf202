// Golden bytes of the operations of the local socket, one after the other in one file, and of their replies.
#include "tests/base/golden.h"

#include <gtest/gtest.h>

#include "ext/call.h"

namespace ext {
namespace {

using testing_base::check_golden;
using testing_base::Damage;
using testing_base::expect_damage;
using testing_base::reencoded;

base::Bytes bytes_of(std::string_view text) { return base::copy_of(base::view_of(text)); }

// Every argument is set: what an operation does not have must not travel.
Call sample(Op op) { return {op, "app.db", 0x0102030405060708, 10'000, bytes_of("request")}; }

TEST(Golden, Calls_AreVersion1) {
  base::Bytes all;
  std::vector<std::size_t> sizes;
  for (unsigned op = 1; op <= static_cast<unsigned>(Op::kEvents); ++op) {
    const base::Bytes bytes = encode(sample(static_cast<Op>(op)));
    all.insert(all.end(), bytes.begin(), bytes.end());
    sizes.push_back(bytes.size());
  }
  const base::Bytes golden = check_golden("calls_v1", all);
  ASSERT_EQ(golden.size(), all.size());
  base::ByteView rest = golden;
  for (const std::size_t size : sizes) {
    SCOPED_TRACE("operation " + std::to_string(std::to_integer<int>(rest[0])));
    expect_damage(rest.first(size), Damage::kNoticed, reencoded(decode_call));
    base::Bytes longer = base::copy_of(rest.first(size));
    longer.push_back(std::byte{0});
    EXPECT_FALSE(decode_call(longer));
    rest = rest.subspan(size);
  }
}

TEST(Call, UnknownOperation_IsRefusedByItsNumber) {
  for (const unsigned op : {0u, 14u, 255u}) {
    const auto call = decode_call(base::Bytes{static_cast<std::byte>(op)});
    ASSERT_FALSE(call) << op;
    EXPECT_EQ(call.error().code, base::Code::kProtocol);
    EXPECT_NE(call.error().message.find("operation " + std::to_string(op)), std::string::npos) << call.error().message;
  }
}

TEST(Golden, Executed_IsVersion1) {
  const base::Bytes bytes = check_golden("executed_v1", encode(Executed{base::Index{12}, true, bytes_of("answer")}));
  expect_damage(bytes, Damage::kNoticed, reencoded(decode_executed));
}

TEST(Golden, Number_IsVersion1) {
  const base::Bytes bytes = check_golden("number_v1", encode_number(0x0102030405060708));
  expect_damage(bytes, Damage::kNoticed, [](base::ByteView damaged) -> std::optional<base::Bytes> {
    const auto number = decode_number(damaged);
    if (!number) return std::nullopt;
    return encode_number(*number);
  });
}

TEST(Executed, RowsLost_AreAnErrorOnlyWhereRowsWereAskedFor) {
  const exec::Request counting{exec::RequestKind::kExecute, 0, 0, {{"DELETE FROM t", {}}}};
  const exec::Request returning{exec::RequestKind::kReturning, 0, 0, {{"DELETE FROM t RETURNING id", {}}}};
  const base::Bytes lost = encode(Executed{base::Index{12}, true, exec::encode(exec::Answer{3, 0, ""})});
  ASSERT_TRUE(answer_in(lost, counting));
  EXPECT_EQ(answer_in(lost, counting)->rows_changed, 3);
  ASSERT_FALSE(answer_in(lost, returning));
  EXPECT_EQ(answer_in(lost, returning).error().code, base::Code::kCommitted);
  const base::Bytes kept = encode(Executed{base::Index{12}, false, exec::encode(exec::Answer{1, 0, "[]"})});
  EXPECT_TRUE(answer_in(kept, returning));
}

}  // namespace
}  // namespace ext

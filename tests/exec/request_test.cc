// The codec of forwarded requests and answers: every value type, every truncation, hostile counts.
#include "exec/request.h"

#include <gtest/gtest.h>

namespace exec {
namespace {

Request sample() {
  Request request;
  request.kind = RequestKind::kTransaction;
  request.timeout_ms = 1234;
  request.foreign_keys = 1;
  request.statements.push_back(
      {"INSERT INTO t VALUES (?1, ?2, ?3, ?4, ?5)",
       {std::monostate{}, std::int64_t{-7}, 1.5, std::string("a\0b", 3), Blob{{std::byte{0}, std::byte{255}}}}});
  request.statements.push_back({"DELETE FROM t", {}});
  return request;
}

TEST(Request, RoundTrip_EveryValueType_IsEqual) {
  const Request request = sample();
  const auto back = decode_request(encode(request));
  ASSERT_TRUE(back);
  EXPECT_EQ(back->kind, request.kind);
  EXPECT_EQ(back->timeout_ms, 1234u);
  EXPECT_EQ(back->foreign_keys, 1);
  ASSERT_EQ(back->statements.size(), 2u);
  EXPECT_EQ(back->statements[0].sql, request.statements[0].sql);
  EXPECT_EQ(back->statements[0].params, request.statements[0].params);
}

TEST(Request, Decode_EveryTruncationAndTail_IsRefused) {
  base::Bytes bytes = encode(sample());
  for (std::size_t length = 0; length < bytes.size(); ++length)
    EXPECT_FALSE(decode_request(base::ByteView(bytes).subspan(0, length))) << length;
  bytes.push_back(std::byte{0});
  EXPECT_FALSE(decode_request(bytes));
}

TEST(Request, Decode_HugeStatementCount_IsRefusedBeforeAllocation) {
  base::Writer out;
  out.u8(1);
  out.u8(1);
  out.u32(0);
  out.u8(0);
  out.varint(0xffffffffffULL);
  const auto result = decode_request(out.view());
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, base::Code::kTooLarge);
}

TEST(Answer, RoundTrip_IsEqual) {
  const auto back = decode_answer(encode(Answer{-3, 1LL << 60, "[{\"a\":1}]"}));
  ASSERT_TRUE(back);
  EXPECT_EQ(back->rows_changed, -3);
  EXPECT_EQ(back->last_rowid, 1LL << 60);
  EXPECT_EQ(back->json, "[{\"a\":1}]");
}

}  // namespace
}  // namespace exec

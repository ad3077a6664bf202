// Golden bytes of requests and answers, as they are forwarded to the leader, kept for repeats and sent over the local socket.
#include "tests/base/golden.h"

#include <gtest/gtest.h>

#include "exec/request.h"

namespace exec {
namespace {

using testing_base::check_golden;
using testing_base::Damage;
using testing_base::expect_damage;
using testing_base::reencoded;

TEST(Golden, Request_IsVersion1) {
  Request request;
  request.kind = RequestKind::kTransaction;
  request.timeout_ms = 1234;
  request.foreign_keys = 1;
  request.statements.push_back(
      {"INSERT INTO t VALUES (?,?,?,?,?)",
       {std::monostate{}, std::int64_t{-7}, 1.5, std::string("a\0b", 3), Blob{{std::byte{0}, std::byte{255}}}}});
  request.statements.push_back({"DELETE FROM t", {}});
  expect_damage(check_golden("request_v1", encode(request)), Damage::kNoticed, reencoded(decode_request));
}

TEST(Golden, Answer_IsVersion1) {
  const base::Bytes bytes = check_golden("answer_v1", encode(Answer{2, std::int64_t{1} << 40, R"([{"id":1}])"}));
  expect_damage(bytes, Damage::kNoticed, reencoded(decode_answer));
  base::Bytes longer = bytes;
  longer.push_back(std::byte{0});
  EXPECT_FALSE(decode_answer(longer));
}

}  // namespace
}  // namespace exec

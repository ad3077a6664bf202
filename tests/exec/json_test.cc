// JSON in: statements and parameters of hql_txn; errors name the place.
#include "exec/json.h"

#include <gtest/gtest.h>

namespace exec {
namespace {

TEST(Json, Statements_TextAndArrays_AreRead) {
  const auto statements = statements_of_json(
      R"x(["DELETE FROM t", ["INSERT INTO t VALUES (?,?,?,?)", null, 2.5, "x", {"$blob":"AP8="}]])x");
  ASSERT_TRUE(statements);
  ASSERT_EQ(statements->size(), 2u);
  const auto& params = (*statements)[1].params;
  ASSERT_EQ(params.size(), 4u);
  EXPECT_EQ(params[0], Value(std::monostate{}));
  EXPECT_EQ(params[1], Value(2.5));
  EXPECT_EQ(params[3], Value(Blob{{std::byte{0}, std::byte{255}}}));
}

TEST(Json, Statements_WrongElement_ErrorNamesIt) {
  const auto result = statements_of_json(R"x([["INSERT INTO t VALUES (?)", [1]]])x");
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, base::Code::kArgument);
  EXPECT_NE(result.error().message.find("statement [0] parameter 1"), std::string::npos) << result.error().message;
  EXPECT_FALSE(statements_of_json("{}"));
  EXPECT_FALSE(statements_of_json("not json"));
  EXPECT_FALSE(statements_of_json(R"x([["SELECT ?", {"$blob":"A==="}]])x"));
  EXPECT_FALSE(statements_of_json(R"x([["SELECT ?", 18446744073709551615]])x"));
}

TEST(Json, Base64_EveryRemainder_RoundTrips) {
  base::Bytes bytes;
  for (int i = 0; i < 20; ++i) {
    const auto statements = statements_of_json(R"x([["SELECT ?", {"$blob":")x" + base64(bytes) + R"x("}]])x");
    ASSERT_TRUE(statements) << i;
    EXPECT_EQ((*statements)[0].params.at(0), Value(Blob{bytes}));
    bytes.push_back(static_cast<std::byte>(i * 37));
  }
}

}  // namespace
}  // namespace exec

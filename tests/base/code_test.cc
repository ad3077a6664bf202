// base/code.h and base/result.h: the table is consistent, and errors read as SQL.md promises.
#include "base/code.h"

#include <gtest/gtest.h>

#include <memory>
#include <set>

#include "base/result.h"

namespace base {
namespace {

TEST(Code, Table_AllRows_UniqueNamesAndNumbers) {
  std::set<std::string_view> names;
  std::set<int> numbers;
  for (int i = 0; i < code_count(); ++i) {
    const CodeInfo& info = code_info(code_at(i));
    EXPECT_TRUE(names.insert(info.name).second) << info.name;
    EXPECT_TRUE(numbers.insert(info.number).second) << info.name;
    EXPECT_GE(info.number, 64) << info.name << ": below 64 are SQLite's own";
    EXPECT_LE(info.number, 255) << info.name;
    EXPECT_GT(info.sqlite, 0) << info.name;
    EXPECT_LT(info.sqlite, 64) << info.name;
    EXPECT_FALSE(info.meaning.empty()) << info.name;
    EXPECT_EQ(extended_code(code_at(i)) & 0xFF, info.sqlite) << info.name;
    EXPECT_EQ(extended_code(code_at(i)) >> 8, info.number) << info.name;
  }
  EXPECT_EQ(code_info(Code::kInternal).name, "INTERNAL");
  EXPECT_EQ(code_info(Code::kNewerFormat).name, "NEWER_FORMAT") << "the enum and the table must be in the same order";
}

TEST(Error, ToString_OurCode_PrefixedSqlCode_Plain) {
  EXPECT_EQ(to_string(make_error(Code::kFull, "log/3: no space")), "hiqlite: HQL_FULL: log/3: no space");
  EXPECT_EQ(to_string(Error{Code::kSql, "no such table: t", 1}), "no such table: t");
}

Result<int> half(int number) {
  if (number % 2 != 0) return make_error(Code::kArgument, "odd");
  return number / 2;
}
Result<int> quarter(int number) {
  HQL_ASSIGN(once, half(number));
  HQL_ASSIGN(twice, half(once));
  return twice;
}
Status check_quarter(int number) {
  HQL_TRY(half(number));
  return quarter(number) ? ok() : Status(make_error(Code::kInternal, "second half"));
}

TEST(Result, Macros_ValueAndError_PassedOn) {
  EXPECT_EQ(quarter(12).value(), 3);
  EXPECT_EQ(quarter(6).error().code, Code::kArgument);
  EXPECT_TRUE(check_quarter(4));
  EXPECT_EQ(check_quarter(3).error().code, Code::kArgument);
  EXPECT_EQ(check_quarter(2).error().code, Code::kInternal);
}

TEST(Result, MoveOnlyValue_MovedOut_Intact) {
  Result<std::unique_ptr<int>> result(std::make_unique<int>(5));
  const std::unique_ptr<int> taken = std::move(result).value();
  EXPECT_EQ(*taken, 5);
}

TEST(ResultDeathTest, Value_OfAnError_EndsTheProcess) {
  const Result<int> failed = make_error(Code::kIo, "gone");
  EXPECT_DEATH(static_cast<void>(failed.value()), "CHECK failed at .*result.h:[0-9]+: has_value");
}

}  // namespace
}  // namespace base

// Result<T>: a value or an Error. Expected failures only; programmer errors are CHECK (base/check.h).
// The member names are those of std::expected. Value types, any thread.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <variant>

#include "base/check.h"
#include "base/code.h"

namespace base {

struct Error {
  Code code = Code::kInternal;
  std::string message;  // names the thing, the value and the fix; without the "hiqlite: HQL_X: " prefix
  int sqlite_code = 0;  // kSql only: SQLite's own extended code
};

// "hiqlite: HQL_<CODE>: text", or the plain text for kSql.
std::string to_string(const Error& error);
Error make_error(Code code, std::string message);

template <class T>
class [[nodiscard]] Result {
 public:
  using value_type = T;
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}      // NOLINT: implicit by design
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT
  [[nodiscard]] bool has_value() const { return state_.index() == 0; }
  explicit operator bool() const { return has_value(); }
  T& value() & {
    CHECK(has_value());
    return std::get<0>(state_);
  }
  const T& value() const& {
    CHECK(has_value());
    return std::get<0>(state_);
  }
  T&& value() && {
    CHECK(has_value());
    return std::get<0>(std::move(state_));
  }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  [[nodiscard]] const Error& error() const {
    CHECK(!has_value());
    return std::get<1>(state_);
  }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}  // NOLINT: implicit by design
  [[nodiscard]] bool has_value() const { return !error_; }
  explicit operator bool() const { return has_value(); }
  [[nodiscard]] const Error& error() const {
    CHECK(error_.has_value());
    return *error_;
  }

 private:
  std::optional<Error> error_;
};

using Status = Result<void>;
inline Status ok() { return {}; }

}  // namespace base

// Returns the error of `expression` from the calling function; for Status.
#define HQL_TRY(expression)                                               \
  do {                                                                    \
    if (auto hql_try_ = (expression); !hql_try_) return hql_try_.error(); \
  } while (false)
// Declares `name` with the value of `expression`, or returns its error.
// NOLINTBEGIN(bugprone-macro-parentheses): the name that is declared
#define HQL_ASSIGN(name, expression)                  \
  auto name##_result_ = (expression);                 \
  if (!name##_result_) return name##_result_.error(); \
  auto& name = *name##_result_
// NOLINTEND(bugprone-macro-parentheses)

// The table of base/code.h as data. Any thread.
#include "base/code.h"

#include <iterator>

#include "base/check.h"

namespace base {
namespace {

constexpr CodeInfo kCodes[] = {
#define X(name, text, sqlite, number, meaning) {text, sqlite, number, meaning},
    HQL_CODES(X)
#undef X
};

}  // namespace

const CodeInfo& code_info(Code code) {
  const auto position = static_cast<std::size_t>(code);
  CHECK(position < std::size(kCodes));
  return kCodes[position];
}

int extended_code(Code code) {
  const CodeInfo& info = code_info(code);
  return info.sqlite | (info.number << 8);
}

int code_count() { return static_cast<int>(std::size(kCodes)); }

Code code_at(int position) {
  CHECK(position >= 0);
  CHECK(position < code_count());
  return static_cast<Code>(position);
}

}  // namespace base

// How an Error reads to a user (base/result.h). Any thread.
#include "base/result.h"

namespace base {

std::string to_string(const Error& error) {
  if (error.code == Code::kSql) return error.message;
  std::string text = "hiqlite: HQL_";
  text += code_info(error.code).name;
  text += ": ";
  text += error.message;
  return text;
}

Error make_error(Code code, std::string message) { return Error{code, std::move(message), 0}; }

}  // namespace base

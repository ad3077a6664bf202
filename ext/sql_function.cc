// See sql_function.h.
#include "ext/sql_function.h"

#include "vfs/shim.h"

namespace ext {
namespace {

std::string shown(sqlite3_value* value) {
  switch (sqlite3_value_type(value)) {
    case SQLITE_NULL:
      return "NULL";
    case SQLITE_BLOB:
      return "a blob";
    default:
      break;
  }
  const auto* text = reinterpret_cast<const char*>(sqlite3_value_text(value));
  return text != nullptr ? "\"" + std::string(text).substr(0, 60) + "\"" : "NULL";
}

}  // namespace

void fail(sqlite3_context* context, const base::Error& error) {
  vfs::set_last_error(error);
  sqlite3_result_error(context, base::to_string(error).c_str(), -1);
  const int code = error.code == base::Code::kSql ? error.sqlite_code : base::extended_code(error.code);
  if (code != 0) sqlite3_result_error_code(context, code);
}

base::Error no_memory() {
  base::Error error = base::make_error(base::Code::kSql, "out of memory");
  error.sqlite_code = SQLITE_NOMEM;
  return error;
}

void give_text(sqlite3_context* context, const std::string& text) {
  sqlite3_result_text64(context, text.data(), text.size(), SQLITE_TRANSIENT, SQLITE_UTF8);
}

base::Error Arguments::wrong(int position, const char* name, const std::string& text) const {
  return base::make_error(base::Code::kArgument, std::string(function_) + "(): argument " +
                                                     std::to_string(position + 1) + " (" + name + "): " + text);
}

base::Status Arguments::expect(int least, int most, const char* usage) const {
  if (count_ >= least && (most < 0 || count_ <= most)) return {};
  return base::make_error(base::Code::kArgument, std::string(function_) + "() was called with " +
                                                     std::to_string(count_) + " arguments; usage: " + usage);
}

base::Result<std::string> Arguments::text(int position, const char* name) const {
  if (!has(position)) return wrong(position, name, "a text is required, got NULL");
  if (sqlite3_value_type(values_[position]) == SQLITE_BLOB) return wrong(position, name, "expected a text, got a blob");
  const auto* text = reinterpret_cast<const char*>(sqlite3_value_text(values_[position]));
  if (text == nullptr) return no_memory();
  return std::string(text, static_cast<std::size_t>(sqlite3_value_bytes(values_[position])));
}

base::Result<std::int64_t> Arguments::integer(int position, const char* name, std::int64_t low,
                                              std::int64_t high) const {
  if (position >= count_ || sqlite3_value_numeric_type(values_[position]) != SQLITE_INTEGER)
    return wrong(position, name,
                 "expected an integer, got " + (position < count_ ? shown(values_[position]) : "nothing"));
  const std::int64_t value = sqlite3_value_int64(values_[position]);
  if (value < low || value > high)
    return wrong(position, name,
                 std::to_string(value) + " is outside " + std::to_string(low) + ".." + std::to_string(high));
  return value;
}

base::Result<std::uint32_t> Arguments::milliseconds(int position, const char* name, std::uint32_t fallback) const {
  constexpr std::int64_t kDay = 24LL * 3600 * 1000;
  if (!has(position)) return fallback;
  HQL_ASSIGN(value, integer(position, name, 0, kDay));
  return static_cast<std::uint32_t>(value);
}

}  // namespace ext

// JSON in and out, with nlohmann/json for the syntax.
#include "exec/json.h"

#include <cmath>
#include <nlohmann/json.hpp>

namespace exec {
namespace {

using Json = nlohmann::json;
constexpr char kAlphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

// RFC 4648 section 4; false on anything but whole, padded groups.
bool decode_base64(const std::string& text, base::Bytes& out) {
  if (text.size() % 4 != 0) return false;
  const std::string alphabet(kAlphabet);
  for (std::size_t i = 0; i < text.size(); i += 4) {
    std::uint32_t group = 0;
    int padding = 0;
    for (std::size_t j = 0; j < 4; ++j) {
      const char c = text[i + j];
      const bool last_group = i + 4 == text.size();
      if (c == '=' && last_group && j >= 2) {
        ++padding;
        group <<= 6;
        continue;
      }
      const auto digit = alphabet.find(c);
      if (digit == std::string::npos || padding > 0) return false;
      group = group << 6 | static_cast<std::uint32_t>(digit);
    }
    for (int j = 0; j < 3 - padding; ++j) out.push_back(static_cast<std::byte>(group >> (16 - 8 * j)));
  }
  return true;
}

base::Error argument(const std::string& text) { return base::make_error(base::Code::kArgument, text); }

base::Result<Value> value_of(const Json& json, const std::string& where) {
  if (json.is_null()) return Value(std::monostate{});
  if (json.is_boolean()) return Value(std::int64_t{json.get<bool>() ? 1 : 0});
  if (json.is_number_unsigned() && json.get<std::uint64_t>() > 0x7fffffffffffffffULL)
    return argument(where + ": " + json.dump() + " does not fit a 64-bit integer");
  if (json.is_number_integer()) return Value(json.get<std::int64_t>());
  if (json.is_number()) return Value(json.get<double>());
  if (json.is_string()) return Value(json.get<std::string>());
  if (json.is_object() && json.size() == 1 && json.contains("$blob") && json["$blob"].is_string()) {
    base::Bytes bytes;
    if (!decode_base64(json["$blob"].get<std::string>(), bytes)) return argument(where + ": \"$blob\" is not base64");
    return Value(Blob{std::move(bytes)});
  }
  return argument(where + ": expected null, a number, a string, true, false or {\"$blob\":\"base64\"}");
}

}  // namespace

std::string base64(base::ByteView bytes) {
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::size_t count = std::min<std::size_t>(3, bytes.size() - i);
    std::uint32_t group = 0;
    for (std::size_t j = 0; j < 3; ++j)
      group = group << 8 | (j < count ? std::to_integer<std::uint32_t>(bytes[i + j]) : 0);
    for (std::size_t j = 0; j < 4; ++j) out += j <= count ? kAlphabet[group >> (18 - 6 * j) & 63] : '=';
  }
  return out;
}

void append_text(std::string& out, std::string_view text) {
  out += Json(std::string(text)).dump(-1, ' ', false, Json::error_handler_t::replace);
}

void append_row(std::string& out, sqlite3_stmt* statement) {
  out += '{';
  const int count = sqlite3_column_count(statement);
  for (int i = 0; i < count; ++i) {
    if (i > 0) out += ',';
    const char* name = sqlite3_column_name(statement, i);
    append_text(out, name != nullptr ? name : "");
    out += ':';
    switch (sqlite3_column_type(statement, i)) {
      case SQLITE_INTEGER:
        out += std::to_string(sqlite3_column_int64(statement, i));
        break;
      case SQLITE_FLOAT: {
        const double value = sqlite3_column_double(statement, i);
        out += std::isfinite(value) ? Json(value).dump() : "null";
        break;
      }
      case SQLITE_TEXT: {
        const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(statement, i));
        append_text(out, {text, static_cast<std::size_t>(sqlite3_column_bytes(statement, i))});
        break;
      }
      case SQLITE_BLOB: {
        const auto* data = static_cast<const std::byte*>(sqlite3_column_blob(statement, i));
        const auto size = static_cast<std::size_t>(sqlite3_column_bytes(statement, i));
        out += "{\"$blob\":\"" + base64({data, size}) + "\"}";
        break;
      }
      default:
        out += "null";
    }
  }
  out += '}';
}

base::Result<std::vector<Statement>> statements_of_json(const std::string& text) {
  const Json json = Json::parse(text, nullptr, false);
  if (!json.is_array() || json.empty())
    return argument("expected a JSON array of statements, [[\"INSERT ...\", param, ...], ...], got " +
                    text.substr(0, 60));
  std::vector<Statement> statements;
  for (std::size_t i = 0; i < json.size(); ++i) {
    const std::string where = "statement [" + std::to_string(i) + "]";
    const Json& item = json[i];
    Statement statement;
    if (item.is_string()) {
      statement.sql = item.get<std::string>();
    } else if (item.is_array() && !item.empty() && item[0].is_string()) {
      statement.sql = item[0].get<std::string>();
      for (std::size_t p = 1; p < item.size(); ++p) {
        HQL_ASSIGN(value, value_of(item[p], where + " parameter " + std::to_string(p)));
        statement.params.push_back(std::move(value));
      }
    } else {
      return argument(where + ": expected \"sql\" or [\"sql\", param, ...]");
    }
    statements.push_back(std::move(statement));
  }
  return statements;
}

}  // namespace exec

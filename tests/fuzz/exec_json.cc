// Fuzz target: JSON that users pass and get (exec/json.h). Values and statements that are read and written again are read the same; any bytes
// as a text make valid JSON, and bytes that are UTF-8 come back.
//
// input: choice u8 % 3: 0 values, 1 statements, 2 text | bytes
#include <bit>
#include <cstdio>

#include "exec/json.h"
#include "tests/fuzz/fuzz.h"

namespace {

using exec::Value;

std::string write(const Value& value) {
  if (const auto* integer = std::get_if<std::int64_t>(&value)) return std::to_string(*integer);
  if (const auto* real = std::get_if<double>(&value)) {
    char text[40];
    std::snprintf(text, sizeof text, "%.17g", *real);
    const std::string number = text;
    return number.find_first_of(".e") == std::string::npos ? number + ".0" : number;
  }
  std::string out;
  if (const auto* text = std::get_if<std::string>(&value)) exec::append_text(out, *text);
  if (const auto* blob = std::get_if<exec::Blob>(&value)) out = "{\"$blob\":\"" + exec::base64(blob->bytes) + "\"}";
  return out.empty() ? "null" : out;
}

std::string write(const std::vector<Value>& values) {
  std::string out;
  for (const Value& value : values) out += (out.empty() ? "" : ",") + write(value);
  return out;
}

bool same(const std::vector<Value>& one, const std::vector<Value>& two) {
  return std::equal(one.begin(), one.end(), two.begin(), two.end(), [](const Value& a, const Value& b) {
    const auto* x = std::get_if<double>(&a);
    const auto* y = std::get_if<double>(&b);
    return x != nullptr && y != nullptr ? std::bit_cast<std::uint64_t>(*x) == std::bit_cast<std::uint64_t>(*y) : a == b;
  });
}

// `[a, b]`: values, as the parameters of one statement.
base::Result<std::vector<Value>> values_of(const std::string& array) {
  const bool brackets = array.size() >= 2 && array.front() == '[' && array.back() == ']';
  if (!brackets) return base::make_error(base::Code::kArgument, "no array");
  const std::string inside = array.substr(1, array.size() - 2);
  const bool none = inside.find_first_not_of(" \t\r\n") == std::string::npos;
  auto statements = exec::statements_of_json("[[\"x\"" + (none ? "" : "," + inside) + "]]");
  if (!statements) return statements.error();
  if (statements->size() != 1) return base::make_error(base::Code::kArgument, "more than one array");
  return std::move(statements->front().params);
}

void check_values(const std::string& text) {
  const auto values = values_of(text);
  if (!values) return FUZZ_REQUIRE(values.error().code == base::Code::kArgument && !values.error().message.empty());
  fuzz::accepted();
  const auto again = values_of("[" + write(*values) + "]");
  FUZZ_REQUIRE_OK(again);
  FUZZ_REQUIRE(same(*values, *again));
  FUZZ_CANARY(values->size() == 2);
}

void check_statements(const std::string& text) {
  const auto statements = exec::statements_of_json(text);
  if (!statements)
    return FUZZ_REQUIRE(statements.error().code == base::Code::kArgument && !statements.error().message.empty());
  fuzz::accepted();
  FUZZ_REQUIRE(!statements->empty());
  std::string written;
  for (const exec::Statement& statement : *statements) {
    written += written.empty() ? "[[" : ",[";
    exec::append_text(written, statement.sql);
    if (!statement.params.empty()) written += "," + write(statement.params);
    written += "]";
  }
  const auto again = exec::statements_of_json(written + "]");
  FUZZ_REQUIRE_OK(again);
  FUZZ_REQUIRE(again->size() == statements->size());
  for (std::size_t i = 0; i < statements->size(); ++i)
    FUZZ_REQUIRE((*statements)[i].sql == (*again)[i].sql && same((*statements)[i].params, (*again)[i].params));
}

void check_text(const std::string& text) {
  std::string written;
  exec::append_text(written, text);
  const auto read = values_of("[" + written + "]");
  FUZZ_REQUIRE_OK(read);
  FUZZ_REQUIRE(read->size() == 1 && std::holds_alternative<std::string>((*read)[0]));
  fuzz::accepted();
  const std::string& back = std::get<std::string>((*read)[0]);
  if (back == text) return;
  // Something was not UTF-8: it was replaced, and what was written says the same again.
  FUZZ_REQUIRE(back.find("\xEF\xBF\xBD") != std::string::npos);
  std::string rewritten;
  exec::append_text(rewritten, back);
  FUZZ_REQUIRE(rewritten == written);
}

}  // namespace

void fuzz::run(base::ByteView input) {
  Input in(input);
  const std::uint8_t choice = in.u8() % 3;
  const std::string text(base::text_of(in.rest()));
  if (choice == 0) check_values(text);
  if (choice == 1) check_statements(text);
  if (choice == 2) check_text(text);
}

std::vector<fuzz::Seed> fuzz::seeds() {
  const auto text = [](std::uint8_t choice, std::string_view json) { return chosen(choice, base::view_of(json)); };
  return {{"valid-values", text(0, R"([null, true, -5, 1.5e3, "text \u00e9", {"$blob":"AAEC"}])")},
          {"valid-blob", text(0, R"([{"$blob":"AA=="}])")},
          {"valid-numbers", text(0, "[9223372036854775807, -9223372036854775808, 0.1, 1e308, -0.0]")},
          {"too-large", text(0, "[18446744073709551615]")},
          {"valid-statements", text(1, R"j(["DELETE FROM t", ["INSERT INTO t VALUES (?, ?)", 1, "x"]])j")},
          {"valid-text", text(2, "line\n\"quoted\" \\ \xC3\xA9")},
          {"valid-text-not-utf8", text(2, "\xff\xC3")}};
}

// Codec of requests and answers (docs/FORMATS.md, "Requests").
#include "exec/request.h"

#include <bit>

namespace exec {
namespace {

constexpr std::uint8_t kVersion = 1;

void put_value(base::Writer& out, const Value& value) {
  out.u8(static_cast<std::uint8_t>(value.index()));
  if (const auto* integer = std::get_if<std::int64_t>(&value)) out.u64(static_cast<std::uint64_t>(*integer));
  if (const auto* real = std::get_if<double>(&value)) out.u64(std::bit_cast<std::uint64_t>(*real));
  if (const auto* text = std::get_if<std::string>(&value)) out.text(*text);
  if (const auto* blob = std::get_if<Blob>(&value)) out.blob(blob->bytes);
}

Value get_value(base::Reader& in) {
  switch (in.u8()) {
    case 0:
      return std::monostate{};
    case 1:
      return static_cast<std::int64_t>(in.u64());
    case 2:
      return std::bit_cast<double>(in.u64());
    case 3:
      return in.text();
    case 4:
      return Blob{base::copy_of(in.blob())};
    default:
      in.fail();
      return std::monostate{};
  }
}

base::Error malformed(const char* what) {
  return base::make_error(base::Code::kCorrupt,
                          std::string("a forwarded ") + what + " is malformed; do all nodes run the same version?");
}

}  // namespace

base::Bytes encode(const Request& request) {
  base::Writer out;
  out.u8(kVersion);
  out.u8(static_cast<std::uint8_t>(request.kind));
  out.u32(request.timeout_ms);
  out.u8(request.foreign_keys);
  out.varint(request.statements.size());
  for (const auto& statement : request.statements) {
    out.text(statement.sql);
    out.varint(statement.params.size());
    for (const auto& value : statement.params) put_value(out, value);
  }
  return out.take();
}

base::Result<Request> decode_request(base::ByteView bytes) {
  base::Reader in(bytes);
  Request request;
  if (in.u8() != kVersion) return malformed("request");
  const std::uint8_t kind = in.u8();
  if (kind < 1 || kind > 4) return malformed("request");
  request.kind = static_cast<RequestKind>(kind);
  request.timeout_ms = in.u32();
  request.foreign_keys = in.u8();
  if (request.foreign_keys > 1) return malformed("request");
  const std::uint64_t statements = in.varint();
  if (statements > kStatementCountMax)
    return base::make_error(base::Code::kTooLarge,
                            "a request may hold at most " + std::to_string(kStatementCountMax) + " statements");
  for (std::uint64_t i = 0; i < statements && in.ok(); ++i) {
    Statement statement;
    statement.sql = in.text();
    const std::uint64_t params = in.varint();
    if (params > kParameterCountMax) return malformed("request");
    for (std::uint64_t p = 0; p < params && in.ok(); ++p) statement.params.push_back(get_value(in));
    request.statements.push_back(std::move(statement));
  }
  if (!in.at_end() || request.statements.empty()) return malformed("request");
  return request;
}

base::Bytes encode(const Answer& answer) {
  base::Writer out;
  out.u8(kVersion);
  out.u64(static_cast<std::uint64_t>(answer.rows_changed));
  out.u64(static_cast<std::uint64_t>(answer.last_rowid));
  out.text(answer.json);
  return out.take();
}

base::Result<Answer> decode_answer(base::ByteView bytes) {
  base::Reader in(bytes);
  if (in.u8() != kVersion) return malformed("answer");
  Answer answer;
  answer.rows_changed = static_cast<std::int64_t>(in.u64());
  answer.last_rowid = static_cast<std::int64_t>(in.u64());
  answer.json = in.text();
  if (!in.at_end()) return malformed("answer");
  return answer;
}

bool returns_rows(const Request& request) { return request.kind != RequestKind::kExecute; }

}  // namespace exec

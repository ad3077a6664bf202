// Fuzz target: requests that are forwarded to the leader and their answers (exec/request.h). One thing has one encoding.
//
// input: choice u8 % 2: 0 request, 1 answer | bytes
#include "exec/request.h"
#include "tests/fuzz/codec.h"

void fuzz::run(base::ByteView input) {
  Input in(input);
  if (in.u8() % 2 == 1) {
    const auto answer =
        check_exact(in.rest(), exec::decode_answer, [](const exec::Answer& it) { return exec::encode(it); });
    FUZZ_REQUIRE(answer || answer.error().code == base::Code::kCorrupt);
    return;
  }
  const auto request =
      check_exact(in.rest(), exec::decode_request, [](const exec::Request& it) { return exec::encode(it); });
  if (!request) {
    FUZZ_REQUIRE(request.error().code == base::Code::kCorrupt || request.error().code == base::Code::kTooLarge);
    return;
  }
  FUZZ_REQUIRE(!request->statements.empty() && request->statements.size() <= exec::kStatementCountMax);
  for (const exec::Statement& statement : request->statements)
    FUZZ_REQUIRE(statement.params.size() <= exec::kParameterCountMax);
  FUZZ_REQUIRE(exec::returns_rows(*request) == (request->kind != exec::RequestKind::kExecute));
  FUZZ_CANARY(request->timeout_ms > 1000);
}

std::vector<fuzz::Seed> fuzz::seeds() {
  exec::Request one;
  one.timeout_ms = 1000;
  one.foreign_keys = 1;
  one.statements = {{"INSERT INTO t VALUES (?1, ?2, ?3, ?4, ?5)", {}}};
  one.statements[0].params = {std::monostate{}, std::int64_t{-5}, 1.5, std::string("text"),
                              exec::Blob{base::Bytes(3, std::byte{7})}};
  exec::Request many;
  many.kind = exec::RequestKind::kTransaction;
  many.statements = {{"DELETE FROM t", {}}, {"INSERT INTO t VALUES (?)", {std::int64_t{1}}}};
  exec::Answer answer;
  answer.rows_changed = 2;
  answer.last_rowid = 9;
  answer.json = "[{\"a\":1}]";
  return {{"valid-execute", chosen(0, exec::encode(one))},
          {"valid-transaction", chosen(0, exec::encode(many))},
          {"valid-answer", chosen(1, exec::encode(answer))}};
}

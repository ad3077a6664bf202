// What a forwarded request says and what its answer is: the format of node::ExecuteRequest::body and ExecuteReply::body, also used on
// the local socket. Value types, any thread. docs/FORMATS.md, "Requests", draws the bytes.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"

namespace exec {

// A type of its own: libstdc++ takes a variant of nothing but numbers, strings and vectors for one that always holds a value, and destroys
// one that is not there when no memory is left for a copy (tests/exec/no_memory_test.cc).
struct Blob {
  base::Bytes bytes;
  bool operator==(const Blob&) const = default;
};

// An SQL value as SQLite has it: NULL, INTEGER, REAL, TEXT, BLOB.
using Value = std::variant<std::monostate, std::int64_t, double, std::string, Blob>;

struct Statement {
  std::string sql;            // one statement; kBatch: a whole script without parameters
  std::vector<Value> params;  // bound to ?1, ?2, ...
};

enum class RequestKind : std::uint8_t {
  kExecute = 1,      // one statement; answer: rows changed
  kReturning = 2,    // one statement; answer: JSON array of its rows (objects by column name)
  kTransaction = 3,  // all statements or none; answer: JSON array, one object per statement
  kBatch = 4,        // a script of statements, all or none; answer: JSON array, one object per statement
};

struct Request {
  RequestKind kind = RequestKind::kExecute;
  std::uint32_t timeout_ms = 0;   // 0: the leader's statement_timeout_ms
  std::uint8_t foreign_keys = 0;  // 1: enforce them (PRAGMA foreign_keys of the calling connection)
  std::vector<Statement> statements;
};

struct Answer {
  std::int64_t rows_changed = 0;
  std::int64_t last_rowid = 0;
  std::string json;  // kReturning, kTransaction, kBatch; empty in the small form
};

inline constexpr std::size_t kStatementCountMax = 100'000;
inline constexpr std::size_t kParameterCountMax = 32'766;  // SQLITE_MAX_VARIABLE_NUMBER

base::Bytes encode(const Request& request);
base::Result<Request> decode_request(base::ByteView bytes);  // kCorrupt, kTooLarge; hostile input (R18)
base::Bytes encode(const Answer& answer);
base::Result<Answer> decode_answer(base::ByteView bytes);

// Cheap look at a request without decoding it.
bool returns_rows(const Request& request);

}  // namespace exec

// Rows and values as JSON, as the SQL surface promises: objects by column name, blobs as {"$blob":"base64"}, reals that JSON
// cannot hold (infinities) as null. Any thread.
#pragma once

#include <string>

#include "base/bytes.h"
#include "base/result.h"
#include "base/sqlite.h"
#include "exec/request.h"

namespace exec {

// The current row of a stepped statement, appended to `out` as an object.
void append_row(std::string& out, sqlite3_stmt* statement);
// `text` in quotes, escaped; bytes that are not UTF-8 become U+FFFD.
void append_text(std::string& out, std::string_view text);
std::string base64(base::ByteView bytes);
// `[["sql", p, ...], ...]` or `["sql", ...]` -> statements (hql_txn). kArgument naming the element.
base::Result<std::vector<Statement>> statements_of_json(const std::string& text);

}  // namespace exec

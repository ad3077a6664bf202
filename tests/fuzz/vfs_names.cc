// Fuzz target: from the name that a program opens to a database (vfs/names.h), over the system's SQLite for URI parameters. A driver that knows
// URIs and one that passes them literally mean the same; a name that is accepted is a file name of ours; page 1 of a new database is one that
// SQLite opens, in WAL mode, empty and sound.
//
// input: choice u8: 0 parameters { name \0 key \0 value \0 ... }, 1 literal text, 2 database name, 3 page 1 (size u8, auto_vacuum u8, name)
#include <cstring>

#include "base/sqlite.h"
#include "pages/sums.h"
#include "tests/fuzz/fuzz.h"
#include "vfs/names.h"

// The system's SQLite and not the table of routines, which a host would have filled.
#undef sqlite3_auto_extension
#undef sqlite3_cancel_auto_extension
#undef sqlite3_close
#undef sqlite3_open
#undef sqlite3_create_filename
#undef sqlite3_free_filename
#undef sqlite3_deserialize
#undef sqlite3_exec
#undef sqlite3_malloc64

namespace {

extern "C" int take_api(sqlite3*, char**, const sqlite3_api_routines* api) {
  sqlite3_api = api;
  return 0;
}

void load_api() {
  if (sqlite3_api != nullptr) return;
  const auto entry = reinterpret_cast<void (*)()>(take_api);
  sqlite3* db = nullptr;
  FUZZ_REQUIRE(sqlite3_auto_extension(entry) == 0);
  FUZZ_REQUIRE(sqlite3_open(":memory:", &db) == 0);
  FUZZ_REQUIRE(sqlite3_close(db) == 0);
  FUZZ_REQUIRE(sqlite3_cancel_auto_extension(entry) == 1);
}

void check_request(const base::Result<vfs::OpenRequest>& request) {
  if (!request) {
    FUZZ_REQUIRE(request.error().code == base::Code::kArgument);
    FUZZ_REQUIRE(request.error().message.rfind("URI parameter ", 0) == 0);
    return;
  }
  if (!request->ours) return;
  fuzz::accepted();
  const std::uint32_t size = request->page_size;
  FUZZ_REQUIRE(size >= 512 && size <= 65536 && (size & (size - 1)) == 0);
  FUZZ_REQUIRE(!request->timeout || *request->timeout >= 0);
  FUZZ_CANARY(request->timeout && *request->timeout > 30 * base::kMillisecond);
}

bool same(const base::Result<vfs::OpenRequest>& one, const base::Result<vfs::OpenRequest>& two) {
  if (one.has_value() != two.has_value()) return false;
  if (!one) return one.error().message == two.error().message;
  return one->ours == two->ours && one->name == two->name && one->node == two->node &&
         one->page_size == two->page_size && one->auto_vacuum == two->auto_vacuum && one->timeout == two->timeout &&
         one->importing == two->importing && one->refused == two->refused;
}

void check_parameters(const std::string& text) {
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == '\0') {
      parts.emplace_back();
    } else if (std::strchr("?&=#%", c) ==
               nullptr) {  // they would be escaped in a URI, and are not understood literally
      parts.back() += c;
    }
  }
  std::vector<const char*> parameters;
  std::string literal = "file:" + parts[0] + "?vfs=hiqlite";
  parameters.push_back("vfs");
  parameters.push_back("hiqlite");
  for (std::size_t i = 1; i + 1 < parts.size(); i += 2) {
    if (parts[i].empty()) return;  // an empty key ends SQLite's list
    parameters.push_back(parts[i].c_str());
    parameters.push_back(parts[i + 1].c_str());
    literal += "&" + parts[i] + "=" + parts[i + 1];
  }
  const auto count = static_cast<int>(parameters.size() / 2);
  const char* const name = sqlite3_create_filename(parts[0].c_str(), "", "", count, parameters.data());
  FUZZ_REQUIRE(name != nullptr);
  const auto by_uri = vfs::parse_open_request(name);
  sqlite3_free_filename(const_cast<char*>(name));
  check_request(by_uri);
  const char* const plain = sqlite3_create_filename(literal.c_str(), "", "", 0, nullptr);
  FUZZ_REQUIRE(plain != nullptr);
  const auto by_text = vfs::parse_open_request(plain);
  sqlite3_free_filename(const_cast<char*>(plain));
  FUZZ_REQUIRE(same(by_uri, by_text));
}

void check_literal(const std::string& text) {
  const char* const name = sqlite3_create_filename(text.c_str(), "", "", 0, nullptr);
  FUZZ_REQUIRE(name != nullptr);
  const auto request = vfs::parse_open_request(name);
  sqlite3_free_filename(const_cast<char*>(name));
  check_request(request);
  if (request && request->ours)
    FUZZ_REQUIRE(text.rfind("file:", 0) == 0 && text.find("vfs=hiqlite") != std::string::npos);
}

void check_name(const std::string& written) {
  const auto name = vfs::database_name(written, "/data/db");
  if (!name) return FUZZ_REQUIRE(name.error().code == base::Code::kArgument);
  fuzz::accepted();
  FUZZ_REQUIRE_OK(pages::valid_database_name(*name));
  FUZZ_REQUIRE(name->find('/') == std::string::npos && name->front() != '.');
  FUZZ_REQUIRE(written.size() >= name->size() &&
               written.compare(written.size() - name->size(), name->size(), *name) == 0);
  for (const std::string& other : {*name, "./" + *name, "/data/db/" + *name}) {
    const auto again = vfs::database_name(other, "/data/db");
    FUZZ_REQUIRE(again && *again == *name);
  }
}

void check_first_page(fuzz::Input& in) {
  const std::uint32_t size = std::uint32_t{512} << in.u8() % 8;
  const auto mode = static_cast<vfs::AutoVacuum>(in.u8() % 3);
  const std::string name(base::text_of(in.bytes(64)));
  if (!pages::valid_database_name(name)) return;
  fuzz::accepted();
  const pages::CreateDatabase create = vfs::make_create(name, size, mode);
  const auto decoded = pages::decode_create(pages::encode(create));
  FUZZ_REQUIRE_OK(decoded);
  FUZZ_REQUIRE(decoded->name == name && decoded->page_size == size && decoded->size_after == 1 &&
               decoded->initial.size() == 1);
  base::Bytes page(size);
  FUZZ_REQUIRE_OK(pages::apply_patch(decoded->initial[0], page));
  FUZZ_REQUIRE(page == vfs::make_first_page(size, mode));
  FUZZ_REQUIRE(decoded->digest_after == pages::page_hash(1, page));
  page[18] = page[19] = std::byte{1};  // a database in memory has no WAL
  auto* const image = static_cast<unsigned char*>(sqlite3_malloc64(size));
  std::memcpy(image, page.data(), size);
  sqlite3* db = nullptr;
  FUZZ_REQUIRE(sqlite3_open(":memory:", &db) == 0);
  FUZZ_REQUIRE(sqlite3_deserialize(db, "main", image, size, size,
                                   SQLITE_DESERIALIZE_FREEONCLOSE | SQLITE_DESERIALIZE_RESIZEABLE) == 0);
  std::string rows;
  const auto add = [](void* out, int, char** values, char**) {
    *static_cast<std::string*>(out) += std::string(values[0]) + " ";
    return 0;
  };
  FUZZ_REQUIRE(
      sqlite3_exec(db,
                   "PRAGMA integrity_check; PRAGMA page_size; PRAGMA auto_vacuum; SELECT count(*) FROM sqlite_schema;"
                   "CREATE TABLE t(a); INSERT INTO t VALUES (1); PRAGMA integrity_check;",
                   add, &rows, nullptr) == 0);
  FUZZ_REQUIRE(rows == "ok " + std::to_string(size) + " " + std::to_string(static_cast<int>(mode)) + " 0 ok ");
  FUZZ_REQUIRE(sqlite3_close(db) == 0);
}

}  // namespace

void fuzz::run(base::ByteView input) {
  load_api();
  Input in(input);
  const std::uint8_t choice = in.u8() % 4;
  if (choice == 3) return check_first_page(in);
  const std::string text(base::text_of(in.rest()));
  if (choice == 0) check_parameters(text);
  if (choice == 1) check_literal(text);
  if (choice == 2) check_name(text);
}

std::vector<fuzz::Seed> fuzz::seeds() {
  const auto text = [](std::uint8_t choice, std::string_view rest) { return chosen(choice, base::view_of(rest)); };
  using std::string_view_literals::operator""sv;
  return {
      {"valid-parameters", text(0, "app.db\0node\0002\0page_size\0004096\0auto_vacuum\0full\0timeout_ms\00030\0"sv)},
      {"valid-refused", text(0, "app.db\0cache\0shared\0nolock\0001\0"sv)},
      {"bad-value", text(0, "app.db\0page_size\0001000\0"sv)},
      {"valid-literal", text(1, "file:app.db?vfs=hiqlite&node=2&page_size=1024&immutable=0"sv)},
      {"plain", text(1, "app.db"sv)},
      {"valid-name", text(2, "./app.db"sv)},
      {"valid-located", text(2, "/data/db/app.db"sv)},
      {"path", text(2, "../app.db"sv)},
      {"valid-page", text(3, "\3\1app.db"sv)},
      {"valid-page-large", text(3, "\7\2app.db"sv)},
      {"valid-page-small", text(3, "\0\0a"sv)}};
}

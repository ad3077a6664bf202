// Names, URI parameters and page 1 (vfs/names.h).
#include "vfs/names.h"

#include <cstdlib>
#include <cstring>
#include <functional>

#include "base/sqlite.h"
#include "pages/sums.h"

namespace vfs {
namespace {

using Lookup = std::function<std::optional<std::string>(const char* key)>;

base::Error bad_value(const char* key, const std::string& value, const std::string& expected) {
  return base::make_error(base::Code::kArgument,
                          std::string("URI parameter ") + key + "=" + value + ": expected " + expected);
}

base::Result<std::uint64_t> parse_number(const char* key, const std::string& text) {
  if (text.empty() || text.size() > 18 || text.find_first_not_of("0123456789") != std::string::npos)
    return bad_value(key, text, "a number");
  return static_cast<std::uint64_t>(std::strtoull(text.c_str(), nullptr, 10));
}

bool truthy(const std::string& text) { return text != "0" && text != "no" && text != "off" && text != "false"; }

std::string find_refused(const Lookup& lookup) {
  if (const auto cache = lookup("cache"); cache && *cache == "shared") return "cache=shared";
  for (const char* const key : {"nolock", "immutable"})
    if (const auto value = lookup(key); value && truthy(*value)) return std::string(key) + "=" + *value;
  return {};
}

base::Result<OpenRequest> parse_parameters(OpenRequest request, const Lookup& lookup) {
  request.ours = true;
  request.refused = find_refused(lookup);
  if (const auto node = lookup("node")) {
    HQL_ASSIGN(number, parse_number("node", *node));
    request.node = base::NodeId(number);
  }
  if (const auto size = lookup("page_size")) {
    HQL_ASSIGN(number, parse_number("page_size", *size));
    const bool power_of_two = (number & (number - 1)) == 0;
    if (number < 512 || number > 65536 || !power_of_two)
      return bad_value("page_size", *size, "a power of two, 512 to 65536");
    request.page_size = static_cast<std::uint32_t>(number);
  }
  request.importing = lookup("hql_import").has_value();
  if (const auto mode = lookup("auto_vacuum")) {
    if (*mode == "0" || *mode == "none")
      request.auto_vacuum = AutoVacuum::kNone;
    else if (*mode == "1" || *mode == "full")
      request.auto_vacuum = AutoVacuum::kFull;
    else if (*mode == "2" || *mode == "incremental")
      request.auto_vacuum = AutoVacuum::kIncremental;
    else
      return bad_value("auto_vacuum", *mode, "none, full or incremental");
  }
  if (const auto timeout = lookup("timeout_ms")) {
    HQL_ASSIGN(number, parse_number("timeout_ms", *timeout));
    request.timeout = static_cast<base::Micros>(number) * base::kMillisecond;
  }
  return request;
}

// "file:name?a=b&c=d" taken literally, without %-escapes: only drivers that do not know URIs come here.
base::Result<OpenRequest> parse_literal(const std::string& text) {
  OpenRequest request;
  const std::size_t question = text.find('?');
  if (text.rfind("file:", 0) != 0 || question == std::string::npos) return request;
  const std::string query = "&" + text.substr(question + 1) + "&";
  const Lookup lookup = [&query](const char* key) -> std::optional<std::string> {
    const std::string wanted = std::string("&") + key + "=";
    const std::size_t at = query.find(wanted);
    if (at == std::string::npos) return std::nullopt;
    const std::size_t start = at + wanted.size();
    return query.substr(start, query.find('&', start) - start);
  };
  const auto named = lookup("vfs");
  if (!named || *named != kVfsName) return request;
  request.name = text.substr(5, question - 5);
  return parse_parameters(std::move(request), lookup);
}

// The parameters of the pager's `filename`, by key.
auto parameters_of(const char* filename) {
  return [filename](const char* key) -> std::optional<std::string> {
    const char* const value = sqlite3_uri_parameter(filename, key);
    if (value == nullptr) return std::nullopt;
    return std::string(value);
  };
}

}  // namespace

base::Result<OpenRequest> parse_open_request(const char* filename) {
  if (filename == nullptr) return OpenRequest{};
  const char* const named = sqlite3_uri_parameter(filename, "vfs");
  if (named == nullptr || std::strcmp(named, kVfsName) != 0) {
    if (std::strncmp(filename, "file:", 5) == 0) return parse_literal(filename);
    return OpenRequest{};
  }
  OpenRequest request;
  request.name = filename;
  return parse_parameters(std::move(request), parameters_of(filename));
}

std::string refused_parameter(const char* filename) { return find_refused(parameters_of(filename)); }

base::Result<std::string> database_name(const std::string& written, const std::string& db_dir) {
  std::string name = written;
  if (name.rfind(db_dir + "/", 0) == 0) name.erase(0, db_dir.size() + 1);
  while (name.rfind("./", 0) == 0) name.erase(0, 2);
  if (name.find('/') != std::string::npos)
    return base::make_error(base::Code::kArgument,
                            "\"" + written +
                                "\" is a path; with vfs=hiqlite a database is named, not located: "
                                "file:<name>?vfs=hiqlite lives in " +
                                db_dir);
  HQL_TRY(pages::valid_database_name(name));
  return name;
}

// SQLite's file format, section 1.3 and 1.6: the 100-byte header and an empty leaf of sqlite_schema behind it. Big-endian.
base::Bytes make_first_page(std::uint32_t page_size, AutoVacuum auto_vacuum) {
  base::Bytes page(page_size);
  std::memcpy(page.data(), "SQLite format 3", 16);
  const auto put = [&page](std::size_t at, unsigned value) { page[at] = static_cast<std::byte>(value); };
  put(16, (page_size >> 8) & 0xff);  // 65536 is written as 1, which is 0x10000 >> 16
  put(17, (page_size >> 16) & 0xff);
  put(18, 2);  // write version: WAL
  put(19, 2);  // read version: WAL
  put(21, 64);
  put(22, 32);
  put(23, 32);
  base::store_be32(&page[24], 1);                                         // change counter
  base::store_be32(&page[28], 1);                                         // size in pages
  base::store_be32(&page[52], auto_vacuum == AutoVacuum::kNone ? 0 : 1);  // largest root page
  base::store_be32(&page[64], auto_vacuum == AutoVacuum::kIncremental ? 1 : 0);
  base::store_be32(&page[92], 1);        // change counter for which the size above counts
  base::store_be32(&page[96], 3035000);  // the oldest SQLite that may have written it
  put(100, 0x0d);                        // leaf of a table b-tree, no cells
  put(105, (page_size >> 8) & 0xff);     // start of cell content; 65536 is written as 0
  put(106, 0);
  return page;
}

pages::CreateDatabase make_create(const std::string& name, std::uint32_t page_size, AutoVacuum auto_vacuum) {
  const base::Bytes page = make_first_page(page_size, auto_vacuum);
  pages::CreateDatabase create;
  create.name = name;
  create.page_size = page_size;
  create.initial.push_back(pages::make_patch(1, {}, page));
  create.size_after = 1;
  create.digest_after = pages::page_hash(1, page);
  return create;
}

}  // namespace vfs

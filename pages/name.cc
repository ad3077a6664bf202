// Which names a database may have: they become file names beside those that SQLite and the node derive from them. Any thread.
#include <array>
#include <string_view>

#include "pages/tx.h"

namespace pages {
namespace {

constexpr std::size_t kNameMax = 64;
// What SQLite and the node append to a database's name.
constexpr std::array<std::string_view, 4> kSuffixes = {"-wal", "-shm", "-journal", ".sums"};

bool is_name_byte(char c) {
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
}

base::Error wrong(const std::string& name, const std::string& rule) {
  std::string shown = name.substr(0, kNameMax);
  for (char& c : shown)
    if (c < ' ' || c > '~') c = '?';
  return base::make_error(base::Code::kArgument, "database name \"" + shown + "\" " + rule);
}

}  // namespace

base::Status valid_database_name(const std::string& name) {
  if (name.empty()) return wrong(name, "is empty: use 1 to 64 of A-Z a-z 0-9 . _ -");
  if (name.size() > kNameMax) return wrong(name, "is longer than 64 bytes");
  for (const char c : name)
    if (!is_name_byte(c)) return wrong(name, "has a byte outside A-Z a-z 0-9 . _ -");
  if (name.front() == '.' || name.front() == '-') return wrong(name, "begins with '.' or '-'");
  for (const std::string_view suffix : kSuffixes)
    if (name.size() >= suffix.size() && std::string_view(name).substr(name.size() - suffix.size()) == suffix)
      return wrong(name, "ends in \"" + std::string(suffix) + "\", which SQLite or the node uses itself");
  return base::ok();
}

}  // namespace pages

// hiqlite shell: the stock sqlite3 on this node's file, read-only and local, with the hql_* functions sent to the owner.
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <vector>

#include "cli/command.h"

namespace cli {
namespace {

// A single-quoted SQL text.
std::string quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("''") : std::string(1, c);
  return out + "'";
}

// An argument of a dot command of the shell, which reads backslashes between double quotes as C does.
std::string dot_quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) out += c == '"' || c == '\\' ? std::string("\\") + c : std::string(1, c);
  return out + "\"";
}

// A path inside a URI: `?`, `#` and `%` mean something there.
std::string uri_path(const std::string& path) {
  std::string out;
  for (const char c : path) out += c == '?' ? "%3f" : c == '#' ? "%23" : c == '%' ? "%25" : std::string(1, c);
  return out;
}

}  // namespace

int run_shell(const Parsed& parsed) {
  const auto config = load_config(parsed);
  if (!config) return report(config.error());
  const std::string name = !parsed.words.empty() ? parsed.words[0] : config->filename_db;
  char* real = ::realpath(config->data_dir.c_str(), nullptr);
  if (real == nullptr)
    return report(
        base::make_error(base::Code::kNotFound, "data_dir \"" + config->data_dir + "\": " + std::strerror(errno)));
  const std::string data_dir = real;
  ::free(real);
  const std::string file = data_dir + "/db/" + name;
  if (::access(file.c_str(), R_OK) != 0)
    return report(base::make_error(base::Code::kNotFound,
                                   "database \"" + name + "\": " + file + ": " + std::strerror(errno) +
                                       "; create it with `hiqlite exec --db " + name + " \"CREATE TABLE ...\"`"));
  std::vector<std::string> words = {"sqlite3",
                                    "-cmd",
                                    ".load " + dot_quoted(extension_path()),
                                    "-cmd",
                                    ".output /dev/null",
                                    "-cmd",
                                    "SELECT hql_remote(" + quoted("unix:" + data_dir) + ");",
                                    "-cmd",
                                    ".output",
                                    "file:" + uri_path(file) + "?mode=ro"};
  if (parsed.words.size() > 1) words.push_back(parsed.words[1]);
  std::vector<char*> argv;
  argv.reserve(words.size() + 1);
  for (auto& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  ::execvp("sqlite3", argv.data());
  return report(base::make_error(base::Code::kNotFound, std::string("cannot run sqlite3: ") + std::strerror(errno) +
                                                            "; install it (Debian: apt-get install sqlite3)"));
}

}  // namespace cli

// The process's one log (base/log.h). Its state is never destroyed (R2).
#include "base/log.h"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <system_error>

#include "base/mutex.h"
#include "base/posix_env.h"

namespace base {
namespace {

constexpr std::array<std::string_view, 5> kLevelNames = {"debug", "info", "warn", "error", "off"};
constexpr char kLevelLetters[] = "DIWE";
constexpr std::size_t kLineSizeMax =
    8192;  // a longer text is cut: a line must not become a page of somebody's terminal

std::atomic<Level> g_level{Level::kWarn};

struct State {
  Mutex mutex;
  Sink sink GUARDED_BY(mutex);  // empty: lines go to `fd`
  int fd GUARDED_BY(mutex) = STDERR_FILENO;
};

State& state() {
  static State* const the = new State;
  return *the;
}

// "2026-11-21T03:52:10.123456Z"
std::string time_text(Micros wall_clock) {
  const auto seconds = static_cast<time_t>(wall_clock / kSecond);
  struct tm utc {};
  ::gmtime_r(&seconds, &utc);
  std::array<char, 80> text{};
  std::snprintf(text.data(), text.size(), "%04d-%02d-%02dT%02d:%02d:%02d.%06dZ", utc.tm_year + 1900, utc.tm_mon + 1,
                utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec, static_cast<int>(wall_clock % kSecond));
  return text.data();
}

// Texts may quote bytes of peers and files: a line stays one line, and no control byte reaches a terminal.
void append_clean(std::string& line, std::string_view text) {
  for (const char c : text.substr(0, kLineSizeMax)) {
    const auto byte = static_cast<unsigned char>(c);
    line += byte < 0x20 || byte == 0x7F ? ' ' : c;
  }
}

void write_line(int fd, const std::string& line) {
  std::size_t done = 0;
  while (done < line.size()) {
    const ssize_t put = ::write(fd, line.data() + done, line.size() - done);
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return;  // a log that cannot be written has nobody to tell
    done += static_cast<std::size_t>(put);
  }
}

void close_file(int fd) {
  if (fd > STDERR_FILENO) ::close(fd);
}

}  // namespace

std::string_view level_name(Level level) { return kLevelNames[static_cast<std::size_t>(level)]; }

std::optional<Level> parse_level(std::string_view name) {
  for (std::size_t i = 0; i < kLevelNames.size(); ++i)
    if (kLevelNames[i] == name) return static_cast<Level>(i);
  return std::nullopt;
}

void set_level(Level level) { g_level.store(level, std::memory_order_relaxed); }
Level level() { return g_level.load(std::memory_order_relaxed); }

void set_sink(Sink sink) {
  State& log = state();
  const MutexLock lock(log.mutex);
  log.sink = std::move(sink);
}

void set_sink_stderr() {
  State& log = state();
  const MutexLock lock(log.mutex);
  log.sink = nullptr;
  close_file(log.fd);
  log.fd = STDERR_FILENO;
}

Status set_sink_file(const std::string& path) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (fd < 0) {
    const int error_number = errno;
    Code code = Code::kIo;
    if (error_number == EACCES || error_number == EPERM || error_number == EROFS) code = Code::kPermission;
    if (error_number == ENOENT || error_number == ENOTDIR) code = Code::kNotFound;
    return make_error(code, "log file " + path + ": " + std::generic_category().message(error_number));
  }
  State& log = state();
  const MutexLock lock(log.mutex);
  log.sink = nullptr;
  close_file(log.fd);
  log.fd = fd;
  return ok();
}

void log(Level level, const std::string& text) {
  if (!log_enabled(level) || level >= Level::kOff) return;
  std::string line = time_text(posix_env().wall_clock());
  line += ' ';
  line += kLevelLetters[static_cast<std::size_t>(level)];
  line += ' ';
  append_clean(line, text);
  line += '\n';
  State& log = state();
  const MutexLock lock(log.mutex);
  if (log.sink) {
    log.sink(level, text);
  } else {
    write_line(log.fd, line);
  }
}

}  // namespace base

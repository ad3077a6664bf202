// Log lines for people: a level and a text, to stderr, a file or a function. The node's event log and tests take the function.
// Any thread. One line is one write(2), so lines of several processes do not mix. An error is returned or logged, never both.
//   2026-11-21T03:52:10.123456Z W raft: node 2 unreachable for 3 s
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace base {

enum class Level : std::uint8_t { kDebug, kInfo, kWarn, kError, kOff };

// The name in configuration and on the command line: debug, info, warn, error, off.
std::string_view level_name(Level level);
std::optional<Level> parse_level(std::string_view name);

// Lines below `level` are dropped. kWarn at first: a guest in another program's process is quiet.
void set_level(Level level);
[[nodiscard]] Level level();
// For a text that is costly to make.
[[nodiscard]] inline bool log_enabled(Level wanted) { return wanted >= level(); }

// Where lines go; replaces the sink before. A sink function runs on the logging thread under the log's mutex:
// it must not log and must not block.
using Sink = std::function<void(Level level, const std::string& text)>;
void set_sink(Sink sink);
void set_sink_stderr();
// Appends to `path`, made with mode 0600 when missing. Errors: kIo, kNotFound, kPermission; the sink is then as before.
Status set_sink_file(const std::string& path);

void log(Level level, const std::string& text);
inline void log_debug(const std::string& text) { log(Level::kDebug, text); }
inline void log_info(const std::string& text) { log(Level::kInfo, text); }
inline void log_warn(const std::string& text) { log(Level::kWarn, text); }
inline void log_error(const std::string& text) { log(Level::kError, text); }

}  // namespace base

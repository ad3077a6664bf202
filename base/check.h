// CHECK: a programmer error ends the process with file, line and condition. On in release. One condition per line.
// Never for bytes from disk, network or SQL: those are Result (STYLE.md).
#pragma once

namespace base {
[[noreturn]] void check_failed(const char* file, int line, const char* condition) noexcept;
}  // namespace base

#define CHECK(condition) (static_cast<bool>(condition) ? void(0) : ::base::check_failed(__FILE__, __LINE__, #condition))

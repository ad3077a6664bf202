// The end of the process after a failed CHECK (base/check.h). Any thread; allocates nothing and takes no lock.
#include "base/check.h"

#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>

namespace base {

void check_failed(const char* file, int line, const char* condition) noexcept {
  std::array<char, 512> text{};
  const int length =
      std::snprintf(text.data(), text.size(), "hiqlite: CHECK failed at %s:%d: %s\n", file, line, condition);
  if (length > 0) {
    const auto size =
        static_cast<std::size_t>(length) < text.size() ? static_cast<std::size_t>(length) : text.size() - 1;
    if (::write(STDERR_FILENO, text.data(), size) < 0) std::abort();
  }
  std::abort();
}

}  // namespace base

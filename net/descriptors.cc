// A bit per open descriptor, read without a lock in a forked child; see net/descriptors.h.
#include "net/descriptors.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace net {
namespace {

constexpr std::size_t kTrackedMax = 65536;  // beyond the usual RLIMIT_NOFILE; a higher one is simply inherited
std::array<std::atomic<std::uint64_t>, kTrackedMax / 64> g_open_sockets{};

}  // namespace

void track_descriptor(int fd) {
  const auto number = static_cast<std::size_t>(fd);
  if (fd >= 0 && number < kTrackedMax) g_open_sockets[number / 64].fetch_or(std::uint64_t{1} << (number % 64));
}

void untrack_descriptor(int fd) {
  const auto number = static_cast<std::size_t>(fd);
  if (fd >= 0 && number < kTrackedMax) g_open_sockets[number / 64].fetch_and(~(std::uint64_t{1} << (number % 64)));
}

void abandon_descriptors() noexcept {
  const int saved = errno;
  const int null_fd = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  for (std::size_t word = 0; word < g_open_sockets.size(); ++word) {
    const std::uint64_t bits = g_open_sockets[word].exchange(0);
    for (std::size_t bit = 0; bit < 64; ++bit) {
      if ((bits >> bit & 1) == 0) continue;
      const int fd = static_cast<int>(word * 64 + bit);
      if (null_fd < 0 || ::dup3(null_fd, fd, O_CLOEXEC) < 0) ::close(fd);
    }
  }
  if (null_fd >= 0) ::close(null_fd);
  errno = saved;
}

}  // namespace net

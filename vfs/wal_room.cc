// See wal_room.h.
#include "vfs/wal_room.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/fault.h"
#include "vfs/wal_writer.h"

namespace vfs {
namespace {

// The file grows by half of itself, within these: small databases stay small, large ones grow seldom.
constexpr std::uint64_t kGrowthMin = std::uint64_t{32} << 10;
constexpr std::uint64_t kGrowthMax = std::uint64_t{256} << 10;

}  // namespace

base::Status WalRoom::reserve(int wal_fd, std::uint64_t end) {
  if (const auto fault = HQL_FAULT_POINT("image.wal_room")) return fault->error("grow the WAL");
  if (end <= size_) return base::ok();
  struct stat info {};
  if (::fstat(wal_fd, &info) != 0)
    return base::make_error(base::Code::kIo, std::string("stat the WAL: ") + std::strerror(errno));
  size_ = static_cast<std::uint64_t>(info.st_size);
  if (end <= size_) return base::ok();
  const auto grow_to = [&](std::uint64_t to) {
    const base::Bytes zeros(to - size_);
    return write_exact(wal_fd, size_, zeros, "grow the WAL");
  };
  const std::uint64_t ahead = end + std::clamp(size_ / 2, kGrowthMin, kGrowthMax);
  if (grow_to(ahead)) {
    size_ = ahead;
    return base::ok();
  }
  // What of it the disk still had goes back: others need it more than zeros.
  const int cut = ::ftruncate(wal_fd, static_cast<off_t>(size_));
  HQL_TRY(grow_to(end));
  if (cut == 0) size_ = end;
  return base::ok();
}

}  // namespace vfs

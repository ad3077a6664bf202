// The interposed calls, and the disk after a power cut (disk_spy.h). The dynamic linker finds the functions of the program before those
// of the C library, for libsqlite3 too.
#include "tests/vfs/disk_spy.h"

#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <fstream>
#include <iterator>

#include "base/check.h"

namespace image_test {
namespace {

constexpr std::uint64_t kSector = 512;
constexpr const char* kCallNames[] = {"write ", "truncate ", "sync "};

std::atomic<DiskSpy*> g_spy{nullptr};

template <typename Function>
Function* next(const char* name) {
  void* const found = ::dlsym(RTLD_NEXT, name);
  CHECK(found != nullptr);
  return reinterpret_cast<Function*>(found);
}

}  // namespace

DiskSpy::DiskSpy(std::string dir, const std::vector<std::string>& names) : dir_(std::move(dir)) {
  {
    const base::MutexLock lock(mutex_);
    for (const std::string& name : names) files_[name].durable = read(name);
  }
  CHECK(g_spy.exchange(this) == nullptr);
}
DiskSpy::~DiskSpy() { g_spy.store(nullptr); }

std::string DiskSpy::read(const std::string& name) const {
  std::ifstream in(dir_ + "/" + name, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

DiskSpy* DiskSpy::of(int fd, std::string& name) {
  DiskSpy* const spy = g_spy.load();
  if (spy == nullptr) return nullptr;
  std::array<char, 4096> path;
  const ssize_t length = ::readlink(("/proc/self/fd/" + std::to_string(fd)).c_str(), path.data(), path.size());
  const std::string whole(path.data(), static_cast<std::size_t>(std::max<ssize_t>(length, 0)));
  if (whole.size() <= spy->dir_.size() || whole.compare(0, spy->dir_.size() + 1, spy->dir_ + "/") != 0) return nullptr;
  name = whole.substr(spy->dir_.size() + 1);
  const base::MutexLock lock(spy->mutex_);
  return spy->files_.count(name) != 0 ? spy : nullptr;
}

void DiskSpy::called(DiskCall call, const std::string& name) {
  const std::string text = kCallNames[static_cast<std::size_t>(call)] + name;
  {
    const base::MutexLock lock(mutex_);
    if (calls_.empty() || calls_.back() != text) calls_.push_back(text);
  }
  if (before) before(call, name);
}

void DiskSpy::written(const std::string& name, std::uint64_t offset, std::uint64_t size) {
  const base::MutexLock lock(mutex_);
  files_[name].since.emplace_back(offset, offset + size);
}

void DiskSpy::synced(const std::string& name) {
  const base::MutexLock lock(mutex_);
  File& file = files_[name];
  file.durable = read(name);
  file.since.clear();
}

std::vector<std::string> DiskSpy::take_calls() {
  const base::MutexLock lock(mutex_);
  return std::exchange(calls_, {});
}

void DiskSpy::cut_power(const std::string& to, std::mt19937_64& random) {
  const base::MutexLock lock(mutex_);
  for (const auto& [name, file] : files_) {
    const std::string now = read(name);
    std::string left = now;
    const std::uint64_t longest = std::max(now.size(), file.durable.size());
    left.resize(longest);
    // Each sector for itself, or all up to a point before the rest, or the late ones first.
    const auto order = random() % 3;
    const std::uint64_t point = random() % (longest / kSector + 2) * kSector;
    for (std::uint64_t at = 0; at < longest; at += kSector) {
      const std::uint64_t end = std::min(longest, at + kSector);
      const auto fate = order == 0 ? random() % 3 : static_cast<std::uint64_t>((order == 1) == (at >= point));
      if (fate == 0) continue;  // arrived
      if (fate == 1) {
        for (std::uint64_t byte = at; byte < end; ++byte)
          left[byte] = byte < file.durable.size() ? file.durable[byte] : '\0';
        continue;
      }
      for (const auto& [first, last] : file.since)
        for (std::uint64_t byte = std::max(at, first); byte < std::min(end, last); ++byte)
          left[byte] = static_cast<char>(random());
    }
    left.resize(random() % 2 == 0 ? now.size() : file.durable.size());
    std::ofstream(to + "/" + name, std::ios::binary) << left;
  }
}

namespace {

// Length bytes of a write that may be short: what was asked for counts as written.
template <typename Call>
auto write_seen(int fd, std::uint64_t offset, std::size_t size, const Call& call) {
  std::string name;
  DiskSpy* const spy = DiskSpy::of(fd, name);
  if (spy == nullptr) return call();
  spy->called(DiskCall::kWrite, name);
  spy->written(name, offset, size);
  return call();
}

template <typename Call>
int truncate_seen(int fd, const Call& call) {
  std::string name;
  if (DiskSpy* const spy = DiskSpy::of(fd, name)) spy->called(DiskCall::kTruncate, name);
  return call();
}

template <typename Call>
int sync_seen(int fd, const Call& call) {
  std::string name;
  DiskSpy* const spy = DiskSpy::of(fd, name);
  if (spy == nullptr) return call();
  spy->called(DiskCall::kSync, name);
  const int rc = call();
  if (rc == 0) spy->synced(name);
  return rc;
}

}  // namespace
}  // namespace image_test

// Visible to libsqlite3: the rest of the program is built with hidden symbols.
#pragma GCC visibility push(default)
extern "C" {

ssize_t pwrite(int fd, const void* data, size_t size, off_t offset) {
  static auto* const real = image_test::next<decltype(::pwrite)>("pwrite");
  return image_test::write_seen(fd, static_cast<std::uint64_t>(offset), size,
                                [&] { return real(fd, data, size, offset); });
}
ssize_t pwrite64(int fd, const void* data, size_t size, off64_t offset) {
  static auto* const real = image_test::next<decltype(::pwrite64)>("pwrite64");
  return image_test::write_seen(fd, static_cast<std::uint64_t>(offset), size,
                                [&] { return real(fd, data, size, offset); });
}
int ftruncate(int fd, off_t size) noexcept {
  static auto* const real = image_test::next<decltype(::ftruncate)>("ftruncate");
  return image_test::truncate_seen(fd, [&] { return real(fd, size); });
}
int ftruncate64(int fd, off64_t size) noexcept {
  static auto* const real = image_test::next<decltype(::ftruncate64)>("ftruncate64");
  return image_test::truncate_seen(fd, [&] { return real(fd, size); });
}
int fsync(int fd) {
  static auto* const real = image_test::next<decltype(::fsync)>("fsync");
  return image_test::sync_seen(fd, [&] { return real(fd); });
}
int fdatasync(int fd) {
  static auto* const real = image_test::next<decltype(::fdatasync)>("fdatasync");
  return image_test::sync_seen(fd, [&] { return real(fd); });
}

}  // extern "C"
#pragma GCC visibility pop

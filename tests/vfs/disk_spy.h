// DiskSpy: what a power cut would leave of a folder's files. It sees every write, truncation and sync that this process makes, also those of
// SQLite's own VFS: disk_spy.cc defines pwrite, ftruncate, fdatasync and their like for the whole test binary. A file's durable content is
// that of its last sync; everything since may be there or not, sector by sector, or be garbage inside the bytes that were written.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "base/mutex.h"

namespace image_test {

enum class DiskCall : std::uint8_t { kWrite, kTruncate, kSync };

// Watches the files `names` of `dir`, which count as synced now. One at a time in a process.
class DiskSpy {
 public:
  DiskSpy(std::string dir, const std::vector<std::string>& names);
  ~DiskSpy();
  DiskSpy(const DiskSpy&) = delete;
  DiskSpy& operator=(const DiskSpy&) = delete;

  // Called before the call is made, on the thread that makes it, with nothing locked; it may use the files and cut the power.
  // Set while nobody uses the files.
  std::function<void(DiskCall, const std::string& name)> before;

  // All calls so far: "write app.db", "sync app.db-wal", ...; equal ones in a row once.
  std::vector<std::string> take_calls();
  // What is on the disk after a power cut now, written into the empty folder `to`. `random` decides what becomes of each sector.
  void cut_power(const std::string& to, std::mt19937_64& random);

  // Of the interposed functions. Null: not a file of ours.
  static DiskSpy* of(int fd, std::string& name);
  void called(DiskCall call, const std::string& name);
  void written(const std::string& name, std::uint64_t offset, std::uint64_t size);
  void synced(const std::string& name);

 private:
  struct File {
    std::string durable;
    std::vector<std::pair<std::uint64_t, std::uint64_t>> since;  // [first, end) of each write since the last sync
  };
  std::string read(const std::string& name) const;

  const std::string dir_;
  base::Mutex mutex_;
  std::map<std::string, File> files_ GUARDED_BY(mutex_);
  std::vector<std::string> calls_ GUARDED_BY(mutex_);
};

}  // namespace image_test

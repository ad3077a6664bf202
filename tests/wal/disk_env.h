// DiskEnv: an in-memory disk under a page cache, for the log's tests. Files are inodes with what the cache has and what the disk has;
// sectors written since the last sync are dirty. Power cuts, kills, full disks, failing operations and rot are all to be had.
// One thread.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/env.h"
#include "base/random.h"

namespace wal_test {

inline constexpr std::size_t kSectorSize = 512;

struct Inode {
  base::Bytes cached;
  base::Bytes durable;
  std::vector<char> dirty;  // by sector of `cached`
  bool stale = false;       // a failed sync left clean sectors in the cache that are not on the disk
};

enum class Fault : std::uint8_t {
  kDie,   // the operation happens in part, then every operation fails: the process is gone
  kIo,    // fails once; a sync loses what it should have kept
  kFull,  // a write happens in part (now and then in full), fails once
};

class DiskEnv final : public base::Env {
 public:
  explicit DiskEnv(std::uint64_t seed) : random_(seed) {}

  // What a power cut does to each dirty sector and to names that were not synced.
  enum class Tear : std::uint8_t { kRandom, kAllLost, kAllKept };
  void power_cut(Tear tear = Tear::kRandom);
  // kill -9: the page cache survives.
  void kill() {
    dead_ = false;
    arm(0, Fault::kDie);
  }

  // The nth changing operation from now (1 = the next) meets `fault`; 0 disarms.
  void arm(std::uint64_t nth, Fault fault) {
    armed_ = nth == 0 ? 0 : operations_ + nth;
    fault_ = fault;
  }
  [[nodiscard]] bool fired() const { return armed_ != 0 && operations_ >= armed_; }
  [[nodiscard]] std::uint64_t operations() const { return operations_; }
  // Bytes that files may have in all; writes that would grow beyond it fail in part.
  void set_space(std::uint64_t bytes) { space_ = bytes; }
  [[nodiscard]] std::uint64_t used() const;
  [[nodiscard]] std::uint64_t syncs() const { return syncs_; }

  // Rot and inspection: changes disk and cache alike.
  base::Bytes& contents(const std::string& path) { return files_.at(path)->durable; }
  void set_contents(const std::string& path, base::Bytes bytes);
  void put(const std::string& path, base::Bytes bytes);
  [[nodiscard]] std::vector<std::string> paths() const;
  // Everything as it is on the disk now; for running many experiments from one state.
  [[nodiscard]] std::map<std::string, base::Bytes> snapshot() const;
  void restore(const std::map<std::string, base::Bytes>& files);
  // Blocks of 4 KiB that are written and not synced, as path and offset. A power cut may keep any subset of them.
  [[nodiscard]] std::vector<std::pair<std::string, std::uint64_t>> unsynced_blocks() const;
  // The disk after a power cut that has kept the blocks of unsynced_blocks() for which `kept` is true. All names are there.
  [[nodiscard]] std::map<std::string, base::Bytes> snapshot_with(const std::vector<bool>& kept) const;
  // Called at each write that succeeds, with path, offset and bytes.
  std::function<void(const std::string&, std::uint64_t, base::ByteView)> on_write;

  base::Result<std::unique_ptr<base::File>> open(const std::string& path, base::OpenMode mode) override;
  base::Result<bool> exists(const std::string& path) override;
  base::Status remove(const std::string& path) override;
  base::Status rename(const std::string& from, const std::string& to) override;
  base::Status make_dir(const std::string&) override { return base::ok(); }
  base::Status sync_dir(const std::string& path) override;
  base::Result<std::vector<std::string>> list(const std::string& path) override;
  base::Result<std::uint64_t> free_bytes(const std::string&) override { return space_ - used(); }
  base::Micros now() override { return 0; }
  base::Micros wall_clock() override { return 0; }
  std::uint64_t random() override { return random_.next(); }

 private:
  friend class DiskFile;
  using Names = std::map<std::string, std::shared_ptr<Inode>>;
  // Counts a changing operation. Nothing: it goes on. kDie and kFull let the caller do a part first.
  std::optional<Fault> begin_operation();
  base::Status dead() const { return base::make_error(base::Code::kIo, "the process is gone"); }

  base::Random random_;
  Names files_;
  Names durable_names_;
  std::vector<Names> names_history_;  // after each change of names since the last sync_dir
  bool dead_ = false;
  std::uint64_t operations_ = 0;
  std::uint64_t armed_ = 0;
  Fault fault_ = Fault::kDie;
  std::uint64_t space_ = UINT64_MAX;
  std::uint64_t syncs_ = 0;
};

}  // namespace wal_test

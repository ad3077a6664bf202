// SimDisk: one machine's file system in memory, with everything a disk can do to a program (TESTING.md, section 2): torn and lost
// writes, undone names, failed syncs, no space, latency, rot, and a crash at any chosen operation. It outlives the processes that use
// it; each process is a SimEnv (tests/sim/sim_env.h).
//
//   sim::SimDisk disk(seed);
//   auto env = disk.boot();
//   disk.crash_at(n);                     // the n-th operation that changes something is the last
//   ... run the code over *env until it fails or finishes ...
//   disk.power_cut();                     // or kill_process(): then the page cache survives
//   auto next = disk.boot();              // what does the code find?
//
// The same seed and the same calls give the same bytes. One thread.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/env.h"
#include "base/random.h"
#include "tests/sim/sim_file.h"

namespace sim {

enum class DiskOp : std::uint8_t {
  kOpen,
  kRead,
  kWrite,
  kSync,
  kTruncate,
  kCreate,
  kRename,
  kRemove,
  kMakeDir,
  kSyncDir
};
inline constexpr std::size_t kDiskOpCount = 10;
std::string_view disk_op_name(DiskOp op);

// Where in the chosen operation the process dies.
enum class CrashPoint : std::uint8_t {
  kBefore,  // nothing of it happened
  kDuring,  // a write: some of its sectors; a sync: some of the dirty sectors are safe; else as kBefore or kAfter
  kAfter,   // all of it happened, but the process never heard so
  kAny,     // one of these, by the seed
};

// Where time comes from and goes to. A scheduler's node implements it; a SimEnv without one has a clock of its own.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual base::Micros now() = 0;  // monotonic, of this process
  virtual base::Micros wall_clock() = 0;
  virtual void spend(base::Micros time) = 0;  // the caller's lane was busy for so long
};

struct DiskOptions {
  std::string root = "/data";           // exists, durably, from the start
  std::uint64_t capacity = UINT64_MAX;  // bytes
  // By path; Garbage::kSector for all when empty.
  std::function<Garbage(const std::string& path)> garbage;
  // Time that an operation takes; none when empty.
  std::function<base::Micros(DiskOp op, std::size_t size)> latency;
};

// Chances per million of a random error. Applied only between boot() and a crash.
struct DiskFaultRates {
  std::uint32_t read_eio = 0;
  std::uint32_t write_eio = 0;
  std::uint32_t sync_eio = 0;
};

class SimEnv;

class SimDisk {
 public:
  explicit SimDisk(std::uint64_t seed, DiskOptions options = {});
  ~SimDisk();
  SimDisk(const SimDisk&) = delete;
  SimDisk& operator=(const SimDisk&) = delete;

  // A new process. One at a time: the one before must be dead (kill_process, power_cut, a crash, or shut_down()).
  // `clock` outlives the Env; null: a clock that starts at one second and moves by latencies and SimEnv::advance().
  std::unique_ptr<SimEnv> boot(Clock* clock = nullptr);
  // kill -9: every later call of the process's Env and files fails and changes nothing. The page cache survives.
  void kill_process();
  // The process dies, unsynced sectors fall as they will, names that no sync_dir() covered may be undone.
  void power_cut();
  // The process dies and an empty disk is put in.
  void wipe();

  // The process dies in the `nth` (1 = next) operation from now that changes something. 0 disarms.
  void crash_at(std::uint64_t nth, CrashPoint point = CrashPoint::kAny);
  [[nodiscard]] bool crashed() const { return crashed_; }  // by crash_at() since the last boot()
  // Operations that change something, ever: write, sync, truncate, create, rename, remove, make_dir, sync_dir.
  [[nodiscard]] std::uint64_t change_count() const { return change_count_; }
  // All operations of one kind, ever.
  [[nodiscard]] std::uint64_t op_count(DiskOp op) const { return op_counts_[static_cast<std::size_t>(op)]; }
  // Called when crash_at() strikes, inside the operation: a scheduler marks the node dead.
  void on_crash(std::function<void()> callback) { on_crash_ = std::move(callback); }

  // The next `count` operations of this kind fail. A kSync that fails loses dirty sectors and later ones succeed.
  // `code`: kIo or, for writes, kFull. `path_part`: only for paths that contain it.
  void fail_next(DiskOp op, int count = 1, base::Code code = base::Code::kIo, std::string path_part = {});
  void set_fault_rates(DiskFaultRates rates) { rates_ = rates; }
  void set_capacity(std::uint64_t bytes) { options_.capacity = bytes; }
  void set_latency(std::function<base::Micros(DiskOp op, std::size_t size)> latency) {
    options_.latency = std::move(latency);
  }

  // Bit rot: flips bits of one byte on the disk. Errors: kNotFound (no such file, no such byte).
  base::Status rot(const std::string& path, std::uint64_t offset, std::byte mask = std::byte{0x10});
  // Flips a random bit of a random byte of the file; returns the offset.
  base::Result<std::uint64_t> rot_somewhere(const std::string& path);

  // Called after a write or a sync that changed `path`, inside the operation: for who watches what a power cut would leave. It must not
  // call the disk's Env.
  void on_changed(std::function<void(DiskOp op, const std::string& path, const SimFile& file)> watcher) {
    on_changed_ = std::move(watcher);
  }

  // For tests: all files as a process would see them, and as the disk holds them. Directories are not listed.
  [[nodiscard]] std::vector<std::string> paths() const;
  [[nodiscard]] base::Bytes cached(const std::string& path) const;  // empty when there is none
  [[nodiscard]] base::Bytes durable(const std::string& path) const;
  [[nodiscard]] std::uint64_t used_bytes() const;
  // Of every name and byte, cached and durable: equal after equal runs.
  [[nodiscard]] std::uint64_t digest() const;
  // One line per operation, for people.
  void set_trace(std::function<void(const std::string& line)> trace) { trace_ = std::move(trace); }

 private:
  friend class SimEnv;
  friend class SimFileHandle;

  // An entry of a directory: a file, or a directory when null.
  using Inode = std::shared_ptr<SimFile>;
  using Names = std::map<std::string, Inode>;
  // A change of names in one directory that no sync_dir() has covered yet.
  struct Pending {
    std::string dir;
    std::string from;  // name that goes; empty: none
    std::string to;    // name that comes; empty: none
    Inode inode;
  };
  struct PlannedFailure {
    DiskOp op;
    int left;
    base::Code code;
    std::string path_part;
  };
  // One process life: its Env and files share it, and it says whether they may still touch the disk.
  struct Life {
    bool alive = true;
    Clock* clock = nullptr;
  };
  using LifePtr = std::shared_ptr<Life>;  // shared by the SimEnv, its open files and this disk

  // What begin() decided about an operation.
  enum class Verdict : std::uint8_t { kDo, kCrashBefore, kCrashDuring, kCrashAfter };
  // Counts, traces, spends time, injects errors. An error: the operation is not to be done.
  base::Result<Verdict> begin(const LifePtr& life, DiskOp op, const std::string& path, std::size_t size);
  // After the operation: the error of a crash, or ok.
  base::Status finish(Verdict verdict);
  base::Error die();
  base::Status planned_failure(DiskOp op, const std::string& path);

  base::Result<Inode> do_open(const LifePtr& life, const std::string& path, base::OpenMode mode);
  base::Result<std::size_t> do_read(const LifePtr& life, const std::string& path, SimFile& file, std::uint64_t offset,
                                    base::MutableByteView out);
  base::Status do_write(const LifePtr& life, const std::string& path, SimFile& file, std::uint64_t offset,
                        base::ByteView bytes);
  base::Status do_sync(const LifePtr& life, const std::string& path, SimFile& file);
  base::Status do_truncate(const LifePtr& life, const std::string& path, SimFile& file, std::uint64_t size);
  base::Status do_remove(const LifePtr& life, const std::string& path);
  base::Status do_rename(const LifePtr& life, const std::string& from, const std::string& to);
  base::Status do_make_dir(const LifePtr& life, const std::string& path);
  base::Status do_sync_dir(const LifePtr& life, const std::string& path);
  base::Result<std::vector<std::string>> do_list(const LifePtr& life, const std::string& path);

  [[nodiscard]] bool is_dir(const std::string& path) const;
  void change_names(Pending change);
  static void apply(Names& names, const Pending& change);
  // How much of `size` bytes at `offset` fits on the disk.
  [[nodiscard]] std::size_t fitting(const SimFile& file, std::uint64_t offset, std::size_t size) const;
  [[nodiscard]] Garbage garbage_of(const std::string& path) const;
  void trace(const std::string& line) const;

  DiskOptions options_;
  base::Random tear_random_;   // what a crash leaves
  base::Random fault_random_;  // random errors: separate, so that faults can be taken out of a failing seed
  std::uint64_t env_seed_;     // of the next process's Env::random()
  LifePtr life_;
  Names live_;
  Names durable_;
  std::vector<Pending> pending_;
  DiskFaultRates rates_;
  std::vector<PlannedFailure> planned_;
  std::uint64_t change_count_ = 0;
  std::array<std::uint64_t, kDiskOpCount> op_counts_{};
  std::uint64_t crash_in_ = 0;  // changes until the crash; 0 = disarmed
  CrashPoint crash_point_ = CrashPoint::kAny;
  bool crashed_ = false;
  std::function<void()> on_crash_;
  std::function<void(DiskOp, const std::string&, const SimFile&)> on_changed_;
  std::function<void(const std::string&)> trace_;
};

}  // namespace sim

// LogWatch: what the log of one simulated node holds on its disk at this very moment, as a start after a power cut would find it at least.
// Fed by the disk (SimDisk::on_changed), independent of what the node believes: the bytes are decoded as recovery decodes them
// (docs/FORMATS.md, "Log"). Callers: cluster.cc feeds it, invariants.cc asks it. Only the database group. One thread.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/env.h"
#include "raft/core.h"
#include "tests/sim/sim_disk.h"
#include "wal/format.h"

namespace sim {

// One reading of the segments: of the bytes on the disk, or of those in the page cache.
class LogImage {
 public:
  struct Entry {
    base::LogId id;
    base::Term previous;  // term of the entry before it
    std::uint64_t hash = 0;
  };
  using OnEntry = std::function<void(const Entry&)>;

  // As recovery reads the directory of a node that has just opened its log. False: it cannot be read, or is damaged.
  bool restart(base::Env& env, const std::string& dir);
  // The bytes of a file of the directory have changed: more of a segment may be there. `on_entry` is told of each entry that now counts.
  void take(base::ByteView bytes, const OnEntry& on_entry);

  [[nodiscard]] base::LogId last() const { return terms_.empty() ? floor_ : base::LogId{terms_.back(), last_index()}; }
  [[nodiscard]] base::LogId floor() const { return floor_; }
  [[nodiscard]] std::optional<base::Term> term_at(base::Index index) const;
  [[nodiscard]] const raft::HardState& hard() const { return hard_; }
  [[nodiscard]] base::Lsn next() const { return next_; }
  // The batch of the newest record that is synced with every `log_sync`: all but plain entries.
  [[nodiscard]] base::Lsn strict() const { return strict_; }

 private:
  struct Segment {
    wal::SegmentHeader header;
    std::uint64_t offset = 0;  // batches before it are taken
  };
  struct Pending {
    wal::RecordHeader header;
    base::Bytes payload;
  };
  bool take_batch(Segment& segment, base::ByteView bytes, const OnEntry& on_entry);
  void apply(const OnEntry& on_entry);
  void apply(const Pending& record, const OnEntry& on_entry);
  [[nodiscard]] base::Index last_index() const { return base::Index(floor_.index.value + terms_.size()); }

  std::map<std::uint64_t, Segment> segments_;  // by sequence: a file gets its name when it is open already
  base::Lsn next_;
  base::Lsn strict_;
  std::vector<Pending> pending_;  // of an append whose last batch is not there yet
  base::Bytes fragments_;
  base::LogId floor_;
  std::deque<base::Term> terms_;  // of the entries after the floor
  raft::HardState hard_;
};

class LogWatch {
 public:
  enum class Sync : std::uint8_t { kEveryBatch, kInterval };  // log_sync
  LogWatch(std::string dir, Sync sync) : dir_(std::move(dir)), sync_(sync) {}

  // The process is about to open its log, or is gone: nothing is known until opened().
  void forget() { ready_ = false; }
  // It has opened its log. False: see LogImage::restart.
  bool opened(base::Env& env);
  void changed(DiskOp op, const std::string& path, const SimFile& file, const LogImage::OnEntry& on_entry);

  [[nodiscard]] bool ready() const { return ready_; }
  [[nodiscard]] const LogImage& durable() const { return durable_; }
  // What an acknowledgement may rest on: the disk; with interval_<ms> what the operating system has.
  [[nodiscard]] const LogImage& counted() const { return sync_ == Sync::kInterval ? written_ : durable_; }
  // Hard states, truncations and configurations are on the disk in every mode (R9).
  [[nodiscard]] bool strict_is_synced() const {
    return sync_ == Sync::kEveryBatch || written_.strict() < durable_.next();
  }

 private:
  const std::string dir_;
  const Sync sync_;
  bool ready_ = false;
  LogImage durable_;
  LogImage written_;
};

}  // namespace sim

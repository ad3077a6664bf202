// The segmented write-ahead log of a node, shared by both Raft groups (DESIGN 6.3, R12, R13). docs/FORMATS.md draws its bytes.
// Threads: open() before the lanes run; append_batch(), sync(), seal(), set_floor(), reset() on the log lane; read() on the log lane too.
// Everything else is safe only where it says so.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/entry.h"
#include "base/env.h"
#include "base/ids.h"
#include "base/result.h"

namespace wal {

using base::Group;
using base::Index;
using base::LogId;

inline constexpr std::size_t kBlockSize = 4096;        // a batch starts on, and is padded to, a block
inline constexpr std::size_t kHardStateSizeMax = 256;  // opaque to the log

struct Identity {
  std::uint64_t cluster = 0;  // 0 until the node belongs to a cluster
  base::NodeId node;
  base::Incarnation incarnation;
};

struct Options {
  std::string dir;  // <data_dir>/log; made when missing
  Identity identity;
  std::uint64_t segment_size = std::uint64_t{64} << 20;  // bytes, a multiple of kBlockSize, >= 64 KiB
  int ready_segments = 2;                                // zero-filled ahead
};

// One thing for the log to remember, in the order given.
struct Append {
  Group group = Group::kData;
  std::optional<base::Bytes> hard_state;  // written first
  std::optional<Index> truncate_from;     // then the suffix goes
  std::vector<base::Entry> entries;       // then these are added, contiguous
};

// What open() found for one group.
struct Recovered {
  base::Bytes hard_state;            // empty: none was ever written
  LogId floor;                       // last entry before the first one held
  std::vector<base::Entry> entries;  // floor.index + 1 .. last; payload only for kConfig entries, null otherwise
  std::vector<std::uint64_t> sizes;  // payload sizes, same length
};

// R12: a torn tail is cut and is no damage. This is corruption: a batch that a later one declares durable cannot be read.
struct Damage {
  std::string where;  // file and offset, for people
  // how long the log was at least; [0] = kData, [1] = kCache. Votes only for logs as long
  LogId last_known[base::kGroupCount];
};

struct Opened;

// What append_batch() promises when it returns ok (DESIGN 6.3, log_sync).
enum class Durability : std::uint8_t {
  kSynced,   // on the disk
  kWritten,  // with the operating system: survives the process, not a power cut; sync() makes it durable
};

class Log {
 public:
  // Creates or recovers. A new log starts with a short segment that grows by 1 MiB at a time, so that an embedded node is up at once.
  // Fsyncs every live segment, drops its page cache, then reads (DESIGN 6.3). Never truncates on corruption.
  // Errors: kIo, kFull, kCorrupt (nothing readable that says what the log was), kPermission,
  // kMisuse (the segments belong to another node or incarnation: the message names both).
  static base::Result<Opened> open(base::Env& env, const Options& options);
  virtual ~Log() = default;

  // One write for all of `appends`, and one sync. With kWritten the sync is left to sync(), unless there is a hard state, a truncation, a
  // configuration or something of the cache group among them: those are synced in every mode (R9).
  // Errors: kFull: nothing is remembered, the log goes on, try again when space returns; kPoisoned: a write or sync failed,
  // every later call fails the same way (R13).
  virtual base::Status append_batch(std::vector<Append> appends, Durability wanted) = 0;
  base::Status append_batch(std::vector<Append> appends) {
    return append_batch(std::move(appends), Durability::kSynced);
  }
  // Makes durable what was only written. No-op when there is nothing. Errors: kPoisoned, as above, however late (R13).
  virtual base::Status sync() = 0;
  // An empty batch that declares everything before it durable; at a clean stop and after a short idle time. No-op if already sealed.
  virtual base::Status seal() = 0;
  // Entries first.. up to `last` or about `bytes_max` payload bytes (at least one). With payloads.
  // Errors: kNotFound (below the floor or beyond the end), kCorrupt (names the place; never nack what cannot be read), kIo.
  virtual base::Result<std::vector<base::Entry>> read(Group group, Index first, Index last, std::size_t bytes_max) = 0;
  // Persists that entries up to `floor` are no longer needed, then recycles whole segments below it.
  virtual base::Status set_floor(Group group, LogId floor) = 0;
  // After a snapshot install: the group's log is empty and starts after `floor`.
  virtual base::Status reset(Group group, LogId floor) = 0;
  // Zero-fills ready segments ahead, a slice per call (throttled); true when there is nothing left to do. Maintenance lane;
  // safe beside append_batch.
  virtual base::Result<bool> prepare_segments() = 0;
  // The node has joined a cluster: segments begun from now on carry its id.
  virtual void set_cluster(std::uint64_t cluster) = 0;

  // Any thread:
  [[nodiscard]] virtual std::uint64_t bytes() const = 0;  // of live segments
  [[nodiscard]] virtual bool poisoned() const = 0;
  // False between an append that was only written and the sync after it, and for ever when that sync failed.
  [[nodiscard]] virtual bool synced() const = 0;
  // True when a proposal should be refused because the last ready segment would be used (disk full).
  [[nodiscard]] virtual bool full() const = 0;
  [[nodiscard]] virtual std::uint64_t sync_count() const = 0;
};

struct Opened {
  std::unique_ptr<Log> log;
  Recovered groups[base::kGroupCount];  // [0] = kData, [1] = kCache
  std::optional<Damage> damage;
  bool created = false;  // there was no log
  Identity identity;     // as found in (or given to) the segments
};

// `hiqlite dump`: prints every segment, batch and record as text, one line each; goes on past damage and says where it is.
// `line` is called for each line. Errors: kNotFound, kIo. Read-only.
base::Status dump(base::Env& env, const std::string& dir, const std::function<void(const std::string&)>& line);
// `hiqlite verify`: checks everything that can be checked without the node. Errors: kCorrupt naming file, offset and reason.
base::Status verify(base::Env& env, const std::string& dir);

}  // namespace wal

// Recovery: what a log directory says. Reads every live segment, decides what is torn and what is damage (R12), replays the rest.
// Called by Log::open (owner: syncs first) and by verify (read-only). Writes nothing: what recovery decides is recorded in the
// header of the next segment. The rules are in docs/FORMATS.md, "Log, recovery".
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "wal/format.h"
#include "wal/index.h"
#include "wal/segment.h"

namespace wal {

enum class RecoverMode : std::uint8_t {
  kOwner,  // sync the names, fdatasync and drop the page cache of each segment, before anything is read
  kReadOnly,
};

// One group, as replayed.
struct GroupState {
  GroupIndex index;
  LogId floor;
  Bytes hard_state;
  LogId known;       // not {}: the log was at least this long, and is shorter now
  Lsn rebased_from;  // not 0: damage found now; `index` is the state just before this lsn
};

struct Recovery {
  std::vector<Segment> segments;  // by sequence; the last one's file is open
  std::array<GroupState, base::kGroupCount> groups;
  Lsn next_lsn{1};
  std::uint64_t sequence_max = 0;  // highest in use, names of unreadable files included
  std::uint32_t previous_crc = 0;  // of the last batch in the last segment
  bool appendable = false;         // writing may go on at the end of the last segment; else a new one must be begun
  bool sealed = false;
  Lsn settled_from;  // not 0: first batch of damage found now
  Identity identity;
  std::optional<Damage> damage;
  std::vector<std::string> remarks;  // what verify has to say: "file offset N: reason"
};

// Errors: kNotFound (no segment at all), kCorrupt (none is readable), kNewerFormat, kMisuse (another node, an incarnation
// other than `expected` names; only with a node in it), kIo.
base::Result<Recovery> recover(base::Env& env, const std::string& dir, const Identity& expected, RecoverMode mode);

// Reads the entry at `slot`, fragments included, and checks it. Errors: kCorrupt naming the place, kIo.
base::Result<base::Entry> read_entry(SegmentStore& store, std::vector<Segment>& segments, Group group, Index index,
                                     const Slot& slot);

}  // namespace wal

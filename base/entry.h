// A Raft log entry as the core, the log, the transport and the applier pass it on: metadata and a shared, immutable payload.
#pragma once

#include "base/bytes.h"
#include "base/ids.h"

namespace base {

// What an entry is to the consensus core. The payload's own format is the business of its folder.
enum class EntryKind : std::uint8_t {
  kNoop = 1,    // the first entry of a leader's term
  kConfig = 2,  // raft::Configuration; active on append
  kData = 3,    // pages::Entry (database group) or a cache command
};

struct Entry {
  LogId id;
  EntryKind kind = EntryKind::kNoop;
  SharedBytes payload;  // never null for kConfig and kData
  [[nodiscard]] std::size_t size() const { return payload ? payload->size() : 0; }
};

// One entry as it travels and rests is at most this long; a transaction over 1 MiB is a chain of parts (R15).
inline constexpr std::size_t kEntryPayloadMax = std::size_t{64} << 20;

}  // namespace base

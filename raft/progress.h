// What a leader knows about one other member: how far its log is equal, what is under way to it, and how it is fed
// (probe, replicate, snapshot). Value type of Core::State; callers: replication.cc, read_index.cc, election.cc. Loop lane.
//
//            accepted reply                          next at or below the floor
//   probe ------------------> replicate        any -----------------------------> snapshot
//     ^ rejection, peer_down      |                                                  |
//     +---------------------------+            replicate <---------------------------+ match at or past the floor
//     +------------------------------------------------------------------------------+ transfer failed
#pragma once

#include <cstdint>
#include <deque>

#include "base/ids.h"

namespace raft {

enum class ProgressState : std::uint8_t {
  kProbe,      // match unknown: one append at a time, the next one when it is answered or a heartbeat is
  kReplicate,  // match known: appends are streamed ahead of the answers
  kSnapshot,   // the log begins after what the member has: nothing is sent until it has caught up
};
const char* to_string(ProgressState state);

struct Progress {
  struct Inflight {
    base::Index last;   // of the AppendRequest
    std::size_t bytes;  // payload bytes
  };

  ProgressState state = ProgressState::kProbe;
  base::Index match;          // equal to ours and durable there, up to here
  base::Index next;           // the next entry to send; always > match
  base::Index durable;        // what the member said is durable there (may be another log than ours)
  bool probe_sent = false;    // kProbe: paused
  bool snapshot_due = false;  // kSnapshot: say so (again)
  bool check_due = false;     // kReplicate: ask with an empty append whether everything sent has arrived
  bool down = false;          // the transport has no connection to it
  bool departing = false;     // no longer in the configuration: fed until it knows that
  bool disk_stalled = false;  // by its last heartbeat reply
  std::deque<Inflight> inflight;
  std::size_t inflight_bytes = 0;
  base::Index snapshot_floor;       // kSnapshot: what it must reach
  base::Index commit_sent;          // the highest commit index that was sent
  base::Index heartbeat_match;      // match when the last heartbeat reply came
  std::uint64_t round = 0;          // the highest round echoed
  std::uint64_t heard = 0;          // tick of the last message in this term
  std::uint64_t departed = 0;       // tick at which it left the configuration
  std::uint64_t read_token = 0;     // the LogRead under way for it; 0 = none
  base::Index announce_through;     // it hears of commits up to here without waiting for an append
  bool patient = false;             // the last commit did not need it: it may wait for entries (patience.cc)
  base::Index released;             // but not for those up to here
  int payments_missed = 0;          // while entries wait for it
  std::uint64_t hurried_until = 0;  // nor before this tick: somebody there waits

  void become_probe(base::Index from);
  void become_replicate();
  void become_snapshot(base::Index floor);
  // The member has everything up to `index`, durably. False: nothing new.
  bool advance(base::Index index);
  void sent(base::Index last, std::size_t bytes);
};

}  // namespace raft

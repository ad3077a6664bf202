// Messages between the cores of one Raft group, and their wire format (raft/message.cc draws it).
// A message is addressed to a member, not to an id: another incarnation of the same id ignores it (R10).
#pragma once

#include <cstdint>
#include <variant>
#include <vector>

#include "base/entry.h"
#include "base/ids.h"
#include "base/result.h"

namespace raft {

using base::Index;
using base::LogId;
using base::Member;
using base::Term;

struct VoteRequest {
  LogId last;             // the candidate's last entry
  bool pre = false;       // pre-vote: `term` of the envelope is the term it would campaign in
  bool transfer = false;  // ordered by a leader: overrides leader stickiness
};
struct VoteReply {
  bool pre = false;
  bool granted = false;
  LogId last;  // the voter's log, for the reason in the transcript
};
struct AppendRequest {
  LogId previous;
  Index commit;
  std::uint64_t round = 0;           // read-index / check-quorum round, echoed
  std::vector<base::Entry> entries;  // may be empty (probe)
};
struct AppendReply {
  bool accepted = false;
  Index match;  // accepted: highest index known equal and *durable*; rejected: the rejected previous index
  LogId hint;   // rejected: where to probe next (term-hint backtracking)
  std::uint64_t round = 0;
  Index durable;  // the follower's durable last index
};
// Heartbeats travel on the control connection and never wait for a disk (DESIGN 6.1).
struct Heartbeat {
  Index commit;  // min(commit, match of the receiver)
  std::uint64_t round = 0;
  base::Micros quorum_age = 0;                 // age of the leader's last quorum contact (bounded reads)
  std::vector<std::pair<Member, Index>> held;  // every voter's match, as the leader knows it (R10)
};
struct HeartbeatReply {
  std::uint64_t round = 0;
  Index match;  // the durable index up to which the log is known equal to this leader's
  bool disk_stalled = false;
};
struct ReadRequest {  // follower -> leader
  std::uint64_t context = 0;
};
struct ReadReply {  // leader -> follower
  std::uint64_t context = 0;
  bool ok = false;  // false: not leader (or deposed); ask again
  Index index;
};
struct TimeoutNow {};    // leadership transfer (Raft thesis 3.10)
struct SnapshotNeeded {  // leader -> follower: the log begins after what you have; fetch a snapshot
  LogId floor;           // the last entry that the leader's log no longer holds
};
struct SnapshotReply {  // follower -> leader: installed (and durable) up to here, or failed
  LogId installed;
  bool ok = false;
};

using Body = std::variant<VoteRequest, VoteReply, AppendRequest, AppendReply, Heartbeat, HeartbeatReply, ReadRequest,
                          ReadReply, TimeoutNow, SnapshotNeeded, SnapshotReply>;

struct Message {
  Member from;
  Member to;
  Term term;
  Body body;
};

// True for the small urgent ones, which travel on Channel::kControl.
bool is_control(const Message& message);
// Whether `term` is on the sender's disk when this message leaves (R9).
bool says_durable_term(const Message& message);
base::Bytes encode(const Message& message);
// kCorrupt or kTooLarge; hostile input (R18).
base::Result<Message> decode_message(base::ByteView bytes);

}  // namespace raft

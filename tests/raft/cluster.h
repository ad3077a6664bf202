// In-memory nodes around the real core, for the transcripts and the randomized test: disks that know what is durable, a network
// that is a list of messages, and the driver's order persist, send, apply. One thread, deterministic.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "raft/core.h"

namespace raft_test {

using base::Entry;
using base::Index;
using base::LogId;
using base::Member;
using base::Term;

// What survives a crash.
struct Disk {
  raft::HardState hard;
  LogId floor;
  raft::Configuration floor_configuration;
  std::vector<Entry> entries;  // floor.index + 1 ...
  Index applied;               // the state machine is as durable as this
  bool may_vote = true;        // false: the log is damaged
  LogId vote_floor;
  [[nodiscard]] LogId last() const { return entries.empty() ? floor : entries.back().id; }
  [[nodiscard]] const Entry* find(Index index) const;
};

struct Node {
  Member member;
  raft::Options options;
  Disk disk;
  std::unique_ptr<raft::Core> core;  // null while crashed
  std::deque<raft::PersistJob> jobs;
  std::deque<raft::LogRead> log_reads;
  std::vector<Index> snapshots_wanted;
  std::vector<raft::ReadResult> reads;
  std::vector<Entry> fresh;   // given to the appliers since it was last looked at
  bool pays = true;           // its driver pays followers at once what they are owed: commits, withheld entries
  bool pays_later = false;    // with !pays: after a while, else never
  std::optional<Index> owed;  // its driver has set the timer: what followers_owed() was then
  bool slow_disk = false;     // jobs wait for complete()
  bool no_payloads = false;   // a restart gives the core metadata only, as wal/ does
  std::uint64_t boots = 0;
};

class Cluster {
 public:
  Node& add(Member member, raft::Options options, Disk disk);
  [[nodiscard]] Node& at(Member member) { return nodes.at(member); }
  void start(Node& node);
  void crash(Node& node);
  // Power fails while the next `jobs` persist jobs are being written together: nothing of them stays but, in the log's second copy, the
  // newest hard state of theirs (wal/replay.h, salvage). Then the crash.
  void tear(Node& node, std::size_t jobs);
  // Takes everything the core has to say; jobs of fast disks are completed. True if there was something.
  bool drain(Node& node);
  void drain_all();
  // The oldest persist job reaches the disk, is reported, and its messages leave.
  bool complete(Node& node);
  void answer_log_read(Node& node);
  // Hands a message to its receiver, if that lives.
  void deliver(raft::Message message);

  std::map<Member, Node> nodes;
  std::vector<raft::Message> network;
  std::function<void(Node&, const raft::Message&)> on_send;  // just before it is in the network
  std::function<void(Node&, const raft::Ready&)> on_ready;

 private:
  void send(Node& node, raft::Message message);
};

raft::MemberInfo info(Member member);
raft::Configuration voters_of(const std::vector<Member>& members);
std::string name(Member member);  // "3", or "3.2" for its second incarnation
Member parse_member(const std::string& text);
std::string describe(LogId id);  // "index@term"
std::string describe(const Entry& entry);
std::string describe(const raft::Configuration& configuration);
std::string describe(const raft::Message& message);

}  // namespace raft_test

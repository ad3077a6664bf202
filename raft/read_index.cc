// ReadIndex (thesis 6.4) and the rounds that prove leadership. A round is a heartbeat with a new number; the leader still leads, at
// the time the round began, when a majority has echoed it. Reads that arrive while a round is under way share the next one. On a
// follower a read is forwarded to the leader. Loop lane.
#include <algorithm>
#include <iterator>

#include "raft/state.h"

namespace raft {

namespace {
constexpr std::size_t kReadsMax = 65536;  // waiting at one node; more are refused, their callers ask again
}  // namespace

void Core::State::read_index(std::uint64_t context) {
  if (is_leader()) return add_read(options.self, context);
  if (!leader || forwarded_reads.size() >= kReadsMax) {
    out.reads.push_back({context, false, {}});
    return;
  }
  forwarded_reads[++forward_context] = {context, now};
  send(leader, ReadRequest{forward_context});
}

void Core::State::add_read(Member from, std::uint64_t context) {
  if (led_reads.size() >= kReadsMax) return answer_read(from, context, false, {});
  led_reads.push_back({from, context, {}, 0});
  start_read_round();
}

// Begins a round for the waiting reads, unless one of reads is under way or the leader does not yet know what is committed.
void Core::State::start_read_round() {
  if (!own_term_committed || led_reads.empty() || led_reads.front().round != 0) return;
  broadcast_heartbeat();
}

// All that waits is served by the round that begins now: it is bound to the commit index of this moment.
void Core::State::begin_round() {
  round_starts.emplace_back(++round, now);
  if (!own_term_committed) return;
  for (auto read = led_reads.rbegin(); read != led_reads.rend() && read->round == 0; ++read) {
    read->round = round;
    read->index = commit;
  }
}

void Core::State::round_echoed() {
  const std::uint64_t reached = quorum_value([&](Member member) {
    if (member == options.self) return round;
    const Progress* peer = progress_of(member);
    return peer ? peer->round : 0;
  });
  while (!round_starts.empty() && round_starts.front().first <= reached) {
    quorum_tick = round_starts.front().second;
    round_starts.pop_front();
  }
  bool answered = false;
  while (!led_reads.empty() && led_reads.front().round != 0 && led_reads.front().round <= reached) {
    const LedRead read = led_reads.front();
    led_reads.pop_front();
    answer_read(read.from, read.context, true, read.index);
    answered = true;
  }
  if (answered) start_read_round();
}

void Core::State::answer_read(Member from, std::uint64_t context, bool ok, Index index) {
  if (from == options.self)
    out.reads.push_back({context, ok, index});
  else
    send(from, ReadReply{context, ok, index});
}

void Core::State::fail_led_reads() {
  for (const LedRead& read : led_reads) answer_read(read.from, read.context, false, {});
  led_reads.clear();
}

void Core::State::fail_forwarded_reads() {
  for (const auto& [internal, read] : forwarded_reads) out.reads.push_back({read.context, false, {}});
  forwarded_reads.clear();
}

// The request or its answer may be lost.
void Core::State::tick_reads() {
  while (!forwarded_reads.empty()) {
    const auto oldest = forwarded_reads.begin();
    if (now - oldest->second.begun < static_cast<std::uint64_t>(options.election_ticks)) return;
    out.reads.push_back({oldest->second.context, false, {}});
    forwarded_reads.erase(oldest);
  }
}

void Core::State::handle(const Message& message, const ReadRequest& request) {
  if (!is_leader()) return send(message.from, ReadReply{request.context, false, {}});
  hurry(message.from);
  add_read(message.from, request.context);
}

void Core::State::handle(const Message& message, const ReadReply& reply) {
  const auto found = forwarded_reads.find(reply.context);
  if (message.from != leader || found == forwarded_reads.end()) return;
  out.reads.push_back({found->second.context, reply.ok, reply.ok ? reply.index : Index{}});
  forwarded_reads.erase(found);
}

}  // namespace raft

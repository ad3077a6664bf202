// The origin's side of a forwarded request.
#include "node/forward.h"

#include <utility>
#include <vector>

namespace node {
namespace {

using base::Code;

constexpr base::Micros kRepeatAfter = 2 * base::kSecond;   // an unanswered request is sent again within its term
constexpr base::Micros kRowsWait = 2 * base::kSecond;      // the full answer of a request that the log already shows
constexpr base::Micros kMinimumTime = base::kMillisecond;  // the leader is told in these

}  // namespace

void Forwards::begin(std::uint64_t sequence, std::string database, base::Bytes body, base::Micros deadline, Done done) {
  Pending pending;
  pending.database = std::move(database);
  pending.body = std::move(body);
  pending.deadline = deadline;
  pending.done = std::move(done);
  const auto it = pending_.emplace(sequence, std::move(pending)).first;
  try_send(it);
}

void Forwards::finish(Iterator it, base::Result<ExecuteReply> result) {
  Done done = std::move(it->second.done);
  pending_.erase(it);
  done(std::move(result));
}

void Forwards::try_send(Iterator it) {
  Pending& pending = it->second;
  if (pending.result || pending.error || pending.logged) return;
  const auto target = hooks_.target();
  if (!target) return;
  // Sent in an earlier term: only the log says whether it is absent (R7).
  if (pending.sent && pending.term != target->term) return;
  const base::Micros left = pending.deadline - hooks_.now();
  if (left < kMinimumTime) return;
  Forward forward;
  forward.term = target->term;
  forward.origin = {incarnation_, boot_, it->first};
  forward.lowest_pending = pending_.begin()->first;
  forward.timeout_ms = static_cast<std::uint32_t>(std::min<base::Micros>(left / base::kMillisecond, UINT32_MAX));
  forward.database = pending.database;
  forward.body = pending.body;
  const bool was_sent = pending.sent;
  pending.sent = true;
  pending.term = target->term;
  pending.leader = target->leader;
  pending.sent_at = hooks_.now();
  const std::uint64_t sequence = it->first;
  if (!hooks_.send(target->leader, std::move(forward)) && !was_sent) {
    const auto again = pending_.find(sequence);
    if (again != pending_.end()) again->second.sent = false;
  }
}

void Forwards::on_reply(const ForwardReply& reply) {
  if (reply.origin.incarnation != incarnation_ || reply.origin.boot != boot_) return;
  const auto it = pending_.find(reply.origin.sequence);
  if (it == pending_.end() || it->second.result || it->second.error) return;
  Pending& pending = it->second;
  // It was absent when that term ended, and has gone to a later leader since: what that one does is the outcome.
  if (pending.sent && pending.term != reply.term) return;
  switch (reply.verdict) {
    case ForwardVerdict::kDone:
      pending.result = ExecuteReply{reply.body, reply.committed, false};
      pending.apply_through = reply.apply_through;
      settle(it);
      return;
    case ForwardVerdict::kFailed:
      pending.error = reply.error;
      pending.apply_through = reply.apply_through;
      settle(it);
      return;
    case ForwardVerdict::kRefused:
      // Only by whom it was last sent to.
      if (!pending.sent || pending.logged) return;
      // That node's stop is not ours: the next leader does it.
      if (reply.error.code == base::Code::kStopped && hooks_.no_leader().code != base::Code::kStopped)
        pending.sent = false;
      else
        finish(it, reply.error);
      return;
    case ForwardVerdict::kNotYours:
      return;
  }
}

void Forwards::reached_term(base::Term term) {
  std::vector<std::uint64_t> absent;
  for (auto& [sequence, pending] : pending_) {
    if (!pending.sent || pending.term >= term || pending.logged || pending.result || pending.error) continue;
    pending.sent = false;
    absent.push_back(sequence);
  }
  for (const std::uint64_t sequence : absent)
    if (const auto it = pending_.find(sequence); it != pending_.end()) try_send(it);
}

void Forwards::decided(const Decision& decision) {
  if (pending_.empty() || decision.effect != Effect::kPublish || decision.header.request_count == 0) return;
  const auto records = pages::decode_requests(*decision.payload);
  if (!records) return;
  for (const pages::RequestRecord& record : *records) {
    if (record.origin.incarnation != incarnation_ || record.origin.boot != boot_) continue;
    const auto it = pending_.find(record.origin.sequence);
    if (it == pending_.end() || it->second.logged) continue;
    it->second.logged = ExecuteReply{record.result, decision.id, true};
    it->second.logged_at = hooks_.now();
    // When its leader is gone, nobody will send the rows.
    const auto target = hooks_.target();
    if (!target || target->term != it->second.term) use_logged(it->second);
    settle(it);
  }
}

void Forwards::use_logged(Pending& pending) {
  if (!pending.logged || pending.result || pending.error) return;
  pending.apply_through = pending.logged->committed.index;
  pending.result = std::move(pending.logged);
}

void Forwards::settle(Iterator it) {
  Pending& pending = it->second;
  if ((!pending.result && !pending.error) || hooks_.applied() < pending.apply_through) return;
  if (pending.error) {
    finish(it, *pending.error);
  } else {
    finish(it, std::move(*pending.result));
  }
}

void Forwards::applied_changed() {
  for (auto it = pending_.begin(); it != pending_.end();) settle(it++);
}

void Forwards::leader_changed() {
  std::vector<std::uint64_t> sequences;
  const auto target = hooks_.target();
  for (auto& [sequence, pending] : pending_) {
    if (pending.logged && (!target || target->term != pending.term)) use_logged(pending);
    sequences.push_back(sequence);
  }
  for (const std::uint64_t sequence : sequences) {
    const auto it = pending_.find(sequence);
    if (it == pending_.end()) continue;
    if (!it->second.sent) try_send(it);
    if (const auto again = pending_.find(sequence); again != pending_.end()) settle(again);
  }
}

void Forwards::peer_connected(base::NodeId peer) {
  std::vector<std::uint64_t> sequences;
  for (const auto& [sequence, pending] : pending_)
    if (!pending.sent || pending.leader == peer) sequences.push_back(sequence);
  for (const std::uint64_t sequence : sequences)
    if (const auto it = pending_.find(sequence); it != pending_.end()) try_send(it);
}

void Forwards::tick() {
  const base::Micros now = hooks_.now();
  std::vector<std::uint64_t> sequences;
  for (const auto& [sequence, pending] : pending_) sequences.push_back(sequence);
  for (const std::uint64_t sequence : sequences) {
    const auto it = pending_.find(sequence);
    if (it == pending_.end()) continue;
    Pending& pending = it->second;
    if (pending.logged && (now - pending.logged_at > kRowsWait || now >= pending.deadline)) use_logged(pending);
    if (now < pending.deadline) {
      if (!pending.sent || now - pending.sent_at > kRepeatAfter) try_send(it);
      if (const auto again = pending_.find(sequence); again != pending_.end()) settle(again);
      continue;
    }
    if (pending.error) {
      finish(it, *pending.error);
    } else if (pending.result) {
      finish(it, std::move(*pending.result));  // committed for sure; only this node's copy is behind
    } else if (pending.sent) {
      finish(it, base::make_error(
                     Code::kUnknownOutcome,
                     "the deadline passed before the leader answered; whether the statement was applied is not known"));
    } else {
      finish(it, hooks_.no_leader());
    }
  }
}

void Forwards::abandon(const base::Error& why) {
  while (!pending_.empty()) {
    const auto it = pending_.begin();
    if (it->second.result) {
      finish(it, std::move(*it->second.result));
    } else if (it->second.sent && !it->second.error) {
      finish(it,
             base::make_error(Code::kUnknownOutcome, why.message + "; whether the statement was applied is not known"));
    } else {
      finish(it, it->second.error ? *it->second.error : why);
    }
  }
}

}  // namespace node

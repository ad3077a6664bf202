// Batches on the leader.
#include "node/execution.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace node {
namespace {

using base::Code;
using base::DatabaseId;
using base::Error;
using base::LogId;
using base::Origin;
using vfs::OutcomeKind;

constexpr std::size_t kBatchCountMax = 1024;
constexpr std::size_t kBatchBytesMax = std::size_t{1} << 20;
constexpr std::size_t kQueuedBytesMax = kRequestBytesMax;  // per database; more is refused, surely not applied
constexpr base::Micros kRunAgainDelay = 5 * base::kMillisecond;
constexpr std::size_t kSmallAnswer = 1024;  // not counted: what is known of its request weighs as much

// The batch met somebody else, not an error of its own: the same requests may be run again within the term.
bool passing(const Error& error) {
  switch (error.code) {
    case Code::kLeaseLost:
    case Code::kBusy:
    case Code::kTimeout:
    case Code::kNotLeader:
    case Code::kNoQuorum:
      return true;
    case Code::kSql:
      return (error.sqlite_code & 0xFF) == base::code_info(Code::kBusy).sqlite;
    default:
      return false;
  }
}

Error not_run_in_time() {
  return base::make_error(Code::kTimeout, "the deadline passed before the statement was run; not applied");
}

}  // namespace

void Execution::activate(base::Term term) {
  if (term_ == term) return;
  deactivate();
  term_ = term;
}

void Execution::deactivate() {
  term_ = {};
  taken_.clear();
  kept_.clear();
  kept_bytes_ = 0;
  creating_.clear();
  unchanged_.clear();
  for (auto& [db, lane] : lanes_) {
    lane.queue.clear();
    lane.queued_bytes = 0;
    // Its origins retry when the log shows that it is absent; a batch that has proposed waits for its own outcome.
    if (lane.running) lane.executor->interrupt();
  }
}

void Execution::answer(const Origin& origin, ForwardReply reply) {
  const auto it = taken_.find(origin);
  if (it == taken_.end() || it->second.answered) return;
  reply.origin = origin;
  reply.term = term_;
  it->second.answered = true;
  it->second.answer = std::move(reply);
  const Reply send = it->second.reply;
  const ForwardReply copy = it->second.answer;
  keep(origin, it->second);
  send(copy);
}

void Execution::keep(const Origin& origin, Taken& taken) {
  const std::size_t size = taken.answer.body.size();
  if (size <= kSmallAnswer) return;
  taken.kept = ++last_kept_;
  kept_[taken.kept] = origin;
  kept_bytes_ += size;
  while (kept_bytes_ > kAnswerBytesMax) forget_body(taken_.at(kept_.begin()->second));
}

// What a repeat hears from now on. A committed answer is in the log with its small form, and the origin takes that. One that changed nothing
// is refused and not run again: the origin may have had it and gone on while its repeat was on the way, and this time it might change
// something.
void Execution::forget_body(Taken& taken) {
  kept_bytes_ -= taken.answer.body.size();
  kept_.erase(std::exchange(taken.kept, 0));
  taken.answer.body = {};
  if (taken.answer.committed != LogId{}) {
    taken.answer.verdict = ForwardVerdict::kNotYours;
    return;
  }
  taken.answer.verdict = ForwardVerdict::kRefused;
  taken.answer.error = base::make_error(
      Code::kBusy, "the leader had no room to keep the rows until they were asked for again; nothing was changed");
}

void Execution::refuse(const Origin& origin, const Error& why) {
  ForwardReply reply;
  reply.verdict = ForwardVerdict::kRefused;
  reply.error = why;
  answer(origin, std::move(reply));
}

void Execution::answer_result(const ExecuteResult& result, LogId committed, base::Index apply_through) {
  ForwardReply reply;
  reply.verdict = result.body ? ForwardVerdict::kDone : ForwardVerdict::kFailed;
  reply.committed = committed;
  reply.apply_through = apply_through;
  if (result.body) {
    reply.body = *result.body;
  } else {
    reply.error = result.body.error();
  }
  answer(result.origin, std::move(reply));
}

bool Execution::forget_below(const Origin& origin, std::uint64_t lowest_pending) {
  auto& lowest = lowest_[origin.incarnation];
  lowest = std::max(lowest, std::pair{origin.boot, lowest_pending});
  // Also everything of earlier boots of that incarnation: nobody waits for it any more.
  auto it = taken_.lower_bound(Origin{origin.incarnation, 0, 0});
  const Origin end{origin.incarnation, lowest.first, lowest.second};
  while (it != taken_.end() && it->first < end) {
    if (it->second.kept != 0) forget_body(it->second);
    it = it->second.answered ? taken_.erase(it) : std::next(it);
  }
  return !(origin < end);
}

void Execution::take(Forward request, Reply reply) {
  if (!term_ || request.term != term_) {
    ForwardReply out;
    out.origin = request.origin;
    out.term = request.term;
    out.verdict = ForwardVerdict::kNotYours;
    reply(out);
    return;
  }
  if (const auto it = taken_.find(request.origin); it != taken_.end()) {
    it->second.reply = std::move(reply);
    if (it->second.answered) {
      const Reply send = it->second.reply;
      const ForwardReply answer = it->second.answer;
      send(answer);
    }
    return;
  }
  if (!forget_below(request.origin, request.lowest_pending)) return;
  taken_[request.origin] = {false, {}, std::move(reply), 0};
  if (ending_) {
    refuse(request.origin, *ending_);
    return;
  }
  if (const auto may = hooks_.may_take(); !may) {
    refuse(request.origin, may.error());
    return;
  }
  Queued queued;
  // A little earlier than its origin gives up, which then hears that it was not run.
  queued.deadline = hooks_.now() + base::Micros{request.timeout_ms} * base::kMillisecond / 10 * 9;
  queued.request = {request.origin, std::move(request.body)};
  enqueue(request.database, std::move(queued));
}

void Execution::enqueue(const std::string& database, Queued queued) {
  const Ledger::Database* found = hooks_.ledger().find(database);
  if (found == nullptr) {
    const auto [creation, first] = creating_.try_emplace(database);
    creation->second.waiting.push_back(std::move(queued));
    if (first) ask_create(database);
    return;
  }
  Lane& lane = lanes_[found->id];
  if (lane.queued_bytes + queued.request.body.size() > kQueuedBytesMax) {
    refuse(queued.request.origin,
           base::make_error(Code::kBusy, "too many statements wait for database " + database + "; not applied"));
    return;
  }
  lane.queued_bytes += queued.request.body.size();
  lane.queue.push_back(std::move(queued));
  pump(found->id);
}

void Execution::progressed() {
  if (!term_) return;
  std::vector<std::string> there;
  for (const auto& [name, creation] : creating_) {
    const Ledger::Database* found = hooks_.ledger().find(name);
    if (found != nullptr && (hooks_.ready(found->id) || hooks_.stopped(found->id))) there.push_back(name);
  }
  for (const std::string& name : there) {
    std::deque<Queued> waiting = std::move(creating_[name].waiting);
    creating_.erase(name);
    for (Queued& queued : waiting) enqueue(name, std::move(queued));
  }
  settle_unchanged();
  std::vector<DatabaseId> ids;
  for (const auto& [db, lane] : lanes_)
    if (!lane.running && !lane.queue.empty()) ids.push_back(db);
  for (const DatabaseId db : ids) pump(db);
}

void Execution::dropped(DatabaseId db) {
  create_again();
  const auto it = lanes_.find(db);
  if (it == lanes_.end()) return;
  refuse_queue(it->second, base::make_error(Code::kDropped, "the database was dropped"));
  if (!it->second.running) erase(it);
}

void Execution::refuse_queue(Lane& lane, const Error& why) {
  const std::deque<Queued> queue = std::exchange(lane.queue, {});
  lane.queued_bytes = 0;
  for (const Queued& queued : queue) refuse(queued.request.origin, why);
}

void Execution::ask_create(const std::string& name) {
  const base::Status status = hooks_.create(name);  // a node alone commits, and comes to progressed(), inside it
  if (const auto it = creating_.find(name); !status && it != creating_.end()) it->second.refusal = status.error();
}

// The creation was refused, or it was dropped before it was ready: who waits for it waits for its next creation.
void Execution::create_again() {
  std::vector<std::string> gone;
  for (const auto& [name, creation] : creating_)
    if (hooks_.ledger().find(name) == nullptr) gone.push_back(name);
  for (const std::string& name : gone) ask_create(name);
}

// Refuses what nobody waits for any more. The deadlines are in no order.
bool Execution::expire(std::deque<Queued>& queue, const Error& why) {
  const base::Micros now = hooks_.now();
  const auto waits = [now](const Queued& queued) { return queued.deadline > now; };
  if (std::all_of(queue.begin(), queue.end(), waits)) return false;
  std::vector<Origin> late;
  for (const Queued& queued : queue)
    if (!waits(queued)) late.push_back(queued.request.origin);
  queue.erase(std::stable_partition(queue.begin(), queue.end(), waits), queue.end());
  for (const Origin& origin : late) refuse(origin, why);
  return true;
}

void Execution::erase(std::map<DatabaseId, Lane>::iterator lane) {
  if (lane->second.executor) hooks_.retire(std::move(lane->second.executor));
  lanes_.erase(lane);
}

void Execution::pump(DatabaseId db) {
  const auto it = lanes_.find(db);
  if (!term_ || it == lanes_.end() || it->second.running || it->second.queue.empty()) return;
  Lane& lane = it->second;
  const Ledger::Database* database = hooks_.ledger().find(db);
  if (database == nullptr) return;
  if (const auto why = ending_ ? ending_ : hooks_.stopped(db)) {
    refuse_queue(lane, *why);
    return;
  }
  if (!hooks_.ready(db)) return;
  const base::Micros now = hooks_.now();
  std::vector<Queued> batch;
  std::vector<ExecuteRequest> requests;
  std::size_t bytes = 0;
  const std::size_t count_max = lane.batch_max != 0 ? lane.batch_max : kBatchCountMax;
  while (!lane.queue.empty() && batch.size() < count_max) {
    Queued& next = lane.queue.front();
    const std::size_t size = next.request.body.size();
    if (!batch.empty() && bytes + size > kBatchBytesMax) break;
    lane.queued_bytes -= size;
    if (next.deadline <= now) {
      refuse(next.request.origin, not_run_in_time());
    } else {
      bytes += size;
      requests.push_back(next.request);
      batch.push_back(std::move(next));
    }
    lane.queue.pop_front();
  }
  lane.batch_max = 0;
  if (batch.empty()) return;
  if (!lane.executor) lane.executor = factory_.make(database->name, db);
  lane.running = true;
  lane.running_term = term_;
  lane.executor->run(std::move(requests),
                     [this, db, term = term_, batch = std::move(batch)](BatchResult result) mutable {
                       finished(db, term, std::move(batch), std::move(result));
                     });
}

void Execution::wind_down(Error why, base::Task idle) {
  ending_ = std::move(why);
  idle_ = std::move(idle);
  for (auto& [db, lane] : lanes_) refuse_queue(lane, *ending_);
  for (auto& [name, creation] : std::exchange(creating_, {}))
    for (const Queued& queued : creation.waiting) refuse(queued.request.origin, *ending_);
  check_idle();
}

void Execution::check_idle() {
  for (const auto& [db, lane] : lanes_)
    if (lane.running) return;
  if (idle_) std::exchange(idle_, nullptr)();
}

void Execution::finished(DatabaseId db, base::Term term, std::vector<Queued> batch, BatchResult result) {
  settle(db, term, std::move(batch), std::move(result));
  check_idle();
}

void Execution::settle(DatabaseId db, base::Term term, std::vector<Queued> batch, BatchResult result) {
  const auto it = lanes_.find(db);
  CHECK(it != lanes_.end());
  it->second.running = false;
  if (!term_ || term != term_) {
    // The term it was taken in is over: its origins learn from the log what became of it. The executor proposes nothing again.
    pump(db);
    return;
  }
  if (hooks_.ledger().find(db) == nullptr) {
    for (const Queued& queued : batch)
      refuse(queued.request.origin, base::make_error(Code::kDropped, "the database was dropped"));
    erase(it);
    return;
  }
  const bool complete = result.results.size() == batch.size();
  const OutcomeKind kind = result.outcome.kind;
  if (kind == OutcomeKind::kCommitted && complete) {
    for (const ExecuteResult& each : result.results) answer_result(each, result.outcome.id, result.outcome.id.index);
  } else if (kind == OutcomeKind::kNotApplied && !result.changed && complete && result.outcome.error.message.empty()) {
    unchanged(db, std::move(batch), std::move(result));
  } else if (kind == OutcomeKind::kNotApplied) {
    const Error why = result.outcome.error;
    if (passing(why)) {
      run_again(db, std::move(batch), kRunAgainDelay);
      return;
    }
    if (why.code == Code::kTooLarge && batch.size() > 1) {
      run_again(db, std::move(batch), 0);
      lanes_[db].batch_max = 1;
      return;
    }
    for (const Queued& queued : batch) refuse(queued.request.origin, why);
  }
  // Unknown: never answered and never run again in this term; its origins wait for the log.
  pump_after_pause(db);
}

void Execution::pump_after_pause(DatabaseId db) {
  Lane& lane = lanes_[db];
  if (lane.queue.empty()) return;
  lane.running = true;  // nothing runs, and nothing else begins
  lane.executor->pause([this, db] {
    const auto it = lanes_.find(db);
    CHECK(it != lanes_.end());
    it->second.running = false;
    if (hooks_.ledger().find(db) == nullptr)
      erase(it);  // dropped() has emptied it
    else
      pump(db);
    check_idle();
  });
}

void Execution::run_again(DatabaseId db, std::vector<Queued> batch, base::Micros delay) {
  Lane& lane = lanes_[db];
  for (auto it = batch.rbegin(); it != batch.rend(); ++it) {
    lane.queued_bytes += it->request.body.size();
    lane.queue.push_front(std::move(*it));
  }
  hooks_.after(delay, [this, db] { pump(db); });
}

// A batch that changed nothing made no entry, so nothing proves that this node still led when it ran: it needs a read index of this term,
// begun after its requests arrived, and a snapshot that contains it (DESIGN 5.3).
void Execution::unchanged(DatabaseId db, std::vector<Queued> batch, BatchResult result) {
  auto waiting = std::make_shared<UnchangedBatch>();  // shared with the callback below alone
  waiting->db = db;
  waiting->term = term_;
  waiting->snapshot = result.snapshot;
  waiting->requests = std::move(batch);
  waiting->results = std::move(result.results);
  hooks_.read_index([this, waiting](base::Result<base::Index> index) {
    if (waiting->term != term_) return;  // leadership is gone: the origins retry on absent
    if (!index) {
      // Nobody confirmed the leadership in time. Nobody contested it either, so no later term would tell the origins that it is absent.
      run_unchanged_again(std::move(*waiting), kRunAgainDelay);
      return;
    }
    waiting->read = *index;
    unchanged_.push_back(std::move(*waiting));
    settle_unchanged();
  });
}

void Execution::settle_unchanged() {
  const base::Index at = hooks_.ledger().at().index;
  std::vector<UnchangedBatch> ready;
  for (auto it = unchanged_.begin(); it != unchanged_.end();) {
    if (it->read > at) {
      ++it;
      continue;
    }
    ready.push_back(std::move(*it));
    it = unchanged_.erase(it);
  }
  for (UnchangedBatch& batch : ready) {
    const Ledger::Database* database = hooks_.ledger().find(batch.db);
    if (database != nullptr && database->last.index <= batch.snapshot.index) {
      for (const ExecuteResult& each : batch.results) answer_result(each, {}, batch.snapshot.index);
    } else {
      run_unchanged_again(std::move(batch), 0);
    }
  }
}

void Execution::run_unchanged_again(UnchangedBatch batch, base::Micros delay) {
  if (hooks_.ledger().find(batch.db) != nullptr) {
    run_again(batch.db, std::move(batch.requests), delay);
    return;
  }
  for (const Queued& queued : batch.requests)
    refuse(queued.request.origin, base::make_error(Code::kDropped, "the database was dropped"));
}

bool Execution::may_propose(DatabaseId db) const {
  const auto it = lanes_.find(db);
  return term_ && it != lanes_.end() && it->second.running && it->second.running_term == term_;
}

void Execution::tick() {
  if (!term_) return;
  for (auto it = creating_.begin(); it != creating_.end();) {
    const std::string why = it->second.refusal ? " (" + it->second.refusal->message + ")" : "";
    expire(it->second.waiting, base::make_error(Code::kTimeout, "the database could not be created in time" + why +
                                                                    "; the statement was not applied"));
    it = it->second.waiting.empty() ? creating_.erase(it) : std::next(it);
  }
  create_again();
  for (auto& [db, lane] : lanes_) {
    if (!expire(lane.queue, not_run_in_time())) continue;
    lane.queued_bytes = 0;
    for (const Queued& queued : lane.queue) lane.queued_bytes += queued.request.body.size();
  }
}

}  // namespace node

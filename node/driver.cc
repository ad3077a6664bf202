// The order persist -> send -> apply.
#include "node/driver.h"

#include <utility>

#include "base/fault.h"

namespace node {
namespace {

using base::Code;
using base::Entry;
using base::Index;
using base::Result;
using base::Status;

constexpr std::size_t kCommittedReadMax = std::size_t{4} << 20;  // payload bytes of one read for the applier
// A commit waits this long for an append that carries it to the followers, and an entry for those followers that the quorum does not need.
// Under load a message, an answer and two wake-ups per follower and transaction are saved; an idle cluster's followers see a row this much
// later.
constexpr base::Micros kPayDelay = base::kMillisecond;
constexpr base::Micros kFullRetry = 200 * base::kMillisecond;  // a full log is asked again this often

wal::Append to_append(const raft::PersistJob& job) {
  wal::Append append;
  append.group = base::Group::kData;
  if (job.hard) append.hard_state = raft::encode(*job.hard);
  append.truncate_from = job.truncate_from;
  append.entries = job.entries;
  return append;
}

}  // namespace

Driver::Driver(base::Env& env, base::Lane& loop, base::Lane& log_lane, wal::Log& log, base::Micros sync_interval,
               Hooks hooks)
    : env_(env), loop_(loop), log_lane_(log_lane), log_(log), sync_interval_(sync_interval), hooks_(std::move(hooks)) {}

void Driver::adopt(std::unique_ptr<raft::Core> core) {
  CHECK(!core_);
  core_ = std::move(core);
}

void Driver::release() {
  core_.reset();
  pending_.clear();
  writing_.clear();
  committed_.clear();
}

void Driver::pump() {
  if (!core_ || halted_) return;
  if (pumping_) {
    pump_again_ = true;
    return;
  }
  pumping_ = true;
  do {
    pump_again_ = false;
    while (!halted_ && core_ && core_->has_ready()) take(core_->take_ready());
    flush();
    drain_committed();
  } while (pump_again_ && !halted_);
  pumping_ = false;
  pay_later();
}

void Driver::pay_later() {
  if (paying_ || halted_ || !core_) return;
  const auto owed = core_->followers_owed();
  if (!owed) return;
  paying_ = true;
  loop_.post_at(env_.now() + kPayDelay, [this, waited = *owed] {
    paying_ = false;
    if (halted_ || !core_) return;
    core_->pay_followers(waited);
    pump();
  });
}

void Driver::announce_commit(base::Member member) {
  if (halted_ || !core_) return;
  core_->announce_commit(member);
  pump();
}

void Driver::take(raft::Ready ready) {
  for (const raft::Message& message : ready.messages) hooks_.send(message);
  static_cast<void>(HQL_FAULT_POINT("driver.take"));
  if (ready.persist) pending_.push_back(std::move(*ready.persist));
  for (Entry& entry : ready.committed) committed_.push_back(std::move(entry));
  for (const raft::ReadResult& result : ready.reads) hooks_.read(result);
  for (const raft::LogRead& read : ready.log_reads) {
    read_log(read.first, read.last, read.bytes_max, [this, token = read.token](Result<std::vector<Entry>> entries) {
      if (halted_ || !core_) return;
      // What cannot be read is never reported as gone: the follower stays unserved, and the error is the node's (R12).
      if (!entries && entries.error().code != Code::kNotFound) {
        hooks_.failed(entries.error());
        return;
      }
      core_->log_read_done(token, entries ? std::move(*entries) : std::vector<Entry>());
      pump();
    });
  }
  if (ready.status_changed) hooks_.status_changed();
}

void Driver::flush() {
  if (in_flight_ || pending_.empty() || halted_) return;
  writing_ = std::exchange(pending_, {});
  auto appends = std::make_shared<std::vector<wal::Append>>();
  for (const raft::PersistJob& job : writing_) {
    for (const Entry& entry : job.entries) appended_bytes_ += entry.size();
    // A job without content only orders its messages behind the sync of those before it.
    if (job.hard || job.truncate_from || !job.entries.empty()) appends->push_back(to_append(job));
  }
  // The followers' work and this node's own write go on side by side, theirs first: it takes longer.
  hooks_.flush();
  in_flight_ = true;
  in_flight_since_ = env_.now();
  write(std::move(appends));
}

void Driver::write(std::shared_ptr<std::vector<wal::Append>> appends) {
  appends_ = std::move(appends);
  if (appends_->empty()) {
    loop_.post([this] { persisted(base::ok()); });
    return;
  }
  const bool later = sync_interval_ > 0 && holds_ == 0;
  const wal::Durability wanted = later ? wal::Durability::kWritten : wal::Durability::kSynced;
  log_lane_.post([this, batch = appends_, wanted] {
    Status status = log_.append_batch(*batch, wanted);
    // The log's thread has nothing to do until its next batch: it may look after this one's consequences itself.
    loop_.post_and_help([this, status = std::move(status)] { persisted(status); });
  });
}

void Driver::persisted(const Status& status) {
  if (halted_) return;
  if (!status && status.error().code == Code::kFull) {
    if (!std::exchange(full_, true)) hooks_.full_changed(true);
    // Nothing was remembered: the same batch again, until there is space. Nothing later may overtake it.
    loop_.post_at(env_.now() + kFullRetry, [this] {
      if (!halted_) write(appends_);
    });
    return;
  }
  if (!status) return fail(status.error());
  if (std::exchange(full_, false)) hooks_.full_changed(false);
  sync_later();
  in_flight_ = false;
  appends_.reset();
  const std::vector<raft::PersistJob> done = std::exchange(writing_, {});
  if (!core_) return;
  for (const raft::PersistJob& job : done) {
    core_->persisted(job.sequence);
    for (const raft::Message& message : job.then_send) hooks_.send(message);
  }
  pump();
}

// R13: nothing goes on with a log whose write or sync failed.
void Driver::fail(const base::Error& why) {
  halted_ = true;
  hooks_.failed(why);
}

void Driver::sync_later() {
  if (sync_due_ || log_.synced()) return;
  sync_due_ = true;
  loop_.post_at(env_.now() + sync_interval_, [this] {
    if (halted_) return;
    with_log([](wal::Log& log) { return log.sync(); },
             [this](const Status& status) {
               sync_due_ = false;
               if (halted_) return;
               if (!status) return fail(status.error());
               sync_later();
             });
  });
}

void Driver::hold_synced(std::function<void(Status)> held) {
  ++holds_;
  if (sync_interval_ == 0) {
    held(base::ok());
    return;
  }
  // Behind the batch in flight, which may be one that is only written; the next one sees the hold.
  with_log([](wal::Log& log) { return log.sync(); },
           [this, held = std::move(held)](const Status& status) {
             if (!status) --holds_;
             if (!status && !halted_) fail(status.error());
             held(status);
           });
}

void Driver::release_synced() {
  CHECK(holds_ > 0);
  --holds_;
}

// Entries whose payload the core no longer had are read back, in order, before anything after them is passed on.
void Driver::drain_committed() {
  if (draining_) return;
  draining_ = true;
  while (!committed_.empty() && !reading_committed_ && !halted_) {
    if (committed_.front().kind == base::EntryKind::kNoop || committed_.front().payload) {
      Entry entry = std::move(committed_.front());
      committed_.pop_front();
      hooks_.committed(std::move(entry));
      continue;
    }
    reading_committed_ = true;
    const Index first = committed_.front().id.index;
    Index last = first;
    for (const Entry& entry : committed_) {
      if (entry.payload) break;
      last = entry.id.index;
    }
    read_log(first, last, kCommittedReadMax, [this](Result<std::vector<Entry>> entries) {
      reading_committed_ = false;
      if (halted_) return;
      if (!entries) {
        hooks_.failed(entries.error());
        return;
      }
      std::size_t i = 0;
      for (Entry& entry : *entries) {
        if (i >= committed_.size() || committed_[i].id != entry.id) break;
        committed_[i++].payload = std::move(entry.payload);
      }
      if (i == 0) {
        hooks_.failed(base::make_error(Code::kCorrupt, "the log does not return the committed entry " +
                                                           std::to_string(committed_.front().id.index.value)));
        return;
      }
      pump();
    });
  }
  draining_ = false;
}

void Driver::read_log(Index first, Index last, std::size_t bytes_max,
                      std::function<void(Result<std::vector<Entry>>)> done) {
  log_lane_.post([this, first, last, bytes_max, done = std::move(done)]() mutable {
    auto entries = std::make_shared<Result<std::vector<Entry>>>(log_.read(base::Group::kData, first, last, bytes_max));
    loop_.post([entries, done = std::move(done)] { done(std::move(*entries)); });
  });
}

void Driver::with_log(std::function<Status(wal::Log&)> work, std::function<void(Status)> done) {
  log_lane_.post([this, work = std::move(work), done = std::move(done)]() mutable {
    Status status = work(log_);
    loop_.post([status = std::move(status), done = std::move(done)] { done(status); });
  });
}

}  // namespace node

// The in-memory side of the Raft log: see log_cache.h for the picture. Callers: Core::State only. Loop lane.
#include "raft/log_cache.h"

#include <algorithm>

#include "base/check.h"

namespace raft {

namespace {
constexpr std::size_t kSlotWeight = 64;  // counted per cached entry, so that millions of empty ones are bounded too
Index before(Index index) { return Index(index.value - 1); }
}  // namespace

LogCache::LogCache(LogId floor, std::size_t bytes_max) : bytes_max_(bytes_max) { reset(floor); }

void LogCache::reset(LogId floor) {
  floor_ = last_ = durable_ = handed_ = floor.index;
  runs_.assign(1, Run{floor.index, floor.term});
  tail_first_ = payload_first_ = floor.index.next();
  slots_.clear();
  cached_bytes_ = 0;
  truncate_from_.reset();
  for (Job& job : jobs_) job.durable_to = Index(0);
}

std::optional<Term> LogCache::term_at(Index index) const {
  if (index < floor_) return std::nullopt;
  if (index > last_) return std::nullopt;
  const auto after = std::upper_bound(runs_.begin(), runs_.end(), index,
                                      [](Index wanted, const Run& run) { return wanted < run.first; });
  return std::prev(after)->term;
}

LogId LogCache::last_at_or_below(Term term, Index index) const {
  Index at = std::clamp(index, floor_, last_);
  for (auto run = runs_.rbegin(); run != runs_.rend(); ++run) {
    if (run->first > at) continue;
    if (run->term <= term) return {run->term, at};
    if (run->first == floor_) break;
    at = before(run->first);
  }
  return floor();
}

bool LogCache::missing(const Slot& slot) { return slot.kind != base::EntryKind::kNoop && !slot.payload; }
std::size_t LogCache::weight(const Slot& slot) { return kSlotWeight + (slot.payload ? slot.payload->size() : 0); }

const LogCache::Slot& LogCache::slot(Index index) const {
  CHECK(index >= tail_first_);
  CHECK(index <= last_);
  return slots_[index.value - tail_first_.value];
}

void LogCache::append(base::Entry entry, std::size_t size) {
  CHECK(entry.id.index == last_.next());
  CHECK(entry.id.term >= runs_.back().term);
  last_ = entry.id.index;
  if (entry.id.term != runs_.back().term) runs_.push_back({last_, entry.id.term});
  slots_.push_back({std::move(entry.payload), size, entry.kind});
  cached_bytes_ += weight(slots_.back());
}

void LogCache::truncate(Index from) {
  CHECK(from > floor_);
  if (from > last_) return;
  CHECK(from >= tail_first_);
  while (last_ >= from) {
    if (last_ >= payload_first_) cached_bytes_ -= weight(slots_.back());
    slots_.pop_back();
    last_ = before(last_);
  }
  while (runs_.back().first >= from) runs_.pop_back();  // the first run starts at the floor, below `from`
  payload_first_ = std::min(payload_first_, from);
  if (handed_ >= from) {
    truncate_from_ = truncate_from_ ? std::min(*truncate_from_, from) : from;
    handed_ = before(from);
  }
  durable_ = std::min(durable_, before(from));
  for (Job& job : jobs_) job.durable_to = std::min(job.durable_to, before(from));
}

void LogCache::set_floor(LogId floor) {
  CHECK(matches(floor));
  CHECK(floor.index <= durable_);
  while (tail_first_ <= floor.index && !slots_.empty()) {
    if (tail_first_ >= payload_first_) cached_bytes_ -= weight(slots_.front());
    slots_.pop_front();
    tail_first_ = tail_first_.next();
  }
  tail_first_ = std::max(tail_first_, floor.index.next());
  payload_first_ = std::max(payload_first_, tail_first_);
  while (runs_.size() > 1 && runs_[1].first <= floor.index) runs_.erase(runs_.begin());
  runs_.front() = {floor.index, floor.term};
  floor_ = floor.index;
}

bool LogCache::cached(Index index) const { return index >= tail_first_ && index <= last_ && !missing(slot(index)); }

base::Entry LogCache::entry(Index index) const {
  const Slot& found = slot(index);
  return {LogId{*term_at(index), index}, found.kind, found.payload};
}

std::size_t LogCache::size_of(Index index) const { return slot(index).size; }

void LogCache::trim(Index handed_to_apply) {
  // Payloads: only of durable entries, oldest first. An entry that came without its payload weighs nothing worth keeping.
  while (payload_first_ <= durable_ && payload_first_ <= last_) {
    Slot& oldest = slots_[payload_first_.value - tail_first_.value];
    if (cached_bytes_ <= bytes_max_ && !missing(oldest)) break;
    cached_bytes_ -= weight(oldest);
    if (oldest.kind != base::EntryKind::kConfig) oldest.payload.reset();
    payload_first_ = payload_first_.next();
  }
  while (!slots_.empty() && tail_first_ < payload_first_ && tail_first_ <= handed_to_apply) {
    slots_.pop_front();
    tail_first_ = tail_first_.next();
  }
}

void LogCache::hand_over(PersistJob& job) {
  job.truncate_from = truncate_from_;
  truncate_from_.reset();
  while (handed_ < last_) {
    handed_ = handed_.next();
    job.entries.push_back(entry(handed_));
  }
  jobs_.push_back({job.sequence, handed_});
}

void LogCache::persisted(std::uint64_t sequence) {
  while (!jobs_.empty() && jobs_.front().sequence <= sequence) {
    durable_ = std::max(durable_, jobs_.front().durable_to);
    jobs_.pop_front();
  }
}

}  // namespace raft

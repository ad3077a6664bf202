// Publishing in log order, per database.
#include "node/apply_queue.h"

#include <utility>

namespace node {
namespace {

using base::Code;
using base::DatabaseId;
using base::Entry;
using base::Index;
using base::Result;
using base::Status;

// Payloads kept in memory for waiting items, over all databases; beyond it they are read from the log when their turn comes.
constexpr std::size_t kKeptBytesMax = std::size_t{64} << 20;
constexpr std::size_t kReadBytesMax = std::size_t{4} << 20;
constexpr base::Micros kRetry = 200 * base::kMillisecond;  // after a full disk or an I/O error
constexpr std::uint64_t kFrameHeader = 24;

}  // namespace

ApplyQueue::ApplyQueue(base::Env& env, base::Lane& loop, base::Lane& apply, pages::ImageFactory& factory, Hooks hooks)
    : env_(env), loop_(loop), apply_(apply), factory_(factory), hooks_(std::move(hooks)) {}

void ApplyQueue::add_opened(const Ledger::Database& database, SharedImage image, pages::ImageState state,
                            base::LogId applied) {
  Database& entry = databases_[database.id];
  entry.name = database.name;
  entry.page_size = database.page_size;
  entry.stopped = image == nullptr;
  entry.image = std::move(image);
  entry.state = state;
  entry.applied = applied;
  publish_table();
}

void ApplyQueue::set_decided(Index index) { decided_ = index; }

void ApplyQueue::enqueue(const Decision& decision) {
  decided_ = decision.id.index;
  const bool wanted =
      decision.effect == Effect::kPublish || decision.effect == Effect::kCreate || decision.effect == Effect::kDrop;
  if (!wanted) return;
  Database& database = databases_[decision.db];
  if (decision.effect == Effect::kCreate) {
    if (database.image || database.stopped) return;  // recovered with the file
    database.name = decision.name;
    publish_table();
  }
  if (decision.effect == Effect::kPublish && decision.id.index <= database.applied.index)
    return;  // recovered with the file
  if (database.stopped && decision.effect != Effect::kDrop) return;
  Item item{decision.id, decision.effect, decision.header, decision.payload, decision.parts, 0};
  const std::size_t size = decision.payload ? decision.payload->size() : 0;
  if (kept_bytes_ + size <= kKeptBytesMax || decision.effect == Effect::kCreate) {
    item.bytes = size;
    kept_bytes_ += size;
  } else {
    item.payload = nullptr;
  }
  outstanding_.insert(decision.id.index);
  database.items.push_back(std::move(item));
  pump(decision.db);
}

void ApplyQueue::start() {
  started_ = true;
  for (const DatabaseId id : ids()) pump(id);
}

Index ApplyQueue::applied() const { return outstanding_.empty() ? decided_ : Index{outstanding_.begin()->value - 1}; }

SharedImage ApplyQueue::image(DatabaseId id) const {
  const auto it = databases_.find(id);
  return it == databases_.end() ? nullptr : it->second.image;
}

bool ApplyQueue::stopped(DatabaseId id) const {
  const auto it = databases_.find(id);
  return it != databases_.end() && it->second.stopped;
}

std::uint64_t ApplyQueue::take_frames(DatabaseId id) {
  const auto it = databases_.find(id);
  return it == databases_.end() ? 0 : std::exchange(it->second.frame_bytes, 0);
}

std::vector<DatabaseId> ApplyQueue::ids() const {
  std::vector<DatabaseId> out;
  for (const auto& [id, database] : databases_) out.push_back(id);
  return out;
}

std::vector<ImageRow> ApplyQueue::images() const {
  base::MutexLock lock(table_mutex_);
  return table_;
}

void ApplyQueue::publish_table() {
  std::vector<ImageRow> table;
  for (const auto& [id, database] : databases_) table.push_back({id, database.name, database.image, database.state});
  base::MutexLock lock(table_mutex_);
  table_ = std::move(table);
}

void ApplyQueue::pump(DatabaseId id) {
  const auto it = databases_.find(id);
  if (!started_ || halted_ || it == databases_.end() || it->second.busy || it->second.items.empty()) return;
  Database& database = it->second;
  Item& item = database.items.front();
  // Files are known by name: the ones of a dropped namesake go first. done() of its drop pumps this one.
  if (item.effect == Effect::kCreate && oldest_named(database.name) != id) return;
  database.busy = true;
  switch (item.effect) {
    // Files come and go durably, and new ones record their creation as base: the log must not forget it afterwards (R8).
    case Effect::kCreate:
      hooks_.sync_log([this, id] {
        if (!halted_) create(id, databases_[id].items.front());
      });
      return;
    case Effect::kDrop:
      hooks_.sync_log([this, id] {
        if (!halted_) drop(id);
      });
      return;
    default:
      break;
  }
  if (payloads_ready(id, item)) publish(id, item);
}

DatabaseId ApplyQueue::oldest_named(const std::string& name) const {
  for (const auto& [id, database] : databases_)
    if (database.name == name) return id;
  return {};
}

bool ApplyQueue::payloads_ready(DatabaseId id, Item& item) {
  base::LogId missing;
  for (const PartRef& part : item.parts) {
    if (part.payload) continue;
    missing = part.id;
    break;
  }
  if (missing == base::LogId{} && !item.payload) missing = item.id;
  if (missing == base::LogId{}) return true;
  hooks_.read_log(missing.index, item.id.index, kReadBytesMax, [this, id](Result<std::vector<Entry>> entries) {
    const auto it = databases_.find(id);
    if (halted_ || it == databases_.end() || it->second.items.empty()) return;
    Item& waiting = it->second.items.front();
    bool found = false;
    if (entries) {
      for (Entry& entry : *entries) {
        if (entry.id == waiting.id && !waiting.payload) {
          waiting.payload = entry.payload;
          found = true;
        }
        for (PartRef& part : waiting.parts) {
          if (part.id != entry.id || part.payload) continue;
          part.payload = entry.payload;
          found = true;
        }
      }
    }
    if (!found) {
      done(id, entries ? base::make_error(Code::kCorrupt,
                                          "the log no longer holds entry " + std::to_string(waiting.id.index.value))
                       : entries.error());
      return;
    }
    it->second.busy = false;
    pump(id);
  });
  return false;
}

void ApplyQueue::create(DatabaseId id, Item& item) {
  apply_.post([this, id, log_id = item.id, payload = item.payload] {
    // The ledger decoded it before it called it effective.
    auto created = pages::decode_create(*payload);
    std::shared_ptr<Result<std::unique_ptr<pages::DatabaseImage>>> image;
    if (created) {
      image = std::make_shared<Result<std::unique_ptr<pages::DatabaseImage>>>(factory_.create(*created, log_id));
    } else {
      image = std::make_shared<Result<std::unique_ptr<pages::DatabaseImage>>>(created.error());
    }
    loop_.post([this, id, image] {
      if (halted_) return;
      if (!*image) {
        done(id, image->error());
        return;
      }
      const auto it = databases_.find(id);
      it->second.image = SharedImage(std::move(**image));
      publish_table();
      done(id, base::ok());
    });
  });
}

void ApplyQueue::publish(DatabaseId id, Item& item) {
  pages::PublishJob job;
  job.id = item.id;
  job.header = item.header;
  job.payload = item.payload;
  for (const PartRef& part : item.parts) job.parts.push_back(part.payload);
  databases_[id].image->publish(std::move(job), [this, id](const Status& status) { done(id, status); });
}

void ApplyQueue::drop(DatabaseId id) {
  const SharedImage image = databases_[id].image;
  if (!image) {
    loop_.post([this, id] { done(id, base::ok()); });
    return;
  }
  // The image is not destroyed inside its own callback.
  image->drop([this, id, image](const Status&) {
    loop_.post([image] {});
    done(id, base::ok());
  });
}

void ApplyQueue::done(DatabaseId id, const Status& status) {
  const auto it = databases_.find(id);
  if (halted_ || it == databases_.end() || it->second.items.empty()) return;
  Database& database = it->second;
  Item& item = database.items.front();
  if (!status && (status.error().code == Code::kFull || status.error().code == Code::kIo)) {
    loop_.post_at(env_.now() + kRetry, [this, id] {
      const auto again = databases_.find(id);
      if (again == databases_.end()) return;
      again->second.busy = false;
      pump(id);
    });
    return;
  }
  if (!status && status.error().code != Code::kDropped) {
    stop(id, status.error());
    return;
  }
  kept_bytes_ -= item.bytes;
  outstanding_.erase(item.id.index);
  const Effect effect = item.effect;
  if (effect == Effect::kPublish) {
    database.applied = item.id;
    database.frame_bytes += item.header.patch_count * (database.page_size + kFrameHeader);
    ++published_;
  } else if (effect == Effect::kCreate) {
    database.applied = item.id;
  }
  database.items.pop_front();
  database.busy = false;
  DatabaseId next = id;
  if (effect == Effect::kDrop) {
    const std::string name = std::move(database.name);
    databases_.erase(it);
    publish_table();
    next = oldest_named(name);  // its creation waits
  }
  hooks_.progressed();
  pump(next);
}

// A database that cannot go on is left where it is; the node and its other databases go on (R11).
void ApplyQueue::stop(DatabaseId id, const base::Error& why) {
  Database& database = databases_[id];
  database.stopped = true;
  database.busy = false;
  database.state = why.code == Code::kForeignWrite ? pages::ImageState::kForeignWrite : pages::ImageState::kDiverged;
  std::deque<Item> kept;
  for (Item& item : database.items) {
    if (item.effect == Effect::kDrop) {
      kept.push_back(std::move(item));
      continue;
    }
    kept_bytes_ -= item.bytes;
    outstanding_.erase(item.id.index);
  }
  database.items = std::move(kept);
  publish_table();
  hooks_.stopped(database.name, why);
  hooks_.progressed();
  pump(id);
}

}  // namespace node

// ApplyQueue: the databases of this node and what is to be published in each (DESIGN section 7). One queue per database: a stalled one stops
// nobody else. Loop lane; the work itself runs inside the images on the apply lane. images() from any thread.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/env.h"
#include "base/lane.h"
#include "base/mutex.h"
#include "node/ledger.h"
#include "pages/image.h"

namespace node {

// Shared by this queue and by readers of the status on other threads.
using SharedImage = std::shared_ptr<pages::DatabaseImage>;

struct ImageRow {
  base::DatabaseId id;
  std::string name;
  SharedImage image;  // null: it could not be opened; see `state`
  pages::ImageState state = pages::ImageState::kOk;
};

class ApplyQueue {
 public:
  struct Hooks {
    std::function<void(base::Index first, base::Index last, std::size_t bytes_max,
                       std::function<void(base::Result<std::vector<base::Entry>>)>)>
        read_log;
    std::function<void(std::function<void()> done)> sync_log;  // everything committed so far is on the disk of the log
    std::function<void()> progressed;                          // applied() or a database changed
    std::function<void(const std::string& name, const base::Error&)> stopped;  // this database applies no more
  };
  ApplyQueue(base::Env& env, base::Lane& loop, base::Lane& apply, pages::ImageFactory& factory, Hooks hooks);

  // Start-up: a database that was opened (or failed to: image null). Transactions up to `applied` are in it.
  void add_opened(const Ledger::Database& database, SharedImage image, pages::ImageState state, base::LogId applied);
  // Start-up: everything up to `index` is decided and, as far as not enqueued, applied.
  void set_decided(base::Index index);
  // Every decision in order, effective or not. What start-up enqueues, before the loop is at work on the node, waits for start().
  void enqueue(const Decision& decision);
  void start();

  // Everything up to here is decided, and published unless its database stopped.
  [[nodiscard]] base::Index applied() const;
  [[nodiscard]] SharedImage image(base::DatabaseId id) const;
  [[nodiscard]] bool stopped(base::DatabaseId id) const;
  // Bytes of the WAL (about) that a database has got since the last call for it.
  std::uint64_t take_frames(base::DatabaseId id);
  [[nodiscard]] std::vector<base::DatabaseId> ids() const;
  [[nodiscard]] std::uint64_t published() const { return published_; }
  // Any thread: a copy of the table.
  [[nodiscard]] std::vector<ImageRow> images() const;
  void halt() { halted_ = true; }

 private:
  struct Item {
    base::LogId id;
    Effect effect = Effect::kPublish;
    pages::TxHeader header;
    base::SharedBytes payload;
    std::vector<PartRef> parts;
    std::size_t bytes = 0;  // counted in kept_bytes_
  };
  struct Database {
    std::string name;
    std::uint32_t page_size = 4096;
    SharedImage image;
    base::LogId applied;
    bool busy = false;
    bool stopped = false;
    pages::ImageState state = pages::ImageState::kOk;
    std::uint64_t frame_bytes = 0;
    std::deque<Item> items;
  };
  void pump(base::DatabaseId id);
  // Of the databases of one name all but the youngest are dropped in the log, but not here yet. 0: none of that name.
  [[nodiscard]] base::DatabaseId oldest_named(const std::string& name) const;
  void create(base::DatabaseId id, Item& item);
  void publish(base::DatabaseId id, Item& item);
  void drop(base::DatabaseId id);
  void done(base::DatabaseId id, const base::Status& status);
  void stop(base::DatabaseId id, const base::Error& why);
  // True when every payload of the item is there; else it asks the log and pumps again when it has them.
  bool payloads_ready(base::DatabaseId id, Item& item);
  void publish_table();

  base::Env& env_;
  base::Lane& loop_;
  base::Lane& apply_;
  pages::ImageFactory& factory_;
  Hooks hooks_;
  std::map<base::DatabaseId, Database> databases_;
  std::set<base::Index> outstanding_;
  base::Index decided_;
  std::size_t kept_bytes_ = 0;
  std::uint64_t published_ = 0;
  bool started_ = false;
  bool halted_ = false;
  mutable base::Mutex table_mutex_;
  std::vector<ImageRow> table_ GUARDED_BY(table_mutex_);
};

}  // namespace node

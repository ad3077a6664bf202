// SimImage: a database of the simulator: page arrays over Env, with the promises of a real image and its crash behaviour. `<name>.base` is
// what a sync point made durable, `<name>.wal` the transactions since, written but not synced: after a crash any prefix of it may be there,
// and the digest tells the position. SimImages makes and opens them.
//
// The content is a list of operation ids (8 bytes each from page 2 on), so that a test can count how often each operation was applied.
// transact() is a local write transaction: what a connection through the shim does. One thread; lanes as in reality.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/env.h"
#include "base/lane.h"
#include "base/random.h"
#include "pages/image.h"
#include "pages/sums.h"
#include "vfs/gate.h"

namespace sim {

struct ImageParts {
  base::Env* env = nullptr;
  base::Lane* loop = nullptr;
  base::Lane* apply = nullptr;
  base::Lane* maintenance = nullptr;
  base::Lane* sql = nullptr;
  std::string dir;
  // Called for everything that becomes visible: the place for invariants.
  std::function<void(base::DatabaseId, base::LogId, std::uint64_t digest)> published;
  // A sync point is made while the log may still forget what is applied (R8).
  std::function<void(const std::string& what)> breach;
  base::Micros think_max = 3 * base::kMillisecond;  // how long a local transaction stays open
  std::uint64_t seed = 1;
};

struct LocalResult {
  vfs::Outcome outcome;
  bool changed = false;
  base::LogId snapshot;   // last transaction that it saw
  std::size_t count = 0;  // operations in the database when it began
};

class SimImage final : public pages::DatabaseImage {
 public:
  SimImage(const ImageParts& parts, vfs::Gate*& gate, std::string name, base::DatabaseId id, std::uint32_t page_size);

  void publish(pages::PublishJob job, std::function<void(base::Status)> done) override;
  void sync_point(std::function<void(base::Result<base::LogId>)> done) override;
  void checkpoint(std::function<void(base::Status)> done) override;
  void doom_local_writer(const base::Error& reason) override;
  bool doom_overdue_writer(const pages::Overdue& overdue, const base::Error& reason) override;
  void drop(std::function<void(base::Status)> done) override;
  pages::ImageStatus status() override;

  // Appends `ops` (none: only reads) in one transaction; `requests` ride in its entry. On the sql lane; `done` there too.
  void transact(std::vector<std::uint64_t> ops, std::vector<pages::RequestRecord> requests, bool executor,
                base::Micros deadline, std::function<void(LocalResult)> done);
  void interrupt_executor();
  // The application's next transactions stay open for this long before they commit. 0: as ever, a random moment.
  void set_think(base::Micros think) { think_ = think; }
  // Every operation id in the database, in order.
  [[nodiscard]] std::vector<std::uint64_t> operations() const;
  [[nodiscard]] base::DatabaseId id() const { return id_; }
  [[nodiscard]] bool dropped() const { return dropped_; }

  // For SimImages.
  base::Status write_base();
  base::Status initialise(const pages::CreateDatabase& create, base::LogId id);
  base::Status recover(const std::vector<pages::RedoCandidate>& candidates, const pages::Adopt& adopt);

 private:
  struct Writer {
    bool executor = false;
    bool submitted = false;
    base::Micros since = 0;
    std::optional<base::Error> doomed;
    base::Micros doomed_since = 0;
  };
  struct Transaction {
    std::vector<std::uint64_t> ops;
    std::vector<pages::RequestRecord> requests;
    bool executor = false;
    base::Micros deadline = 0;
    vfs::Grant grant;
    std::function<void(LocalResult)> done;
    LocalResult result;
  };
  using TransactionPtr = std::shared_ptr<Transaction>;  // shared by the steps of one transaction
  using Pages = std::map<pages::PageNo, base::Bytes>;

  void wait_for_writer(TransactionPtr transaction);
  void wake_waiters();
  void begin_write(TransactionPtr transaction);
  void commit(TransactionPtr transaction);
  void end(const TransactionPtr& transaction, vfs::Outcome outcome);
  void try_publish();
  void publish_now();
  [[nodiscard]] std::uint64_t digest_of(const Pages& pages) const;
  [[nodiscard]] std::size_t ids_per_page() const { return page_size_ / 8; }
  base::Status append_wal(base::LogId id, const Pages& changed, pages::PageNo size);
  void show(base::LogId id);

  const ImageParts parts_;
  vfs::Gate*& gate_;
  const std::string name_;
  const base::DatabaseId id_;
  const std::uint32_t page_size_;
  base::Random random_;
  Pages pages_;  // 1..page_count
  std::uint64_t digest_ = 0;
  base::LogId applied_;
  base::LogId base_;
  base::Micros think_ = 0;
  bool dropped_ = false;
  bool applying_ = false;
  std::optional<Writer> writer_;
  std::vector<TransactionPtr> waiting_;
  std::optional<pages::PublishJob> job_;
  std::function<void(base::Status)> job_done_;
  std::unique_ptr<base::File> wal_;
  std::uint64_t wal_end_ = 0;
};

class SimImages final : public pages::ImageFactory {
 public:
  explicit SimImages(ImageParts parts) : parts_(std::move(parts)) {}
  void set_gate(vfs::Gate* gate) { gate_ = gate; }
  base::Result<std::unique_ptr<pages::DatabaseImage>> create(const pages::CreateDatabase& create,
                                                             base::LogId id) override;
  base::Result<std::unique_ptr<pages::DatabaseImage>> open(const std::string& name, base::DatabaseId db,
                                                           std::uint32_t page_size,
                                                           const std::vector<pages::RedoCandidate>& candidates,
                                                           const pages::Adopt& adopt) override;
  base::Status set_aside(const std::string& name, const std::string& suffix) override;
  base::Result<base::LogId> recorded_base(const std::string& name) override;
  // The open image of that name, or null. Valid until it is dropped or the node goes.
  [[nodiscard]] SimImage* find(const std::string& name) const;

 private:
  std::unique_ptr<pages::DatabaseImage> keep(const std::string& name, std::unique_ptr<SimImage> image);
  ImageParts parts_;
  vfs::Gate* gate_ = nullptr;
  std::map<std::string, SimImage*> images_;
  std::vector<std::unique_ptr<SimImage>> all_;
};

}  // namespace sim

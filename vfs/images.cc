// The table of a node's open databases (vfs/images.h). Images are made on the apply lane or at start-up; find() on any thread.
#include "vfs/images.h"

#include <map>
#include <vector>

#include "base/mutex.h"

namespace vfs {
namespace {

// Shared by the factory and the images it gave out: an image may be destroyed after the factory.
struct Table {
  base::Mutex mutex;
  std::map<std::string, Database*> open GUARDED_BY(mutex);
  // Databases whose image the node has let go: find() promised their callers a pointer that lives until close_all().
  std::vector<std::unique_ptr<Database>> retired GUARDED_BY(mutex);
};

// What the node gets: the database itself stays reachable for the shim.
class ListedImage final : public pages::DatabaseImage {
 public:
  ListedImage(std::shared_ptr<Table> table, std::unique_ptr<Database> database)
      : table_(std::move(table)), database_(std::move(database)) {
    const base::MutexLock lock(table_->mutex);
    table_->open[database_->params().name] = database_.get();
  }
  ~ListedImage() override {
    const base::MutexLock lock(table_->mutex);
    forget();
    table_->retired.push_back(std::move(database_));
  }
  ListedImage(const ListedImage&) = delete;
  ListedImage& operator=(const ListedImage&) = delete;

  void publish(pages::PublishJob job, std::function<void(base::Status)> done) override {
    database_->publish(std::move(job), std::move(done));
  }
  void sync_point(std::function<void(base::Result<base::LogId>)> done) override {
    database_->sync_point(std::move(done));
  }
  void checkpoint(std::function<void(base::Status)> done) override { database_->checkpoint(std::move(done)); }
  void doom_local_writer(const base::Error& reason) override { database_->doom_local_writer(reason); }
  bool doom_overdue_writer(const pages::Overdue& overdue, const base::Error& reason) override {
    return database_->doom_overdue_writer(overdue, reason);
  }
  void drop(std::function<void(base::Status)> done) override {
    {
      const base::MutexLock lock(table_->mutex);
      forget();
    }
    database_->drop(std::move(done));
  }
  pages::ImageStatus status() override { return database_->status(); }

 private:
  void forget() REQUIRES(table_->mutex) {
    const auto found = table_->open.find(database_->params().name);
    if (found != table_->open.end() && found->second == database_.get()) table_->open.erase(found);
  }

  const std::shared_ptr<Table> table_;
  std::unique_ptr<Database> database_;
};

class ImagesImpl final : public Images {
 public:
  explicit ImagesImpl(DatabaseParams params) : params_(std::move(params)) {}

  base::Result<std::unique_ptr<pages::DatabaseImage>> create(const pages::CreateDatabase& create,
                                                             base::LogId id) override {
    HQL_TRY(pages::valid_database_name(create.name));
    return listed(
        Database::create(params_for(create.name, base::DatabaseId(id.index.value), create.page_size), id, create));
  }
  base::Result<std::unique_ptr<pages::DatabaseImage>> open(const std::string& name, base::DatabaseId db,
                                                           std::uint32_t page_size,
                                                           const std::vector<pages::RedoCandidate>& candidates,
                                                           const pages::Adopt& adopt) override {
    HQL_TRY(pages::valid_database_name(name));
    return listed(Database::open(params_for(name, db, page_size), candidates, adopt));
  }
  base::Status set_aside(const std::string& name, const std::string& suffix) override {
    HQL_TRY(pages::valid_database_name(name));
    for (const char* part : {".sums", "", "-wal", "-shm"}) {
      const std::string path = params_.dir + "/" + name + part;
      base::Status moved = params_.env->rename(path, path + suffix);
      if (!moved && moved.error().code != base::Code::kNotFound) return moved;
    }
    return params_.env->sync_dir(params_.dir);
  }
  base::Result<base::LogId> recorded_base(const std::string& name) override {
    HQL_TRY(pages::valid_database_name(name));
    return Database::recorded_base(*params_.env, params_.dir, name);
  }
  Database* find(const std::string& name) override {
    const base::MutexLock lock(table_->mutex);
    const auto found = table_->open.find(name);
    return found == table_->open.end() ? nullptr : found->second;
  }
  void close_all(base::Micros deadline) override {
    std::vector<Database*> databases;
    std::vector<std::unique_ptr<Database>> retired;
    {
      const base::MutexLock lock(table_->mutex);
      for (const auto& [name, database] : table_->open) databases.push_back(database);
      table_->open.clear();
      retired.swap(table_->retired);
    }
    for (Database* database : databases) database->close(deadline);
    for (const auto& database : retired) database->close(deadline);
  }

 private:
  DatabaseParams params_for(const std::string& name, base::DatabaseId id, std::uint32_t page_size) const {
    DatabaseParams params = params_;
    params.name = name;
    params.id = id;
    params.page_size = page_size;
    return params;
  }
  base::Result<std::unique_ptr<pages::DatabaseImage>> listed(base::Result<std::unique_ptr<Database>> database) {
    if (!database) return database.error();
    return std::unique_ptr<pages::DatabaseImage>(std::make_unique<ListedImage>(table_, std::move(*database)));
  }

  const DatabaseParams params_;
  const std::shared_ptr<Table> table_ = std::make_shared<Table>();
};

}  // namespace

std::unique_ptr<Images> Images::make(DatabaseParams params) { return std::make_unique<ImagesImpl>(std::move(params)); }

}  // namespace vfs

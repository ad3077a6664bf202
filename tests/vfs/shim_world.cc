// The node without a log (shim_world.h).
#include "tests/vfs/shim_world.h"

#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <future>

#include "pages/sums.h"
#include "vfs/names.h"

namespace shim_test {
namespace {

constexpr base::Micros kDeadline =
    30 * base::kSecond;  // a guard against a hang, far beyond what a loaded machine needs

// As ext/ does for every connection of the process.
extern "C" int check_entry(sqlite3* db, char** message, const sqlite3_api_routines*) {
  const base::Status checked = vfs::check_opened(db);
  if (checked) return SQLITE_OK;
  *message = sqlite3_mprintf("%s", base::to_string(checked.error()).c_str());
  return base::extended_code(checked.error().code);
}

void register_once() {
  static const bool done = [] {
    CHECK(static_cast<bool>(vfs::register_vfs()));
    return sqlite3_auto_extension(reinterpret_cast<void (*)()>(check_entry)) == SQLITE_OK;
  }();
  CHECK(done);
}

base::Bytes read_bytes(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  return base::copy_of(base::view_of(text));
}

void apply(PageArray& pages, const std::vector<pages::Patch>& patches, std::uint32_t page_size,
           pages::PageNo size_after) {
  pages.resize(std::max<std::size_t>(pages.size(), size_after), base::Bytes(page_size));
  for (const pages::Patch& patch : patches) {
    ASSERT_LE(patch.page, pages.size());
    ASSERT_TRUE(pages::apply_patch(patch, pages[patch.page - 1]));
  }
  pages.resize(size_after);
}

}  // namespace

int test_scale() {
  const char* const scale = std::getenv("HQL_TEST_SCALE");
  if (scale == nullptr || std::strcmp(scale, "ci") == 0) return 1;
  return std::strcmp(scale, "hour") == 0 ? 20 : 200;
}

int code(int primary, base::Code ours) { return primary | (base::code_info(ours).number << 8); }

base::Bytes joined(const PageArray& pages) {
  base::Bytes all;
  for (const base::Bytes& page : pages) all.insert(all.end(), page.begin(), page.end());
  return all;
}

// --- Db ---------------------------------------------------------------------------------------------------------------

Db::Db(const std::string& name, int flags, const char* vfs) {
  const bool plain = name.find_first_of(":/") != std::string::npos || name.empty() || vfs != nullptr;
  open_code_ = sqlite3_open_v2((plain ? name : "file:" + name + "?vfs=hiqlite").c_str(), &db_, flags, vfs);
  if (db_ != nullptr) {
    open_code_ = open_code_ == SQLITE_OK ? SQLITE_OK : sqlite3_extended_errcode(db_);
    sqlite3_extended_result_codes(db_, 1);
  }
}
Db::~Db() { close(); }
void Db::close() {
  if (db_ != nullptr) {
    EXPECT_EQ(sqlite3_close(db_), SQLITE_OK);
  }
  db_ = nullptr;
}
int Db::exec(const std::string& sql) { return sqlite3_exec(db_, sql.c_str(), nullptr, nullptr, nullptr); }
std::string Db::rows(const std::string& sql) {
  std::string out;
  const auto add = [](void* to, int columns, char** values, char**) {
    auto& text = *static_cast<std::string*>(to);
    if (!text.empty()) text += '\n';
    for (int at = 0; at < columns; ++at)
      text += std::string(at == 0 ? "" : "|") + (values[at] == nullptr ? "NULL" : values[at]);
    return 0;
  };
  const int rc = sqlite3_exec(db_, sql.c_str(), add, &out, nullptr);
  if (rc != SQLITE_OK) return "error " + std::to_string(rc) + ": " + message();
  return out;
}

// --- TestGate ---------------------------------------------------------------------------------------------------------

TestGate::Database* TestGate::by_id(base::DatabaseId id) {
  const auto at = databases_.find(id.value);
  return at == databases_.end() ? nullptr : at->second.get();
}
TestGate::Database* TestGate::by_name(const std::string& name) {
  for (auto& [id, database] : databases_)
    if (database->name == name) return database.get();
  return nullptr;
}

vfs::Grant TestGate::make_grant(base::DatabaseId db) {
  ++grants_;
  return {base::Term(1), base::LeaseId(++leases_), by_id(db)->last};
}

void TestGate::acquire_lease(base::DatabaseId db, std::function<void(base::Result<vfs::Grant>)> done) {
  Lease lease;
  {
    base::MutexLock lock(mutex_);
    lease = lease_;
  }
  if (lease) {
    auto answer = lease();
    if (answer) return done(std::move(*answer));
    base::MutexLock lock(mutex_);
    waiting_.emplace_back(db, std::move(done));
    changed_.notify_all();
    return;
  }
  vfs::Grant grant;
  {
    base::MutexLock lock(mutex_);
    grant = make_grant(db);
  }
  done(grant);
}

void TestGate::release_lease(base::DatabaseId, base::LeaseId, base::LogId) {
  base::MutexLock lock(mutex_);
  ++releases_;
}

bool TestGate::await_waiting() {
  const base::Micros deadline = base::posix_env().now() + kDeadline;
  base::MutexLock lock(mutex_);
  while (waiting_.empty())
    if (!changed_.wait_until(mutex_, deadline)) return !waiting_.empty();
  return true;
}

void TestGate::grant_waiting() {
  std::vector<std::pair<vfs::Grant, std::function<void(base::Result<vfs::Grant>)>>> ready;
  {
    base::MutexLock lock(mutex_);
    for (auto& [db, done] : waiting_) ready.emplace_back(make_grant(db), std::move(done));
    waiting_.clear();
  }
  for (auto& [grant, done] : ready) loop_->post([grant = grant, done = std::move(done)] { done(grant); });
}

base::LogId TestGate::append(pages::Tx tx, std::function<void(base::Status)> done) {
  Database* const database = by_id(tx.header.db);
  const base::LogId id{base::Term(1), base::Index(++index_)};
  tx.header.origin = {base::Incarnation(7), 1, ++sequence_};
  database->last = id;
  pages::PublishJob job;
  job.id = id;
  job.header = tx.header;
  job.payload = base::share(pages::encode(tx));
  database->committed.push_back(std::move(tx));
  database->queue.emplace_back(std::move(job), std::move(done));
  loop_->post([this, db = database->id] { publish_next(db); });
  return id;
}

void TestGate::publish_next(base::DatabaseId id) {
  pages::PublishJob job;
  std::function<void(base::Status)> done;
  pages::DatabaseImage* image = nullptr;
  {
    base::MutexLock lock(mutex_);
    Database* const database = by_id(id);
    if (database == nullptr || database->publishing || database->queue.empty()) return;
    database->publishing = true;
    job = std::move(database->queue.front().first);
    done = std::move(database->queue.front().second);
    database->queue.pop_front();
    image = database->image.get();
  }
  image->publish(std::move(job), [this, id, done = std::move(done)](base::Status status) {
    if (!status && status.error().code != base::Code::kStopped) ADD_FAILURE() << base::to_string(status.error());
    if (done) done(status);
    {
      base::MutexLock lock(mutex_);
      by_id(id)->publishing = false;
    }
    publish_next(id);
  });
}

void TestGate::submit(vfs::Submission submission, std::function<void(vfs::Outcome)> done) {
  Decide decide;
  {
    base::MutexLock lock(mutex_);
    decide = decide_;
  }
  if (before_decision) before_decision();
  std::optional<vfs::Outcome> refused = decide ? decide(submission.tx) : std::nullopt;
  vfs::Outcome outcome;
  if (refused) {
    outcome = std::move(*refused);
  } else {
    base::MutexLock lock(mutex_);
    Database* const database = by_id(submission.tx.header.db);
    EXPECT_EQ(submission.tx.header.parent, database->last);
    const std::uint64_t digest =
        database->committed.empty() ? database->create.digest_after : database->committed.back().header.digest_after;
    EXPECT_EQ(submission.tx.header.digest_before, digest);
    outcome.kind = vfs::OutcomeKind::kCommitted;
    outcome.id = append(std::move(submission.tx), {});
  }
  loop_->post([done = std::move(done), outcome = std::move(outcome)] { done(outcome); });
}

void TestGate::create_database(pages::CreateDatabase create, base::Micros,
                               std::function<void(base::Result<base::DatabaseId>)> done) {
  apply_->post([this, create = std::move(create), done = std::move(done)] {
    base::LogId id;
    {
      base::MutexLock lock(mutex_);
      id = {base::Term(1), base::Index(++index_)};
    }
    auto image = images_->create(create, id);
    if (!image) return done(image.error());
    base::MutexLock lock(mutex_);
    auto database = std::make_unique<Database>();
    database->name = create.name;
    database->id = base::DatabaseId(id.index.value);
    database->image = std::move(*image);
    database->create = create;
    database->last = id;
    databases_[id.index.value] = std::move(database);
    loop_->post([done, id] { done(base::DatabaseId(id.index.value)); });
  });
}

void TestGate::barrier(base::Micros, std::function<void(base::Result<base::Index>)> done) {
  base::MutexLock lock(mutex_);
  loop_->post([done = std::move(done), index = index_] { done(base::Index(index)); });
}

void TestGate::decide(Decide decide) {
  base::MutexLock lock(mutex_);
  decide_ = std::move(decide);
}
void TestGate::fail_all(vfs::OutcomeKind kind, base::Code ours, const std::string& message) {
  decide([=](const pages::Tx&) {
    vfs::Outcome outcome;
    outcome.kind = kind;
    outcome.error = base::make_error(ours, message);
    return outcome;
  });
}
void TestGate::lease(Lease lease) {
  base::MutexLock lock(mutex_);
  lease_ = std::move(lease);
}
std::vector<pages::Tx> TestGate::committed(const std::string& name) {
  base::MutexLock lock(mutex_);
  return by_name(name)->committed;
}
int TestGate::grants() {
  base::MutexLock lock(mutex_);
  return grants_;
}
int TestGate::releases() {
  base::MutexLock lock(mutex_);
  return releases_;
}

PageArray TestGate::replay(const std::string& name) {
  base::MutexLock lock(mutex_);
  const Database* const database = by_name(name);
  PageArray pages;
  apply(pages, database->create.initial, database->create.page_size, database->create.size_after);
  for (const pages::Tx& tx : database->committed) {
    // As it travels: through the codec.
    auto decoded = pages::decode_tx(pages::encode(tx));
    EXPECT_TRUE(decoded);
    if (!decoded) return pages;
    apply(pages, decoded->patches, tx.header.page_size, tx.header.size_after);
  }
  return pages;
}

std::shared_ptr<std::optional<base::Status>> TestGate::foreign_commit(const std::string& name, const std::string& sql) {
  const PageArray before = replay(name);
  const std::uint32_t page_size = static_cast<std::uint32_t>(before.front().size());
  testing_base::TempDir dir;
  const std::string path = dir / "other.db";
  {
    const base::Bytes bytes = joined(before);
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    Db other("file:" + path);
    EXPECT_EQ(other.exec(sql), SQLITE_OK) << other.message();
  }
  const base::Bytes after = read_bytes(path);
  pages::Tx tx;
  const auto size_after = static_cast<pages::PageNo>(after.size() / page_size);
  std::uint64_t digest = 0;
  for (pages::PageNo page = 1; page <= size_after; ++page) {
    const base::ByteView image = base::ByteView(after).subspan(std::size_t{page - 1} * page_size, page_size);
    digest ^= pages::page_hash(page, image);
    const base::ByteView old = page <= before.size() ? base::ByteView(before[page - 1]) : base::ByteView();
    pages::Patch patch = pages::make_patch(page, old, image);
    if (patch.kind != pages::PatchKind::kRuns || !patch.body.empty()) tx.patches.push_back(std::move(patch));
  }
  auto result = std::make_shared<std::optional<base::Status>>();
  base::MutexLock lock(mutex_);
  Database* const database = by_name(name);
  pages::TxHeader& header = tx.header;
  header.db = database->id;
  header.parent = database->last;
  header.digest_before =
      database->committed.empty() ? database->create.digest_after : database->committed.back().header.digest_after;
  header.digest_after = digest;
  header.page_size = page_size;
  header.size_after = size_after;
  header.patch_count = static_cast<std::uint32_t>(tx.patches.size());
  append(std::move(tx), [result](base::Status status) { *result = std::move(status); });
  return result;
}

// --- World ------------------------------------------------------------------------------------------------------------

World::World(std::uint64_t node_id) : id_(node_id) {
  register_once();
  old_dir_ = std::filesystem::current_path();
  std::filesystem::current_path(dir_.path());
  data_dir_ = std::filesystem::canonical(dir_.path()).string() + "/data";
  std::filesystem::create_directories(data_dir_ + "/db");
  loop_ = base::ThreadLane::start("test-loop");
  apply_ = base::ThreadLane::start("test-apply");
  maintenance_ = base::ThreadLane::start("test-maint");
  vfs::DatabaseParams params;
  params.env = &base::posix_env();
  params.gate = &gate_;
  params.loop = loop_.get();
  params.apply = apply_.get();
  params.maintenance = maintenance_.get();
  params.dir = data_dir_ + "/db";
  images_ = vfs::Images::make(params);
  gate_.loop_ = loop_.get();
  gate_.apply_ = apply_.get();
  gate_.images_ = images_.get();
  vfs::NodeBinding binding;
  binding.id = id_;
  binding.data_dir = data_dir_;
  binding.gate = &gate_;
  binding.find = [this](const std::string& name) { return images_->find(name); };
  vfs::bind_node(std::move(binding));
}

World::~World() {
  if (!stopped_) {
    unbind();
    images_->close_all();
    loop_->stop();
    apply_->stop();
    maintenance_->stop();
  }
  {
    base::MutexLock lock(gate_.mutex_);
    gate_.databases_.clear();
  }
  images_.reset();
  std::filesystem::current_path(old_dir_);
}

vfs::Database& World::database(const std::string& name) {
  vfs::Database* const found = images_->find(name);
  CHECK(found != nullptr);
  return *found;
}

void World::settle() {
  const base::Micros deadline = base::posix_env().now() + kDeadline;
  while (base::posix_env().now() < deadline) {
    bool idle = true;
    {
      base::MutexLock lock(gate_.mutex_);
      for (auto& [id, database] : gate_.databases_) idle = idle && database->queue.empty() && !database->publishing;
    }
    if (idle) return;
    ::usleep(500);  // tidy: allow(sleep) the poll interval of the one place that waits for the lanes to be idle
  }
  FAIL() << "transactions are not published";
}

void World::drop(const std::string& name) {
  settle();
  std::unique_ptr<TestGate::Database> gone;
  {
    base::MutexLock lock(gate_.mutex_);
    const auto at = gate_.databases_.find(gate_.by_name(name)->id.value);
    gone = std::move(at->second);
    gate_.databases_.erase(at);
  }
  std::promise<base::Status> outcome;
  gone->image->drop([&outcome](base::Status status) { outcome.set_value(std::move(status)); });
  EXPECT_TRUE(outcome.get_future().get());
}

void World::unbind() {
  if (bound_) vfs::unbind_node(id_);
  bound_ = false;
}

base::Bytes World::stop_and_read(const std::string& name) {
  settle();
  unbind();
  images_->close_all();
  loop_->stop();
  apply_->stop();
  maintenance_->stop();
  stopped_ = true;
  return read_bytes(path(name));
}

void World::expect_replay_equals_file(const std::string& name) {
  settle();
  const pages::ImageStatus status = database(name).status();
  EXPECT_EQ(status.state, pages::ImageState::kOk);
  const base::Bytes replayed = joined(gate_.replay(name));
  const base::Bytes file = stop_and_read(name);
  ASSERT_EQ(file.size(), replayed.size());
  EXPECT_TRUE(file == replayed) << "the file differs from the replayed entries";
}

}  // namespace shim_test

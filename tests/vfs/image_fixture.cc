// See image_fixture.h. Test threads.
#include "tests/vfs/image_fixture.h"

#include <stdio.h>
#include <stdlib.h>

#include <algorithm>
#include <fstream>
#include <future>

#include "base/check.h"

namespace image_test {

unsigned test_scale() {
  const char* text = std::getenv("HQL_TEST_SCALE");
  const std::string value = text == nullptr ? "ci" : text;
  return value == "night" ? 50 : value == "hour" ? 8 : 1;
}

TempDir::TempDir() {
  std::string pattern = (std::filesystem::temp_directory_path() / "hql-image-XXXXXX").string();
  CHECK(::mkdtemp(pattern.data()) != nullptr);
  path_ = pattern;
}
TempDir::~TempDir() { std::filesystem::remove_all(path_); }

Plain::Plain(const std::string& path, int flags) {
  CHECK(sqlite3_open_v2(path.c_str(), &db_, flags, "unix") == SQLITE_OK);
  sqlite3_busy_timeout(db_, 5000);
}
Plain::~Plain() { sqlite3_close(db_); }

int Plain::exec(const std::string& sql) { return sqlite3_exec(db_, sql.c_str(), nullptr, nullptr, nullptr); }

std::string Plain::value(const std::string& sql) {
  sqlite3_stmt* statement = nullptr;
  if (sqlite3_prepare_v2(db_, sql.c_str(), -1, &statement, nullptr) != SQLITE_OK)
    return std::string("error: ") + sqlite3_errmsg(db_);
  std::string result;
  const int rc = sqlite3_step(statement);
  if (rc == SQLITE_ROW) {
    const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(statement, 0));
    result = text == nullptr ? "" : text;
  } else if (rc != SQLITE_DONE) {
    result = std::string("error: ") + sqlite3_errmsg(db_);
  }
  sqlite3_finalize(statement);
  return result;
}

base::Bytes Plain::serialize() {
  sqlite3_int64 size = 0;
  unsigned char* raw = sqlite3_serialize(db_, "main", &size, 0);
  if (raw == nullptr) return {};
  base::Bytes bytes(static_cast<std::size_t>(size));
  std::memcpy(bytes.data(), raw, bytes.size());
  sqlite3_free(raw);
  return bytes;
}

std::string shell(const std::string& command) {
  FILE* pipe = ::popen((command + " 2>&1").c_str(), "r");
  CHECK(pipe != nullptr);
  std::string text;
  char chunk[4096];
  for (std::size_t got; (got = std::fread(chunk, 1, sizeof chunk, pipe)) > 0;) text.append(chunk, got);
  ::pclose(pipe);
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

base::Bytes joined(const Image& image) {
  base::Bytes bytes;
  for (const base::Bytes& page : image) bytes.insert(bytes.end(), page.begin(), page.end());
  return bytes;
}

// --- Source -----------------------------------------------------------------------------------------------------------------

Source::Source(std::uint32_t page_size)
    : page_size_(page_size), path_(dir_.path() + "/source.db"), plain_(path_), sums_(page_size) {
  CHECK(plain_.exec("PRAGMA page_size=" + std::to_string(page_size)) == SQLITE_OK);
  CHECK(plain_.value("PRAGMA journal_mode=WAL") == "wal");
  CHECK(plain_.exec("PRAGMA synchronous=OFF; PRAGMA wal_autocheckpoint=0; PRAGMA user_version=1; PRAGMA "
                    "wal_checkpoint(TRUNCATE)") == SQLITE_OK);
  image_ = read_file();
  for (std::size_t i = 0; i < image_.size(); ++i) {
    const auto page = static_cast<pages::PageNo>(i + 1);
    sums_.set(page, pages::page_hash(page, image_[i]));
  }
  images_.push_back(joined(image_));
}

Image Source::read_file() const {
  std::ifstream file(path_, std::ios::binary);
  Image image;
  base::Bytes page(page_size_);
  while (file.read(reinterpret_cast<char*>(page.data()), static_cast<std::streamsize>(page.size())))
    image.push_back(page);
  return image;
}

// Of the WAL, which holds one transaction between two truncating checkpoints.
std::vector<pages::PageNo> Source::framed_pages() const {
  std::ifstream file(path_ + "-wal", std::ios::binary);
  std::vector<pages::PageNo> pages;
  base::Bytes page(4);
  for (std::streamoff at = 32; file.seekg(at) && file.read(reinterpret_cast<char*>(page.data()), 4);
       at += 24 + page_size_)
    pages.push_back(base::load_be32(page.data()));
  return pages;
}

pages::CreateDatabase Source::create() const {
  CHECK(history_.empty());
  pages::CreateDatabase create;
  create.name = "app.db";
  create.page_size = page_size_;
  create.size_after = static_cast<pages::PageNo>(image_.size());
  create.digest_after = sums_.digest();
  for (std::size_t i = 0; i < image_.size(); ++i)
    create.initial.push_back(pages::make_patch(static_cast<pages::PageNo>(i + 1), {}, image_[i]));
  return create;
}

pages::Tx Source::diff(const std::string& sql) {
  const int rc = plain_.exec(sql);
  CHECK(rc == SQLITE_OK);
  const std::vector<pages::PageNo> framed = every_frame_ ? framed_pages() : std::vector<pages::PageNo>{};
  CHECK(plain_.exec("PRAGMA wal_checkpoint(TRUNCATE)") == SQLITE_OK);
  const Image after = read_file();
  pages::Tx tx;
  tx.header.db = base::DatabaseId(1);
  tx.header.parent = last_;
  tx.header.digest_before = sums_.digest();
  tx.header.page_size = page_size_;
  tx.header.size_after = static_cast<pages::PageNo>(after.size());
  tx.header.origin = {base::Incarnation(1), 1, last_.index.value};
  pages::RedoCandidate candidate;
  sums_.resize(tx.header.size_after);
  for (std::size_t i = 0; i < after.size(); ++i) {
    const auto page = static_cast<pages::PageNo>(i + 1);
    const bool existed = i < image_.size();
    if (existed && image_[i] == after[i] && std::find(framed.begin(), framed.end(), page) == framed.end()) continue;
    tx.patches.push_back(pages::make_patch(page, existed ? base::ByteView(image_[i]) : base::ByteView(), after[i]));
    sums_.set(page, pages::page_hash(page, after[i]));
    candidate.touched.push_back(page);
  }
  tx.header.digest_after = sums_.digest();
  tx.header.patch_count = static_cast<std::uint32_t>(tx.patches.size());
  image_ = after;
  last_.index = last_.index.next();
  candidate.id = last_;
  candidate.digest_after = tx.header.digest_after;
  candidate.size_after = tx.header.size_after;
  history_.push_back(std::move(candidate));
  if (keep_images_) {
    images_.resize(last_.index.value);
    images_.back() = joined(image_);
  }
  return tx;
}

pages::PublishJob Source::finish(pages::Tx tx, std::vector<pages::TxPart> parts) {
  pages::PublishJob job;
  job.id = last_;
  tx.header.part_count = static_cast<std::uint32_t>(parts.size());
  job.header = tx.header;
  job.payload = base::share(pages::encode(tx));
  for (const pages::TxPart& part : parts) job.parts.push_back(base::share(pages::encode(part)));
  return job;
}

pages::PublishJob Source::transact(const std::string& sql) { return finish(diff(sql), {}); }

pages::PublishJob Source::transact_chain(const std::string& sql, std::uint32_t count) {
  pages::Tx tx = diff(sql);
  std::vector<pages::TxPart> parts(count);
  const std::size_t share = tx.patches.size() / (count + 1);
  CHECK(share > 0);
  for (std::uint32_t i = 0; i < count; ++i) {
    parts[i].db = tx.header.db;
    parts[i].origin = tx.header.origin;
    parts[i].number = i;
    const auto end = tx.patches.begin() + static_cast<std::ptrdiff_t>(share);
    parts[i].patches.assign(tx.patches.begin(), end);
    tx.patches.erase(tx.patches.begin(), end);
  }
  return finish(std::move(tx), std::move(parts));
}

base::Bytes Source::bytes_at(base::Index index) const {
  CHECK(keep_images_);
  return images_[index.value - 1];
}

// --- Node -------------------------------------------------------------------------------------------------------------------

Node::Node(const std::string& dir, std::uint32_t page_size)
    : dir_(dir),
      page_size_(page_size),
      loop_(base::ThreadLane::start("loop")),
      apply_(base::ThreadLane::start("apply")),
      maintenance_(base::ThreadLane::start("maintenance")) {}

Node::~Node() {
  database_.reset();
  maintenance_->stop();
  apply_->stop();
  loop_->stop();
}

vfs::DatabaseParams Node::params() const {
  vfs::DatabaseParams params;
  params.env = &base::posix_env();
  params.loop = loop_.get();
  params.apply = apply_.get();
  params.maintenance = maintenance_.get();
  params.dir = dir_;
  params.name = "app.db";
  params.id = base::DatabaseId(1);
  params.page_size = page_size_;
  return params;
}

base::Status Node::create(const pages::CreateDatabase& create) {
  auto database = vfs::Database::create(params(), {base::Term(1), base::Index(1)}, create);
  if (!database) return database.error();
  database_ = std::move(*database);
  return base::ok();
}

base::Status Node::open(const std::vector<pages::RedoCandidate>& candidates, const pages::Adopt& adopt) {
  auto database = vfs::Database::open(params(), candidates, adopt);
  if (!database) return database.error();
  database_ = std::move(*database);
  return base::ok();
}

base::Status Node::publish(const pages::PublishJob& job) {
  std::promise<base::Status> outcome;
  database_->publish(job, [&](base::Status status) { outcome.set_value(std::move(status)); });
  return outcome.get_future().get();
}

base::Result<base::LogId> Node::sync_point() {
  std::promise<base::Result<base::LogId>> outcome;
  database_->sync_point([&](base::Result<base::LogId> result) { outcome.set_value(std::move(result)); });
  return outcome.get_future().get();
}

base::Status Node::checkpoint() {
  std::promise<base::Status> outcome;
  database_->checkpoint([&](base::Status status) { outcome.set_value(std::move(status)); });
  return outcome.get_future().get();
}

void Node::close(base::Micros deadline) {
  database_->close(deadline);
  database_.reset();
}

}  // namespace image_test

// The simulated database (sim_image.h).
#include "tests/sim/sim_image.h"

#include <algorithm>
#include <utility>

#include "base/checksum.h"

namespace sim {
namespace {

using base::Code;
using base::LogId;
using base::Result;
using base::Status;
using pages::PageNo;
using vfs::Outcome;
using vfs::OutcomeKind;

constexpr std::size_t kFileMax = std::size_t{64} << 20;

void write_log_id(base::Writer& out, LogId id) {
  out.u64(id.term.value);
  out.u64(id.index.value);
}
LogId read_log_id(base::Reader& in) {
  const base::Term term{in.u64()};
  return {term, base::Index{in.u64()}};
}
// length | crc | body
base::Bytes framed(const base::Bytes& body) {
  base::Writer out;
  out.u32(static_cast<std::uint32_t>(body.size()));
  out.u32(base::crc32c(body));
  out.raw(body);
  return out.take();
}
std::optional<base::ByteView> unframe(base::ByteView bytes, std::size_t at) {
  if (bytes.size() < at + 8) return std::nullopt;
  const std::size_t size = base::load_u32(&bytes[at]);
  if (size == 0 || bytes.size() - at - 8 < size) return std::nullopt;
  const base::ByteView body = bytes.subspan(at + 8, size);
  if (base::crc32c(body) != base::load_u32(&bytes[at + 4])) return std::nullopt;
  return body;
}
struct Base {
  base::DatabaseId id;
  LogId applied;
  std::map<PageNo, base::Bytes> pages;
};
Result<Base> read_base(base::Env& env, const std::string& path, std::uint32_t page_size) {
  HQL_ASSIGN(bytes, base::read_file(env, path, kFileMax));
  const auto body = unframe(bytes, 0);
  if (!body) return base::make_error(Code::kCorrupt, path + ": wrong checksum");
  base::Reader in(*body);
  Base out;
  out.id = base::DatabaseId{in.u64()};
  out.applied = read_log_id(in);
  const std::uint32_t count = in.u32();
  for (PageNo page = 1; page <= count && in.ok() && page_size != 0; ++page)
    out.pages[page] = base::copy_of(in.raw(page_size));
  return out;
}

}  // namespace

SimImage::SimImage(const ImageParts& parts, vfs::Gate*& gate, std::string name, base::DatabaseId id,
                   std::uint32_t page_size)
    : parts_(parts),
      gate_(gate),
      name_(std::move(name)),
      id_(id),
      page_size_(page_size),
      random_(parts.seed ^ base::mix64(id.value)) {}

std::uint64_t SimImage::digest_of(const Pages& content) const {
  std::uint64_t digest = 0;
  for (const auto& [page, image] : content) digest ^= pages::page_hash(page, image);
  return digest;
}

void SimImage::show(LogId id) {
  applied_ = id;
  digest_ = digest_of(pages_);
  if (parts_.published) parts_.published(id_, applied_, digest_);
}

Status SimImage::write_base() {
  base::Writer out;
  out.u64(id_.value);
  write_log_id(out, applied_);
  out.u32(static_cast<std::uint32_t>(pages_.size()));
  for (const auto& [page, image] : pages_) out.raw(image);
  const LogId at = applied_;
  HQL_TRY(base::write_file_atomic(*parts_.env, parts_.dir, name_ + ".base", framed(out.take())));
  base_ = at;
  return base::ok();
}

Status SimImage::initialise(const pages::CreateDatabase& create, LogId id) {
  for (const pages::Patch& patch : create.initial) {
    base::Bytes image(page_size_);
    HQL_TRY(pages::apply_patch(patch, image));
    pages_[patch.page] = std::move(image);
  }
  if (digest_of(pages_) != create.digest_after)
    return base::make_error(Code::kDiverged, "the first pages have another digest");
  HQL_ASSIGN(file, parts_.env->open(parts_.dir + "/" + name_ + ".wal", base::OpenMode::kCreate));
  wal_ = std::move(file);
  HQL_TRY(wal_->truncate(0));
  applied_ = id;
  HQL_TRY(write_base());
  show(id);
  return base::ok();
}

Status SimImage::recover(const std::vector<pages::RedoCandidate>& candidates, const pages::Adopt& adopt) {
  HQL_ASSIGN(base, read_base(*parts_.env, parts_.dir + "/" + name_ + ".base", page_size_));
  pages_ = std::move(base.pages);
  base_ = base.applied;
  HQL_ASSIGN(file, parts_.env->open(parts_.dir + "/" + name_ + ".wal", base::OpenMode::kCreate));
  wal_ = std::move(file);
  HQL_ASSIGN(size, wal_->size());
  base::Bytes bytes(size);
  HQL_ASSIGN(got, wal_->read(0, bytes));
  bytes.resize(got);
  // As SQLite does: what is whole counts, up to the first frame that is not. The ids in the file are not trusted for the position.
  LogId last = base_;
  while (const auto body = unframe(bytes, wal_end_)) {
    base::Reader in(*body);
    const LogId id = read_log_id(in);
    const LogId previous = read_log_id(in);
    const PageNo size_after = in.u32();
    const std::uint32_t count = in.u32();
    std::map<PageNo, base::Bytes> changed;
    for (std::uint32_t i = 0; i < count && in.ok(); ++i) {
      const PageNo page = in.u32();
      changed[page] = base::copy_of(in.raw(page_size_));
    }
    if (!in.at_end() || (id.index > last.index && previous != last)) break;
    wal_end_ += 8 + body->size();
    if (id.index <= last.index) continue;
    last = id;
    for (auto& [page, image] : changed) pages_[page] = std::move(image);
    pages_.erase(pages_.upper_bound(size_after), pages_.end());
  }
  HQL_TRY(wal_->truncate(wal_end_));
  const std::uint64_t digest = digest_of(pages_);
  const std::uint64_t base_digest =
      digest_of(read_base(*parts_.env, parts_.dir + "/" + name_ + ".base", page_size_)->pages);
  LogId position;
  if (digest == base_digest) position = base_;
  for (const pages::RedoCandidate& candidate : candidates)
    if (position == LogId{} && candidate.digest_after == digest) position = candidate.id;
  if (position == LogId{}) {
    if (!adopt)
      return base::make_error(Code::kForeignWrite, "database " + name_ + " matches no transaction of the log");
    pages::AheadOfLog content{digest, pages_.rbegin()->first, {}, {}};
    for (const auto& [page, image] : pages_) content.changed.push_back(page);
    content.read = [this](PageNo page, base::MutableByteView out) {
      std::copy(pages_.at(page).begin(), pages_.at(page).end(), out.begin());
      return base::ok();
    };
    HQL_ASSIGN(adopted, adopt(content));
    show(adopted);
    // The ids in `.wal` are those of entries that the log has lost; what follows must not be taken for theirs.
    HQL_TRY(write_base());
    HQL_TRY(wal_->truncate(0));
    wal_end_ = 0;
    return base::ok();
  }
  show(position);
  return base::ok();
}

Status SimImage::append_wal(LogId id, const Pages& changed, PageNo size) {
  base::Writer out;
  write_log_id(out, id);
  write_log_id(out, applied_);
  out.u32(size);
  out.u32(static_cast<std::uint32_t>(changed.size()));
  for (const auto& [page, image] : changed) {
    out.u32(page);
    out.raw(image);
  }
  const base::Bytes bytes = framed(out.take());
  HQL_TRY(wal_->write(wal_end_, bytes));
  wal_end_ += bytes.size();
  return base::ok();
}

// --- publishing ------------------------------------------------------------------------------------------------------------

void SimImage::publish(pages::PublishJob job, std::function<void(Status)> done) {
  CHECK(!job_);
  job_ = std::move(job);
  job_done_ = std::move(done);
  try_publish();
}

void SimImage::try_publish() {
  if (!job_ || applying_) return;
  if (writer_) {
    // A foreign transaction dooms the local one; either way the job waits for the unlock (R4).
    if (!writer_->submitted) doom_local_writer(base::make_error(Code::kLeaseLost, "another transaction came first"));
    return;
  }
  applying_ = true;
  parts_.apply->post([this] { publish_now(); });
}

void SimImage::publish_now() {
  const pages::PublishJob job = std::move(*job_);
  job_.reset();
  Status status;
  const auto apply = [this, &job]() -> Status {
    if (applied_.index >= job.id.index) return base::ok();  // the local writer has published it
    if (digest_ != job.header.digest_before) return base::make_error(Code::kDiverged, "the old image differs");
    Pages next = pages_;
    Pages changed;
    std::vector<pages::Patch> patches;
    for (const base::SharedBytes& payload : job.parts) {
      HQL_ASSIGN(part, pages::decode_tx_part(*payload));
      patches.insert(patches.end(), part.patches.begin(), part.patches.end());
    }
    HQL_ASSIGN(tx, pages::decode_tx(*job.payload));
    patches.insert(patches.end(), tx.patches.begin(), tx.patches.end());
    for (const pages::Patch& patch : patches) {
      base::Bytes& image = next[patch.page];
      image.resize(page_size_);
      HQL_TRY(pages::apply_patch(patch, image));
      changed[patch.page] = image;
    }
    next.erase(next.upper_bound(job.header.size_after), next.end());
    if (digest_of(next) != job.header.digest_after) return base::make_error(Code::kDiverged, "digest after differs");
    HQL_TRY(append_wal(job.id, changed, job.header.size_after));
    pages_ = std::move(next);
    show(job.id);
    return base::ok();
  };
  status = apply();
  applying_ = false;
  parts_.loop->post([status, done = std::move(job_done_)] { done(status); });
  wake_waiters();
}

void SimImage::sync_point(std::function<void(Result<LogId>)> done) {
  parts_.maintenance->post([this, done = std::move(done)]() mutable {
    if (gate_ != nullptr && !gate_->log_synced() && parts_.breach)
      parts_.breach("a sync point of " + name_ + " while the log is not synced");
    Status status = dropped_ ? Status(base::make_error(Code::kDropped, name_)) : write_base();
    // The records up to the base are no longer needed; a crash in between finds them again and skips them.
    if (status && applied_ == base_) {
      status = wal_->truncate(0);
      if (status) wal_end_ = 0;
    }
    Result<LogId> result = status ? Result<LogId>(base_) : Result<LogId>(status.error());
    parts_.loop->post([result, done = std::move(done)] { done(result); });
  });
}

void SimImage::checkpoint(std::function<void(Status)> done) {
  parts_.maintenance->post(
      [this, done = std::move(done)]() mutable { parts_.loop->post([done = std::move(done)] { done(base::ok()); }); });
}

void SimImage::doom_local_writer(const base::Error& reason) {
  if (!writer_ || writer_->submitted) return;
  if (!writer_->doomed) writer_->doomed_since = parts_.env->now();
  writer_->doomed = reason;
}

bool SimImage::doom_overdue_writer(const pages::Overdue& overdue, const base::Error& reason) {
  if (!writer_ || writer_->submitted || writer_->doomed || writer_->executor) return false;
  if (writer_->since >= overdue.began_before || (!overdue.lease_is_wanted && waiting_.empty())) return false;
  doom_local_writer(reason);
  return true;
}

void SimImage::interrupt_executor() {
  if (writer_ && writer_->executor) doom_local_writer(base::make_error(Code::kInterrupted, "interrupted"));
}

void SimImage::drop(std::function<void(Status)> done) {
  dropped_ = true;
  parts_.apply->post([this, done = std::move(done)]() mutable {
    wal_.reset();
    Status status = parts_.env->remove(parts_.dir + "/" + name_ + ".base");
    if (status) status = parts_.env->remove(parts_.dir + "/" + name_ + ".wal");
    if (status) status = parts_.env->sync_dir(parts_.dir);
    parts_.loop->post([status, done = std::move(done)] { done(status); });
  });
}

pages::ImageStatus SimImage::status() {
  pages::ImageStatus out;
  out.state = dropped_ ? pages::ImageState::kDropped : pages::ImageState::kOk;
  out.path = parts_.dir + "/" + name_;
  out.applied = applied_;
  out.base = base_;
  out.digest = digest_;
  out.page_count = static_cast<PageNo>(pages_.size());
  if (writer_) out.writer = writer_->executor ? "executor" : "local connection";
  if (writer_ && writer_->doomed) out.doomed_since = writer_->doomed_since;
  return out;
}

std::vector<std::uint64_t> SimImage::operations() const {
  std::vector<std::uint64_t> out;
  for (const auto& [page, image] : pages_) {
    if (page == 1) continue;
    for (std::size_t i = 0; i < ids_per_page(); ++i)
      if (const std::uint64_t op = base::load_u64(&image[i * 8]); op != 0) out.push_back(op);
  }
  return out;
}

// --- local transactions --------------------------------------------------------------------------------------------------------

void SimImage::transact(std::vector<std::uint64_t> ops, std::vector<pages::RequestRecord> requests, bool executor,
                        base::Micros deadline, std::function<void(LocalResult)> done) {
  auto transaction = std::make_shared<Transaction>();
  transaction->ops = std::move(ops);
  transaction->requests = std::move(requests);
  transaction->executor = executor;
  transaction->deadline = deadline;
  transaction->done = std::move(done);
  gate_->acquire_lease(id_, [this, transaction](Result<vfs::Grant> grant) {
    parts_.sql->post([this, transaction, grant] {
      if (!grant) {
        transaction->result.outcome = {OutcomeKind::kNotApplied, {}, grant.error()};
        transaction->done(transaction->result);
        return;
      }
      transaction->grant = *grant;
      wait_for_writer(transaction);
    });
  });
}

void SimImage::wait_for_writer(TransactionPtr transaction) {
  if (dropped_) {
    end(transaction, {OutcomeKind::kNotApplied, {}, base::make_error(Code::kDropped, name_)});
    return;
  }
  if (!writer_ && !applying_ && !job_ && applied_.index >= transaction->grant.apply_through.index) {
    begin_write(std::move(transaction));
    return;
  }
  waiting_.push_back(transaction);
  parts_.sql->post_at(transaction->deadline, [this, transaction] {
    const auto it = std::find(waiting_.begin(), waiting_.end(), transaction);
    if (it == waiting_.end()) return;
    waiting_.erase(it);
    end(transaction,
        {OutcomeKind::kNotApplied, {}, base::make_error(Code::kTimeout, "the database did not catch up in time")});
  });
}

void SimImage::wake_waiters() {
  if (waiting_.empty()) return;
  parts_.sql->post([this] {
    for (TransactionPtr& transaction : std::exchange(waiting_, {})) wait_for_writer(std::move(transaction));
  });
}

void SimImage::begin_write(TransactionPtr transaction) {
  writer_ = Writer{transaction->executor, false, parts_.env->now(), std::nullopt, 0};
  transaction->result.snapshot = applied_;
  transaction->result.count = operations().size();
  base::Micros think = static_cast<base::Micros>(random_.below(static_cast<std::uint64_t>(parts_.think_max) + 1));
  if (think_ > 0 && !transaction->executor) think = think_;
  parts_.sql->post_at(parts_.env->now() + think, [this, transaction] { commit(transaction); });
}

void SimImage::commit(TransactionPtr transaction) {
  const auto unlock = [this] {
    writer_.reset();
    try_publish();
    wake_waiters();
  };
  if (writer_->doomed || transaction->ops.empty()) {
    Outcome outcome{OutcomeKind::kNotApplied, {}, writer_->doomed ? *writer_->doomed : base::Error{}};
    unlock();
    end(transaction, std::move(outcome));
    return;
  }
  Pages next = pages_;
  std::size_t at = transaction->result.count;
  for (const std::uint64_t op : transaction->ops) {
    base::Bytes& image = next[static_cast<PageNo>(2 + at / ids_per_page())];
    image.resize(page_size_);
    base::store_u64(&image[at % ids_per_page() * 8], op);
    ++at;
  }
  vfs::Submission submission;
  submission.deadline = transaction->deadline;
  pages::Tx& tx = submission.tx;
  auto changed = std::make_shared<Pages>();  // shared with the outcome's callback
  for (const auto& [page, image] : next) {
    const auto before = pages_.find(page);
    if (before != pages_.end() && before->second == image) continue;
    (*changed)[page] = image;
    tx.patches.push_back(
        pages::make_patch(page, before == pages_.end() ? base::ByteView() : base::ByteView(before->second), image));
  }
  tx.header.db = id_;
  tx.header.parent = applied_;
  tx.header.digest_before = digest_;
  tx.header.digest_after = digest_of(next);
  tx.header.lease_term = transaction->grant.term;
  tx.header.lease = transaction->grant.lease;
  tx.header.page_size = page_size_;
  tx.header.size_after = next.rbegin()->first;
  tx.header.patch_count = static_cast<std::uint32_t>(tx.patches.size());
  tx.header.request_count = static_cast<std::uint32_t>(transaction->requests.size());
  tx.requests = transaction->requests;
  transaction->result.changed = true;
  writer_->submitted = true;
  gate_->submit(std::move(submission), [this, transaction, changed, unlock](Outcome outcome) {
    parts_.sql->post([this, transaction, changed, unlock, outcome] {
      if (outcome.kind == OutcomeKind::kCommitted) {
        // As after a failed write of SQLite: the transaction is committed all the same, the applier publishes it.
        if (append_wal(outcome.id, *changed, std::max(pages_.rbegin()->first, changed->rbegin()->first))) {
          for (const auto& [page, image] : *changed) pages_[page] = image;
          show(outcome.id);
        }
      }
      unlock();
      end(transaction, outcome);
    });
  });
}

void SimImage::end(const TransactionPtr& transaction, Outcome outcome) {
  gate_->release_lease(id_, transaction->grant.lease, outcome.kind == OutcomeKind::kCommitted ? outcome.id : LogId{});
  transaction->result.outcome = std::move(outcome);
  transaction->done(transaction->result);
}

// --- the factory ---------------------------------------------------------------------------------------------------------------

namespace {

// What the node owns; the image itself lives as long as its factory, since steps of local transactions may be queued.
class Handle final : public pages::DatabaseImage {
 public:
  explicit Handle(SimImage& image) : image_(image) {}
  void publish(pages::PublishJob job, std::function<void(Status)> done) override {
    image_.publish(std::move(job), std::move(done));
  }
  void sync_point(std::function<void(Result<LogId>)> done) override { image_.sync_point(std::move(done)); }
  void checkpoint(std::function<void(Status)> done) override { image_.checkpoint(std::move(done)); }
  void doom_local_writer(const base::Error& reason) override { image_.doom_local_writer(reason); }
  bool doom_overdue_writer(const pages::Overdue& overdue, const base::Error& reason) override {
    return image_.doom_overdue_writer(overdue, reason);
  }
  void drop(std::function<void(Status)> done) override { image_.drop(std::move(done)); }
  pages::ImageStatus status() override { return image_.status(); }

 private:
  SimImage& image_;
};

}  // namespace

std::unique_ptr<pages::DatabaseImage> SimImages::keep(const std::string& name, std::unique_ptr<SimImage> image) {
  images_[name] = image.get();
  all_.push_back(std::move(image));
  return std::make_unique<Handle>(*all_.back());
}

Result<std::unique_ptr<pages::DatabaseImage>> SimImages::create(const pages::CreateDatabase& create, LogId id) {
  auto image =
      std::make_unique<SimImage>(parts_, gate_, create.name, base::DatabaseId{id.index.value}, create.page_size);
  HQL_TRY(image->initialise(create, id));
  return keep(create.name, std::move(image));
}

Result<std::unique_ptr<pages::DatabaseImage>> SimImages::open(const std::string& name, base::DatabaseId db,
                                                              std::uint32_t page_size,
                                                              const std::vector<pages::RedoCandidate>& candidates,
                                                              const pages::Adopt& adopt) {
  auto image = std::make_unique<SimImage>(parts_, gate_, name, db, page_size);
  HQL_TRY(image->recover(candidates, adopt));
  return keep(name, std::move(image));
}

Status SimImages::set_aside(const std::string& name, const std::string& suffix) {
  for (const char* part : {".base", ".wal"}) {
    const std::string path = parts_.dir + "/" + name + part;
    const Status moved = parts_.env->rename(path, path + suffix);
    if (!moved && moved.error().code != Code::kNotFound) return moved;
  }
  return parts_.env->sync_dir(parts_.dir);
}

Result<LogId> SimImages::recorded_base(const std::string& name) {
  HQL_ASSIGN(base, read_base(*parts_.env, parts_.dir + "/" + name + ".base", 0));
  return base.applied;
}

SimImage* SimImages::find(const std::string& name) const {
  const auto it = images_.find(name);
  return it == images_.end() || it->second->dropped() ? nullptr : it->second;
}

}  // namespace sim

// The applier: an effective transaction becomes visible in the SQLite files (DESIGN section 7, "Apply"). publish() on the loop lane decides
// who may go ahead; the work runs on the apply lane, which then holds WRITER.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

#include "base/check.h"
#include "base/fault.h"
#include "base/log.h"
#include "vfs/database_impl.h"

namespace vfs {
namespace {

base::Error diverged(const std::string& what) { return base::make_error(base::Code::kDiverged, what); }

// A chain may patch a page in several parts: the last one counts.
void keep_last_of_each(ChangedPages& changed) {
  std::stable_sort(changed.begin(), changed.end(),
                   [](const auto& left, const auto& right) { return left.first < right.first; });
  std::size_t kept = 0;
  for (std::size_t i = 0; i < changed.size(); ++i) {
    if (i + 1 < changed.size() && changed[i + 1].first == changed[i].first) continue;
    changed[kept++] = changed[i];
  }
  changed.resize(kept);
}

}  // namespace

void DatabaseImpl::publish(pages::PublishJob job, std::function<void(base::Status)> done) {
  const base::MutexLock lock(mutex_);
  if (const base::Status status = usable(); !status) {
    report<base::Status>(std::move(done), status);
    return;
  }
  if (job.id.index <= applied_.index) {  // by the connection that made it, or found by recovery
    report<base::Status>(std::move(done), base::ok());
    return;
  }
  CHECK(!parked_);
  if (holder_ != Holder::kNone) {
    if (holder_ == Holder::kConnection && !is_own(job.header) && !doomed_) {
      doom_writer(base::make_error(base::Code::kLeaseLost, "another node's transaction came first in " + params_.name));
    }
    parked_.emplace(Parked{std::move(job), std::move(done)});
    return;
  }
  holder_ = Holder::kApplier;
  auto parked = std::make_shared<Parked>(Parked{std::move(job), std::move(done)});
  post(params_.apply, [this, parked] { run_publish(*parked); });
}

void DatabaseImpl::run_publish(const Parked& parked) {
  base::Status status = apply(parked.job);
  if (!status) {
    const base::Error& error = status.error();
    const bool bytes_wrong = error.code == base::Code::kCorrupt || error.code == base::Code::kDiverged;
    status = named(bytes_wrong ? diverged(error.message) : error);
  }
  base::Lane* const loop = params_.loop;
  bool dropped = false;
  {
    const base::MutexLock lock(mutex_);
    dropped = state_ == pages::ImageState::kDropped;
    if (!status && status.error().code == base::Code::kDiverged)
      set_state(pages::ImageState::kDiverged, status.error().message);
    hand_over();
  }
  if (dropped) let_files_go();
  loop->post_and_help([done = parked.done, status = std::move(status)] { done(status); });
}

base::Status DatabaseImpl::apply(const pages::PublishJob& job) {
  const pages::TxHeader& header = job.header;
  pages::PageNo size_before = 0;
  {
    const base::MutexLock lock(mutex_);
    if (state_ == pages::ImageState::kDropped) return usable();
    if (job.id.index <= applied_.index) return base::ok();
    if (header.digest_before != sums_.digest())
      return diverged("the database's digest is " + base::hex16(sums_.digest()) + ", transaction " +
                      std::to_string(job.id.index.value) + " was made on " + base::hex16(header.digest_before));
    size_before = sums_.page_count();
  }
  if (header.page_size != params_.page_size)
    return diverged("a transaction has pages of " + std::to_string(header.page_size) + " bytes");
  if (job.parts.size() != header.part_count)
    return diverged("a chain of " + std::to_string(header.part_count) + " parts came with " +
                    std::to_string(job.parts.size()));
  HQL_ASSIGN(start, writable_header());
  WalAppender appender(wal_fd_, *index_, start, params_.page_size);
  base::Bytes image(params_.page_size);
  ChangedPages changed;
  const auto append_all = [&](const std::vector<pages::Patch>& patches) -> base::Status {
    for (const pages::Patch& patch : patches) {
      HQL_TRY(patch_page(patch, header.size_after, image));
      changed.emplace_back(patch.page, pages::page_hash(patch.page, image));
      HQL_TRY(appender.add(patch.page, image));
    }
    return base::ok();
  };
  for (std::size_t i = 0; i < job.parts.size(); ++i) {
    HQL_ASSIGN(part, pages::decode_tx_part(base::view_of(job.parts[i])));
    if (part.number != i || part.origin != header.origin)
      return diverged("part " + std::to_string(part.number) + " is out of place");
    HQL_TRY(append_all(part.patches));
  }
  HQL_ASSIGN(tx, pages::decode_tx(base::view_of(job.payload)));
  HQL_TRY(append_all(tx.patches));
  if (changed.size() != header.patch_count)
    return diverged("a transaction of " + std::to_string(header.patch_count) + " patches came with " +
                    std::to_string(changed.size()));
  if (!job.parts.empty()) keep_last_of_each(changed);
  {
    const base::MutexLock lock(mutex_);
    const std::uint64_t digest = digest_if(changed, header.size_after);
    if (digest != header.digest_after)
      return diverged("transaction " + std::to_string(job.id.index.value) + " gives digest " + base::hex16(digest) +
                      " instead of " + base::hex16(header.digest_after));
  }
  if (appender.frame_count() == 0 && header.size_after != size_before) {  // only cut off: the commit mark needs a frame
    HQL_TRY(read_committed(start, 1, image));
    HQL_TRY(appender.add(1, image));
  }
  if (appender.frame_count() > 0) {
    HQL_TRY(wal_room_.reserve(wal_fd_, frame_offset(appender.last_frame() + 1, params_.page_size)));
    HQL_TRY(appender.commit(header.size_after));
  }
  const base::MutexLock lock(mutex_);
  account(job.id, header.size_after, changed);
  return base::ok();
}

base::Status DatabaseImpl::patch_page(const pages::Patch& patch, pages::PageNo size_after,
                                      base::MutableByteView image) {
  if (patch.page > size_after)
    return diverged("page " + std::to_string(patch.page) + " lies beyond the end that its transaction leaves");
  if (patch.page == pages::lock_byte_page(params_.page_size)) return diverged("a patch of the lock-byte page");
  if (patch.kind == pages::PatchKind::kRuns) HQL_TRY(committed_page(patch.page, image));
  return pages::apply_patch(patch, image);
}

base::Status DatabaseImpl::committed_page(pages::PageNo page, base::MutableByteView out) {
  CHECK(out.size() == params_.page_size);
  std::uint64_t expected = 0;
  {
    const base::MutexLock lock(mutex_);
    if (page == 0 || page > sums_.page_count())
      return base::make_error(base::Code::kNotFound,
                              "page " + std::to_string(page) + " is beyond the end of " + params_.name);
    expected = sums_.at(page);
  }
  HQL_ASSIGN(header, sound_header());
  HQL_TRY(read_committed(header, page, out));
  if (page == pages::lock_byte_page(params_.page_size) || pages::page_hash(page, out) == expected) return base::ok();
  const base::Error error =
      diverged("page " + std::to_string(page) + " of " + params_.name + " has other bytes than its hash says");
  const base::MutexLock lock(mutex_);
  set_state(pages::ImageState::kDiverged, error.message);
  return error;
}

base::Status DatabaseImpl::read_committed(const WalIndexHeader& header, pages::PageNo page, base::MutableByteView out) {
  HQL_ASSIGN(frame, index_->find(page, header.max_frame));
  if (frame != 0)
    return read_exact(wal_fd_, frame_offset(frame, params_.page_size) + kFrameHeaderSize, out, "read a frame");
  return read_exact(keeper_.database_fd(), std::uint64_t{page - 1} * params_.page_size, out, "read a page");
}

// The live header, WRITER held. More frames backfilled than there are: readers would look past frames for the database's old pages.
base::Result<WalIndexHeader> DatabaseImpl::sound_header() {
  HQL_ASSIGN(header, index_->header());
  const FrameNo done = index_->backfilled();
  if (done <= header.max_frame) return header;
  const base::Error error = diverged("the wal-index of " + params_.name + " counts " + std::to_string(done) +
                                     " frames as backfilled of " + std::to_string(header.max_frame));
  const base::MutexLock lock(mutex_);
  set_state(pages::ImageState::kDiverged, error.message);
  return error;
}

// The live header, after a restart of the WAL where that is possible: everything in it is in the database, which SQLite synced when it
// finished the backfill, and nobody reads from it (walRestartLog).
base::Result<WalIndexHeader> DatabaseImpl::writable_header() {
  HQL_ASSIGN(header, sound_header());
  if (header.max_frame > 0 && index_->backfilled() == header.max_frame && keeper_.lock_readers_out()) {
    header.max_frame = 0;
    base::store_be32(header.salt, header.salt1() + 1);
    base::store_be32(header.salt + 4, static_cast<std::uint32_t>(params_.env->random()));
    index_->publish(header);
    index_->reset_marks();
    keeper_.unlock_readers();
  }
  if (header.max_frame == 0) return start_wal(header);
  return header;
}

base::Result<WalIndexHeader> DatabaseImpl::start_wal(WalIndexHeader header) {
  base::Bytes old_bytes(kWalHeaderSize);
  WalFileHeader wal;
  if (read_exact(wal_fd_, 0, old_bytes, "read the WAL header"))
    if (const auto old_header = decode_wal_header(old_bytes)) wal.checkpoint = old_header->checkpoint + 1;
  wal.page_size = params_.page_size;
  wal.salt1 = header.salt1() + 1;
  wal.salt2 = static_cast<std::uint32_t>(params_.env->random());
  const base::Bytes bytes = encode_wal_header(wal);
  HQL_TRY(require_syncs_ok());
  HQL_TRY(wal_restarted(wal.salt1, wal.salt2));
  if (const auto fault = HQL_FAULT_POINT("image.wal_restart")) return fault->error("write the WAL header");
  HQL_TRY(write_exact(wal_fd_, 0, bytes, "write the WAL header"));
  // Before the first frame: a torn header would take every later commit with it.
  HQL_TRY(sync_wal());
  header.max_frame = 0;
  header.big_endian_checksum = 0;
  header.page_size_code = static_cast<std::uint16_t>((params_.page_size & 0xff00) | (params_.page_size >> 16));
  std::copy_n(&bytes[16], sizeof header.salt, header.salt);
  header.frame_checksum[0] = wal.checksum[0];
  header.frame_checksum[1] = wal.checksum[1];
  return header;
}

}  // namespace vfs

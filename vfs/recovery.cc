// Creation, and opening = recovery by digest (docs/SQLITE-NOTES.md, "Restart"): SQLite recovers its WAL to a committed state at or after
// `base`; the pages that can differ from the page hashes on disk are hashed again; the digest found among the log's transactions is the
// position. Start-up and the apply lane, before anybody else has the object.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/check.h"
#include "base/log.h"
#include "vfs/database_impl.h"

namespace vfs {
namespace {

constexpr const char* kSums = ".sums";
constexpr std::size_t kWriteVersionAt = 18;  // page 1: read and write version, 2 = WAL
constexpr std::size_t kPageSizeAt = 16;
constexpr int kFirstReadMs = 5000;  // as long as the keeper waits for a plain writer

base::Error io_error(const std::string& what) {
  const base::Code code = errno == ENOSPC || errno == EDQUOT ? base::Code::kFull : base::Code::kIo;
  return base::make_error(code, what + ": " + std::strerror(errno));
}

base::Error foreign(const std::string& what) {
  return base::make_error(
      base::Code::kForeignWrite,
      what + "; hql_import() adopts the file under a new name, \"hiqlite rebuild\" makes it again from base and log");
}

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  [[nodiscard]] int get() const { return fd_; }

 private:
  const int fd_;
};

}  // namespace

base::Result<std::unique_ptr<Database>> Database::create(DatabaseParams params, base::LogId id,
                                                         const pages::CreateDatabase& create) {
  auto database = std::make_unique<DatabaseImpl>(std::move(params));
  HQL_TRY(database->create_files(id, create));
  return std::unique_ptr<Database>(std::move(database));
}

base::Result<std::unique_ptr<Database>> Database::open(DatabaseParams params,
                                                       const std::vector<RedoCandidate>& candidates,
                                                       const pages::Adopt& adopt) {
  auto database = std::make_unique<DatabaseImpl>(std::move(params));
  HQL_TRY(database->recover(candidates, adopt));
  return std::unique_ptr<Database>(std::move(database));
}

base::Result<base::LogId> Database::recorded_base(base::Env& env, const std::string& dir, const std::string& name) {
  const std::string path = dir + "/" + name + kSums;
  HQL_ASSIGN(exists, env.exists(path));
  const base::Error missing = base::make_error(base::Code::kNotFound, "no database \"" + name + "\" in " + dir);
  if (!exists) return missing;
  HQL_ASSIGN(file, pages::SumsFile::open(env, path));
  if (file->record().generation == 0) return missing;
  return file->record().base;
}

// --- creation ---------------------------------------------------------------------------------------------------------------

// Page 1 is in the database file before a WAL can exist: a plain open of an empty file deletes the WAL beside it.
base::Status DatabaseImpl::write_initial(const pages::CreateDatabase& create) {
  // Readers of other users may read; this user writes.
  const Descriptor file(::open(path_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
  if (file.get() < 0) return io_error("create " + path_);
  base::Bytes image(params_.page_size);
  pages::PageNo next = 1;
  const base::MutexLock lock(mutex_);  // nobody else is here: for the annotations
  for (const pages::Patch& patch : create.initial) {
    CHECK(patch.kind != pages::PatchKind::kRuns);
    if (patch.page > create.size_after)
      return base::make_error(base::Code::kCorrupt, "a page beyond the end of " + params_.name);
    if (patch.page != next && !(patch.page == next + 1 && next == pages::lock_byte_page(params_.page_size)))
      return base::make_error(base::Code::kCorrupt, "page " + std::to_string(next) + " of the new database is missing");
    HQL_TRY(pages::apply_patch(patch, image));
    const bool is_wal = image[kWriteVersionAt] == std::byte{2} && image[kWriteVersionAt + 1] == std::byte{2};
    const std::uint32_t code = static_cast<std::uint32_t>(std::to_integer<unsigned>(image[kPageSizeAt]) << 8) |
                               std::to_integer<unsigned>(image[kPageSizeAt + 1]);
    if (patch.page == 1 && (!is_wal || (code == 1 ? 65536 : code) != params_.page_size))
      return base::make_error(base::Code::kRefused,
                              "page 1 of the new database does not say WAL and " + std::to_string(params_.page_size));
    HQL_TRY(
        write_exact(file.get(), std::uint64_t{patch.page - 1} * params_.page_size, image, "write the new database"));
    sums_.set(patch.page, pages::page_hash(patch.page, image));
    next = patch.page + 1;
  }
  if (sums_.page_count() != create.size_after || sums_.digest() != create.digest_after)
    return base::make_error(base::Code::kDiverged,
                            "the new database's pages give another digest than its creation says");
  if (::fsync(file.get()) != 0) return io_error("sync " + path_);
  return base::ok();
}

// A file without page hashes was put there by somebody else: it is renamed with what SQLite has beside it, so that it can still be opened. The
// file itself goes last: until then a creation that a crash ended does the rest.
base::Status DatabaseImpl::set_stranger_aside() {
  HQL_ASSIGN(has_sums, params_.env->exists(path_ + kSums));
  struct stat info {};
  if (has_sums || ::stat(path_.c_str(), &info) != 0 || info.st_size == 0) return base::ok();
  const std::string aside = path_ + ".set-aside-" + base::hex16(params_.env->random());
  for (const char* suffix : {"-wal", "-journal", "-shm", ""}) {
    base::Status moved = params_.env->rename(path_ + suffix, aside + suffix);
    if (!moved && moved.error().code != base::Code::kNotFound) return moved;
  }
  base::log_warn("database " + params_.name + ": " + path_ + " was there without page hashes; it is now " + aside);
  return params_.env->sync_dir(params_.dir);
}

base::Status DatabaseImpl::create_files(base::LogId id, const pages::CreateDatabase& create) {
  if (create.page_size != params_.page_size)
    return named(base::make_error(base::Code::kArgument, "its page size is another one"));
  if (const base::Status kept = set_stranger_aside(); !kept) return named(kept.error());
  // What a creation that a crash ended, or a dropped namesake, left behind.
  for (const char* suffix : {kSums, "-wal", "-shm", ""}) {
    const base::Status removed = params_.env->remove(path_ + suffix);
    if (!removed && removed.error().code != base::Code::kNotFound) return named(removed.error());
  }
  // The file of the hashes first, without a record: what a creation leaves that fails or is cut off is then known for its own.
  HQL_ASSIGN(sums_file, pages::SumsFile::open(*params_.env, path_ + kSums));
  if (const base::Status written = write_initial(create); !written) return named(written.error());
  HQL_TRY(params_.env->sync_dir(params_.dir));
  {
    const base::MutexLock sums_lock(sums_mutex_);
    const base::MutexLock lock(mutex_);
    sums_file_ = std::move(sums_file);
    pages::SumsRecord record;
    record.db = params_.id;
    record.page_size = params_.page_size;
    record.page_count = sums_.page_count();
    record.base = id;
    record.digest = sums_.digest();
    std::vector<std::pair<std::uint32_t, base::Bytes>> blocks;
    for (const std::uint32_t block : sums_.take_dirty_blocks()) blocks.emplace_back(block, sums_.block(block));
    HQL_TRY(sums_file_->write_blocks(blocks));
    HQL_TRY(sums_file_->write_record(record));
    applied_ = id;
    base_ = id;
  }
  HQL_TRY(params_.env->sync_dir(params_.dir));
  HQL_TRY(open_internal_connection());
  HQL_TRY(open_wal_state());
  started_ = true;
  return base::ok();
}

// --- the internal connection, the keeper, the wal-index ------------------------------------------------------------------------

int DatabaseImpl::shm_mapped() {
  if (keeper_.held()) return SQLITE_OK;
  keeper_status_ = keeper_.acquire(path_);
  // Not BUSY: the keeper has waited, and a busy timeout would let it wait again and again.
  return keeper_status_ ? SQLITE_OK : SQLITE_IOERR;
}

base::Status DatabaseImpl::open_internal_connection() {
  HQL_ASSIGN(connection, open_internal(path_, *this));
  connection_ = std::move(connection);
  // A plain reader that closes last, after an owner died, holds EXCLUSIVE while it checkpoints and deletes the WAL.
  sqlite3_busy_timeout(connection_.get(), kFirstReadMs);
  // The first read, before any pragma that reads by the way. SQLite opens and, where it must, recovers the WAL; the keeper takes its locks in
  // between.
  const base::Status read = execute(connection_.get(), "PRAGMA schema_version");
  sqlite3_busy_timeout(connection_.get(), 0);
  if (!keeper_status_) return named(keeper_status_.error());
  if (!read && (read.error().sqlite_code & 0xff) == SQLITE_BUSY)
    return named(
        base::make_error(base::Code::kOwned, "it is locked by another program: end its transaction and start again"));
  if (!read) return named(foreign("SQLite cannot read it (" + read.error().message + ")"));
  if (!keeper_.held()) return named(foreign("it is no longer in WAL mode"));
  HQL_TRY(execute(connection_.get(), "PRAGMA synchronous=FULL"));
  return execute(connection_.get(), "PRAGMA wal_autocheckpoint=0");
}

base::Status DatabaseImpl::open_wal_state() {
  HQL_ASSIGN(index, WalIndex::map(keeper_.shm_fd()));
  index_ = std::move(index);
  const std::string wal_path = path_ + "-wal";
  wal_fd_ = ::open(wal_path.c_str(), O_RDWR | O_CLOEXEC);  // SQLite holds no locks on it: closing does no harm
  if (wal_fd_ < 0) return named(io_error("open " + wal_path));
  if (wal_fd_ <= STDERR_FILENO) {
    const int moved = ::fcntl(wal_fd_, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    ::close(wal_fd_);
    wal_fd_ = moved;
    if (moved < 0) return named(io_error("open " + wal_path));
  }
  // A program that finished a backfill without syncing must not make the next restart of the WAL lose it.
  if (::fsync(keeper_.database_fd()) != 0) return named(io_error("sync " + path_));
  HQL_ASSIGN(header, index_->header());
  if (header.max_frame == 0)
    index_->forget_backfill();  // the owner may have died in the middle of a restart, under readers
  if (index_->backfilled() > header.max_frame)
    return named(foreign("its wal-index counts more frames as backfilled than it has"));
  const std::uint32_t code = header.page_size_code;
  const std::uint32_t page_size = (code & 0xfe00) + ((code & 1) << 16);
  if (header.max_frame > 0 && page_size != params_.page_size)
    return named(foreign("its WAL has pages of " + std::to_string(page_size) + " bytes"));
  return base::ok();
}

// --- recovery ---------------------------------------------------------------------------------------------------------------

// Before SQLite opens it: whether the WAL is the one that this node wrote last. If not, somebody else checkpointed, and any page of the
// database may have been written.
base::Result<bool> DatabaseImpl::wal_is_known(const pages::SumsRecord& record) {
  const std::string wal_path = path_ + "-wal";
  const Descriptor file(::open(wal_path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) {
    if (errno == ENOENT) return false;
    return named(io_error("open " + wal_path));
  }
  // What the page cache holds after a failed sync is not on the disk: read it back from there.
  if (::fdatasync(file.get()) != 0) return named(io_error("sync " + wal_path));
  (void)::posix_fadvise(file.get(), 0, 0, POSIX_FADV_DONTNEED);
  base::Bytes bytes(kWalHeaderSize);
  if (const base::Status read = read_exact(file.get(), 0, bytes, "read the WAL header"); !read) {
    if (read.error().code == base::Code::kCorrupt) return false;  // empty
    return named(read.error());
  }
  const auto header = decode_wal_header(bytes);
  if (!header) return false;
  const bool live = header->salt1 == record.wal_salt[0] && header->salt2 == record.wal_salt[1];
  const bool next = header->salt1 == record.wal_salt_next[0] && header->salt2 == record.wal_salt_next[1];
  return live || next;
}

pages::PageNo DatabaseImpl::size_on_disk(const WalIndexHeader& header) const {
  if (header.page_count > 0) return header.page_count;
  struct stat info {};
  if (::fstat(keeper_.database_fd(), &info) != 0) return 0;
  return static_cast<pages::PageNo>(static_cast<std::uint64_t>(info.st_size) / params_.page_size);
}

base::Status DatabaseImpl::recover(const std::vector<RedoCandidate>& candidates, const pages::Adopt& adopt) {
  HQL_ASSIGN(has_sums, params_.env->exists(path_ + kSums));
  if (!has_sums) return named(base::make_error(base::Code::kNotFound, "it has no page hashes (" + path_ + kSums + ")"));
  HQL_ASSIGN(sums_file, pages::SumsFile::open(*params_.env, path_ + kSums));
  auto loaded = sums_file->load(params_.page_size);
  if (!loaded) return named(loaded.error());
  if (!loaded->exists) return named(base::make_error(base::Code::kNotFound, "its page hashes were never completed"));
  if (loaded->record.db != params_.id)
    return named(base::make_error(base::Code::kNotFound,
                                  "its files belong to database id " + std::to_string(loaded->record.db.value)));
  struct stat info {};
  if (::stat(path_.c_str(), &info) != 0)
    return named(errno == ENOENT ? foreign("its file is gone") : io_error("stat " + path_));
  // SQLite would delete the WAL of an empty file.
  if (info.st_size < static_cast<off_t>(params_.page_size)) return named(foreign("its file is cut off"));
  HQL_ASSIGN(known, wal_is_known(loaded->record));
  {
    const base::MutexLock sums_lock(sums_mutex_);
    sums_file_ = std::move(sums_file);
  }
  HQL_TRY(open_internal_connection());
  HQL_TRY(open_wal_state());
  HQL_TRY(find_position(*loaded, candidates, !known, adopt));
  HQL_TRY(remember_salts());
  started_ = true;
  return base::ok();
}

base::Status DatabaseImpl::find_position(pages::SumsFile::Loaded& loaded, const std::vector<RedoCandidate>& candidates,
                                         bool all_pages, const pages::Adopt& adopt) {
  const pages::SumsRecord& record = loaded.record;
  HQL_ASSIGN(header, index_->header());
  const pages::PageNo size = size_on_disk(header);
  std::vector<bool> rehash(std::size_t{size} + 1, all_pages);
  std::vector<bool> redone(std::size_t{size} + 1, false);  // touched by the log since base
  const auto mark = [&](pages::PageNo page) {
    if (page >= 1 && page <= size) rehash[page] = true;
  };
  mark(1);
  for (const std::uint32_t block : loaded.bad_blocks)
    for (pages::PageNo i = 1; i <= 512; ++i) mark(block * 512 + i);
  for (FrameNo frame = 1; frame <= header.max_frame; ++frame) {
    HQL_ASSIGN(page, index_->page_of(frame));
    mark(page);
  }
  // Pages that were cut off since base, though they may have come back since.
  pages::PageNo least = record.page_count;
  for (const RedoCandidate& candidate : candidates) {
    if (candidate.id.index <= record.base.index) continue;
    least = std::min(least, candidate.size_after);
    for (const pages::PageNo page : candidate.touched) {
      mark(page);
      if (page <= size) redone[page] = true;
    }
  }
  for (pages::PageNo page = least + 1; page <= size; ++page) mark(page);

  const base::MutexLock lock(mutex_);  // nobody else is here: for the annotations
  sums_ = std::move(loaded.sums);
  sums_.resize(size);
  base::Bytes image(params_.page_size);
  std::vector<pages::PageNo> changed;  // may differ from the state after the last candidate
  const pages::PageNo lock_page = pages::lock_byte_page(params_.page_size);
  for (pages::PageNo page = 1; page <= size; ++page) {
    if (!rehash[page] || page == lock_page) continue;
    if (const base::Status read = read_committed(header, page, image); !read) {
      if (read.error().code == base::Code::kCorrupt)
        return named(foreign("page " + std::to_string(page) + " cannot be read"));
      return named(read.error());
    }
    const std::uint64_t hash = pages::page_hash(page, image);
    if (page > least || redone[page] || hash != sums_.at(page)) changed.push_back(page);
    sums_.set(page, hash);
  }
  base_ = record.base;
  const std::uint64_t digest = sums_.digest();
  if (digest == record.digest && size == record.page_count) {
    applied_ = record.base;
    return base::ok();
  }
  for (const RedoCandidate& candidate : candidates) {
    if (candidate.id.index <= record.base.index || candidate.digest_after != digest || candidate.size_after != size)
      continue;
    applied_ = candidate.id;
    return base::ok();
  }
  // A checkpoint copies only what the log has on the disk: what the log may have lost since is in the WAL, hence in `changed`. By a WAL that
  // is not ours anything may have been written.
  if (adopt && !all_pages) {
    const auto read = [&](pages::PageNo page, base::MutableByteView out) { return read_committed(header, page, out); };
    HQL_ASSIGN(adopted, adopt({digest, size, std::move(changed), read}));
    applied_ = adopted;
    return base::ok();
  }
  return named(foreign("its contents (" + std::to_string(size) + " pages, digest " + base::hex16(digest) +
                       ") are none of the states that the log knows since entry " +
                       std::to_string(record.base.index.value) +
                       ": another program wrote to it while the node was down"));
}

// The WAL that is live now counts as known: its contents have just been checked.
base::Status DatabaseImpl::remember_salts() {
  base::Bytes bytes(kWalHeaderSize);
  const base::Status read = read_exact(wal_fd_, 0, bytes, "read the WAL header");
  if (!read && read.error().code != base::Code::kCorrupt) return named(read.error());
  const auto header = read ? decode_wal_header(bytes) : std::nullopt;
  if (!header) return base::ok();  // none yet: wal_restarted() records the next
  const base::MutexLock lock(sums_mutex_);
  pages::SumsRecord record = sums_file_->record();
  const bool same = record.wal_salt[0] == header->salt1 && record.wal_salt[1] == header->salt2 &&
                    record.wal_salt_next[0] == header->salt1 && record.wal_salt_next[1] == header->salt2;
  if (same) return base::ok();
  for (std::uint32_t* salts : {record.wal_salt, record.wal_salt_next}) {
    salts[0] = header->salt1;
    salts[1] = header->salt2;
  }
  return sums_file_->write_record(record);
}

}  // namespace vfs

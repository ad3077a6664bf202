// Making, filling and recycling of segment files; see segment.h.
#include "wal/segment.h"

#include <algorithm>
#include <cstring>

#include "base/fault.h"

namespace wal {

namespace {

constexpr std::size_t kWindowSize = std::size_t{1} << 20;
constexpr std::size_t kFillSlice = std::size_t{1} << 20;    // one call of prepare_slice()
constexpr std::size_t kShortSize = std::size_t{256} << 10;  // first length of a segment that nobody prepared

bool ends_with(const std::string& name, const char* suffix) {
  const std::size_t size = std::strlen(suffix);
  return name.size() > size && name.compare(name.size() - size, size, suffix) == 0;
}

}  // namespace

base::Result<ByteView> WindowReader::view(std::uint64_t offset, std::size_t size) {
  const bool inside = offset >= start_ && offset + size <= start_ + filled_;
  if (!inside) {
    HQL_ASSIGN(end, file_.size());
    window_.resize(std::min<std::uint64_t>(std::max(size, kWindowSize), end > offset ? end - offset : 0));
    HQL_ASSIGN(count, file_.read(offset, window_));
    start_ = offset;
    filled_ = count;
  }
  const auto from = static_cast<std::size_t>(offset - start_);
  return ByteView(window_).first(filled_).subspan(from, std::min(size, filled_ - from));
}

SegmentStore::SegmentStore(base::Env& env, std::string dir, std::uint64_t segment_size, int ready_wanted)
    : env_(env), dir_(std::move(dir)), segment_size_(segment_size), ready_wanted_(ready_wanted) {}

base::Status SegmentStore::adopt(const std::vector<std::string>& names) {
  base::MutexLock lock(mutex_);
  for (const std::string& name : names) {
    const bool ready = ends_with(name, ".free");
    if (!ready && !ends_with(name, ".tmp")) continue;
    const std::string path = dir_ + "/" + name;
    // Numbers of ready files only have to be new: count on from the highest.
    const std::uint64_t number = std::strtoull(name.c_str(), nullptr, 10);
    if (number < UINT32_MAX) next_number_ = std::max(next_number_.load(), number + 1);
    if (ready && static_cast<int>(ready_.size()) < ready_wanted_) {
      HQL_ASSIGN(file, env_.open(path, base::OpenMode::kReadOnly));
      HQL_ASSIGN(size, file->size());
      if (size == segment_size_) {
        ready_.push_back(path);
        continue;
      }
    }
    HQL_TRY(env_.remove(path));
  }
  ready_count_ = static_cast<int>(ready_.size());
  return base::ok();
}

std::string SegmentStore::next_name(const char* suffix) {
  return dir_ + "/" + std::to_string(next_number_.fetch_add(1)) + suffix;
}

std::string SegmentStore::take_ready() {
  base::MutexLock lock(mutex_);
  if (ready_.empty()) return {};
  std::string path = std::move(ready_.back());
  ready_.pop_back();
  ready_count_ = static_cast<int>(ready_.size());
  return path;
}

void SegmentStore::give_back(std::string path) {
  base::MutexLock lock(mutex_);
  ready_.push_back(std::move(path));
  ready_count_ = static_cast<int>(ready_.size());
}

base::Result<NewSegment> SegmentStore::make_live(const SegmentHeader& header) {
  NewSegment made;
  std::string from = take_ready();
  const bool ready = !from.empty();
  if (!ready) from = next_name(".tmp");
  auto opened = env_.open(from, ready ? base::OpenMode::kReadWrite : base::OpenMode::kCreate);
  if (!opened) {
    if (ready) give_back(from);
    if (opened.error().code == base::Code::kFull) note_full();
    return opened.error();
  }
  made.file = std::move(*opened);
  // Both copies of the header, and zeros behind them for a file that nobody prepared: batches then overwrite allocated blocks.
  Bytes bytes = encode(header);
  bytes.resize(kDataStart);
  std::copy(bytes.begin(), bytes.begin() + kBlockSize, bytes.begin() + kBlockSize);
  if (!ready) bytes.resize(std::min<std::uint64_t>(segment_size_, kShortSize));
  made.zeroed_to = ready ? segment_size_ : bytes.size();
  if (base::Status written = made.file->write(0, bytes); !written) {
    made.file.reset();
    if (written.error().code != base::Code::kFull) return written.error();
    note_full();
    // The name still says that the contents mean nothing. A short file is of no use to anybody.
    if (ready) {
      give_back(from);
    } else if (base::Status removed = env_.remove(from); !removed) {
      return removed.error();
    }
    return written.error();
  }
  HQL_TRY(made.file->sync());
  made.path = dir_ + "/" + segment_name(header.sequence);
  HQL_TRY(env_.rename(from, made.path));
  HQL_TRY(env_.sync_dir(dir_));
  return made;
}

base::Status SegmentStore::recycle(const std::string& path) {
  if (const auto fault = HQL_FAULT_POINT("wal.recycle")) return fault->error("recycle " + path);
  bool keep = false;
  {
    HQL_ASSIGN(file, env_.open(path, base::OpenMode::kReadWrite));
    HQL_ASSIGN(size, file->size());
    keep = size == segment_size_ && ready_count_ < ready_wanted_;
  }
  if (!keep) return env_.remove(path);
  const std::string to = next_name(".free");
  HQL_TRY(env_.rename(path, to));
  // Before the file gets another header: else a crash could bring it back under its live name with contents to come.
  HQL_TRY(env_.sync_dir(dir_));
  give_back(to);
  note_space();
  return base::ok();
}

base::Result<bool> SegmentStore::prepare_slice() {
  if (const auto fault = HQL_FAULT_POINT("wal.prepare")) {
    if (fault->kind == base::FaultKind::kEnospc) note_full();
    return fault->error("prepare a segment in " + dir_);
  }
  if (!filling_) {
    if (ready_count_ >= ready_wanted_) return true;
    filling_path_ = next_name(".tmp");
    auto opened = env_.open(filling_path_, base::OpenMode::kCreate);
    if (!opened) {
      if (opened.error().code == base::Code::kFull) note_full();
      return opened.error();
    }
    filling_ = std::move(*opened);
    filled_ = 0;
  }
  const auto abandon = [this](base::Error error) -> base::Result<bool> {
    filling_.reset();
    if (error.code == base::Code::kFull) note_full();
    // What was filled so far would only make the disk fuller. A file that stays is removed at the next start.
    if (base::Status removed = env_.remove(filling_path_); !removed) return removed.error();
    return error;
  };
  const Bytes zeros(std::min<std::uint64_t>(kFillSlice, segment_size_ - filled_));
  if (base::Status written = filling_->write(filled_, zeros); !written) return abandon(written.error());
  if (base::Status synced = filling_->sync(); !synced) return abandon(synced.error());
  filled_ += zeros.size();
  if (filled_ < segment_size_) return false;
  filling_.reset();
  const std::string ready = filling_path_.substr(0, filling_path_.size() - 4) + ".free";
  if (base::Status renamed = env_.rename(filling_path_, ready); !renamed) return abandon(renamed.error());
  give_back(ready);
  note_space();
  return ready_count_ >= ready_wanted_;
}

base::Result<base::File*> SegmentStore::file(Segment& segment) {
  if (!segment.file) {
    HQL_ASSIGN(opened, env_.open(segment.path, base::OpenMode::kReadWrite));
    segment.file = std::move(opened);
  }
  return segment.file.get();
}

}  // namespace wal

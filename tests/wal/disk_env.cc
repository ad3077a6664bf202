// The in-memory disk of the log's tests.
#include "tests/wal/disk_env.h"

#include <algorithm>

namespace wal_test {

using base::Code;
using base::make_error;

namespace {
constexpr std::size_t kBlock = 4096;
}  // namespace

class DiskFile final : public base::File {
 public:
  DiskFile(DiskEnv& env, std::string path, std::shared_ptr<Inode> inode)
      : env_(env), path_(std::move(path)), inode_(std::move(inode)) {}

  base::Result<std::size_t> read(std::uint64_t offset, base::MutableByteView out) override {
    if (env_.dead_) return env_.dead().error();
    const auto& bytes = inode_->cached;
    if (offset >= bytes.size()) return std::size_t{0};
    const std::size_t count = std::min<std::size_t>(out.size(), bytes.size() - offset);
    std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(offset), count, out.begin());
    return count;
  }

  base::Status write(std::uint64_t offset, base::ByteView bytes) override {
    const auto fault = env_.begin_operation();
    if (env_.dead_ && !fault) return env_.dead();
    std::size_t part = bytes.size();
    bool full = fault == Fault::kFull;
    if (fault) part = env_.random_.next() % 4 == 0 ? bytes.size() : env_.random_.next() % (bytes.size() + 1);
    if (!fault && offset + bytes.size() > inode_->cached.size()) {
      const std::uint64_t growth = offset + bytes.size() - inode_->cached.size();
      const std::uint64_t used = env_.used();
      if (used + growth > env_.space_) {
        full = true;
        const std::uint64_t missing = used + growth - env_.space_;
        part = bytes.size() - std::min<std::uint64_t>(bytes.size(), missing);
      }
    }
    apply(offset, bytes.first(part));
    if (full) return make_error(Code::kFull, "no space left to write " + path_);
    if (fault) return make_error(Code::kIo, "write " + path_);
    if (env_.on_write) env_.on_write(path_, offset, bytes);
    return base::ok();
  }

  base::Status sync() override {
    const auto fault = env_.begin_operation();
    if (env_.dead_ && !fault) return env_.dead();
    for (std::size_t sector = 0; sector < inode_->dirty.size(); ++sector) {
      if (!inode_->dirty[sector]) continue;
      if (fault && env_.random_.next() % 2 == 0) {
        // The kernel calls the page clean all the same: it stays in the cache and never reaches the disk.
        if (fault == Fault::kIo) inode_->dirty[sector] = false;
        inode_->stale = true;
        continue;
      }
      flush(sector);
    }
    if (fault) return make_error(Code::kIo, "sync " + path_);
    inode_->durable.resize(inode_->cached.size());
    ++env_.syncs_;
    return base::ok();
  }

  base::Status truncate(std::uint64_t size) override {
    if (env_.begin_operation() || env_.dead_) return env_.dead();
    inode_->cached.resize(size);
    inode_->dirty.resize((size + kSectorSize - 1) / kSectorSize);
    return base::ok();
  }

  base::Result<std::uint64_t> size() override {
    if (env_.dead_) return env_.dead().error();
    return static_cast<std::uint64_t>(inode_->cached.size());
  }

  void drop_cache() override {
    if (!inode_->stale) return;
    inode_->stale = false;
    for (std::size_t sector = 0; sector < inode_->dirty.size(); ++sector) {
      if (inode_->dirty[sector]) continue;
      const std::size_t from = sector * kSectorSize;
      for (std::size_t i = from; i < std::min(from + kSectorSize, inode_->cached.size()); ++i) {
        inode_->cached[i] = i < inode_->durable.size() ? inode_->durable[i] : std::byte{0};
      }
    }
  }

 private:
  void apply(std::uint64_t offset, base::ByteView bytes) {
    if (bytes.empty()) return;
    if (offset + bytes.size() > inode_->cached.size()) inode_->cached.resize(offset + bytes.size());
    std::copy(bytes.begin(), bytes.end(), inode_->cached.begin() + static_cast<std::ptrdiff_t>(offset));
    inode_->dirty.resize((inode_->cached.size() + kSectorSize - 1) / kSectorSize);
    const std::size_t last = (offset + bytes.size() - 1) / kSectorSize;
    for (std::size_t sector = offset / kSectorSize; sector <= last; ++sector) inode_->dirty[sector] = true;
  }
  void flush(std::size_t sector) {
    const std::size_t from = sector * kSectorSize;
    const std::size_t to = std::min(from + kSectorSize, inode_->cached.size());
    if (inode_->durable.size() < to) inode_->durable.resize(to);
    std::copy(inode_->cached.begin() + static_cast<std::ptrdiff_t>(from),
              inode_->cached.begin() + static_cast<std::ptrdiff_t>(to),
              inode_->durable.begin() + static_cast<std::ptrdiff_t>(from));
    inode_->dirty[sector] = false;
  }

  DiskEnv& env_;
  const std::string path_;
  std::shared_ptr<Inode> inode_;
};

std::optional<Fault> DiskEnv::begin_operation() {
  if (dead_) return std::nullopt;
  ++operations_;
  if (armed_ == 0 || operations_ != armed_) return std::nullopt;
  if (fault_ == Fault::kDie) dead_ = true;
  return fault_;
}

void DiskEnv::power_cut(Tear tear) {
  dead_ = false;
  armed_ = 0;
  // Names: some prefix of the changes since the last sync of the directory has reached the disk.
  if (tear == Tear::kAllKept && !names_history_.empty()) durable_names_ = names_history_.back();
  if (tear == Tear::kRandom) {
    const std::uint64_t kept = random_.next() % (names_history_.size() + 1);
    if (kept > 0) durable_names_ = names_history_[kept - 1];
  }
  names_history_.clear();
  files_ = durable_names_;
  for (auto& [path, inode] : files_) {
    const bool grows = tear == Tear::kAllKept || (tear == Tear::kRandom && random_.next() % 2 == 0);
    base::Bytes after = inode->durable;
    if (grows) after.resize(std::max(after.size(), inode->cached.size()));
    const std::uint64_t bias = random_.next() % 5;  // some cuts lose much, some little
    for (std::size_t sector = 0; sector < inode->dirty.size(); ++sector) {
      if (!inode->dirty[sector]) continue;
      const std::size_t from = sector * kSectorSize;
      const std::size_t to = std::min({from + kSectorSize, after.size(), inode->cached.size()});
      const std::uint64_t pick = random_.next() % 5;
      if (tear == Tear::kAllLost || (tear == Tear::kRandom && pick < bias)) continue;
      const bool garbage = tear == Tear::kRandom && random_.next() % 8 == 0;
      for (std::size_t i = from; i < to; ++i)
        after[i] = garbage ? static_cast<std::byte>(random_.next()) : inode->cached[i];
    }
    inode->durable = after;
    inode->cached = std::move(after);
    inode->dirty.assign((inode->cached.size() + kSectorSize - 1) / kSectorSize, false);
  }
}

std::uint64_t DiskEnv::used() const {
  std::uint64_t sum = 0;
  for (const auto& [path, inode] : files_) sum += inode->cached.size();
  return sum;
}

void DiskEnv::set_contents(const std::string& path, base::Bytes bytes) {
  Inode& inode = *files_.at(path);
  inode.durable = bytes;
  inode.cached = std::move(bytes);
  inode.dirty.assign((inode.cached.size() + kSectorSize - 1) / kSectorSize, false);
}

void DiskEnv::put(const std::string& path, base::Bytes bytes) {
  files_[path] = std::make_shared<Inode>();
  durable_names_[path] = files_[path];
  set_contents(path, std::move(bytes));
}

std::vector<std::string> DiskEnv::paths() const {
  std::vector<std::string> out;
  for (const auto& [path, inode] : files_) out.push_back(path);
  return out;
}

std::map<std::string, base::Bytes> DiskEnv::snapshot() const {
  std::map<std::string, base::Bytes> out;
  for (const auto& [path, inode] : files_) out[path] = inode->durable;
  return out;
}

std::vector<std::pair<std::string, std::uint64_t>> DiskEnv::unsynced_blocks() const {
  constexpr std::size_t kSectors = kBlock / kSectorSize;
  std::vector<std::pair<std::string, std::uint64_t>> out;
  for (const auto& [path, inode] : files_) {
    for (std::size_t first = 0; first < inode->dirty.size(); first += kSectors) {
      const auto begin = inode->dirty.begin() + static_cast<std::ptrdiff_t>(first);
      const auto end =
          inode->dirty.begin() + static_cast<std::ptrdiff_t>(std::min(first + kSectors, inode->dirty.size()));
      if (std::any_of(begin, end, [](char dirty) { return dirty != 0; })) out.emplace_back(path, first * kSectorSize);
    }
  }
  return out;
}

std::map<std::string, base::Bytes> DiskEnv::snapshot_with(const std::vector<bool>& kept) const {
  std::map<std::string, base::Bytes> out = snapshot();
  const auto blocks = unsynced_blocks();
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    if (!kept[i]) continue;
    const auto& [path, offset] = blocks[i];
    const base::Bytes& cached = files_.at(path)->cached;
    const std::size_t end = std::min<std::size_t>(offset + kBlock, cached.size());
    base::Bytes& bytes = out[path];
    if (bytes.size() < end) bytes.resize(end);
    std::copy(cached.begin() + static_cast<std::ptrdiff_t>(offset), cached.begin() + static_cast<std::ptrdiff_t>(end),
              bytes.begin() + static_cast<std::ptrdiff_t>(offset));
  }
  return out;
}

void DiskEnv::restore(const std::map<std::string, base::Bytes>& files) {
  files_.clear();
  durable_names_.clear();
  names_history_.clear();
  dead_ = false;
  armed_ = 0;
  for (const auto& [path, bytes] : files) put(path, bytes);
}

base::Result<std::unique_ptr<base::File>> DiskEnv::open(const std::string& path, base::OpenMode mode) {
  if (dead_) return dead().error();
  auto found = files_.find(path);
  if (found == files_.end()) {
    if (mode != base::OpenMode::kCreate) return make_error(Code::kNotFound, path);
    if (begin_operation()) return make_error(fault_ == Fault::kFull ? Code::kFull : Code::kIo, "create " + path);
    found = files_.emplace(path, std::make_shared<Inode>()).first;
    names_history_.push_back(files_);
  }
  return std::unique_ptr<base::File>(std::make_unique<DiskFile>(*this, path, found->second));
}

base::Result<bool> DiskEnv::exists(const std::string& path) { return files_.count(path) != 0; }

base::Status DiskEnv::remove(const std::string& path) {
  if (begin_operation() || dead_) return make_error(Code::kIo, "remove " + path);
  if (files_.erase(path) == 0) return make_error(Code::kNotFound, path);
  names_history_.push_back(files_);
  return base::ok();
}

base::Status DiskEnv::rename(const std::string& from, const std::string& to) {
  if (begin_operation() || dead_) return make_error(Code::kIo, "rename " + from);
  const auto found = files_.find(from);
  if (found == files_.end()) return make_error(Code::kNotFound, from);
  auto inode = found->second;
  files_.erase(found);
  files_[to] = std::move(inode);
  names_history_.push_back(files_);
  return base::ok();
}

base::Status DiskEnv::sync_dir(const std::string& path) {
  if (begin_operation() || dead_) return make_error(Code::kIo, "sync " + path);
  // The log's files lie in one directory; a sync of another one, such as its parent, does nothing for their names.
  const bool holds = std::any_of(files_.begin(), files_.end(), [&](const auto& file) {
    return file.first.compare(0, path.size() + 1, path + "/") == 0;
  });
  if (!holds) return base::ok();
  durable_names_ = files_;
  names_history_.clear();
  return base::ok();
}

base::Result<std::vector<std::string>> DiskEnv::list(const std::string& path) {
  if (dead_) return dead().error();
  std::vector<std::string> names;
  for (const auto& [file, inode] : files_) {
    if (file.compare(0, path.size() + 1, path + "/") == 0) names.push_back(file.substr(path.size() + 1));
  }
  return names;
}

}  // namespace wal_test

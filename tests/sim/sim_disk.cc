// The file system of tests/sim/sim_disk.h: names, crashes, faults. The bytes of a file are tests/sim/sim_file.cc.
#include "tests/sim/sim_disk.h"

#include <algorithm>
#include <set>

#include "base/check.h"
#include "base/checksum.h"

namespace sim {

using base::Code;
using base::make_error;
using base::ok;
using base::Result;
using base::Status;

namespace {

constexpr std::array<std::string_view, kDiskOpCount> kOpNames = {"open",   "read",   "write",  "sync",     "truncate",
                                                                 "create", "rename", "remove", "make_dir", "sync_dir"};
constexpr std::uint64_t kFileSizeMax = std::uint64_t{4} << 30;  // of one simulated file: it lives in memory, twice

bool changes_something(DiskOp op) { return op != DiskOp::kOpen && op != DiskOp::kRead; }

// "/data/log/1" -> "/data/log"; "/data" -> "/".
std::string parent_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

Status not_found(const std::string& operation, const std::string& path) {
  return make_error(Code::kNotFound, operation + " " + path + ": No such file or directory");
}

}  // namespace

std::string_view disk_op_name(DiskOp op) { return kOpNames[static_cast<std::size_t>(op)]; }

SimDisk::SimDisk(std::uint64_t seed, DiskOptions options)
    : options_(std::move(options)),
      tear_random_(base::mix64(seed) ^ 1),
      fault_random_(base::mix64(seed) ^ 2),
      env_seed_(base::mix64(seed) ^ 3) {
  wipe();
}

SimDisk::~SimDisk() { kill_process(); }

void SimDisk::kill_process() {
  if (life_) life_->alive = false;
  crash_in_ = 0;
}

void SimDisk::wipe() {
  kill_process();
  live_.clear();
  durable_.clear();
  pending_.clear();
  live_[options_.root] = nullptr;
  durable_[options_.root] = nullptr;
  trace("wipe");
}

void SimDisk::power_cut() {
  kill_process();
  // Of each directory the file system has written its changes up to some point, in order: rename stays atomic.
  std::map<std::string, std::size_t> counts;
  for (const Pending& change : pending_) ++counts[change.dir];
  for (auto& [dir, count] : counts) {
    const std::uint64_t dice = tear_random_.below(4);
    if (dice == 0) count = 0;
    if (dice >= 2) count = static_cast<std::size_t>(tear_random_.below(count + 1));
  }
  for (const Pending& change : pending_) {
    std::size_t& left = counts[change.dir];
    if (left == 0) continue;
    --left;
    apply(durable_, change);
  }
  pending_.clear();
  // A directory whose own name was undone takes everything in it away. Parents sort before their children.
  for (auto name = durable_.begin(); name != durable_.end();) {
    const std::string parent = parent_of(name->first);
    const bool reachable = name->first == options_.root || durable_.contains(parent);
    name = reachable ? std::next(name) : durable_.erase(name);
  }
  live_ = durable_;
  std::set<SimFile*> done;  // pointers: never iterated
  for (const auto& [path, inode] : live_)
    if (inode && done.insert(inode.get()).second) inode->power_cut(garbage_of(path), tear_random_);
  trace("power cut");
}

void SimDisk::crash_at(std::uint64_t nth, CrashPoint point) {
  crash_in_ = nth;
  crash_point_ = point;
}

void SimDisk::fail_next(DiskOp op, int count, Code code, std::string path_part) {
  CHECK(code == Code::kIo || code == Code::kFull);
  planned_.push_back({op, count, code, std::move(path_part)});
}

base::Error SimDisk::die() {
  kill_process();
  crashed_ = true;
  trace("crash");
  if (on_crash_) on_crash_();
  return make_error(Code::kIo, "the simulated process is dead");
}

Status SimDisk::planned_failure(DiskOp op, const std::string& path) {
  for (auto planned = planned_.begin(); planned != planned_.end(); ++planned) {
    if (planned->op != op || path.find(planned->path_part) == std::string::npos) continue;
    const Code code = planned->code;
    if (--planned->left <= 0) planned_.erase(planned);
    return make_error(code, std::string(disk_op_name(op)) + " " + path + ": injected");
  }
  std::uint32_t rate = 0;
  if (op == DiskOp::kRead) rate = rates_.read_eio;
  if (op == DiskOp::kWrite) rate = rates_.write_eio;
  if (op == DiskOp::kSync) rate = rates_.sync_eio;
  if (rate > 0 && fault_random_.chance(rate, 1000000))
    return make_error(Code::kIo, std::string(disk_op_name(op)) + " " + path + ": Input/output error");
  return ok();
}

Result<SimDisk::Verdict> SimDisk::begin(const LifePtr& life, DiskOp op, const std::string& path, std::size_t size) {
  if (!life->alive) return make_error(Code::kIo, "the simulated process is dead");
  ++op_counts_[static_cast<std::size_t>(op)];
  if (trace_) trace(std::string(disk_op_name(op)) + " " + path + " " + std::to_string(size));
  if (options_.latency) life->clock->spend(options_.latency(op, size));
  Verdict verdict = Verdict::kDo;
  if (changes_something(op)) {
    ++change_count_;
    if (crash_in_ > 0 && --crash_in_ == 0) {
      CrashPoint point = crash_point_;
      if (point == CrashPoint::kAny) point = static_cast<CrashPoint>(tear_random_.below(3));
      if (point == CrashPoint::kBefore) return die();
      verdict = point == CrashPoint::kDuring ? Verdict::kCrashDuring : Verdict::kCrashAfter;
    }
  }
  if (const Status failure = planned_failure(op, path); !failure) {
    if (verdict != Verdict::kDo) return die();
    return failure.error();
  }
  return verdict;
}

Status SimDisk::finish(Verdict verdict) {
  if (verdict == Verdict::kDo) return ok();
  return die();
}

bool SimDisk::is_dir(const std::string& path) const {
  if (path == "." || path == "/") return true;
  const auto found = live_.find(path);
  return found != live_.end() && found->second == nullptr;
}

void SimDisk::apply(Names& names, const Pending& change) {
  if (!change.from.empty()) names.erase(change.from);
  if (!change.to.empty()) names[change.to] = change.inode;
  if (change.inode || change.from.empty() || change.to.empty()) return;
  // A directory takes along what is in it.
  const std::string inside = change.from + "/";
  for (auto it = names.lower_bound(inside); it != names.end() && it->first.starts_with(inside);) {
    names[change.to + it->first.substr(change.from.size())] = it->second;
    it = names.erase(it);
  }
}

void SimDisk::change_names(Pending change) {
  apply(live_, change);
  pending_.push_back(std::move(change));
}

Result<SimDisk::Inode> SimDisk::do_open(const LifePtr& life, const std::string& path, base::OpenMode mode) {
  const auto found = live_.find(path);
  const bool create = mode == base::OpenMode::kCreate && found == live_.end();
  HQL_ASSIGN(verdict, begin(life, create ? DiskOp::kCreate : DiskOp::kOpen, path, 0));
  if (!create) {
    if (found == live_.end()) return not_found("open", path).error();
    if (!found->second) return make_error(Code::kIo, "open " + path + ": Is a directory");
    return found->second;
  }
  if (!is_dir(parent_of(path))) return not_found("open", path).error();
  auto inode = std::make_shared<SimFile>();
  change_names({parent_of(path), "", path, inode});
  HQL_TRY(finish(verdict));
  return inode;
}

Result<std::size_t> SimDisk::do_read(const LifePtr& life, const std::string& path, SimFile& file, std::uint64_t offset,
                                     base::MutableByteView out) {
  HQL_TRY(begin(life, DiskOp::kRead, path, out.size()));
  return file.read(offset, out);
}

std::size_t SimDisk::fitting(const SimFile& file, std::uint64_t offset, std::size_t size) const {
  const std::uint64_t end = offset + size;
  if (end <= file.size()) return size;
  const std::uint64_t used = used_bytes();
  const std::uint64_t free = options_.capacity > used ? options_.capacity - used : 0;
  if (end - file.size() <= free) return size;
  const std::uint64_t end_max = file.size() + free;
  return end_max > offset ? static_cast<std::size_t>(end_max - offset) : 0;
}

Status SimDisk::do_write(const LifePtr& life, const std::string& path, SimFile& file, std::uint64_t offset,
                         base::ByteView bytes) {
  HQL_ASSIGN(verdict, begin(life, DiskOp::kWrite, path, bytes.size()));
  if (offset > kFileSizeMax || bytes.size() > kFileSizeMax - offset)
    return make_error(Code::kIo, "write " + path + ": File too large");
  if (verdict == Verdict::kCrashDuring) {
    // The call was cut short between two sectors of the copy into the cache.
    const std::size_t part = static_cast<std::size_t>(tear_random_.below(bytes.size() / kSectorSize + 1)) * kSectorSize;
    bytes = bytes.first(std::min(part, bytes.size()));
  }
  const std::size_t fits = fitting(file, offset, bytes.size());
  file.write(offset, bytes.first(fits));
  if (on_changed_) on_changed_(DiskOp::kWrite, path, file);
  HQL_TRY(finish(verdict));
  if (fits < bytes.size()) return make_error(Code::kFull, "write " + path + ": No space left on device");
  return ok();
}

Status SimDisk::do_sync(const LifePtr& life, const std::string& path, SimFile& file) {
  const auto verdict = begin(life, DiskOp::kSync, path, 0);
  if (!verdict) {
    // A crash before the sync leaves the sectors dirty; a sync that failed has lost them.
    if (life->alive) file.sync_lost(tear_random_);
    return make_error(Code::kIo, verdict.error().message);
  }
  // A power cut in the middle of a sync finds some sectors written: what dirty sectors mean anyway.
  if (*verdict != Verdict::kCrashDuring) {
    file.sync();
    if (on_changed_) on_changed_(DiskOp::kSync, path, file);
  }
  return finish(*verdict);
}

Status SimDisk::do_truncate(const LifePtr& life, const std::string& path, SimFile& file, std::uint64_t size) {
  HQL_ASSIGN(verdict, begin(life, DiskOp::kTruncate, path, 0));
  if (size > kFileSizeMax) return make_error(Code::kIo, "truncate " + path + ": File too large");
  if (size > file.size() &&
      fitting(file, file.size(), static_cast<std::size_t>(size - file.size())) < size - file.size())
    return make_error(Code::kFull, "truncate " + path + ": No space left on device");
  file.truncate(size);
  return finish(verdict);
}

Status SimDisk::do_remove(const LifePtr& life, const std::string& path) {
  HQL_ASSIGN(verdict, begin(life, DiskOp::kRemove, path, 0));
  const auto found = live_.find(path);
  if (found == live_.end()) return not_found("remove", path);
  if (!found->second) {
    const auto below = live_.lower_bound(path + "/");
    if (below != live_.end() && below->first.compare(0, path.size() + 1, path + "/") == 0)
      return make_error(Code::kIo, "remove " + path + ": Directory not empty");
  }
  change_names({parent_of(path), path, "", nullptr});
  return finish(verdict);
}

Status SimDisk::do_rename(const LifePtr& life, const std::string& from, const std::string& to) {
  // What a crash does to a rename between directories is not modelled; nothing of ours needs one.
  CHECK(parent_of(from) == parent_of(to));
  HQL_ASSIGN(verdict, begin(life, DiskOp::kRename, from + " to " + to, 0));
  const auto found = live_.find(from);
  if (found == live_.end()) return not_found("rename", from);
  const Inode inode = found->second;
  if (is_dir(to)) return make_error(Code::kIo, "rename " + from + " to " + to + ": Is a directory");
  if (!inode) {
    // What a crash does to names that were not synced when their directory was renamed is not modelled.
    const auto inside = [&](const Pending& change) { return change.dir == from || change.dir.starts_with(from + "/"); };
    CHECK(std::none_of(pending_.begin(), pending_.end(), inside));
  }
  if (from != to) change_names({parent_of(to), from, to, inode});
  return finish(verdict);
}

Status SimDisk::do_make_dir(const LifePtr& life, const std::string& path) {
  HQL_ASSIGN(verdict, begin(life, DiskOp::kMakeDir, path, 0));
  if (is_dir(path)) return finish(verdict);
  if (live_.contains(path)) return make_error(Code::kIo, "make directory " + path + ": File exists");
  if (!is_dir(parent_of(path))) return not_found("make directory", path);
  change_names({parent_of(path), "", path, nullptr});
  return finish(verdict);
}

Status SimDisk::do_sync_dir(const LifePtr& life, const std::string& path) {
  HQL_ASSIGN(verdict, begin(life, DiskOp::kSyncDir, path, 0));
  if (!is_dir(path)) return not_found("sync directory", path);
  std::size_t count = static_cast<std::size_t>(
      std::count_if(pending_.begin(), pending_.end(), [&](const Pending& change) { return change.dir == path; }));
  if (verdict == Verdict::kCrashDuring) count = static_cast<std::size_t>(tear_random_.below(count + 1));
  std::vector<Pending> rest;
  for (Pending& change : pending_) {
    if (change.dir == path && count > 0) {
      --count;
      apply(durable_, change);
    } else {
      rest.push_back(std::move(change));
    }
  }
  pending_ = std::move(rest);
  return finish(verdict);
}

Result<std::vector<std::string>> SimDisk::do_list(const LifePtr& life, const std::string& path) {
  HQL_TRY(begin(life, DiskOp::kRead, path, 0));
  if (!is_dir(path)) return not_found("list", path).error();
  std::vector<std::string> names;
  for (const auto& [name, inode] : live_)
    if (name != path && parent_of(name) == path)
      names.push_back(path == "/" ? name.substr(1) : name.substr(path.size() + 1));
  std::sort(names.begin(), names.end());
  return names;
}

Status SimDisk::rot(const std::string& path, std::uint64_t offset, std::byte mask) {
  const auto found = live_.find(path);
  if (found == live_.end() || !found->second) return not_found("rot", path);
  if (!found->second->rot(offset, mask))
    return make_error(Code::kNotFound, "rot " + path + ": no byte " + std::to_string(offset) + " on the disk");
  if (trace_) trace("rot " + path + " " + std::to_string(offset));
  return ok();
}

Result<std::uint64_t> SimDisk::rot_somewhere(const std::string& path) {
  const std::size_t size = durable(path).size();
  if (size == 0) return not_found("rot", path).error();
  const std::uint64_t offset = fault_random_.below(size);
  HQL_TRY(rot(path, offset, static_cast<std::byte>(1U << fault_random_.below(8))));
  return offset;
}

std::vector<std::string> SimDisk::paths() const {
  std::vector<std::string> all;
  for (const auto& [path, inode] : live_)
    if (inode) all.push_back(path);
  return all;
}

base::Bytes SimDisk::cached(const std::string& path) const {
  const auto found = live_.find(path);
  return found != live_.end() && found->second ? found->second->cached() : base::Bytes();
}

base::Bytes SimDisk::durable(const std::string& path) const {
  const auto found = live_.find(path);
  return found != live_.end() && found->second ? found->second->durable() : base::Bytes();
}

std::uint64_t SimDisk::used_bytes() const {
  std::uint64_t used = 0;
  for (const auto& [path, inode] : live_)
    if (inode) used += inode->size();
  return used;
}

std::uint64_t SimDisk::digest() const {
  std::uint64_t digest = 0;
  const auto add = [&digest](base::ByteView bytes) { digest = base::xxh3(bytes, digest); };
  for (const Names* names : {&live_, &durable_}) {
    for (const auto& [path, inode] : *names) {
      add(base::view_of(path));
      if (!inode) continue;
      add(inode->cached());
      add(inode->durable());
    }
  }
  return digest;
}

Garbage SimDisk::garbage_of(const std::string& path) const {
  return options_.garbage ? options_.garbage(path) : Garbage::kSector;
}

void SimDisk::trace(const std::string& line) const {
  if (trace_) trace_(line);
}

}  // namespace sim

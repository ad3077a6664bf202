// Env and File over a SimDisk (tests/sim/sim_env.h): every call is one call of the disk with this process's life.
#include "tests/sim/sim_env.h"

#include "base/check.h"

namespace sim {

using base::Code;
using base::make_error;
using base::Micros;
using base::Result;
using base::Status;

class SimFileHandle final : public base::File {
 public:
  SimFileHandle(SimDisk& disk, SimDisk::LifePtr life, std::string path, SimDisk::Inode inode, base::OpenMode mode)
      : disk_(disk), life_(std::move(life)), path_(std::move(path)), inode_(std::move(inode)), mode_(mode) {}

  Result<std::size_t> read(std::uint64_t offset, base::MutableByteView out) override {
    return disk_.do_read(life_, path_, *inode_, offset, out);
  }
  Status write(std::uint64_t offset, base::ByteView bytes) override {
    HQL_TRY(check_writable("write"));
    return disk_.do_write(life_, path_, *inode_, offset, bytes);
  }
  Status sync() override { return disk_.do_sync(life_, path_, *inode_); }
  Status truncate(std::uint64_t size) override {
    HQL_TRY(check_writable("truncate"));
    return disk_.do_truncate(life_, path_, *inode_, size);
  }
  Result<std::uint64_t> size() override {
    if (!life_->alive) return make_error(Code::kIo, "the simulated process is dead");
    return inode_->size();
  }
  void drop_cache() override {
    if (life_->alive) inode_->drop_cache();
  }

 private:
  [[nodiscard]] Status check_writable(const char* operation) const {
    if (mode_ != base::OpenMode::kReadOnly) return base::ok();
    return make_error(Code::kIo, std::string(operation) + " " + path_ + ": opened read-only");
  }

  SimDisk& disk_;
  const SimDisk::LifePtr life_;
  const std::string path_;
  const SimDisk::Inode inode_;
  const base::OpenMode mode_;
};

class SimEnv::OwnClock final : public Clock {
 public:
  Micros now() override { return now_; }
  Micros wall_clock() override { return kWallClockStart + now_; }
  void spend(Micros time) override {
    CHECK(time >= 0);
    now_ += time;
  }

 private:
  static constexpr Micros kWallClockStart = Micros{1700000000} * base::kSecond;  // an arbitrary day
  Micros now_ = base::kSecond;
};

SimEnv::SimEnv(SimDisk& disk, SimDisk::LifePtr life, std::unique_ptr<OwnClock> own_clock, std::uint64_t seed)
    : disk_(disk), life_(std::move(life)), own_clock_(std::move(own_clock)), random_(seed) {
  if (own_clock_) life_->clock = own_clock_.get();
}

// Files that are still open must not spend time on a clock that is gone.
SimEnv::~SimEnv() { life_->alive = false; }

std::unique_ptr<SimEnv> SimDisk::boot(Clock* clock) {
  CHECK(!life_ || !life_->alive);
  life_ = std::make_shared<Life>();
  life_->clock = clock;
  crashed_ = false;
  env_seed_ = base::mix64(env_seed_);
  auto own_clock = clock == nullptr ? std::make_unique<SimEnv::OwnClock>() : nullptr;
  trace("boot");
  return std::unique_ptr<SimEnv>(new SimEnv(*this, life_, std::move(own_clock), env_seed_));
}

Result<std::unique_ptr<base::File>> SimEnv::open(const std::string& path, base::OpenMode mode) {
  HQL_ASSIGN(inode, disk_.do_open(life_, path, mode));
  return std::unique_ptr<base::File>(std::make_unique<SimFileHandle>(disk_, life_, path, inode, mode));
}

Result<bool> SimEnv::exists(const std::string& path) {
  if (!life_->alive) return make_error(Code::kIo, "the simulated process is dead");
  return disk_.is_dir(path) || disk_.live_.contains(path);
}

Status SimEnv::remove(const std::string& path) { return disk_.do_remove(life_, path); }
Status SimEnv::rename(const std::string& from, const std::string& to) { return disk_.do_rename(life_, from, to); }
Status SimEnv::make_dir(const std::string& path) { return disk_.do_make_dir(life_, path); }
Status SimEnv::sync_dir(const std::string& path) { return disk_.do_sync_dir(life_, path); }
Result<std::vector<std::string>> SimEnv::list(const std::string& path) { return disk_.do_list(life_, path); }

Result<std::uint64_t> SimEnv::free_bytes(const std::string& path) {
  if (!life_->alive) return make_error(Code::kIo, "the simulated process is dead");
  if (!disk_.is_dir(path) && !disk_.live_.contains(path)) return make_error(Code::kNotFound, "statvfs " + path);
  const std::uint64_t used = disk_.used_bytes();
  return disk_.options_.capacity > used ? disk_.options_.capacity - used : 0;
}

Micros SimEnv::now() { return life_->clock->now(); }
Micros SimEnv::wall_clock() { return life_->clock->wall_clock(); }
std::uint64_t SimEnv::random() { return random_.next(); }
bool SimEnv::alive() const { return life_->alive; }

void SimEnv::advance(Micros time) {
  CHECK(own_clock_ != nullptr);
  own_clock_->spend(time);
}

void SimEnv::shut_down() { life_->alive = false; }

}  // namespace sim

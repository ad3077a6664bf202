// SimEnv: base::Env of one simulated process over a SimDisk. Files, clock and random numbers; see tests/sim/sim_disk.h for what goes
// wrong and when. Open files may outlive the SimEnv object, not the SimDisk. One thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tests/sim/sim_disk.h"

namespace sim {

class SimEnv final : public base::Env {
 public:
  ~SimEnv() override;
  base::Result<std::unique_ptr<base::File>> open(const std::string& path, base::OpenMode mode) override;
  base::Result<bool> exists(const std::string& path) override;
  base::Status remove(const std::string& path) override;
  // Files only, within one directory.
  base::Status rename(const std::string& from, const std::string& to) override;
  base::Status make_dir(const std::string& path) override;
  base::Status sync_dir(const std::string& path) override;
  base::Result<std::vector<std::string>> list(const std::string& path) override;
  base::Result<std::uint64_t> free_bytes(const std::string& path) override;
  base::Micros now() override;
  base::Micros wall_clock() override;
  std::uint64_t random() override;

  // False once the process died.
  [[nodiscard]] bool alive() const;
  // Moves the clock of an Env that was booted without one.
  void advance(base::Micros time);
  // A clean end of the process, so that the disk can boot the next one. Nothing is lost.
  void shut_down();

 private:
  friend class SimDisk;
  class OwnClock;
  SimEnv(SimDisk& disk, SimDisk::LifePtr life, std::unique_ptr<OwnClock> own_clock, std::uint64_t seed);

  SimDisk& disk_;
  SimDisk::LifePtr life_;
  std::unique_ptr<OwnClock> own_clock_;  // null when the clock is somebody else's
  base::Random random_;
};

}  // namespace sim

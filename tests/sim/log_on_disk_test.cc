// The real log (wal/) over the simulated disk: the process dies at every operation in turn, by kill -9 or by a power cut, and again
// while it recovers. What was acknowledged is there afterwards, what was not is whole or absent, and nothing is called corrupt.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "base/random.h"
#include "tests/sim/scale.h"
#include "tests/sim/sim_disk.h"
#include "tests/sim/sim_env.h"
#include "wal/log.h"

namespace sim {
namespace {

using base::Bytes;
using base::Index;
using base::Term;

constexpr char kLogDir[] = "/data/log";

// What the log was told, and how much of it was acknowledged. Payloads follow from (index, version): versions tell an entry from the
// one that replaced it.
struct Told {
  std::vector<std::uint64_t> versions;  // of entries 1.., as of the last acknowledged batch
  std::vector<std::uint64_t> pending;   // the same as of the batch in flight
  std::uint64_t hard = 0;               // hard states are numbered
  std::uint64_t hard_pending = 0;
};

Bytes number_bytes(std::uint64_t number) {
  Bytes bytes(8);
  base::store_u64(bytes.data(), number);
  return bytes;
}

// One process after another over one disk.
class LogOnDisk {
 public:
  explicit LogOnDisk(std::uint64_t seed) : random_(seed), disk_(seed) {}

  // A process that dies in its `nth` operation that changes something, and what the next one finds. False: it did not get so far.
  bool one_crash(std::uint64_t nth) {
    auto env = disk_.boot();
    disk_.crash_at(nth);
    work(*env);
    const bool crashed = disk_.crashed();
    EXPECT_TRUE(crashed || finished_);
    die();
    // Recovery is interrupted too, at a random place.
    auto second = disk_.boot();
    disk_.crash_at(random_.below(12) + 1);
    static_cast<void>(open(*second));
    die();
    auto third = disk_.boot();
    check(*third);
    third->shut_down();
    return crashed;
  }

 private:
  void die() {
    if (random_.chance(2, 3)) {
      disk_.power_cut();
    } else {
      disk_.kill_process();
    }
  }

  static base::Result<wal::Opened> open(base::Env& env) {
    wal::Options options;
    options.dir = kLogDir;
    options.identity = {7, base::NodeId(1), base::Incarnation(99)};
    options.segment_size = 64 << 10;
    return wal::Log::open(env, options);
  }

  void work(base::Env& env) {
    finished_ = false;
    auto opened = open(env);
    if (!opened) return;
    wal::Log& log = *opened->log;
    for (int batch = 0; batch < 12; ++batch) {
      if (!log.append_batch(next_batch())) return;
      told_.versions = told_.pending;
      told_.hard = told_.hard_pending;
      if (random_.chance(1, 4) && !log.prepare_segments()) return;
      if (random_.chance(1, 5) && !log.seal()) return;
    }
    finished_ = true;
  }

  // A hard state or not, a truncation or not, some entries.
  std::vector<wal::Append> next_batch() {
    wal::Append append;
    told_.pending = told_.versions;
    if (random_.chance(1, 2)) append.hard_state = number_bytes(++told_.hard_pending);
    if (!told_.pending.empty() && random_.chance(1, 5)) {
      const std::uint64_t keep =
          told_.pending.size() - random_.below(std::min<std::uint64_t>(told_.pending.size(), 5)) - 1;
      append.truncate_from = Index(keep + 1);
      told_.pending.resize(keep);
      ++term_;
    }
    for (std::uint64_t i = random_.below(4) + 1; i > 0; --i) {
      told_.pending.push_back(++version_);
      Bytes payload = number_bytes(version_);
      payload.resize(8 + random_.below(6000), static_cast<std::byte>(version_));
      append.entries.push_back(
          {{Term(term_), Index(told_.pending.size())}, base::EntryKind::kData, base::share(std::move(payload))});
    }
    std::vector<wal::Append> appends;
    appends.push_back(std::move(append));
    return appends;
  }

  void check(base::Env& env) {
    auto opened = open(env);
    ASSERT_TRUE(opened) << opened.error().message;
    ASSERT_FALSE(opened->damage) << opened->damage->where;
    const wal::Recovered& data = opened->groups[0];
    std::vector<std::uint64_t> found;
    if (!data.entries.empty()) {
      const auto read = opened->log->read(base::Group::kData, Index(1), Index(data.entries.size()), SIZE_MAX);
      ASSERT_TRUE(read) << read.error().message;
      for (const base::Entry& entry : *read) found.push_back(base::load_u64(entry.payload->data()));
    }
    ASSERT_TRUE(found == told_.versions || found == told_.pending)
        << found.size() << " entries; acknowledged " << told_.versions.size() << ", in flight " << told_.pending.size();
    const std::uint64_t hard = data.hard_state.size() == 8 ? base::load_u64(data.hard_state.data()) : 0;
    ASSERT_TRUE(hard == told_.hard || hard == told_.hard_pending)
        << hard << " " << told_.hard << " " << told_.hard_pending;
    // What is there now is the truth: it may have been voted on.
    told_.versions = found;
    told_.pending = found;
    told_.hard = hard;
    told_.hard_pending = hard;
  }

  base::Random random_;
  SimDisk disk_;
  Told told_;
  std::uint64_t version_ = 0;
  std::uint64_t term_ = 1;
  bool finished_ = false;
};

TEST(LogOnDisk, CrashAtEveryOperation_OfANewLog_AcknowledgedKept) {
  for (std::uint64_t seed = 0; seed < scaled(3); ++seed) {
    for (std::uint64_t nth = 1;; ++nth) {
      SCOPED_TRACE(testing::Message() << "seed " << seed << " crash at " << nth);
      LogOnDisk log(base::mix64(seed) + nth);
      const bool crashed = log.one_crash(nth);
      ASSERT_FALSE(testing::Test::HasFailure());
      if (!crashed) {
        EXPECT_GT(nth, 20U) << "the crashes must reach into the appends";
        break;
      }
    }
  }
}

TEST(LogOnDisk, ManyLives_RandomCrashes_AcknowledgedKept) {
  for (std::uint64_t seed = 0; seed < scaled(40); ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    LogOnDisk log(seed);
    base::Random lives(seed);
    for (int life = 0; life < 15; ++life) {
      log.one_crash(lives.below(60) + 1);
      ASSERT_FALSE(testing::Test::HasFailure()) << "life " << life;
    }
  }
}

}  // namespace
}  // namespace sim

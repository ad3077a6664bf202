// The simulated disk is as bad as it claims, no worse, and the same for the same seed.
#include "tests/sim/sim_disk.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "tests/sim/scale.h"
#include "tests/sim/sim_env.h"

namespace sim {
namespace {

using base::Bytes;
using base::ByteView;
using base::Code;
using base::OpenMode;

Bytes filled(std::size_t size, char with) { return Bytes(size, static_cast<std::byte>(with)); }

// Creates `path` with `bytes`, all of it durable.
std::unique_ptr<base::File> make_synced(base::Env& env, const std::string& path, ByteView bytes) {
  auto file = env.open(path, OpenMode::kCreate).value();
  EXPECT_TRUE(file->write(0, bytes));
  EXPECT_TRUE(file->sync());
  EXPECT_TRUE(env.sync_dir("/data"));
  return file;
}

Bytes content(base::Env& env, const std::string& path) {
  auto bytes = base::read_file(env, path, 1 << 26);
  return bytes ? std::move(bytes).value() : base::copy_of(base::view_of("<none>"));
}

TEST(SimDisk, PowerCut_SyncedBytesAndNames_AlwaysKept) {
  for (std::uint64_t seed = 0; seed < scaled(50); ++seed) {
    SimDisk disk(seed);
    auto env = disk.boot();
    const Bytes bytes = filled(3000, 's');
    const auto file = make_synced(*env, "/data/f", bytes);
    disk.power_cut();
    auto next = disk.boot();
    ASSERT_EQ(content(*next, "/data/f"), bytes) << "seed " << seed;
  }
}

TEST(SimDisk, PowerCut_UnsyncedSectors_EachOldNewOrGarbage) {
  constexpr std::size_t kSectors = 8;
  std::set<std::vector<char>> patterns;
  for (std::uint64_t seed = 0; seed < scaled(300); ++seed) {
    SimDisk disk(seed);
    auto env = disk.boot();
    const auto file = make_synced(*env, "/data/f", filled(kSectors * kSectorSize, 'o'));
    ASSERT_TRUE(file->write(0, filled(kSectors * kSectorSize, 'n')));
    disk.power_cut();
    auto next = disk.boot();
    const Bytes after = content(*next, "/data/f");
    ASSERT_EQ(after.size(), kSectors * kSectorSize);
    std::vector<char> pattern;
    for (std::size_t sector = 0; sector < kSectors; ++sector) {
      const ByteView bytes = ByteView(after).subspan(sector * kSectorSize, kSectorSize);
      const auto all = [&](char c) {
        return std::all_of(bytes.begin(), bytes.end(), [c](std::byte b) { return b == std::byte(c); });
      };
      pattern.push_back(all('o') ? 'o' : all('n') ? 'n' : 'g');
    }
    patterns.insert(pattern);
  }
  const auto has = [&](const auto& wanted) { return std::any_of(patterns.begin(), patterns.end(), wanted); };
  EXPECT_TRUE(patterns.contains(std::vector<char>(kSectors, 'o')));
  EXPECT_TRUE(patterns.contains(std::vector<char>(kSectors, 'n')));
  EXPECT_TRUE(has([](const auto& p) { return std::count(p.begin(), p.end(), 'g') > 0; }));
  EXPECT_TRUE(has([](const auto& p) { return p.front() == 'o' && p.back() == 'n'; })) << "late offsets first";
  EXPECT_TRUE(has([](const auto& p) { return p.front() == 'n' && p.back() == 'o'; }));
  EXPECT_GT(patterns.size(), 50U);
}

TEST(SimDisk, PowerCut_ThreeUnsyncedVersions_MiddleOneMayBeFound) {
  bool middle = false;
  for (std::uint64_t seed = 0; seed < 300 && !middle; ++seed) {
    SimDisk disk(seed);
    auto env = disk.boot();
    const auto file = make_synced(*env, "/data/f", filled(kSectorSize, '1'));
    ASSERT_TRUE(file->write(0, filled(kSectorSize, '2')));
    ASSERT_TRUE(file->write(0, filled(kSectorSize, '3')));
    disk.power_cut();
    auto next = disk.boot();
    middle = content(*next, "/data/f") == filled(kSectorSize, '2');
  }
  EXPECT_TRUE(middle);
}

TEST(SimDisk, Garbage_WrittenBytesOnly_RestOfTheSectorIntact) {
  bool garbage = false;
  for (std::uint64_t seed = 0; seed < scaled(200); ++seed) {
    DiskOptions options;
    options.garbage = [](const std::string& path) {
      return path == "/data/db" ? Garbage::kWrittenBytes : Garbage::kNone;
    };
    SimDisk disk(seed, options);
    auto env = disk.boot();
    const auto db = make_synced(*env, "/data/db", filled(kSectorSize, 'o'));
    const auto other = make_synced(*env, "/data/x", filled(kSectorSize, 'o'));
    ASSERT_TRUE(db->write(100, filled(50, 'n')));
    ASSERT_TRUE(other->write(100, filled(50, 'n')));
    disk.power_cut();
    auto next = disk.boot();
    const Bytes after = content(*next, "/data/db");
    for (std::size_t i = 0; i < kSectorSize; ++i) {
      const bool written = i >= 100 && i < 150;
      if (!written) {
        ASSERT_EQ(after[i], std::byte{'o'}) << "seed " << seed << " byte " << i;
      }
      garbage = garbage || (after[i] != std::byte{'o'} && after[i] != std::byte{'n'});
    }
    const Bytes plain = content(*next, "/data/x");
    ASSERT_TRUE(plain[100] == std::byte{'o'} || plain[100] == std::byte{'n'});
    ASSERT_EQ(plain[100], plain[149]);
  }
  EXPECT_TRUE(garbage);
}

// kill -9 keeps the page cache: the next process reads what may not be on the disk, until it syncs or drops it.
TEST(SimDisk, KillThenPowerCut_ReadBytes_MayStillBeLost) {
  bool lost = false;
  for (std::uint64_t seed = 0; seed < scaled(40); ++seed) {
    SimDisk disk(seed);
    auto env = disk.boot();
    const auto file = make_synced(*env, "/data/f", filled(kSectorSize, 'o'));
    ASSERT_TRUE(file->write(0, filled(kSectorSize, 'n')));
    disk.kill_process();
    EXPECT_FALSE(file->write(0, filled(1, 'x'))) << "a dead process writes nothing";
    EXPECT_FALSE(env->open("/data/g", OpenMode::kCreate));
    auto second = disk.boot();
    ASSERT_EQ(content(*second, "/data/f"), filled(kSectorSize, 'n'));
    if (seed % 2 == 0) {
      auto again = second->open("/data/f", OpenMode::kReadWrite).value();
      ASSERT_TRUE(again->sync());
      again->drop_cache();
    }
    disk.power_cut();
    auto third = disk.boot();
    const bool is_new = content(*third, "/data/f") == filled(kSectorSize, 'n');
    if (seed % 2 == 0) {
      ASSERT_TRUE(is_new) << "synced by the second process; seed " << seed;
    }
    lost = lost || !is_new;
  }
  EXPECT_TRUE(lost);
}

TEST(SimDisk, FailedSync_LaterSyncOk_BytesLostAllTheSame) {
  int lost = 0;
  int kept = 0;
  for (std::uint64_t seed = 0; seed < scaled(60); ++seed) {
    SimDisk disk(seed);
    auto env = disk.boot();
    const auto file = make_synced(*env, "/data/f", filled(kSectorSize, 'o'));
    ASSERT_TRUE(file->write(0, filled(kSectorSize, 'n')));
    disk.fail_next(DiskOp::kSync);
    ASSERT_EQ(file->sync().error().code, Code::kIo);
    ASSERT_TRUE(file->sync()) << "the trap: trying again succeeds";
    ASSERT_EQ(content(*env, "/data/f"), filled(kSectorSize, 'n')) << "and reads show the new bytes";
    file->drop_cache();
    (content(*env, "/data/f") == filled(kSectorSize, 'n') ? kept : lost) += 1;
  }
  EXPECT_GT(lost, 0);
  EXPECT_GT(kept, 0);
}

TEST(SimDisk, PowerCut_NamesWithoutSyncDir_MayBeUndoneInOrder) {
  std::set<std::vector<std::string>> outcomes;
  for (std::uint64_t seed = 0; seed < scaled(200); ++seed) {
    SimDisk disk(seed);
    auto env = disk.boot();
    make_synced(*env, "/data/a", base::view_of("a"));
    make_synced(*env, "/data/b", base::view_of("b"));
    ASSERT_TRUE(env->rename("/data/a", "/data/c"));
    ASSERT_TRUE(env->remove("/data/b"));
    ASSERT_TRUE(env->open("/data/d", OpenMode::kCreate));
    disk.power_cut();
    auto next = disk.boot();
    outcomes.insert(next->list("/data").value());
  }
  const std::set<std::vector<std::string>> expected = {{"a", "b"}, {"b", "c"}, {"c"}, {"c", "d"}};
  EXPECT_EQ(outcomes, expected);
}

TEST(SimDisk, PowerCut_DirectoryUndone_TakesItsFilesAway) {
  bool gone = false;
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    SimDisk disk(seed);
    auto env = disk.boot();
    ASSERT_TRUE(env->make_dir("/data/log"));
    auto file = env->open("/data/log/1", OpenMode::kCreate).value();
    ASSERT_TRUE(file->sync());
    ASSERT_TRUE(env->sync_dir("/data/log"));
    disk.power_cut();
    auto next = disk.boot();
    const bool there = next->exists("/data/log/1").value();
    ASSERT_EQ(there, next->exists("/data/log").value());
    gone = gone || !there;
  }
  EXPECT_TRUE(gone);
}

TEST(SimDisk, PowerCut_GrownAndCutFiles_SizeIsOneItHad) {
  std::set<std::size_t> sizes;
  for (std::uint64_t seed = 0; seed < scaled(200); ++seed) {
    SimDisk disk(seed);
    auto env = disk.boot();
    const auto file = make_synced(*env, "/data/f", filled(1000, 'o'));
    ASSERT_TRUE(file->write(1000, filled(1000, 'n')));
    ASSERT_TRUE(file->truncate(300));
    disk.power_cut();
    auto next = disk.boot();
    sizes.insert(content(*next, "/data/f").size());
  }
  EXPECT_EQ(sizes, (std::set<std::size_t>{300, 1000, 2000}));
}

TEST(SimDisk, Capacity_Reached_FullUntilSpaceReturns) {
  DiskOptions options;
  options.capacity = 10000;
  SimDisk disk(1, options);
  auto env = disk.boot();
  const auto file = make_synced(*env, "/data/f", filled(8000, 'o'));
  EXPECT_EQ(env->free_bytes("/data").value(), 2000U);
  EXPECT_EQ(file->write(7000, filled(4000, 'n')).error().code, Code::kFull);
  EXPECT_EQ(file->size().value(), 10000U) << "part of it was written";
  EXPECT_TRUE(file->write(0, filled(8000, 'm'))) << "overwriting needs no space";
  EXPECT_EQ(file->truncate(10001).error().code, Code::kFull);
  disk.set_capacity(20000);
  EXPECT_TRUE(file->write(7000, filled(4000, 'n')));
}

TEST(SimDisk, PlannedFailures_KindCountAndPath_Matched) {
  SimDisk disk(1);
  auto env = disk.boot();
  const auto file = make_synced(*env, "/data/f", filled(10, 'o'));
  const auto other = make_synced(*env, "/data/g", filled(10, 'o'));
  disk.fail_next(DiskOp::kWrite, 2, Code::kFull, "/f");
  EXPECT_TRUE(other->write(0, filled(1, 'x')));
  EXPECT_EQ(file->write(0, filled(1, 'x')).error().code, Code::kFull);
  EXPECT_EQ(file->write(0, filled(1, 'x')).error().code, Code::kFull);
  EXPECT_TRUE(file->write(0, filled(1, 'x')));
  disk.fail_next(DiskOp::kRead);
  Bytes out(4);
  EXPECT_EQ(file->read(0, out).error().code, Code::kIo);
  EXPECT_EQ(file->read(0, out).value(), 4U);
  disk.set_fault_rates({.read_eio = 1000000});
  EXPECT_FALSE(file->read(0, out));
}

TEST(SimDisk, Rot_OneByte_SeenByTheNextReadFromDisk) {
  SimDisk disk(1);
  auto env = disk.boot();
  const auto file = make_synced(*env, "/data/f", filled(1000, 'o'));
  ASSERT_TRUE(disk.rot("/data/f", 700, std::byte{1}));
  EXPECT_EQ(content(*env, "/data/f")[700], std::byte{'o' ^ 1});
  const std::uint64_t at = disk.rot_somewhere("/data/f").value();
  EXPECT_LT(at, 1000U);
  EXPECT_EQ(disk.rot("/data/f", 1000).error().code, Code::kNotFound);
  EXPECT_EQ(disk.rot("/data/none", 0).error().code, Code::kNotFound);
}

TEST(SimDisk, Latency_Operations_MoveTheClock) {
  DiskOptions options;
  options.latency = [](DiskOp op, std::size_t size) {
    return op == DiskOp::kSync ? base::kSecond : base::Micros(size);
  };
  SimDisk disk(1, options);
  auto env = disk.boot();
  const base::Micros start = env->now();
  auto file = env->open("/data/f", OpenMode::kCreate).value();
  ASSERT_TRUE(file->write(0, filled(500, 'x')));
  EXPECT_EQ(env->now() - start, 500);
  ASSERT_TRUE(file->sync());
  EXPECT_EQ(env->now() - start, 500 + base::kSecond);
}

// The work of a program, as the crash enumeration below sees it.
using Work = std::function<base::Status(base::Env&)>;

// Runs `work` with a crash at each of its operations in turn, then with none, and calls `check` on what the next process finds:
// `finished` says whether the work said ok. Returns the number of crashes.
std::uint64_t crash_everywhere(std::uint64_t seed, const Work& prepare, const Work& work,
                               const std::function<void(base::Env&, bool finished)>& check) {
  for (std::uint64_t nth = 1;; ++nth) {
    SimDisk disk(base::mix64(seed) + nth);
    auto env = disk.boot();
    EXPECT_TRUE(prepare(*env));
    disk.crash_at(nth);
    const bool finished = work(*env).has_value();
    EXPECT_NE(finished, disk.crashed());
    const bool crashed = disk.crashed();
    disk.power_cut();
    auto next = disk.boot();
    check(*next, finished);
    if (!crashed) return nth - 1;
  }
}

base::Status write_old(base::Env& env) { return base::write_file_atomic(env, "/data", "meta", filled(2000, 'o')); }

TEST(SimDisk, CrashEverywhere_WriteFileAtomic_WholeOldOrWholeNew) {
  std::set<char> seen;
  for (std::uint64_t seed = 0; seed < scaled(60); ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    const std::uint64_t crashes = crash_everywhere(
        seed, write_old,
        [](base::Env& env) { return base::write_file_atomic(env, "/data", "meta", filled(2000, 'n')); },
        [&](base::Env& env, bool finished) {
          const Bytes found = content(env, "/data/meta");
          ASSERT_TRUE(found == filled(2000, 'n') || (!finished && found == filled(2000, 'o')));
          seen.insert(static_cast<char>(found[0]));
        });
    ASSERT_EQ(crashes, 6U) << "create, truncate, write, sync, rename, sync_dir";
  }
  EXPECT_EQ(seen.size(), 2U);
}

// The canary: a program that forgets a sync must be caught, or the test above proves nothing.
TEST(SimDisk, CrashEverywhere_EachSyncForgotten_Caught) {
  enum class Forgotten { kFileSync, kDirSync };
  for (const Forgotten forgotten : {Forgotten::kFileSync, Forgotten::kDirSync}) {
    bool caught = false;
    for (std::uint64_t seed = 0; seed < 60 && !caught; ++seed) {
      crash_everywhere(
          seed, write_old,
          [&](base::Env& env) -> base::Status {
            HQL_ASSIGN(file, env.open("/data/meta.tmp", OpenMode::kCreate));
            HQL_TRY(file->write(0, filled(2000, 'n')));
            if (forgotten != Forgotten::kFileSync) HQL_TRY(file->sync());
            HQL_TRY(env.rename("/data/meta.tmp", "/data/meta"));
            if (forgotten != Forgotten::kDirSync) HQL_TRY(env.sync_dir("/data"));
            return base::ok();
          },
          [&](base::Env& env, bool finished) {
            const Bytes found = content(env, "/data/meta");
            caught = caught || !(found == filled(2000, 'n') || (!finished && found == filled(2000, 'o')));
          });
    }
    EXPECT_TRUE(caught) << (forgotten == Forgotten::kFileSync ? "file sync" : "directory sync");
  }
}

TEST(SimDisk, CrashPoints_BeforeAndAfter_AsNamed) {
  for (const CrashPoint point : {CrashPoint::kBefore, CrashPoint::kAfter}) {
    SimDisk disk(1);
    auto env = disk.boot();
    const auto file = make_synced(*env, "/data/f", filled(1, 'o'));
    bool told = false;
    disk.on_crash([&] { told = true; });
    disk.crash_at(1, point);
    EXPECT_FALSE(file->write(0, filled(1, 'n')));
    EXPECT_TRUE(told);
    EXPECT_TRUE(disk.crashed());
    EXPECT_FALSE(env->alive());
    auto next = disk.boot();
    EXPECT_FALSE(disk.crashed());
    EXPECT_EQ(content(*next, "/data/f"), filled(1, point == CrashPoint::kBefore ? 'o' : 'n'));
  }
}

// Random work against a plain vector; after the power cut every sector that was not written since its last sync is untouched.
TEST(SimDisk, RandomWork_AgainstModel_ReadsEqualAndSyncedSectorsKept) {
  for (std::uint64_t seed = 0; seed < scaled(40); ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    base::Random random(seed);
    SimDisk disk(seed);
    auto env = disk.boot();
    auto file = make_synced(*env, "/data/f", {});
    Bytes model;
    Bytes synced;
    std::set<std::size_t> dirty;
    const auto touch = [&](std::size_t begin, std::size_t end) {
      for (std::size_t at = begin; at < end; ++at) dirty.insert(at / kSectorSize);
    };
    for (int step = 0; step < 60; ++step) {
      const std::uint64_t dice = random.below(10);
      if (dice < 6) {
        const auto offset = static_cast<std::size_t>(random.below(6000));
        Bytes bytes(static_cast<std::size_t>(random.below(1500)) + 1);
        for (std::byte& byte : bytes) byte = static_cast<std::byte>(random.next());
        ASSERT_TRUE(file->write(offset, bytes));
        if (model.size() < offset + bytes.size()) {
          touch(model.size(), offset + bytes.size());
          model.resize(offset + bytes.size());
        }
        touch(offset, offset + bytes.size());
        std::copy(bytes.begin(), bytes.end(), model.begin() + static_cast<std::ptrdiff_t>(offset));
      } else if (dice < 7) {
        const auto size = static_cast<std::size_t>(random.below(8000));
        ASSERT_TRUE(file->truncate(size));
        touch(std::min(size, model.size()), std::max(size, model.size()));
        model.resize(size);
      } else if (dice < 8) {
        ASSERT_TRUE(file->sync());
        synced = model;
        dirty.clear();
      } else if (dice < 9) {
        file->drop_cache();
      }
      ASSERT_EQ(content(*env, "/data/f"), model) << "step " << step;
    }
    disk.power_cut();
    auto next = disk.boot();
    const Bytes after = content(*next, "/data/f");
    for (std::size_t at = 0; at < std::min(after.size(), synced.size()); ++at) {
      if (dirty.contains(at / kSectorSize)) continue;
      ASSERT_EQ(after[at], synced[at]) << "byte " << at;
    }
  }
}

std::uint64_t run_and_digest(std::uint64_t seed, std::vector<std::string>& trace) {
  base::Random random(seed);
  SimDisk disk(seed);
  disk.set_trace([&](const std::string& line) { trace.push_back(line); });
  for (int life = 0; life < 5; ++life) {
    auto env = disk.boot();
    disk.set_fault_rates({.read_eio = 10000, .write_eio = 10000, .sync_eio = 50000});
    disk.crash_at(random.below(40) + 1);
    for (int step = 0; step < 30; ++step) {
      const std::string path = "/data/" + std::to_string(random.below(4));
      auto file = env->open(path, OpenMode::kCreate);
      if (!file) break;
      static_cast<void>((*file)->write(random.below(5000), filled(700, static_cast<char>('a' + env->random() % 26))));
      if (random.chance(1, 3)) static_cast<void>((*file)->sync());
      if (random.chance(1, 4)) static_cast<void>(env->sync_dir("/data"));
      if (random.chance(1, 6)) static_cast<void>(env->rename(path, "/data/r"));
    }
    if (random.chance(1, 2)) disk.power_cut();
    disk.kill_process();
  }
  return disk.digest();
}

TEST(SimDisk, SameSeed_SameTraceAndBytes_OtherSeedOthers) {
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    std::vector<std::string> first;
    std::vector<std::string> second;
    std::vector<std::string> other;
    const std::uint64_t digest = run_and_digest(seed, first);
    EXPECT_EQ(digest, run_and_digest(seed, second)) << "seed " << seed;
    EXPECT_EQ(first, second) << "seed " << seed;
    EXPECT_NE(digest, run_and_digest(seed + 1000, other)) << "seed " << seed;
  }
}

}  // namespace
}  // namespace sim

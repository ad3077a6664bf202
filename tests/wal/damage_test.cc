// Rot (R12): any block of a small log. Nothing that a later batch declares durable is lost silently; what is reported says how long the
// log was; entries fetched from elsewhere heal it, and the healing outlives restarts.
#include "tests/wal/fixture.h"

namespace wal_test {
namespace {

enum class Ending : std::uint8_t { kSealed, kOpen };
enum class Rot : std::uint8_t { kBit, kZeros, kNoise, kCopy };

class DamageTest : public LogTest {
 protected:
  struct Scene {
    std::map<std::string, Bytes> disk;
    Model final_model;
    Model before_last;  // without the last append
    std::string last_path;
    std::uint64_t last_offset = 0;
  };

  // Three segments or so, both groups, hard states, fragments, truncation, a floor, and at the end a small append.
  Scene make_scene(Ending ending) {
    Scene scene;
    open();
    wal::Append vote = entries(Group::kData, 2, 500);
    vote.hard_state = Bytes(40, std::byte{1});
    EXPECT_TRUE(append(vote));
    EXPECT_TRUE(append(entries(Group::kCache, 3, 200)));
    EXPECT_TRUE(append(entries(Group::kData, 2, 9000)));
    EXPECT_TRUE(set_floor(Group::kCache, 1));
    EXPECT_TRUE(append(entries(Group::kData, 2, 50000)));
    model_.term = Term(2);
    wal::Append replace;
    replace.truncate_from = Index(5);
    replace.entries = {make_entry(random_, {Term(2), Index(5)}, 700), make_entry(random_, {Term(2), Index(6)}, 800)};
    replace.hard_state = Bytes(40, std::byte{2});
    EXPECT_TRUE(append(replace));
    EXPECT_TRUE(append(entries(Group::kCache, 1, 30000)));
    wal::Append second_vote;
    second_vote.group = Group::kCache;
    second_vote.hard_state = Bytes(40, std::byte{3});
    EXPECT_TRUE(append(second_vote));
    EXPECT_TRUE(append(entries(Group::kData, 3, 600)));
    scene.before_last = model_;
    open();  // so that writes below are named by the live names
    env_.on_write = [&](const std::string& path, std::uint64_t offset, base::ByteView) {
      scene.last_path = path;
      scene.last_offset = offset;
    };
    EXPECT_TRUE(append(entries(Group::kData, 2, 700)));
    env_.on_write = nullptr;
    EXPECT_TRUE(ending == Ending::kOpen || log_->seal());
    log_.reset();
    scene.final_model = model_;
    scene.disk = env_.snapshot();
    return scene;
  }

  void rot(Bytes& file, std::size_t block, Rot how) {
    const std::size_t from = block * wal::kBlockSize;
    const std::size_t other = random_.below(file.size() / wal::kBlockSize) * wal::kBlockSize;
    const Bytes copy(file.begin() + static_cast<std::ptrdiff_t>(other),
                     file.begin() + static_cast<std::ptrdiff_t>(other + wal::kBlockSize));
    if (how == Rot::kBit) file[from + random_.below(200)] ^= std::byte{16};
    for (std::size_t i = 0; i < wal::kBlockSize; ++i) {
      if (how == Rot::kZeros) file[from + i] = std::byte{0};
      if (how == Rot::kNoise) file[from + i] = static_cast<std::byte>(random_.next());
      if (how == Rot::kCopy) file[from + i] = copy[i];
    }
  }

  // What was recovered of a damaged group is entries that were once in its log; returns how many agree with the final log.
  void expect_history(const Scene& scene, wal::Opened& opened) {
    for (const Group which : kGroups) {
      const std::size_t slot = slot_of(which);
      const GroupModel& want = scene.final_model.groups[slot];
      EXPECT_EQ(opened.groups[slot].hard_state, want.hard_state) << "a vote is forgotten";
      EXPECT_GE(opened.damage->last_known[slot], want.last()) << "group " << slot + 1;
      for (const Entry& entry : opened.groups[slot].entries) {
        auto read = opened.log->read(which, entry.id.index, entry.id.index, 1);
        ASSERT_TRUE(read) << "what was recovered can be read";
        for (const Entry& other : want.entries) {
          EXPECT_TRUE(other.id != entry.id || *other.payload == *read->front().payload);
        }
      }
    }
  }

  // Sends the group what it lacks, as a leader would: from the last entry that agrees.
  wal::Append refetch(const Scene& scene, const wal::Opened& opened, Group which) {
    const GroupModel& want = scene.final_model.groups[slot_of(which)];
    const auto& have = opened.groups[slot_of(which)];
    wal::Append append;
    append.group = which;
    for (const Entry& entry : want.entries) {
      const auto at = entry.id.index.value - have.floor.index.value - 1;
      const bool agrees =
          entry.id.index <= have.floor.index || (at < have.entries.size() && have.entries[at].id == entry.id);
      if (!agrees) append.entries.push_back(entry);
    }
    const Index last_held(have.floor.index.value + have.entries.size());
    const Index first = append.entries.empty() ? want.last().index.next() : append.entries.front().id.index;
    if (last_held >= first) append.truncate_from = first;
    return append;
  }

  void heal(const Scene& scene, wal::Opened first) {
    // One entry, a restart in between, then the rest.
    wal::Append data = refetch(scene, first, Group::kData);
    wal::Append cache = refetch(scene, first, Group::kCache);
    const bool lacks = data.entries.size() + cache.entries.size() > 1;
    wal::Append part = data.entries.empty() ? cache : data;
    if (lacks) {
      part.entries.resize(1);
      ASSERT_TRUE(first.log->append_batch({part}));
      first.log.reset();
      env_.power_cut();
      auto second = wal::Log::open(env_, options_);
      ASSERT_TRUE(second) << second.error().message;
      ASSERT_TRUE(second->damage) << "healed too early";
      data = refetch(scene, *second, Group::kData);
      cache = refetch(scene, *second, Group::kCache);
      ASSERT_TRUE(second->log->append_batch({data, cache}));
    } else {
      wal::Append state;
      state.hard_state = scene.final_model.groups[0].hard_state;
      ASSERT_TRUE(first.log->append_batch({state, data, cache}));
      first.log.reset();
    }
    auto healed = wal::Log::open(env_, options_);
    ASSERT_TRUE(healed) << healed.error().message;
    ASSERT_FALSE(healed->damage) << healed->damage->where;
    const base::Status verified = wal::verify(env_, "log");
    ASSERT_TRUE(verified) << "damage that is dealt with is still reported: " << verified.error().message;
    // Floors may be lower than they were, never the entries above them.
    Model want = scene.final_model;
    for (std::size_t slot = 0; slot < base::kGroupCount; ++slot) {
      ASSERT_LE(healed->groups[slot].floor.index, want.groups[slot].floor.index);
      const auto extra = want.groups[slot].floor.index.value - healed->groups[slot].floor.index.value;
      ASSERT_EQ(healed->groups[slot].entries.size(), want.groups[slot].entries.size() + extra);
      for (std::size_t i = 0; i < want.groups[slot].entries.size(); ++i) {
        ASSERT_EQ(healed->groups[slot].entries[i + extra].id, want.groups[slot].entries[i].id);
      }
    }
  }

  void try_rot(const Scene& scene, const std::map<std::string, Bytes>& rotten, bool in_last, const std::string& trace) {
    SCOPED_TRACE(trace);
    env_.restore(rotten);
    auto opened = wal::Log::open(env_, options_);
    ASSERT_TRUE(opened) << opened.error().message;
    if (!opened->damage) {
      Model floors = scene.final_model;  // a lost floor record is no loss: compare from the floor that was found
      const std::string reason = difference(floors, *opened);
      if (reason.empty()) return;
      if (in_last) {
        EXPECT_EQ(difference(scene.before_last, *opened), "");
        return;
      }
      // Only the floor record may be gone.
      for (std::size_t slot = 0; slot < base::kGroupCount; ++slot) {
        const auto& got = opened->groups[slot];
        const GroupModel& want = floors.groups[slot];
        ASSERT_LE(got.floor.index, want.floor.index) << reason;
        ASSERT_EQ(got.hard_state, want.hard_state) << reason;
        const LogId last = got.entries.empty() ? got.floor : got.entries.back().id;
        ASSERT_EQ(last, want.last()) << reason;
      }
      return;
    }
    EXPECT_FALSE(wal::verify(env_, "log"));
    EXPECT_NE(opened->damage->where.find(".seg"), std::string::npos) << opened->damage->where;
    ++damaged_;
    expect_history(scene, *opened);
    if (HasFailure()) return;
    heal(scene, std::move(*opened));
  }

  int damaged_ = 0;
};

TEST_F(DamageTest, RotInAnyBlockOfASealedLog_IsReportedOrHarmlessAndHeals) {
  const Scene scene = make_scene(Ending::kSealed);
  for (const auto& [path, bytes] : scene.disk) {
    if (path.find(".seg") == std::string::npos) continue;
    for (std::size_t block = 0; block < bytes.size() / wal::kBlockSize; ++block) {
      for (const Rot how : {Rot::kBit, Rot::kZeros, Rot::kNoise, Rot::kCopy}) {
        auto rotten = scene.disk;
        rot(rotten.at(path), block, how);
        try_rot(scene, rotten, false,
                path + " block " + std::to_string(block) + " rot " + std::to_string(static_cast<int>(how)));
        if (HasFailure()) return;
      }
    }
  }
  EXPECT_GT(damaged_, 60);
}

TEST_F(DamageTest, RotInAnyBlockOfALogThatWasNotSealed_OnlyTheLastBatchCanBeTakenForTorn) {
  const Scene scene = make_scene(Ending::kOpen);
  for (const auto& [path, bytes] : scene.disk) {
    if (path.find(".seg") == std::string::npos) continue;
    for (std::size_t block = 0; block < bytes.size() / wal::kBlockSize; ++block) {
      const bool in_last = path == scene.last_path && block * wal::kBlockSize >= scene.last_offset;
      for (const Rot how : {Rot::kBit, Rot::kZeros, Rot::kNoise}) {
        auto rotten = scene.disk;
        rot(rotten.at(path), block, how);
        try_rot(scene, rotten, in_last,
                path + " block " + std::to_string(block) + " rot " + std::to_string(static_cast<int>(how)));
        if (HasFailure()) return;
      }
    }
  }
  EXPECT_GT(damaged_, 40);
}

TEST_F(DamageTest, RotInTwoBlocks_NeverShortensTheLogSilently) {
  const Scene scene = make_scene(Ending::kSealed);
  std::vector<std::string> paths;
  for (const auto& [path, bytes] : scene.disk) {
    if (path.find(".seg") != std::string::npos) paths.push_back(path);
  }
  for (int round = 0; round < scaled(600); ++round) {
    auto rotten = scene.disk;
    std::string trace = "round " + std::to_string(round);
    for (int i = 0; i < 2; ++i) {
      const std::string& path = paths[random_.below(paths.size())];
      const std::size_t block = random_.below(rotten.at(path).size() / wal::kBlockSize);
      rot(rotten.at(path), block, Rot::kNoise);
      trace += " " + path + " block " + std::to_string(block);
    }
    SCOPED_TRACE(trace);
    env_.restore(rotten);
    auto opened = wal::Log::open(env_, options_);
    ASSERT_TRUE(opened) << opened.error().message;
    for (std::size_t slot = 0; slot < base::kGroupCount; ++slot) {
      const auto& got = opened->groups[slot];
      const LogId last = got.entries.empty() ? got.floor : got.entries.back().id;
      const LogId want = scene.final_model.groups[slot].last();
      const bool said = opened->damage && opened->damage->last_known[slot] >= want;
      // The last append and the seal behind it can both rot: then nothing is left that knew of the append.
      const bool tail = last == scene.before_last.groups[slot].last();
      ASSERT_TRUE(last == want || said || tail) << "group " << slot + 1 << " ends at " << last.index.value;
    }
  }
}

TEST_F(DamageTest, BothHeaderCopiesOfASegment_AreDoneWithout) {
  const Scene scene = make_scene(Ending::kSealed);
  for (const auto& [path, bytes] : scene.disk) {
    if (path.find(".seg") == std::string::npos) continue;
    auto rotten = scene.disk;
    rot(rotten.at(path), 0, Rot::kNoise);
    rot(rotten.at(path), 1, Rot::kNoise);
    env_.restore(rotten);
    auto opened = wal::Log::open(env_, options_);
    ASSERT_TRUE(opened) << path << opened.error().message;
    for (std::size_t slot = 0; slot < base::kGroupCount; ++slot) {
      const auto& got = opened->groups[slot];
      const LogId last = got.entries.empty() ? got.floor : got.entries.back().id;
      const bool said = opened->damage && opened->damage->last_known[slot] >= scene.final_model.groups[slot].last();
      EXPECT_TRUE(last == scene.final_model.groups[slot].last() || said) << path;
    }
    EXPECT_FALSE(wal::verify(env_, "log"));
  }
}

TEST_F(DamageTest, SegmentMissing_IsReported) {
  const Scene scene = make_scene(Ending::kSealed);
  std::size_t position = 0;
  for (const auto& [path, bytes] : scene.disk) {
    if (path.find(".seg") == std::string::npos) continue;
    auto rest = scene.disk;
    rest.erase(path);
    if (++position == count_files(".seg")) break;  // nothing can know of the newest one
    env_.restore(rest);
    auto opened = wal::Log::open(env_, options_);
    ASSERT_TRUE(opened);
    EXPECT_TRUE(opened->damage) << path;
    env_.restore(scene.disk);
  }
}

TEST_F(DamageTest, NothingReadable_OpenFails) {
  const Scene scene = make_scene(Ending::kSealed);
  auto rotten = scene.disk;
  for (auto& [path, bytes] : rotten) bytes = random_bytes(random_, bytes.size());
  env_.restore(rotten);
  const auto opened = wal::Log::open(env_, options_);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, base::Code::kCorrupt);
  EXPECT_EQ(env_.snapshot().size(), rotten.size());
}

// The process died between the header of a segment and its first batch, then what was before it rotted. The next segment begins at the same
// LSN and says how the log went on: the header of the empty one, which knows of entries that are gone, is part of the damage.
TEST_F(DamageTest, RotBeforeASegmentThatHoldsNoBatch_EntriesAppendedAfterwardsOutliveRestarts) {
  open();
  ASSERT_TRUE(append(entries(Group::kData, 2, 500)));
  const Model kept = model_;
  ASSERT_TRUE(append(entries(Group::kData, 1, 500)));
  ASSERT_TRUE(append(entries(Group::kData, 1, 60000)));
  log_.reset();
  const std::string first = "log/0000000000000001.seg";
  const std::string second = "log/0000000000000002.seg";
  auto disk = env_.snapshot();
  ASSERT_TRUE(disk.contains(second));
  std::fill(disk.at(second).begin() + 2 * wal::kBlockSize, disk.at(second).end(), std::byte{0});
  rot(disk.at(first), 3, Rot::kNoise);
  env_.restore(disk);

  auto damaged = wal::Log::open(env_, options_);
  ASSERT_TRUE(damaged) << damaged.error().message;
  ASSERT_TRUE(damaged->damage);
  model_ = kept;
  ASSERT_EQ(difference(model_, *damaged), "");
  for (int restart = 0; restart < 3; ++restart) {
    SCOPED_TRACE("restart " + std::to_string(restart));
    const wal::Append more = entries(Group::kData, 1, 100);
    ASSERT_TRUE(damaged->log->append_batch({more}));
    model_.apply(more);
    damaged->log.reset();
    damaged = wal::Log::open(env_, options_);
    ASSERT_TRUE(damaged) << damaged.error().message;
    ASSERT_EQ(difference(model_, *damaged), "");
  }
  EXPECT_FALSE(damaged->damage) << damaged->damage->where;  // as long as it ever was
}

TEST_F(DamageTest, RotBelowTheFloors_IsNoDamage) {
  open();
  for (int i = 0; i < 6; ++i) ASSERT_TRUE(append(entries(Group::kData, 1, 7000)));
  ASSERT_TRUE(set_floor(Group::kData, 5));
  log_.reset();
  const std::string path = "log/0000000000000001.seg";
  Bytes bytes = env_.contents(path);
  rot(bytes, 3, Rot::kNoise);
  env_.set_contents(path, bytes);
  open();
  EXPECT_FALSE(damage_) << damage_->where;
  ASSERT_TRUE(append(entries(Group::kData, 1, 100)));
  open();
  EXPECT_FALSE(damage_) << damage_->where;
}

}  // namespace
}  // namespace wal_test

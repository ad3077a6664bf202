// Appends that are only written (log_sync = "interval_<ms>"): what is synced in every mode, what a power cut may take, what a failed sync
// and a full disk do to what was acknowledged before.
#include "tests/wal/fixture.h"

namespace wal_test {
namespace {

using wal::Durability;

class UnsyncedTest : public LogTest {
 protected:
  base::Status write(const wal::Append& what) {
    base::Status status = log_->append_batch({what}, Durability::kWritten);
    if (status) model_.apply(what);
    return status;
  }
  wal::Append data(int count, std::size_t size) {
    wal::Append append = entries(Group::kData, count, size);
    for (Entry& entry : append.entries) entry.kind = EntryKind::kData;
    return append;
  }
  // Opens what a power cut left and takes it for the truth.
  void lose_power(DiskEnv::Tear tear) {
    log_.reset();
    env_.power_cut(tear);
  }
};

TEST_F(UnsyncedTest, Data_IsWrittenAndNotSynced_UntilSync) {
  open();
  ASSERT_TRUE(append(data(1, 100)));
  const std::uint64_t syncs = env_.syncs();
  const Model before = model_;
  ASSERT_TRUE(write(data(2, 100)));
  ASSERT_TRUE(write(data(1, 9000)));
  EXPECT_EQ(env_.syncs(), syncs);
  EXPECT_FALSE(log_->synced());
  const Model written = model_;

  ASSERT_TRUE(log_->sync());
  EXPECT_EQ(env_.syncs(), syncs + 1);
  EXPECT_TRUE(log_->synced());
  ASSERT_TRUE(log_->sync());
  EXPECT_EQ(env_.syncs(), syncs + 1);  // nothing was left to do
  lose_power(DiskEnv::Tear::kAllLost);
  open();

  ASSERT_TRUE(write(data(2, 100)));
  log_.reset();
  env_.kill();  // the page cache survives, and what a start has read from it is on the disk
  open();
  lose_power(DiskEnv::Tear::kAllLost);
  open();

  ASSERT_EQ(model_.groups[0].entries.size(), 6u);
  const Model kept = model_;
  ASSERT_TRUE(write(data(1, 100)));
  model_ = kept;
  lose_power(DiskEnv::Tear::kAllLost);
  open();  // gone, without a word of damage
  EXPECT_FALSE(damage_);
}

// R9, and the cache group, which has no files to be repaired from.
TEST_F(UnsyncedTest, HardStateTruncationConfigurationCacheFloor_AreSyncedAtOnce) {
  open();
  ASSERT_TRUE(append(data(6, 100)));
  for (int kind = 0; kind < 4; ++kind) {
    SCOPED_TRACE(kind);
    ASSERT_TRUE(write(data(1, 100)));
    EXPECT_FALSE(log_->synced());
    wal::Append what;
    if (kind == 0) what.hard_state = Bytes(40, std::byte{1});
    if (kind == 1) what.truncate_from = model_.groups[0].last().index;
    if (kind == 2) {
      what = data(1, 100);
      what.entries[0].kind = EntryKind::kConfig;
    }
    if (kind == 3) what = entries(Group::kCache, 1, 10);
    ASSERT_TRUE(write(what));
    EXPECT_TRUE(log_->synced());
    lose_power(DiskEnv::Tear::kAllLost);
    open();
    ASSERT_FALSE(damage_);
  }
  ASSERT_TRUE(write(data(1, 100)));
  ASSERT_TRUE(set_floor(Group::kData, 3));
  EXPECT_TRUE(log_->synced());
  ASSERT_TRUE(write(data(1, 100)));
  EXPECT_FALSE(log_->synced());
  ASSERT_TRUE(log_->seal());
  EXPECT_TRUE(log_->synced());
  lose_power(DiskEnv::Tear::kAllLost);
  open();
}

TEST_F(UnsyncedTest, NextSegment_BeginsAfterASyncOfTheOneBefore) {
  open();
  const std::size_t segments = count_files(".seg");
  Model at_switch;
  while (count_files(".seg") == segments) {
    at_switch = model_;
    ASSERT_TRUE(write(data(1, 7000)));
  }
  // Its header declares everything before it durable: that must be so.
  model_ = at_switch;
  lose_power(DiskEnv::Tear::kAllLost);
  open();
  EXPECT_FALSE(damage_);
}

// R12: rot in what a seal covers is damage, and not a torn tail.
TEST_F(UnsyncedTest, Seal_DeclaresWhatWasOnlyWritten) {
  open();
  ASSERT_TRUE(append(data(1, 100)));
  const std::string path = "log/0000000000000001.seg";
  std::optional<std::uint64_t> offset;
  env_.on_write = [&](const std::string&, std::uint64_t at, base::ByteView) {
    if (!offset) offset = at;  // of the batch; what follows only grows the file
  };
  ASSERT_TRUE(write(data(1, 100)));
  env_.on_write = nullptr;
  ASSERT_TRUE(log_->seal());
  log_.reset();
  Bytes bytes = env_.contents(path);
  bytes.at(*offset + 100) ^= std::byte{1};
  env_.set_contents(path, bytes);
  open();
  EXPECT_TRUE(damage_);
}

TEST_F(UnsyncedTest, LateSyncThatFails_Poisons_AndNothingIsSyncedAgain) {
  open();
  ASSERT_TRUE(append(data(1, 100)));
  const Model durable = model_;
  ASSERT_TRUE(write(data(3, 100)));
  env_.arm(1, Fault::kIo);
  const base::Status failed = log_->sync();
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, base::Code::kPoisoned);
  EXPECT_TRUE(log_->poisoned());
  EXPECT_FALSE(log_->synced());
  const std::uint64_t operations = env_.operations();
  for (const base::Status& status :
       {log_->sync(), log_->seal(), log_->append_batch({data(1, 100)}, Durability::kWritten)}) {
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, base::Code::kPoisoned);
  }
  EXPECT_EQ(env_.operations(), operations);
}

// What was acknowledged as written stays when a later append finds the disk full.
TEST_F(UnsyncedTest, DiskFull_TakesBackOnlyTheAppendItself) {
  for (int round = 0; round < 40; ++round) {
    SCOPED_TRACE(round);
    env_.restore({});
    model_ = {};
    open();
    ASSERT_TRUE(append(data(1, 100)));
    ASSERT_TRUE(write(data(2, 3000)));
    ASSERT_TRUE(write(data(1, 100)));
    env_.arm(1, Fault::kFull);
    const base::Status refused = log_->append_batch({data(3, 3000)}, Durability::kWritten);
    env_.arm(0, Fault::kFull);
    ASSERT_FALSE(refused);
    ASSERT_EQ(refused.error().code, base::Code::kFull);
    ASSERT_FALSE(log_->poisoned());
    if (round % 2 == 0) {
      ASSERT_TRUE(write(data(1, 200)));
    }
    log_.reset();
    round % 4 < 2 ? env_.kill() : env_.power_cut(DiskEnv::Tear::kAllKept);
    open();
    ASSERT_FALSE(damage_);
  }
}

// At every write of a history: whatever subset of the unsynced 4 KiB blocks the power cut keeps, the log opens without damage at a state
// between its last sync and its last append (R12: torn, not corrupt), and goes on from there.
class SubsetTest : public UnsyncedTest {
 protected:
  struct Moment {
    std::vector<Model> states;  // at the last sync, after each append since, and after the one that is being written
    Model hard_states;          // of the one that is being written
    std::vector<std::map<std::string, Bytes>> disks;
  };

  // Runs `script` (true: synced) and collects what power cuts at its writes may leave.
  void run(const std::vector<std::pair<wal::Append, bool>>& script) {
    open();
    std::vector<Model> states = {model_};
    Model after = model_;
    const wal::Append* current = nullptr;
    env_.on_write = [&](const std::string&, std::uint64_t, base::ByteView) {
      moments_.push_back(take(states, after, *current));
    };
    for (const auto& [what, synced] : script) {
      current = &what;
      after.apply(what);
      ASSERT_TRUE(log_->append_batch({what}, synced ? Durability::kSynced : Durability::kWritten));
      if (log_->synced()) states.clear();
      states.push_back(after);
      moments_.push_back(take(states, after, what));
    }
    env_.on_write = nullptr;
    log_.reset();
  }

  Moment take(const std::vector<Model>& states, const Model& after, const wal::Append& what) {
    Moment moment{states, after, {}};
    for (const Model& state : states) {
      Model salvaged = state;
      if (what.hard_state) salvaged.groups[slot_of(what.group)].hard_state = *what.hard_state;
      moment.states.push_back(salvaged);
    }
    moment.states.push_back(after);
    const std::size_t count = env_.unsynced_blocks().size();
    const bool all = count <= kExhaustive;
    const std::uint64_t subsets = all ? std::uint64_t{1} << count : static_cast<std::uint64_t>(scaled(200));
    for (std::uint64_t subset = 0; subset < subsets; ++subset) {
      std::vector<bool> kept;
      for (std::size_t i = 0; i < count; ++i) kept.push_back(all ? (subset >> i & 1) != 0 : random_.next() % 2 != 0);
      moment.disks.push_back(env_.snapshot_with(kept));
    }
    return moment;
  }

  void check(const Moment& moment, std::size_t& shortest, std::size_t& longest) {
    for (const auto& disk : moment.disks) {
      env_.restore(disk);
      auto opened = wal::Log::open(env_, options_);
      ASSERT_TRUE(opened) << opened.error().message;
      ASSERT_FALSE(opened->damage) << opened->damage->where;
      const Model* held = nullptr;
      std::string reasons;
      for (const Model& state : moment.states) {
        const std::string reason = difference(state, *opened);
        reasons += reason + "; ";
        if (reason.empty()) held = &state;
      }
      ASSERT_NE(held, nullptr) << reasons;
      const auto distance = static_cast<std::size_t>(held->groups[0].last().index.value);
      shortest = std::min(shortest, distance);
      longest = std::max(longest, distance);
      // On from there, written and not synced, over what the cut left behind the end: killed, and then without power.
      model_ = *held;
      log_ = std::move(opened->log);
      ASSERT_TRUE(write(data(2, 2000)));
      log_.reset();
      env_.kill();
      open();
      ASSERT_FALSE(damage_);
      lose_power(DiskEnv::Tear::kAllLost);
      open();
      ASSERT_FALSE(damage_);
    }
  }

  static constexpr std::size_t kExhaustive = 9;  // blocks: 512 subsets
  std::vector<Moment> moments_;
};

TEST_F(SubsetTest, AnySubsetOfUnsyncedBlocks_OpensBetweenLastSyncAndLastAppend) {
  std::vector<std::pair<wal::Append, bool>> script;
  Model end;
  const auto add = [&](wal::Append what, bool synced) {
    end.apply(what);
    script.emplace_back(std::move(what), synced);
  };
  const auto next = [&](int count, std::size_t size) {
    std::swap(model_, end);
    wal::Append append = data(count, size);
    std::swap(model_, end);
    return append;
  };
  add(next(2, 100), true);
  for (int i = 0; i < 4; ++i) add(next(1, 100), false);
  add(next(1, 9000), false);  // a batch of three blocks
  add(next(1, 100), false);
  wal::Append vote = next(1, 50);
  vote.hard_state = Bytes(40, std::byte{1});
  add(vote, false);  // synced by itself, and what is before it too
  for (int i = 0; i < 5; ++i) add(next(1, 100), false);
  end.term = Term(2);
  wal::Append replace;
  replace.truncate_from = Index(end.groups[0].last().index.value - 1);
  add(replace, false);
  add(next(1, 100), false);
  for (int i = 0; i < 12; ++i) add(next(1, 5000), false);  // into the next segment
  model_ = {};
  run(script);
  if (HasFatalFailure()) return;

  std::size_t disks = 0;
  std::size_t widest = 0;
  const auto moments = std::move(moments_);
  for (std::size_t i = 0; i < moments.size(); ++i) {
    SCOPED_TRACE("moment " + std::to_string(i));
    std::size_t shortest = SIZE_MAX;
    std::size_t longest = 0;
    check(moments[i], shortest, longest);
    if (HasFatalFailure()) return;
    disks += moments[i].disks.size();
    widest = std::max(widest, longest - shortest);
  }
  EXPECT_GT(disks, 2000u);
  EXPECT_GE(widest, 4u);  // the cuts did take appends that were only written
}

}  // namespace
}  // namespace wal_test

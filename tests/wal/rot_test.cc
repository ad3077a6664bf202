// Rot in blocks that were synced (R12): around appends whose pieces lie in several segments, in recycled files, and anywhere in random
// histories. What was acknowledged is there or its loss is reported, no vote is forgotten, and the log goes on from what was found.
#include <numeric>

#include "tests/wal/fixture.h"
#include "wal/format.h"

namespace wal_test {
namespace {

class RotTest : public LogTest {
 protected:
  struct Block {
    std::string path;
    std::size_t offset;
  };
  void rot(const Block& block, std::size_t count = 1) {
    Bytes bytes = env_.contents(block.path);
    for (std::size_t i = block.offset; i < std::min(bytes.size(), block.offset + count * wal::kBlockSize); ++i)
      bytes[i] = static_cast<std::byte>(random_.next());
    env_.set_contents(block.path, bytes);
  }
  // First blocks of the batches from `first` on, without seals.
  std::vector<Block> batches(std::uint64_t first) {
    std::vector<Block> out;
    for (const auto& [path, bytes] : env_.snapshot())
      for (std::size_t at = wal::kDataStart; at + wal::kBlockSize <= bytes.size(); at += wal::kBlockSize)
        if (const auto header = wal::decode_batch_header(base::ByteView(bytes).subspan(at));
            header && header->lsn.value >= first && (header->flags & wal::kFlagSeal) == 0)
          out.push_back({path, at});
    return out;
  }
  // A hard state and three entries of 30,000 bytes: pieces in two segments of 64 KiB. Returns its batches: first piece, echo, last piece.
  std::vector<Block> append_across_segments(bool sealed) {
    open();
    wal::Append before = entries(Group::kData, 1, 100);
    before.hard_state = Bytes(40, std::byte{1});
    EXPECT_TRUE(append(before));
    wal::Append across = entries(Group::kData, 3, 30000);
    across.hard_state = vote_;
    open();
    EXPECT_TRUE(append(across));
    if (sealed) {
      EXPECT_TRUE(log_->seal());
    }
    log_.reset();
    return batches(3);
  }
  const Bytes vote_ = Bytes(40, std::byte{2});
};

TEST_F(RotTest, FirstPieceOfTheLastAppend_IsReported) {
  const auto pieces = append_across_segments(false);
  ASSERT_GE(pieces.size(), 3u);
  ASSERT_NE(pieces.front().path, pieces.back().path);
  rot(pieces[0]);
  const auto opened = wal::Log::open(env_, options_);
  ASSERT_TRUE(opened);
  ASSERT_TRUE(opened->damage) << "the next segment's header declares the first piece durable";
  EXPECT_EQ(opened->groups[0].entries.size(), 1u);
  EXPECT_EQ(opened->groups[0].hard_state, vote_);
}

TEST_F(RotTest, AnyBatchOfASealedAppend_TakesNoVote) {
  for (const std::size_t which : {0u, 1u, 2u}) {
    SCOPED_TRACE("batch " + std::to_string(which));
    env_.restore({});
    model_ = {};
    const auto pieces = append_across_segments(true);
    ASSERT_GT(pieces.size(), which);
    rot(pieces[which]);
    const auto opened = wal::Log::open(env_, options_);
    ASSERT_TRUE(opened);
    EXPECT_EQ(opened->groups[0].hard_state, vote_);
  }
}

// Behind its rotten headers lie batches of the file's former life, whose sequence is lower: they must not pass for this one's.
TEST_F(RotTest, HeadersAndOnlyBatchOfARecycledFile_IsReported) {
  open();
  for (int step = 1; step < 200; ++step) {
    ASSERT_TRUE(append(entries(Group::kData, 1, 3000)));
    const LogId last = model_.groups[0].last();
    if (step % 10 == 9) {
      ASSERT_TRUE(set_floor(Group::kData, last.index.value - 2));
    }
    log_.reset();
    const std::string newest = env_.paths().back();
    const Bytes bytes = env_.contents(newest);
    const auto header = wal::decode_segment_header(base::ByteView(bytes).first(wal::kBlockSize));
    int own = 0;
    int former = 0;
    for (const Block& block : batches(1)) {
      if (!header || block.path != newest) continue;
      const auto batch = wal::decode_batch_header(base::ByteView(bytes).subspan(block.offset));
      (batch->sequence == header->sequence ? own : former) += 1;
    }
    if (own == 1 && former > 0) {
      rot({newest, 0}, 3);
      const auto opened = wal::Log::open(env_, options_);
      ASSERT_TRUE(opened) << opened.error().message;
      EXPECT_TRUE(opened->damage) << "entry " << last.index.value << " is gone";
      return;
    }
    open();
  }
  FAIL() << "no recycled file was the newest with one batch";
}

// Random histories: appends of one or many pieces, truncations, hard states, floors, restarts.
class RotFuzz : public RotTest {
 protected:
  void begin(std::uint64_t seed) {
    random_ = base::Random(seed);
    env_.restore({});
    model_ = {};
    options_ = make_options(65536 * (1 + random_.below(2)));
    open();
  }
  // Kinds as they come; false: it did nothing.
  base::Result<bool> step(wal::Log& log) {
    const GroupModel& data = model_.groups[0];
    const auto kind = random_.below(12);
    if (kind == 0 && !data.entries.empty()) {
      const LogId floor = data.entries[random_.below(data.entries.size())].id;
      HQL_TRY(log.set_floor(Group::kData, floor));
      model_.set_floor(Group::kData, floor);
      return true;
    }
    if (kind == 1) return log.prepare_segments().has_value();
    wal::Append what = entries(random_.chance(1, 5) ? Group::kCache : Group::kData, static_cast<int>(random_.below(4)),
                               random_.chance(1, 3) ? random_.below(90000) : random_.below(3000));
    if (random_.chance(1, 2)) what.hard_state = random_bytes(random_, 40);
    const GroupModel& group = model_.groups[slot_of(what.group)];
    if (random_.chance(1, 6) && !group.entries.empty()) {
      model_.term = model_.term.next();
      const std::uint64_t from = group.floor.index.value + 1 + random_.below(group.entries.size());
      what.truncate_from = Index(from);
      for (std::size_t i = 0; i < what.entries.size(); ++i) what.entries[i].id = {model_.term, Index(from + i)};
    }
    if (!what.hard_state && !what.truncate_from && what.entries.empty()) return false;
    HQL_TRY(log.append_batch({what}));
    model_.apply(what);
    return true;
  }
  void check_found(const wal::Opened& opened) {
    for (std::size_t slot = 0; slot < base::kGroupCount; ++slot) {
      const auto& got = opened.groups[slot];
      const LogId end = got.entries.empty() ? got.floor : got.entries.back().id;
      EXPECT_TRUE(opened.damage || end.index == model_.groups[slot].last().index)
          << "group " << slot + 1 << " ends at " << end.index.value << " without a word";
      EXPECT_EQ(got.hard_state, model_.groups[slot].hard_state) << "group " << slot + 1 << " forgot a vote";
    }
  }
  // The log goes on from what was found.
  void check_goes_on(wal::Opened opened) {
    Model held;
    held.term = Term(model_.term.value + 1);
    for (std::size_t slot = 0; slot < base::kGroupCount; ++slot) {
      held.groups[slot].floor = opened.groups[slot].floor;
      held.groups[slot].hard_state = opened.groups[slot].hard_state;
      for (const auto& entry : opened.groups[slot].entries) {
        const auto read = opened.log->read(kGroups[slot], entry.id.index, entry.id.index, 1);
        ASSERT_TRUE(read) << read.error().message;
        held.groups[slot].entries.push_back(read->front());
      }
    }
    model_ = held;
    for (int restart = 0; restart < 2; ++restart) {
      for (std::uint64_t i = random_.below(4); i > 0; --i) {
        const auto done = step(*opened.log);
        ASSERT_TRUE(done) << done.error().message;
      }
      if (const auto& data = model_.groups[0]; !data.entries.empty()) {  // what no segment needs any more is recycled
        const LogId floor = data.entries[random_.below(data.entries.size())].id;
        ASSERT_TRUE(opened.log->set_floor(Group::kData, floor));
        model_.set_floor(Group::kData, floor);
      }
      opened.log.reset();
      env_.power_cut(DiskEnv::Tear::kAllLost);
      auto again = wal::Log::open(env_, options_);
      ASSERT_TRUE(again) << again.error().message;
      opened = std::move(*again);
      ASSERT_EQ(difference(model_, opened), "") << "after restart " << restart;
    }
  }
};

TEST_F(RotFuzz, OneBlockOfASealedLog_IsReportedOrHarmlessAndTheLogGoesOn) {
  std::vector<std::uint64_t> seeds(30);
  std::iota(seeds.begin(), seeds.end(), 1);
  seeds.push_back(211);  // recycling by the header of a segment that damage has voided
  for (const std::uint64_t seed : seeds) {
    begin(seed);
    for (std::uint64_t i = 3 + random_.below(12); i > 0; --i) ASSERT_TRUE(step(*log_));
    ASSERT_TRUE(log_->seal());
    log_.reset();
    const auto disk = env_.snapshot();
    const Model whole = model_;
    for (const auto& [path, bytes] : disk) {
      if (!path.ends_with(".seg")) continue;
      for (std::size_t offset = 0; offset < bytes.size(); offset += wal::kBlockSize) {
        SCOPED_TRACE("seed " + std::to_string(seed) + ", " + path + " at " + std::to_string(offset));
        env_.restore(disk);
        model_ = whole;
        rot({path, offset});
        auto opened = wal::Log::open(env_, options_);
        ASSERT_TRUE(opened) << opened.error().message;
        check_found(*opened);
        check_goes_on(std::move(*opened));
        if (HasFailure()) return;
      }
    }
  }
}

}  // namespace
}  // namespace wal_test

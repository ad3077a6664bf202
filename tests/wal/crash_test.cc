// Crashes, place by place: at every operation of a history, and at every sector of a batch.
#include "tests/wal/fixture.h"
#include "wal/batch.h"

namespace wal_test {
namespace {

// A history that uses everything: hard states, fragments over segments, truncation, floors that recycle, reset, ready segments.
class CrashTest : public LogTest {
 protected:
  using Step = std::function<base::Status(wal::Log&)>;
  struct Script {
    std::vector<Step> steps;
    std::vector<Model> states;            // before each step, and after the last
    std::vector<Model> hard_states_only;  // of each step
  };

  void add(Script& script, std::vector<wal::Append> appends) {
    Model hard = model_;
    for (const auto& append : appends) {
      model_.apply(append);
      if (append.hard_state) hard.groups[slot_of(append.group)].hard_state = *append.hard_state;
    }
    script.hard_states_only.push_back(hard);
    script.steps.push_back([appends](wal::Log& log) { return log.append_batch(appends); });
    script.states.push_back(model_);
  }
  void add(Script& script, Step step) {
    script.hard_states_only.push_back(model_);
    script.steps.push_back(std::move(step));
    script.states.push_back(model_);
  }

  static void print(DiskEnv& env) {
    EXPECT_TRUE(wal::dump(env, "log", [](const std::string& line) { std::fprintf(stderr, "%s\n", line.c_str()); }));
  }

  Script make_script() {
    Script script;
    script.states.push_back(model_);
    const auto prepare = [](wal::Log& log) -> base::Status {
      auto done = log.prepare_segments();
      return done ? base::ok() : base::Status(done.error());
    };
    wal::Append vote = entries(Group::kData, 0, 0);
    vote.hard_state = Bytes(40, std::byte{1});
    add(script, {vote});
    add(script, {entries(Group::kData, 3, 900), entries(Group::kCache, 2, 50)});
    wal::Append both = entries(Group::kData, 2, 6000);
    both.hard_state = Bytes(40, std::byte{2});
    add(script, {both});
    add(script, prepare);
    add(script, {entries(Group::kData, 2, 60000)});
    model_.term = Term(2);
    wal::Append replace;
    replace.truncate_from = Index(6);
    replace.hard_state = Bytes(40, std::byte{3});
    replace.entries = {make_entry(random_, {Term(2), Index(6)}, 300), make_entry(random_, {Term(2), Index(7)}, 90000)};
    add(script, {replace});
    const LogId floor = model_.groups[0].entries[5].id;
    model_.set_floor(Group::kData, floor);
    add(script, [floor](wal::Log& log) { return log.set_floor(Group::kData, floor); });
    model_.set_floor(Group::kCache, {Term(1), Index(2)});
    add(script, [](wal::Log& log) { return log.set_floor(Group::kCache, {Term(1), Index(2)}); });
    add(script, {entries(Group::kCache, 1, 70000), entries(Group::kData, 1, 10)});
    model_.reset(Group::kCache, {Term(2), Index(500)});
    add(script, [](wal::Log& log) { return log.reset(Group::kCache, {Term(2), Index(500)}); });
    add(script, [](wal::Log& log) { return log.seal(); });
    add(script, prepare);
    add(script, {entries(Group::kCache, 4, 9000)});
    return script;
  }

  // Runs the script with a crash at operation `crash` (0: none). Returns how many operations there were.
  std::uint64_t run(const Script& script, std::uint64_t crash, std::uint64_t seed, int aftermath) {
    DiskEnv env(seed);
    model_ = {};
    std::size_t done = 0;
    {
      auto opened = wal::Log::open(env, options_);
      EXPECT_TRUE(opened);
      if (!opened) return 0;
      env.arm(crash, Fault::kDie);
      while (done < script.steps.size() && script.steps[done](*opened->log)) ++done;
    }
    const std::uint64_t operations = env.operations();
    if (crash == 0) return operations;
    EXPECT_LT(done, script.steps.size());
    if (aftermath == 0) env.kill();
    if (aftermath == 1) env.power_cut(DiskEnv::Tear::kAllLost);
    if (aftermath == 2) env.power_cut(DiskEnv::Tear::kAllKept);
    if (aftermath >= 3) env.power_cut();
    const std::string trace = "crash at operation " + std::to_string(crash) + " aftermath " +
                              std::to_string(aftermath) + " seed " + std::to_string(seed) + " step " +
                              std::to_string(done);
    auto opened = wal::Log::open(env, options_);
    EXPECT_TRUE(opened) << trace << opened.error().message;
    if (!opened) return operations;
    EXPECT_FALSE(opened->damage) << trace << ": " << opened->damage->where;
    const std::string before = difference(script.states[done], *opened);
    const std::string after = difference(script.states[done + 1], *opened);
    const std::string hard = difference(script.hard_states_only[done], *opened);
    EXPECT_TRUE(before.empty() || after.empty() || hard.empty())
        << trace << ": " << before << " / " << after << " / " << hard;
    // And the log goes on from there, through a second crash that loses what is not synced.
    const Model& held = before.empty()  ? script.states[done]
                        : after.empty() ? script.states[done + 1]
                                        : script.hard_states_only[done];
    Model next = held;
    wal::Append more;
    more.hard_state = Bytes(3, std::byte{77});
    more.entries = {make_entry(random_, {Term(9), held.groups[0].last().index.next()}, 5000)};
    EXPECT_TRUE(opened->log->append_batch({more})) << trace;
    next.apply(more);
    opened->log.reset();
    env.power_cut(DiskEnv::Tear::kAllLost);
    opened = wal::Log::open(env, options_);
    EXPECT_TRUE(opened) << trace;
    if (!opened) return operations;
    EXPECT_FALSE(opened->damage) << trace << ": second start: " << opened->damage->where;
    const std::string again = difference(next, *opened);
    EXPECT_EQ(again, "") << trace << ": second start";
    if (!again.empty()) print(env);
    return operations;
  }
};

TEST_F(CrashTest, EveryOperation_EveryAftermath_HoldsBeforeOrAfter) {
  const Script script = make_script();
  const std::uint64_t operations = run(script, 0, 1, 0);
  ASSERT_GT(operations, 40u);
  const int aftermaths = scaled(12);
  // The first operations make the log and are those of open() itself: a crash there has its own test.
  for (std::uint64_t crash = 1;; ++crash) {
    DiskEnv probe(1);
    ASSERT_TRUE(wal::Log::open(probe, options_));
    if (crash + probe.operations() > operations) break;
    for (int aftermath = 0; aftermath < aftermaths; ++aftermath) {
      run(script, crash, 1000 * crash + static_cast<std::uint64_t>(aftermath), aftermath);
      if (HasFailure()) return;
    }
  }
}

TEST_F(CrashTest, Creation_CrashAtEveryOperation_StartsAgain) {
  for (std::uint64_t crash = 1; crash < 10; ++crash) {
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
      DiskEnv env(seed);
      env.arm(crash, Fault::kDie);
      const bool made = wal::Log::open(env, options_).has_value();
      env.power_cut();
      auto opened = wal::Log::open(env, options_);
      ASSERT_TRUE(opened) << opened.error().message;
      ASSERT_FALSE(opened->damage);
      ASSERT_FALSE(made && opened->created);
      ASSERT_EQ(difference(Model{}, *opened), "");
    }
  }
}

class TearTest : public LogTest {
 protected:
  struct Write {
    std::string path;
    std::uint64_t offset = 0;
    Bytes before;  // what was there
    Bytes bytes;
  };

  // Appends `what` as the last batch and returns what it wrote, in one piece.
  Write last_write(const wal::Append& what) {
    Write write;
    open();
    const auto before = env_.snapshot();
    env_.on_write = [&](const std::string& path, std::uint64_t offset, base::ByteView bytes) {
      const Bytes& old = before.at(path);
      write = {path, offset,
               Bytes(old.begin() + static_cast<std::ptrdiff_t>(offset),
                     old.begin() + static_cast<std::ptrdiff_t>(offset + bytes.size())),
               base::copy_of(bytes)};
    };
    EXPECT_TRUE(log_->append_batch({what}));
    env_.on_write = nullptr;
    log_.reset();
    return write;
  }

  void expect_one_of(const std::map<std::string, Bytes>& disk, const std::vector<Model>& allowed,
                     const std::string& trace) {
    env_.restore(disk);
    auto opened = wal::Log::open(env_, options_);
    ASSERT_TRUE(opened) << trace << opened.error().message;
    ASSERT_FALSE(opened->damage) << trace << opened->damage->where;
    std::string reasons;
    for (const Model& model : allowed) {
      const std::string reason = difference(model, *opened);
      if (reason.empty()) return;
      reasons += reason + "; ";
    }
    FAIL() << trace << reasons;
  }
};

TEST_F(TearTest, EverySectorOfABatch_OldOrGarbageOrZero_BatchCountsWholeOrNotAtAll) {
  for (const std::size_t size : {std::size_t{10}, std::size_t{3000}, std::size_t{20000}}) {
    env_.restore({});
    model_ = {};
    open();
    wal::Append earlier = entries(Group::kData, 2, 1000);
    earlier.hard_state = Bytes(30, std::byte{5});
    ASSERT_TRUE(append(earlier));
    // Stale bytes of the segment's former life under the batch to come.
    const std::string path = "log/0000000000000001.seg";
    log_.reset();
    Bytes bytes = env_.contents(path);
    for (std::size_t i = 20480; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(random_.next());
    env_.set_contents(path, bytes);
    open();
    wal::Append last = entries(Group::kData, 2, size);
    last.hard_state = Bytes(30, std::byte{6});
    const Model before = model_;
    Model hard = model_;
    hard.groups[0].hard_state = *last.hard_state;
    Model after = model_;
    after.apply(last);
    const Write write = last_write(last);
    const auto disk = env_.snapshot();
    const std::size_t sectors = write.bytes.size() / kSectorSize;
    ASSERT_GE(sectors, 16u);  // the batch and its echo
    for (std::size_t sector = 0; sector < sectors; ++sector) {
      for (int kind = 0; kind < 5; ++kind) {
        auto torn = disk;
        Bytes& file = torn.at(write.path);
        // kind 3: this sector and all after it are old; 4: all before it are.
        const std::size_t from = kind == 4 ? 0 : sector;
        const std::size_t to = kind == 3 ? sectors : kind == 4 ? sector : sector + 1;
        for (std::size_t i = from * kSectorSize; i < to * kSectorSize; ++i) {
          std::byte& byte = file[write.offset + i];
          if (kind == 0 || kind >= 3) byte = write.before[i];
          if (kind == 1) byte = static_cast<std::byte>(random_.next());
          if (kind == 2) byte = std::byte{0};
        }
        expect_one_of(torn, {before, hard, after},
                      "size " + std::to_string(size) + " sector " + std::to_string(sector) + " kind " +
                          std::to_string(kind) + ": ");
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST_F(TearTest, HardStateBatch_EitherCopyRotten_VoteIsKept) {
  open();
  ASSERT_TRUE(append(entries(Group::kData, 1, 100)));
  wal::Append vote;
  vote.hard_state = Bytes(40, std::byte{6});
  Model after = model_;
  after.apply(vote);
  const Write write = last_write(vote);
  ASSERT_EQ(write.bytes.size(), 2 * wal::kBlockSize);
  const auto disk = env_.snapshot();
  for (std::size_t block = 0; block < 2; ++block) {
    auto rotten = disk;
    for (std::size_t i = 0; i < wal::kBlockSize; ++i) {
      rotten.at(write.path)[write.offset + block * wal::kBlockSize + i] = static_cast<std::byte>(random_.next());
    }
    expect_one_of(rotten, {after}, "block " + std::to_string(block) + ": ");
  }
}

TEST_F(TearTest, GarbageBesideSyncedBlocks_IsNoDamageAndIsWrittenOver) {
  for (int round = 0; round < 50; ++round) {
    env_.restore({});
    model_ = {};
    open();
    std::uint64_t end = 0;
    env_.on_write = [&](const std::string&, std::uint64_t offset, base::ByteView bytes) {
      if (offset + bytes.size() < 65536) end = offset + bytes.size();
    };
    const int batches = 1 + round % 5;
    for (int i = 0; i < batches; ++i) ASSERT_TRUE(append(entries(Group::kData, 1, random_.next() % 5000)));
    env_.on_write = nullptr;
    log_.reset();
    const std::string path = "log/0000000000000001.seg";
    Bytes bytes = env_.contents(path);
    for (std::size_t i = end; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(random_.next());
    env_.set_contents(path, bytes);
    open();
    ASSERT_FALSE(damage_) << damage_->where;
    ASSERT_TRUE(append(entries(Group::kData, 2, 100)));
    open();
    ASSERT_FALSE(damage_) << damage_->where;
  }
}

// A recycled segment, or a write that was given up, can leave a whole and valid batch just where the next one is to come.
TEST_F(TearTest, StaleValidBatchAtTheTail_OfAnotherSaltPlaceOrPredecessor_IsNotTaken) {
  open();
  const Write write = last_write(entries(Group::kData, 1, 100));
  const auto disk = env_.snapshot();
  const auto good = wal::decode_batch_header(write.bytes);
  ASSERT_TRUE(good);
  for (int kind = 0; kind < 6; ++kind) {
    wal::BatchBuilder::Frame frame{
        good->salt, good->sequence, base::Lsn(good->lsn.value), {LogId{Term(1), Index(1)}, LogId{}}};
    std::uint32_t crc = good->crc;
    std::uint64_t offset = write.offset + wal::kBlockSize;
    base::Lsn lsn = good->lsn.next();
    if (kind == 1) frame.salt ^= 1;
    if (kind == 2) frame.sequence += 1;
    if (kind == 3) offset += wal::kBlockSize;
    if (kind == 4) crc ^= 1;
    if (kind == 5) lsn = good->lsn;
    if (kind == 5) frame.durable_through = {};
    const Entry entry = make_entry(random_, {Term(1), Index(2)}, 100);
    const std::vector<wal::Item> items = {
        {{wal::RecordType::kEntry, Group::kData, entry.kind, 0, 0, Index(2), Term(1)}, base::view_of(entry.payload)}};
    std::vector<wal::Place> places;
    wal::BatchBuilder builder;
    builder.begin(items, places);
    Bytes batch(wal::kBlockSize);
    builder.pack(frame, offset, lsn, wal::kFlagFirst, batch.size(), batch.data(), crc);
    auto stale = disk;
    std::copy(batch.begin(), batch.end(),
              stale.at(write.path).begin() + static_cast<std::ptrdiff_t>(write.offset + wal::kBlockSize));
    env_.restore(stale);
    auto opened = wal::Log::open(env_, options_);
    ASSERT_TRUE(opened);
    // Kind 0 changes nothing: it shows that the batch is otherwise as good as any.
    EXPECT_EQ(opened->groups[0].entries.size(), kind == 0 ? 2u : 1u) << kind;
    EXPECT_FALSE(opened->damage) << kind;
  }
}

TEST_F(TearTest, TornBatchOfSeveralPieces_LaterPiecesDoNotComeBack) {
  options_ = make_options(std::uint64_t{32} << 20);
  open();
  ASSERT_TRUE(append(entries(Group::kData, 1, 100)));
  const Model before = model_;
  log_.reset();
  const auto disk = env_.snapshot();
  std::vector<std::uint64_t> offsets;
  open();
  env_.on_write = [&](const std::string&, std::uint64_t offset, base::ByteView) { offsets.push_back(offset); };
  const wal::Append large = entries(Group::kData, 2, std::size_t{9} << 20);
  ASSERT_TRUE(log_->append_batch({large}));
  env_.on_write = nullptr;
  log_.reset();
  // The first piece is lost, the later ones are whole.
  auto torn = env_.snapshot();
  const std::string path = "log/0000000000000001.seg";
  ASSERT_GE(offsets.size(), 3u);
  for (std::size_t i = 0; i < kSectorSize; ++i) torn.at(path)[offsets[0] + i] = std::byte{0};
  env_.restore(torn);
  open();
  ASSERT_FALSE(damage_) << damage_->where;
  // The same entries again, in the same places: what is left of the first try must not be joined to them.
  wal::Append again;
  again.entries = {large.entries[0]};
  ASSERT_TRUE(append(again));
  open();
  ASSERT_FALSE(damage_) << damage_->where;
}

}  // namespace
}  // namespace wal_test

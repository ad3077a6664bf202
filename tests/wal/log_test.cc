// The log call by call: what each promises, its refusals, floors and recycling, full disks, poison, fault points.
#include "base/fault.h"
#include "tests/wal/fixture.h"

namespace wal_test {
namespace {

using base::Code;

TEST_F(LogTest, Open_NothingThere_IsCreatedOnce) {
  auto opened = wal::Log::open(env_, options_);
  ASSERT_TRUE(opened);
  EXPECT_TRUE(opened->created);
  EXPECT_EQ(opened->identity.incarnation, base::Incarnation(99));
  opened->log.reset();
  env_.power_cut(DiskEnv::Tear::kAllLost);
  opened = wal::Log::open(env_, options_);
  ASSERT_TRUE(opened);
  EXPECT_FALSE(opened->created);
}

TEST_F(LogTest, Open_AnotherIncarnation_IsRefusedNamingBoth) {
  open();
  log_.reset();
  options_.identity.incarnation = base::Incarnation(0xabc);
  const auto opened = wal::Log::open(env_, options_);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, Code::kMisuse);
  EXPECT_NE(opened.error().message.find("0000000000000063"), std::string::npos) << opened.error().message;
  EXPECT_NE(opened.error().message.find("0000000000000abc"), std::string::npos) << opened.error().message;
  options_.identity = {8, base::NodeId(1), base::Incarnation(99)};
  EXPECT_EQ(wal::Log::open(env_, options_).error().code, Code::kMisuse);
}

TEST_F(LogTest, SetCluster_AfterCreation_IsFoundFromTheNextSegmentOn) {
  options_.identity.cluster = 0;
  open();
  log_->set_cluster(42);
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(append(entries(Group::kData, 1, 30000)));
  log_.reset();
  auto opened = wal::Log::open(env_, options_);
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_EQ(opened->identity.cluster, 42u);
}

TEST_F(LogTest, Append_InPreparedSpace_IsOneWriteAndOneSync) {
  open();
  ASSERT_TRUE(append(entries(Group::kData, 1, 100)));
  const auto operations = env_.operations();
  const auto syncs = log_->sync_count();
  ASSERT_TRUE(log_->append_batch({entries(Group::kData, 3, 500), entries(Group::kCache, 2, 500)}));
  EXPECT_EQ(env_.operations(), operations + 2);
  EXPECT_EQ(log_->sync_count(), syncs + 1);
}

TEST_F(LogTest, Append_NothingToSay_WritesNothing) {
  open();
  const auto operations = env_.operations();
  ASSERT_TRUE(log_->append_batch({}));
  EXPECT_EQ(env_.operations(), operations);
}

TEST_F(LogTest, Append_NotContiguous_IsRefusedAndChangesNothing) {
  open();
  ASSERT_TRUE(append(entries(Group::kData, 3, 10)));
  wal::Append gap = entries(Group::kData, 1, 10);
  gap.entries[0].id.index = Index(9);
  EXPECT_EQ(log_->append_batch({gap}).error().code, Code::kMisuse);
  wal::Append again = entries(Group::kData, 1, 10);
  again.entries[0].id.index = Index(3);
  EXPECT_EQ(log_->append_batch({again}).error().code, Code::kMisuse);
  ASSERT_TRUE(set_floor(Group::kData, 2));
  wal::Append below;
  below.truncate_from = Index(2);
  EXPECT_EQ(log_->append_batch({below}).error().code, Code::kMisuse);
  wal::Append state;
  state.hard_state = Bytes(257);
  EXPECT_EQ(log_->append_batch({state}).error().code, Code::kMisuse);
  open();
}

TEST_F(LogTest, Append_TwoGroupsInterleaved_EachKeepsItsOwn) {
  open();
  for (int i = 0; i < 20; ++i) {
    wal::Append data = entries(Group::kData, 1 + i % 3, 700);
    wal::Append cache = entries(Group::kCache, 1 + i % 2, 300);
    data.hard_state = Bytes(5, static_cast<std::byte>(i));
    cache.hard_state = Bytes(6, static_cast<std::byte>(i + 100));
    ASSERT_TRUE(log_->append_batch({data, cache}));
    model_.apply(data);
    model_.apply(cache);
  }
  wal::Append cut;
  cut.group = Group::kCache;
  cut.truncate_from = Index(5);
  ASSERT_TRUE(append(cut));
  open();
}

TEST_F(LogTest, Append_EntryOfTheLargestProposalInSmallSegments_IsReadBack) {
  options_ = make_options(1 << 20);
  open();
  ASSERT_TRUE(append(entries(Group::kData, 1, base::kEntryPayloadMax)));
  ASSERT_TRUE(append(entries(Group::kCache, 2, 10)));
  EXPECT_GE(count_files(".seg"), 64u);
  open();
  EXPECT_EQ(wal::verify(env_, "log").has_value(), true);
}

TEST_F(LogTest, Append_LargerThanOneBatchInOneSegment_IsSeveralBatchesAndOneSync) {
  options_ = make_options(std::uint64_t{64} << 20);
  open();
  const auto syncs = log_->sync_count();
  wal::Append large = entries(Group::kData, 3, std::size_t{9} << 20);
  large.hard_state = Bytes(9);
  ASSERT_TRUE(append(large));
  EXPECT_EQ(log_->sync_count(), syncs + 1);
  ASSERT_TRUE(append(entries(Group::kData, 1, 10)));
  open();
}

TEST_F(LogTest, Read_Limits_AreKept) {
  open();
  ASSERT_TRUE(append(entries(Group::kData, 10, 1000)));
  auto some = log_->read(Group::kData, Index(3), Index(8), 2500);
  ASSERT_TRUE(some);
  EXPECT_EQ(some->size(), 2u);
  EXPECT_EQ(log_->read(Group::kData, Index(3), Index(8), 1)->size(), 1u);
  EXPECT_EQ(log_->read(Group::kData, Index(3), Index(8), 100000)->size(), 6u);
  EXPECT_EQ(log_->read(Group::kData, Index(11), Index(12), 1).error().code, Code::kNotFound);
  EXPECT_EQ(log_->read(Group::kCache, Index(1), Index(1), 1).error().code, Code::kNotFound);
  ASSERT_TRUE(set_floor(Group::kData, 4));
  EXPECT_EQ(log_->read(Group::kData, Index(4), Index(8), 1).error().code, Code::kNotFound);
}

TEST_F(LogTest, Read_RottenEntry_NamesThePlace) {
  open();
  ASSERT_TRUE(append(entries(Group::kData, 1, 3000)));
  const std::string path = "log/0000000000000001.seg";
  Bytes bytes = env_.contents(path);
  bytes[8192 + 1000] ^= std::byte{1};
  env_.set_contents(path, bytes);
  const auto read = log_->read(Group::kData, Index(1), Index(1), 1);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, Code::kCorrupt);
  EXPECT_NE(read.error().message.find(path), std::string::npos);
}

TEST_F(LogTest, Seal_Twice_WritesOnce) {
  open();
  ASSERT_TRUE(append(entries(Group::kData, 1, 10)));
  ASSERT_TRUE(log_->seal());
  const auto operations = env_.operations();
  ASSERT_TRUE(log_->seal());
  EXPECT_EQ(env_.operations(), operations);
  open();
  ASSERT_TRUE(log_->seal());
}

TEST_F(LogTest, SetFloor_PastSegments_RecyclesThemAndTheirOldRecordsDoNotCount) {
  open();
  for (int round = 0; round < 12; ++round) {
    for (int i = 0; i < 12; ++i) ASSERT_TRUE(append(entries(Group::kData, 1, 7000)));
    ASSERT_TRUE(set_floor(Group::kData, model_.groups[0].last().index.value));
    EXPECT_LE(count_files(".seg"), 3u);
    EXPECT_LE(count_files(".free"), 2u);
    open();
    if (round % 3 == 0) env_.power_cut();
    if (round % 3 == 0) open();
  }
  EXPECT_GE(count_files(".free"), 1u);
}

TEST_F(LogTest, SetFloor_OneGroupNeedsOldSegments_TheyStay) {
  open();
  ASSERT_TRUE(append(entries(Group::kCache, 1, 10)));
  for (int i = 0; i < 30; ++i) ASSERT_TRUE(append(entries(Group::kData, 1, 7000)));
  const std::size_t before = count_files(".seg");
  ASSERT_TRUE(set_floor(Group::kData, 30));
  EXPECT_EQ(count_files(".seg"), before);
  open();
  ASSERT_TRUE(set_floor(Group::kCache, 1));
  EXPECT_LT(count_files(".seg"), before);
  open();
}

TEST_F(LogTest, SetFloor_NotAnEntry_IsRefused) {
  open();
  ASSERT_TRUE(append(entries(Group::kData, 3, 10)));
  EXPECT_EQ(log_->set_floor(Group::kData, {Term(1), Index(4)}).error().code, Code::kMisuse);
  EXPECT_EQ(log_->set_floor(Group::kData, {Term(2), Index(2)}).error().code, Code::kMisuse);
  EXPECT_TRUE(log_->set_floor(Group::kData, {Term(1), Index(2)}));
}

TEST_F(LogTest, Reset_AfterSnapshot_StartsBehindIt) {
  open();
  ASSERT_TRUE(append(entries(Group::kData, 3, 10)));
  ASSERT_TRUE(log_->reset(Group::kData, {Term(4), Index(1000)}));
  model_.reset(Group::kData, {Term(4), Index(1000)});
  model_.term = Term(4);
  open();
  ASSERT_TRUE(append(entries(Group::kData, 2, 10)));
  open();
}

TEST_F(LogTest, Prepare_Repeated_EndsWithReadySegmentsThatAreUsed) {
  open();
  int slices = 0;
  while (true) {
    const auto done = log_->prepare_segments();
    ASSERT_TRUE(done);
    if (*done) break;
    ASSERT_LT(++slices, 100);
  }
  EXPECT_EQ(count_files(".free"), 2u);
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(append(entries(Group::kData, 1, 7000)));
  EXPECT_LT(count_files(".free"), 2u);
  open();
}

TEST_F(LogTest, DiskFull_ReadySegmentsLeft_FullBeforeTheLastIsUsedAndAcceptedAgainLater) {
  open();
  while (!*log_->prepare_segments()) continue;
  env_.set_space(env_.used());
  EXPECT_FALSE(log_->full());
  int accepted = 0;
  while (!log_->full()) {
    ASSERT_TRUE(append(entries(Group::kData, 1, 7000)));
    const auto prepared = log_->prepare_segments();
    ASSERT_TRUE(prepared || prepared.error().code == Code::kFull);
    ASSERT_LT(++accepted, 100);
  }
  EXPECT_EQ(count_files(".free"), 1u);
  // What is under way still fits: the last ready segment is there for it.
  for (int i = 0; i < 7; ++i) ASSERT_TRUE(append(entries(Group::kData, 1, 7000)));
  base::Status status = base::ok();
  for (int i = 0; i < 20 && status; ++i) status = append(entries(Group::kData, 1, 7000));
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, Code::kFull);
  EXPECT_FALSE(log_->poisoned());
  EXPECT_TRUE(log_->full());
  env_.set_space(UINT64_MAX);
  ASSERT_TRUE(append(entries(Group::kData, 1, 7000)));
  while (!*log_->prepare_segments()) continue;
  EXPECT_FALSE(log_->full());
  open();
}

TEST_F(LogTest, DiskFull_InTheMiddleOfAFragmentedAppend_NothingIsRemembered) {
  open();
  ASSERT_TRUE(append(entries(Group::kData, 2, 100)));
  env_.set_space(env_.used() + 100000);
  wal::Append large = entries(Group::kData, 2, 300000);
  large.hard_state = Bytes(8, std::byte{9});
  EXPECT_EQ(append(large).error().code, Code::kFull);
  env_.set_space(UINT64_MAX);
  open();
  ASSERT_TRUE(append(entries(Group::kData, 1, 300000)));
  open();
  EXPECT_TRUE(wal::verify(env_, "log"));
}

TEST_F(LogTest, FailedSync_Poisons_AndNothingIsSyncedAgain) {
  open();
  ASSERT_TRUE(append(entries(Group::kData, 1, 100)));
  env_.arm(2, Fault::kIo);
  EXPECT_EQ(append(entries(Group::kData, 1, 100)).error().code, Code::kPoisoned);
  EXPECT_TRUE(log_->poisoned());
  const auto operations = env_.operations();
  EXPECT_EQ(append(entries(Group::kData, 1, 100)).error().code, Code::kPoisoned);
  EXPECT_EQ(log_->seal().error().code, Code::kPoisoned);
  EXPECT_EQ(log_->set_floor(Group::kData, {Term(1), Index(1)}).error().code, Code::kPoisoned);
  EXPECT_EQ(log_->reset(Group::kData, {Term(1), Index(1)}).error().code, Code::kPoisoned);
  EXPECT_EQ(env_.operations(), operations);
}

#if defined(HQL_FAULTS)
class LogFaultTest : public LogTest {
 protected:
  ~LogFaultTest() override { base::disarm_faults(); }
};

TEST_F(LogFaultTest, Points_Armed_FailAsTheyShould) {
  open();
  ASSERT_TRUE(base::arm_faults("wal.prepare:enospc"));
  EXPECT_EQ(log_->prepare_segments().error().code, Code::kFull);
  EXPECT_TRUE(log_->full());
  base::disarm_faults();
  ASSERT_TRUE(base::arm_faults("wal.write:enospc:1"));
  EXPECT_EQ(append(entries(Group::kData, 1, 100)).error().code, Code::kFull);
  EXPECT_EQ(base::fault_hits("wal.write"), 1u);
  base::disarm_faults();
  ASSERT_TRUE(append(entries(Group::kData, 1, 100)));
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(append(entries(Group::kData, 1, 7000)));
  ASSERT_TRUE(base::arm_faults("wal.recycle:eio:1"));
  EXPECT_EQ(log_->set_floor(Group::kData, {Term(1), Index(20)}).error().code, Code::kIo);
  EXPECT_FALSE(log_->poisoned());
  model_.set_floor(Group::kData, {Term(1), Index(20)});
  base::disarm_faults();
  open();
  ASSERT_TRUE(base::arm_faults("wal.sync:eio"));
  EXPECT_EQ(append(entries(Group::kData, 1, 100)).error().code, Code::kPoisoned);
}

// R2: what is written and what is remembered may differ; only the next start, which reads what is there, may go on with it.
TEST_F(LogFaultTest, OutOfMemory_Poisons_AndTheNextStartFindsWhatWasAcknowledged) {
  open();
  ASSERT_TRUE(append(entries(Group::kData, 3, 100)));
  for (const char* point : {"wal.write:oom:1", "wal.sync:oom:1"}) {
    ASSERT_TRUE(base::arm_faults(point));
    EXPECT_THROW(static_cast<void>(log_->append_batch({entries(Group::kData, 1, 100)})), std::bad_alloc) << point;
    base::disarm_faults();
    EXPECT_TRUE(log_->poisoned()) << point;
    EXPECT_EQ(append(entries(Group::kData, 1, 100)).error().code, Code::kPoisoned) << point;
    EXPECT_EQ(log_->sync().error().code, Code::kPoisoned) << point;
    EXPECT_EQ(log_->seal().error().code, Code::kPoisoned) << point;
    log_.reset();
    auto opened = wal::Log::open(env_, options_);
    ASSERT_TRUE(opened) << point;
    EXPECT_FALSE(opened->damage) << point;
    EXPECT_GE(opened->groups[0].entries.size(), 3u) << point;
    log_ = std::move(opened->log);
  }
}
#endif

TEST_F(LogTest, Dump_OfAMixedLog_NamesEveryKindOfRecord) {
  open();
  wal::Append first = entries(Group::kData, 2, 100);
  first.hard_state = Bytes(4, std::byte{0xab});
  ASSERT_TRUE(append(first));
  wal::Append cut;
  cut.truncate_from = Index(2);
  ASSERT_TRUE(append(cut));
  ASSERT_TRUE(append(entries(Group::kData, 1, 200000)));
  ASSERT_TRUE(set_floor(Group::kData, 1));
  ASSERT_TRUE(log_->reset(Group::kCache, {Term(1), Index(5)}));
  ASSERT_TRUE(log_->seal());
  std::string text;
  ASSERT_TRUE(wal::dump(env_, "log", [&](const std::string& line) { text += line + "\n"; }));
  for (const char* word :
       {"segment log/0000000000000001.seg", "entry group=1 id=1:1", "hard-state group=1 bytes=abababab", "echo",
        "truncate group=1 from=2", "first group=1", "middle group=1", "last group=1", "floor group=1 at=1:1",
        "reset group=2 at=1:5", "seal", "inside_append", "next_lsn="}) {
    EXPECT_NE(text.find(word), std::string::npos) << word << "\n" << text;
  }
  EXPECT_TRUE(wal::verify(env_, "log"));
  EXPECT_EQ(wal::verify(env_, "nowhere").error().code, Code::kNotFound);
}

}  // namespace
}  // namespace wal_test

// What a start takes for committed, on the log's own bytes (R8, R12): after a power cut that left of a write only the block that repeats its hard
// state, and with a log whose damage brings back entries that had been cut off.
#include <gtest/gtest.h>

#include "node/recovery.h"
#include "tests/node/no_images.h"
#include "tests/wal/disk_env.h"

namespace node {
namespace {

using base::Entry;
using base::Index;
using base::LogId;
using base::Member;
using base::Term;
using wal_test::DiskEnv;

const Member kLeader{base::NodeId(1), base::Incarnation(1)};
const Member kOther{base::NodeId(2), base::Incarnation(1)};
const Member kSelf{base::NodeId(3), base::Incarnation(1)};

Entry entry(std::uint64_t index, std::uint64_t term) {
  if (index == 1) {
    raft::Configuration configuration;
    for (const Member member : {kLeader, kOther, kSelf}) configuration.voters.push_back({member, "host:1", "host:2"});
    return {{Term(term), Index(index)}, base::EntryKind::kConfig, base::share(raft::encode(configuration))};
  }
  return {{Term(term), Index(index)}, base::EntryKind::kData, base::share(base::Bytes(1000, std::byte{7}))};
}

class CommitHint : public ::testing::Test {
 protected:
  void open(const Meta& meta = Meta()) {
    log_.reset();
    wal::Options options;
    options.dir = "log";
    options.identity = {7, kSelf.id, kSelf.incarnation};
    options.segment_size = 1 << 20;
    auto opened = wal::Log::open(env_, options);
    ASSERT_TRUE(opened) << opened.error().message;
    damaged_ = opened->damage.has_value();
    auto recovered = recover_node(*opened, meta, images_, AheadRule());
    ASSERT_TRUE(recovered) << recovered.error().message;
    restored_ = std::move(recovered->restored);
    decided_ = recovered->ledger.at();
    log_ = std::move(opened->log);
  }

  void write(wal::Append append) { ASSERT_TRUE(log_->append_batch({std::move(append)})); }

  DiskEnv env_{1};
  NoImages images_;
  std::unique_ptr<wal::Log> log_;
  raft::Restored restored_;
  LogId decided_;
  bool damaged_ = false;
};

TEST_F(CommitHint, WriteTornToItsEcho_NothingOfTheOldTailIsCommitted) {
  open();
  wal::Append first;  // 51..60 of term 2 were never committed
  first.hard_state = raft::encode(raft::HardState{Term(2), kSelf, Index(40)});
  for (std::uint64_t index = 1; index <= 60; ++index) first.entries.push_back(entry(index, index <= 50 ? 1 : 2));
  write(std::move(first));
  open();
  ASSERT_EQ(restored_.entries.size(), 60u);

  // The leader of term 3 has committed others in their place.
  raft::Core core({.self = kSelf}, std::move(restored_));
  raft::AppendRequest request;
  request.previous = {Term(1), Index(50)};
  request.commit = Index(65);
  for (std::uint64_t index = 51; index <= 65; ++index) request.entries.push_back(entry(index, 3));
  core.step({kLeader, kSelf, Term(3), std::move(request)});
  raft::Ready ready = core.take_ready();
  ASSERT_TRUE(ready.persist.has_value());
  ASSERT_TRUE(ready.persist->hard.has_value());
  ASSERT_EQ(ready.persist->truncate_from, Index(51));
  EXPECT_LE(ready.persist->hard->commit, Index(50));

  std::vector<std::map<std::string, base::Bytes>> disks;  // of that write: nothing, one of its blocks
  env_.on_write = [&](const std::string&, std::uint64_t, base::ByteView) {
    const std::size_t count = env_.unsynced_blocks().size();
    disks.push_back(env_.snapshot_with(std::vector<bool>(count)));
    for (std::size_t only = 0; only < count; ++only) {
      std::vector<bool> kept(count);
      kept[only] = true;
      disks.push_back(env_.snapshot_with(kept));
    }
  };
  write({base::Group::kData, raft::encode(*ready.persist->hard), ready.persist->truncate_from, ready.persist->entries});
  env_.on_write = nullptr;

  std::size_t salvaged = 0;
  for (const auto& disk : disks) {
    log_.reset();
    env_.restore(disk);
    open();
    ASSERT_FALSE(damaged_);
    ASSERT_EQ(restored_.entries.size(), 60u);
    ASSERT_EQ(restored_.entries.back().id, (LogId{Term(2), Index(60)}));
    salvaged += restored_.hard.term == Term(3) ? 1 : 0;
    EXPECT_LE(restored_.hard.commit, Index(50));
    EXPECT_LE(restored_.applied, Index(50));
    // It listens to the leader as if nothing had been.
    raft::Core again({.self = kSelf}, std::move(restored_));
    EXPECT_LE(again.status().commit, Index(50));
    raft::AppendRequest other;
    other.previous = {Term(1), Index(50)};
    other.entries.push_back(entry(51, 3));
    again.step({kLeader, kSelf, Term(3), std::move(other)});
    EXPECT_EQ(again.status().conflicts_below_commit, 0u);
    EXPECT_EQ(again.term_at(Index(51)), Term(3));
  }
  EXPECT_GE(salvaged, 1u);  // the case that this is about was among them
}

// 51..60 of term 2 were cut off for 51..65 of term 3, and that very batch is damaged; hard states after it are whole.
class LostTruncation : public CommitHint {
 protected:
  void SetUp() override {
    open();
    wal::Append first;
    first.hard_state = raft::encode(raft::HardState{Term(2), kSelf, Index(40)});
    for (std::uint64_t index = 1; index <= 60; ++index) first.entries.push_back(entry(index, index <= 50 ? 1 : 2));
    write(std::move(first));
    std::uint64_t offset = 0;  // of the batch, in the only segment
    env_.on_write = [&](const std::string&, std::uint64_t at, base::ByteView) { offset = offset == 0 ? at : offset; };
    wal::Append replaced;
    replaced.truncate_from = Index(51);
    for (std::uint64_t index = 51; index <= 65; ++index) replaced.entries.push_back(entry(index, 3));
    write(std::move(replaced));
    env_.on_write = nullptr;
    wal::Append later;
    later.hard_state = raft::encode(raft::HardState{Term(3), kLeader, Index(65)});
    later.entries.push_back(entry(66, 3));
    write(std::move(later));
    ASSERT_TRUE(log_->seal());
    log_.reset();
    std::string path;
    for (const std::string& each : env_.paths())
      if (each.ends_with(".seg")) path = each;
    base::Bytes bytes = env_.contents(path);
    bytes.at(offset + 200) ^= std::byte{0x10};
    env_.set_contents(path, std::move(bytes));
  }

  // Nothing of the old tail is committed, whatever else is known, and the leader's entries take its place.
  void check(Index committed) {
    ASSERT_TRUE(damaged_);
    ASSERT_EQ(restored_.entries.back().id, (LogId{Term(2), Index(60)}));
    EXPECT_EQ(restored_.applied, committed);
    raft::Core core({.self = kSelf}, std::move(restored_));
    EXPECT_EQ(core.status().commit, committed);
    raft::AppendRequest request;
    request.previous = {Term(1), Index(50)};
    request.commit = Index(65);
    for (std::uint64_t index = 51; index <= 65; ++index) request.entries.push_back(entry(index, 3));
    core.step({kLeader, kSelf, Term(3), std::move(request)});
    EXPECT_EQ(core.status().conflicts_below_commit, 0u);
    EXPECT_EQ(core.status().commit, Index(65));
    EXPECT_EQ(core.term_at(Index(60)), Term(3));
  }

  static Meta meta_with(LogId catalogue, LogId last) {
    Meta meta;
    meta.catalogue.at = catalogue;
    meta.catalogue.formed = true;
    CatalogueRow row;
    row.id = base::DatabaseId(2);
    row.created = Term(1);
    row.name = "app";
    row.last = last;
    meta.catalogue.rows.push_back(row);
    return meta;
  }
};

TEST_F(LostTruncation, HintFromBehindTheGap_CommitsNothing) {
  open();
  check(Index(0));
}

TEST_F(LostTruncation, CatalogueOfAnotherTerm_CommitsNothing) {
  images_.base = {Term(3), Index(55)};
  open(meta_with({Term(3), Index(55)}, {Term(3), Index(55)}));
  EXPECT_EQ(decided_, (LogId{Term(3), Index(55)}));  // what is applied stays so, and is not decided again
  check(Index(0));
}

TEST_F(LostTruncation, CatalogueBehindTheLog_CommitsNothing) {
  images_.base = {Term(3), Index(64)};
  open(meta_with({Term(3), Index(64)}, {Term(3), Index(64)}));
  EXPECT_EQ(decided_, (LogId{Term(3), Index(64)}));
  check(Index(0));
}

TEST_F(LostTruncation, BaseOfAnotherTerm_DoesNotCommitTheOldTail) {
  images_.base = {Term(3), Index(55)};
  open(meta_with({Term(1), Index(45)}, {Term(1), Index(44)}));
  EXPECT_EQ(decided_, (LogId{Term(1), Index(45)}));
  check(Index(45));
}

TEST_F(LostTruncation, BaseThatTheLogHolds_IsCommitted) {
  images_.base = {Term(1), Index(48)};
  open(meta_with({Term(1), Index(45)}, {Term(1), Index(44)}));
  check(Index(48));
}

}  // namespace
}  // namespace node

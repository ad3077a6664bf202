// Crashes and recovery by digest (DESIGN section 7): a killed process, torn unsynced tails, half-written backfills, others who checkpoint or
// write while the owner is dead.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <random>

#include "base/check.h"
#include "base/fault.h"
#include "tests/vfs/image_history.h"

namespace image_test {
namespace {

TEST(Recovery, CleanlyClosed_OpensAtItsBase) {
  TempDir dir;
  Source source;
  const auto jobs = make_history(source, 20);
  {
    Source fresh;
    Node node(dir.path());
    ASSERT_OK(node.create(fresh.create()));
    node.close();
  }
  Node node(dir.path());
  ASSERT_OK(node.open({}));
  EXPECT_EQ(node->status().applied, (base::LogId{base::Term(1), base::Index(1)}));
}

TEST(Recovery, RecordedBaseOfNothing_IsNotFound) {
  TempDir dir;
  EXPECT_EQ(vfs::Database::recorded_base(base::posix_env(), dir.path(), "app.db").error().code, base::Code::kNotFound);
  Node node(dir.path());
  EXPECT_EQ(node.open({}).error().code, base::Code::kNotFound);
  EXPECT_FALSE(std::filesystem::exists(dir.path() + "/app.db"));
}

TEST(Recovery, HalfDoneCreation_IsReplaced) {
  TempDir dir;
  Source source;
  std::ofstream(dir.path() + "/app.db") << "half";
  std::ofstream(dir.path() + "/app.db-wal") << "old";
  Node node(dir.path());
  ASSERT_OK(node.create(source.create()));
  EXPECT_EQ(seen(node.path()), joined(source.image()));
  EXPECT_EQ(std::filesystem::status(node.path()).permissions() & std::filesystem::perms::others_read,
            std::filesystem::perms::others_read);
}

// The page cache survives: everything published is found, wherever the process died.
TEST(Recovery, KilledAtRandom_FindsThePositionAndGoesOn) {
  const std::uint64_t seed = base::posix_env().random();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  Source source;
  const pages::CreateDatabase create = source.create();
  const auto jobs = make_history(source, 70);
  const unsigned rounds = 8 * test_scale();
  for (unsigned round = 0; round < rounds; ++round) {
    TempDir dir;
    const std::uint64_t kill_after = random() % jobs.size();
    const std::uint64_t choices = random();
    int progress[2];
    ASSERT_EQ(::pipe(progress), 0);
    const pid_t child = ::fork();
    if (child == 0) {
      std::mt19937_64 own(choices);
      Node node(dir.path());
      if (!node.create(create)) ::_exit(3);
      for (const pages::PublishJob& job : jobs) {
        if (!node.publish(job)) ::_exit(4);
        const char byte = 1;
        if (::write(progress[1], &byte, 1) != 1) ::_exit(5);
        if (own() % 6 == 0 && !node.sync_point()) ::_exit(6);
        if (own() % 6 == 0 && !node.checkpoint()) ::_exit(7);
      }
      ::pause();
    }
    ::close(progress[1]);
    std::uint64_t published = 0;
    for (char byte; published <= kill_after && ::read(progress[0], &byte, 1) == 1;) ++published;
    ::kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "exit " << WEXITSTATUS(status);
    ::close(progress[0]);
    base::Index position;
    recover_and_finish(dir.path(), source, jobs, &position);
    if (HasFatalFailure()) return;
    EXPECT_GE(position.value, published + 1);
  }
}

// A power cut: what was not synced is lost sector by sector, in any order, or replaced by garbage inside what was written.
TEST(Recovery, TornUnsyncedTail_FindsAPositionAtOrAfterBase) {
  const std::uint64_t seed = base::posix_env().random();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  Source source;
  const pages::CreateDatabase create = source.create();
  const auto jobs = make_history(source, 60);
  TempDir live;
  Node node(live.path());
  ASSERT_OK(node.create(create));
  std::uintmax_t durable = 0;  // of the WAL
  bool header_durable = false;
  unsigned torn = 0;
  for (const pages::PublishJob& job : jobs) {
    ASSERT_OK(node.publish(job));
    header_durable = true;  // synced when the WAL began
    const auto choice = random() % 12;
    if (choice == 0) {
      ASSERT_OK(node.sync_point());
      durable = std::filesystem::file_size(node.path() + "-wal");
    }
    if (choice == 1) {
      // The backfill reaches the end, and the next transaction begins the WAL anew: its old bytes count as unsynced from then on.
      ASSERT_OK(node.checkpoint());
      durable = 32;
    }
    if (random() % 3 != 0) continue;
    for (unsigned image = 0; image < 2 * test_scale(); ++image) {
      TempDir dir;
      copy_database(live.path(), dir.path());
      const std::string wal = dir.path() + "/app.db-wal";
      const std::uintmax_t size = std::filesystem::file_size(wal);
      const std::uintmax_t kept = std::max<std::uintmax_t>(durable, header_durable ? 32 : 0);
      if (size > kept && choice != 1) {
        std::fstream file(wal, std::ios::binary | std::ios::in | std::ios::out);
        for (std::uintmax_t at = kept; at < size; at = (at / 512 + 1) * 512) {
          const std::uintmax_t end = std::min(size, (at / 512 + 1) * 512);
          const auto fate = random() % 3;
          if (fate == 0) continue;  // arrived
          std::string bytes(end - at, '\0');
          if (fate == 2)
            for (char& byte : bytes) byte = static_cast<char>(random());
          file.seekp(static_cast<std::streamoff>(at));
          file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
        }
        file.close();
        if (random() % 2 == 0) std::filesystem::resize_file(wal, kept + random() % (size - kept + 1));
        ++torn;
      }
      recover_and_finish(dir.path(), source, jobs);
      if (HasFatalFailure()) return;
    }
  }
  EXPECT_GT(torn, 0u);
}

// A backfill that the power cut left half done, and garbage in `.sums` blocks.
TEST(Recovery, HalfWrittenBackfillAndRottenSums_AreMended) {
  const std::uint64_t seed = base::posix_env().random();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  Source source;
  const pages::CreateDatabase create = source.create();
  const auto jobs = make_history(source, 40);
  TempDir live;
  Node node(live.path());
  ASSERT_OK(node.create(create));
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    ASSERT_OK(node.publish(jobs[i]));
    if (i % 10 == 9) ASSERT_OK(node.sync_point());
    if (i % 10 != 9 || i < 10) continue;
    TempDir dir;
    copy_database(live.path(), dir.path());
    {
      // All pages of the database are in the WAL, which is durable here: any of them may be torn.
      std::fstream file(dir.path() + "/app.db", std::ios::binary | std::ios::in | std::ios::out);
      std::fstream wal(dir.path() + "/app.db-wal", std::ios::binary | std::ios::in);
      base::Bytes header(4);
      for (std::streamoff at = 32; wal.seekg(at) && wal.read(reinterpret_cast<char*>(header.data()), 4);
           at += 24 + 4096) {
        const std::uint32_t page = base::load_be32(header.data());
        if (random() % 2 == 0 || page == 1) continue;
        file.seekp(static_cast<std::streamoff>(page - 1) * 4096 + static_cast<std::streamoff>(random() % 8 * 512));
        std::string sector(512, static_cast<char>(random()));
        file.write(sector.data(), 512);
      }
      std::fstream sums(dir.path() + "/app.db.sums", std::ios::binary | std::ios::in | std::ios::out);
      sums.seekp(3 * 4096 + static_cast<std::streamoff>(random() % 64));
      sums.put(static_cast<char>(random()));
    }
    recover_and_finish(dir.path(), source, jobs);
    if (HasFatalFailure()) return;
  }
}

struct OwnerDied : ::testing::Test {
  OwnerDied() : jobs((create = source.create(), make_history(source, 30))) {
    Node node(dir.path());
    EXPECT_TRUE(node.create(create));
    for (std::size_t i = 0; i < 20; ++i) {
      EXPECT_TRUE(node.publish(jobs[i]));
      if (i == 8) {
        EXPECT_TRUE(node.sync_point());
      }
    }
    node.crash();
  }
  std::string cli(const std::string& sql) { return shell("sqlite3 " + dir.path() + "/app.db \"" + sql + "\""); }
  // Pages of the frames that carry the WAL header's salts.
  std::vector<std::uint32_t> framed_pages() {
    std::ifstream wal(dir.path() + "/app.db-wal", std::ios::binary);
    std::vector<char> header(32), frame(24);
    wal.read(header.data(), 32);
    std::vector<std::uint32_t> pages;
    for (std::streamoff at = 32; wal.seekg(at) && wal.read(frame.data(), 24); at += 24 + 4096) {
      if (!std::equal(header.begin() + 16, header.begin() + 24, frame.begin() + 8)) break;
      pages.push_back(base::load_be32(reinterpret_cast<const std::byte*>(frame.data())));
    }
    return pages;
  }
  std::size_t live_frames() { return framed_pages().size(); }
  TempDir dir;
  Source source;
  pages::CreateDatabase create;
  std::vector<pages::PublishJob> jobs;
};

TEST_F(OwnerDied, PlainReaderThatCheckpointsAndDeletesTheWal_IsNoHarm) {
  EXPECT_TRUE(std::filesystem::exists(dir.path() + "/app.db-wal"));
  EXPECT_EQ(cli("PRAGMA integrity_check"), "ok");
  EXPECT_FALSE(std::filesystem::exists(dir.path() + "/app.db-wal"));
  base::Index position;
  recover_and_finish(dir.path(), source, jobs, &position);
  EXPECT_EQ(position, jobs[19].id.index);
}

TEST_F(OwnerDied, PlainWriter_IsReported) {
  EXPECT_EQ(cli("UPDATE t SET name='mine' WHERE id=3; SELECT changes()"), "1");
  Node node(dir.path());
  const auto status = node.open(source.history());
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, base::Code::kForeignWrite);
  EXPECT_NE(status.error().message.find("hql_import"), std::string::npos);
}

// The foreign write stays in a WAL that a live reader keeps.
TEST_F(OwnerDied, PlainWriterUnderAnOpenReader_IsReported) {
  Plain reader(dir.path() + "/app.db", SQLITE_OPEN_READONLY);
  EXPECT_EQ(reader.value("PRAGMA integrity_check"), "ok");
  EXPECT_EQ(cli("UPDATE t SET name='mine' WHERE id=3; SELECT changes()"), "1");
  EXPECT_TRUE(std::filesystem::exists(dir.path() + "/app.db-wal"));
  Node node(dir.path());
  EXPECT_EQ(node.open(source.history()).error().code, base::Code::kForeignWrite);
}

// Its own change undone, byte for byte, is the same state: equal digests are equal bytes.
TEST_F(OwnerDied, ReaderThatStays_IsServedOn) {
  Plain reader(dir.path() + "/app.db", SQLITE_OPEN_READONLY);
  EXPECT_EQ(reader.value("PRAGMA integrity_check"), "ok");
  Node node(dir.path());
  ASSERT_OK(node.open(source.history()));
  for (std::size_t i = 20; i < jobs.size(); ++i) {
    ASSERT_OK(node.publish(jobs[i]));
    ASSERT_EQ(reader.serialize(), source.bytes_at(jobs[i].id.index));
    if (i % 3 == 0) ASSERT_OK(node.checkpoint());
  }
}

// The frames since base are gone from the WAL: only the log's list of touched pages leads to them.
TEST_F(OwnerDied, WalRestartedSinceBase_TouchedPagesGiveThePosition) {
  {
    Plain reader(dir.path() + "/app.db", SQLITE_OPEN_READONLY);  // keeps the wal-index, and the backfill count in it
    EXPECT_EQ(reader.value("PRAGMA integrity_check"), "ok");
    EXPECT_EQ(cli("PRAGMA wal_checkpoint(PASSIVE)").substr(0, 2), "0|");
    Node node(dir.path());
    ASSERT_OK(node.open(source.history()));
    EXPECT_EQ(node->status().base, jobs[8].id);
    ASSERT_OK(node.publish(jobs[20]));
    EXPECT_LT(live_frames(), 20u);
    node.crash();
  }
  // No connection is left, yet none closed cleanly enough to remove the WAL: the keeper was the last to go.
  ASSERT_TRUE(std::filesystem::exists(dir.path() + "/app.db-wal"));
  base::Index position;
  recover_and_finish(dir.path(), source, jobs, &position);
  EXPECT_EQ(position, jobs[20].id.index);
}

// A process that holds EXCLUSIVE on the database, as a plain reader that closes last does, for `ms` or until `quit` is closed (-1).
class Locker {
 public:
  Locker(const std::string& path, int ms) {
    int ready[2];
    CHECK(::pipe(ready) == 0 && ::pipe(quit_) == 0);
    child_ = ::fork();
    if (child_ == 0) {
      ::close(quit_[1]);
      const int fd = ::open(path.c_str(), O_RDWR);
      struct flock lock {};
      lock.l_type = F_WRLCK;
      lock.l_whence = SEEK_SET;
      lock.l_start = 0x40000000;
      lock.l_len = 512;
      char byte = ::fcntl(fd, F_SETLK, &lock) == 0 ? 1 : 0;
      if (::write(ready[1], &byte, 1) != 1) ::_exit(3);
      struct pollfd quit = {quit_[0], POLLIN, 0};
      (void)::poll(&quit, 1, ms);
      ::_exit(0);
    }
    ::close(ready[1]);
    ::close(quit_[0]);
    char byte = 0;
    CHECK(::read(ready[0], &byte, 1) == 1 && byte == 1);
    ::close(ready[0]);
  }
  ~Locker() {
    ::close(quit_[1]);
    ::waitpid(child_, nullptr, 0);
  }
  Locker(const Locker&) = delete;
  Locker& operator=(const Locker&) = delete;

 private:
  int quit_[2];
  pid_t child_ = -1;
};

TEST_F(OwnerDied, LockedForAMoment_OpensAllTheSame) {
  const Locker last_reader(dir.path() + "/app.db", 300);
  Node node(dir.path());
  ASSERT_OK(node.open(source.history()));
  EXPECT_EQ(node->status().applied, jobs[19].id);
}

TEST_F(OwnerDied, LockedThroughout_IsOwnedAndOpensLater) {
  Node node(dir.path());
  {
    const Locker other(dir.path() + "/app.db", -1);
    const auto refused = node.open(source.history());
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, base::Code::kOwned) << refused.error().message;
  }
  ASSERT_OK(node.open(source.history()));
}

// Nothing was touched since base and the WAL is gone: every page is looked at.
TEST_F(OwnerDied, PlainWriteToAnUntouchedPage_IsReported) {
  {
    Node node(dir.path());
    ASSERT_OK(node.open(source.history()));
    ASSERT_OK(node.sync_point());
    node.crash();
  }
  EXPECT_EQ(cli("UPDATE t SET name=substr(name,1,length(name)-1)||'!' "
                "WHERE id=(SELECT max(id) FROM t WHERE length(name)<100); SELECT changes()"),
            "1");
  ASSERT_FALSE(std::filesystem::exists(dir.path() + "/app.db-wal"));
  Node node(dir.path());
  EXPECT_EQ(node.open(source.history()).error().code, base::Code::kForeignWrite);
}

// A rotten block of hashes whose pages nothing else would make it look at.
TEST_F(OwnerDied, RottenHashOfAQuietPage_IsHashedAgain) {
  {
    Node node(dir.path());
    ASSERT_OK(node.open(source.history()));
    ASSERT_OK(node.checkpoint());
    ASSERT_OK(node.publish(jobs[20]));
    ASSERT_OK(node.sync_point());
    node.crash();
  }
  const std::vector<std::uint32_t> framed = framed_pages();
  std::uint32_t quiet = 2;
  while (std::find(framed.begin(), framed.end(), quiet) != framed.end()) ++quiet;
  ASSERT_LE(quiet, source.history()[20].size_after);
  {
    std::fstream sums(dir.path() + "/app.db.sums", std::ios::binary | std::ios::in | std::ios::out);
    const auto at = static_cast<std::streamoff>(3 * 4096 + (quiet - 1) * 8);
    sums.seekg(at);
    const int old_byte = sums.get();
    sums.seekp(at);
    sums.put(static_cast<char>(old_byte ^ 1));
  }
  base::Index position;
  recover_and_finish(dir.path(), source, jobs, &position);
  EXPECT_EQ(position, jobs[20].id.index);
}

TEST_F(OwnerDied, JournalModeChanged_IsReported) {
  EXPECT_EQ(cli("PRAGMA journal_mode=DELETE"), "delete");
  Node node(dir.path());
  EXPECT_EQ(node.open(source.history()).error().code, base::Code::kForeignWrite);
}

TEST_F(OwnerDied, FileCutOff_IsReportedAndTheWalKept) {
  std::filesystem::resize_file(dir.path() + "/app.db", 0);
  Node node(dir.path());
  EXPECT_EQ(node.open(source.history()).error().code, base::Code::kForeignWrite);
  EXPECT_TRUE(std::filesystem::exists(dir.path() + "/app.db-wal"));
}

TEST_F(OwnerDied, FilesOfAnotherDatabaseId_AreNotFound) {
  Node node(dir.path());
  vfs::DatabaseParams params = node.params();
  params.id = base::DatabaseId(99);
  const auto opened = vfs::Database::open(params, source.history());
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, base::Code::kNotFound);
}

TEST(Faults, FailedSync_StopsSyncPointsAndCheckpointsUntilARestart) {
  NEEDS_FAULTS();
  TempDir dir;
  Source source;
  const pages::CreateDatabase create = source.create();
  const auto jobs = make_history(source, 12);
  {
    Node node(dir.path());
    ASSERT_OK(node.create(create));
    for (std::size_t i = 0; i < 6; ++i) ASSERT_OK(node.publish(jobs[i]));
    ASSERT_OK(base::arm_faults("image.wal_sync:eio:1"));
    EXPECT_EQ(node.sync_point().error().code, base::Code::kIo);
    base::disarm_faults();
    EXPECT_EQ(node.sync_point().error().code, base::Code::kIo);  // never tried again (R13)
    EXPECT_EQ(node.checkpoint().error().code, base::Code::kIo);
    EXPECT_EQ(node->status().base.index, base::Index(1));
    ASSERT_OK(node.publish(jobs[6]));
    node.crash();
  }
  recover_and_finish(dir.path(), source, jobs);
}

TEST(Faults, FullDisk_PublishFailsAndSucceedsLater) {
  NEEDS_FAULTS();
  TempDir dir;
  Source source;
  const pages::CreateDatabase create = source.create();
  const auto jobs = make_history(source, 8);
  Node node(dir.path());
  ASSERT_OK(node.create(create));
  ASSERT_OK(node.publish(jobs[0]));
  for (const char* fault : {"image.wal_room:enospc:1", "image.wal_write:enospc:1", "image.publish:enospc:1"}) {
    const std::size_t next = static_cast<std::size_t>(node->status().applied.index.value) - 1;
    const base::Bytes before = seen(node.path());
    ASSERT_OK(base::arm_faults(fault));
    EXPECT_EQ(node.publish(jobs[next]).error().code, base::Code::kFull);
    base::disarm_faults();
    EXPECT_EQ(seen(node.path()), before);
    ASSERT_OK(node.publish(jobs[next]));
    EXPECT_EQ(seen(node.path()), source.bytes_at(jobs[next].id.index));
  }
}

// Killed between the record of the new salts and the header of the new WAL, and between the frames and the wal-index header.
TEST(Faults, KilledAtNamedPoints_Recovers) {
  NEEDS_FAULTS();
  Source source;
  const pages::CreateDatabase create = source.create();
  const auto jobs = make_history(source, 30);
  for (const char* fault :
       {"image.wal_restart:kill:2", "image.wal_restart:kill:3", "image.publish:kill:7", "image.publish:kill:20",
        "image.wal_write:kill:11", "image.wal_sync:kill:3", "image.wal_sync:kill:4"}) {
    TempDir dir;
    const pid_t child = ::fork();
    if (child == 0) {
      Node node(dir.path());
      if (!base::arm_faults(fault) || !node.create(create)) ::_exit(3);
      for (std::size_t i = 0; i < jobs.size(); ++i) {
        if (!node.publish(jobs[i])) ::_exit(4);
        if (i % 4 == 3 && !node.checkpoint()) ::_exit(5);
      }
      ::_exit(0);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << fault << " exit " << WEXITSTATUS(status);
    SCOPED_TRACE(fault);
    recover_and_finish(dir.path(), source, jobs);
    if (HasFatalFailure()) return;
  }
}

// After a power cut with log_sync = "interval_<ms>": the files hold transactions that the log has lost.
TEST(AheadOfLog, AdoptIsAskedWithEveryPageThatDiffers) {
  for (const std::size_t lost : {std::size_t{1}, std::size_t{4}, std::size_t{12}}) {
    for (const bool synced_before : {false, true}) {
      SCOPED_TRACE(std::to_string(lost) + (synced_before ? " lost after a checkpoint" : " lost"));
      TempDir dir;
      Source source;
      const pages::CreateDatabase create = source.create();
      const auto jobs = make_history(source, 40);
      const std::size_t kept = jobs.size() - lost;
      {
        Node node(dir.path());
        ASSERT_OK(node.create(create));
        for (std::size_t i = 0; i < jobs.size(); ++i) {
          ASSERT_OK(node.publish(jobs[i]));
          if (synced_before && i == kept / 2) {
            ASSERT_OK(node.checkpoint());
          }
        }
      }
      const auto base = vfs::Database::recorded_base(base::posix_env(), dir.path(), "app.db");
      ASSERT_OK(base);
      const base::LogId end = jobs[kept - 1].id;
      std::vector<pages::RedoCandidate> candidates = after(source, *base);
      std::erase_if(candidates, [&](const pages::RedoCandidate& each) { return each.id.index > end.index; });
      const base::LogId adopted{base::Term(9), base::Index(end.index.value + 1)};
      const base::Bytes wanted = joined(source.image());
      int asked = 0;
      const auto adopt = [&](const pages::AheadOfLog& content) -> base::Result<base::LogId> {
        ++asked;
        EXPECT_EQ(content.digest, source.digest());
        // Over the state that the log ends with they give the state of the files.
        base::Bytes bytes = source.bytes_at(end.index);
        bytes.resize(std::size_t{content.size} * 4096);
        for (const pages::PageNo page : content.changed)
          EXPECT_TRUE(content.read(page, base::MutableByteView(bytes).subspan(std::size_t{page - 1} * 4096, 4096)));
        EXPECT_EQ(bytes, wanted);
        EXPECT_LT(content.changed.size(), content.size + 1);
        return adopted;
      };
      Node node(dir.path());
      ASSERT_OK(node.open(candidates, adopt));
      EXPECT_EQ(asked, 1);
      EXPECT_EQ(node->status().applied, adopted);
      EXPECT_EQ(seen(node.path()), wanted);
    }
  }
}

// The log changed a page, and what it has lost changed it back: equal to base's, and not to what the log makes of it.
TEST(AheadOfLog, PageThatIsAgainAsAtBase_DiffersAllTheSame) {
  TempDir dir;
  Source source;
  source.keep_images();
  const pages::CreateDatabase create = source.create();
  const auto before =
      source.transact("CREATE TABLE t(x); CREATE TABLE u(x); INSERT INTO t VALUES ('one'); INSERT INTO u VALUES (1)");
  const auto kept = source.transact("UPDATE t SET x='two'");
  const auto lost = source.transact("UPDATE t SET x='one'; UPDATE u SET x=2");
  {
    Node node(dir.path());
    ASSERT_OK(node.create(create));
    ASSERT_OK(node.publish(before));
    ASSERT_OK(node.sync_point());
    ASSERT_OK(node.publish(kept));
    ASSERT_OK(node.publish(lost));
  }
  const auto adopt = [&](const pages::AheadOfLog& content) -> base::Result<base::LogId> {
    base::Bytes bytes = source.bytes_at(kept.id.index);
    for (const pages::PageNo page : content.changed)
      EXPECT_TRUE(content.read(page, base::MutableByteView(bytes).subspan(std::size_t{page - 1} * 4096, 4096)));
    EXPECT_EQ(bytes, joined(source.image()));
    return lost.id;
  };
  auto candidates = after(source, before.id);
  std::erase_if(candidates, [&](const pages::RedoCandidate& each) { return each.id == lost.id; });
  ASSERT_EQ(candidates.size(), 1u);
  Node node(dir.path());
  ASSERT_OK(node.open(candidates, adopt));
  EXPECT_EQ(node->status().applied, lost.id);
}

TEST(AheadOfLog, NobodyAdopts_IsAForeignWrite) {
  TempDir dir;
  Source source;
  const pages::CreateDatabase create = source.create();
  const auto jobs = make_history(source, 10);
  {
    Node node(dir.path());
    ASSERT_OK(node.create(create));
    for (const pages::PublishJob& job : jobs) ASSERT_OK(node.publish(job));
  }
  Node node(dir.path());
  const auto refused = node.open({});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, base::Code::kForeignWrite);
}

// Somebody else checkpointed and removed the WAL: anything may have been written.
TEST_F(OwnerDied, PlainWriter_IsNotTakenForAPowerCut) {
  EXPECT_EQ(cli("UPDATE t SET name='mine' WHERE id=3; SELECT changes()"), "1");
  Node node(dir.path());
  const auto refused = node.open(source.history(), [](const pages::AheadOfLog&) -> base::Result<base::LogId> {
    ADD_FAILURE() << "asked";
    return base::LogId{};
  });
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, base::Code::kForeignWrite);
}

}  // namespace
}  // namespace image_test

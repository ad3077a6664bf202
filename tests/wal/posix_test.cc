// The log on the real disk: the same calls through base::posix_env(), so that names, syncs and growth meet a real file system.
#include <cstdlib>

#include "base/posix_env.h"
#include "tests/wal/model.h"
#include "wal/format.h"

namespace wal_test {
namespace {

TEST(LogPosix, AppendPrepareRecycleReopen_OnARealDisk_HoldsEverything) {
  char dir[] = "/tmp/hql-wal-XXXXXX";
  ASSERT_NE(::mkdtemp(dir), nullptr);
  base::Env& env = base::posix_env();
  wal::Options options;
  options.dir = std::string(dir) + "/log";
  options.identity = {7, base::NodeId(1), base::Incarnation(99)};
  options.segment_size = 1 << 20;
  base::Random random(3);
  Model model;
  for (int round = 0; round < 4; ++round) {
    auto opened = wal::Log::open(env, options);
    ASSERT_TRUE(opened) << opened.error().message;
    ASSERT_FALSE(opened->damage);
    ASSERT_EQ(difference(model, *opened), "");
    while (!*opened->log->prepare_segments()) continue;
    for (int i = 0; i < 40; ++i) {
      wal::Append append;
      append.entries.push_back(make_entry(random, {Term(1), model.groups[0].last().index.next()}, random.below(80000)));
      ASSERT_TRUE(opened->log->append_batch({append}));
      model.apply(append);
    }
    const LogId floor = model.groups[0].entries[model.groups[0].entries.size() / 2].id;
    ASSERT_TRUE(opened->log->set_floor(Group::kData, floor));
    model.set_floor(Group::kData, floor);
    ASSERT_TRUE(opened->log->seal());
    opened->log.reset();
    ASSERT_TRUE(wal::verify(env, options.dir));
  }
  const auto names = env.list(options.dir);
  ASSERT_TRUE(names);
  for (const std::string& name : *names) ASSERT_TRUE(env.remove(options.dir + "/" + name));
  ASSERT_TRUE(env.remove(options.dir));
  ASSERT_TRUE(env.remove(dir));
}

// Batches bound the buffers: 1 GiB goes through in fragments, over many segments, and comes back whole, also after a restart.
TEST(LogPosix, EntryOfOneGiB_IsReadBackAndRecovered) {
  char dir[] = "/var/tmp/hql-wal-XXXXXX";
  ASSERT_NE(::mkdtemp(dir), nullptr);
  base::Env& env = base::posix_env();
  wal::Options options;
  options.dir = std::string(dir) + "/log";
  options.identity = {7, base::NodeId(1), base::Incarnation(99)};
  base::Bytes payload(wal::kEntrySizeMax);
  for (std::size_t at = 0; at < payload.size(); at += 8) base::store_u64(&payload[at], at * 0x9e3779b97f4a7c15);
  const base::SharedBytes written = base::share(std::move(payload));
  const auto entry = [](std::uint64_t index, base::SharedBytes bytes) {
    base::Entry made;
    made.id = {Term(1), Index(index)};
    made.kind = base::EntryKind::kData;
    made.payload = std::move(bytes);
    return made;
  };
  const auto holds = [&](wal::Log& log) {
    const auto read = log.read(Group::kData, Index(2), Index(2), 1);
    return read && read->size() == 1 && *read->front().payload == *written;
  };
  const base::SharedBytes small = base::share(base::Bytes(100));
  {
    auto opened = wal::Log::open(env, options);
    ASSERT_TRUE(opened) << opened.error().message;
    wal::Append append;
    append.entries = {entry(1, small), entry(2, written), entry(3, small)};
    ASSERT_TRUE(opened->log->append_batch({append}));
    EXPECT_TRUE(holds(*opened->log));
    append.entries = {entry(4, base::share(base::Bytes(wal::kEntrySizeMax + 1)))};
    EXPECT_EQ(opened->log->append_batch({append}).error().code, base::Code::kMisuse);
  }
  auto opened = wal::Log::open(env, options);
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_FALSE(opened->damage);
  EXPECT_TRUE(holds(*opened->log));
  opened->log.reset();
  EXPECT_TRUE(wal::verify(env, options.dir));
  const auto names = env.list(options.dir);
  ASSERT_TRUE(names);
  EXPECT_GT(names->size(), 16u);
  for (const std::string& name : *names) ASSERT_TRUE(env.remove(options.dir + "/" + name));
  ASSERT_TRUE(env.remove(options.dir));
  ASSERT_TRUE(env.remove(dir));
}

}  // namespace
}  // namespace wal_test

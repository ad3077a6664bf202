// The log on the real disk: the same calls through base::posix_env(), so that names, syncs and growth meet a real file system.
#include <cstdlib>

#include "base/posix_env.h"
#include "tests/wal/model.h"

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

}  // namespace
}  // namespace wal_test

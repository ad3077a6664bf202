// base/fault.h: specs, counting, each action, and that real files fail through their points.
#include "base/fault.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <set>

#include "base/posix_env.h"
#include "tests/base/temp_dir.h"

namespace base {
namespace {

class FaultTest : public testing::Test {
 protected:
  void TearDown() override { disarm_faults(); }
};

TEST_F(FaultTest, Table_AllRows_UniqueAndDescribed) {
  std::set<std::string_view> names;
  for (const FaultPointInfo& info : fault_points()) {
    EXPECT_TRUE(names.insert(info.name).second) << info.name;
    EXPECT_FALSE(info.meaning.empty()) << info.name;
    EXPECT_NE(info.name.find('.'), std::string_view::npos) << info.name << ": folder.what";
  }
}

TEST_F(FaultTest, Spec_Malformed_RefusedByNameAndNothingArmed) {
  for (const char* spec : {"env.sync", "env.sync:", "env.sync:burn", "nowhere:eio", "env.sync:eio:0", "env.sync:eio:x",
                           "env.sync:eio:1:2", "env.sync:delay_ms=", "env.sync:delay_ms=-1",
                           "env.sync:delay_ms=99999999", "env.sync:eio:+", "env.sync:eio,env.write:burn", ","}) {
    const Status armed = arm_faults(spec);
    ASSERT_FALSE(armed) << spec;
    EXPECT_EQ(armed.error().code, Code::kConfig);
    EXPECT_NE(armed.error().message.find("expected point:"), std::string::npos) << armed.error().message;
    EXPECT_FALSE(pass_fault_point(fault_position("env.sync"))) << spec;
  }
}

TEST_F(FaultTest, Nth_ExactAndOnwards_FireWhenDue) {
  const int sync = fault_position("env.sync");
  ASSERT_TRUE(arm_faults("env.sync:eio:2"));
  EXPECT_FALSE(pass_fault_point(sync));
  EXPECT_TRUE(pass_fault_point(sync));
  EXPECT_FALSE(pass_fault_point(sync));
  EXPECT_EQ(fault_hits("env.sync"), 3U);
  EXPECT_EQ(fault_hits("env.write"), 0U);
  disarm_faults();
  EXPECT_EQ(fault_hits("env.sync"), 0U);
  ASSERT_TRUE(arm_faults("env.sync:enospc:2+"));
  EXPECT_FALSE(pass_fault_point(sync));
  for (int i = 0; i < 3; ++i) {
    const auto fault = pass_fault_point(sync);
    ASSERT_TRUE(fault);
    EXPECT_EQ(fault->kind, FaultKind::kEnospc);
    EXPECT_EQ(fault->error("sync f").code, Code::kFull);
  }
}

TEST_F(FaultTest, Delay_Passed_TimeHasGone) {
  ASSERT_TRUE(arm_faults("env.sync:delay_ms=5"));
  const Micros start = posix_env().now();
  EXPECT_FALSE(pass_fault_point(fault_position("env.sync")));
  EXPECT_GE(posix_env().now() - start, 5 * kMillisecond);
}

TEST_F(FaultTest, Kill_Passed_ProcessDiesBySigkill) {
  EXPECT_EXIT(
      {
        if (!arm_faults("env.sync:kill")) ::_exit(3);
        static_cast<void>(pass_fault_point(fault_position("env.sync")));
        ::_exit(4);
      },
      testing::KilledBySignal(SIGKILL), "");
}

TEST_F(FaultTest, UnknownPoint_InCode_EndsTheProcess) {
  EXPECT_DEATH(static_cast<void>(fault_position("env.typo")), "CHECK failed");
}

#if defined(HQL_FAULTS)
TEST_F(FaultTest, PosixFile_Armed_FailsAsTheDiskWould) {
  const testing_base::TempDir dir;
  Env& env = posix_env();
  auto file = env.open(dir / "f", OpenMode::kCreate).value();
  ASSERT_TRUE(arm_faults("env.sync:enospc:1,env.write:enospc:2,env.read:eio:1,env.rename:eio,env.open:eio:1"));
  EXPECT_TRUE(file->write(0, view_of("a")));
  EXPECT_EQ(file->write(0, view_of("b")).error().code, Code::kFull);
  EXPECT_EQ(file->sync().error().code, Code::kIo) << "a failed sync is never \"try again when space returns\" (R13)";
  EXPECT_TRUE(file->sync());
  Bytes out(1);
  EXPECT_EQ(file->read(0, out).error().code, Code::kIo);
  EXPECT_EQ(text_of(out), std::string_view("\0", 1));
  EXPECT_EQ(env.rename(dir / "f", dir / "g").error().code, Code::kIo);
  EXPECT_EQ(env.open(dir / "f", OpenMode::kReadOnly).error().code, Code::kIo);
  disarm_faults();
  EXPECT_EQ(file->read(0, out).value(), 1U);
  EXPECT_EQ(text_of(out), "a");
}

TEST_F(FaultTest, WriteFileAtomic_FailureAtEachStep_OldContentKept) {
  const testing_base::TempDir dir;
  Env& env = posix_env();
  ASSERT_TRUE(write_file_atomic(env, dir.path(), "meta", view_of("old")));
  for (const char* spec : {"env.open:eio", "env.write:enospc", "env.sync:eio", "env.rename:eio"}) {
    ASSERT_TRUE(arm_faults(spec));
    EXPECT_FALSE(write_file_atomic(env, dir.path(), "meta", view_of("new"))) << spec;
    disarm_faults();
    EXPECT_EQ(text_of(read_file(env, dir / "meta", 100).value()), "old") << spec;
    EXPECT_EQ(env.list(dir.path()).value(), (std::vector<std::string>{"meta"})) << spec;
  }
  ASSERT_TRUE(arm_faults("env.sync_dir:eio"));
  EXPECT_FALSE(write_file_atomic(env, dir.path(), "meta", view_of("new"))) << "not durable, so not ok";
}
#endif

}  // namespace
}  // namespace base

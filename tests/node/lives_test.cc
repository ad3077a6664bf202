// Whether a node is taken for an older copy of itself (R10).
#include "node/lives.h"

#include <gtest/gtest.h>

namespace node {
namespace {

constexpr base::Member kMember{base::NodeId{2}, base::Incarnation{12}};
constexpr base::Member kWiped{base::NodeId{2}, base::Incarnation{99}};

Hello hello(std::uint64_t boot, std::uint64_t term, std::uint64_t last) {
  Hello out;
  out.boot = boot;
  out.cluster = {3, base::Incarnation{11}};
  out.term = base::Term{term};
  out.last = {base::Term{1}, base::Index{last}};
  return out;
}

// Start 5 was met; it spoke in term 7 and held 40 committed entries.
struct Met : testing::Test {
  Met() {
    EXPECT_TRUE(lives.check(kMember, 50, hello(5, 7, 30)));
    lives.has_term(kMember, base::Term{7});
    lives.has_term(kMember, base::Term{6});
    lives.held(kMember, base::Index{40});
    lives.held(kMember, base::Index{39});
  }
  void expect_refused(const Hello& statement, const std::string& why) {
    const auto refused = lives.check(kMember, 60, statement);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, base::Code::kRefused);
    EXPECT_EQ(refused.error().message,
              "its data_dir is an older copy, or lost what was synced (" + why + "); start it with an empty data_dir");
    EXPECT_LT(refused.error().message.size(), 150u) << "with its name and address it has to fit into a refusal";
  }
  Lives lives;
};

TEST_F(Met, Restart_IsTakenAsItIs) {
  EXPECT_TRUE(lives.check(kMember, 60, hello(6, 7, 40)));
  EXPECT_TRUE(lives.check(kMember, 70, hello(8, 9, 41)));
}

TEST_F(Met, SameProcess_MayHaveMadeItsStatementBeforeItSpoke) {
  EXPECT_TRUE(lives.check(kMember, 50, hello(5, 6, 10)));
}

TEST_F(Met, OlderStart_IsRefused) {
  expect_refused(hello(4, 7, 40), "start 4 comes after a start 5 that it does not know");
}

TEST_F(Met, SameStartOfAnotherProcess_IsRefused) {
  expect_refused(hello(5, 7, 40), "start 5 comes after a start 5 that it does not know");
}

TEST_F(Met, CopyOfTheRunningLife_LacksEntries_IsRefused) {
  expect_refused(hello(6, 7, 39), "its log ends at 39, it has acknowledged 40");
}

TEST_F(Met, CopyOfTheRunningLife_LacksATerm_IsRefused) {
  expect_refused(hello(6, 6, 40), "its term is 6, it has spoken in 7");
}

TEST_F(Met, OlderStart_StaysRefusedWhenItCountsOn) {
  expect_refused(hello(4, 7, 40), "start 4 comes after a start 5 that it does not know");
  expect_refused(hello(6, 9, 90), "start 6 comes after a start 5 that it does not know");
}

TEST_F(Met, RefusedCopy_IsNotTheProcessThatStillRuns) {
  expect_refused(hello(6, 7, 39), "its log ends at 39, it has acknowledged 40");
  expect_refused(hello(4, 7, 39), "start 4 comes after a start 5 that it does not know");
  EXPECT_TRUE(lives.check(kMember, 50, hello(5, 7, 40)));
}

// It acknowledged more to others while its statement was on its way here.
TEST_F(Met, StatementThatWasLate_IsForgottenWithTheNextOne) {
  expect_refused(hello(6, 7, 39), "its log ends at 39, it has acknowledged 40");
  EXPECT_TRUE(lives.check(kMember, 60, hello(6, 7, 44)));
}

TEST_F(Met, AnotherIncarnationInBetween_MakesNothingForgotten) {
  EXPECT_TRUE(lives.check(kWiped, 60, hello(1, 0, 0)));
  expect_refused(hello(6, 7, 39), "its log ends at 39, it has acknowledged 40");
}

TEST_F(Met, WhatDamageTook_IsExcusedForGood) {
  Hello damaged = hello(6, 2, 3);
  damaged.damaged = true;
  ASSERT_TRUE(lives.check(kMember, 60, damaged));
  EXPECT_TRUE(lives.check(kMember, 70, hello(7, 2, 3)));
}

TEST_F(Met, ManyIncarnations_OnlyTheLastOnesAreKept) {
  for (std::uint64_t i = 0; i < 16; ++i) {
    ASSERT_TRUE(lives.check({base::NodeId{2}, base::Incarnation{100 + i}}, i, hello(1, 0, 0)));
    ASSERT_TRUE(lives.check({base::NodeId{3}, base::Incarnation{100 + i}}, i, hello(1, 0, 0)));
  }
  EXPECT_TRUE(lives.check(kMember, 60, hello(4, 1, 1))) << "kept for ever";
  EXPECT_FALSE(lives.check({base::NodeId{2}, base::Incarnation{115}}, 99, hello(1, 0, 0)));
}

TEST_F(Met, DamagedLog_IsNoCopy) {
  Hello damaged = hello(6, 2, 3);
  damaged.damaged = true;
  EXPECT_TRUE(lives.check(kMember, 60, damaged));
}

TEST_F(Met, NodeWithoutAnEntry_StatesNoTerm) {
  Lives fresh;
  Hello empty = hello(1, 0, 0);
  empty.cluster = {};
  ASSERT_TRUE(fresh.check(kMember, 10, empty));
  fresh.has_term(kMember, base::Term{2});
  empty.boot = 2;
  EXPECT_TRUE(fresh.check(kMember, 20, empty));
}

TEST(Lives, AcknowledgedBeforeTheSync_ProvesNothing) {
  Lives lives;
  Hello unsynced = hello(1, 1, 5);
  unsynced.unsynced = true;
  ASSERT_TRUE(lives.check(kMember, 10, unsynced));
  lives.held(kMember, base::Index{40});
  EXPECT_TRUE(lives.check(kMember, 20, hello(2, 1, 30)));
}

TEST(Lives, AnotherIncarnation_IsAnotherLife) {
  Lives lives;
  ASSERT_TRUE(lives.check(kWiped, 10, hello(1, 1, 0)));
  lives.held(kMember, base::Index{40});  // of the one before
  lives.has_term(kMember, base::Term{9});
  EXPECT_TRUE(lives.check(kWiped, 20, hello(2, 1, 0)));
}

}  // namespace
}  // namespace node

// The ledger: parent rule (R6), chains (R15), catalogue, outcomes of the origin (R7).
#include "node/ledger.h"

#include <gtest/gtest.h>

#include "node/first_page.h"
#include "node/origins.h"

namespace node {
namespace {

const base::Incarnation kMe{77};

class Script {
 public:
  Decision data(base::Bytes payload) { return append(base::EntryKind::kData, base::share(std::move(payload))); }
  Decision noop(std::uint64_t term) {
    term_ = term;
    return append(base::EntryKind::kNoop, nullptr);
  }
  Decision create(const std::string& name) { return create(name, ledger.at().index); }
  Decision create(const std::string& name, base::Index seen) {
    return data(pages::encode(empty_database(name, {kMe, 1, 1}, seen)));
  }
  // The first term begins, with one database.
  base::DatabaseId begin() {
    noop(1);
    return create("a.db").db;
  }
  pages::Tx tx(base::DatabaseId db, std::uint64_t digest_after) {
    const Ledger::Database* database = ledger.find(db);
    pages::Tx out;
    out.header.db = db;
    out.header.parent = database != nullptr ? database->last : base::LogId{};
    out.header.digest_before = database != nullptr ? database->digest : 0;
    out.header.digest_after = digest_after;
    out.header.origin = {kMe, 1, ++sequence_};
    out.header.lease_term = base::Term{term_};
    out.header.lease = base::LeaseId{1};
    out.header.page_size = 4096;
    out.header.size_after = 1;
    return out;
  }
  Ledger ledger;

 private:
  Decision append(base::EntryKind kind, base::SharedBytes payload) {
    return ledger.decide({{base::Term{term_}, ledger.at().index.next()}, kind, std::move(payload)});
  }
  std::uint64_t term_ = 1;
  std::uint64_t sequence_ = 0;
};

TEST(Ledger, TransactionOnTheLast_IsEffective) {
  Script script;
  const base::DatabaseId db = script.begin();
  EXPECT_EQ(db, base::DatabaseId{2});
  const Decision first = script.data(pages::encode(script.tx(db, 10)));
  EXPECT_EQ(first.effect, Effect::kPublish);
  const Decision second = script.data(pages::encode(script.tx(db, 20)));
  EXPECT_EQ(second.effect, Effect::kPublish);
  EXPECT_EQ(script.ledger.find(db)->last, second.id);
  EXPECT_EQ(script.ledger.find(db)->digest, 20u);
}

TEST(Ledger, WrongParentDigestOrTerm_IsVoidAndChangesNothing) {
  Script script;
  const base::DatabaseId db = script.begin();
  const pages::Tx stale = script.tx(db, 10);
  EXPECT_EQ(script.data(pages::encode(script.tx(db, 11))).effect, Effect::kPublish);
  const Decision parent = script.data(pages::encode(stale));
  EXPECT_EQ(parent.effect, Effect::kVoid);
  EXPECT_TRUE(parent.decides_transaction);
  pages::Tx digest = script.tx(db, 12);
  digest.header.digest_before ^= 1;
  EXPECT_EQ(script.data(pages::encode(digest)).effect, Effect::kVoid);
  const pages::Tx old_term = script.tx(db, 12);
  script.noop(2);
  EXPECT_EQ(script.data(pages::encode(old_term)).effect, Effect::kVoid);
  pages::Tx nowhere = script.tx(db, 12);
  nowhere.header.db = base::DatabaseId{99};
  EXPECT_EQ(script.data(pages::encode(nowhere)).effect, Effect::kVoid);
  EXPECT_EQ(script.ledger.find(db)->digest, 11u);
  EXPECT_EQ(script.data(pages::encode(script.tx(db, 13))).effect, Effect::kPublish);
}

// A transaction that changes nothing leaves the digest as it was: only the parent tells what came before it.
TEST(Ledger, OldParentWithTheSameDigest_IsVoid) {
  Script script;
  const base::DatabaseId db = script.begin();
  EXPECT_EQ(script.data(pages::encode(script.tx(db, 10))).effect, Effect::kPublish);
  const pages::Tx stale = script.tx(db, 20);
  EXPECT_EQ(script.data(pages::encode(script.tx(db, 10))).effect, Effect::kPublish);
  EXPECT_EQ(script.data(pages::encode(stale)).effect, Effect::kVoid);
}

TEST(Ledger, AnotherPageSize_IsVoid) {
  Script script;
  const base::DatabaseId db = script.begin();
  pages::Tx other = script.tx(db, 10);
  other.header.page_size = 8192;
  EXPECT_EQ(script.data(pages::encode(other)).effect, Effect::kVoid);
}

TEST(Ledger, GarbageEntry_IsVoid) {
  Script script;
  script.noop(1);
  EXPECT_EQ(script.data(base::Bytes(3, std::byte{0x55})).effect, Effect::kVoid);
  EXPECT_EQ(script.data(base::Bytes{std::byte{1}}).effect, Effect::kVoid);
}

TEST(Ledger, SameNameTwice_SecondCreateIsVoid_AfterDropItIsAnother) {
  Script script;
  script.noop(1);
  const Decision first = script.create("a.db");
  EXPECT_EQ(first.effect, Effect::kCreate);
  EXPECT_EQ(script.create("a.db").effect, Effect::kVoid);
  const pages::Tx delayed = script.tx(first.db, 10);
  EXPECT_EQ(script.data(pages::encode(pages::DropDatabase{first.db, "a.db", {}})).effect, Effect::kDrop);
  const Decision second = script.create("a.db");
  EXPECT_EQ(second.effect, Effect::kCreate);
  EXPECT_NE(second.db, first.db);
  EXPECT_EQ(script.data(pages::encode(delayed)).effect, Effect::kVoid);
  EXPECT_EQ(script.data(pages::encode(pages::DropDatabase{first.db, "a.db", {}})).effect, Effect::kVoid);
}

// Who asks again has not seen that its creation happened. By then the database may be gone, and rightly so.
TEST(Ledger, CreationAskedForBeforeADrop_IsVoid) {
  Script script;
  const base::DatabaseId first = script.begin();
  const base::Index seen{first.value - 1};
  const base::DatabaseId other = script.create("b.db").db;
  ASSERT_EQ(script.data(pages::encode(pages::DropDatabase{first, "a.db", {}})).effect, Effect::kDrop);
  EXPECT_EQ(script.ledger.last_drop(), script.ledger.at().index);
  const Decision late = script.create("a.db", seen);
  EXPECT_EQ(late.effect, Effect::kVoid);
  EXPECT_EQ(late.reason, "database a.db was asked for at entry 1, before a drop at 4");
  EXPECT_EQ(late.name, "a.db");
  EXPECT_EQ(script.ledger.find("a.db"), nullptr);
  Ledger again(script.ledger.catalogue());  // what a restart or another node decides
  EXPECT_EQ(again.last_drop(), script.ledger.last_drop());
  EXPECT_EQ(script.create("a.db", script.ledger.last_drop()).effect, Effect::kCreate);
  EXPECT_EQ(script.data(pages::encode(pages::DropDatabase{first, "a.db", {}})).effect, Effect::kVoid);
  EXPECT_EQ(script.create("c.db", again.last_drop()).effect, Effect::kCreate) << "a void drop counted";
  EXPECT_NE(script.ledger.find(other), nullptr);
}

pages::TxPart part_of(const pages::Tx& tx, std::uint32_t number) {
  return {tx.header.db, tx.header.origin, tx.header.lease_term, tx.header.lease, number, {}};
}

TEST(Ledger, Chain_IsEffectiveByItsFinalOnly) {
  Script script;
  const base::DatabaseId db = script.begin();
  pages::Tx final = script.tx(db, 30);
  final.header.part_count = 2;
  EXPECT_EQ(script.data(pages::encode(part_of(final, 0))).effect, Effect::kNone);
  EXPECT_TRUE(script.ledger.chain_open());
  EXPECT_EQ(script.data(pages::encode(part_of(final, 1))).effect, Effect::kNone);
  const Decision decided = script.data(pages::encode(final));
  EXPECT_EQ(decided.effect, Effect::kPublish);
  EXPECT_EQ(decided.parts.size(), 2u);
  EXPECT_FALSE(script.ledger.chain_open());
}

TEST(Ledger, ChainCutByALaterTerm_FinalIsVoid) {
  Script script;
  const base::DatabaseId db = script.begin();
  pages::Tx final = script.tx(db, 30);
  final.header.part_count = 1;
  script.data(pages::encode(part_of(final, 0)));
  script.noop(2);
  EXPECT_FALSE(script.ledger.chain_open());
  EXPECT_EQ(script.data(pages::encode(final)).effect, Effect::kVoid);
}

TEST(Ledger, ChainMissingAPart_FinalIsVoid) {
  Script script;
  const base::DatabaseId db = script.begin();
  pages::Tx final = script.tx(db, 30);
  final.header.part_count = 2;
  script.data(pages::encode(part_of(final, 0)));
  EXPECT_EQ(script.data(pages::encode(final)).effect, Effect::kVoid);
  EXPECT_FALSE(script.ledger.chain_open());
}

TEST(Ledger, ChainWithAPartLeftOut_FinalIsVoid) {
  Script script;
  const base::DatabaseId db = script.begin();
  pages::Tx final = script.tx(db, 30);
  final.header.part_count = 2;
  script.data(pages::encode(part_of(final, 0)));
  EXPECT_EQ(script.data(pages::encode(part_of(final, 2))).effect, Effect::kVoid);
  EXPECT_EQ(script.data(pages::encode(final)).effect, Effect::kVoid);
}

TEST(Ledger, ChainOfAnotherLease_FinalIsVoid) {
  Script script;
  const base::DatabaseId db = script.begin();
  pages::Tx final = script.tx(db, 30);
  final.header.part_count = 1;
  script.data(pages::encode(part_of(final, 0)));
  final.header.lease = base::LeaseId{2};
  EXPECT_EQ(script.data(pages::encode(final)).effect, Effect::kVoid);
}

TEST(Ledger, ChainUnderAnotherTransaction_IsEndedByIt) {
  Script script;
  const base::DatabaseId db = script.begin();
  const pages::Tx final = script.tx(db, 30);
  script.data(pages::encode(part_of(final, 0)));
  EXPECT_EQ(script.data(pages::encode(script.tx(db, 31))).effect, Effect::kPublish);
  EXPECT_FALSE(script.ledger.chain_open());
}

TEST(Ledger, ChainBegunAnew_IsTheLaterOne) {
  Script script;
  const base::DatabaseId db = script.begin();
  script.data(pages::encode(part_of(script.tx(db, 30), 0)));
  pages::Tx final = script.tx(db, 31);
  final.header.part_count = 1;
  EXPECT_EQ(script.data(pages::encode(part_of(final, 0))).effect, Effect::kNone);
  EXPECT_EQ(script.data(pages::encode(final)).effect, Effect::kPublish);
}

TEST(Ledger, ChainAborted_AnotherTransactionIsEffective) {
  Script script;
  const base::DatabaseId db = script.begin();
  pages::Tx final = script.tx(db, 30);
  script.data(pages::encode(part_of(final, 0)));
  script.data(pages::encode(pages::TxAbort{db, final.header.origin, final.header.lease_term, final.header.lease}));
  EXPECT_FALSE(script.ledger.chain_open());
  EXPECT_EQ(script.data(pages::encode(script.tx(db, 31))).effect, Effect::kPublish);
}

TEST(Ledger, FromItsCatalogue_DecidesTheSame) {
  Script script;
  const base::DatabaseId db = script.begin();
  script.data(pages::encode(script.tx(db, 30)));
  Ledger again(script.ledger.catalogue());
  EXPECT_EQ(again.at(), script.ledger.at());
  const base::Entry next{
      {base::Term{1}, again.at().index.next()}, base::EntryKind::kData, base::share(pages::encode(script.tx(db, 40)))};
  EXPECT_EQ(again.decide(next).effect, Effect::kPublish);
}

struct Outcomes {
  std::map<std::uint64_t, vfs::Outcome> seen;
  Origins::Done expect(std::uint64_t sequence) {
    return [this, sequence](vfs::Outcome outcome) { seen[sequence] = std::move(outcome); };
  }
};

TEST(Origins, CommittedVoidAbsentAndUnknown_EachOnce) {
  Outcomes outcomes;
  Origins origins(kMe, 1);
  for (std::uint64_t sequence = 1; sequence <= 4; ++sequence)
    origins.proposed(sequence, base::Term{1}, base::DatabaseId{5}, static_cast<base::Micros>(sequence * 10),
                     outcomes.expect(sequence));
  Decision decision;
  decision.decides_transaction = true;
  decision.effect = Effect::kPublish;
  decision.id = {base::Term{1}, base::Index{9}};
  decision.origin = {kMe, 2, 1};  // of another boot
  origins.decided(decision);
  EXPECT_TRUE(outcomes.seen.empty());
  decision.origin = {kMe, 1, 1};
  origins.decided(decision);
  EXPECT_EQ(outcomes.seen.at(1).kind, vfs::OutcomeKind::kCommitted);
  EXPECT_EQ(outcomes.seen.at(1).id, decision.id);
  decision.origin.sequence = 2;
  decision.effect = Effect::kVoid;
  origins.decided(decision);
  EXPECT_EQ(outcomes.seen.at(2).kind, vfs::OutcomeKind::kNotApplied);
  origins.expire(30);
  EXPECT_EQ(outcomes.seen.at(3).kind, vfs::OutcomeKind::kUnknown);
  origins.reached_term(base::Term{1});
  EXPECT_EQ(outcomes.seen.count(4), 0u);
  origins.reached_term(base::Term{2});
  EXPECT_EQ(outcomes.seen.at(4).kind, vfs::OutcomeKind::kNotApplied);
  EXPECT_TRUE(origins.empty());
}

}  // namespace
}  // namespace node

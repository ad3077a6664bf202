// Round trips of every entry type, and what compression may and may not do.
#include <gtest/gtest.h>

#include "pages/image.h"
#include "pages/tx.h"
#include "tests/pages/samples.h"

namespace pages_test {
namespace {

TEST(Entries, TxRoundTrip_KeepsEveryField) {
  const pages::Tx tx = sample_tx();
  const base::Bytes payload = encode(tx);
  EXPECT_EQ(*pages::entry_type(payload), pages::EntryType::kTx);
  const auto decoded = pages::decode_tx(payload);
  ASSERT_TRUE(decoded) << to_string(decoded.error());
  for (const pages::TxHeader& header : {decoded->header, *pages::decode_tx_header(payload)}) {
    EXPECT_EQ(header.db, tx.header.db);
    EXPECT_EQ(header.parent, tx.header.parent);
    EXPECT_EQ(header.digest_before, tx.header.digest_before);
    EXPECT_EQ(header.digest_after, tx.header.digest_after);
    EXPECT_EQ(header.origin, tx.header.origin);
    EXPECT_EQ(header.lease_term, tx.header.lease_term);
    EXPECT_EQ(header.lease, tx.header.lease);
    EXPECT_EQ(header.page_size, tx.header.page_size);
    EXPECT_EQ(header.size_after, tx.header.size_after);
    EXPECT_EQ(header.request_count, 2u);
    EXPECT_EQ(header.patch_count, 3u);
    EXPECT_EQ(header.part_count, 0u);
  }
  EXPECT_TRUE(same(decoded->patches, tx.patches));
  const auto requests = pages::decode_requests(payload);
  ASSERT_TRUE(requests);
  ASSERT_EQ(requests->size(), 2u);
  EXPECT_EQ((*requests)[0].origin, tx.requests[0].origin);
  EXPECT_EQ((*requests)[0].result, tx.requests[0].result);
  EXPECT_EQ((*requests)[1].origin, tx.requests[1].origin);
  EXPECT_TRUE((*requests)[1].result.empty());
}

TEST(Entries, CompressibleBody_IsStoredShorter) {
  EXPECT_LT(encode(sample_tx()).size(), 300u);  // a 4 KiB page of one byte value
}

TEST(Entries, RandomBody_IsStoredPlainAndRoundTrips) {
  std::mt19937_64 random(7);
  pages::Tx tx = sample_tx();
  tx.patches[2].body = random_page(random, 4096);
  const base::Bytes payload = encode(tx);
  EXPECT_GT(payload.size(), 4096u);
  const auto decoded = pages::decode_tx(payload);
  ASSERT_TRUE(decoded);
  EXPECT_TRUE(same(decoded->patches, tx.patches));
}

TEST(Entries, SmallInsert_EntryIsSmall) {
  pages::Tx tx = sample_tx();
  tx.requests.clear();
  tx.header.request_count = 0;
  tx.patches.resize(1);
  tx.header.patch_count = 1;
  EXPECT_LE(encode(tx).size(), 64u);
}

TEST(Entries, PatchesOutOfOrder_AreEncodedAscending) {
  pages::Tx tx = sample_tx();
  std::swap(tx.patches[0], tx.patches[2]);
  const auto decoded = pages::decode_tx(encode(tx));
  ASSERT_TRUE(decoded);
  EXPECT_TRUE(same(decoded->patches, sample_tx().patches));
}

TEST(Entries, PartRoundTrip_KeepsEveryField) {
  const pages::TxPart part = sample_part();
  const base::Bytes payload = encode(part);
  EXPECT_EQ(*pages::entry_type(payload), pages::EntryType::kTxPart);
  const auto decoded = pages::decode_tx_part(payload);
  ASSERT_TRUE(decoded) << to_string(decoded.error());
  EXPECT_EQ(decoded->db, part.db);
  EXPECT_EQ(decoded->origin, part.origin);
  EXPECT_EQ(decoded->lease_term, part.lease_term);
  EXPECT_EQ(decoded->lease, part.lease);
  EXPECT_EQ(decoded->number, 12u);
  EXPECT_TRUE(same(decoded->patches, part.patches));
  const auto header = pages::decode_tx_part_header(payload);
  ASSERT_TRUE(header);
  EXPECT_EQ(header->number, 12u);
  EXPECT_TRUE(header->patches.empty());
}

TEST(Entries, AbortRoundTrip_KeepsEveryField) {
  const auto decoded = pages::decode_tx_abort(encode(sample_abort()));
  ASSERT_TRUE(decoded);
  EXPECT_EQ(decoded->db, sample_abort().db);
  EXPECT_EQ(decoded->origin, sample_abort().origin);
  EXPECT_EQ(decoded->lease_term, sample_abort().lease_term);
  EXPECT_EQ(decoded->lease, sample_abort().lease);
}

TEST(Entries, CreateRoundTrip_KeepsEveryField) {
  const pages::CreateDatabase create = sample_create();
  const auto decoded = pages::decode_create(encode(create));
  ASSERT_TRUE(decoded) << to_string(decoded.error());
  EXPECT_EQ(decoded->name, create.name);
  EXPECT_EQ(decoded->page_size, create.page_size);
  EXPECT_EQ(decoded->origin, create.origin);
  EXPECT_EQ(decoded->size_after, create.size_after);
  EXPECT_EQ(decoded->digest_after, create.digest_after);
  EXPECT_EQ(decoded->seen, create.seen);
  EXPECT_TRUE(same(decoded->initial, create.initial));
}

TEST(Entries, DropRoundTrip_KeepsEveryField) {
  const auto decoded = pages::decode_drop(encode(sample_drop()));
  ASSERT_TRUE(decoded);
  EXPECT_EQ(decoded->db, sample_drop().db);
  EXPECT_EQ(decoded->name, sample_drop().name);
  EXPECT_EQ(decoded->origin, sample_drop().origin);
}

TEST(DatabaseName, Valid_IsAccepted) {
  for (const char* name : {"app.db", "a", "A-b_c.9", "hiqlite.db", "x-wal.db"})
    EXPECT_TRUE(pages::valid_database_name(name)) << name;
  EXPECT_TRUE(pages::valid_database_name(std::string(64, 'a')));
}

TEST(DatabaseName, Invalid_IsRefusedByRule) {
  const std::string names[] = {
      "",       std::string(65, 'a'),   "a/b",        "../x", ".hidden", "-flag", "a b", "x-wal", "x-shm", "x-journal",
      "x.sums", std::string("a\0b", 3), "caf\xc3\xa9"};
  for (const std::string& name : names) {
    const auto status = pages::valid_database_name(name);
    ASSERT_FALSE(status) << name;
    EXPECT_EQ(status.error().code, base::Code::kArgument);
  }
}

TEST(ImageState, Words_AreThoseOfTheStatus) {
  EXPECT_STREQ(to_string(pages::ImageState::kOk), "ok");
  EXPECT_STREQ(to_string(pages::ImageState::kForeignWrite), "foreign_write");
}

}  // namespace
}  // namespace pages_test

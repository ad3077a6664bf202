// Decoders under hostile bytes (R18): every truncation, every flipped byte, random bytes, decompression bombs. Nothing may crash, and what
// decodes stays inside its limits.
#include <gtest/gtest.h>
#include <lz4.h>

#include <cstdlib>

#include "pages/body.h"
#include "pages/sums.h"
#include "pages/tx.h"
#include "tests/pages/samples.h"

namespace pages_test {
namespace {

unsigned scale() {
  const char* text = std::getenv("HQL_TEST_SCALE");
  const std::string value = text == nullptr ? "ci" : text;
  return value == "night" ? 200 : value == "hour" ? 20 : 1;
}

// All decoders on the same bytes; returns how many took them.
int decode_all(base::ByteView payload) {
  int taken = 0;
  (void)pages::entry_type(payload);
  taken += pages::decode_tx_header(payload).has_value();
  taken += pages::decode_requests(payload).has_value();
  if (const auto tx = pages::decode_tx(payload)) {
    ++taken;
    base::Bytes page(tx->header.page_size);
    for (const pages::Patch& patch : tx->patches) (void)pages::apply_patch(patch, page);
  }
  taken += pages::decode_tx_part(payload).has_value();
  taken += pages::decode_tx_part_header(payload).has_value();
  taken += pages::decode_tx_abort(payload).has_value();
  taken += pages::decode_create(payload).has_value();
  taken += pages::decode_drop(payload).has_value();
  return taken;
}

std::vector<base::Bytes> sample_payloads() {
  return {encode(sample_tx()), encode(sample_part()), encode(sample_abort()), encode(sample_create()),
          encode(sample_drop())};
}

TEST(Hostile, EveryTruncation_IsRefused) {
  for (const base::Bytes& payload : sample_payloads()) {
    const base::ByteView whole(payload);
    for (std::size_t size = 0; size < payload.size(); ++size) {
      // A header alone may decode as long as its body is not asked for.
      EXPECT_FALSE(pages::decode_tx(whole.first(size)));
      EXPECT_FALSE(pages::decode_tx_part(whole.first(size)));
      EXPECT_FALSE(pages::decode_tx_abort(whole.first(size)));
      EXPECT_FALSE(pages::decode_create(whole.first(size)));
      EXPECT_FALSE(pages::decode_drop(whole.first(size)));
    }
  }
}

TEST(Hostile, TrailingBytes_AreRefused) {
  for (base::Bytes payload : sample_payloads()) {
    payload.push_back(std::byte{0});
    EXPECT_FALSE(pages::decode_tx(payload));
    EXPECT_FALSE(pages::decode_tx_part(payload));
    EXPECT_FALSE(pages::decode_tx_abort(payload));
    EXPECT_FALSE(pages::decode_create(payload));
    EXPECT_FALSE(pages::decode_drop(payload));
  }
}

TEST(Hostile, FlippedAndRandomBytes_NeverCrash) {
  const unsigned seed = 20250101;
  std::mt19937_64 random(seed);
  int taken = 0;
  for (const base::Bytes& payload : sample_payloads()) {
    for (std::size_t at = 0; at < payload.size(); ++at) {
      base::Bytes changed = payload;
      changed[at] = static_cast<std::byte>(random());
      taken += decode_all(changed);
    }
    for (unsigned round = 0; round < 3000 * scale(); ++round) {
      base::Bytes changed = payload;
      for (int edits = 0; edits < 4; ++edits) changed[random() % changed.size()] = static_cast<std::byte>(random());
      taken += decode_all(changed);
    }
  }
  EXPECT_GT(taken, 0);
  for (unsigned round = 0; round < 3000 * scale(); ++round) {
    base::Bytes noise = random_page(random, 1 + random() % 200);
    noise[0] = static_cast<std::byte>(1 + random() % 5);
    if (noise.size() > 3) {
      noise[1] = std::byte{1};
      noise[2] = static_cast<std::byte>(random() % 2);
      noise[3] = static_cast<std::byte>(random() % 2 ? 12 : 0);
    }
    (void)decode_all(noise);
  }
}

TEST(Hostile, DecompressionBomb_IsRefusedBeforeAllocation) {
  // A body that says it is larger than LZ4 can make it, and one over the limit that LZ4 could make.
  base::Bytes tiny(16);
  const auto bomb = pages::load_body(tiny, true, 1u << 20);
  ASSERT_FALSE(bomb);
  EXPECT_NE(bomb.error().message.find("cannot expand"), std::string::npos) << bomb.error().message;  // not even tried
  EXPECT_FALSE(pages::load_body(tiny, true, UINT64_MAX));
  EXPECT_FALSE(pages::load_body(tiny, false, UINT64_MAX));
  const std::size_t plain_size = pages::kBodyMax + 1;
  const base::Bytes zeros(plain_size);
  base::Bytes packed(static_cast<std::size_t>(LZ4_compressBound(static_cast<int>(plain_size))));
  const int size =
      LZ4_compress_default(reinterpret_cast<const char*>(zeros.data()), reinterpret_cast<char*>(packed.data()),
                           static_cast<int>(plain_size), static_cast<int>(packed.size()));
  ASSERT_GT(size, 0);
  packed.resize(static_cast<std::size_t>(size));
  const auto over = pages::load_body(packed, true, plain_size);
  ASSERT_FALSE(over);
  EXPECT_EQ(over.error().code, base::Code::kCorrupt);
  EXPECT_FALSE(pages::load_body(packed, true, plain_size - 4096));  // the true size is another one
}

TEST(Hostile, CountsBeyondBytes_AreRefusedBeforeAllocation) {
  base::Writer body;
  body.varint(UINT64_MAX);
  base::Reader patches(body.view());
  EXPECT_FALSE(pages::decode_body_patches(patches, 4096));
  base::Reader requests(body.view());
  EXPECT_FALSE(pages::decode_body_requests(requests, UINT32_MAX));
}

TEST(Hostile, PagesThatDoNotAscend_AreRefused) {
  for (const std::uint64_t step : {std::uint64_t{1}, std::uint64_t{0}, std::uint64_t{UINT32_MAX}}) {
    base::Writer out;
    out.varint(2);
    for (const std::uint64_t by : {std::uint64_t{7}, step}) {
      out.varint(by);
      out.u8(static_cast<std::uint8_t>(pages::PatchKind::kZeros));
      out.varint(0);
    }
    base::Reader in(out.view());
    EXPECT_EQ(pages::decode_body_patches(in, 4096).has_value(), step == 1) << step;
  }
}

TEST(Hostile, PagesOutOfPlace_AreRefused) {
  pages::Tx tx = sample_tx();
  tx.header.size_after = 8;  // page 9 is patched
  EXPECT_FALSE(pages::decode_tx(encode(tx)));
  tx = sample_tx();
  tx.header.size_after = 300000;
  tx.patches[2].page = pages::lock_byte_page(4096);
  EXPECT_FALSE(pages::decode_tx(encode(tx)));
  pages::CreateDatabase create = sample_create();
  create.initial[0].kind = pages::PatchKind::kRuns;
  EXPECT_FALSE(pages::decode_create(encode(create)));
  create = sample_create();
  create.name = "../etc";
  EXPECT_FALSE(pages::decode_create(encode(create)));
}

TEST(Hostile, PatchRuns_NeverLeaveThePage) {
  base::Bytes page(4096);
  const auto apply = [&](std::vector<std::uint64_t> varints, std::size_t bytes) {
    base::Writer body;
    for (const std::uint64_t value : varints) body.varint(value);
    body.buffer().resize(body.size() + bytes);
    return pages::apply_patch({1, pages::PatchKind::kRuns, body.take()}, page).has_value();
  };
  EXPECT_TRUE(apply({0, 4096}, 4096));
  EXPECT_TRUE(apply({4095, 1}, 1));
  EXPECT_FALSE(apply({4096, 1}, 1));
  EXPECT_FALSE(apply({4097, 1}, 1));
  EXPECT_FALSE(apply({UINT64_MAX, 1}, 1));
  EXPECT_FALSE(apply({1, UINT64_MAX}, 1));
  EXPECT_FALSE(apply({0, 0}, 0));
  EXPECT_FALSE(apply({0, 2}, 1));
  EXPECT_FALSE(apply({5}, 0));
  EXPECT_FALSE(pages::apply_patch({1, pages::PatchKind::kFull, base::Bytes(4095)}, page));
}

}  // namespace
}  // namespace pages_test

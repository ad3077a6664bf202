// base/bytes.h: what a Writer writes a Reader reads, and no input makes a Reader read past its view (R18).
#include "base/bytes.h"

#include <gtest/gtest.h>

#include "base/random.h"

namespace base {
namespace {

TEST(Bytes, LoadStore_EveryWidth_LittleEndian) {
  std::byte at[8] = {};
  store_u64(at, 0x0102030405060708ULL);
  EXPECT_EQ(at[0], std::byte{8});
  EXPECT_EQ(at[7], std::byte{1});
  EXPECT_EQ(load_u64(at), 0x0102030405060708ULL);
  EXPECT_EQ(load_u32(at), 0x05060708U);
  EXPECT_EQ(load_u16(at), 0x0708U);
  store_be32(at, 0x01020304U);
  EXPECT_EQ(at[0], std::byte{1});
  EXPECT_EQ(at[3], std::byte{4});
  EXPECT_EQ(load_be32(at), 0x01020304U);
}

TEST(Bytes, RoundTrip_EveryField_Equal) {
  Writer writer;
  writer.u8(0xFE);
  writer.u16(0xFEDC);
  writer.u32(0xFEDCBA98);
  writer.u64(0xFEDCBA9876543210ULL);
  writer.text("two words");
  writer.blob({});
  writer.varint(300);
  const Bytes bytes = writer.take();
  EXPECT_EQ(bytes.size(), 1U + 2 + 4 + 8 + (4 + 9) + 4 + 2);
  Reader reader(bytes);
  EXPECT_EQ(reader.u8(), 0xFE);
  EXPECT_EQ(reader.u16(), 0xFEDC);
  EXPECT_EQ(reader.u32(), 0xFEDCBA98);
  EXPECT_EQ(reader.u64(), 0xFEDCBA9876543210ULL);
  EXPECT_EQ(reader.text(), "two words");
  EXPECT_TRUE(reader.blob().empty());
  EXPECT_EQ(reader.varint(), 300U);
  EXPECT_TRUE(reader.at_end());
}

TEST(Bytes, Varint_EdgeValues_RoundTripInShortestForm) {
  const std::vector<std::pair<std::uint64_t, std::size_t>> cases = {{0, 1},
                                                                    {1, 1},
                                                                    {127, 1},
                                                                    {128, 2},
                                                                    {16383, 2},
                                                                    {16384, 3},
                                                                    {std::uint64_t{1} << 62, 9},
                                                                    {std::uint64_t{1} << 63, 10},
                                                                    {UINT64_MAX, 10}};
  for (const auto& [value, size] : cases) {
    Writer writer;
    writer.varint(value);
    EXPECT_EQ(writer.size(), size) << value;
    Reader reader(writer.view());
    EXPECT_EQ(reader.varint(), value);
    EXPECT_TRUE(reader.at_end()) << value;
  }
}

TEST(Bytes, Varint_TooLongOrPadded_Bad) {
  const std::vector<Bytes> hostile = {
      Bytes(11, std::byte{0xFF}),               // never ends
      Bytes(10, std::byte{0xFF}),               // bits beyond 64
      Bytes{std::byte{0x80}},                   // cut off
      Bytes{std::byte{0x80}, std::byte{0x00}},  // zero in two bytes
      Bytes{},
  };
  for (const Bytes& bytes : hostile) {
    Reader reader(bytes);
    EXPECT_EQ(reader.varint(), 0U);
    EXPECT_FALSE(reader.ok());
  }
}

TEST(Bytes, Reader_PastTheEnd_BadForEver) {
  Writer writer;
  writer.u16(7);
  Reader reader(writer.view());
  EXPECT_EQ(reader.u32(), 0U);
  EXPECT_FALSE(reader.ok());
  EXPECT_EQ(reader.u8(), 0U) << "bytes that are there must not be given after a failure";
  EXPECT_FALSE(reader.at_end());
  EXPECT_EQ(reader.remaining(), 0U);
}

TEST(Bytes, Reader_LengthBeyondView_Bad) {
  Writer writer;
  writer.u32(UINT32_MAX);
  writer.raw(view_of("abc"));
  Reader reader(writer.view());
  EXPECT_TRUE(reader.blob().empty());
  EXPECT_FALSE(reader.ok());
  Reader raw(writer.view());
  EXPECT_TRUE(raw.raw(SIZE_MAX).empty());
  EXPECT_FALSE(raw.ok());
}

TEST(Bytes, Reader_RandomInput_StaysInsideAndEnds) {
  constexpr std::uint64_t kSeed = 1;
  Random random(kSeed);
  for (int round = 0; round < 2000; ++round) {
    SCOPED_TRACE(testing::Message() << "seed " << kSeed << " round " << round);
    Bytes bytes(random.below(64));
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(random.next());
    Reader reader(bytes);
    std::size_t taken = 0;
    while (reader.ok() && reader.remaining() > 0) {
      const std::size_t before = reader.remaining();
      switch (random.below(5)) {
        case 0:
          reader.u8();
          break;
        case 1:
          reader.u64();
          break;
        case 2:
          reader.varint();
          break;
        case 3:
          taken += reader.blob().size();
          break;
        default:
          taken += reader.raw(random.below(16) + 1).size();
          break;
      }
      ASSERT_TRUE(!reader.ok() || reader.remaining() < before);
    }
    ASSERT_LE(taken, bytes.size());
  }
}

TEST(Bytes, Hex16_Numbers_SixteenDigits) {
  EXPECT_EQ(hex16(0), "0000000000000000");
  EXPECT_EQ(hex16(0xDEADBEEF), "00000000deadbeef");
  EXPECT_EQ(hex16(UINT64_MAX), "ffffffffffffffff");
}

}  // namespace
}  // namespace base

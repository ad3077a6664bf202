// base/checksum.h against published vectors, and the two CRC implementations against each other.
#include "base/checksum.h"

#include <gtest/gtest.h>

#include "base/random.h"

namespace base {
namespace {

Bytes random_bytes(Random& random, std::size_t size) {
  Bytes bytes(size);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random.next());
  return bytes;
}

// RFC 3720, appendix B.4.
TEST(Checksum, Crc32c_Rfc3720Vectors_Equal) {
  Bytes ascending(32);
  Bytes descending(32);
  for (std::size_t i = 0; i < 32; ++i) {
    ascending[i] = static_cast<std::byte>(i);
    descending[i] = static_cast<std::byte>(31 - i);
  }
  const std::vector<std::pair<Bytes, std::uint32_t>> cases = {
      {Bytes(32), 0x8A9136AA},  {Bytes(32, std::byte{0xFF}), 0x62A8AB43},    {ascending, 0x46DD794E},
      {descending, 0x113FDB5C}, {copy_of(view_of("123456789")), 0xE3069283}, {Bytes(), 0},
  };
  for (const auto& [bytes, expected] : cases) {
    EXPECT_EQ(crc32c(bytes), expected);
    EXPECT_EQ(crc32c_by_tables(bytes), expected);
  }
}

TEST(Checksum, Crc32c_BothImplementations_AgreeAtEveryLengthAndAlignment) {
  constexpr std::uint64_t kSeed = 2;
  Random random(kSeed);
  const Bytes bytes = random_bytes(random, 4096 + 64);
  for (std::size_t start = 0; start < 9; ++start) {
    for (const std::size_t size : std::vector<std::size_t>{0, 1, 7, 8, 9, 15, 16, 17, 63, 64, 65, 511, 4096}) {
      const ByteView part = ByteView(bytes).subspan(start, size);
      const auto seed = static_cast<std::uint32_t>(random.next());
      ASSERT_EQ(crc32c(part, seed), crc32c_by_tables(part, seed))
          << "seed " << kSeed << " start " << start << " size " << size;
    }
  }
}

TEST(Checksum, Crc32c_InTwoParts_EqualsWhole) {
  const ByteView text = view_of("a record's header and then its payload");
  for (std::size_t cut = 0; cut <= text.size(); ++cut)
    ASSERT_EQ(crc32c(text.subspan(cut), crc32c(text.first(cut))), crc32c(text)) << cut;
}

TEST(Checksum, Xxh3_KnownValueAndSeed_Distinct) {
  EXPECT_EQ(xxh3({}), 0x2D06800538D394C2ULL);
  const Bytes page(4096);
  EXPECT_NE(xxh3(page, 1), xxh3(page, 2)) << "the page number must matter for equal bytes";
  Bytes other = page;
  other[4095] = std::byte{1};
  EXPECT_NE(xxh3(page, 1), xxh3(other, 1));
}

}  // namespace
}  // namespace base

// Frame headers, greetings, refusals, addresses and the primitives of the handshake against known bytes.
#include "net/wire.h"

#include <gtest/gtest.h>

#include <string>

#include "base/random.h"
#include "net/address.h"
#include "net/crypto.h"
#include "net/local_wire.h"

namespace net {
namespace {

std::string hex(base::ByteView bytes) {
  static const char* const digits = "0123456789abcdef";
  std::string out;
  for (const std::byte each : bytes) {
    out += digits[std::to_integer<int>(each) >> 4];
    out += digits[std::to_integer<int>(each) & 15];
  }
  return out;
}

TEST(Crypto, KnownVectors_Match) {
  EXPECT_EQ(hex(*sha256(base::view_of("abc"))), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  // RFC 4231, case 2.
  EXPECT_EQ(hex(*hmac_sha256(base::view_of("Jefe"), base::view_of("what do ya want for nothing?"))),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  // RFC 5869, case 1: the first 32 bytes of its output.
  const base::Bytes secret(22, std::byte{0x0b});
  base::Bytes salt;
  for (int i = 0; i <= 12; ++i) salt.push_back(static_cast<std::byte>(i));
  EXPECT_EQ(hex(*derive_key(secret, salt, "\xf0\xf1\xf2\xf3\xf4\xf5\xf6\xf7\xf8\xf9")),
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf");
}

TEST(FrameSeal, CounterAndSlices_AreCovered) {
  Digest key{};
  auto one = FrameSeal::with_key(key);
  auto two = FrameSeal::with_key(key);
  const auto seal = [](FrameSeal& with, std::string_view left, std::string_view right) {
    with.begin(base::view_of("header"));
    with.update(base::view_of(left));
    with.update(base::view_of(right));
    return hex(with.finish()->view());
  };
  const std::string first = seal(*one, "pay", "load");
  EXPECT_EQ(first.size(), 32u);
  EXPECT_EQ(first, seal(*two, "", "payload"));
  EXPECT_NE(first, seal(*one, "pay", "load"));  // a repeated frame has another value
  FrameSeal crc = FrameSeal::with_crc();
  EXPECT_EQ(seal(crc, "pay", "load"), seal(crc, "payload", ""));
}

TEST(Wire, Header_GoldenBytesAndLimits) {
  const auto bytes = encode_header({0x010203, FrameKind::kApplication, base::Channel::kData});
  EXPECT_EQ(hex(bytes), "0302010001020000");
  const auto decode = [](std::uint32_t size, FrameKind kind, base::Channel channel, Stage stage) {
    return decode_header(encode_header({size, kind, channel}), stage).has_value();
  };
  using base::Channel;
  EXPECT_TRUE(decode(base::kDataFrameMax, FrameKind::kApplication, Channel::kData, Stage::kSealed));
  EXPECT_FALSE(decode(base::kDataFrameMax + 1, FrameKind::kApplication, Channel::kData, Stage::kSealed));
  EXPECT_TRUE(decode(base::kControlFrameMax, FrameKind::kApplication, Channel::kControl, Stage::kSealed));
  EXPECT_FALSE(decode(base::kControlFrameMax + 1, FrameKind::kApplication, Channel::kControl, Stage::kSealed));
  EXPECT_FALSE(decode(1, FrameKind::kApplication, Channel::kControl, Stage::kBare));
  EXPECT_FALSE(decode(1, FrameKind::kStart, Channel::kControl, Stage::kSealed));
  EXPECT_FALSE(decode(kBareFrameMax + 1, FrameKind::kStart, Channel::kControl, Stage::kBare));
  EXPECT_FALSE(decode(kHelloSizeMax + 1, FrameKind::kHello, Channel::kControl, Stage::kSealed));
}

TEST(Wire, Greeting_GoldenBytesAndRoundTrip) {
  Greeting greeting{1,  Mode::kMac, base::Channel::kData, base::NodeId(1), base::NodeId(2), base::Incarnation(3), 4, 5,
                    {}, {}};
  greeting.cluster_tag[0] = std::byte{0xaa};
  greeting.nonce[31] = std::byte{0xbb};
  const base::Bytes bytes = encode(greeting);
  EXPECT_EQ(hex(base::ByteView(bytes).first(56)),
            "48514c57495245"
            "0a"
            "0100"
            "02"
            "02"
            "00000000"
            "0100000000000000"
            "0200000000000000"
            "0300000000000000"
            "0400000000000000"
            "0500000000000000");
  const auto decoded = decode_greeting(bytes);
  ASSERT_TRUE(decoded);
  EXPECT_EQ(encode(*decoded), bytes);
  EXPECT_EQ(greeting_version(bytes), 1);
  EXPECT_EQ(greeting_version(base::view_of("GET / HTTP/1.1")), 0);
}

TEST(Wire, RandomBytes_AreRefusedOrUnderstoodNeverMore) {
  const std::uint64_t seed = 0x5eed;
  SCOPED_TRACE("seed " + std::to_string(seed));
  base::Random random(seed);
  for (int round = 0; round < 20000; ++round) {
    base::Bytes bytes(random.below(160) + kLocalHeaderSize);
    for (std::byte& each : bytes) each = static_cast<std::byte>(random.next());
    if (random.chance(1, 2)) bytes[4] = static_cast<std::byte>(random.below(20));
    for (const Stage stage : {Stage::kBare, Stage::kSealed}) {
      if (const auto header = decode_header(bytes, stage)) {
        EXPECT_LE(header->size, payload_size_max(header->kind, header->channel));
      }
    }
    const auto greeting = decode_greeting(bytes);
    EXPECT_TRUE(!greeting || encode(*greeting) == bytes);
    const auto refusal = decode_refuse(bytes);
    EXPECT_TRUE(!refusal || refusal->text.size() <= kRefuseTextMax);
    static_cast<void>(decode_local_header(bytes));
    static_cast<void>(decode_error(bytes));
  }
}

TEST(Address, Texts_ParseOrNameTheKey) {
  EXPECT_EQ(to_string(*parse_address("127.0.0.1:80", "key")), "127.0.0.1:80");
  EXPECT_EQ(to_string(*parse_address("[::1]:0", "key")), "[::1]:0");
  EXPECT_EQ(parse_address("db.example.org:65535", "key")->port, 65535);
  for (const char* bad : {"", "host", ":80", "host:", "host:65536", "host:-1", "host:8x", "::1:80", "host: 80"}) {
    const auto parsed = parse_address(bad, "listen_addr_raft");
    ASSERT_FALSE(parsed) << bad;
    EXPECT_EQ(parsed.error().code, base::Code::kConfig);
    EXPECT_NE(parsed.error().message.find("listen_addr_raft"), std::string::npos);
  }
}

TEST(Address, Loopback_IsToldFromTheRest) {
  const auto loopback = [](const char* host) {
    const auto address = numeric_address({host, 1});
    EXPECT_TRUE(address.has_value()) << host;
    return is_loopback(reinterpret_cast<const sockaddr*>(&*address));
  };
  EXPECT_TRUE(loopback("127.0.0.1"));
  EXPECT_TRUE(loopback("127.255.1.2"));
  EXPECT_TRUE(loopback("::1"));
  EXPECT_TRUE(loopback("::ffff:127.0.0.1"));
  EXPECT_FALSE(loopback("0.0.0.0"));
  EXPECT_FALSE(loopback("128.0.0.1"));
  EXPECT_FALSE(loopback("10.0.0.1"));
  EXPECT_FALSE(loopback("::"));
  EXPECT_FALSE(loopback("::ffff:10.0.0.1"));
}

}  // namespace
}  // namespace net

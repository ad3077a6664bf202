// Golden bytes of what travels between nodes and over the local socket, and a peer that follows docs/FORMATS.md alone.
#include "tests/base/golden.h"

#include <gtest/gtest.h>

#include "net/handshake.h"
#include "net/local_wire.h"
#include "net/wire.h"
#include "tests/net/harness.h"
#include "tests/net/proxy.h"

namespace net_test {
namespace {

using base::Bytes;
using base::ByteView;
using base::Channel;
using net::FrameKind;
using net::FrameSeal;
using net::Role;
using testing_base::check_golden;
using testing_base::Damage;
using testing_base::expect_damage;
using Again = std::optional<Bytes>;

constexpr char kSecretText[] = "000102030405060708090a0b0c0d0e0f";

net::Digest digest_from(unsigned first) {
  net::Digest digest{};
  for (std::size_t i = 0; i < digest.size(); ++i) digest[i] = static_cast<std::byte>(first + i);
  return digest;
}

net::Greeting greeting_of(std::uint64_t from, std::uint64_t to, unsigned nonce) {
  net::Greeting greeting;
  greeting.version = 1;
  greeting.mode = net::Mode::kMac;
  greeting.channel = Channel::kData;
  greeting.from = base::NodeId(from);
  greeting.to = base::NodeId(to);
  greeting.incarnation = base::Incarnation(0x1122334455667700 + from);
  greeting.boot_nonce = 0xb0 + from;
  greeting.session = 5;
  greeting.cluster_tag = digest_from(0x40);
  greeting.nonce = digest_from(nonce);
  return greeting;
}

net::Greeting start() { return greeting_of(1, 2, 0x80); }
net::Greeting challenge() { return greeting_of(2, 1, 0xc0); }

// The dialler's greeting, then the acceptor's.
Bytes greetings() {
  Bytes both = encode(start());
  const Bytes second = encode(challenge());
  both.insert(both.end(), second.begin(), second.end());
  return both;
}

FrameSeal seal(std::string_view secret, Role sender) {
  auto made = net::make_seal(secret, greetings(), sender);
  EXPECT_TRUE(made);
  return std::move(*made);
}

Bytes sealed_frame(FrameSeal& with, FrameKind kind, Channel channel, ByteView payload) {
  Bytes frame = net::bare_frame(kind, channel, payload);
  with.begin(ByteView(frame).first(net::kFrameHeaderSize));
  with.update(payload);
  const auto tag = with.finish();
  EXPECT_TRUE(tag);
  frame.insert(frame.end(), tag->view().begin(), tag->view().end());
  return frame;
}

struct Parts {
  net::FrameHeader header;
  ByteView payload;
  ByteView tag;
};
std::optional<Parts> parts_of(ByteView bytes, net::Stage stage, std::size_t tag_size) {
  if (bytes.size() < net::kFrameHeaderSize) return std::nullopt;
  const auto header = net::decode_header(bytes, stage);
  if (!header || bytes.size() != net::kFrameHeaderSize + header->size + tag_size) return std::nullopt;
  const ByteView rest = bytes.subspan(net::kFrameHeaderSize);
  return Parts{*header, rest.first(header->size), rest.subspan(header->size)};
}

// A sealed frame whose check value is right, as it was; nothing otherwise.
Again open_frame(FrameSeal& with, ByteView bytes) {
  const auto parts = parts_of(bytes, net::Stage::kSealed, with.tag_size());
  if (!parts) return std::nullopt;
  with.begin(bytes.first(net::kFrameHeaderSize));
  with.update(parts->payload);
  const auto tag = with.finish();
  EXPECT_TRUE(tag);
  if (!net::equal_secret(tag->view(), parts->tag)) return std::nullopt;
  return base::copy_of(bytes);
}

// `payload_again` decodes the payload and encodes what it found.
template <class PayloadAgain>
auto bare(PayloadAgain payload_again) {
  return [payload_again](ByteView bytes) -> Again {
    const auto parts = parts_of(bytes, net::Stage::kBare, 0);
    if (!parts) return std::nullopt;
    const Again payload = payload_again(parts->payload);
    if (!payload) return std::nullopt;
    return net::bare_frame(parts->header.kind, parts->header.channel, *payload);
  };
}

TEST(Golden, Greetings_AreVersion1) {
  const auto again = bare(testing_base::reencoded(net::decode_greeting));
  const Bytes first = net::bare_frame(FrameKind::kStart, Channel::kData, encode(start()));
  expect_damage(check_golden("start_v1", first), Damage::kNoticed, again);
  const Bytes second = net::bare_frame(FrameKind::kChallenge, Channel::kData, encode(challenge()));
  expect_damage(check_golden("challenge_v1", second), Damage::kNoticed, again);
}

TEST(Golden, Proofs_AreVersion1) {
  const auto check = [](const char* name, std::string_view secret, Role role) {
    SCOPED_TRACE(name);
    const auto proof = net::make_proof(secret, greetings(), role);
    ASSERT_TRUE(proof);
    const Bytes frame = net::bare_frame(FrameKind::kProof, Channel::kData, *proof);
    expect_damage(check_golden(name, frame), Damage::kNoticed, bare([&](ByteView payload) -> Again {
                    if (!net::equal_secret(*proof, payload)) return std::nullopt;
                    return base::copy_of(payload);
                  }));
  };
  check("proof_dialler_v1", kSecretText, Role::kDialler);
  check("proof_acceptor_v1", kSecretText, Role::kAcceptor);
  check("proof_no_secret_v1", "", Role::kDialler);
}

TEST(Golden, SealedFrames_AreVersion1) {
  const auto check = [](const char* name, std::string_view secret, Role role) {
    SCOPED_TRACE(name);
    FrameSeal with = seal(secret, role);
    const Bytes hello = sealed_frame(with, FrameKind::kHello, Channel::kData, {});
    const Bytes frame = sealed_frame(with, FrameKind::kApplication, Channel::kData, base::view_of("a frame"));
    expect_damage(check_golden(name, frame), Damage::kRefused, [&](ByteView bytes) {
      FrameSeal receiver = seal(secret, role);
      EXPECT_TRUE(open_frame(receiver, hello));  // with a secret, the count of frames is covered
      return open_frame(receiver, bytes);
    });
  };
  check("frame_dialler_v1", kSecretText, Role::kDialler);
  check("frame_acceptor_v1", kSecretText, Role::kAcceptor);
  check("frame_crc_v1", "", Role::kDialler);
}

TEST(Golden, Refusal_IsVersion1) {
  const net::RefuseMessage message{net::Refusal::kVersion, 1, "this node speaks wire version 1"};
  const Bytes frame = net::bare_frame(FrameKind::kRefuse, Channel::kControl, encode(message));
  expect_damage(check_golden("refuse_v1", frame), Damage::kNoticed, bare(testing_base::reencoded(net::decode_refuse)));
}

// A frame of the local socket. `payload_again` as above.
template <class PayloadAgain>
void expect_local(const char* name, net::LocalKind kind, ByteView payload, PayloadAgain payload_again) {
  SCOPED_TRACE(name);
  const auto frame = [](net::LocalHeader header, ByteView body) {
    header.size = static_cast<std::uint32_t>(body.size());
    base::Writer out;
    out.raw(net::encode_header(header));
    out.raw(body);
    return out.take();
  };
  const Bytes golden = check_golden(name, frame({0, kind, 0x0102030405060708}, payload));
  expect_damage(golden, Damage::kNoticed, [&](ByteView bytes) -> Again {
    if (bytes.size() < net::kLocalHeaderSize) return std::nullopt;
    const auto header = net::decode_local_header(bytes);
    if (!header || bytes.size() != net::kLocalHeaderSize + header->size) return std::nullopt;
    return frame(*header, payload_again(bytes.subspan(net::kLocalHeaderSize)));
  });
}

TEST(Golden, LocalSocket_IsVersion1) {
  const auto as_it_is = [](ByteView payload) { return base::copy_of(payload); };
  expect_local("local_request_v1", net::LocalKind::kRequest, base::view_of("request"), as_it_is);
  expect_local("local_reply_v1", net::LocalKind::kReply, base::view_of("reply"), as_it_is);
  base::Error error = base::make_error(base::Code::kSql, "UNIQUE constraint failed: t.id");
  error.sqlite_code = 2067;  // SQLITE_CONSTRAINT_UNIQUE
  expect_local("local_error_v2", net::LocalKind::kError, net::encode_error(error),
               [](ByteView payload) { return net::encode_error(net::decode_error(payload)); });
}

// The kind of an error without SQLite's code, in which the same bytes meant something else.
TEST(LocalSocket, RetiredAndUnknownKinds_AreRefused) {
  for (const int kind : {0, 3, 5, 255}) {
    const auto header = net::decode_local_header(net::encode_header({0, static_cast<net::LocalKind>(kind), 1}));
    ASSERT_FALSE(header) << kind;
    EXPECT_EQ(header.error().code, base::Code::kProtocol);
  }
}

TEST(LocalSocket, Error_EveryCodeAndSqlitesOwnSurvive) {
  for (int i = 0; i < base::code_count(); ++i) {
    const base::Error error{base::code_at(i), "text " + std::to_string(i), 2067 + i};
    const base::Error back = net::decode_error(net::encode_error(error));
    EXPECT_EQ(back.code, error.code);
    EXPECT_EQ(back.message, error.message);
    EXPECT_EQ(back.sqlite_code, error.sqlite_code);
  }
  Bytes newer = net::encode_error(base::make_error(base::Code::kSql, "of a later version"));
  base::store_u16(newer.data(), 60000);
  EXPECT_EQ(net::decode_error(newer).code, base::Code::kInternal);
  EXPECT_EQ(net::decode_error(newer).message, "of a later version");
  newer.push_back(std::byte{0});
  EXPECT_EQ(net::decode_error(newer).code, base::Code::kProtocol);
}

// The dialler's end of one connection, frame by frame, with the keys and check values as drawn.
class DrawnDialler {
 public:
  DrawnDialler(const std::string& address, Channel channel) : client_(address), channel_(channel) {
    net::Greeting greeting = greeting_of(1, 2, 0x10);
    greeting.channel = channel;
    greeting.cluster_tag = *net::sha256(base::view_of("cluster"));
    Bytes both = encode(greeting);
    client_.write(net::bare_frame(FrameKind::kStart, channel, both));
    const Bytes answer = read_bare(FrameKind::kChallenge, net::kGreetingSize);
    both.insert(both.end(), answer.begin(), answer.end());
    client_.write(net::bare_frame(FrameKind::kProof, channel, *net::make_proof(kSecret, both, Role::kDialler)));
    EXPECT_EQ(read_bare(FrameKind::kProof, net::kDigestSize),
              base::copy_of(*net::make_proof(kSecret, both, Role::kAcceptor)));
    out_ = std::move(*net::make_seal(kSecret, both, Role::kDialler));
    in_ = std::move(*net::make_seal(kSecret, both, Role::kAcceptor));
  }
  void write(FrameKind kind, ByteView payload) { client_.write(sealed_frame(*out_, kind, channel_, payload)); }
  void expect(FrameKind kind, std::string_view payload) {
    const Bytes frame = client_.read(net::kFrameHeaderSize + payload.size() + FrameSeal::kMacTagSize);
    ASSERT_TRUE(open_frame(*in_, frame).has_value());
    const auto parts = parts_of(frame, net::Stage::kSealed, FrameSeal::kMacTagSize);
    EXPECT_EQ(parts->header.kind, kind);
    EXPECT_EQ(base::text_of(parts->payload), payload);
  }

 private:
  Bytes read_bare(FrameKind kind, std::size_t size) {
    const Bytes frame = client_.read(net::kFrameHeaderSize + size);
    const auto parts = parts_of(frame, net::Stage::kBare, 0);
    EXPECT_TRUE(parts && parts->header.kind == kind && parts->header.channel == channel_);
    return parts ? base::copy_of(parts->payload) : Bytes{};
  }

  RawClient client_;
  Channel channel_;
  std::optional<FrameSeal> out_;
  std::optional<FrameSeal> in_;
};

// The golden files above are made by the test; here the transport itself agrees with them.
TEST(Wire, PeerThatFollowsTheDrawing_IsUnderstood) {
  Node two({.id = 2});
  two.start();
  two.set_peers({{base::NodeId(1), "127.0.0.1:1"}});
  DrawnDialler control(two.transport().address(), Channel::kControl);
  DrawnDialler data(two.transport().address(), Channel::kData);
  control.expect(FrameKind::kHello, "hello of 2");
  data.expect(FrameKind::kHello, "");
  control.write(FrameKind::kHello, base::view_of("hello of 1"));
  data.write(FrameKind::kHello, {});
  control.expect(FrameKind::kReady, "");
  data.expect(FrameKind::kReady, "");
  data.write(FrameKind::kApplication, base::view_of("to two"));
  ASSERT_TRUE(two.recorder.wait_frames(1));
  EXPECT_EQ(base::text_of(two.recorder.frames()[0].bytes), "to two");
  EXPECT_TRUE(two.send(1, Channel::kControl, "to one"));
  control.expect(FrameKind::kApplication, "to one");
  data.write(FrameKind::kPing, {});
  data.expect(FrameKind::kPong, "");
}

}  // namespace
}  // namespace net_test

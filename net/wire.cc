// Frames and handshake messages in bytes; net/wire.h draws them.
#include "net/wire.h"

#include <algorithm>
#include <string_view>

#include "base/check.h"

namespace net {
namespace {

constexpr std::string_view kMagic = "HQLWIRE\n";
constexpr std::size_t kSmallPayloadMax = 256;  // kReady, kPing, kPong, kRefuse
constexpr std::size_t kRefuseHeaderSize = 3;

base::Error malformed(const std::string& what) {
  return base::make_error(base::Code::kProtocol, "malformed bytes: " + what);
}

void append(base::Writer& out, const Digest& digest) { out.raw(digest); }

Digest read_digest(base::Reader& in) {
  Digest digest{};
  const base::ByteView view = in.raw(digest.size());
  std::copy(view.begin(), view.end(), digest.begin());
  return digest;
}

bool valid_channel(std::uint8_t channel) {
  return channel == static_cast<std::uint8_t>(base::Channel::kControl) ||
         channel == static_cast<std::uint8_t>(base::Channel::kData);
}

bool kind_allowed(std::uint8_t kind, Stage stage) {
  switch (static_cast<FrameKind>(kind)) {
    case FrameKind::kApplication:
    case FrameKind::kHello:
    case FrameKind::kReady:
    case FrameKind::kPing:
    case FrameKind::kPong:
      return stage == Stage::kSealed;
    case FrameKind::kStart:
    case FrameKind::kChallenge:
    case FrameKind::kProof:
      return stage == Stage::kBare;
    case FrameKind::kRefuse:
      return true;
  }
  return false;
}

}  // namespace

std::array<std::byte, kFrameHeaderSize> encode_header(const FrameHeader& header) {
  std::array<std::byte, kFrameHeaderSize> out{};
  base::store_u32(&out[0], header.size);
  out[4] = static_cast<std::byte>(header.kind);
  out[5] = static_cast<std::byte>(header.channel);
  return out;
}

std::size_t payload_size_max(FrameKind kind, base::Channel channel) {
  switch (kind) {
    case FrameKind::kApplication:
      return channel == base::Channel::kControl ? base::kControlFrameMax : base::kDataFrameMax;
    case FrameKind::kHello:
      return kHelloSizeMax;
    case FrameKind::kReady:
    case FrameKind::kPing:
    case FrameKind::kPong:
    case FrameKind::kRefuse:
      return kSmallPayloadMax;
    case FrameKind::kStart:
    case FrameKind::kChallenge:
    case FrameKind::kProof:
      return kBareFrameMax;
  }
  return 0;
}

base::Result<FrameHeader> decode_header(base::ByteView bytes, Stage stage) {
  CHECK(bytes.size() >= kFrameHeaderSize);
  FrameHeader header;
  header.size = base::load_u32(bytes.data());
  const auto kind = std::to_integer<std::uint8_t>(bytes[4]);
  const auto channel = std::to_integer<std::uint8_t>(bytes[5]);
  if (!kind_allowed(kind, stage)) return malformed("frame kind " + std::to_string(kind));
  if (!valid_channel(channel)) return malformed("channel " + std::to_string(channel));
  if (base::load_u16(&bytes[6]) != 0) return malformed("reserved bytes of a frame header");
  header.kind = static_cast<FrameKind>(kind);
  header.channel = static_cast<base::Channel>(channel);
  const std::size_t size_max = payload_size_max(header.kind, header.channel);
  if (header.size > size_max) {
    return malformed("a frame of " + std::to_string(header.size) + " bytes, limit " + std::to_string(size_max));
  }
  return header;
}

base::Bytes bare_frame(FrameKind kind, base::Channel channel, base::ByteView payload) {
  base::Writer out;
  out.raw(encode_header({static_cast<std::uint32_t>(payload.size()), kind, channel}));
  out.raw(payload);
  return out.take();
}

base::Bytes encode(const Greeting& greeting) {
  base::Writer out;
  out.raw(base::view_of(kMagic));
  out.u16(greeting.version);
  out.u8(static_cast<std::uint8_t>(greeting.mode));
  out.u8(static_cast<std::uint8_t>(greeting.channel));
  out.u32(0);
  out.u64(greeting.from.value);
  out.u64(greeting.to.value);
  out.u64(greeting.incarnation.value);
  out.u64(greeting.boot_nonce);
  out.u64(greeting.session);
  append(out, greeting.cluster_tag);
  append(out, greeting.nonce);
  CHECK(out.size() == kGreetingSize);
  return out.take();
}

std::uint16_t greeting_version(base::ByteView bytes) {
  if (bytes.size() < kMagic.size() + 2) return 0;
  if (base::text_of(bytes.first(kMagic.size())) != kMagic) return 0;
  return base::load_u16(&bytes[kMagic.size()]);
}

base::Result<Greeting> decode_greeting(base::ByteView bytes) {
  if (bytes.size() != kGreetingSize) return malformed("a greeting of " + std::to_string(bytes.size()) + " bytes");
  base::Reader in(bytes);
  if (base::text_of(in.raw(kMagic.size())) != kMagic) return malformed("not a greeting of a node");
  Greeting greeting;
  greeting.version = in.u16();
  const std::uint8_t mode = in.u8();
  const std::uint8_t channel = in.u8();
  if (mode != static_cast<std::uint8_t>(Mode::kCrc) && mode != static_cast<std::uint8_t>(Mode::kMac))
    return malformed("mode");
  if (!valid_channel(channel)) return malformed("channel of a greeting");
  if (in.u32() != 0) return malformed("reserved bytes of a greeting");
  greeting.mode = static_cast<Mode>(mode);
  greeting.channel = static_cast<base::Channel>(channel);
  greeting.from = base::NodeId(in.u64());
  greeting.to = base::NodeId(in.u64());
  greeting.incarnation = base::Incarnation(in.u64());
  greeting.boot_nonce = in.u64();
  greeting.session = in.u64();
  greeting.cluster_tag = read_digest(in);
  greeting.nonce = read_digest(in);
  if (!in.at_end()) return malformed("greeting");
  return greeting;
}

base::Bytes encode(const RefuseMessage& message) {
  base::Writer out;
  out.u8(static_cast<std::uint8_t>(message.refusal));
  out.u16(message.version);
  out.raw(base::view_of(std::string_view(message.text).substr(0, kRefuseTextMax)));
  return out.take();
}

base::Result<RefuseMessage> decode_refuse(base::ByteView bytes) {
  if (bytes.size() < kRefuseHeaderSize) return malformed("refusal");
  base::Reader in(bytes);
  RefuseMessage message;
  const std::uint8_t refusal = in.u8();
  if (refusal < static_cast<std::uint8_t>(Refusal::kVersion) ||
      refusal > static_cast<std::uint8_t>(Refusal::kInternal)) {
    return malformed("refusal " + std::to_string(refusal));
  }
  message.refusal = static_cast<Refusal>(refusal);
  message.version = in.u16();
  message.text = base::text_of(in.raw(std::min(in.remaining(), kRefuseTextMax)));
  for (char& c : message.text) {
    if (c < ' ' || c > '~') c = '?';
  }
  return message;
}

base::Code code_of(Refusal refusal) {
  switch (refusal) {
    case Refusal::kSecret:
    case Refusal::kMode:
      return base::Code::kAuth;
    case Refusal::kVersion:
    case Refusal::kMalformed:
    case Refusal::kStale:
      return base::Code::kProtocol;
    case Refusal::kClusterTag:
    case Refusal::kUnknownPeer:
    case Refusal::kWrongNode:
    case Refusal::kIdInUse:
    case Refusal::kHandler:
      return base::Code::kRefused;
    case Refusal::kInternal:
      return base::Code::kInternal;
  }
  return base::Code::kInternal;
}

}  // namespace net

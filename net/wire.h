// The bytes on a connection between two nodes: frame header, greeting, proof, refusal (docs/FORMATS.md, "Wire"). Pure
// functions and values. Callers: net/handshake.cc, net/connection.cc, tests. Any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"
#include "base/transport.h"
#include "net/crypto.h"

namespace net {

// 0          4      5         6        8            8+size
// | size u32 | kind | channel | 0 u16  | payload... | tag (none, 4 or 16 bytes) |   little-endian
// The tag covers header and payload. Bare frames (the first ones of a connection, up to and with a side's kProof)
// have none.
inline constexpr std::size_t kFrameHeaderSize = 8;

enum class FrameKind : std::uint8_t {
  kApplication = 1,  // a frame of base::Transport
  kHello = 2,        // the sender's own statement; first sealed frame of each direction
  kReady = 3,        // acceptor to dialler: both channels are accepted
  kPing = 4,
  kPong = 5,
  kStart = 16,      // bare; dialler's greeting
  kChallenge = 17,  // bare; acceptor's greeting
  kProof = 18,      // bare
  kRefuse = 19,     // bare or sealed; the last frame
};

inline constexpr std::size_t kHelloSizeMax = std::size_t{64} << 10;
inline constexpr std::size_t kBareFrameMax = 512;  // nothing larger is read from a peer that has proved nothing
inline constexpr std::size_t kRefuseTextMax = 200;

struct FrameHeader {
  std::uint32_t size = 0;  // of the payload
  FrameKind kind = FrameKind::kApplication;
  base::Channel channel = base::Channel::kControl;
};
std::array<std::byte, kFrameHeaderSize> encode_header(const FrameHeader& header);
enum class Stage : std::uint8_t { kBare, kSealed };
// Checks kind, channel and the limit of the kind at this stage, before anybody allocates. Errors: kProtocol.
base::Result<FrameHeader> decode_header(base::ByteView bytes, Stage stage);
// The longest payload of a kind on a channel.
std::size_t payload_size_max(FrameKind kind, base::Channel channel);
// Header and payload in one buffer, no tag.
base::Bytes bare_frame(FrameKind kind, base::Channel channel, base::ByteView payload);

enum class Mode : std::uint8_t {
  kCrc = 1,  // no secret: loopback only
  kMac = 2,  // secret: mutual proof, a MAC on every frame
};

// What each side says first. Both greetings together are the transcript that the proofs and the keys cover.
//  0         8             10     11        12      16      24    32            40           48        56
// 88       120
//  | "HQLWIRE\n" | version u16 | mode | channel | 0 u32 | from u64 | to u64 | incarnation | boot nonce | session | tag sha256 | nonce 32 |
struct Greeting {
  std::uint16_t version = 0;
  Mode mode = Mode::kCrc;
  base::Channel channel = base::Channel::kControl;
  base::NodeId from;
  base::NodeId to;
  base::Incarnation incarnation;  // of `from`, as the boot nonce
  std::uint64_t boot_nonce = 0;
  std::uint64_t session = 0;  // the dialler's number of this attempt, rising; the same on both channels
  Digest cluster_tag{};       // SHA-256 of what both must have in common
  Digest nonce{};             // random, new for every connection
};
inline constexpr std::size_t kGreetingSize = 120;
base::Bytes encode(const Greeting& greeting);
// Magic and version have their places for ever, so that a later version is told from noise: `version` is set when the
// magic is right. Errors: kProtocol.
base::Result<Greeting> decode_greeting(base::ByteView bytes);
// The version of a greeting, also one that decode_greeting() does not understand; 0 when it is none.
std::uint16_t greeting_version(base::ByteView bytes);

enum class Refusal : std::uint8_t {
  kVersion = 1,
  kMode = 2,         // one side has a secret, the other has none
  kClusterTag = 3,   // another cluster
  kSecret = 4,       // the proof is wrong
  kUnknownPeer = 5,  // the id is not among the peers
  kWrongNode = 6,    // the id that was dialled is not mine
  kIdInUse = 7,      // another live process has this id
  kStale = 8,        // a newer session of the same process exists
  kHandler = 9,      // the node itself refuses
  kMalformed = 10,
  kInternal = 11,
};
// 0      1             3
// | code | version u16 | text... |     `version` is the refuser's
struct RefuseMessage {
  Refusal refusal = Refusal::kInternal;
  std::uint16_t version = 0;
  std::string text;
};
base::Bytes encode(const RefuseMessage& message);
// Text is hostile: cut to kRefuseTextMax, other than printable ASCII becomes '?'. Errors: kProtocol.
base::Result<RefuseMessage> decode_refuse(base::ByteView bytes);
// The error code under which a refusal is reported.
base::Code code_of(Refusal refusal);

}  // namespace net

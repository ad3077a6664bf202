// Handshake: the mutual challenge of R18 as a state machine without sockets, for one connection. Bare frames go in,
// bare frames and at the end two keys come out. Caller: net/connection.cc on the loop lane; tests. One thread at a
// time. Format: docs/FORMATS.md, "Wire".
//
//   dialler                               acceptor
//   kStart: greeting, nonce         -->   checks version, mode, ids, channel, cluster tag
//   checks the same                 <--   kChallenge: greeting, nonce
//   kProof: HMAC(k, "dialler", T)   -->   checks it before it proves anything itself
//   checks it                       <--   kProof: HMAC(k, "acceptor", T)
//
// T is both greetings, byte for byte: roles, (id, incarnation, boot nonce) of both, version, mode, channel, session,
// cluster tag and both nonces. So a proof that is reflected (another role), relayed to a third node (another `to`),
// moved to another channel, replayed (another nonce) or made after a downgrade (another version or mode) fails. k
// comes from the secret, which is never sent. Without a secret (loopback only) the same messages run over a public
// constant: they still find wrong addresses and clusters.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"
#include "base/transport.h"
#include "net/crypto.h"
#include "net/wire.h"

namespace net {

// This node, as it introduces itself.
struct Identity {
  base::NodeId id;
  base::Incarnation incarnation;
  std::uint64_t boot_nonce = 0;
  std::uint16_t version = 0;
  std::string secret;  // empty: Mode::kCrc
};

enum class Role : std::uint8_t { kDialler, kAcceptor };
// What either side proves and seals with; `secret` may be empty, `greetings` are both, the dialler's first. Errors: kInternal.
base::Result<Digest> make_proof(std::string_view secret, base::ByteView greetings, Role prover);
base::Result<FrameSeal> make_seal(std::string_view secret, base::ByteView greetings, Role sender);

struct HandshakeFailure {
  Refusal refusal = Refusal::kInternal;
  std::string text;
  enum class Tell : std::uint8_t {
    kPeer,
    kNobody
  } tell = Tell::kPeer;  // kNobody: the peer refused, or it is no peer at all
};

class Handshake {
 public:
  static Handshake dial(const Identity& self, const Digest& cluster_tag, base::NodeId peer, base::Channel channel,
                        std::uint64_t session);
  static Handshake accept(const Identity& self, const Digest& cluster_tag);

  // The dialler's first frame.
  std::optional<HandshakeFailure> begin();
  // A bare frame of the peer. After a failure nothing else may be called.
  std::optional<HandshakeFailure> on_frame(const FrameHeader& header, base::ByteView payload);
  // Bare frames to send now, in order; empties the buffer.
  base::Bytes take_output() { return std::move(output_); }

  // Both proofs are exchanged: what follows is sealed.
  [[nodiscard]] bool done() const { return state_ == State::kDone; }
  // Once, when done(). Errors: kInternal.
  base::Result<FrameSeal> make_send_seal() const;
  base::Result<FrameSeal> make_receive_seal() const;
  // What the peer says it is: proved when done(). Before, `from` of an acceptor is a claim and 0 until kStart came.
  [[nodiscard]] const Greeting& peer() const { return peer_; }
  [[nodiscard]] base::Channel channel() const { return own_.channel; }
  [[nodiscard]] std::uint16_t version() const { return self_.version; }
  [[nodiscard]] std::uint64_t session() const { return own_.session; }

 private:
  enum class State : std::uint8_t { kIdle, kAwaitStart, kAwaitChallenge, kAwaitProof, kDone };

  Handshake(const Identity& self, const Digest& cluster_tag, Role role);
  std::optional<HandshakeFailure> on_start(const FrameHeader& header, base::ByteView payload);
  std::optional<HandshakeFailure> on_challenge(base::ByteView payload);
  std::optional<HandshakeFailure> on_proof(base::ByteView payload);
  std::optional<HandshakeFailure> check_greeting(base::ByteView payload);
  [[nodiscard]] Role other() const { return role_ == Role::kDialler ? Role::kAcceptor : Role::kDialler; }
  std::optional<HandshakeFailure> send_proof();
  void send(FrameKind kind, base::ByteView payload);

  Identity self_;
  Role role_;
  State state_ = State::kIdle;
  Greeting own_;
  Greeting peer_;
  base::Bytes transcript_;  // the dialler's greeting, then the acceptor's
  base::Bytes output_;
};

}  // namespace net

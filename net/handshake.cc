// The handshake of R18 as a state machine without sockets; see net/handshake.h and docs/FORMATS.md, "Wire".
#include "net/handshake.h"

#include <string_view>
#include <utility>

#include "base/check.h"

namespace net {
namespace {

constexpr std::string_view kPublicSecret = "hiqlite: no secret, loopback only";
constexpr std::string_view kProofInfo = "hiqlite wire 1 proof";

HandshakeFailure fail(Refusal refusal, std::string text) {
  return {refusal, std::move(text), HandshakeFailure::Tell::kPeer};
}
// For bytes that no node would send: no answer.
HandshakeFailure noise(std::string text) {
  return {Refusal::kMalformed, std::move(text), HandshakeFailure::Tell::kNobody};
}

base::ByteView secret_bytes(std::string_view secret) { return base::view_of(secret.empty() ? kPublicSecret : secret); }

}  // namespace

base::Result<Digest> make_proof(std::string_view secret, base::ByteView greetings, Role prover) {
  HQL_ASSIGN(key, derive_key(secret_bytes(secret), {}, kProofInfo));
  base::Writer covered;
  covered.u8(prover == Role::kDialler ? 'D' : 'A');
  covered.raw(greetings);
  return hmac_sha256(key, covered.view());
}

base::Result<FrameSeal> make_seal(std::string_view secret, base::ByteView greetings, Role sender) {
  if (secret.empty()) return FrameSeal::with_crc();
  HQL_ASSIGN(salt, sha256(greetings));
  HQL_ASSIGN(key, derive_key(secret_bytes(secret), salt,
                             sender == Role::kDialler ? "hiqlite wire 1 dialler to acceptor"
                                                      : "hiqlite wire 1 acceptor to dialler"));
  return FrameSeal::with_key(key);
}

Handshake::Handshake(const Identity& self, const Digest& cluster_tag, Role role) : self_(self), role_(role) {
  own_.version = self.version;
  own_.mode = self.secret.empty() ? Mode::kCrc : Mode::kMac;
  own_.from = self.id;
  own_.incarnation = self.incarnation;
  own_.boot_nonce = self.boot_nonce;
  own_.cluster_tag = cluster_tag;
}

Handshake Handshake::dial(const Identity& self, const Digest& cluster_tag, base::NodeId peer, base::Channel channel,
                          std::uint64_t session) {
  Handshake handshake(self, cluster_tag, Role::kDialler);
  handshake.own_.to = peer;
  handshake.own_.channel = channel;
  handshake.own_.session = session;
  return handshake;
}

Handshake Handshake::accept(const Identity& self, const Digest& cluster_tag) {
  Handshake handshake(self, cluster_tag, Role::kAcceptor);
  handshake.state_ = State::kAwaitStart;
  return handshake;
}

std::optional<HandshakeFailure> Handshake::begin() {
  CHECK(role_ == Role::kDialler);
  CHECK(state_ == State::kIdle);
  if (auto filled = fill_random(own_.nonce); !filled) return fail(Refusal::kInternal, filled.error().message);
  transcript_ = encode(own_);
  send(FrameKind::kStart, transcript_);
  state_ = State::kAwaitChallenge;
  return {};
}

void Handshake::send(FrameKind kind, base::ByteView payload) {
  const base::Bytes frame = bare_frame(kind, own_.channel, payload);
  output_.insert(output_.end(), frame.begin(), frame.end());
}

std::optional<HandshakeFailure> Handshake::on_frame(const FrameHeader& header, base::ByteView payload) {
  if (header.kind == FrameKind::kRefuse) {
    auto message = decode_refuse(payload);
    if (!message) return noise(message.error().message);
    std::string text = message->text;
    if (message->refusal == Refusal::kVersion)
      text += " (the peer speaks version " + std::to_string(message->version) + ")";
    return HandshakeFailure{message->refusal, "refused by the peer: " + text, HandshakeFailure::Tell::kNobody};
  }
  switch (state_) {
    case State::kAwaitStart:
      if (header.kind == FrameKind::kStart) return on_start(header, payload);
      return noise("the first frame is not a greeting");
    case State::kAwaitChallenge:
      if (header.kind == FrameKind::kChallenge && header.channel == own_.channel) return on_challenge(payload);
      break;
    case State::kAwaitProof:
      if (header.kind == FrameKind::kProof && header.channel == own_.channel) return on_proof(payload);
      break;
    case State::kIdle:
    case State::kDone:
      break;
  }
  return fail(Refusal::kMalformed, "a frame out of turn in the handshake");
}

// Sets peer_ when the greeting is understood, also when it is then refused: the report names the id.
std::optional<HandshakeFailure> Handshake::check_greeting(base::ByteView payload) {
  const std::uint16_t version = greeting_version(payload);
  if (version == 0) return noise("not a greeting of a node");
  if (version != self_.version) {
    return fail(Refusal::kVersion, "this node speaks wire version " + std::to_string(self_.version) + ", not " +
                                       std::to_string(version) + "; run the same release on all nodes");
  }
  auto greeting = decode_greeting(payload);
  if (!greeting) return noise(greeting.error().message);
  peer_ = *greeting;
  if (peer_.mode != own_.mode) {
    return fail(Refusal::kMode, "`secret_raft` is set on only one of the nodes " + std::to_string(self_.id.value) +
                                    " and " + std::to_string(peer_.from.value) + "; set the same on all");
  }
  if (peer_.to != self_.id) {
    return fail(Refusal::kWrongNode, "node " + std::to_string(peer_.to.value) +
                                         " was expected at this address, here is node " +
                                         std::to_string(self_.id.value) + "; compare `nodes`");
  }
  if (!equal_secret(peer_.cluster_tag, own_.cluster_tag)) {
    return fail(Refusal::kClusterTag, "node " + std::to_string(peer_.from.value) +
                                          " belongs to another cluster; compare `nodes` and `data_dir`");
  }
  return {};
}

std::optional<HandshakeFailure> Handshake::on_start(const FrameHeader& header, base::ByteView payload) {
  if (auto failure = check_greeting(payload)) return failure;
  if (peer_.channel != header.channel) return fail(Refusal::kMalformed, "a greeting of another channel");
  // Lower ids dial, higher ones accept: one of two equal ids, or a wrong direction, ends here.
  if (peer_.from >= self_.id || !peer_.from) {
    return fail(Refusal::kWrongNode, "node " + std::to_string(peer_.from.value) + " must not dial node " +
                                         std::to_string(self_.id.value) + "; compare `node_id` and `nodes`");
  }
  own_.to = peer_.from;
  own_.channel = peer_.channel;
  own_.session = peer_.session;
  if (auto filled = fill_random(own_.nonce); !filled) return fail(Refusal::kInternal, filled.error().message);
  transcript_ = base::copy_of(payload);
  const base::Bytes greeting = encode(own_);
  transcript_.insert(transcript_.end(), greeting.begin(), greeting.end());
  send(FrameKind::kChallenge, greeting);
  state_ = State::kAwaitProof;
  return {};
}

std::optional<HandshakeFailure> Handshake::on_challenge(base::ByteView payload) {
  if (auto failure = check_greeting(payload)) return failure;
  if (peer_.from != own_.to) {
    return fail(Refusal::kWrongNode, "node " + std::to_string(own_.to.value) +
                                         " was expected at this address, here is node " +
                                         std::to_string(peer_.from.value) + "; compare `nodes`");
  }
  if (peer_.channel != own_.channel || peer_.session != own_.session) {
    return fail(Refusal::kMalformed, "the challenge is not for this connection");
  }
  transcript_.insert(transcript_.end(), payload.begin(), payload.end());
  if (auto failure = send_proof()) return failure;
  state_ = State::kAwaitProof;
  return {};
}

std::optional<HandshakeFailure> Handshake::on_proof(base::ByteView payload) {
  auto expected = make_proof(self_.secret, transcript_, other());
  if (!expected) return fail(Refusal::kInternal, expected.error().message);
  if (!equal_secret(*expected, payload)) {
    return fail(Refusal::kSecret, "`secret_raft` of the nodes " + std::to_string(self_.id.value) + " and " +
                                      std::to_string(peer_.from.value) + " is not the same");
  }
  if (role_ == Role::kAcceptor) {
    if (auto failure = send_proof()) return failure;
  }
  state_ = State::kDone;
  return {};
}

std::optional<HandshakeFailure> Handshake::send_proof() {
  auto proof = make_proof(self_.secret, transcript_, role_);
  if (!proof) return fail(Refusal::kInternal, proof.error().message);
  send(FrameKind::kProof, *proof);
  return {};
}

base::Result<FrameSeal> Handshake::make_send_seal() const {
  CHECK(done());
  return make_seal(self_.secret, transcript_, role_);
}

base::Result<FrameSeal> Handshake::make_receive_seal() const {
  CHECK(done());
  return make_seal(self_.secret, transcript_, other());
}

}  // namespace net

// Hello: what a node says about itself in the handshake of a connection (R10), and the envelope of every frame after it.
// Loop lane. docs/FORMATS.md, "Node frames", draws the bytes.
#pragma once

#include <cstdint>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"
#include "node/config.h"
#include "node/meta.h"

namespace node {

inline constexpr std::uint8_t kWireVersion = 1;

struct Hello {
  base::Incarnation incarnation;
  std::uint64_t boot = 0;
  Ballot cluster;  // {} = empty node: it holds no first entry (DESIGN 6.2)
  Ballot promise;
  base::Term term;  // 0 without `cluster`
  base::LogId last;
  std::uint64_t nodes_hash = 0;
  bool damaged = false;   // R12: `term` and `last` are what damage has left
  bool unsynced = false;  // log_sync = "interval_<ms>": what it acknowledges may not be on its disk yet
};
base::Bytes encode(const Hello& hello);
base::Result<Hello> decode_hello(base::ByteView bytes);
// Ids of the configured nodes, so that two configurations that differ are noticed at the first start.
std::uint64_t nodes_hash(const Config& config);

enum class FrameKind : std::uint8_t {
  kRaft = 1,
  kForward = 2,  // execute on the leader
  kForwardReply = 3,
  kBootstrap = 4,
  kControl = 5,  // create, drop, transfer: asked of the leader
  kControlReply = 6,
  kSuperseded = 7,  // another incarnation has the receiver's place, by a committed configuration
};

struct Frame {
  base::Group group = base::Group::kData;
  FrameKind kind = FrameKind::kRaft;
  std::uint64_t cluster = 0;
  base::ByteView body;
};
base::SharedBytes make_frame(base::Group group, FrameKind kind, std::uint64_t cluster, base::ByteView body);
// kProtocol; hostile input (R18). The body is a view into `bytes`.
base::Result<Frame> parse_frame(base::ByteView bytes);

// An origin asks the leader to execute; R7. The leader may forget what it took of this origin below `lowest_pending`.
struct Forward {
  base::Term term;  // of the leader it is meant for
  base::Origin origin;
  std::uint64_t lowest_pending = 0;
  std::uint32_t timeout_ms = 0;
  std::string database;
  base::Bytes body;
};
base::Bytes encode(const Forward& forward);
base::Result<Forward> decode_forward(base::ByteView body);

enum class ForwardVerdict : std::uint8_t {
  kDone = 1,      // executed; `committed` is empty when nothing changed
  kFailed = 2,    // the request's own error, after the batch's outcome
  kRefused = 3,   // surely not applied and never will be, by the leader of `term` (R7)
  kNotYours = 4,  // not the leader of `term`, or committed and its rows are no longer kept: the log decides
};
struct ForwardReply {
  base::Origin origin;
  base::Term term;
  ForwardVerdict verdict = ForwardVerdict::kDone;
  base::LogId committed;
  base::Index apply_through;  // answer when this much is applied here (read your writes)
  base::Error error;
  base::Bytes body;
};
base::Bytes encode(const ForwardReply& reply);
base::Result<ForwardReply> decode_forward_reply(base::ByteView body);

enum class ControlKind : std::uint8_t { kCreate = 1, kDrop = 2, kTransfer = 3 };
struct Control {
  ControlKind kind = ControlKind::kCreate;
  std::uint64_t token = 0;  // echoed in the reply; 0: none is wanted
  base::Bytes body;         // kCreate: a CreateDatabase entry; kDrop: database id u64; kTransfer: node id u64
};
base::Bytes encode(const Control& control);
base::Result<Control> decode_control(base::ByteView body);
struct ControlReply {  // only refusals are answered: success is seen in the log
  std::uint64_t token = 0;
  base::Error error;
};
base::Bytes encode(const ControlReply& reply);
base::Result<ControlReply> decode_control_reply(base::ByteView body);

}  // namespace node

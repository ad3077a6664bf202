// Wire formats between nodes (docs/FORMATS.md, "Node frames").
#include "node/hello.h"

#include <algorithm>

#include "base/error_bytes.h"
#include "base/random.h"
#include "pages/tx.h"

namespace node {
namespace {

using base::Code;
using base::Reader;
using base::Result;
using base::Writer;

void write_origin(Writer& out, const base::Origin& origin) {
  out.u64(origin.incarnation.value);
  out.u64(origin.boot);
  out.u64(origin.sequence);
}
base::Origin read_origin(Reader& in) {
  base::Origin origin;
  origin.incarnation = base::Incarnation{in.u64()};
  origin.boot = in.u64();
  origin.sequence = in.u64();
  return origin;
}
base::Error malformed(const char* what) {
  return base::make_error(Code::kProtocol, std::string("malformed ") + what + " frame");
}

}  // namespace

base::Bytes encode(const Hello& hello) {
  Writer out;
  out.u8(kWireVersion);
  out.u64(hello.incarnation.value);
  out.u64(hello.boot);
  write_ballot(out, hello.cluster);
  write_ballot(out, hello.promise);
  out.u64(hello.term.value);
  write_log_id(out, hello.last);
  out.u64(hello.nodes_hash);
  out.u8(hello.damaged);
  out.u8(hello.unsynced);
  return out.take();
}

Result<Hello> decode_hello(base::ByteView bytes) {
  Reader in(bytes);
  if (const auto version = in.u8(); version != kWireVersion)
    return base::make_error(Code::kProtocol, "the peer speaks node protocol " + std::to_string(version) +
                                                 ", this node " + std::to_string(kWireVersion));
  Hello hello;
  hello.incarnation = base::Incarnation{in.u64()};
  hello.boot = in.u64();
  hello.cluster = read_ballot(in);
  hello.promise = read_ballot(in);
  hello.term = base::Term{in.u64()};
  hello.last = read_log_id(in);
  hello.nodes_hash = in.u64();
  const std::uint8_t damaged = in.u8();
  const std::uint8_t unsynced = in.u8();
  if (!in.at_end() || damaged > 1 || unsynced > 1) return malformed("hello");
  hello.damaged = damaged == 1;
  hello.unsynced = unsynced == 1;
  return hello;
}

std::uint64_t nodes_hash(const Config& config) {
  std::vector<std::uint64_t> ids;
  for (const NodeAddress& node : config.nodes) ids.push_back(node.id.value);
  std::sort(ids.begin(), ids.end());
  std::uint64_t hash = ids.size();
  for (const std::uint64_t id : ids) hash = base::mix64(hash ^ id);
  return hash;
}

base::SharedBytes make_frame(base::Group group, FrameKind kind, std::uint64_t cluster, base::ByteView body) {
  Writer out;
  out.buffer().reserve(11 + body.size());
  out.u8(kWireVersion);
  out.u8(static_cast<std::uint8_t>(group));
  out.u8(static_cast<std::uint8_t>(kind));
  out.u64(cluster);
  out.raw(body);
  return base::share(out.take());
}

Result<Frame> parse_frame(base::ByteView bytes) {
  Reader in(bytes);
  const std::uint8_t version = in.u8();
  const std::uint8_t group = in.u8();
  const std::uint8_t kind = in.u8();
  Frame frame;
  frame.cluster = in.u64();
  if (!in.ok() || version != kWireVersion) return malformed("node");
  if (group < 1 || group > base::kGroupCount) return malformed("node");
  if (kind < 1 || kind > static_cast<std::uint8_t>(FrameKind::kSuperseded)) return malformed("node");
  frame.group = static_cast<base::Group>(group);
  frame.kind = static_cast<FrameKind>(kind);
  frame.body = in.raw(in.remaining());
  return frame;
}

base::Bytes encode(const Forward& forward) {
  Writer out;
  out.buffer().reserve(64 + forward.body.size());
  out.u64(forward.term.value);
  write_origin(out, forward.origin);
  out.u64(forward.lowest_pending);
  out.u32(forward.timeout_ms);
  out.text(forward.database);
  out.blob(forward.body);
  return out.take();
}

Result<Forward> decode_forward(base::ByteView body) {
  Reader in(body);
  Forward forward;
  forward.term = base::Term{in.u64()};
  forward.origin = read_origin(in);
  forward.lowest_pending = in.u64();
  forward.timeout_ms = in.u32();
  forward.database = in.text();
  forward.body = base::copy_of(in.blob());
  if (!in.at_end()) return malformed("forward");
  HQL_TRY(pages::valid_database_name(forward.database));
  return forward;
}

base::Bytes encode(const ForwardReply& reply) {
  Writer out;
  write_origin(out, reply.origin);
  out.u64(reply.term.value);
  out.u8(static_cast<std::uint8_t>(reply.verdict));
  write_log_id(out, reply.committed);
  out.u64(reply.apply_through.value);
  base::write_error(out, reply.error);
  out.blob(reply.body);
  return out.take();
}

Result<ForwardReply> decode_forward_reply(base::ByteView body) {
  Reader in(body);
  ForwardReply reply;
  reply.origin = read_origin(in);
  reply.term = base::Term{in.u64()};
  const std::uint8_t verdict = in.u8();
  reply.committed = read_log_id(in);
  reply.apply_through = base::Index{in.u64()};
  reply.error = base::read_error(in);
  reply.body = base::copy_of(in.blob());
  if (!in.at_end() || verdict < 1 || verdict > 4) return malformed("forward reply");
  reply.verdict = static_cast<ForwardVerdict>(verdict);
  return reply;
}

base::Bytes encode(const Control& control) {
  Writer out;
  out.u8(static_cast<std::uint8_t>(control.kind));
  out.u64(control.token);
  out.blob(control.body);
  return out.take();
}

Result<Control> decode_control(base::ByteView body) {
  Reader in(body);
  Control control;
  const std::uint8_t kind = in.u8();
  control.token = in.u64();
  control.body = base::copy_of(in.blob());
  if (!in.at_end() || kind < 1 || kind > 3) return malformed("control");
  control.kind = static_cast<ControlKind>(kind);
  return control;
}

base::Bytes encode(const ControlReply& reply) {
  Writer out;
  out.u64(reply.token);
  base::write_error(out, reply.error);
  return out.take();
}

Result<ControlReply> decode_control_reply(base::ByteView body) {
  Reader in(body);
  ControlReply reply;
  reply.token = in.u64();
  reply.error = base::read_error(in);
  if (!in.at_end()) return malformed("control reply");
  return reply;
}

}  // namespace node

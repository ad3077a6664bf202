// Wire format of the messages of one Raft group. Callers: node/driver. Any thread. Little-endian.
//
// Envelope, 44 bytes, then the body:
//   0         1      2          4         12            20      28            36     44
//   | version | type | reserved | from id | incarnation | to id | incarnation | term | body...
//
// Bodies (types in the order of the variant, from 1). LogId is term u64, index u64; Member is id u64, incarnation u64.
//   1 VoteRequest     flags u8 (1 = pre, 2 = transfer) | last LogId
//   2 VoteReply       flags u8 (1 = pre, 2 = granted) | last LogId
//   3 AppendRequest   previous LogId | commit u64 | round u64 | count u32 | count x Entry
//   4 AppendReply     flags u8 (1 = accepted) | match u64 | hint LogId | round u64 | durable u64
//   5 Heartbeat       commit u64 | round u64 | quorum_age u64 | count u32 | count x (Member, durable u64)
//   6 HeartbeatReply  flags u8 (1 = disk stalled) | round u64 | match u64
//   7 ReadRequest     context u64
//   8 ReadReply       flags u8 (1 = ok) | context u64 | index u64
//   9 TimeoutNow      nothing
//  10 SnapshotNeeded  floor LogId
//  11 SnapshotReply   flags u8 (1 = ok) | installed LogId
// Entry:
//   0      8       16     17       20       24
//   | term | index | kind | zero   | length | payload...
// Unknown flags, kinds, types and non-zero reserved bytes are malformed: a newer version has another version byte.
#include "raft/message.h"

#include <utility>

#include "base/bytes.h"

namespace raft {

namespace {

constexpr std::uint8_t kMessageVersion = 1;
constexpr std::size_t kEntryHeaderSize = 24;
constexpr std::size_t kHeldSize = 24;
constexpr std::size_t kHeldCountMax = 256;                    // voters of both configurations
constexpr std::uint64_t kNumberMax = std::uint64_t{1} << 62;  // terms, indexes, rounds: far from wrapping around

void put(base::Writer& out, LogId id) {
  out.u64(id.term.value);
  out.u64(id.index.value);
}
void put(base::Writer& out, Member member) {
  out.u64(member.id.value);
  out.u64(member.incarnation.value);
}
std::uint8_t flags(bool first, bool second = false) {
  return static_cast<std::uint8_t>((first ? 1 : 0) | (second ? 2 : 0));
}

struct Encoder {
  base::Writer& out;
  void operator()(const VoteRequest& body) {
    out.u8(flags(body.pre, body.transfer));
    put(out, body.last);
  }
  void operator()(const VoteReply& body) {
    out.u8(flags(body.pre, body.granted));
    put(out, body.last);
  }
  void operator()(const AppendRequest& body) {
    put(out, body.previous);
    out.u64(body.commit.value);
    out.u64(body.round);
    out.u32(static_cast<std::uint32_t>(body.entries.size()));
    for (const base::Entry& entry : body.entries) {
      put(out, entry.id);
      out.u8(static_cast<std::uint8_t>(entry.kind));
      out.u8(0);
      out.u16(0);
      out.blob(base::view_of(entry.payload));
    }
  }
  void operator()(const AppendReply& body) {
    out.u8(flags(body.accepted));
    out.u64(body.match.value);
    put(out, body.hint);
    out.u64(body.round);
    out.u64(body.durable.value);
  }
  void operator()(const Heartbeat& body) {
    out.u64(body.commit.value);
    out.u64(body.round);
    out.u64(static_cast<std::uint64_t>(body.quorum_age));
    out.u32(static_cast<std::uint32_t>(body.held.size()));
    for (const auto& [member, index] : body.held) {
      put(out, member);
      out.u64(index.value);
    }
  }
  void operator()(const HeartbeatReply& body) {
    out.u8(flags(body.disk_stalled));
    out.u64(body.round);
    out.u64(body.match.value);
  }
  void operator()(const ReadRequest& body) { out.u64(body.context); }
  void operator()(const ReadReply& body) {
    out.u8(flags(body.ok));
    out.u64(body.context);
    out.u64(body.index.value);
  }
  void operator()(const TimeoutNow&) {}
  void operator()(const SnapshotNeeded& body) { put(out, body.floor); }
  void operator()(const SnapshotReply& body) {
    out.u8(flags(body.ok));
    put(out, body.installed);
  }
};

class Decoder {
 public:
  explicit Decoder(base::ByteView bytes) : in_(bytes) {}

  base::Result<Message> decode() {
    Message message;
    if (in_.u8() != kMessageVersion) return malformed("version");
    const std::uint8_t type = in_.u8();
    if (in_.u16() != 0) return malformed("reserved bytes");
    message.from = member();
    message.to = member();
    message.term = Term(number());
    if (!body(type, message)) return malformed("type " + std::to_string(type));
    if (too_large_) return base::make_error(base::Code::kTooLarge, "raft message: an entry is over its limit");
    if (!in_.at_end()) return malformed("body of type " + std::to_string(type));
    return message;
  }

 private:
  static base::Error malformed(const std::string& what) {
    return base::make_error(base::Code::kCorrupt, "raft message: malformed " + what);
  }
  std::uint64_t number() {
    const std::uint64_t value = in_.u64();
    if (value > kNumberMax) in_.fail();
    return value;
  }
  LogId log_id() {
    const Term term(number());
    return {term, Index(number())};
  }
  Member member() {
    const base::NodeId id(in_.u64());
    return {id, base::Incarnation(in_.u64())};
  }
  std::uint8_t flag_bits(std::uint8_t known) {
    const std::uint8_t bits = in_.u8();
    if ((bits & ~known) != 0) in_.fail();
    return bits;
  }

  bool body(std::uint8_t type, Message& message) {
    switch (type) {
      case 1: {
        const std::uint8_t bits = flag_bits(3);
        message.body = VoteRequest{log_id(), (bits & 1) != 0, (bits & 2) != 0};
        return true;
      }
      case 2: {
        const std::uint8_t bits = flag_bits(3);
        message.body = VoteReply{(bits & 1) != 0, (bits & 2) != 0, log_id()};
        return true;
      }
      case 3:
        message.body = append_request();
        return true;
      case 4: {
        AppendReply reply;
        reply.accepted = flag_bits(1) != 0;
        reply.match = Index(number());
        reply.hint = log_id();
        reply.round = number();
        reply.durable = Index(number());
        message.body = reply;
        return true;
      }
      case 5:
        message.body = heartbeat();
        return true;
      case 6: {
        HeartbeatReply reply;
        reply.disk_stalled = flag_bits(1) != 0;
        reply.round = number();
        reply.match = Index(number());
        message.body = reply;
        return true;
      }
      case 7:
        message.body = ReadRequest{in_.u64()};
        return true;
      case 8: {
        ReadReply reply;
        reply.ok = flag_bits(1) != 0;
        reply.context = in_.u64();
        reply.index = Index(number());
        message.body = reply;
        return true;
      }
      case 9:
        message.body = TimeoutNow{};
        return true;
      case 10:
        message.body = SnapshotNeeded{log_id()};
        return true;
      case 11: {
        SnapshotReply reply;
        reply.ok = flag_bits(1) != 0;
        reply.installed = log_id();
        message.body = reply;
        return true;
      }
      default:
        return false;
    }
  }

  AppendRequest append_request() {
    AppendRequest request;
    request.previous = log_id();
    request.commit = Index(number());
    request.round = number();
    const std::uint32_t count = in_.u32();
    if (count > in_.remaining() / kEntryHeaderSize) in_.fail();  // before anything is allocated for them
    for (std::uint32_t i = 0; i < count && in_.ok(); ++i) {
      base::Entry entry;
      entry.id = log_id();
      const std::uint8_t kind = in_.u8();
      if (kind < 1 || kind > 3) in_.fail();
      if (in_.u8() != 0) in_.fail();
      if (in_.u16() != 0) in_.fail();
      const base::ByteView payload = in_.blob();
      if (!in_.ok()) break;
      if (payload.size() > base::kEntryPayloadMax) too_large_ = true;
      if (too_large_) break;
      entry.kind = static_cast<base::EntryKind>(kind);
      if (entry.kind != base::EntryKind::kNoop)
        entry.payload = base::share(base::copy_of(payload));
      else if (!payload.empty())
        in_.fail();
      request.entries.push_back(std::move(entry));
    }
    return request;
  }

  Heartbeat heartbeat() {
    Heartbeat beat;
    beat.commit = Index(number());
    beat.round = number();
    beat.quorum_age = static_cast<base::Micros>(number());
    const std::uint32_t count = in_.u32();
    if (count > kHeldCountMax || count > in_.remaining() / kHeldSize) in_.fail();
    for (std::uint32_t i = 0; i < count && in_.ok(); ++i) {
      const Member who = member();
      beat.held.emplace_back(who, Index(number()));
    }
    return beat;
  }

  base::Reader in_;
  bool too_large_ = false;
};

}  // namespace

bool is_control(const Message& message) {
  return !std::holds_alternative<AppendRequest>(message.body) && !std::holds_alternative<AppendReply>(message.body);
}

// A candidate asks when its own vote is on the disk, and who leads was one.
bool says_durable_term(const Message& message) {
  if (const auto* const request = std::get_if<VoteRequest>(&message.body)) return !request->pre;
  if (const auto* const reply = std::get_if<VoteReply>(&message.body)) return reply->granted && !reply->pre;
  if (const auto* const reply = std::get_if<AppendReply>(&message.body)) return reply->accepted;
  return std::holds_alternative<AppendRequest>(message.body) || std::holds_alternative<Heartbeat>(message.body);
}

base::Bytes encode(const Message& message) {
  base::Writer out;
  std::size_t estimate = 128;  // all but entries: a message is one allocation
  if (const auto* const append = std::get_if<AppendRequest>(&message.body))
    for (const base::Entry& entry : append->entries) estimate += entry.size() + 24;
  out.buffer().reserve(estimate);
  out.u8(kMessageVersion);
  out.u8(static_cast<std::uint8_t>(message.body.index() + 1));
  out.u16(0);
  put(out, message.from);
  put(out, message.to);
  out.u64(message.term.value);
  std::visit(Encoder{out}, message.body);
  return out.take();
}

base::Result<Message> decode_message(base::ByteView bytes) { return Decoder(bytes).decode(); }

}  // namespace raft

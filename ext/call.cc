// The bytes of ext/call.h. Which arguments an operation has stands in one table, for both directions.
#include "ext/call.h"

#include <iterator>

namespace ext {
namespace {

enum Argument : unsigned { kText = 1, kNumber = 2, kTimeout = 4, kRequest = 8 };

// By operation, from 1; on the wire the arguments are in the order of `Argument`.
constexpr unsigned kArguments[] = {
    0,                            // kStatus
    kText | kTimeout | kRequest,  // kExecute
    kTimeout,                     // kWaitHealthy
    kNumber | kTimeout,           // kTransfer
    kText | kTimeout,             // kDrop
    kTimeout,                     // kBarrier
    kNumber | kTimeout,           // kWaitIndex
    0,                            // kSnapshot
    kNumber,                      // kCompact
    0,                            // kBootstrap
    0,                            // kRaft
    0,                            // kConfig
    kNumber,                      // kEvents
};
static_assert(std::size(kArguments) == static_cast<std::size_t>(Op::kEvents));

unsigned arguments_of(Op op) { return kArguments[static_cast<std::size_t>(op) - 1]; }

base::Error malformed(const std::string& what) {
  return base::make_error(base::Code::kProtocol,
                          "malformed " + what + ": use the program and the library of one version");
}

}  // namespace

base::Bytes encode(const Call& call) {
  const unsigned has = arguments_of(call.op);
  base::Writer out;
  out.u8(static_cast<std::uint8_t>(call.op));
  if ((has & kText) != 0) out.text(call.text);
  if ((has & kNumber) != 0) out.u64(call.number);
  if ((has & kTimeout) != 0) out.u32(call.timeout_ms);
  if ((has & kRequest) != 0) out.blob(call.request);
  return out.take();
}

base::Result<Call> decode_call(base::ByteView bytes) {
  base::Reader in(bytes);
  const std::uint8_t op = in.u8();
  const auto refused = [op] { return malformed("request (operation " + std::to_string(op) + ")"); };
  if (op < 1 || op > std::size(kArguments)) return refused();
  Call call;
  call.op = static_cast<Op>(op);
  const unsigned has = arguments_of(call.op);
  if ((has & kText) != 0) call.text = in.text();
  if ((has & kNumber) != 0) call.number = in.u64();
  if ((has & kTimeout) != 0) call.timeout_ms = in.u32();
  if ((has & kRequest) != 0) call.request = base::copy_of(in.blob());
  if (!in.at_end()) return refused();
  return call;
}

base::Bytes encode(const Executed& executed) {
  base::Writer out;
  out.u64(executed.committed.value);
  out.u8(executed.rows_lost ? 1 : 0);
  out.blob(executed.answer);
  return out.take();
}

base::Result<Executed> decode_executed(base::ByteView bytes) {
  base::Reader in(bytes);
  Executed executed;
  executed.committed = base::Index{in.u64()};
  const std::uint8_t rows_lost = in.u8();
  executed.rows_lost = rows_lost == 1;
  executed.answer = base::copy_of(in.blob());
  if (!in.at_end() || rows_lost > 1) return malformed("reply");
  return executed;
}

base::Result<exec::Answer> answer_in(base::ByteView reply, const exec::Request& request) {
  HQL_ASSIGN(executed, decode_executed(reply));
  HQL_ASSIGN(answer, exec::decode_answer(executed.answer));
  if (executed.rows_lost && exec::returns_rows(request) && answer.json.empty())
    return base::make_error(base::Code::kCommitted,
                            "committed, but its rows are not available: the leader that ran it has gone");
  return std::move(answer);
}

base::Bytes encode_number(std::uint64_t number) {
  base::Writer out;
  out.u64(number);
  return out.take();
}

base::Result<std::uint64_t> decode_number(base::ByteView bytes) {
  base::Reader in(bytes);
  const std::uint64_t number = in.u64();
  if (!in.at_end()) return malformed("reply");
  return number;
}

}  // namespace ext

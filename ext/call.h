// Call: one request to a node, as bytes for its owner's process (docs/FORMATS.md, "Service"), and what the replies hold. Callers: SQL
// functions, the command line, and ext/service.cc, which answers. Value types, any thread.
#pragma once

#include <cstdint>
#include <string>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"
#include "exec/request.h"

namespace ext {

enum class Op : std::uint8_t {
  kStatus = 1,       // -> JSON
  kExecute = 2,      // text: database (empty: the owner's filename_db), timeout, request (exec/request.h) -> Executed
  kWaitHealthy = 3,  // timeout -> (nothing)
  kTransfer = 4,     // number: node (0: best), timeout -> number: leader
  kDrop = 5,         // text: database, timeout -> (nothing)
  kBarrier = 6,      // timeout -> number: index
  kWaitIndex = 7,    // number: index, timeout -> (nothing)
  kSnapshot = 8,     // -> number: index
  kCompact = 9,      // number: entries to keep -> number: index
  kBootstrap = 10,   // -> (nothing); force
  kRaft = 11,        // -> JSON
  kConfig = 12,      // -> JSON array of rows
  kEvents = 13,      // number: since -> JSON array
};

// Of the arguments only those travel that the operation has.
struct Call {
  Op op = Op::kStatus;
  std::string text;
  std::uint64_t number = 0;
  std::uint32_t timeout_ms = 0;
  base::Bytes request;
};
base::Bytes encode(const Call& call);
base::Result<Call> decode_call(base::ByteView bytes);  // kProtocol; hostile input (R18)

// The replies; the other ones are a JSON text, or empty. Decoders: kProtocol.
struct Executed {
  base::Index committed;   // 0: nothing changed
  bool rows_lost = false;  // committed, but the leader that had the rows has gone
  base::Bytes answer;      // exec/request.h
};
base::Bytes encode(const Executed& executed);
base::Result<Executed> decode_executed(base::ByteView bytes);
// What the caller of `request` gets to see of such a reply; kCommitted when there should be rows and they are lost.
base::Result<exec::Answer> answer_in(base::ByteView reply, const exec::Request& request);
base::Bytes encode_number(std::uint64_t number);
base::Result<std::uint64_t> decode_number(base::ByteView bytes);

}  // namespace ext

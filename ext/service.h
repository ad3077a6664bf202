// Service: what SQL functions and the command line ask of a node, as one small protocol, so that the process that owns the node and
// another process of the host (through <data_dir>/sock) take the same path. docs/FORMATS.md, "Service", draws the frames.
// call(): any thread. Answers come on the loop lane (in process) or on the caller's (socket).
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"
#include "node/node.h"

namespace ext {

enum class Op : std::uint8_t {
  kStatus = 1,       // -> JSON
  kExecute = 2,      // text database, u32 timeout_ms, blob request -> u64 committed index, u8 rows_lost, blob answer
  kWaitHealthy = 3,  // u32 timeout_ms -> (nothing)
  kTransfer = 4,     // u64 node (0: best), u32 timeout_ms -> u64 leader
  kDrop = 5,         // text name, u32 timeout_ms -> (nothing)
  kBarrier = 6,      // u32 timeout_ms -> u64 index
  kWaitIndex = 7,    // u64 index, u32 timeout_ms -> (nothing)
  kSnapshot = 8,     // -> u64 index
  kCompact = 9,      // u64 keep -> u64 index
  kBootstrap = 10,   // -> (nothing); force
  kRaft = 11,        // -> JSON
  kConfig = 12,      // -> JSON array of rows
  kEvents = 13,      // u64 since -> JSON array
};
inline constexpr std::uint8_t kOpLast = 13;

// request: | op u8 | arguments |, as drawn above; the reply is the result alone. Errors travel as the local socket carries them.
using Answered = std::function<void(base::Result<base::Bytes>)>;

// Runs one request on `node`. kProtocol for a malformed one (hostile input, R18).
void serve(node::Node& node, base::ByteView request, Answered done);

// The JSON texts of SQL.md.
std::string status_json(const node::NodeStatus& status, const node::Config& config);
std::string raft_json(const raft::Status& status);

}  // namespace ext

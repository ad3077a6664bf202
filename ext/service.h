// Service: what SQL functions and the command line ask of a node (ext/call.h), so that the process that owns the node and another process
// of the host (through <data_dir>/sock) take the same path. serve(): the loop lane, where the answers come too.
#pragma once

#include <functional>
#include <string>

#include "base/bytes.h"
#include "base/result.h"
#include "ext/call.h"
#include "node/node.h"

namespace ext {

using Answered = std::function<void(base::Result<base::Bytes>)>;

// Runs one request on `node`. kProtocol for a malformed one (hostile input, R18).
void serve(node::Node& node, base::ByteView request, Answered done);

// The JSON texts of SQL.md.
std::string status_json(const node::NodeStatus& status, const node::Config& config);
std::string raft_json(const raft::Status& status);

}  // namespace ext

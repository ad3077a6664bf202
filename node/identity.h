// Identity: who a data directory belongs to (R10), and its file <data_dir>/id, written once in a life. Caller: node/data_dir.cc, before
// the lanes run. docs/FORMATS.md, "Identity", draws the bytes.
#pragma once

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"

namespace node {

struct Identity {
  base::NodeId node;
  base::Incarnation incarnation;
};
base::Bytes encode(const Identity& identity);
// kCorrupt; kNewerFormat: a whole file of a later version. Hostile input (R18).
base::Result<Identity> decode_identity(base::ByteView bytes);

}  // namespace node

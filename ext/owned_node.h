// OwnedNode: a node that this process owns, with everything real around it: the lock on its data directory, lanes, transport, images,
// executors and the local socket. Started and stopped on a caller's thread; use() may be called from any.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/result.h"
#include "node/config.h"
#include "node/node.h"

namespace ext {

class OwnedNode {
 public:
  // Blocking: takes the data directory, recovers, listens, and lets the node run; returns without waiting for a quorum.
  // kOwned (names pid and node), kAddress, kCorrupt, kConfig, kIo, kPermission, kFull.
  static base::Result<std::unique_ptr<OwnedNode>> start(node::Config config);
  // In a forked child: closes the inherited descriptors of the data directories and sockets of all nodes, also of one that is just starting or
  // stopping; frees nothing. Async-signal-safe.
  static void close_all_in_child() noexcept;
  virtual ~OwnedNode() = default;
  // Clean stop: refuses new work, fails waiters, sync points and checkpoints until `deadline` (Env::now() scale), joins the lanes, gives the
  // data directory back. After the deadline it leaves out all that the next start's recovery can do as well; what a lane is in the middle of
  // is waited for. Idempotent.
  virtual void stop(base::Micros deadline) = 0;
  // Runs `work`, which must not wait, with the node: stop() takes the node away only between such calls. False, and nothing was run: the
  // node has been stopped. A callback given to the node may be destroyed without a call when the lanes stop first.
  virtual bool use(const std::function<void(node::Node&)>& work) = 0;
  virtual base::NodeId id() const = 0;
  virtual const std::string& data_dir() const = 0;  // absolute
};

}  // namespace ext

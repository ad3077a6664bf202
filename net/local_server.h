// LocalServer: the Unix socket <data_dir>/sock through which other processes of this host ask the node (hiqlite exec,
// status, shell). Requests and replies are opaque bytes; replies may come later and out of order. Caller: node/.
// listen() from any thread, the rest and the handler on the loop lane. Format: docs/FORMATS.md, "Wire", "Local
// socket". The file's mode is 0600 from its first moment: only the node's own user (and root) gets through.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/bytes.h"
#include "base/result.h"
#include "net/loop_lane.h"

namespace net {

class LocalServer {
 public:
  // Answers one request, at once or later, from the loop lane; a second call is ignored. If the client is gone the
  // answer is dropped. An answer over 64 MiB becomes kTooLarge. Dropping it without a call leaves the client waiting
  // until its deadline.
  using Reply = std::function<void(base::Result<base::Bytes>)>;
  // The view is valid during the call.
  using Handler = std::function<void(base::ByteView request, Reply reply)>;

  // Binds; a socket file that nobody answers is replaced. The caller holds the data directory's lock: two servers
  // that start at the same moment are not told apart here. `path` may be longer than sun_path. The lane outlives the
  // server. Errors: kOwned (another process answers), kExists (the path is something else), kPermission, kNotFound,
  // kAddress.
  static base::Result<std::unique_ptr<LocalServer>> listen(LoopLane& lane, const std::string& path);
  // As stop().
  ~LocalServer();
  LocalServer(const LocalServer&) = delete;
  LocalServer& operator=(const LocalServer&) = delete;

  // Takes connections from now on.
  void start(Handler handler);
  // Closes everything and removes the file. On the lane at once, from another thread it waits for the lane. Before
  // the lane's own stop(). Idempotent.
  void stop();

 private:
  class Impl;
  explicit LocalServer(std::shared_ptr<Impl> impl);
  // Shared with the replies under way, which hold it weakly, and with a stop() that crosses to the lane.
  std::shared_ptr<Impl> impl_;
};

}  // namespace net

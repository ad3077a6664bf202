// Opening the socket a node listens on: plain system calls, before any loop is involved, so that a wrong address is
// an error of the start. Caller: net/tcp_transport.cc. Any thread; a host name is looked up, which blocks.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"

namespace net {

enum class Reach : std::uint8_t { kLoopbackOnly, kAnywhere };

struct Listener {
  int fd = -1;          // bound and listening, non-blocking; the caller's
  std::string address;  // "host:port" with the real port
};

// `key` is the configuration key that errors name. Errors: kConfig (not "host:port", unknown host, not loopback),
// kAddress (in use, not an address of this machine, no permission).
base::Result<Listener> open_listener(const std::string& listen, const std::string& key, Reach reach);

}  // namespace net

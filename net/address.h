// "host:port" texts and socket addresses. Callers: net/tcp_transport.cc, net/connection.cc, node/. Any thread;
// parse_address() and address_text() do not block.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <optional>
#include <string>

#include "base/result.h"

namespace net {

struct Address {
  std::string host;  // without brackets
  std::uint16_t port = 0;
};

// "host:port", "127.0.0.1:80", "[::1]:80"; port 0 to 65535. Errors: kConfig, naming `what` (a configuration key) and
// the text.
base::Result<Address> parse_address(const std::string& text, const std::string& what);
// The inverse, with brackets where they are needed.
std::string to_string(const Address& address);

// The socket address of a numeric host; nothing for a name.
std::optional<sockaddr_storage> numeric_address(const Address& address);
// "127.0.0.1:80" of an IPv4 or IPv6 socket address, "?" of another.
std::string address_text(const sockaddr* address);
std::uint16_t port_of(const sockaddr* address);
// 127.0.0.0/8, ::1 and IPv4-mapped 127.0.0.0/8.
bool is_loopback(const sockaddr* address);

}  // namespace net

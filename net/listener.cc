// The listening socket of a transport: accepts, limits the silent ones; see net/listener.h. Loop lane.
#include "net/listener.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>

#include "net/address.h"

namespace net {
namespace {

constexpr int kBacklog = 128;

struct FreeAddresses {
  void operator()(addrinfo* list) const { ::freeaddrinfo(list); }
};

base::Result<sockaddr_storage> look_up(const Address& address, const std::string& key) {
  if (auto numeric = numeric_address(address)) return *numeric;
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  const int rc = ::getaddrinfo(address.host.c_str(), std::to_string(address.port).c_str(), &hints, &found);
  const std::unique_ptr<addrinfo, FreeAddresses> list(found);
  if (rc != 0 || !list) {
    return base::make_error(base::Code::kConfig,
                            key + " \"" + to_string(address) + "\": unknown host (" + ::gai_strerror(rc) + ")");
  }
  sockaddr_storage out{};
  ::memcpy(&out, list->ai_addr, list->ai_addrlen);
  return out;
}

base::Error address_error(const Address& address, const std::string& key, int error) {
  std::string why = ::strerror(error);
  if (error == EADDRINUSE) why = "the port is in use by another process";
  if (error == EADDRNOTAVAIL) why = "not an address of this machine";
  if (error == EACCES) why = "the operating system does not permit this port";
  return base::make_error(base::Code::kAddress,
                          key + " \"" + to_string(address) + "\": " + why + "; choose another address or port");
}

}  // namespace

base::Result<Listener> open_listener(const std::string& listen, const std::string& key, Reach reach) {
  HQL_ASSIGN(address, parse_address(listen, key));
  HQL_ASSIGN(socket_address, look_up(address, key));
  const auto* const raw = reinterpret_cast<const sockaddr*>(&socket_address);
  if (reach == Reach::kLoopbackOnly && !is_loopback(raw)) {
    return base::make_error(base::Code::kConfig,
                            key + " \"" + listen +
                                "\": without `secret_raft` a node listens on loopback addresses only; set "
                                "`secret_raft` to the same 16 or more random characters on all nodes");
  }
  const int fd = ::socket(raw->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return address_error(address, key, errno);
  const int on = 1;
  const socklen_t size = raw->sa_family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
  sockaddr_storage bound{};
  socklen_t bound_size = sizeof bound;
  if (::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 || ::bind(fd, raw, size) != 0 ||
      ::listen(fd, kBacklog) != 0 || ::getsockname(fd, reinterpret_cast<sockaddr*>(&bound), &bound_size) != 0) {
    const int error = errno;
    ::close(fd);
    return address_error(address, key, error);
  }
  address.port = port_of(reinterpret_cast<const sockaddr*>(&bound));
  return Listener{fd, to_string(address)};
}

}  // namespace net

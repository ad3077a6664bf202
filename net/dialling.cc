// Dialling of TcpTransport: address, look-up, loopback rule, two connections, back-off. Loop lane.
#include <netdb.h>
#include <netinet/in.h>
#include <string.h>

#include <algorithm>

#include "base/posix_env.h"
#include "net/address.h"
#include "net/transport_impl.h"

namespace net {

// A name look-up on one of libuv's threads. It cannot be cancelled: it may end after the transport is gone.
struct TcpTransport::Impl::Lookup {
  uv_getaddrinfo_t request{};
  LoopLane* lane = nullptr;
  std::weak_ptr<Impl> impl;
  base::NodeId id;
  std::uint64_t generation = 0;
};

// Between half and all of the current delay, so that nodes that lost each other together do not come back together.
void TcpTransport::Impl::dial_later(Peer& peer) {
  const base::Micros delay = random_.between(peer.delay / 2, peer.delay);
  peer.delay = std::min(peer.delay * 2, kDialDelayMax);
  dial_after(peer, delay);
}

void TcpTransport::Impl::dial_after(Peer& peer, base::Micros delay) {
  const std::uint64_t generation = ++peer.dial_generation;
  const base::NodeId id = peer.address.id;
  const std::weak_ptr<Impl> weak = weak_from_this();
  lane_.post_at(base::posix_env().now() + delay, [weak, id, generation] {
    const auto impl = weak.lock();
    if (!impl || impl->stopped_) return;
    Peer* const found = impl->find(id);
    if (found != nullptr && found->dial_generation == generation && found->idle()) impl->dial(*found);
  });
}

void TcpTransport::Impl::dial(Peer& peer) {
  auto address =
      parse_address(peer.address.raft_addr, "nodes: the Raft address of node " + std::to_string(peer.address.id.value));
  if (!address) return dial_failed(peer, address.error());
  if (const auto numeric = numeric_address(*address))
    return connect(peer, reinterpret_cast<const sockaddr*>(&*numeric));
  look_up(peer, address->host, address->port);
}

void TcpTransport::Impl::look_up(Peer& peer, const std::string& host, std::uint16_t port) {
  auto lookup = std::make_unique<Lookup>();
  lookup->request.data = lookup.get();
  lookup->lane = &lane_;
  lookup->impl = weak_from_this();
  lookup->id = peer.address.id;
  lookup->generation = peer.dial_generation;
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  const int rc = uv_getaddrinfo(
      lane_.loop(), &lookup->request,
      [](uv_getaddrinfo_t* request, int status, addrinfo* list) {
        const std::unique_ptr<Lookup> done(static_cast<Lookup*>(request->data));
        const std::shared_ptr<Impl> impl = done->impl.lock();
        if (impl) {
          done->lane->guard([&] {
            std::vector<sockaddr_storage> addresses;
            for (const addrinfo* each = list; each != nullptr; each = each->ai_next) {
              if (each->ai_family != AF_INET && each->ai_family != AF_INET6) continue;
              ::memcpy(&addresses.emplace_back(), each->ai_addr, each->ai_addrlen);
            }
            impl->found(done->id, done->generation, status, addresses);
          });
        }
        uv_freeaddrinfo(list);
      },
      host.c_str(), std::to_string(port).c_str(), &hints);
  if (rc != 0)
    return dial_failed(peer, base::make_error(base::Code::kIo, "cannot look up " + host + ": " + uv_strerror(rc)));
  static_cast<void>(lookup.release());  // the callback's
}

void TcpTransport::Impl::found(base::NodeId id, std::uint64_t generation, int status,
                               const std::vector<sockaddr_storage>& addresses) {
  if (stopped_) return;
  Peer* const peer = find(id);
  if (peer == nullptr || peer->dial_generation != generation || !peer->idle()) return;
  if (status != 0 || addresses.empty()) {
    return dial_failed(*peer,
                       base::make_error(base::Code::kIo, "cannot look up \"" + peer->address.raft_addr + "\" of node " +
                                                             std::to_string(id.value) + ": " + uv_strerror(status)));
  }
  connect(*peer, reinterpret_cast<const sockaddr*>(&addresses[peer->attempts++ % addresses.size()]));
}

void TcpTransport::Impl::connect(Peer& peer, const sockaddr* address) {
  const std::string number = std::to_string(peer.address.id.value);
  if (options_.secret_raft.empty() && !is_loopback(address)) {
    return dial_failed(peer, base::make_error(base::Code::kConfig,
                                              "nodes: node " + number + " at \"" + peer.address.raft_addr +
                                                  "\" is not on this machine; without `secret_raft` only loopback "
                                                  "addresses are dialled: set `secret_raft` to the same 16 or more "
                                                  "random characters on all nodes"));
  }
  auto tag = tag_digest();
  if (!tag) return dial_failed(peer, tag.error());
  const std::uint64_t session = next_session_++;
  for (const base::Channel channel : {base::Channel::kControl, base::Channel::kData}) {
    auto connection =
        Connection::dial(lane_, *this, Handshake::dial(identity(), *tag, peer.address.id, channel, session), address);
    if (!connection) return dial_failed(peer, connection.error());
    peer.channels[channel_slot(channel)] = std::move(*connection);
  }
}

void TcpTransport::Impl::dial_failed(Peer& peer, const base::Error& error) {
  const base::NodeId id = peer.address.id;
  drop_session(peer);
  dial_later(peer);
  report(id, error);
}

}  // namespace net

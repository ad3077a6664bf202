// Sessions with peers: who dials, which attempt wins, when a peer is up; see net/tcp_transport.h. Loop lane.
#include "net/tcp_transport.h"

#include <unistd.h>

#include <algorithm>
#include <future>

#include "base/check.h"
#include "base/posix_env.h"
#include "net/descriptors.h"
#include "net/listener.h"
#include "net/transport_impl.h"

namespace net {
namespace {

base::Micros now() { return base::posix_env().now(); }

std::string node_text(base::NodeId id) { return "node " + std::to_string(id.value); }

}  // namespace

base::Status check_secret(const std::string& secret_raft) {
  if (secret_raft.empty() || secret_raft.size() >= kSecretSizeMin) return base::ok();
  return base::make_error(base::Code::kConfig,
                          "secret_raft: " + std::to_string(secret_raft.size()) +
                              " characters are too few to keep an attacker out; use 16 or more random ones, such "
                              "as the output of `openssl rand -hex 16`, the same on all nodes");
}

TcpTransport::Impl::Impl(LoopLane& lane, TransportOptions options, int listener_fd, std::string address)
    : lane_(lane),
      options_(std::move(options)),
      address_(std::move(address)),
      listener_fd_(listener_fd),
      random_(base::posix_env().random()) {
  track_descriptor(listener_fd_);
}

TcpTransport::Impl::~Impl() {
  if (listener_fd_ >= 0) {
    untrack_descriptor(listener_fd_);
    ::close(listener_fd_);
  }
}

void TcpTransport::Impl::start(base::TransportHandler& handler) {
  CHECK(lane_.is_current());
  CHECK(handler_ == nullptr);
  if (stopped_) return;
  handler_ = &handler;
  listener_ = new Listener;
  listener_->impl = this;
  listener_->lane = &lane_;
  listener_->tcp.data = listener_;
  CHECK(uv_tcp_init(lane_.loop(), &listener_->tcp) == 0);
  int rc = uv_tcp_open(&listener_->tcp, listener_fd_);
  if (rc == 0) {
    rc = uv_listen(reinterpret_cast<uv_stream_t*>(&listener_->tcp), 128, [](uv_stream_t* stream, int status) {
      auto& listener = *static_cast<Listener*>(stream->data);
      listener.lane->guard([&] {
        if (listener.impl != nullptr) listener.impl->on_incoming(status);
      });
    });
  }
  if (rc != 0)
    report({},
           base::make_error(base::Code::kAddress, "cannot take connections on " + address_ + ": " + uv_strerror(rc)));
  tick();
}

void TcpTransport::Impl::stop() {
  if (std::exchange(stopped_, true)) return;
  for (auto& [id, peer] : peers_) drop_session(peer);
  peers_.clear();
  for (const auto& connection : std::exchange(greeting_, {})) connection->close();
  for (const auto& weak : std::exchange(lingering_, {})) {
    if (const auto connection = weak.lock()) connection->close();
  }
  to_flush_.clear();
  to_read_.clear();
  downs_.clear();
  if (listener_ == nullptr) return;
  untrack_descriptor(listener_fd_);
  listener_fd_ = -1;  // uv_close closes it
  Listener* const listener = std::exchange(listener_, nullptr);
  listener->impl = nullptr;
  uv_close(reinterpret_cast<uv_handle_t*>(&listener->tcp),
           [](uv_handle_t* handle) { delete static_cast<Listener*>(handle->data); });
}

// ---- peers ----

TcpTransport::Impl::Peer* TcpTransport::Impl::find(base::NodeId id) {
  const auto found = peers_.find(id);
  return found == peers_.end() ? nullptr : &found->second;
}

TcpTransport::Impl::Peer* TcpTransport::Impl::peer_of(const Connection& connection) {
  for (auto& [id, peer] : peers_) {
    for (const auto& channel : peer.channels) {
      if (channel.get() == &connection) return &peer;
    }
  }
  return nullptr;
}

void TcpTransport::Impl::set_peers(const std::vector<base::PeerAddress>& wanted) {
  CHECK(lane_.is_current());
  CHECK(handler_ != nullptr);
  if (stopped_) return;
  for (auto each = peers_.begin(); each != peers_.end();) {
    const bool keep =
        std::any_of(wanted.begin(), wanted.end(), [&](const auto& address) { return address.id == each->first; });
    if (!keep) drop_session(each->second);
    each = keep ? std::next(each) : peers_.erase(each);
  }
  for (const base::PeerAddress& address : wanted) {
    CHECK(address.id != options_.self.id);
    CHECK(address.id);
    auto [at, added] = peers_.try_emplace(address.id);
    Peer& peer = at->second;
    const bool moved = !added && peer.address.raft_addr != address.raft_addr;
    peer.address = address;
    if (!dials(peer) || !(added || (moved && peer.idle()))) continue;
    peer.delay = kDialDelayMin;
    dial_after(peer, 0);
  }
}

bool TcpTransport::Impl::send(base::NodeId id, base::Channel channel, base::SharedBytes frame) {
  CHECK(lane_.is_current());
  CHECK(frame != nullptr);
  Peer* const peer = find(id);
  if (peer == nullptr || peer->phase == Peer::Phase::kDown) return false;
  const std::size_t size_max = payload_size_max(FrameKind::kApplication, channel);
  if (frame->size() > size_max) {
    report(id, base::make_error(base::Code::kTooLarge, "a frame of " + std::to_string(frame->size()) + " bytes for " +
                                                           node_text(id) + ", limit " + std::to_string(size_max)));
    return false;
  }
  if (peer->phase == Peer::Phase::kComingUp) {
    peer->early.emplace_back(channel, std::move(frame));
    return true;
  }
  return peer->channels[channel_slot(channel)]->send(std::move(frame));
}

void TcpTransport::Impl::disconnect(base::NodeId id) {
  CHECK(lane_.is_current());
  Peer* const peer = find(id);
  if (peer == nullptr || peer->idle()) return;
  drop_session(*peer);
  if (dials(*peer)) dial_later(*peer);
}

bool TcpTransport::Impl::is_up(base::NodeId id) const {
  const auto found = peers_.find(id);
  return found != peers_.end() && found->second.phase == Peer::Phase::kUp;
}

// ---- the loop ----

void TcpTransport::Impl::want_flush(Connection& connection) {
  to_flush_.push_back(connection.shared_from_this());
  want_end_of_turn();
}
void TcpTransport::Impl::on_lingering(Connection& connection) {
  lingering_.erase(
      std::remove_if(lingering_.begin(), lingering_.end(), [](const auto& weak) { return weak.expired(); }),
      lingering_.end());
  lingering_.push_back(connection.weak_from_this());
  // Strangers do not get the descriptors of the process, nor those of its host.
  if (lingering_.size() <= kLingeringMax) return;
  const auto oldest = lingering_.front().lock();
  lingering_.erase(lingering_.begin());
  if (oldest) oldest->close();
}
void TcpTransport::Impl::want_reading(Connection& connection) {
  to_read_.push_back(connection.shared_from_this());
  want_end_of_turn();
}

void TcpTransport::Impl::want_end_of_turn() {
  if (std::exchange(end_of_turn_wanted_, true)) return;
  lane_.at_end_of_turn([weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->end_of_turn();
  });
}

// Everything that was queued in this turn of the loop leaves, one write per connection. A long frame goes on in the next turn.
void TcpTransport::Impl::end_of_turn() {
  end_of_turn_wanted_ = false;
  for (const auto& connection : std::exchange(to_read_, {})) connection->restart_reading();
  flush();
}

void TcpTransport::Impl::flush() {
  for (const auto& connection : std::exchange(to_flush_, {})) connection->flush();
}

void TcpTransport::Impl::on_incoming(int status) {
  if (status < 0)
    return report({},
                  base::make_error(base::Code::kIo, std::string("cannot accept a connection: ") + uv_strerror(status)));
  auto tag = tag_digest();
  auto connection = Connection::accept(lane_, *this, Handshake::accept(identity(), tag ? *tag : Digest{}),
                                       reinterpret_cast<uv_stream_t*>(&listener_->tcp));
  if (!connection) return report({}, connection.error());
  if (!tag) return (*connection)->close();
  if (greeting_.size() >= kGreetingMax) {
    greeting_.front()->close();
    greeting_.erase(greeting_.begin());
  }
  greeting_.push_back(std::move(*connection));
}

void TcpTransport::Impl::tick() {
  if (stopped_) return;
  const base::Micros time = now();
  if (tick_at_ != 0 && time > tick_at_ + ping_time()) resumed_at_ = time;
  tick_at_ = time + tick_time();
  const std::weak_ptr<Impl> weak = weak_from_this();
  lane_.post_at(tick_at_, [weak] {
    if (const auto impl = weak.lock()) impl->tick();
  });
  // A greeting that is not done in time, however slowly its bytes come.
  while (!greeting_.empty() && time > greeting_.front()->begun_at() + kHandshakeTime) {
    greeting_.front()->close();
    greeting_.erase(greeting_.begin());
  }
  for (auto& [id, peer] : peers_) check_silence(peer, time);
}

void TcpTransport::Impl::check_silence(Peer& peer, base::Micros time) {
  for (const auto& channel : peer.channels) {
    if (!channel) continue;
    if (peer.phase == Peer::Phase::kDown) {
      if (time <= std::max(channel->begun_at(), resumed_at_) + kHandshakeTime) continue;
      return break_session(
          peer, base::make_error(base::Code::kIo, node_text(peer.address.id) + " does not finish the handshake"));
    }
    const base::Micros silence = time - std::max({channel->last_received(), channel->last_drained(), resumed_at_});
    const bool probed = peer.probe_began != 0 && channel->channel() == base::Channel::kControl;
    if (probed && channel->last_received() > peer.probe_began) peer.probe_began = 0;
    const bool no_answer =
        probed && peer.probe_began != 0 && time > std::max(peer.probe_began, resumed_at_) + kProbeTime;
    if (silence > options_.dead_time || no_answer) {
      return break_session(peer, base::make_error(base::Code::kIo, node_text(peer.address.id) + " does not answer"));
    }
    if (silence >= ping_time()) channel->ping();
  }
}

base::Result<Digest> TcpTransport::Impl::tag_digest() {
  return sha256(options_.cluster_tag ? options_.cluster_tag() : base::Bytes{});
}

Identity TcpTransport::Impl::identity() const {
  return {options_.self.id, options_.self.incarnation, options_.boot_nonce, options_.version, options_.secret_raft};
}

base::Bytes TcpTransport::Impl::hello_for(base::Channel channel) {
  // One statement per session is enough.
  return channel == base::Channel::kControl ? handler_->make_hello() : base::Bytes{};
}

// ---- sessions ----

void TcpTransport::Impl::on_authenticated(Connection& connection) {
  const auto at =
      std::find_if(greeting_.begin(), greeting_.end(), [&](const auto& each) { return each.get() == &connection; });
  if (at == greeting_.end()) return;  // dialled by us: the acceptor speaks next
  const std::shared_ptr<Connection> accepted = *at;
  greeting_.erase(at);
  admit(accepted);
}

// Acceptor: a proved connection finds its session, or is refused.
void TcpTransport::Impl::admit(const std::shared_ptr<Connection>& connection) {
  const Greeting& greeting = connection->peer();
  const base::NodeId id = greeting.from;
  const auto refuse = [&](Refusal refusal, const std::string& text) {
    connection->refuse(refusal, text);
    report(id, base::make_error(code_of(refusal), "refused " + connection->remote() + ": " + text), text);
  };
  Peer* const peer = find(id);
  if (peer == nullptr)
    return refuse(Refusal::kUnknownPeer,
                  node_text(id) + " is not a member that " + node_text(options_.self.id) + " knows");
  const std::shared_ptr<Connection> older = peer->channels[0] ? peer->channels[0] : peer->channels[1];
  if (older) {
    const Greeting& known = older->peer();
    if (known.boot_nonce != greeting.boot_nonce || known.incarnation != greeting.incarnation) {
      if (peer->phase == Peer::Phase::kUp && peer->probe_began == 0) {
        peer->probe_began = now();
        peer->channels[0]->ping();
      }
      return refuse(Refusal::kIdInUse,
                    "id in use: another live process is " + node_text(id) + "; give each node its own `node_id`");
    }
    if (greeting.session < known.session) return connection->refuse(Refusal::kStale, "a newer session exists");
    if (greeting.session > known.session) drop_session(*peer);
  }
  std::shared_ptr<Connection>& slot = peer->channels[channel_slot(connection->channel())];
  if (slot) return refuse(Refusal::kMalformed, "the channel exists");
  slot = connection;
  if (peer->channels[0] && peer->channels[1]) come_up(id);
}

// Dialler: the acceptor has accepted this channel.
void TcpTransport::Impl::on_ready(Connection& connection) {
  Peer* const peer = peer_of(connection);
  CHECK(peer != nullptr);
  const auto& [control, data] = peer->channels;
  if (!control->ready() || !data->ready()) return;
  const bool one_process =
      control->peer().boot_nonce == data->peer().boot_nonce && control->peer().incarnation == data->peer().incarnation;
  if (!one_process) {
    return break_session(
        *peer, base::make_error(base::Code::kProtocol, "two processes answer for " + node_text(peer->address.id)));
  }
  come_up(peer->address.id);
}

void TcpTransport::Impl::come_up(base::NodeId id) {
  deliver_downs();
  Peer* peer = find(id);
  if (peer == nullptr || !peer->channels[0] || !peer->channels[1]) return;
  // The handler may do anything inside on_up: the session is looked up again after it.
  const std::shared_ptr<Connection> control = peer->channels[0];
  const std::shared_ptr<Connection> data = peer->channels[1];
  const Greeting& greeting = control->peer();
  peer->phase = Peer::Phase::kComingUp;
  const base::Status wanted = handler_->on_up({id, greeting.incarnation, greeting.boot_nonce, control->peer_hello()});
  peer = find(id);
  const bool still_there = peer != nullptr && peer->channels[0] == control && peer->channels[1] == data;
  if (!still_there) {
    if (wanted && !stopped_) tell_down(id);
    return;
  }
  if (!wanted) {
    peer->phase = Peer::Phase::kDown;
    peer->channels = {};
    const base::Error& why = wanted.error();
    control->refuse(Refusal::kHandler, why.message);
    data->refuse(Refusal::kHandler, why.message);
    drop_session(*peer);
    if (dials(*peer)) dial_later(*peer);
    return report(id, why);
  }
  peer->phase = Peer::Phase::kUp;
  peer->up_since = now();
  peer->probe_began = 0;
  for (auto each = reported_.begin(); each != reported_.end();) {
    each = each->first.first == id ? reported_.erase(each) : std::next(each);
  }
  const auto early = std::exchange(peer->early, {});
  if (dials(*peer)) {
    control->resume();
    data->resume();
  } else {
    control->accept_session();
    data->accept_session();
  }
  for (const auto& [channel, frame] : early) {
    (channel == base::Channel::kControl ? control : data)->send(frame);
  }
}

void TcpTransport::Impl::on_application_frame(Connection& connection, base::ByteView frame) {
  Peer* const peer = peer_of(connection);
  if (peer == nullptr || peer->phase != Peer::Phase::kUp) return;
  handler_->on_frame(peer->address.id, connection.channel(), frame);
}

void TcpTransport::Impl::on_broken(Connection& connection, const ConnectionError& error) {
  const auto at =
      std::find_if(greeting_.begin(), greeting_.end(), [&](const auto& each) { return each.get() == &connection; });
  if (at != greeting_.end()) {
    greeting_.erase(at);
    // A connection that only came and went is no news; one that said something wrong is.
    if (error.error.code == base::Code::kIo) return;
    const base::NodeId claimed = connection.peer().from;
    return report(
        find(claimed) != nullptr ? claimed : base::NodeId{},
        base::make_error(error.error.code, "connection from " + connection.remote() + ": " + error.error.message),
        error.error.message);
  }
  Peer* const peer = peer_of(connection);
  if (peer == nullptr) return;
  break_session(*peer, base::make_error(error.error.code, node_text(peer->address.id) + ": " + error.error.message));
}

// Both connections go; on_down follows if on_up was.
void TcpTransport::Impl::drop_session(Peer& peer) {
  for (std::shared_ptr<Connection>& slot : peer.channels) {
    if (const auto channel = std::exchange(slot, nullptr)) channel->close();
  }
  ++peer.dial_generation;
  peer.early.clear();
  peer.probe_began = 0;
  if (std::exchange(peer.phase, Peer::Phase::kDown) != Peer::Phase::kUp) return;
  if (now() - peer.up_since > kStableTime) peer.delay = kDialDelayMin;
  tell_down(peer.address.id);
}

void TcpTransport::Impl::break_session(Peer& peer, const base::Error& error) {
  const base::NodeId id = peer.address.id;
  drop_session(peer);
  if (dials(peer)) dial_later(peer);
  report(id, error);
}

// Downs are told from the loop, never inside a call of the handler's own, and before the peer's next on_up.
void TcpTransport::Impl::tell_down(base::NodeId id) {
  if (stopped_) return;
  downs_.push_back(id);
  const std::weak_ptr<Impl> weak = weak_from_this();
  lane_.post([weak] {
    if (const auto impl = weak.lock()) impl->deliver_downs();
  });
}

void TcpTransport::Impl::deliver_downs() {
  while (!downs_.empty() && !stopped_) {
    const base::NodeId id = downs_.front();
    downs_.erase(downs_.begin());
    handler_->on_down(id);
  }
}

// ---- reports ----

void TcpTransport::Impl::report(base::NodeId about, const base::Error& error, const std::string& reason) {
  const base::Micros time = now();
  const auto [at, first] = reported_.try_emplace({about, error.code}, Reported{});
  Reported& before = at->second;
  if (find(about) == nullptr) {
    if (!first && time < before.at + kReportAgainTime) return;
  } else {
    // A peer that cannot be reached is one piece of news, whatever the system calls it; each thing that a reached one is refused for is another.
    const std::string what = error.code == base::Code::kIo ? "" : reason.empty() ? error.message : reason;
    if (before.reasons.size() >= kReasonsMax) return;
    if (std::find(before.reasons.begin(), before.reasons.end(), what) != before.reasons.end()) return;
    before.reasons.push_back(what);
  }
  before.at = time;
  {
    const base::MutexLock lock(error_mutex_);
    last_error_ = error;
  }
  if (options_.on_error) options_.on_error(error);
}

std::optional<base::Error> TcpTransport::Impl::last_error() const {
  const base::MutexLock lock(error_mutex_);
  return last_error_;
}

// ---- the outside ----

base::Result<std::unique_ptr<TcpTransport>> TcpTransport::listen(LoopLane& lane, TransportOptions options) {
  CHECK(!lane.is_current());
  CHECK(options.self.id);
  HQL_TRY(check_secret(options.secret_raft));
  HQL_ASSIGN(listener, open_listener(options.listen, "listen_addr_raft",
                                     options.secret_raft.empty() ? Reach::kLoopbackOnly : Reach::kAnywhere));
  return std::unique_ptr<TcpTransport>(
      new TcpTransport(std::make_shared<Impl>(lane, std::move(options), listener.fd, std::move(listener.address))));
}

TcpTransport::TcpTransport(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
TcpTransport::~TcpTransport() { stop(); }

void TcpTransport::start(base::TransportHandler& handler) { impl_->start(handler); }
void TcpTransport::set_peers(const std::vector<base::PeerAddress>& peers) { impl_->set_peers(peers); }
bool TcpTransport::send(base::NodeId peer, base::Channel channel, base::SharedBytes frame) {
  return impl_->send(peer, channel, std::move(frame));
}
void TcpTransport::flush() { impl_->flush(); }
void TcpTransport::disconnect(base::NodeId peer) { impl_->disconnect(peer); }

void TcpTransport::stop() {
  if (impl_->lane().is_current()) return impl_->stop();
  auto done = std::make_shared<std::promise<void>>();
  const std::future<void> stopped = done->get_future();
  // If the lane has ended, the task is dropped and with it the promise, which ends the wait as well.
  impl_->lane().post([impl = impl_, done = std::move(done)] {
    impl->stop();
    done->set_value();
  });
  stopped.wait();
}

const std::string& TcpTransport::address() const { return impl_->address(); }
bool TcpTransport::is_up(base::NodeId peer) const { return impl_->is_up(peer); }
std::optional<base::Error> TcpTransport::last_error() const { return impl_->last_error(); }

}  // namespace net

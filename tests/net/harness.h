// What the tests of net/ share: a node (loop lane, transport, recorder of its callbacks) and waiting for a condition
// with a deadline.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "base/posix_env.h"
#include "net/loop_lane.h"
#include "net/tcp_transport.h"

namespace net_test {

inline constexpr base::Micros kDeadline = 30 * base::kSecond;

inline base::Micros now() { return base::posix_env().now(); }

// Runs `function` on the lane and returns what it returns.
template <class Function>
auto on_lane(base::Lane& lane, Function function) {
  using Value = decltype(function());
  std::promise<Value> promise;
  auto future = promise.get_future();
  lane.post([&] {
    if constexpr (std::is_void_v<Value>) {
      function();
      promise.set_value();
    } else {
      promise.set_value(function());
    }
  });
  return future.get();
}

struct Frame {
  base::NodeId from;
  base::Channel channel = base::Channel::kControl;
  base::Bytes bytes;
};

// Remembers what a transport tells. The callbacks run on the loop lane, everything else on the test's thread.
class Recorder : public base::TransportHandler {
 public:
  base::Bytes hello;
  std::function<bool(const base::PeerInfo&)> decide;                          // on_up's answer; true without
  std::function<std::string()> reason;                                        // why, when it is false
  std::function<void(base::NodeId, base::Channel, base::ByteView)> on_bytes;  // on the lane, before it is recorded

  base::Bytes make_hello() override { return hello; }
  base::Status on_up(const base::PeerInfo& peer) override {
    const bool wanted = !decide || decide(peer);
    add([&] {
      ups_.push_back(peer);
      events_.push_back("up " + std::to_string(peer.id.value));
    });
    if (!wanted)
      return base::make_error(base::Code::kRefused, "the test refuses node " + std::to_string(peer.id.value) +
                                                        (reason ? ": " + reason() : ""));
    return base::ok();
  }
  void on_down(base::NodeId peer) override {
    add([&] { events_.push_back("down " + std::to_string(peer.value)); });
  }
  void on_frame(base::NodeId peer, base::Channel channel, base::ByteView frame) override {
    if (on_bytes) on_bytes(peer, channel, frame);
    add([&] { frames_.push_back({peer, channel, base::copy_of(frame)}); });
  }
  void on_error(const base::Error& error) {
    add([&] { errors_.push_back(error); });
  }

  // Waits until `condition` holds; it is asked after every event.
  bool wait(const std::function<bool()>& condition) {
    const base::Micros end = now() + kDeadline;
    const base::MutexLock lock(mutex_);
    while (!condition()) {
      if (!changed_.wait_until(mutex_, end)) return condition();
    }
    return true;
  }
  bool wait_events(std::size_t count) {
    return wait([&] { return events_.size() >= count; });
  }
  bool wait_event(const std::string& text, std::size_t times = 1) {
    return wait([&] { return static_cast<std::size_t>(std::count(events_.begin(), events_.end(), text)) >= times; });
  }
  bool wait_frames(std::size_t count) {
    return wait([&] { return frames_.size() >= count; });
  }
  bool wait_error(base::Code code, const std::string& part) {
    return wait([&] {
      return std::any_of(errors_.begin(), errors_.end(), [&](const auto& error) {
        return error.code == code && error.message.find(part) != std::string::npos;
      });
    });
  }
  std::vector<std::string> events() { return get(events_); }
  std::vector<Frame> frames() { return get(frames_); }
  std::vector<base::Error> errors() { return get(errors_); }
  std::vector<base::PeerInfo> ups() { return get(ups_); }

 private:
  template <class Change>
  void add(Change change) {
    const base::MutexLock lock(mutex_);
    change();
    changed_.notify_all();
  }
  template <class Value>
  Value get(const Value& value) {
    const base::MutexLock lock(mutex_);
    return value;
  }

  base::Mutex mutex_;
  base::CondVar changed_;
  std::vector<std::string> events_;
  std::vector<Frame> frames_;
  std::vector<base::Error> errors_;
  std::vector<base::PeerInfo> ups_;
};

inline constexpr char kSecret[] = "0123456789abcdef0123456789abcdef";

struct NodeSpec {
  std::uint64_t id = 1;
  std::string secret = kSecret;
  std::string listen = "127.0.0.1:0";
  std::uint64_t boot_nonce = 0;  // 0: one that differs from every other node's
  std::string cluster_tag = "cluster";
  std::uint16_t version = net::kWireVersion;
  base::Micros dead_time = 10 * base::kSecond;
};

// One process, as the transport sees it.
class Node {
 public:
  explicit Node(const NodeSpec& spec) : spec_(spec) {
    static std::atomic<std::uint64_t> boots{100};
    auto started = net::LoopLane::start("net-test");
    EXPECT_TRUE(started);
    lane_ = std::move(*started);
    net::TransportOptions options;
    options.self = {base::NodeId(spec.id), base::Incarnation(spec.id * 1000)};
    options.boot_nonce = spec.boot_nonce != 0 ? spec.boot_nonce : ++boots;
    options.listen = spec.listen;
    options.secret_raft = spec.secret;
    options.cluster_tag = [tag = spec.cluster_tag] { return base::copy_of(base::view_of(tag)); };
    options.version = spec.version;
    options.dead_time = spec.dead_time;
    options.on_error = [this](const base::Error& error) { recorder.on_error(error); };
    auto transport = net::TcpTransport::listen(*lane_, options);
    EXPECT_TRUE(transport) << (transport ? "" : base::to_string(transport.error()));
    transport_ = std::move(*transport);
    recorder.hello = base::copy_of(base::view_of("hello of " + std::to_string(spec.id)));
  }
  ~Node() { stop(); }

  void start() {
    on_lane(*lane_, [this] { transport_->start(recorder); });
  }
  void stop() {
    if (transport_) transport_->stop();
    if (lane_) lane_->stop();
    transport_.reset();
    lane_.reset();
  }
  void set_peers(const std::vector<base::PeerAddress>& peers) {
    on_lane(*lane_, [&] { transport_->set_peers(peers); });
  }
  bool send(std::uint64_t peer, base::Channel channel, const std::string& text) {
    return send_bytes(peer, channel, base::share(base::copy_of(base::view_of(text))));
  }
  bool send_bytes(std::uint64_t peer, base::Channel channel, const base::SharedBytes& bytes) {
    return on_lane(*lane_, [&] { return transport_->send(base::NodeId(peer), channel, bytes); });
  }
  [[nodiscard]] base::PeerAddress as_peer() const { return {base::NodeId(spec_.id), transport_->address()}; }
  [[nodiscard]] base::PeerAddress as_peer_at(const std::string& address) const {
    return {base::NodeId(spec_.id), address};
  }
  net::TcpTransport& transport() { return *transport_; }
  net::LoopLane& lane() { return *lane_; }

  Recorder recorder;

 private:
  NodeSpec spec_;
  std::unique_ptr<net::LoopLane> lane_;
  std::unique_ptr<net::TcpTransport> transport_;
};

// Starts both and makes each a peer of the other. The lower id dials: the one that accepts knows it before, or the first attempt could be
// refused as a stranger's and leave an error that the test did not ask for.
inline void join(Node& dialler, Node& acceptor) {
  ASSERT_LT(dialler.as_peer().id, acceptor.as_peer().id);
  dialler.start();
  acceptor.start();
  acceptor.set_peers({dialler.as_peer()});
  dialler.set_peers({acceptor.as_peer()});
}

}  // namespace net_test

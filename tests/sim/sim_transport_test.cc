// The simulated network: streams keep their order, connections break and come back, and nothing else is promised.
#include "tests/sim/sim_transport.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "tests/sim/scale.h"

namespace sim {
namespace {

using base::Channel;
using base::kMillisecond;
using base::kSecond;
using base::PeerInfo;

constexpr NodeId kOne{1};
constexpr NodeId kTwo{2};
constexpr NodeId kThree{3};

base::SharedBytes frame_of(std::uint64_t connection, std::uint64_t number) {
  base::Writer writer;
  writer.u64(connection);
  writer.u64(number);
  return base::share(writer.take());
}

// A node that checks the contract of base/transport.h on every callback, and numbers what it sends.
class Peer final : public base::TransportHandler {
 public:
  struct Connection {
    PeerInfo info;
    std::uint64_t number = 0;        // of connections to this peer, in this process
    std::uint64_t next_out[2] = {};  // frames sent, by channel
    std::uint64_t next_in[2] = {};   // frames seen, by channel
    std::uint64_t their_number = 0;  // the sender's own number of this connection, from its first frame
  };

  Peer(Scheduler& scheduler, SimNetwork& network, NodeId id, std::uint64_t boot)
      : lane_(scheduler.lane(id, "loop")), id_(id) {
    PeerInfo self;
    self.id = id;
    self.incarnation = base::Incarnation(100 + id.value);
    self.boot_nonce = boot;
    transport_ = network.attach(self, lane_);
    transport_->start(*this);
  }

  void set_peers(const std::vector<NodeId>& ids) {
    std::vector<base::PeerAddress> peers;
    for (const NodeId id : ids) peers.push_back({id, "simulated:" + std::to_string(id.value)});
    lane_.post([this, peers] { transport_->set_peers(peers); });
  }
  // From a task of the loop lane.
  bool send(NodeId to, Channel channel) {
    Connection& connection = up_[to];
    const bool sent = transport_->send(to, channel, frame_of(connection.number, connection.next_out[index(channel)]));
    if (sent) ++connection.next_out[index(channel)];
    return sent;
  }
  void post(base::Task task) { lane_.post(std::move(task)); }

  base::Bytes make_hello() override {
    EXPECT_TRUE(lane_.is_current());
    return base::copy_of(base::view_of("hello of " + std::to_string(id_.value)));
  }
  base::Status on_up(const PeerInfo& peer) override {
    EXPECT_TRUE(lane_.is_current());
    EXPECT_FALSE(up_.contains(peer.id)) << "on_up twice without on_down";
    EXPECT_EQ(base::text_of(peer.hello), "hello of " + std::to_string(peer.id.value));
    if (refuse_ > 0) {
      --refuse_;
      return base::make_error(base::Code::kRefused, "by the test");
    }
    Connection connection;
    connection.info = peer;
    connection.number = ++connections_;
    up_[peer.id] = connection;
    log_ += " up" + std::to_string(peer.id.value);
    if (greet_) {
      EXPECT_TRUE(send(peer.id, Channel::kControl)) << "a peer is up inside on_up";
      EXPECT_TRUE(send(peer.id, Channel::kData));
    }
    return base::ok();
  }
  void on_down(NodeId peer) override {
    EXPECT_TRUE(lane_.is_current());
    EXPECT_EQ(up_.erase(peer), 1U) << "on_down without on_up";
    log_ += " down" + std::to_string(peer.value);
  }
  void on_frame(NodeId peer, Channel channel, base::ByteView frame) override {
    EXPECT_TRUE(lane_.is_current());
    ASSERT_TRUE(up_.contains(peer)) << "frame of a peer that is not up";
    Connection& connection = up_[peer];
    base::Reader reader(frame);
    const std::uint64_t number = reader.u64();
    if (wild_) {
      seen_.emplace_back(number, reader.u64());
      return;
    }
    if (connection.their_number == 0) connection.their_number = number;
    EXPECT_EQ(number, connection.their_number) << "frame of an older connection";
    EXPECT_EQ(reader.u64(), connection.next_in[index(channel)]) << "lost, doubled or reordered within a stream";
    ++connection.next_in[index(channel)];
    EXPECT_TRUE(reader.at_end());
    ++received_;
    if (channel == Channel::kControl && last_channel_ == Channel::kData) overtook_ = true;
    last_channel_ = channel;
  }

  static std::size_t index(Channel channel) { return channel == Channel::kControl ? 0 : 1; }

  SimLane& lane_;
  const NodeId id_;
  std::unique_ptr<base::Transport> transport_;
  std::map<NodeId, Connection> up_;
  std::string log_;
  std::uint64_t connections_ = 0;
  std::uint64_t received_ = 0;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> seen_;  // connection and number of each frame; only if `wild_`
  bool wild_ = false;
  int refuse_ = 0;
  bool greet_ = true;
  bool overtook_ = false;  // a control frame came after data: streams interleave
  Channel last_channel_ = Channel::kControl;
};

// Two nodes that know each other, and a wire.
class TwoNodes : public testing::Test {
 protected:
  void connect() {
    one_.set_peers({kTwo});
    two_.set_peers({kOne});
    ASSERT_TRUE(until_connected());
  }
  bool until_connected() {
    return scheduler_.run_until([&] { return network_.connected(kOne, kTwo); }, scheduler_.now() + 60 * kSecond);
  }

  Scheduler scheduler_{1};
  SimNetwork network_{scheduler_, 1};
  Peer one_{scheduler_, network_, kOne, 11};
  Peer two_{scheduler_, network_, kTwo, 22};
};

TEST_F(TwoNodes, SetPeers_BothSides_UpWithTrueInfo) {
  one_.set_peers({kTwo});
  scheduler_.run_for(5 * kSecond);
  EXPECT_TRUE(one_.up_.empty()) << "the other side does not know this node";
  two_.set_peers({kOne});
  ASSERT_TRUE(until_connected());
  EXPECT_EQ(one_.up_[kTwo].info.incarnation, base::Incarnation(102));
  EXPECT_EQ(one_.up_[kTwo].info.boot_nonce, 22U);
  EXPECT_EQ(two_.up_[kOne].info.boot_nonce, 11U);
  scheduler_.run_for(kSecond);
  EXPECT_EQ(one_.received_, 2U) << "what on_up sent";
  EXPECT_EQ(two_.received_, 2U);
}

TEST_F(TwoNodes, Send_ManyFrames_InOrderPerChannelOnly) {
  connect();
  one_.post([&] {
    for (int i = 0; i < 300; ++i) EXPECT_TRUE(one_.send(kTwo, i % 2 == 0 ? Channel::kData : Channel::kControl));
  });
  scheduler_.run_for(5 * kSecond);
  EXPECT_EQ(two_.received_, 302U);
  EXPECT_TRUE(two_.overtook_);
}

TEST_F(TwoNodes, Send_PeerNotUp_False) {
  bool sent = true;
  one_.post([&] { sent = one_.transport_->send(kTwo, Channel::kData, frame_of(1, 0)); });
  scheduler_.run_for(kSecond);
  EXPECT_FALSE(sent);
}

TEST_F(TwoNodes, Send_QueueFull_FalseUntilDrained) {
  NetworkOptions options;
  options.queue_max = 100;
  network_.set_options(options);
  connect();
  scheduler_.run_for(kSecond);
  int accepted = 0;
  one_.post([&] {
    while (one_.send(kTwo, Channel::kData)) ++accepted;
  });
  scheduler_.run_for(kSecond);
  EXPECT_EQ(accepted, 6) << "16 bytes each";
  bool again = false;
  one_.post([&] { again = one_.send(kTwo, Channel::kData); });
  scheduler_.run_for(kSecond);
  EXPECT_TRUE(again);
  EXPECT_EQ(network_.stats().refused, 1U);
}

TEST_F(TwoNodes, RefusePpm_SendIsFalseAndNothingLeaves) {
  connect();
  scheduler_.run_for(kSecond);
  NetworkOptions options;
  options.refuse_ppm = 1000000;
  network_.set_options(options);
  bool sent = true;
  one_.post([&] { sent = one_.send(kTwo, Channel::kData); });
  scheduler_.run_for(kSecond);
  EXPECT_FALSE(sent);
  EXPECT_EQ(two_.received_, 2U) << "what on_up sent";
}

// What `wild` makes of three frames of a connection that then breaks and comes back, with one chance at certainty.
class WildNetwork : public TwoNodes {
 protected:
  using Seen = std::vector<std::pair<std::uint64_t, std::uint64_t>>;
  Seen send_three(NetworkOptions options) {
    one_.greet_ = two_.greet_ = false;
    two_.wild_ = true;
    connect();
    network_.set_options(std::move(options));
    one_.post([&] {
      for (int i = 0; i < 3; ++i) EXPECT_TRUE(one_.send(kTwo, Channel::kData));
    });
    scheduler_.run_for(kSecond);
    network_.break_connection(kOne, kTwo);
    scheduler_.run_for(60 * kSecond);
    EXPECT_TRUE(network_.connected(kOne, kTwo));
    return two_.seen_;
  }
};

TEST_F(WildNetwork, Lost_NothingComes) {
  NetworkOptions options;
  options.wild.lost = 1000000;
  EXPECT_EQ(send_three(options), Seen());
  EXPECT_EQ(network_.stats().lost, 3U);
}

TEST_F(WildNetwork, Doubled_EachComesTwiceInItsConnection) {
  NetworkOptions options;
  options.wild.doubled = 1000000;
  Seen seen = send_three(options);
  std::sort(seen.begin(), seen.end());
  EXPECT_EQ(seen, (Seen{{1, 0}, {1, 0}, {1, 1}, {1, 1}, {1, 2}, {1, 2}}));
}

TEST_F(WildNetwork, Overtaken_AllComeAndNotInOrder) {
  NetworkOptions options;
  options.wild.overtaken = 1000000;
  Seen seen = send_three(options);
  EXPECT_FALSE(std::is_sorted(seen.begin(), seen.end())) << "this seed";
  std::sort(seen.begin(), seen.end());
  EXPECT_EQ(seen, (Seen{{1, 0}, {1, 1}, {1, 2}}));
}

TEST_F(WildNetwork, Belated_CopiesOfTheOldConnectionComeOverTheNewOne) {
  NetworkOptions options;
  options.wild.belated = 1000000;
  options.wild.belated_max = 40 * kSecond;
  const Seen seen = send_three(options);
  EXPECT_GT(seen.size(), 3U);
  EXPECT_EQ(two_.log_, " up1 down1 up1");
}

TEST_F(WildNetwork, NotTolerated_TheStreamKeepsItsPromises) {
  NetworkOptions options;
  options.wild = {1000000, 1000000, 1000000, 1000000};
  options.tolerates = [](base::ByteView) { return Tolerance{}; };
  EXPECT_EQ(send_three(options), (Seen{{1, 0}, {1, 1}, {1, 2}}));
}

TEST_F(TwoNodes, BreakConnection_BothTold_AndBackAgain) {
  connect();
  network_.break_connection(kOne, kTwo);
  ASSERT_TRUE(scheduler_.run_until([&] { return one_.up_.empty() && two_.up_.empty(); }, scheduler_.now() + kSecond));
  ASSERT_TRUE(until_connected());
  EXPECT_EQ(one_.log_, " up2 down2 up2");
  EXPECT_EQ(two_.log_, " up1 down1 up1");
}

TEST_F(TwoNodes, Disconnect_InsideACallback_ToldLaterAndBackAgain) {
  connect();
  one_.post([&] {
    one_.transport_->disconnect(kTwo);
    EXPECT_TRUE(one_.up_.contains(kTwo)) << "never inside the call";
  });
  scheduler_.run_for(5 * kSecond);
  EXPECT_EQ(one_.log_, " up2 down2 up2");
  EXPECT_EQ(two_.log_, " up1 down1 up1");
}

TEST_F(TwoNodes, OnUp_Refused_OtherSideGoesDownAndRetries) {
  two_.refuse_ = 3;
  connect();
  EXPECT_EQ(two_.log_, " up1");
  EXPECT_EQ(one_.log_, " up2 down2 up2 down2 up2 down2 up2");
  one_.refuse_ = 1;
  network_.break_connection(kOne, kTwo);
  scheduler_.run_for(10 * kSecond);
  EXPECT_TRUE(network_.connected(kOne, kTwo));
  EXPECT_EQ(two_.log_, " up1 down1 up1") << "the first end's refusal never reaches the second as a connection";
}

TEST_F(TwoNodes, SetPeers_PeerGone_DownAndNoReconnect) {
  connect();
  two_.set_peers({});
  scheduler_.run_for(20 * kSecond);
  EXPECT_EQ(one_.log_, " up2 down2");
  EXPECT_EQ(two_.log_, " up1 down1");
  two_.set_peers({kOne});
  EXPECT_TRUE(until_connected());
}

TEST_F(TwoNodes, OneWayBlock_Short_FramesHeldThenAllInOrder) {
  connect();
  scheduler_.run_for(kSecond);
  const std::uint64_t before_one = one_.received_;
  const std::uint64_t before_two = two_.received_;
  one_.post([&] {
    for (int i = 0; i < 20; ++i) EXPECT_TRUE(one_.send(kTwo, Channel::kData));
  });
  scheduler_.run_for(10);  // the frames are on the wire
  network_.block(kOne, kTwo);
  one_.post([&] {
    for (int i = 0; i < 20; ++i) EXPECT_TRUE(one_.send(kTwo, Channel::kData));
  });
  two_.post([&] { EXPECT_TRUE(two_.send(kOne, Channel::kControl)); });
  scheduler_.run_for(500 * kMillisecond);
  EXPECT_EQ(two_.received_, before_two);
  EXPECT_EQ(one_.received_, before_one + 1) << "the other direction works";
  network_.heal(kOne, kTwo);
  scheduler_.run_for(kSecond);
  EXPECT_EQ(two_.received_, before_two + 40);
  EXPECT_EQ(one_.log_, " up2");
}

TEST_F(TwoNodes, OneWayBlock_Long_BreaksAndReconnectsAfterHeal) {
  connect();
  network_.block(kTwo, kOne);
  scheduler_.run_for(30 * kSecond);
  EXPECT_TRUE(one_.up_.empty());
  EXPECT_TRUE(two_.up_.empty());
  EXPECT_FALSE(network_.connected(kOne, kTwo));
  network_.heal_all();
  EXPECT_TRUE(until_connected());
}

TEST_F(TwoNodes, Block_HealedAndBlockedAgain_OldTimerBreaksNothing) {
  connect();
  network_.block(kOne, kTwo);
  scheduler_.run_for(900 * kMillisecond);
  for (int i = 0; i < 20; ++i) {
    network_.heal(kOne, kTwo);
    scheduler_.run_for(kMillisecond);
    network_.block(kOne, kTwo);
    scheduler_.run_for(900 * kMillisecond);  // blocked_break_min is a second
  }
  EXPECT_EQ(one_.log_, " up2");
}

TEST_F(TwoNodes, Clog_Time_NothingBeforeAllAfter) {
  connect();
  scheduler_.run_for(kSecond);
  const std::uint64_t before = two_.received_;
  one_.post([&] { EXPECT_TRUE(one_.send(kTwo, Channel::kData)); });
  scheduler_.run_for(10);
  network_.clog(kOne, kTwo, 10 * kSecond);
  one_.post([&] { EXPECT_TRUE(one_.send(kTwo, Channel::kData)); });
  scheduler_.run_for(9 * kSecond);
  EXPECT_EQ(two_.received_, before);
  scheduler_.run_for(2 * kSecond);
  EXPECT_EQ(two_.received_, before + 2);
  EXPECT_EQ(one_.log_, " up2");
}

TEST(SimNetwork, OnUp_SendsAtOnce_FramesComeAfterTheOthersOnUp) {
  for (std::uint64_t seed = 0; seed < scaled(50); ++seed) {
    Scheduler scheduler(seed);
    SimNetwork network(scheduler, seed);
    Peer one(scheduler, network, kOne, 1);
    Peer two(scheduler, network, kTwo, 1);
    one.set_peers({kTwo});
    two.set_peers({kOne});
    scheduler.run_for(5 * kSecond);
    ASSERT_EQ(one.received_, 2U) << "seed " << seed;
    ASSERT_EQ(two.received_, 2U) << "seed " << seed;
  }
}

TEST(SimNetwork, Kill_EachDeath_PeerToldOnceAndMeetsTheNextBoot) {
  for (const Death death : {Death::kReset, Death::kSilent}) {
    Scheduler scheduler(3);
    SimNetwork network(scheduler, 3);
    Peer one(scheduler, network, kOne, 1);
    auto two = std::make_unique<Peer>(scheduler, network, kTwo, 1);
    one.set_peers({kTwo});
    two->set_peers({kOne});
    const auto connected = [&] { return network.connected(kOne, kTwo); };
    ASSERT_TRUE(scheduler.run_until(connected, scheduler.now() + 10 * kSecond));
    network.set_death(kTwo, death);
    scheduler.kill(kTwo);
    EXPECT_FALSE(two->transport_->send(kOne, Channel::kData, frame_of(1, 1))) << "a dead process sends nothing";
    EXPECT_EQ(two->log_, " up1") << "and hears nothing";
    two.reset();
    scheduler.run_for(5 * kMillisecond);
    const bool noticed = one.up_.empty();
    if (death == Death::kSilent) {
      EXPECT_FALSE(noticed) << "silence takes longer to notice (with this seed)";
    }
    Peer reborn(scheduler, network, kTwo, 2);
    reborn.set_peers({kOne});
    ASSERT_TRUE(scheduler.run_until(connected, scheduler.now() + 10 * kSecond));
    EXPECT_EQ(one.log_, " up2 down2 up2");
    EXPECT_EQ(one.up_[kTwo].info.boot_nonce, 2U);
  }
}

TEST(SimNetwork, Partition_ThreeNodes_OnlyTheCutIsCut) {
  Scheduler scheduler(4);
  SimNetwork network(scheduler, 4);
  Peer one(scheduler, network, kOne, 1);
  Peer two(scheduler, network, kTwo, 1);
  Peer three(scheduler, network, kThree, 1);
  one.set_peers({kTwo, kThree});
  two.set_peers({kOne, kThree});
  three.set_peers({kOne, kTwo});
  scheduler.run_for(5 * kSecond);
  network.partition({kOne}, {kTwo, kThree});
  scheduler.run_for(20 * kSecond);
  EXPECT_FALSE(network.connected(kOne, kTwo));
  EXPECT_FALSE(network.connected(kOne, kThree));
  EXPECT_TRUE(network.connected(kTwo, kThree));
  network.heal_all();
  scheduler.run_for(5 * kSecond);
  EXPECT_TRUE(network.connected(kOne, kTwo));
  EXPECT_TRUE(network.connected(kOne, kThree));
}

TEST(SimNetwork, Pause_PeerStopped_FramesWaitAndConnectionStays) {
  Scheduler scheduler(5);
  SimNetwork network(scheduler, 5);
  Peer one(scheduler, network, kOne, 1);
  Peer two(scheduler, network, kTwo, 1);
  one.set_peers({kTwo});
  two.set_peers({kOne});
  scheduler.run_for(5 * kSecond);
  const std::uint64_t before = two.received_;
  scheduler.pause(kTwo);
  one.post([&] { EXPECT_TRUE(one.send(kTwo, Channel::kData)); });
  scheduler.run_for(30 * kSecond);
  EXPECT_EQ(two.received_, before);
  scheduler.resume(kTwo);
  scheduler.run_for(kSecond);
  EXPECT_EQ(two.received_, before + 1);
  EXPECT_EQ(two.log_, " up1");
}

struct ChaosResult {
  std::uint64_t trace = 0;
  NetworkStats stats;
  bool healed = false;
};

// Three nodes under every fault at once; the contract is checked in Peer.
class Chaos {
 public:
  explicit Chaos(std::uint64_t seed)
      : scheduler_(seed), network_(scheduler_, seed, {.break_ppm = 2000}), random_(scheduler_.stream(7)) {
    for (const NodeId id : kIds) start(id);
  }

  ChaosResult run() {
    for (int round = 0; round < 120; ++round) {
      for (int i = 0; i < 10; ++i) send_one();
      one_fault(any(), any());
      scheduler_.run_for(random_.between(0, 300 * kMillisecond));
    }
    ChaosResult result{scheduler_.trace(), network_.stats(), false};
    result.healed = heal();
    return result;
  }

 private:
  static constexpr std::array<NodeId, 3> kIds = {kOne, kTwo, kThree};

  NodeId any() { return kIds[static_cast<std::size_t>(random_.below(kIds.size()))]; }

  void start(NodeId id) {
    peers_[id] = std::make_unique<Peer>(scheduler_, network_, id, ++boot_);
    std::vector<NodeId> others;
    for (const NodeId other : kIds)
      if (other != id) others.push_back(other);
    peers_[id]->set_peers(others);
  }

  void send_one() {
    const NodeId from = any();
    const NodeId to = any();
    Peer* const peer = peers_[from].get();
    const Channel channel = random_.chance(1, 2) ? Channel::kControl : Channel::kData;
    if (peer == nullptr || from == to) return;
    peer->post([peer, to, channel] {
      if (peer->up_.contains(to)) static_cast<void>(peer->send(to, channel));
    });
  }

  void one_fault(NodeId a, NodeId b) {
    Peer* const peer = peers_[a].get();
    switch (random_.below(12)) {
      case 0:
        scheduler_.pause(a);
        break;
      case 1:
        scheduler_.resume(a);
        break;
      case 2:
        network_.heal_all();
        break;
      case 3:
        if (peer == nullptr) start(a);
        break;
      case 4:
        if (peer != nullptr) peer->refuse_ = 1;
        break;
      case 5:
        if (peer == nullptr) break;
        scheduler_.kill(a);
        peers_[a].reset();
        break;
      case 6:
        if (a != b) network_.block(a, b);
        break;
      case 7:
        if (a != b) network_.clog(a, b, random_.between(0, 2 * kSecond));
        break;
      case 8:
        if (a != b) network_.break_connection(a, b);
        break;
      case 9:
        if (peer != nullptr && a != b) peer->post([peer, b] { peer->transport_->disconnect(b); });
        break;
      default:
        break;  // a round without a fault
    }
  }

  // Everything works again: all must find each other.
  bool heal() {
    network_.heal_all();
    network_.set_options({});
    for (const NodeId id : kIds) {
      scheduler_.resume(id);
      if (!peers_[id]) start(id);
    }
    const auto all = [this] {
      return network_.connected(kOne, kTwo) && network_.connected(kOne, kThree) && network_.connected(kTwo, kThree);
    };
    return scheduler_.run_until(all, scheduler_.now() + 60 * kSecond);
  }

  Scheduler scheduler_;
  SimNetwork network_;
  base::Random random_;
  std::map<NodeId, std::unique_ptr<Peer>> peers_;
  std::uint64_t boot_ = 0;
};

ChaosResult chaos(std::uint64_t seed) { return Chaos(seed).run(); }

TEST(SimNetwork, Chaos_ManySeeds_ContractKeptAndHeals) {
  NetworkStats total;
  for (std::uint64_t seed = 0; seed < scaled(60); ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    const ChaosResult result = chaos(seed);
    ASSERT_TRUE(result.healed);
    ASSERT_FALSE(testing::Test::HasFailure());
    total.delivered += result.stats.delivered;
    total.breaks += result.stats.breaks;
    total.connects += result.stats.connects;
  }
  EXPECT_GT(total.delivered, 1000U);
  EXPECT_GT(total.breaks, 100U);
  EXPECT_GT(total.connects, 100U);
}

TEST(SimNetwork, Chaos_SameSeed_SameTrace) {
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    const ChaosResult first = chaos(seed);
    const ChaosResult second = chaos(seed);
    EXPECT_EQ(first.trace, second.trace) << "seed " << seed;
    EXPECT_EQ(first.stats.delivered, second.stats.delivered) << "seed " << seed;
    EXPECT_NE(first.trace, chaos(seed + 1000).trace) << "seed " << seed;
  }
}

}  // namespace
}  // namespace sim

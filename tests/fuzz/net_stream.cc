// Fuzz target: the streams that net/ cuts into frames: a connection between two nodes behind its handshake (net/connection.cc), and a client of
// the local socket (net/local_server.cc). However the bytes are split, the same frames come out and the same end. Compiled without access
// control: the bytes go straight to what a read callback calls, on the loop lane, over a socket pair on which nothing else is sent.
//
// input: choice u8 (even: node, odd: local) | splits u8 count, u8 each | stream
//   node: { kind u8 | channel u8 | damage u8 (0: none, else a bit of the frame is flipped) | size u8 | payload } ... , sealed as a peer does
//   local: the bytes themselves
#include <sys/socket.h>

#include <cstdio>
#include <future>

#include "net/connection.h"
#include "net/local_server.cc"  // its connections have no header
#include "tests/fuzz/fuzz.h"

namespace {

using base::Bytes;
using base::ByteView;
using base::Channel;

net::LoopLane& lane() {
  static net::LoopLane* const lane = [] {
    auto started = net::LoopLane::start("fuzz");
    FUZZ_REQUIRE_OK(started);
    return started->release();
  }();
  return *lane;
}

void on_lane(const std::function<void()>& function) {
  std::promise<void> done;
  lane().post([&] {
    function();
    done.set_value();
  });
  done.get_future().wait();
}

// Both ends of a socket; `ours` belongs to the handle that opens it.
struct Pair {
  int ours = -1;
  int other = -1;
  Pair() {
    int ends[2];
    FUZZ_REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
    ours = ends[0];
    other = ends[1];
  }
  ~Pair() { ::close(other); }
};

// Calls `take` with the pieces of the stream: of the given lengths in turn, or all at once when there are none.
void split(ByteView stream, ByteView lengths, const std::function<void(ByteView)>& take) {
  for (std::size_t i = 0; !stream.empty(); ++i) {
    const std::size_t wanted =
        lengths.empty() ? stream.size() : 1 + std::to_integer<std::size_t>(lengths[i % lengths.size()]);
    const ByteView piece = stream.first(std::min(wanted, stream.size()));
    take(piece);
    stream = stream.subspan(piece.size());
  }
}

std::string line(const char* what, ByteView bytes) {
  return std::string(what) + " " + std::string(base::text_of(bytes)) + "\n";
}

// --- between two nodes --------------------------------------------------------------------------------------------------

class Owner final : public net::ConnectionOwner {
 public:
  Bytes hello_for(Channel) override { return base::copy_of(base::view_of("hello")); }
  void on_authenticated(net::Connection& connection) override {
    told += line("authenticated", connection.peer_hello());
    connection.accept_session();
  }
  void on_ready(net::Connection&) override { told += "ready\n"; }
  void on_application_frame(net::Connection&, ByteView frame) override { told += line("frame", frame); }
  void on_broken(net::Connection&, const net::ConnectionError& error) override {
    told += "broken " + error.error.message + "\n";
  }
  void on_lingering(net::Connection&) override { told += "lingering\n"; }
  void want_flush(net::Connection&) override {}
  void want_reading(net::Connection&) override {}
  std::string told;
};

net::Identity identity(std::uint64_t id) {
  return {base::NodeId(id), base::Incarnation(id), id, 1, "a secret of the fuzzer"};
}

// What the connection tells its owner about `frames` behind a handshake, read in pieces.
std::string receive(ByteView frames, ByteView lengths) {
  Owner owner;
  on_lane([&] {
    const Pair pair;
    std::shared_ptr<net::Connection> connection(
        new net::Connection(lane(), owner, net::Handshake::accept(identity(2), {})));
    FUZZ_REQUIRE_OK(connection->open_handle());
    FUZZ_REQUIRE(uv_tcp_open(&connection->tcp_, pair.ours) == 0);
    FUZZ_REQUIRE_OK(connection->connected());
    // The peer: the same handshake without a socket.
    net::Handshake peer = net::Handshake::dial(identity(1), {}, base::NodeId(2), Channel::kData, 1);
    FUZZ_REQUIRE(!peer.begin());
    connection->consume(peer.take_output());
    while (!peer.done()) {
      FUZZ_REQUIRE(!connection->queue_.empty());
      Bytes answer;
      for (const auto& frame : connection->queue_) {
        const ByteView bytes = base::view_of(frame.payload);
        if (frame.header_size == 0) answer.insert(answer.end(), bytes.begin(), bytes.end());
      }
      connection->queue_.clear();
      connection->queued_bytes_ = 0;
      for (ByteView rest = answer; !rest.empty();) {
        const auto header = net::decode_header(rest, net::Stage::kBare);
        FUZZ_REQUIRE_OK(header);
        FUZZ_REQUIRE(!peer.on_frame(*header, rest.subspan(net::kFrameHeaderSize, header->size)));
        rest = rest.subspan(net::kFrameHeaderSize + header->size);
      }
      connection->consume(peer.take_output());
    }
    auto seal = peer.make_send_seal();
    FUZZ_REQUIRE_OK(seal);
    Bytes stream;
    for (fuzz::Input in(frames); !in.empty();) {
      const auto kind = static_cast<net::FrameKind>(in.u8());
      const auto channel = static_cast<Channel>(in.u8());
      const std::uint8_t damage = in.u8();
      const ByteView payload = in.bytes(in.u8());
      const auto header = net::encode_header({static_cast<std::uint32_t>(payload.size()), kind, channel});
      seal->begin(header);
      seal->update(payload);
      const auto tag = seal->finish();
      FUZZ_REQUIRE_OK(tag);
      const std::size_t start = stream.size();
      for (const ByteView part : {ByteView(header), payload, tag->view()})
        stream.insert(stream.end(), part.begin(), part.end());
      if (damage != 0) stream[start + damage % (stream.size() - start)] ^= static_cast<std::byte>(1 << damage % 8);
    }
    split(stream, lengths, [&](ByteView piece) { connection->consume(piece); });
    owner.told += connection->closed() ? "closed" : "open";
    connection->close();
  });
  on_lane([] {});  // the handle is gone: its callback ran before this
  return owner.told;
}

// --- the local socket ---------------------------------------------------------------------------------------------------

std::string serve(ByteView stream, ByteView lengths) {
  std::string told;
  on_lane([&] {
    const Pair pair;
    auto path = net::SocketPath::open("unused");
    FUZZ_REQUIRE_OK(path);
    const auto server =
        std::make_shared<net::LocalServer::Impl>(lane(), "unused", std::move(*path), -1, (struct stat){});
    std::vector<net::LocalServer::Reply> replies;  // kept: nobody is answered before the end
    server->handler_ = [&](ByteView request, net::LocalServer::Reply reply) {
      told += line("request", request);
      replies.push_back(std::move(reply));
    };
    const auto client = std::make_shared<net::LocalServer::Impl::Client>(*server, lane());
    FUZZ_REQUIRE(uv_pipe_init(lane().loop(), &client->pipe_, 0) == 0);
    client->pipe_.data = client.get();
    client->self_ = client;
    FUZZ_REQUIRE(uv_pipe_open(&client->pipe_, pair.ours) == 0);
    client->update_reading();
    server->clients_.insert(client);
    // A client that is not read from any more keeps the bytes for later; the socket would.
    split(stream, lengths, [&](ByteView piece) {
      Bytes copy = base::copy_of(piece);
      const uv_buf_t buffer = uv_buf_init(reinterpret_cast<char*>(copy.data()), static_cast<unsigned>(copy.size()));
      client->on_read(static_cast<ssize_t>(copy.size()), &buffer);
    });
    told += client->closed_ ? "closed" : client->refused_ ? "refused" : "open " + std::to_string(client->input_.size());
    // A length that was only announced takes no more than the limit.
    FUZZ_REQUIRE(client->input_.capacity() <= 2 * (net::kLocalHeaderSize + net::kLocalRequestMax));
    server->stop();
  });
  on_lane([] {});
  return told;
}

}  // namespace

void fuzz::run(base::ByteView input) {
  Input in(input);
  const bool local = in.u8() % 2 == 1;
  const ByteView lengths = in.bytes(in.u8() % 8);
  const ByteView stream = in.rest();
  const auto read = [&](ByteView pieces) { return local ? serve(stream, pieces) : receive(stream, pieces); };
  const std::string whole = read({});
  if (whole.find(local ? "request" : "frame") != std::string::npos) accepted();
  FUZZ_CANARY(local && whole.find("request xx") != std::string::npos && whole.find("closed") != std::string::npos);
  const std::string pieces = read(lengths);
  if (pieces != whole)
    fail(__FILE__, __LINE__, "any split gives the same", "\n--- whole:\n" + whole + "\n--- in pieces:\n" + pieces);
  const std::byte one{0};
  FUZZ_REQUIRE(read({&one, 1}) == whole);
}

std::vector<fuzz::Seed> fuzz::seeds() {
  const auto frame = [](base::Writer& out, net::FrameKind kind, std::string_view payload, std::uint8_t damage) {
    out.u8(static_cast<std::uint8_t>(kind));
    out.u8(static_cast<std::uint8_t>(Channel::kData));
    out.u8(damage);
    out.u8(static_cast<std::uint8_t>(payload.size()));
    out.raw(base::view_of(payload));
  };
  const auto node = [&](std::uint8_t damage) {
    base::Writer out;
    out.u8(0);
    out.u8(2);
    out.u8(4);
    out.u8(30);
    frame(out, net::FrameKind::kHello, "I am 1", 0);
    frame(out, net::FrameKind::kApplication, "first", 0);
    frame(out, net::FrameKind::kPing, "", 0);
    frame(out, net::FrameKind::kApplication, "second", damage);
    frame(out, net::FrameKind::kRefuse, std::string_view("\7\1\0bye", 6), 0);
    return out.take();
  };
  const auto local = [](std::uint32_t last_size) {
    base::Writer out;
    out.u8(1);
    out.u8(2);
    out.u8(3);
    out.u8(20);
    std::uint64_t id = 1;
    for (const std::string_view request : {"xx", "", "status"}) {
      out.raw(net::encode_header(
          net::LocalHeader{static_cast<std::uint32_t>(request.size()), net::LocalKind::kRequest, id++}));
      out.raw(base::view_of(request));
    }
    out.raw(net::encode_header(net::LocalHeader{last_size, net::LocalKind::kRequest, id}));
    return out.take();
  };
  return {{"valid-node", node(0)},
          {"valid-node-damaged", node(50)},
          {"valid-local", local(10)},
          {"valid-local-too-large", local(17 << 20)}};
}

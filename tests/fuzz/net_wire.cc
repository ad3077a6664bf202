// Fuzz target: what nodes and clients of the local socket send, frame by frame (net/wire.h, net/local_wire.h): headers, greetings, refusals and
// errors. One thing has one encoding; a header is refused before anything is allocated for it.
//
// input: choice u8 % 5: 0 frame header, 1 greeting, 2 refusal, 3 header of the local socket, 4 error of the local socket | bytes
#include "net/local_wire.h"
#include "net/wire.h"
#include "tests/fuzz/codec.h"

namespace {

using base::ByteView;

bool equal(ByteView one, ByteView two) { return std::equal(one.begin(), one.end(), two.begin(), two.end()); }

void check_header(ByteView bytes) {
  if (bytes.size() < net::kFrameHeaderSize) return;
  const ByteView head = bytes.first(net::kFrameHeaderSize);
  const auto bare = net::decode_header(head, net::Stage::kBare);
  const auto sealed = net::decode_header(head, net::Stage::kSealed);
  for (const auto& header : {bare, sealed}) {
    if (!header) {
      FUZZ_REQUIRE(header.error().code == base::Code::kProtocol);
      continue;
    }
    fuzz::accepted();
    FUZZ_REQUIRE(header->size <= net::payload_size_max(header->kind, header->channel));
    FUZZ_REQUIRE(equal(net::encode_header(*header), head));
  }
  if (bare) FUZZ_REQUIRE(bare->size <= net::kBareFrameMax);
  // A refusal is the one frame that both stages know.
  if (bare && sealed) FUZZ_REQUIRE(bare->kind == net::FrameKind::kRefuse);
}

void check_greeting(ByteView bytes) {
  const auto greeting =
      fuzz::check_exact(bytes, net::decode_greeting, [](const net::Greeting& it) { return net::encode(it); });
  if (!greeting) return FUZZ_REQUIRE(greeting.error().code == base::Code::kProtocol);
  FUZZ_REQUIRE(net::greeting_version(bytes) == greeting->version);
  FUZZ_CANARY(greeting->to.value > 2);
}

void check_refusal(ByteView bytes) {
  const auto message = fuzz::check_stable(
      bytes, net::decode_refuse, [](const net::RefuseMessage& it) { return net::encode(it); },
      [](const auto& a, const auto& b) {
        return a.refusal == b.refusal && a.version == b.version && a.text == b.text;
      });
  if (!message) return FUZZ_REQUIRE(message.error().code == base::Code::kProtocol);
  FUZZ_REQUIRE(message->text.size() <= net::kRefuseTextMax);
  for (const char c : message->text) FUZZ_REQUIRE(c >= ' ' && c <= '~');
}

void check_local_header(ByteView bytes) {
  if (bytes.size() < net::kLocalHeaderSize) return;
  const ByteView head = bytes.first(net::kLocalHeaderSize);
  const auto header = net::decode_local_header(head);
  if (!header) return FUZZ_REQUIRE(header.error().code == base::Code::kProtocol);
  fuzz::accepted();
  FUZZ_REQUIRE(equal(net::encode_header(*header), head));
}

void check_local_error(ByteView bytes) {
  const base::Error error = net::decode_error(bytes);
  const base::Bytes again = net::encode_error(error);
  const base::Error second = net::decode_error(again);
  FUZZ_REQUIRE(second.code == error.code && second.sqlite_code == error.sqlite_code && second.message == error.message);
  // A number that this version does not know reads as kInternal: only that one byte pair may differ then.
  const bool unknown = error.code == base::Code::kInternal && again.size() == bytes.size();
  const bool malformed = error.code == base::Code::kProtocol && !equal(again, bytes);
  if (malformed) return;
  fuzz::accepted();
  FUZZ_REQUIRE(unknown ? equal(base::ByteView(again).subspan(2), bytes.subspan(2)) : equal(again, bytes));
}

}  // namespace

void fuzz::run(base::ByteView input) {
  Input in(input);
  const std::uint8_t choice = in.u8() % 5;
  const ByteView bytes = in.rest();
  if (choice == 0) check_header(bytes);
  if (choice == 1) check_greeting(bytes);
  if (choice == 2) check_refusal(bytes);
  if (choice == 3) check_local_header(bytes);
  if (choice == 4) check_local_error(bytes);
}

std::vector<fuzz::Seed> fuzz::seeds() {
  net::Greeting greeting;
  greeting.version = 1;
  greeting.mode = net::Mode::kMac;
  greeting.from = base::NodeId(1);
  greeting.to = base::NodeId(2);
  greeting.incarnation = base::Incarnation(0x99);
  greeting.boot_nonce = 5;
  greeting.session = 6;
  const net::RefuseMessage refusal{net::Refusal::kSecret, 1, "the secret is another"};
  const auto header = [](std::uint32_t size, net::FrameKind kind) {
    return chosen(0, net::encode_header({size, kind, base::Channel::kData}));
  };
  return {{"valid-application", header(5000, net::FrameKind::kApplication)},
          {"valid-start", header(120, net::FrameKind::kStart)},
          {"valid-greeting", chosen(1, net::encode(greeting))},
          {"valid-refusal", chosen(2, net::encode(refusal))},
          {"valid-local-header", chosen(3, net::encode_header(net::LocalHeader{100, net::LocalKind::kReply, 9}))},
          {"valid-local-error", chosen(4, net::encode_error(base::make_error(base::Code::kTimeout, "too late")))}};
}

// Fuzz target: what nodes say to each other around Raft (node/hello.h) and what a node keeps about itself (node/meta.h): decoders and their
// encoders. Where one thing has one encoding, the very bytes come back.
//
// input: choice u8 % 7: 0 meta, 1 hello, 2 frame, 3 forward, 4 forward reply, 5 control, 6 control reply | bytes
#include <tuple>

#include "node/hello.h"
#include "node/meta.h"
#include "pages/tx.h"
#include "tests/fuzz/codec.h"

namespace {

using base::ByteView;

void check_meta(ByteView bytes) {
  const auto meta = fuzz::check_stable(
      bytes, node::decode_meta, [](const node::Meta& it) { return node::encode(it); },
      [](const node::Meta& a, const node::Meta& b) {
        bool same =
            std::tie(a.node, a.incarnation, a.boot, a.cluster, a.promise, a.catalogue.at, a.catalogue.formed) ==
                std::tie(b.node, b.incarnation, b.boot, b.cluster, b.promise, b.catalogue.at, b.catalogue.formed) &&
            a.catalogue.rows.size() == b.catalogue.rows.size();
        for (int i = 0; i < base::kGroupCount; ++i)
          same =
              same && a.groups[i].floor == b.groups[i].floor && a.groups[i].configuration == b.groups[i].configuration;
        for (std::size_t i = 0; same && i < a.catalogue.rows.size(); ++i) {
          const node::CatalogueRow& x = a.catalogue.rows[i];
          const node::CatalogueRow& y = b.catalogue.rows[i];
          same = std::tie(x.id, x.created, x.name, x.page_size, x.last, x.digest, x.size) ==
                 std::tie(y.id, y.created, y.name, y.page_size, y.last, y.digest, y.size);
        }
        return same;
      });
  if (!meta)
    return FUZZ_REQUIRE(meta.error().code == base::Code::kCorrupt || meta.error().code == base::Code::kArgument ||
                        meta.error().code == base::Code::kNewerFormat);
  for (const node::CatalogueRow& row : meta->catalogue.rows) FUZZ_REQUIRE_OK(pages::valid_database_name(row.name));
  FUZZ_CANARY(meta->catalogue.rows.size() == 1 && meta->catalogue.rows[0].page_size != 4096);
}

void check_frame(ByteView bytes) {
  const auto frame = node::parse_frame(bytes);
  if (!frame) return FUZZ_REQUIRE(frame.error().code == base::Code::kProtocol);
  fuzz::accepted();
  const auto again = node::make_frame(frame->group, frame->kind, frame->cluster, frame->body);
  FUZZ_REQUIRE(std::equal(again->begin(), again->end(), bytes.begin(), bytes.end()));
}

// An error's code travels as a number; one that is not known becomes another.
void check_reply(ByteView bytes) {
  const auto reply = fuzz::check_stable(
      bytes, node::decode_forward_reply, [](const node::ForwardReply& it) { return node::encode(it); },
      [](const node::ForwardReply& a, const node::ForwardReply& b) {
        return std::tie(a.origin, a.term, a.verdict, a.committed, a.apply_through, a.error.code, a.error.message,
                        a.error.sqlite_code, a.body) == std::tie(b.origin, b.term, b.verdict, b.committed,
                                                                 b.apply_through, b.error.code, b.error.message,
                                                                 b.error.sqlite_code, b.body);
      });
  if (!reply) FUZZ_REQUIRE(reply.error().code == base::Code::kProtocol);
}

}  // namespace

void fuzz::run(base::ByteView input) {
  Input in(input);
  const std::uint8_t choice = in.u8() % 7;
  const ByteView bytes = in.rest();
  switch (choice) {
    case 0:
      return check_meta(bytes);
    case 1: {
      const auto hello = check_exact(bytes, node::decode_hello, [](const node::Hello& it) { return node::encode(it); });
      return FUZZ_REQUIRE(hello || hello.error().code == base::Code::kProtocol);
    }
    case 2:
      return check_frame(bytes);
    case 3: {
      const auto forward =
          check_exact(bytes, node::decode_forward, [](const node::Forward& it) { return node::encode(it); });
      if (forward) FUZZ_REQUIRE_OK(pages::valid_database_name(forward->database));
      return;
    }
    case 4:
      return check_reply(bytes);
    case 5: {
      const auto control =
          check_exact(bytes, node::decode_control, [](const node::Control& it) { return node::encode(it); });
      return FUZZ_REQUIRE(control || control.error().code == base::Code::kProtocol);
    }
    default: {
      const auto reply = check_stable(
          bytes, node::decode_control_reply, [](const node::ControlReply& it) { return node::encode(it); },
          [](const auto& a, const auto& b) {
            return a.token == b.token && a.error.code == b.error.code && a.error.message == b.error.message;
          });
      FUZZ_REQUIRE(reply || reply.error().code == base::Code::kProtocol);
    }
  }
}

std::vector<fuzz::Seed> fuzz::seeds() {
  const base::Origin origin{base::Incarnation(0x1122), 3, 4};
  const base::LogId id{base::Term(3), base::Index(9)};
  const node::Ballot ballot{2, base::Incarnation(0x77)};
  node::Meta meta;
  meta.node = base::NodeId(1);
  meta.incarnation = base::Incarnation(0x99);
  meta.boot = 4;
  meta.cluster = meta.promise = ballot;
  raft::Configuration configuration;
  configuration.voters = {{{base::NodeId(1), base::Incarnation(0x99)}, "a:1", "a:2"}};
  meta.groups[0] = {id, configuration};
  meta.catalogue = {id, true, base::Index(3), {{base::DatabaseId(2), base::Term(1), "app.db", 4096, id, 42, 7}}};
  node::Meta empty;
  empty.node = base::NodeId(1);
  const node::Hello hello{base::Incarnation(0x99), 4, ballot, ballot, base::Term(3), id, 0x1234, true, false};
  const auto frame = node::make_frame(base::Group::kData, node::FrameKind::kForward, 77, base::view_of("body"));
  const node::Forward forward{base::Term(3), origin, 2, 1000, "app.db", base::copy_of(base::view_of("request"))};
  node::ForwardReply reply{origin, base::Term(3), node::ForwardVerdict::kFailed, id, base::Index(9), {}, {}};
  reply.error = base::make_error(base::Code::kTimeout, "too late");
  const node::Control control{node::ControlKind::kDrop, 5, base::Bytes(8, std::byte{7})};
  const node::ControlReply refusal{5, base::make_error(base::Code::kExists, "it is there")};
  return {
      {"valid-meta", chosen(0, node::encode(meta))},       {"valid-meta-empty", chosen(0, node::encode(empty))},
      {"valid-hello", chosen(1, node::encode(hello))},     {"valid-frame", chosen(2, *frame)},
      {"valid-forward", chosen(3, node::encode(forward))}, {"valid-forward-reply", chosen(4, node::encode(reply))},
      {"valid-control", chosen(5, node::encode(control))}, {"valid-control-reply", chosen(6, node::encode(refusal))}};
}

// Golden bytes of the files id and meta, and of the frames between nodes.
#include "tests/base/golden.h"

#include <gtest/gtest.h>

#include "node/bootstrap.h"
#include "node/hello.h"
#include "node/identity.h"
#include "node/meta.h"
#include "tests/sim/sim_env.h"

namespace node {
namespace {

using testing_base::check_golden;
using testing_base::Damage;
using testing_base::expect_damage;
using testing_base::reencoded;

const Ballot kCluster{4, base::Incarnation{0xc1c2c3c4c5c6c7c8}};
const Ballot kPromise{5, base::Incarnation{0xd1d2d3d4d5d6d7d8}};
const base::Origin kOrigin{base::Incarnation{0x1122334455667788}, 7, 300};

raft::Configuration configuration() {
  raft::Configuration out;
  out.voters.push_back({{base::NodeId{1}, base::Incarnation{0x11}}, "a:8100", "a:8200"});
  return out;
}

Meta meta() {
  Meta out;
  out.node = base::NodeId{3};
  out.incarnation = base::Incarnation{0x1122334455667788};
  out.boot = 7;
  out.cluster = kCluster;
  out.promise = kPromise;
  out.groups[0] = {{base::Term{2}, base::Index{10}}, configuration()};
  out.groups[1].floor = {base::Term{1}, base::Index{4}};
  out.catalogue.at = {base::Term{2}, base::Index{12}};
  out.catalogue.formed = true;
  out.catalogue.last_drop = base::Index{11};
  out.catalogue.rows.push_back(
      {base::DatabaseId{3}, base::Term{1}, "app.db", 4096, {base::Term{2}, base::Index{11}}, 0xd1, 5});
  return out;
}

base::Bytes longer(base::ByteView bytes) {
  base::Bytes out = base::copy_of(bytes);
  out.push_back(std::byte{0});
  return out;
}

TEST(Golden, Identity_IsVersion1) {
  const Identity identity{base::NodeId{3}, base::Incarnation{0x1122334455667788}};
  const base::Bytes bytes = check_golden("id_v1", encode(identity));
  expect_damage(bytes, Damage::kRefused, reencoded(decode_identity));
  EXPECT_FALSE(decode_identity(longer(bytes)));
}

TEST(Golden, MetaSlot_IsVersion1) {
  const base::Bytes bytes = check_golden("meta_v1", encode(MetaSlot{6, meta()}));
  expect_damage(bytes, Damage::kRefused, reencoded(decode_meta_slot));
}

TEST(Golden, MetaFile_NewerSlotCounts_ADamagedOneDoesNot) {
  sim::SimDisk disk(1);
  const auto env = disk.boot();
  const auto made = MetaFile::create(*env, "/data");
  ASSERT_TRUE(made.has_value()) << made.error().message;
  const auto put = [&](std::uint64_t slot, base::ByteView bytes) {
    const auto file = env->open("/data/meta", base::OpenMode::kReadWrite);
    return file && (*file)->write(slot * kMetaSlotSize, bytes);
  };
  const auto boot_of = [&]() -> std::uint64_t {
    const auto file = MetaFile::open(*env, "/data");
    return file && (*file)->loaded() ? (*file)->loaded()->boot : 0;
  };
  EXPECT_EQ(boot_of(), 0u);
  base::Bytes bytes = check_golden("meta_v1", encode(MetaSlot{6, meta()}));
  ASSERT_TRUE(put(0, bytes));
  EXPECT_EQ(boot_of(), 7u);
  Meta older = meta();
  older.boot = 6;
  ASSERT_TRUE(put(1, encode(MetaSlot{5, older})));
  EXPECT_EQ(boot_of(), 7u);
  bytes.back() ^= std::byte{1};
  ASSERT_TRUE(put(0, bytes));
  EXPECT_EQ(boot_of(), 6u);
}

// Behind its checksum, the body is checked for itself: a program may be wrong too.
TEST(Golden, MetaBody_DamageIsNoticed) {
  expect_damage(encode(meta()), Damage::kNoticed, reencoded(decode_meta));
  EXPECT_FALSE(decode_meta(longer(encode(meta()))));
}

TEST(Golden, Hello_IsVersion1) {
  Hello hello;
  hello.incarnation = base::Incarnation{0x1122334455667788};
  hello.boot = 7;
  hello.cluster = kCluster;
  hello.promise = kPromise;
  hello.term = base::Term{2};
  hello.last = {base::Term{1}, base::Index{12}};
  hello.nodes_hash = 0xe1e2e3e4e5e6e7e8;
  hello.damaged = true;
  hello.unsynced = true;
  const base::Bytes bytes = check_golden("hello_v1", encode(hello));
  expect_damage(bytes, Damage::kNoticed, reencoded(decode_hello));
  EXPECT_FALSE(decode_hello(longer(bytes)));
}

TEST(Golden, Envelope_IsVersion1) {
  const auto frame = make_frame(base::Group::kData, FrameKind::kForward, 0x0102030405060708, base::view_of("body"));
  expect_damage(check_golden("frame_v1", *frame), Damage::kNoticed,
                [](base::ByteView bytes) -> std::optional<base::Bytes> {
                  const auto parsed = parse_frame(bytes);
                  if (!parsed) return std::nullopt;
                  return *make_frame(parsed->group, parsed->kind, parsed->cluster, parsed->body);
                });
}

TEST(Golden, Forward_IsVersion1) {
  const Forward forward{base::Term{2}, kOrigin, 299, 10'000, "app.db", base::copy_of(base::view_of("request"))};
  const base::Bytes bytes = check_golden("forward_v1", encode(forward));
  expect_damage(bytes, Damage::kNoticed, reencoded(decode_forward));
  EXPECT_FALSE(decode_forward(longer(bytes)));
}

TEST(Golden, ForwardReply_IsVersion1) {
  ForwardReply reply;
  reply.origin = kOrigin;
  reply.term = base::Term{2};
  reply.verdict = ForwardVerdict::kFailed;
  reply.committed = {base::Term{2}, base::Index{12}};
  reply.apply_through = base::Index{13};
  reply.error = {base::Code::kSql, "UNIQUE constraint failed: t.id", 2067};
  reply.body = base::copy_of(base::view_of("answer"));
  const base::Bytes bytes = check_golden("forward_reply_v1", encode(reply));
  expect_damage(bytes, Damage::kNoticed, reencoded(decode_forward_reply));
  EXPECT_FALSE(decode_forward_reply(longer(bytes)));
}

TEST(Golden, Control_IsVersion1) {
  base::Writer database;
  database.u64(0x1112131415161718);
  const Control control{ControlKind::kDrop, 0x0102030405060708, database.take()};
  const base::Bytes bytes = check_golden("control_v1", encode(control));
  expect_damage(bytes, Damage::kNoticed, reencoded(decode_control));
  EXPECT_FALSE(decode_control(longer(bytes)));
}

TEST(Golden, ControlReply_IsVersion1) {
  const ControlReply reply{0x0102030405060708, base::make_error(base::Code::kNotFound, "app.db: no such database")};
  const base::Bytes bytes = check_golden("control_reply_v1", encode(reply));
  expect_damage(bytes, Damage::kNoticed, reencoded(decode_control_reply));
  EXPECT_FALSE(decode_control_reply(longer(bytes)));
}

TEST(Golden, Bootstrap_IsVersion1) {
  const BootstrapMessage message{BootstrapKind::kFirst, kCluster, kPromise, kCluster, true, configuration()};
  const base::Bytes bytes = check_golden("bootstrap_v1", encode(message));
  expect_damage(bytes, Damage::kNoticed, reencoded(decode_bootstrap));
  EXPECT_FALSE(decode_bootstrap(longer(bytes)));
}

}  // namespace
}  // namespace node

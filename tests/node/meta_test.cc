// The meta file: both slots, torn writes, hostile bytes.
#include "node/meta.h"

#include <gtest/gtest.h>

#include "node/hello.h"
#include "tests/sim/sim_env.h"

namespace node {
namespace {

Meta sample() {
  Meta meta;
  meta.node = base::NodeId{3};
  meta.incarnation = base::Incarnation{0x1122334455667788};
  meta.boot = 7;
  meta.cluster = {4, base::Incarnation{9}};
  meta.promise = {5, base::Incarnation{8}};
  raft::MemberInfo info;
  info.member = {meta.node, meta.incarnation};
  info.raft_addr = "a:1";
  raft::Configuration configuration;
  configuration.voters.push_back(info);
  meta.groups[0] = {{base::Term{2}, base::Index{10}}, configuration};
  meta.catalogue.at = {base::Term{2}, base::Index{12}};
  meta.catalogue.formed = true;
  meta.catalogue.last_drop = base::Index{9};
  meta.catalogue.rows.push_back(
      {base::DatabaseId{3}, base::Term{1}, "app.db", 4096, {base::Term{2}, base::Index{11}}, 42, 5});
  return meta;
}

TEST(Meta, EncodeThenDecode_IsTheSame) {
  const Meta meta = sample();
  const auto decoded = decode_meta(encode(meta));
  ASSERT_TRUE(decoded.has_value()) << decoded.error().message;
  EXPECT_EQ(encode(*decoded), encode(meta));
  EXPECT_EQ(decoded->catalogue.last_drop, base::Index{9});
  EXPECT_EQ(decoded->catalogue.rows.at(0).name, "app.db");
  EXPECT_EQ(decoded->groups[0].configuration, meta.groups[0].configuration);
}

TEST(Meta, EveryTruncation_IsRefused) {
  const base::Bytes bytes = encode(sample());
  for (std::size_t size = 0; size < bytes.size(); ++size)
    EXPECT_FALSE(decode_meta(base::ByteView(bytes).first(size)).has_value()) << size;
}

TEST(MetaFile, PowerCutAtEveryOperation_KeepsTheOldOrTheNew) {
  for (std::uint64_t nth = 1; nth < 16; ++nth) {
    sim::SimDisk disk(nth);
    Meta meta = sample();
    {
      auto env = disk.boot();
      auto file = MetaFile::create(*env, "/data");
      ASSERT_TRUE(file.has_value());
      ASSERT_TRUE((*file)->write(meta).has_value());
      meta.boot = 8;
      ASSERT_TRUE((*file)->write(meta).has_value());
      disk.crash_at(nth);
      std::uint64_t boot = 9;
      meta.boot = boot;
      while ((*file)->write(meta)) meta.boot = ++boot;
    }
    disk.power_cut();
    auto env = disk.boot();
    const auto file = MetaFile::open(*env, "/data");
    ASSERT_TRUE(file.has_value());
    ASSERT_TRUE((*file)->loaded().has_value()) << "crash at operation " << nth;
    const std::uint64_t found = (*file)->loaded()->boot;
    EXPECT_TRUE(found == meta.boot || found == meta.boot - 1) << found << " of " << meta.boot;
  }
}

// An older generation would repeat a boot number (R7), or forget a promise (R10).
TEST(MetaFile, RotInOneSlot_LosesNothing) {
  for (int writes = 1; writes <= 3; ++writes) {
    for (std::uint64_t slot = 0; slot < 2; ++slot) {
      sim::SimDisk disk(1);
      auto env = disk.boot();
      Meta meta = sample();
      {
        auto file = MetaFile::create(*env, "/data");
        ASSERT_TRUE(file.has_value());
        for (int i = 0; i < writes; ++i) {
          meta.boot = 100 + static_cast<std::uint64_t>(i);
          ASSERT_TRUE((*file)->write(meta).has_value());
        }
      }
      const auto raw = env->open("/data/meta", base::OpenMode::kReadWrite);
      ASSERT_TRUE(raw.has_value());
      const base::Bytes rot(1, std::byte{0xff});
      ASSERT_TRUE((*raw)->write(slot * kMetaSlotSize + 40, rot).has_value());
      const auto file = MetaFile::open(*env, "/data");
      ASSERT_TRUE(file.has_value());
      ASSERT_TRUE((*file)->loaded().has_value());
      EXPECT_EQ((*file)->loaded()->boot, meta.boot) << "slot " << slot << " after " << writes << " writes";
    }
  }
}

TEST(Hello, EncodeThenDecode_IsTheSame) {
  Hello hello;
  hello.incarnation = base::Incarnation{5};
  hello.boot = 2;
  hello.cluster = {3, base::Incarnation{4}};
  hello.last = {base::Term{1}, base::Index{2}};
  const base::Bytes bytes = encode(hello);
  const auto decoded = decode_hello(bytes);
  ASSERT_TRUE(decoded.has_value());
  EXPECT_EQ(encode(*decoded), bytes);
  for (std::size_t size = 0; size < bytes.size(); ++size)
    EXPECT_FALSE(decode_hello(base::ByteView(bytes).first(size)).has_value()) << size;
}

TEST(Frames, HostileBytes_AreRefused) {
  EXPECT_FALSE(parse_frame({}).has_value());
  const base::SharedBytes frame =
      make_frame(base::Group::kData, FrameKind::kForward, 77, base::view_of(std::string_view("body")));
  const auto parsed = parse_frame(*frame);
  ASSERT_TRUE(parsed.has_value());
  EXPECT_EQ(base::text_of(parsed->body), "body");
  for (std::size_t at = 0; at < 3; ++at) {
    base::Bytes broken = *frame;
    broken[at] = std::byte{0xEE};
    EXPECT_FALSE(parse_frame(broken).has_value()) << at;
  }
  EXPECT_FALSE(decode_forward(parsed->body).has_value());
  EXPECT_FALSE(decode_forward_reply(parsed->body).has_value());
  EXPECT_FALSE(decode_control(parsed->body).has_value());
}

}  // namespace
}  // namespace node

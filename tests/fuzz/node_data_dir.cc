// Fuzz target: the identity of a data directory (node/data_dir.h, R10). A node lives through some starts, then bytes of its id file, its meta file
// and its log change. The next start is refused, begins a new life, which an embedded node with databases never does, or is the same life with
// the next boot number; the start after that one is the same life again.
//
// input: mode u8 (1: checksums of id and meta are made right, 2: embedded, 12: starts before) | { file u8 % 3: id, meta, log | offset u16
//        (meta: bit 15 is the slot) | length u8 | bytes } ...
#include "node/data_dir.h"
#include "tests/fuzz/fuzz.h"
#include "tests/sim/sim_env.h"

namespace {

using base::Bytes;
using base::Code;

constexpr char kDir[] = "/data/node";
constexpr char kSegment[] = "/data/node/log/0000000000000001.seg";

node::Config config(bool embedded) {
  node::Config config;
  config.data_dir = kDir;
  config.wal_size = 64 << 10;
  for (std::uint64_t id = 1; !embedded && id <= 3; ++id) config.nodes.push_back({base::NodeId(id), "a:1", "a:2"});
  return config;
}

// One start. A new log gets an entry, as in a node that lives.
base::Result<node::Meta> live(base::Env& env, const node::Config& config) {
  HQL_ASSIGN(found, node::open_data_dir(env, config));
  FUZZ_REQUIRE(found.meta.node == config.node_id);
  FUZZ_REQUIRE(found.meta.incarnation.value != 0 && found.opened.identity.incarnation == found.meta.incarnation);
  const bool begun = !found.opened.groups[0].entries.empty() || found.opened.damage;
  if (!begun) {
    wal::Append append;
    append.entries.push_back({{base::Term{1}, base::Index{1}}, base::EntryKind::kNoop, nullptr});
    FUZZ_REQUIRE_OK(found.opened.log->append_batch({append}));
  }
  return found.meta;
}

void mend(const std::string& path, Bytes& file, std::uint64_t at) {
  if (path.ends_with("/id") && file.size() == 28)
    base::store_u32(&file[24], base::crc32c(base::ByteView(file).first(24)));
  if (!path.ends_with("/meta")) return;
  const std::uint64_t slot = at / node::kMetaSlotSize * node::kMetaSlotSize;
  if (file.size() < slot + 24) return;
  const std::uint32_t length = base::load_u32(&file[slot + 16]);
  if (length > file.size() - slot - 24) return;
  const base::ByteView bytes = base::ByteView(file).subspan(slot);
  base::store_u32(&file[slot + 20], base::crc32c(bytes.subspan(24, length), base::crc32c(bytes.first(20))));
}

void change(base::Env& env, fuzz::Input& in, bool mends) {
  static const std::string kPaths[] = {std::string(kDir) + "/id", std::string(kDir) + "/meta", kSegment};
  for (int changes = 0; !in.empty() && changes < 16; ++changes) {
    const std::string& path = kPaths[in.u8() % 3];
    const std::uint16_t where = in.u16();
    const bool meta = path.ends_with("/meta");
    const std::uint64_t at = meta ? (where >> 15) * node::kMetaSlotSize + (where & 0x3ff) : where;
    const base::ByteView bytes = in.bytes(in.u8());
    auto file = env.open(path, base::OpenMode::kReadWrite);
    FUZZ_REQUIRE_OK(file);
    FUZZ_REQUIRE_OK((*file)->write(at, bytes));
    if (!mends) continue;
    auto all = base::read_file(env, path, std::size_t{4} << 20);
    FUZZ_REQUIRE_OK(all);
    mend(path, *all, at);
    FUZZ_REQUIRE_OK((*file)->write(0, *all));
  }
}

}  // namespace

void fuzz::run(base::ByteView input) {
  Input in(input);
  const std::uint8_t mode = in.u8();
  const bool mends = (mode & 1) != 0;
  const node::Config own = config((mode & 2) != 0);
  sim::SimDisk disk(1);
  const auto env = disk.boot();
  base::Result<node::Meta> before = live(*env, own);
  FUZZ_REQUIRE_OK(before);
  for (int i = (mode >> 2) % 4; i > 0; --i) {
    const std::uint64_t boot = before->boot;
    before = live(*env, own);
    FUZZ_REQUIRE_OK(before);
    FUZZ_REQUIRE(before->boot == boot + 1);
  }
  if (own.embedded()) FUZZ_REQUIRE_OK(env->open(std::string(kDir) + "/db/app.db", base::OpenMode::kCreate));
  change(*env, in, mends);
  const auto after = live(*env, own);
  if (!after) {
    const base::Error& error = after.error();
    FUZZ_REQUIRE(error.code == Code::kConfig || error.code == Code::kCorrupt || error.code == Code::kNewerFormat);
    return;
  }
  accepted();
  const bool new_life = after->incarnation != before->incarnation;
  FUZZ_CANARY(new_life);
  FUZZ_REQUIRE(!new_life || !own.embedded() || mends);
  // An origin is (incarnation, boot, sequence): a boot that counted once must not count again (R7).
  if (!mends) FUZZ_REQUIRE(after->boot == (new_life ? 1 : before->boot + 1));
  const auto next = live(*env, own);
  FUZZ_REQUIRE_OK(next);
  FUZZ_REQUIRE(next->incarnation == after->incarnation && next->boot == after->boot + 1);
}

std::vector<fuzz::Seed> fuzz::seeds() {
  const auto bytes = [](std::initializer_list<int> list) {
    Bytes out;
    for (const int each : list) out.push_back(static_cast<std::byte>(each));
    return out;
  };
  return {{"valid-untouched", bytes({4})},
          {"valid-embedded", bytes({6})},
          {"valid-same-bytes", bytes({5, 0, 0, 0, 2, 'H', 'Q', 1, 0, 0, 1, 'H'})},
          {"another-node", bytes({1, 0, 8, 0, 1, 2})},
          {"new-life", bytes({0, 0, 20, 0, 1, 0, 2, 0, 16, 4, 1, 2, 3, 4})}};
}

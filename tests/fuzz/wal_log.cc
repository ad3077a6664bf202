// Fuzz target: the log directory (wal/). Files of any bytes over the in-memory disk of the log's tests: the log is refused with an error, or
// opens; what opens reads back entry by entry, goes on, and is found again as it was left. What verify() calls sound opens without damage.
//
// input: mode u8 (odd: checksums are made right) | a list of
//   0 file: sequence u8 | blocks u8        a new file of zeros, at most 24 blocks
//   1 place: block u8 | offset u16         where the next bytes go
//   2 bytes: length u8 | bytes             into the file, which does not grow
// and any other byte is the end.
#include <cstdio>
#include <cstdlib>
#include <optional>

#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/wal_image.h"
#include "tests/wal/disk_env.h"
#include "wal/log.h"

namespace {

using base::Bytes;
using base::Index;
using base::LogId;
using base::Term;

constexpr base::Group kGroups[] = {base::Group::kData, base::Group::kCache};
constexpr std::size_t kBlocksMax = 24;
constexpr std::size_t kFilesMax = 4;

wal::Options options() {
  wal::Options options;
  options.dir = "log";
  options.identity = {7, base::NodeId(1), base::Incarnation(99)};
  options.segment_size = 65536;
  options.ready_segments = 0;
  return options;
}

void make_files(fuzz::Input& in, wal_test::DiskEnv& env, bool mend) {
  std::string path;
  Bytes file;
  std::size_t at = 0;
  std::size_t files = 0;
  const auto put = [&] {
    if (path.empty()) return;
    if (mend) fuzz::mend_segment(file);
    env.put(path, file);
  };
  for (bool more = true; more && !in.empty();) {
    switch (in.u8()) {
      case 0:
        put();
        more = ++files <= kFilesMax;
        path = more ? "log/" + wal::segment_name(in.u8()) : "";
        file.assign(wal::kBlockSize * (in.u8() % (kBlocksMax + 1)), std::byte{0});
        at = 0;
        break;
      case 1:
        at = in.u8() * wal::kBlockSize;
        at += in.u16();
        break;
      case 2: {
        const base::ByteView bytes = in.bytes(in.u8());
        for (const std::byte each : bytes)
          if (at < file.size()) file[at++] = each;
        break;
      }
      default:
        more = false;
    }
  }
  put();
}

// What a log holds, with the payloads.
struct Contents {
  Bytes hard_state;
  LogId floor;
  std::vector<base::Entry> entries;
};

LogId last_of(const Contents& contents) {
  return contents.entries.empty() ? contents.floor : contents.entries.back().id;
}

// Nothing: an entry cannot be read back.
std::optional<Contents> read_all(wal::Opened& opened, base::Group group) {
  const wal::Recovered& found = opened.groups[static_cast<std::size_t>(group) - 1];
  Contents out{found.hard_state, found.floor, {}};
  FUZZ_REQUIRE(found.sizes.size() == found.entries.size());
  Index index = found.floor.index;
  for (std::size_t i = 0; i < found.entries.size(); ++i) {
    index = index.next();
    FUZZ_REQUIRE(found.entries[i].id.index == index);
    auto read = opened.log->read(group, index, index, 1);
    if (!read) {
      FUZZ_REQUIRE(read.error().code == base::Code::kCorrupt);
      return std::nullopt;
    }
    FUZZ_REQUIRE(read->size() == 1 && (*read)[0].id == found.entries[i].id && (*read)[0].kind == found.entries[i].kind);
    FUZZ_REQUIRE((*read)[0].size() == found.sizes[i]);
    out.entries.push_back((*read)[0]);
  }
  FUZZ_REQUIRE(!opened.log->read(group, index.next(), index.next(), 1));
  return out;
}

bool same(const Contents& one, const Contents& two) {
  // A floor that was only read may be higher the next time, never lower, and entries below it may be gone.
  if (one.hard_state != two.hard_state || two.floor.index < one.floor.index || last_of(one) != last_of(two))
    return false;
  const std::size_t gone = std::min<std::size_t>(two.floor.index.value - one.floor.index.value, one.entries.size());
  if (one.entries.size() - gone != two.entries.size()) return false;
  for (std::size_t i = 0; i < two.entries.size(); ++i) {
    const base::Entry& a = one.entries[i + gone];
    const base::Entry& b = two.entries[i];
    const base::ByteView a_bytes = base::view_of(a.payload);
    const base::ByteView b_bytes = base::view_of(b.payload);
    if (a.id != b.id || a.kind != b.kind || !std::equal(a_bytes.begin(), a_bytes.end(), b_bytes.begin(), b_bytes.end()))
      return false;
  }
  return true;
}

}  // namespace

void fuzz::run(base::ByteView input) {
  Input in(input);
  wal_test::DiskEnv env(1);
  const bool mend = in.u8() % 2 == 1;
  make_files(in, env, mend);
  const auto before = env.snapshot();
  const base::Status verified = wal::verify(env, "log");
  const bool trace = std::getenv("FUZZ_TRACE") != nullptr;
  const base::Status dumped = wal::dump(env, "log", [trace](const std::string& line) {
    FUZZ_REQUIRE(!line.empty());
    if (trace) std::fprintf(stderr, "%s\n", line.c_str());
  });
  FUZZ_REQUIRE(env.snapshot() == before);  // both only read

  auto opened = wal::Log::open(env, options());
  if (!opened) {
    FUZZ_REQUIRE(opened.error().code == base::Code::kCorrupt || opened.error().code == base::Code::kMisuse ||
                 opened.error().code == base::Code::kNewerFormat);
    FUZZ_REQUIRE(env.snapshot() == before);  // a log that is refused is left as it is
    if (verified)
      FUZZ_REQUIRE(opened.error().code == base::Code::kMisuse);  // only verify() does not mind whose log it is
    return;
  }
  accepted();
  const bool was_damaged = opened->damage.has_value();
  if (verified) FUZZ_REQUIRE(!was_damaged);
  Contents contents[2];
  for (std::size_t i = 0; i < 2; ++i) {
    auto read = read_all(*opened, kGroups[i]);
    // Only a record that contradicts itself under a right checksum gets this far and cannot be read; verify() says so.
    FUZZ_REQUIRE(read || (mend && !verified));
    if (!read) return;
    contents[i] = std::move(*read);
  }
  FUZZ_CANARY(was_damaged && !contents[0].entries.empty());
  FUZZ_REQUIRE(opened->created || dumped);

  // It goes on, also after damage, and the next start finds both.
  std::vector<wal::Append> appends(2);
  for (std::size_t i = 0; i < 2; ++i) {
    const LogId last = last_of(contents[i]);
    const auto payload = base::share(base::copy_of(base::view_of("behind what was found")));
    appends[i].group = kGroups[i];
    appends[i].hard_state = Bytes(40, std::byte{0x21});
    appends[i].entries = {{{Term(last.term.value + 1), last.index.next()}, base::EntryKind::kData, payload}};
    contents[i].hard_state = *appends[i].hard_state;
    contents[i].entries.push_back(appends[i].entries[0]);
  }
  FUZZ_REQUIRE_OK(opened->log->append_batch(appends));
  opened->log.reset();
  env.power_cut(wal_test::DiskEnv::Tear::kAllLost);  // what append_batch() said is durable
  if (trace)
    FUZZ_REQUIRE_OK(wal::dump(env, "log", [](const std::string& line) { std::fprintf(stderr, "%s\n", line.c_str()); }));
  auto again = wal::Log::open(env, options());
  FUZZ_REQUIRE_OK(again);
  FUZZ_REQUIRE(!again->created);
  for (std::size_t i = 0; i < 2; ++i) {
    const auto found = read_all(*again, kGroups[i]);
    // Nonsense under right checksums is no damage that a disk makes: a start may then find less of it than the one before.
    if (!mend || !was_damaged) FUZZ_REQUIRE(found && same(contents[i], *found));
  }
  FUZZ_REQUIRE_OK(again->log->seal());
}

std::vector<fuzz::Seed> fuzz::seeds() {
  const auto image = [](const wal_test::DiskEnv& env, std::uint8_t mode) {
    base::Writer out;
    out.u8(mode);
    for (const auto& [path, file] : env.snapshot()) {
      const auto sequence = wal::sequence_of(path.substr(4));
      if (!sequence) continue;
      out.u8(0);
      out.u8(static_cast<std::uint8_t>(*sequence));
      std::size_t blocks = 3;  // trailing zeros are left out
      for (std::size_t at = 0; at < file.size(); ++at)
        if (file[at] != std::byte{0}) blocks = at / wal::kBlockSize + 2;
      out.u8(static_cast<std::uint8_t>(std::min({blocks, kBlocksMax, file.size() / wal::kBlockSize})));
      constexpr std::size_t kRow = 16;
      std::size_t next = SIZE_MAX;
      for (std::size_t at = 0; at < file.size(); at += kRow) {
        const base::ByteView row = base::ByteView(file).subspan(at, kRow);
        if (std::all_of(row.begin(), row.end(), [](std::byte b) { return b == std::byte{0}; })) continue;
        if (at != next) {
          out.u8(1);
          out.u8(static_cast<std::uint8_t>(at / wal::kBlockSize));
          out.u16(static_cast<std::uint16_t>(at % wal::kBlockSize));
        }
        out.u8(2);
        out.u8(kRow);
        out.raw(row);
        next = at + kRow;
      }
    }
    return out.take();
  };
  const auto entry = [](std::uint64_t term, std::uint64_t index, base::EntryKind kind, std::size_t size) {
    base::Entry made{{Term(term), Index(index)}, kind, nullptr};
    if (kind != base::EntryKind::kNoop) made.payload = base::share(Bytes(size));
    return made;
  };
  using base::EntryKind;
  wal_test::DiskEnv small(1);
  wal_test::DiskEnv rich(2);
  wal_test::DiskEnv sealed(3);
  {
    auto opened = wal::Log::open(small, options());
    FUZZ_REQUIRE_OK(opened);
    wal::Append append;
    append.hard_state = Bytes(5, std::byte{0x11});
    append.entries = {entry(1, 1, EntryKind::kNoop, 0), entry(1, 2, EntryKind::kConfig, 40),
                      entry(1, 3, EntryKind::kData, 100)};
    FUZZ_REQUIRE_OK(opened->log->append_batch({append}));
  }
  {
    auto opened = wal::Log::open(rich, options());
    FUZZ_REQUIRE_OK(opened);
    wal::Append append;
    append.entries = {entry(1, 1, EntryKind::kNoop, 0), entry(1, 2, EntryKind::kConfig, 40),
                      entry(1, 3, EntryKind::kData, 100)};
    wal::Append cache;
    cache.group = base::Group::kCache;
    cache.entries = {entry(1, 1, EntryKind::kNoop, 0)};
    FUZZ_REQUIRE_OK(opened->log->append_batch({append, cache}));
    wal::Append replace;
    replace.truncate_from = Index(3);
    replace.entries = {entry(2, 3, EntryKind::kData, 33)};
    FUZZ_REQUIRE_OK(opened->log->append_batch({replace}));
    FUZZ_REQUIRE_OK(opened->log->set_floor(base::Group::kData, {Term(1), Index(1)}));
    FUZZ_REQUIRE_OK(opened->log->reset(base::Group::kCache, {Term(2), Index(10)}));
    wal::Append large;
    large.entries = {entry(2, 4, EntryKind::kData, 50000)};
    FUZZ_REQUIRE_OK(opened->log->append_batch({large}));
  }
  {
    auto opened = wal::Log::open(sealed, options());
    FUZZ_REQUIRE_OK(opened);
    wal::Append append;
    append.entries = {entry(1, 1, EntryKind::kData, 10)};
    FUZZ_REQUIRE_OK(opened->log->append_batch({append}));
    FUZZ_REQUIRE_OK(opened->log->seal());
  }
  return {{"valid-small", image(small, 0)},
          {"valid-small-mended", image(small, 1)},
          {"valid-two-segments", image(rich, 0)},
          {"valid-two-segments-mended", image(rich, 1)},
          {"valid-sealed", image(sealed, 0)},
          {"valid-sealed-mended", image(sealed, 1)},
          {"valid-empty", Bytes(1)}};
}

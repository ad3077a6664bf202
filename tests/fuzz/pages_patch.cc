// Fuzz target: patches of pages (pages/patch.cc). A hostile patch does what a plain model does and never leaves the page (its memory is
// exactly one page); a patch that was made gives the image it was made for, also when it is applied again.
//
// input: size u8 (512 << size % 8) | old image u8 (0: none, 1: zeros, else a pattern) | mode u8
//   mode even: kind u8 | patch body ...        odd: edits { offset u16 | length u8 | bytes } ...
#include <cstring>
#include <optional>

#include "base/random.h"
#include "pages/tx.h"
#include "tests/fuzz/fuzz.h"

namespace {

using base::Bytes;

Bytes pattern(std::uint8_t choice, std::size_t size) {
  Bytes image(size);
  base::Random random(choice);
  if (choice > 1)
    for (std::byte& each : image) each = static_cast<std::byte>(random.next() % (choice % 2 == 0 ? 256 : 2));
  return image;
}

// A varint as docs/FORMATS.md says; nothing when it ends early, is longer than 64 bits, or is not the shortest one.
std::optional<std::uint64_t> varint(const Bytes& in, std::size_t& at) {
  std::uint64_t value = 0;
  for (unsigned shift = 0; shift < 64 && at < in.size(); shift += 7) {
    const auto byte = std::to_integer<std::uint64_t>(in[at++]);
    if (shift == 63 && byte > 1) return std::nullopt;
    if (byte == 0 && shift > 0) return std::nullopt;
    value |= (byte & 0x7f) << shift;
    if (byte < 0x80) return value;
  }
  return std::nullopt;
}

// The page after the patch; nothing when the patch is malformed.
std::optional<Bytes> model(const pages::Patch& patch, const Bytes& before) {
  if (patch.kind == pages::PatchKind::kFull)
    return patch.body.size() == before.size() ? std::optional(patch.body) : std::nullopt;
  Bytes page = patch.kind == pages::PatchKind::kZeros ? Bytes(before.size()) : before;
  std::size_t position = 0;
  for (std::size_t at = 0; at < patch.body.size();) {
    const auto gap = varint(patch.body, at);
    if (!gap) return std::nullopt;
    const auto length = varint(patch.body, at);
    if (!length || *gap > page.size() - position) return std::nullopt;
    position += *gap;
    if (*length == 0 || *length > page.size() - position || *length > patch.body.size() - at) return std::nullopt;
    for (std::uint64_t i = 0; i < *length; ++i) page[position++] = patch.body[at++];
  }
  return page;
}

void hostile(fuzz::Input& in, const Bytes& before) {
  pages::Patch patch;
  patch.page = 7;
  patch.kind = static_cast<pages::PatchKind>(1 + in.u8() % 3);
  patch.body = base::copy_of(in.rest());
  Bytes image = before;
  const base::Status applied = pages::apply_patch(patch, image);
  const auto expected = model(patch, before);
  FUZZ_REQUIRE(applied.has_value() == expected.has_value());
  if (!applied) {
    FUZZ_REQUIRE(applied.error().code == base::Code::kCorrupt);
    return;
  }
  fuzz::accepted();
  FUZZ_REQUIRE(image == *expected);
  FUZZ_REQUIRE_OK(pages::apply_patch(patch, image));
  FUZZ_REQUIRE(image == *expected);
  FUZZ_CANARY(patch.kind == pages::PatchKind::kZeros && image[0] != std::byte{0} && image[0] != std::byte{7});
}

void made(fuzz::Input& in, const Bytes& before, bool exists) {
  Bytes after = before;
  while (!in.empty()) {
    const std::size_t offset = in.u16() % after.size();
    const base::ByteView bytes = in.bytes(std::min<std::size_t>(in.u8(), after.size() - offset));
    std::copy(bytes.begin(), bytes.end(), after.begin() + static_cast<std::ptrdiff_t>(offset));
  }
  fuzz::accepted();
  const pages::Patch patch = pages::make_patch(7, exists ? base::ByteView(before) : base::ByteView(), after);
  FUZZ_REQUIRE(patch.page == 7);
  FUZZ_REQUIRE(patch.kind == pages::PatchKind::kFull ? patch.body == after : patch.body.size() < after.size());
  if (patch.kind == pages::PatchKind::kRuns) FUZZ_REQUIRE(patch.body.empty() == (before == after));
  if (!exists) FUZZ_REQUIRE(patch.kind != pages::PatchKind::kRuns);
  Bytes image = before;
  FUZZ_REQUIRE_OK(pages::apply_patch(patch, image));
  FUZZ_REQUIRE(image == after);
  FUZZ_REQUIRE_OK(pages::apply_patch(patch, image));
  FUZZ_REQUIRE(image == after);
  FUZZ_REQUIRE(model(patch, before) == after);
}

}  // namespace

void fuzz::run(base::ByteView input) {
  Input in(input);
  const std::size_t size = std::size_t{512} << in.u8() % 8;
  const std::uint8_t choice = in.u8();
  const Bytes before = pattern(choice, size);
  if (in.u8() % 2 == 0)
    hostile(in, before);
  else
    made(in, before, choice != 0);
}

std::vector<fuzz::Seed> fuzz::seeds() {
  const auto bytes = [](std::initializer_list<int> list) {
    Bytes out;
    for (const int each : list) out.push_back(static_cast<std::byte>(each));
    return out;
  };
  return {{"valid-runs", bytes({0, 2, 0, 0, 5, 3, 1, 2, 3, 0x80, 2, 1, 9})},
          {"valid-zeros", bytes({3, 3, 0, 1, 0, 2, 7, 7, 100, 4, 1, 2, 3, 4})},
          {"valid-empty", bytes({1, 1, 0, 0})},
          {"beyond-the-page", bytes({0, 2, 0, 0, 0xff, 3, 3, 1, 2, 3})},
          {"valid-made", bytes({3, 2, 1, 10, 0, 4, 1, 2, 3, 4, 20, 0, 2, 9, 9, 0xff, 0x0f, 1, 1})},
          {"valid-made-new", bytes({0, 0, 1, 0, 0, 3, 1, 0, 1, 0xff, 1, 1, 5})}};
}

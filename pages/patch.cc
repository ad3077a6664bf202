// Patches: the byte runs that make one page image out of another (pages/tx.h gives the format). Called at the held commit (make) and by
// the apply lane and recovery (apply). Any thread.
#include <array>
#include <bit>
#include <cstring>

#include "pages/body.h"
#include "pages/tx.h"

namespace pages {
namespace {

// Equal bytes between two runs that are cheaper to repeat than a second run's two length bytes.
constexpr std::size_t kJoinGap = 2;
constexpr std::size_t kStride = 64;

std::uint64_t word_at(const std::byte* at) {
  std::uint64_t word = 0;
  std::memcpy(&word, at, sizeof word);
  return word;
}

// Position of the first byte at or after `from` where the images differ; `size` when there is none.
std::size_t next_difference(const std::byte* before, const std::byte* after, std::size_t from, std::size_t size) {
  std::size_t at = from;
  while (at + kStride <= size && std::memcmp(before + at, after + at, kStride) == 0) at += kStride;
  for (; at + 8 <= size; at += 8) {
    const std::uint64_t changed = word_at(before + at) ^ word_at(after + at);
    if (changed != 0) return at + static_cast<std::size_t>(std::countr_zero(changed)) / 8;
  }
  for (; at < size; ++at)
    if (before[at] != after[at]) return at;
  return size;
}

bool has_zero_byte(std::uint64_t word) { return ((word - 0x0101010101010101ULL) & ~word & 0x8080808080808080ULL) != 0; }

// End of the run that begins at `from`: the first byte of an equal stretch longer than kJoinGap, or of the equal tail.
std::size_t run_end(const std::byte* before, const std::byte* after, std::size_t from, std::size_t size) {
  std::size_t end = from + 1;  // just behind the last byte known to differ
  std::size_t at = end;
  while (at < size && at - end <= kJoinGap) {
    if (at + 8 <= size && !has_zero_byte(word_at(before + at) ^ word_at(after + at))) {
      at += 8;
      end = at;
      continue;
    }
    const bool differs = before[at] != after[at];
    ++at;
    if (differs) end = at;
  }
  return end;
}

std::size_t put_varint(std::byte* out, std::size_t value) {
  std::size_t size = 0;
  for (; value >= 0x80; value >>= 7) out[size++] = static_cast<std::byte>(value | 0x80);
  out[size++] = static_cast<std::byte>(value);
  return size;
}

alignas(64) constexpr std::array<std::byte, kPageSizeMax> kZeroPage{};

}  // namespace

Patch make_patch(PageNo page, base::ByteView before, base::ByteView after) {
  CHECK(valid_page_size(static_cast<std::uint32_t>(after.size())));
  CHECK(before.empty() || before.size() == after.size());
  Patch patch;
  patch.page = page;
  patch.kind = before.empty() ? PatchKind::kZeros : PatchKind::kRuns;
  const std::byte* old_bytes = before.empty() ? kZeroPage.data() : before.data();
  const std::size_t size = after.size();
  const auto make_full = [&] {
    patch.kind = PatchKind::kFull;
    patch.body.assign(after.begin(), after.end());
    return patch;
  };
  std::array<std::byte, 512> small;  // most patches fit: one exact allocation at the end
  std::size_t used = 0;
  std::size_t previous_end = 0;
  for (std::size_t at = next_difference(old_bytes, after.data(), 0, size); at < size;) {
    const std::size_t end = run_end(old_bytes, after.data(), at, size);
    std::byte head[6];
    std::size_t head_size = put_varint(head, at - previous_end);
    head_size += put_varint(head + head_size, end - at);
    const std::size_t run = head_size + (end - at);
    if (patch.body.size() + used + run >= size) return make_full();
    if (used + run > small.size()) {
      patch.body.insert(patch.body.end(), small.begin(), small.begin() + static_cast<std::ptrdiff_t>(used));
      used = 0;
    }
    if (run > small.size()) {
      patch.body.insert(patch.body.end(), head, head + head_size);
      patch.body.insert(patch.body.end(), after.begin() + static_cast<std::ptrdiff_t>(at),
                        after.begin() + static_cast<std::ptrdiff_t>(end));
    } else {
      std::memcpy(small.data() + used, head, head_size);
      std::memcpy(small.data() + used + head_size, after.data() + at, end - at);
      used += run;
    }
    previous_end = end;
    at = end < size ? next_difference(old_bytes, after.data(), end, size) : size;
  }
  patch.body.insert(patch.body.end(), small.begin(), small.begin() + static_cast<std::ptrdiff_t>(used));
  return patch;
}

base::Status apply_patch(const Patch& patch, base::MutableByteView image) {
  const auto corrupt = [&](const char* what) {
    return base::make_error(base::Code::kCorrupt, "patch of page " + std::to_string(patch.page) + ": " + what);
  };
  if (patch.kind == PatchKind::kFull) {
    if (patch.body.size() != image.size()) return corrupt("the full image has another size than the page");
    std::memcpy(image.data(), patch.body.data(), image.size());
    return base::ok();
  }
  if (patch.kind == PatchKind::kZeros) std::memset(image.data(), 0, image.size());
  base::Reader in(patch.body);
  std::size_t at = 0;
  while (!in.at_end()) {
    const std::uint64_t gap = in.varint();
    const std::uint64_t size = in.varint();
    if (!in.ok()) return corrupt("ends inside a run");
    if (gap > image.size() - at) return corrupt("a run begins behind the page");
    at += static_cast<std::size_t>(gap);
    if (size == 0 || size > image.size() - at) return corrupt("a run leaves the page");
    const base::ByteView bytes = in.raw(static_cast<std::size_t>(size));
    if (!in.ok()) return corrupt("ends inside a run");
    std::memcpy(image.data() + at, bytes.data(), bytes.size());
    at += static_cast<std::size_t>(size);
  }
  return base::ok();
}

}  // namespace pages

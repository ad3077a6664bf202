// Bodies of entries: see body.h. The format:
//
//   { u64 incarnation | varint boot | varint sequence | varint size | result bytes }   * request_count (of the header)
//   varint patches in this entry
//   { varint page - previous page (>= 1) | u8 kind | varint size | patch body }        * patches
//
// Pages ascend strictly, so an entry cannot name a page twice. Integers are little-endian.
#include "pages/body.h"

#include <lz4.h>

#include <algorithm>
#include <numeric>

namespace pages {
namespace {

// Below this LZ4 never pays: its own overhead and the call are more than the gain.
constexpr std::size_t kCompressMin = 96;
// LZ4 cannot expand further than this: 255 bytes per length byte.
constexpr std::uint64_t kExpansionMax = 255;

base::Error corrupt(const std::string& what) { return base::make_error(base::Code::kCorrupt, "entry: " + what); }

std::vector<std::size_t> order_by_page(const std::vector<Patch>& patches) {
  std::vector<std::size_t> order(patches.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto by_page = [&](std::size_t left, std::size_t right) { return patches[left].page < patches[right].page; };
  if (!std::is_sorted(order.begin(), order.end(), by_page)) std::sort(order.begin(), order.end(), by_page);
  return order;
}

std::size_t patch_body_max(PatchKind kind, std::uint32_t page_size) {
  const std::size_t page = page_size == 0 ? kPageSizeMax : page_size;
  // make_patch never makes runs longer than the page; a foreign encoder may join nothing: at worst two length bytes per byte.
  return kind == PatchKind::kFull ? page : 3 * page;
}

}  // namespace

bool valid_page_size(std::uint32_t page_size) {
  return page_size >= kPageSizeMin && page_size <= kPageSizeMax && (page_size & (page_size - 1)) == 0;
}

base::Bytes encode_body(const std::vector<RequestRecord>& requests, const std::vector<Patch>& patches) {
  base::Writer out;
  std::size_t estimate = 16;
  for (const Patch& patch : patches) estimate += patch.body.size() + 12;
  for (const RequestRecord& request : requests) estimate += request.result.size() + 32;
  out.buffer().reserve(estimate);
  for (const RequestRecord& request : requests) {
    CHECK(request.result.size() <= kRequestResultMax);
    out.u64(request.origin.incarnation.value);
    out.varint(request.origin.boot);
    out.varint(request.origin.sequence);
    out.varint(request.result.size());
    out.raw(request.result);
  }
  out.varint(patches.size());
  PageNo previous = 0;
  for (const std::size_t at : order_by_page(patches)) {
    const Patch& patch = patches[at];
    CHECK(patch.page > previous);
    out.varint(patch.page - previous);
    previous = patch.page;
    out.u8(static_cast<std::uint8_t>(patch.kind));
    out.varint(patch.body.size());
    out.raw(patch.body);
  }
  CHECK(out.size() <= kBodyMax);
  return out.take();
}

StoredBody store_body(base::Bytes body) {
  StoredBody stored;
  stored.plain_size = body.size();
  if (body.size() >= kCompressMin) {
    // Only a gain of an eighth or more is worth decoding it on every node.
    const std::size_t budget = body.size() - body.size() / 8;
    base::Bytes packed(budget);
    const int size =
        LZ4_compress_default(reinterpret_cast<const char*>(body.data()), reinterpret_cast<char*>(packed.data()),
                             static_cast<int>(body.size()), static_cast<int>(budget));
    if (size > 0) {
      packed.resize(static_cast<std::size_t>(size));
      stored.compressed = true;
      stored.bytes = std::move(packed);
      return stored;
    }
  }
  stored.bytes = std::move(body);
  return stored;
}

base::Result<base::Bytes> load_body(base::ByteView stored, bool compressed, std::uint64_t plain_size) {
  if (plain_size > kBodyMax) return corrupt("body of " + std::to_string(plain_size) + " bytes is over the limit");
  if (!compressed) {
    if (stored.size() != plain_size)
      return corrupt("body is " + std::to_string(stored.size()) + " bytes, header says " + std::to_string(plain_size));
    return base::copy_of(stored);
  }
  if (stored.size() > kBodyMax) return corrupt("compressed body is over the limit");
  if (plain_size > kExpansionMax * stored.size() + 64)
    return corrupt("body cannot expand to " + std::to_string(plain_size) + " bytes");
  base::Bytes plain(static_cast<std::size_t>(plain_size));
  const int size =
      LZ4_decompress_safe(reinterpret_cast<const char*>(stored.data()), reinterpret_cast<char*>(plain.data()),
                          static_cast<int>(stored.size()), static_cast<int>(plain_size));
  if (size < 0 || static_cast<std::uint64_t>(size) != plain_size) return corrupt("body does not decompress");
  return plain;
}

base::Result<std::vector<RequestRecord>> decode_body_requests(base::Reader& reader, std::uint32_t request_count) {
  std::vector<RequestRecord> requests;
  if (request_count > reader.remaining() / 11) return corrupt("more requests than bytes");
  requests.reserve(request_count);
  for (std::uint32_t i = 0; i < request_count; ++i) {
    RequestRecord request;
    request.origin.incarnation = base::Incarnation(reader.u64());
    request.origin.boot = reader.varint();
    request.origin.sequence = reader.varint();
    const std::uint64_t size = reader.varint();
    if (size > kRequestResultMax) return corrupt("result of " + std::to_string(size) + " bytes is over the limit");
    request.result = base::copy_of(reader.raw(static_cast<std::size_t>(size)));
    if (!reader.ok()) return corrupt("ends inside a request record");
    requests.push_back(std::move(request));
  }
  return requests;
}

base::Result<std::vector<Patch>> decode_body_patches(base::Reader& reader, std::uint32_t page_size) {
  const std::uint64_t count = reader.varint();
  if (!reader.ok() || count > reader.remaining() / 3) return corrupt("more patches than bytes");
  std::vector<Patch> patches;
  patches.reserve(static_cast<std::size_t>(count));
  std::uint64_t page = 0;
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::uint64_t step = reader.varint();
    if (step == 0 || step > UINT32_MAX - page) return corrupt("page numbers do not ascend");
    page += step;
    Patch patch;
    patch.page = static_cast<PageNo>(page);
    const std::uint8_t kind = reader.u8();
    if (kind < 1 || kind > 3) return corrupt("patch kind " + std::to_string(kind));
    patch.kind = static_cast<PatchKind>(kind);
    const std::uint64_t size = reader.varint();
    if (size > patch_body_max(patch.kind, page_size)) return corrupt("patch of " + std::to_string(size) + " bytes");
    if (patch.kind == PatchKind::kFull &&
        (page_size == 0 ? !valid_page_size(static_cast<std::uint32_t>(size)) : size != page_size))
      return corrupt("full image of " + std::to_string(size) + " bytes");
    patch.body = base::copy_of(reader.raw(static_cast<std::size_t>(size)));
    if (!reader.ok()) return corrupt("ends inside a patch");
    patches.push_back(std::move(patch));
  }
  return patches;
}

}  // namespace pages

// The part of an entry that may be LZ4'd: request records and patches (docs/FORMATS.md, "Entries", draws it).
// Private to pages/: tx.cc frames the bodies. Value functions, any thread.
#pragma once

#include <cstdint>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "pages/tx.h"

namespace pages {

// A body uncompressed is at most this long, so that an entry with its header stays within base::kEntryPayloadMax.
inline constexpr std::size_t kBodyMax = base::kEntryPayloadMax - 4096;
inline constexpr std::uint32_t kPageSizeMin = 512;
inline constexpr std::uint32_t kPageSizeMax = 65536;

bool valid_page_size(std::uint32_t page_size);

base::Bytes encode_body(const std::vector<RequestRecord>& requests, const std::vector<Patch>& patches);

// How a body rests in an entry.
struct StoredBody {
  bool compressed = false;
  std::size_t plain_size = 0;
  base::Bytes bytes;
};
StoredBody store_body(base::Bytes body);

// The plain bytes; `stored` is the rest of the entry. kCorrupt when the sizes cannot be true: nothing is allocated then.
base::Result<base::Bytes> load_body(base::ByteView stored, bool compressed, std::uint64_t plain_size);

// Both in order; `page_size` 0: not known. kCorrupt names what is wrong.
base::Result<std::vector<RequestRecord>> decode_body_requests(base::Reader& reader, std::uint32_t request_count);
base::Result<std::vector<Patch>> decode_body_patches(base::Reader& reader, std::uint32_t page_size);

}  // namespace pages

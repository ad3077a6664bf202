// Checksums. CRC32C (Castagnoli; RFC 3720 appendix B.4) guards log records and frames, xxh3-64 identifies page contents.
#pragma once

#include <cstdint>

#include "base/bytes.h"

namespace base {

// CRC32C of `bytes`, continuing from `seed` (the result of a previous call; 0 to start). SSE4.2 where the CPU has it.
std::uint32_t crc32c(ByteView bytes, std::uint32_t seed = 0);
// The same by tables alone: what crc32c() uses where the CPU has no instruction for it. Named for tests and benchmarks.
std::uint32_t crc32c_by_tables(ByteView bytes, std::uint32_t seed = 0);
bool crc32c_has_hardware();
// XXH3-64 with a seed (the `pages` folder seeds with the page number).
std::uint64_t xxh3(ByteView bytes, std::uint64_t seed = 0);

}  // namespace base

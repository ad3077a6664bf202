// How long random tests run: HQL_TEST_SCALE=ci|hour|night (TESTING.md, "Size").
#pragma once

#include <cstdint>
#include <cstdlib>
#include <string_view>

namespace sim {

// `ci` times 1, 20 or 200.
inline std::uint64_t scaled(std::uint64_t ci) {
  const char* const scale = std::getenv("HQL_TEST_SCALE");
  if (scale == nullptr) return ci;
  if (std::string_view(scale) == "hour") return ci * 20;
  if (std::string_view(scale) == "night") return ci * 200;
  return ci;
}

}  // namespace sim

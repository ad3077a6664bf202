// Random: a small seeded generator (xoshiro256**, state filled by splitmix64) for simulators, tests and Raft's election jitter.
// Same seed, same numbers, on every platform. Not for secrets or ids: those come from Env::random(). One thread at a time.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "base/check.h"

namespace base {

// One step of splitmix64: spreads the bits of a counter or a name over 64 bits.
constexpr std::uint64_t mix64(std::uint64_t value) {
  value += 0x9E3779B97F4A7C15ULL;
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9ULL;
  value = (value ^ (value >> 27)) * 0x94D049BB133111EBULL;
  return value ^ (value >> 31);
}

class Random {
 public:
  explicit constexpr Random(std::uint64_t seed) {
    for (std::uint64_t& word : state_) {
      word = mix64(seed);
      seed += 0x9E3779B97F4A7C15ULL;
    }
  }

  constexpr std::uint64_t next() {
    const std::uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
    const std::uint64_t shifted = state_[1] << 17;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= shifted;
    state_[3] = std::rotl(state_[3], 45);
    return result;
  }

  // Uniform in 0 .. bound - 1; bound > 0.
  constexpr std::uint64_t below(std::uint64_t bound) {
    CHECK(bound > 0);
    // Numbers from the incomplete last stretch of 2^64 would favour small results.
    const std::uint64_t unfair = (0 - bound) % bound;
    std::uint64_t number = next();
    while (number < unfair) number = next();
    return number % bound;
  }
  // Uniform in first .. last, both included.
  constexpr std::int64_t between(std::int64_t first, std::int64_t last) {
    CHECK(first <= last);
    const std::uint64_t span = static_cast<std::uint64_t>(last) - static_cast<std::uint64_t>(first);
    const std::uint64_t offset = span == UINT64_MAX ? next() : below(span + 1);
    return static_cast<std::int64_t>(static_cast<std::uint64_t>(first) + offset);
  }
  // True `numerator` times in `denominator`.
  constexpr bool chance(std::uint64_t numerator, std::uint64_t denominator) { return below(denominator) < numerator; }
  // A generator of its own for a named purpose: streams do not disturb each other.
  constexpr Random fork(std::uint64_t purpose) { return Random(next() ^ mix64(purpose)); }

  template <class Container>
  void shuffle(Container& items) {
    for (std::size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[static_cast<std::size_t>(below(i))]);
  }

 private:
  std::array<std::uint64_t, 4> state_{};
};

}  // namespace base

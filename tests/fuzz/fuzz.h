// What the fuzz targets share. A target is one file: run() takes one input and aborts when something that must hold does not, seeds()
// makes the inputs of its corpus. fuzz.cc gives both to libFuzzer; docs/TESTING.md, "Fuzzers", says how to run them. One thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/checksum.h"
#include "base/result.h"

namespace fuzz {

struct Seed {
  std::string name;  // a name that begins with "valid" promises that run() calls accepted()
  base::Bytes bytes;
};

// A target defines these two.
void run(base::ByteView input);
std::vector<Seed> seeds();

// The input got past the decoder. Seeds that no longer do are of no use: tests/fuzz/fuzz.py counts.
void accepted();

[[noreturn]] void fail(const char* file, int line, const char* what, const std::string& detail);
// The only difference between a fuzzer and its canary; so a target is compiled once.
extern const bool kPlanted;
[[noreturn]] void canary(const char* file, int line);

// Takes an input apart for targets whose input is not one encoded thing. Past the end everything is zero or empty.
class Input {
 public:
  explicit Input(base::ByteView bytes) : rest_(bytes) {}
  std::uint8_t u8() { return number<std::uint8_t>(); }
  std::uint16_t u16() { return number<std::uint16_t>(); }
  std::uint32_t u32() { return number<std::uint32_t>(); }
  std::uint64_t u64() { return number<std::uint64_t>(); }
  base::ByteView bytes(std::size_t size) {
    const base::ByteView part = rest_.first(std::min(size, rest_.size()));
    rest_ = rest_.subspan(part.size());
    return part;
  }
  base::ByteView rest() { return bytes(rest_.size()); }
  [[nodiscard]] bool empty() const { return rest_.empty(); }

 private:
  template <class Unsigned>
  Unsigned number() {
    std::byte all[sizeof(Unsigned)] = {};
    const base::ByteView part = bytes(sizeof(Unsigned));
    std::copy(part.begin(), part.end(), all);
    return base::load_le<Unsigned>(all);
  }
  base::ByteView rest_;
};

// A seed whose first byte chooses what the rest is.
inline base::Bytes chosen(std::uint8_t choice, base::ByteView rest) {
  base::Bytes bytes{std::byte{choice}};
  bytes.insert(bytes.end(), rest.begin(), rest.end());
  return bytes;
}

}  // namespace fuzz

#define FUZZ_REQUIRE(condition) ((condition) ? void() : ::fuzz::fail(__FILE__, __LINE__, #condition, {}))
#define FUZZ_REQUIRE_OK(result) \
  ((result) ? void() : ::fuzz::fail(__FILE__, __LINE__, #result, (result).error().message))
// A planted bug, only in the binary fuzz_<target>_canary: a few thousand inputs must find it (tests/fuzz/fuzz.py).
#define FUZZ_CANARY(condition) (::fuzz::kPlanted && (condition) ? ::fuzz::canary(__FILE__, __LINE__) : void())

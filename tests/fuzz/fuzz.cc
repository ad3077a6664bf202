// Between a target (fuzz.h) and libFuzzer: the two entry points that libFuzzer calls, and `<target> --seeds <folder>`, which writes the
// target's corpus.
#include "tests/fuzz/fuzz.h"

#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace fuzz {

#ifdef HQL_FUZZ_CANARY
const bool kPlanted = true;
#else
const bool kPlanted = false;
#endif

namespace {

std::size_t g_inputs = 0;
std::size_t g_accepted = 0;

void print_counts() { std::fprintf(stderr, "fuzz: accepted %zu of %zu inputs\n", g_accepted, g_inputs); }

int write_seeds(const std::string& folder) {
  for (const Seed& seed : seeds()) {
    const std::string path = folder + "/" + seed.name;
    std::FILE* const file = std::fopen(path.c_str(), "wb");
    if (file == nullptr) {
      std::perror(path.c_str());
      return 1;
    }
    const std::size_t written = std::fwrite(seed.bytes.data(), 1, seed.bytes.size(), file);
    if (std::fclose(file) != 0 || written != seed.bytes.size()) {
      std::perror(path.c_str());
      return 1;
    }
  }
  return 0;
}

}  // namespace

void accepted() { ++g_accepted; }

void fail(const char* file, int line, const char* what, const std::string& detail) {
  std::fprintf(stderr, "fuzz: %s:%d: not true: %s %s\n", file, line, what, detail.c_str());
  std::abort();
}

void canary(const char* file, int line) {
  std::fprintf(stderr, "fuzz: %s:%d: canary found\n", file, line);
  std::abort();
}

}  // namespace fuzz

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  if (*argc == 3 && std::string_view((*argv)[1]) == "--seeds") std::exit(fuzz::write_seeds((*argv)[2]));
  std::atexit(fuzz::print_counts);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  ++fuzz::g_inputs;
  // Memory of exactly this size: what is read behind the end is found.
  const std::vector<std::byte> input(reinterpret_cast<const std::byte*>(data),
                                     reinterpret_cast<const std::byte*>(data) + size);
  fuzz::run(input);
  return 0;
}

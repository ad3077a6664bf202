// Golden bytes: what a format's bytes are, version by version, in tests/<folder>/golden/<name>.hex (the target defines HQL_GOLDEN_DIR),
// kept for ever. HQL_REWRITE_GOLDEN=1 writes the files anew; the diff is then read by a person.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>

#include "base/bytes.h"

namespace testing_base {

inline std::string hex_lines(base::ByteView bytes) {
  static const char* digits = "0123456789abcdef";
  std::string text;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const auto value = std::to_integer<unsigned>(bytes[i]);
    text += digits[value >> 4];
    text += digits[value & 15];
    text += i % 16 == 15 || i + 1 == bytes.size() ? '\n' : ' ';
  }
  return text;
}

inline base::Bytes bytes_from(const std::string& text) {
  base::Bytes bytes;
  std::istringstream in(text);
  for (std::string pair; in >> pair;) bytes.push_back(static_cast<std::byte>(std::stoul(pair, nullptr, 16)));
  return bytes;
}

inline std::string golden_path(const std::string& name) { return std::string(HQL_GOLDEN_DIR) + "/" + name + ".hex"; }

inline std::string golden_text(const std::string& name) {
  std::ifstream file(golden_path(name));
  EXPECT_TRUE(file.is_open()) << golden_path(name);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

inline void rewrite_golden(const std::string& name, base::ByteView bytes) {
  if (std::getenv("HQL_REWRITE_GOLDEN") != nullptr) std::ofstream(golden_path(name)) << hex_lines(bytes);
}

// What is encoded now must be the file, whose bytes are returned, for the caller to decode.
inline base::Bytes check_golden(const std::string& name, base::ByteView bytes) {
  rewrite_golden(name, bytes);
  const std::string text = golden_text(name);
  EXPECT_EQ(text, hex_lines(bytes)) << golden_path(name);
  return bytes_from(text);
}

// What a decoder makes of bytes that are not the golden ones.
enum class Damage {
  kRefused,  // an error: the format has a checksum
  kNoticed,  // an error or another value
};

// Every other value of each byte, and every shorter length. `again` decodes and encodes what it found, nothing for an error: another
// value has other bytes, so getting the golden ones back means that the damage went unnoticed.
template <class Again>
void expect_damage(base::ByteView golden, Damage damage, Again again) {
  ASSERT_FALSE(golden.empty());
  const auto wrong = [&](base::ByteView bytes) {
    const std::optional<base::Bytes> found = again(bytes);
    if (!found) return false;
    return damage == Damage::kRefused || std::equal(found->begin(), found->end(), golden.begin(), golden.end());
  };
  const std::optional<base::Bytes> whole = again(golden);
  ASSERT_TRUE(whole.has_value()) << "the golden bytes are refused";
  ASSERT_EQ(hex_lines(*whole), hex_lines(golden)) << "the golden bytes are another value";
  base::Bytes bytes = base::copy_of(golden);
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    for (unsigned change = 1; change < 256; ++change) {
      bytes[at] = golden[at] ^ static_cast<std::byte>(change);
      ASSERT_FALSE(wrong(bytes)) << "byte " << at << " is " << std::to_integer<unsigned>(bytes[at]);
    }
    bytes[at] = golden[at];
  }
  for (std::size_t size = 0; size < golden.size(); ++size) ASSERT_FALSE(wrong(golden.first(size))) << "cut to " << size;
}

// For expect_damage: any decoder whose value has an encode().
template <class Decode>
auto reencoded(Decode decode) {
  return [decode](base::ByteView bytes) -> std::optional<base::Bytes> {
    const auto value = decode(bytes);
    if (!value) return std::nullopt;
    return encode(*value);
  };
}

}  // namespace testing_base

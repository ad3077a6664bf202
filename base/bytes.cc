// The longer functions of base/bytes.h. Any thread; a Reader or a Writer belongs to one thread at a time.
#include "base/bytes.h"

namespace base {
namespace {

constexpr std::size_t kVarintSizeMax = 10;  // 64 bits in groups of seven

}  // namespace

void Writer::varint(std::uint64_t value) {
  while (value >= 0x80) {
    u8(static_cast<std::uint8_t>(value | 0x80));
    value >>= 7;
  }
  u8(static_cast<std::uint8_t>(value));
}

std::uint64_t Reader::varint() {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < kVarintSizeMax; ++i) {
    const std::uint8_t byte = u8();
    if (!ok_) return 0;
    // The tenth byte holds bit 63 alone; more would be lost silently.
    if (i == kVarintSizeMax - 1 && byte > 1) break;
    value |= static_cast<std::uint64_t>(byte & 0x7F) << (7 * i);
    if ((byte & 0x80) == 0) {
      // One number has one encoding, so that equal values are equal bytes.
      if (byte == 0 && i > 0) break;
      return value;
    }
  }
  fail();
  return 0;
}

ByteView Reader::raw(std::size_t size) {
  if (size > rest_.size()) {
    fail();
    return {};
  }
  const ByteView bytes = rest_.first(size);
  rest_ = rest_.subspan(size);
  return bytes;
}

std::string hex16(std::uint64_t value) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text(16, '0');
  for (std::size_t i = text.size(); i-- > 0; value >>= 4) text[i] = kDigits[value & 15];
  return text;
}

}  // namespace base

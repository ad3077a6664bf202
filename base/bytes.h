// Bytes: views, owned and shared buffers, little- and big-endian loads and stores, and a bounded reader and a writer for
// every wire and disk format. A Reader never reads past its view: it turns "bad" and stays so (R18).
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace base {

using ByteView = std::span<const std::byte>;
using MutableByteView = std::span<std::byte>;
using Bytes = std::vector<std::byte>;
// Immutable payload. Shared by the consensus core's cache, the log lane, the transport and the apply lane.
using SharedBytes = std::shared_ptr<const Bytes>;

inline SharedBytes share(Bytes bytes) { return std::make_shared<const Bytes>(std::move(bytes)); }
inline ByteView view_of(const SharedBytes& bytes) { return bytes ? ByteView(*bytes) : ByteView(); }
inline ByteView view_of(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}
inline std::string_view text_of(ByteView bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }
inline Bytes copy_of(ByteView bytes) { return {bytes.begin(), bytes.end()}; }

template <class Unsigned>
Unsigned load_le(const std::byte* at) {
  Unsigned value = 0;
  for (std::size_t i = 0; i < sizeof(Unsigned); ++i)
    value = static_cast<Unsigned>(value | static_cast<Unsigned>(std::to_integer<std::uint64_t>(at[i]) << (8 * i)));
  return value;
}
template <class Unsigned>
void store_le(std::byte* at, Unsigned value) {
  for (std::size_t i = 0; i < sizeof(Unsigned); ++i)
    at[i] = static_cast<std::byte>(static_cast<std::uint64_t>(value) >> (8 * i));
}
inline std::uint16_t load_u16(const std::byte* at) { return load_le<std::uint16_t>(at); }
inline std::uint32_t load_u32(const std::byte* at) { return load_le<std::uint32_t>(at); }
inline std::uint64_t load_u64(const std::byte* at) { return load_le<std::uint64_t>(at); }
inline void store_u16(std::byte* at, std::uint16_t value) { store_le(at, value); }
inline void store_u32(std::byte* at, std::uint32_t value) { store_le(at, value); }
inline void store_u64(std::byte* at, std::uint64_t value) { store_le(at, value); }
// Big-endian, for SQLite's own formats.
inline std::uint32_t load_be32(const std::byte* at) { return __builtin_bswap32(load_u32(at)); }
inline void store_be32(std::byte* at, std::uint32_t value) { store_u32(at, __builtin_bswap32(value)); }

// Appends to a buffer it owns. Integers are little-endian; blobs and strings are u32 length + bytes.
class Writer {
 public:
  void u8(std::uint8_t value) { put(value); }
  void u16(std::uint16_t value) { put(value); }
  void u32(std::uint32_t value) { put(value); }
  void u64(std::uint64_t value) { put(value); }
  // Unsigned LEB128, 1 to 10 bytes.
  void varint(std::uint64_t value);
  void raw(ByteView bytes) { out_.insert(out_.end(), bytes.begin(), bytes.end()); }
  void blob(ByteView bytes) {
    u32(static_cast<std::uint32_t>(bytes.size()));
    raw(bytes);
  }
  void text(std::string_view text) { blob(view_of(text)); }
  [[nodiscard]] std::size_t size() const { return out_.size(); }
  [[nodiscard]] ByteView view() const { return out_; }
  Bytes take() { return std::move(out_); }
  Bytes& buffer() { return out_; }

 private:
  template <class Unsigned>
  void put(Unsigned value) {
    const std::size_t start = out_.size();
    out_.resize(start + sizeof(Unsigned));
    store_le(&out_[start], value);
  }
  Bytes out_;
};

// Reads from a view. After the first read past the end (or a malformed varint) ok() is false, and every
// result is zero or empty: check ok() once at the end, and lengths before loops that allocate.
class Reader {
 public:
  explicit Reader(ByteView bytes) : rest_(bytes) {}
  std::uint8_t u8() { return get<std::uint8_t>(); }
  std::uint16_t u16() { return get<std::uint16_t>(); }
  std::uint32_t u32() { return get<std::uint32_t>(); }
  std::uint64_t u64() { return get<std::uint64_t>(); }
  std::uint64_t varint();
  ByteView raw(std::size_t size);
  ByteView blob() { return raw(u32()); }
  std::string text() { return std::string(text_of(blob())); }
  [[nodiscard]] bool ok() const { return ok_; }
  [[nodiscard]] bool at_end() const { return ok_ && rest_.empty(); }
  [[nodiscard]] std::size_t remaining() const { return rest_.size(); }
  void fail() {
    ok_ = false;
    rest_ = {};
  }

 private:
  template <class Unsigned>
  Unsigned get() {
    if (rest_.size() < sizeof(Unsigned)) {
      fail();
      return 0;
    }
    const auto value = load_le<Unsigned>(rest_.data());
    rest_ = rest_.subspan(sizeof(Unsigned));
    return value;
  }
  ByteView rest_;
  bool ok_ = true;
};

// Lower-case hex of a 64-bit number, 16 digits.
std::string hex16(std::uint64_t value);

}  // namespace base

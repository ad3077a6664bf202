// The cryptography of the handshake and the frames (R18): SHA-256, HMAC-SHA256, HKDF-SHA256 and random bytes of
// OpenSSL's libcrypto, and FrameSeal, the check value of a stream of frames. Callers: net/handshake.cc,
// net/connection.cc. Any thread; a FrameSeal one at a time. Formats: docs/FORMATS.md, "Wire".
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "base/bytes.h"
#include "base/result.h"

struct evp_mac_ctx_st;

namespace net {

inline constexpr std::size_t kDigestSize = 32;
using Digest = std::array<std::byte, kDigestSize>;

// Errors of all: kInternal (the library refused or is out of memory).
base::Result<Digest> sha256(base::ByteView bytes);
base::Result<Digest> hmac_sha256(base::ByteView key, base::ByteView bytes);
// RFC 5869 with SHA-256, 32 bytes of output. `secret` is not empty.
base::Result<Digest> derive_key(base::ByteView secret, base::ByteView salt, std::string_view info);
base::Status fill_random(base::MutableByteView out);
// In time that does not depend on where they differ. False for different lengths.
bool equal_secret(base::ByteView left, base::ByteView right);

// The check value of the frames of one direction of one connection: with a key, HMAC-SHA256 over a frame counter and
// the frame, cut to 16 bytes, so that a frame cannot be forged, changed, repeated, dropped or moved; without one,
// CRC32C. A frame is begin(), any number of update(), finish(): large frames are worked off in slices.
class FrameSeal {
 public:
  static constexpr std::size_t kMacTagSize = 16;
  static constexpr std::size_t kCrcTagSize = 4;
  struct Tag {
    std::array<std::byte, kMacTagSize> bytes{};
    std::size_t size = 0;
    [[nodiscard]] base::ByteView view() const { return base::ByteView(bytes).first(size); }
  };

  static FrameSeal with_crc();
  static base::Result<FrameSeal> with_key(const Digest& key);
  FrameSeal(FrameSeal&&) noexcept;
  FrameSeal& operator=(FrameSeal&&) noexcept;
  ~FrameSeal();

  [[nodiscard]] std::size_t tag_size() const { return mac_ ? kMacTagSize : kCrcTagSize; }
  void begin(base::ByteView header);
  void update(base::ByteView part);
  // Errors: kInternal, also when the library failed since begin().
  base::Result<Tag> finish();

 private:
  struct FreeMac {
    void operator()(evp_mac_ctx_st* mac) const;
  };
  FrameSeal();
  std::unique_ptr<evp_mac_ctx_st, FreeMac> mac_;
  std::uint64_t counter_ = 0;
  std::uint32_t crc_ = 0;
  bool failed_ = false;
};

}  // namespace net

// The oracles of a codec: what decodes is encoded to bytes that decode to the same again. Used by the targets of decoders.
#pragma once

#include "tests/fuzz/fuzz.h"

namespace fuzz {

// For formats that write one thing in one way only: encode(decode(x)) is x.
template <class Decode, class Encode>
auto check_exact(base::ByteView bytes, Decode decode, Encode encode) -> decltype(decode(bytes)) {
  auto decoded = decode(bytes);
  if (!decoded) return decoded;
  accepted();
  const base::Bytes again = encode(*decoded);
  FUZZ_REQUIRE(std::equal(again.begin(), again.end(), bytes.begin(), bytes.end()));
  return decoded;
}

// For formats with spellings (varints, compression): what is decoded, encoded and decoded again stays the same. `same` compares two values.
template <class Decode, class Encode, class Same>
auto check_stable(base::ByteView bytes, Decode decode, Encode encode, Same same) -> decltype(decode(bytes)) {
  auto decoded = decode(bytes);
  if (!decoded) return decoded;
  accepted();
  const base::Bytes encoded = encode(*decoded);
  auto again = decode(encoded);
  FUZZ_REQUIRE_OK(again);
  FUZZ_REQUIRE(same(*decoded, *again));
  FUZZ_REQUIRE(encode(*again) == encoded);
  return decoded;
}

}  // namespace fuzz

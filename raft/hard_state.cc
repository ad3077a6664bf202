// Term, vote and commit hint on disk. wal/ keeps the bytes twice in different blocks and does not look inside.
//
//   0       4        8      16         24            32       40
//   | magic | crc32c | term | voted id | incarnation | commit |   little-endian
//
// crc32c covers bytes 8..40. Callers: node/driver (encode on persist, decode at start). Any thread.
#include "base/checksum.h"
#include "raft/core.h"

namespace raft {

namespace {
constexpr std::uint32_t kHardStateMagic = 0x31534852;  // "RHS1"
constexpr std::size_t kHardStateSize = 40;
}  // namespace

base::Bytes encode(const HardState& state) {
  base::Bytes out(kHardStateSize);
  base::store_u32(&out[0], kHardStateMagic);
  base::store_u64(&out[8], state.term.value);
  base::store_u64(&out[16], state.voted_for.id.value);
  base::store_u64(&out[24], state.voted_for.incarnation.value);
  base::store_u64(&out[32], state.commit.value);
  base::store_u32(&out[4], base::crc32c(base::ByteView(out).subspan(8)));
  return out;
}

base::Result<HardState> decode_hard_state(base::ByteView bytes) {
  if (bytes.size() != kHardStateSize)
    return base::make_error(base::Code::kCorrupt,
                            "hard state: " + std::to_string(bytes.size()) + " bytes, expected 40");
  if (base::load_u32(&bytes[0]) != kHardStateMagic)
    return base::make_error(base::Code::kCorrupt, "hard state: wrong magic");
  if (base::load_u32(&bytes[4]) != base::crc32c(bytes.subspan(8)))
    return base::make_error(base::Code::kCorrupt, "hard state: wrong checksum");
  HardState state;
  state.term = Term(base::load_u64(&bytes[8]));
  state.voted_for = {base::NodeId(base::load_u64(&bytes[16])), base::Incarnation(base::load_u64(&bytes[24]))};
  state.commit = Index(base::load_u64(&bytes[32]));
  return state;
}

}  // namespace raft

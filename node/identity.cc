// The id file's bytes (docs/FORMATS.md, "Identity").
#include "node/identity.h"

#include "base/checksum.h"

namespace node {
namespace {

constexpr std::string_view kMagic = "HQLID001";  // the last three: the version
constexpr std::size_t kVersionAt = 5;

// Later versions keep the beginning of the magic, and the checksum of everything at the end.
bool newer(base::ByteView bytes) {
  if (bytes.size() < kMagic.size() + 4) return false;
  const std::string_view magic = base::text_of(bytes.first(kMagic.size()));
  return magic.substr(0, kVersionAt) == kMagic.substr(0, kVersionAt) && magic > kMagic &&
         base::load_u32(bytes.data() + bytes.size() - 4) == base::crc32c(bytes.first(bytes.size() - 4));
}

}  // namespace

base::Bytes encode(const Identity& identity) {
  base::Writer out;
  out.raw(base::view_of(kMagic));
  out.u64(identity.node.value);
  out.u64(identity.incarnation.value);
  out.u32(base::crc32c(out.view()));
  return out.take();
}

base::Result<Identity> decode_identity(base::ByteView bytes) {
  if (newer(bytes))
    return base::make_error(base::Code::kNewerFormat,
                            "id: its format " + std::string(base::text_of(bytes.first(kMagic.size()))) +
                                " is newer than " + std::string(kMagic) + ", the one this program knows");
  base::Reader in(bytes);
  const bool magic = base::text_of(in.raw(kMagic.size())) == kMagic;
  Identity identity;
  identity.node = base::NodeId{in.u64()};
  identity.incarnation = base::Incarnation{in.u64()};
  const std::uint32_t crc = in.u32();
  if (!in.at_end() || !magic || crc != base::crc32c(bytes.first(bytes.size() - 4)))
    return base::make_error(base::Code::kCorrupt, "id: not an id file");
  return identity;
}

}  // namespace node

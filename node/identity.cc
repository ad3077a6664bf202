// The id file's bytes (docs/FORMATS.md, "Identity").
#include "node/identity.h"

#include "base/checksum.h"

namespace node {
namespace {

constexpr std::string_view kMagic = "HQLID001";

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

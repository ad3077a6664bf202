// The frame of the replies of service.h; also linked by the command line, which has no node of its own.
#include "ext/service.h"

namespace ext {

using base::Bytes;
using base::Result;

base::Bytes encode_reply(const Result<Bytes>& reply) {
  base::Writer out;
  out.u8(reply ? 1 : 0);
  if (reply) {
    out.raw(*reply);
  } else {
    out.u8(static_cast<std::uint8_t>(reply.error().code));
    out.u32(static_cast<std::uint32_t>(reply.error().sqlite_code));
    out.text(reply.error().message);
  }
  return out.take();
}

Result<Bytes> decode_reply(base::ByteView bytes) {
  base::Reader in(bytes);
  const std::uint8_t good = in.u8();
  if (in.ok() && good == 1) return base::copy_of(in.raw(in.remaining()));
  base::Error error;
  const std::uint8_t code = in.u8();
  error.sqlite_code = static_cast<int>(in.u32());
  error.message = in.text();
  if (!in.at_end() || good != 0 || code >= base::code_count())
    return base::make_error(base::Code::kProtocol, "malformed reply of the node: use the program and the library of one version");
  error.code = static_cast<base::Code>(code);
  return error;
}

}  // namespace ext

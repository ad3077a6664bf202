// See base/error_bytes.h. The code travels as its number, which is its own for ever, not as its place in the table.
#include "base/error_bytes.h"

namespace base {

void write_error(Writer& out, const Error& error) {
  out.u16(static_cast<std::uint16_t>(code_info(error.code).number));
  out.u32(static_cast<std::uint32_t>(error.sqlite_code));
  out.text(error.message);
}

Error read_error(Reader& in) {
  const int number = in.u16();
  Error error;
  for (int i = 0; i < code_count(); ++i)
    if (code_info(code_at(i)).number == number) error.code = code_at(i);
  error.sqlite_code = static_cast<int>(in.u32());
  error.message = in.text();
  return error;
}

}  // namespace base

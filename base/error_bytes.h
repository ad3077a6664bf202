// The bytes of an Error, the same in a node's frames and on the local socket (docs/FORMATS.md, "Errors"). Any thread.
#pragma once

#include "base/bytes.h"
#include "base/result.h"

namespace base {

void write_error(Writer& out, const Error& error);
// A number that this version does not know reads as kInternal with its text: the peer may be newer.
Error read_error(Reader& in);

}  // namespace base

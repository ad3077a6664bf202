// The real Env of base/env.h: Linux files, clocks and the kernel's random numbers.
// Callers: node/, ext/ and cli/, which pass it down as base::Env. Any thread.
#pragma once

#include "base/env.h"

namespace base {

// One for the process, without state of its own, never destroyed. Files are made with mode 0600, directories with 0755
// (both less the umask), descriptors are O_CLOEXEC and never 0, 1 or 2.
Env& posix_env();

// For the child handler of pthread_atfork (R2): every descriptor that a File of posix_env() holds is replaced by /dev/null,
// so that the child holds nothing open and a later close() by number hits nothing of the host's. Async-signal-safe.
void posix_env_abandon_files() noexcept;

}  // namespace base

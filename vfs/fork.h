// Whether this process is a forked child of one that had the VFS registered (R2). A child inherits memory in which locks may be held
// by threads that do not exist there, and descriptors whose locks belong to the parent: it must use nothing of ours (HQL_FORKED).
// Any thread; the flag never turns back.
#pragma once

#include "base/result.h"

namespace vfs {

// Installs the child handler of pthread_atfork. Idempotent. kInternal when out of memory.
base::Status watch_for_fork();
// Sets the flag; called by the child handler (async-signal-safe).
void mark_forked_child() noexcept;
bool in_forked_child() noexcept;
// kForked, with what to do about it.
base::Error forked_error();

}  // namespace vfs

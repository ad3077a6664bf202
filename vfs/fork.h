// Whether this process is a forked child of one that had a node bound to the VFS (R2). Such a child inherits memory in which locks may be held
// by threads that do not exist there, and descriptors whose locks belong to the parent: it must use nothing of ours (HQL_FORKED).
// A child of a process without a node, or after its clean stop, may start a node of its own. Any thread; the flag never turns back.
#pragma once

#include "base/result.h"

namespace vfs {

// Sets the flag; called by the child handler (vfs/connection_table.cc), async-signal-safe.
void mark_forked_child() noexcept;
bool in_forked_child() noexcept;
// kForked, with what to do about it.
base::Error forked_error();

}  // namespace vfs

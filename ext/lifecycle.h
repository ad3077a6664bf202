// The two events of the host process that a guest must hear of (R2): it ends, and it forks.
// One atexit handler and one set of fork handlers for everything of ours; parts register here, never with libc.
#pragma once

#include <functional>

#include "base/result.h"

namespace ext {

// Once per process, by ext/entry.cc. Installs the fork handlers. Errors: kInternal (out of memory).
base::Status install_lifecycle();

// `stop` runs when the process exits (exit(), return from main, the interpreter's end), on the exiting thread, last registered first.
// It refuses new work, fails waiters and joins threads, within 2 s; it must not touch the host's connections or statements.
// The exit handler itself is installed by the first call, and runs before those of the libraries we use (OpenSSL). Registered functions
// are never destroyed. Any thread.
void register_stop(std::function<void()> stop);

// `close` runs in a forked child, on its only thread, before fork() returns there. It closes the descriptors that the child inherited from
// a node of the parent and frees nothing. True: there was a node. The child is then marked: check_process() fails from then on, and no
// stop function runs when it exits (the threads it would join are not there). Any thread.
void register_fork_child(std::function<bool()> close);

// kForked in a child of a process that ran a node; every SQL function and every open through the VFS asks.
base::Status check_process();

}  // namespace ext

// Which descriptors of this folder, and which locks of data directories (ext/data_dir_lock.h), are open, so that the child
// of a fork() can give them up (R2): a forked child that kept a socket would keep a dead node's connections alive. Any
// thread; a bit per descriptor, readable in the child without a lock.
#pragma once

namespace net {

void track_descriptor(int fd);
void untrack_descriptor(int fd);

// For the child handler of pthread_atfork: every descriptor that is tracked is replaced by /dev/null, so that a later
// close() by number hits nothing of the host's. Async-signal-safe.
void abandon_descriptors() noexcept;

}  // namespace net

// One copy of the core per process. Two would lock each other out of the same files and both believe to own them.
// The token is an ELF note in the core's own file image: any other copy finds it with dl_iterate_phdr, whatever its file is called and
// however it was loaded (RTLD_LOCAL, DEEPBIND, linked into a program). Unlike an environment variable or a file it cannot outlive the
// process, survive exec, or be inherited.
// Called by ext/entry.cc only.
#pragma once

#include "base/result.h"

namespace ext {

// Takes this process for this copy. kRefused, naming the other file, when another copy has it. Atomic between copies: the loader's lock,
// which dl_iterate_phdr holds, is common to all. Again by the same copy: ok.
base::Status claim_process();
// Gives it back after a load that failed.
void release_process();

}  // namespace ext

// The core's own malloc family, forwarding to the process-wide one. Linked into libhiqlite-core.so only, never exported.
// Why: with RTLD_DEEPBIND our calls would bind to libc's malloc, while libc itself (strdup, getline, realpath) and the host use the
// allocator that was preloaded (jemalloc is common); memory then crosses over and `free` aborts. With these definitions every call of ours,
// operator new of the static libstdc++ included, ends in the allocator that the rest of the process uses.
// Any thread; runs before static constructors of the core, since those allocate.
#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define HIDDEN __attribute__((visibility("hidden")))

static struct {
  void* (*malloc)(size_t);
  void* (*calloc)(size_t, size_t);
  void* (*realloc)(void*, size_t);
  void (*free)(void*);
  void* (*memalign)(size_t, size_t);
  void* (*aligned_alloc)(size_t, size_t);
  int (*posix_memalign)(void**, size_t, size_t);
  void* (*reallocarray)(void*, size_t, size_t);
  size_t (*malloc_usable_size)(void*);
} process;

static void find(void* program, const char* name, void* slot) {
  void* symbol = dlsym(program, name);
  if (symbol == NULL) abort();  // no libc is without it
  memcpy(slot, &symbol, sizeof symbol);
}

// dlsym(RTLD_DEFAULT) searches the scope of its caller, which DEEPBIND turned around: it would give libc's. The handle of the program is
// the global scope: the program, preloaded objects, then libraries. Neither dlopen nor dlsym calls the functions below: libc binds to the
// process-wide ones. Priority 101 is the first one that is ours: before every C++ constructor of the core.
__attribute__((constructor(101))) static void find_process_allocator(void) {
  if (process.free != NULL) return;
  void* program = dlopen(NULL, RTLD_NOW);
  if (program == NULL) abort();
  find(program, "malloc", &process.malloc);
  find(program, "calloc", &process.calloc);
  find(program, "realloc", &process.realloc);
  find(program, "memalign", &process.memalign);
  find(program, "aligned_alloc", &process.aligned_alloc);
  find(program, "posix_memalign", &process.posix_memalign);
  find(program, "reallocarray", &process.reallocarray);
  find(program, "malloc_usable_size", &process.malloc_usable_size);
  find(program, "free", &process.free);
}

HIDDEN void* malloc(size_t size) { return process.malloc(size); }
HIDDEN void* calloc(size_t count, size_t size) { return process.calloc(count, size); }
HIDDEN void* realloc(void* old, size_t size) { return process.realloc(old, size); }
HIDDEN void free(void* memory) { process.free(memory); }
HIDDEN void* memalign(size_t alignment, size_t size) { return process.memalign(alignment, size); }
HIDDEN void* aligned_alloc(size_t alignment, size_t size) { return process.aligned_alloc(alignment, size); }
HIDDEN int posix_memalign(void** out, size_t alignment, size_t size) {
  return process.posix_memalign(out, alignment, size);
}
HIDDEN void* reallocarray(void* old, size_t count, size_t size) { return process.reallocarray(old, count, size); }
HIDDEN size_t malloc_usable_size(void* memory) { return process.malloc_usable_size(memory); }

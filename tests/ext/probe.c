// A stand-in for the core in the test of ext/allocator.c: memory that libc allocated is freed by this object, and the other way round.
// Built twice: linked with ext/allocator.c, and without it (the canary: it must die under a preloaded allocator).
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

__attribute__((visibility("default"))) int probe(void) {
  char* copy = strdup("made by libc, freed here");
  if (copy == NULL) return 1;
  copy = realloc(copy, 100000);
  free(copy);
  free(realpath("/", NULL));

  char* line = malloc(8);  // made here, grown by libc
  size_t size = 8;
  FILE* file = fopen("/proc/self/maps", "re");
  if (file == NULL) return 2;
  while (getline(&line, &size, file) > 0) continue;
  fclose(file);
  free(line);

  void* aligned = NULL;
  if (posix_memalign(&aligned, 64, 100) != 0) return 3;
  free(aligned);
  free(aligned_alloc(64, 128));
  free(memalign(64, 128));
  void* table = reallocarray(calloc(3, 7), 30, 70);
  if (malloc_usable_size(table) < 2100) return 4;
  free(table);
  return 0;
}

// Loads the object named by its argument as the stub loads the core, and runs its probe() (tests/ext/loader.py).
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char** argv) {
  void* handle = argc == 2 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND) : NULL;
  if (handle == NULL) {
    fprintf(stderr, "%s\n", dlerror());
    return 100;
  }
  int (*probe)(void);
  void* symbol = dlsym(handle, "probe");
  memcpy(&probe, &symbol, sizeof probe);
  const int rc = probe();
  puts("survived");
  return rc;
}

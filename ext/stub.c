// libhiqlite.so: what SQLite loads. It only loads libhiqlite-core.so from its own folder and calls it, so that the core and the libraries
// it brings are not mixed up with those of the host: SQLite loads extensions with RTLD_GLOBAL, the core gets RTLD_LOCAL | RTLD_DEEPBIND.
// Called by sqlite3_load_extension() on the host's thread. Exports (stub.map) both entry names that SQLite tries for this file name.
// HQL_NO_DEEPBIND=1 in the environment (ignored under setuid) drops DEEPBIND: sanitizers and fault layers must see the core's calls.
#include <dlfcn.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sqlite.h"

#define CORE_NAME "libhiqlite-core.so"
#define EXPORTED __attribute__((visibility("default")))

typedef int (*CoreInit)(sqlite3*, char**, const sqlite3_api_routines*);

// Set once the core has accepted this process: it stays loaded, and later loads skip the search (the working directory, to which the
// loader's own record of our path may be relative, can have changed since).
static _Atomic(CoreInit) loaded_core;

// Its address says which file this code came from. A function would not do: the exported ones resolve to the first copy that was loaded.
static const char anchor = 0;

// The path of the core: beside this file, links resolved. 0 and a reason in `reason` when it cannot be told.
static int core_path(char path[PATH_MAX + sizeof CORE_NAME], char* reason, size_t reason_size) {
  Dl_info info;
  if (dladdr(&anchor, &info) == 0 || info.dli_fname == NULL) {
    snprintf(reason, reason_size, "cannot tell which file the extension was loaded from");
    return 0;
  }
  if (realpath(info.dli_fname, path) == NULL) {
    snprintf(reason, reason_size, "cannot resolve the extension's own path %s", info.dli_fname);
    return 0;
  }
  memcpy(strrchr(path, '/') + 1, CORE_NAME, sizeof CORE_NAME);  // realpath gives an absolute path
  return 1;
}

static CoreInit load_core(void** handle, char* reason, size_t reason_size) {
  char path[PATH_MAX + sizeof CORE_NAME];
  if (!core_path(path, reason, reason_size)) return NULL;

  const char* no_deepbind = secure_getenv("HQL_NO_DEEPBIND");
  int flags = RTLD_NOW | RTLD_LOCAL;
  if (no_deepbind == NULL || strcmp(no_deepbind, "1") != 0) flags |= RTLD_DEEPBIND;
  *handle = dlopen(path, flags);
  if (*handle == NULL) {
    snprintf(reason, reason_size, "cannot load %s (it must lie beside libhiqlite.so): %s", path, dlerror());
    return NULL;
  }
  CoreInit init;
  void* symbol = dlsym(*handle, "hiqlite_core_init");
  memcpy(&init, &symbol, sizeof init);  // ISO C has no cast from an object to a function pointer
  if (init == NULL) {
    snprintf(reason, reason_size, "%s is not the core of this version of hiqlite: install both files together", path);
    dlclose(*handle);
  }
  return init;
}

static int load(sqlite3* db, char** message, const sqlite3_api_routines* api) {
  CoreInit init = atomic_load(&loaded_core);
  if (init != NULL) return init(db, message, api);

  void* handle = NULL;
  char reason[2 * PATH_MAX + 512];
  init = load_core(&handle, reason, sizeof reason);
  if (init == NULL) {
    if (message != NULL) *message = api->mprintf("hiqlite: HQL_REFUSED: %s", reason);
    return SQLITE_ERROR;
  }
  const int rc = init(db, message, api);
  if (rc == SQLITE_OK_LOAD_PERMANENTLY)
    atomic_store(&loaded_core, init);
  else
    dlclose(handle);
  return rc;
}

// Neither calls the other: a call to an exported name would end in the first copy of this file that the process loaded.
EXPORTED int sqlite3_hiqlite_init(sqlite3* db, char** message, const sqlite3_api_routines* api) {
  return load(db, message, api);
}
EXPORTED int sqlite3_extension_init(sqlite3* db, char** message, const sqlite3_api_routines* api) {
  return load(db, message, api);
}

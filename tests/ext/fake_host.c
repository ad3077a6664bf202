// A host whose SQLite is not one we can use, for tests of ext/host.cc through the real stub: it calls the extension's entry with a routine
// table whose version, thread safety or default VFS it replaces.
//   fake_host <libhiqlite.so> version=<number> | threadsafe=0 | vfs=<name> | second | real
// `second` loads first with the real table, then with one of another SQLite. Prints the result code and the message, and "interposed" when
// the core calls a libc function that this program defines as well (it must not, but with HQL_NO_DEEPBIND=1).
#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// The real library, linked by the test; the extension's header only for the type of the table.
#define SQLITE_CORE 1
#include <sqlite3ext.h>

typedef int (*Init)(sqlite3*, char**, const sqlite3_api_routines*);

static int fake_version;
static int version(void) { return fake_version; }
static int threadsafe_no(void) { return 0; }
static sqlite3_vfs fake_vfs;
static sqlite3_vfs* vfs_find(const char* name) { return name == NULL ? &fake_vfs : NULL; }

// SQLite hands its table to extensions only: an automatic extension catches it.
static const sqlite3_api_routines* real_table;
static int catch_table(sqlite3* db, char** message, const sqlite3_api_routines* api) {
  (void)db;
  (void)message;
  real_table = api;
  return SQLITE_OK;
}

// The core calls it to look for other copies of itself. Exported by this program, so it comes first in the global scope.
__attribute__((visibility("default"))) int dl_iterate_phdr(int (*callback)(struct dl_phdr_info*, size_t, void*),
                                                           void* data) {
  static int (*real)(int (*)(struct dl_phdr_info*, size_t, void*), void*);
  if (real == NULL) {
    void* symbol = dlsym(RTLD_NEXT, "dl_iterate_phdr");
    memcpy(&real, &symbol, sizeof real);
    puts("interposed");
  }
  return real(callback, data);
}

static int call(Init init, sqlite3* db, const sqlite3_api_routines* api) {
  char* message = NULL;
  const int rc = init(db, &message, api);
  printf("%d %s\n", rc, message != NULL ? message : "");
  sqlite3_free(message);
  return rc;
}

int main(int argc, char** argv) {
  if (argc != 3) return 100;
  sqlite3* db = NULL;
  sqlite3_auto_extension((void (*)(void))catch_table);
  if (sqlite3_open(":memory:", &db) != SQLITE_OK || real_table == NULL) return 101;
  sqlite3_cancel_auto_extension((void (*)(void))catch_table);

  void* handle = dlopen(argv[1], RTLD_NOW | RTLD_GLOBAL);  // as SQLite does
  if (handle == NULL) {
    fprintf(stderr, "%s\n", dlerror());
    return 102;
  }
  Init init;
  void* symbol = dlsym(handle, "sqlite3_extension_init");
  memcpy(&init, &symbol, sizeof init);

  sqlite3_api_routines table = *real_table;
  const char* what = argv[2];
  if (strncmp(what, "version=", 8) == 0) {
    fake_version = atoi(what + 8);
    table.libversion_number = version;
  } else if (strcmp(what, "threadsafe=0") == 0) {
    table.xthreadsafe = threadsafe_no;
  } else if (strncmp(what, "vfs=", 4) == 0) {
    fake_vfs.zName = what + 4;
    table.vfs_find = vfs_find;
  } else if (strcmp(what, "second") == 0) {
    if (call(init, db, real_table) != SQLITE_OK_LOAD_PERMANENTLY) return 103;
    fake_version = 3045000;
    table.libversion_number = version;
  }
  call(init, db, &table);
  sqlite3_close(db);
  return 0;
}

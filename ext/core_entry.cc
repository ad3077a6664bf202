// The one exported symbol of libhiqlite-core.so (core.map), called by the stub on the host's thread.
#include "ext/entry.h"

extern "C" __attribute__((visibility("default"))) int hiqlite_core_init(sqlite3* db, char** message,
                                                                        const sqlite3_api_routines* api) {
  return ext::load(db, message, api);
}

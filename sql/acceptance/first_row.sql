-- A first row: load, start, open, write, read.
.load ./libhiqlite
SELECT hql_start();
.open file:app.db?vfs=hiqlite
CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT);
INSERT INTO t(name) VALUES ('replicated');
INSERT INTO t(name) VALUES ('twice') RETURNING id, name;
SELECT * FROM t;
PRAGMA journal_mode;
SELECT hql_is_leader(), hql_leader(), hql_version();
.shell sqlite3 hiqlite-data/db/app.db "SELECT 'a plain sqlite3 reads', count(*) FROM t"
.shell sqlite3 hiqlite-data/db/app.db "INSERT INTO t VALUES (3, 'and cannot write')" 2>&1
SELECT hql_stop();
SELECT * FROM t;
SELECT hql_last_error();
.open hiqlite-data/db/app.db
SELECT 'a plain file again', count(*) FROM t;

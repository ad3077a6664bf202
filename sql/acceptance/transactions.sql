-- Transactions and savepoints behave as in SQLite.
.load ./libhiqlite
.open file:app.db?vfs=hiqlite
CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT UNIQUE);
BEGIN;
INSERT INTO t(name) VALUES ('one');
INSERT INTO t(name) VALUES ('two');
COMMIT;
BEGIN;
DELETE FROM t;
ROLLBACK;
SELECT count(*) FROM t;
BEGIN;
SAVEPOINT a;
INSERT INTO t(name) VALUES ('undone');
ROLLBACK TO a;
INSERT INTO t(name) VALUES ('kept');
RELEASE a;
COMMIT;
SELECT group_concat(name) FROM (SELECT name FROM t ORDER BY id);
INSERT INTO t(name) VALUES ('four'), ('two');
INSERT OR IGNORE INTO t(name) VALUES ('four'), ('two');
BEGIN;
INSERT INTO t(name) VALUES ('five');
INSERT OR ROLLBACK INTO t(name) VALUES ('one');
COMMIT;
SELECT count(*), max(name) FROM t;
UPDATE t SET name = name || '!' WHERE id > 1 RETURNING name;
PRAGMA user_version = 7;
VACUUM;
PRAGMA user_version;
PRAGMA integrity_check;

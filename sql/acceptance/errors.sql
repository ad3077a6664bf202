-- What a newcomer meets first.
.load ./libhiqlite
SELECT hql_status();
SELECT hql_start('missing.toml');
SELECT hql_start('{"data_dri":"x"}');
SELECT hql_start('{"node_id":0}');
SELECT hql_start('{"heartbeat_ms":900}');
SELECT hql_start('{"secret_raft":"secret"}');
SELECT hql_start('{"nodes":["1 localhost"]}');
SELECT hql_start('{"node_id":3,"nodes":["1 127.0.0.1:8100 127.0.0.1:8200"]}');
SELECT hql_start();
SELECT hql_start('{"node_id":2}');
.open file:dir/app.db?vfs=hiqlite
SELECT hql_last_error();
.open file:app.db?vfs=hiqlite&cache=shared
SELECT hql_last_error();
.open file:app.db?vfs=hiqlite&node=7
SELECT hql_last_error();
.open file:app.db?vfs=hiqlite&page_size=1000
SELECT hql_last_error();
.open file:app.db?vfs=hiqlite
CREATE TABLE t(x);
PRAGMA journal_mode = DELETE;
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA page_size = 8192;
ATTACH 'file:b.db?vfs=hiqlite' AS b;
CREATE TABLE b.t(x);
BEGIN;
INSERT INTO t VALUES (1);
INSERT INTO b.t VALUES (1);
SELECT hql_last_error();
ROLLBACK;
DETACH b;
ATTACH 'scratch.db' AS scratch;
CREATE TABLE scratch.s AS SELECT 1 AS one;
SELECT one FROM scratch.s;
VACUUM INTO 'copy.db';
SELECT hql_wait_healthy('soon');
SELECT hql_transfer_leader(2);
SELECT hql_drop_database('missing.db');
SELECT hql_remote('unix:/nowhere');
CREATE VIEW v AS SELECT hql_execute('DELETE FROM t');
SELECT * FROM v;

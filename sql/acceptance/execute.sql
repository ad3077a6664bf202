-- hql_execute and its family: forwarded SQL, from any node.
.load ./libhiqlite
SELECT hql_start('{"filename_db":"app.db"}');
SELECT hql_execute('CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, data)');
SELECT hql_execute('INSERT INTO t(name, data) VALUES (?1, ?2)', 'one', x'00ff');
SELECT hql_execute('INSERT INTO t(name, data) VALUES (?1, ?2)', 'max', 9223372036854775807);
SELECT hql_execute('INSERT INTO t(name, data) VALUES (?1, ?2)', NULL, 0.5);
SELECT hql_execute('UPDATE t SET name = upper(name)');
SELECT hql_execute_returning('SELECT * FROM t ORDER BY id');
SELECT hql_execute_returning('DELETE FROM t WHERE id = ?1 RETURNING id', 3);
SELECT hql_txn('[["INSERT INTO t(name, data) VALUES (?, ?)", "blob", {"$blob":"AQID"}], "SELECT count(*) AS n FROM t"]');
SELECT hql_batch('INSERT INTO t(name) VALUES (''a''); UPDATE t SET data = NULL; SELECT total(data) AS total FROM t; -- done');
SELECT hql_execute_opts('{"db":"app.db","timeout_ms":5000}', 'DELETE FROM t WHERE id > ?1', 1);
SELECT hql_txn('[["INSERT INTO t(name) VALUES (?)", "not alone"], "INSERT INTO nowhere VALUES (1)"]');
SELECT hql_batch('INSERT INTO t(name) VALUES (''not alone''); INSERT INTO t(id) VALUES (1);');
SELECT hql_execute_returning('SELECT id, name FROM t');
.open file:app.db?vfs=hiqlite
SELECT id, name FROM t;
BEGIN;
INSERT INTO t(name) VALUES ('open');
SELECT hql_execute('INSERT INTO t(name) VALUES (1)');
ROLLBACK;
SELECT hql_execute('BEGIN');
SELECT hql_execute('ATTACH ''x.db'' AS x');
SELECT hql_execute('PRAGMA synchronous = OFF');
SELECT hql_execute('SELECT hql_stop()');
SELECT hql_execute('DELETE FROM t; DELETE FROM t');
SELECT hql_execute('DELETE FROM t WHERE id = ?');
SELECT hql_batch('CREATE TEMP TABLE u(x); INSERT INTO u VALUES (20), (22); INSERT INTO t(name) SELECT sum(x) FROM u;');
SELECT hql_execute_returning('SELECT last_insert_rowid() AS rowid, changes() AS changes, total_changes() AS total');
SELECT hql_execute('SELECT * FROM u');
SELECT hql_execute('CREATE TEMP TRIGGER r AFTER INSERT ON t BEGIN DELETE FROM t; END');
SELECT hql_execute('PRAGMA encoding = ''UTF-16''');
.open :memory:
ATTACH 'file:app.db?vfs=hiqlite' AS attached;
BEGIN;
INSERT INTO attached.t(name) VALUES ('open');
SELECT hql_execute_opts('{"db":"app.db"}', 'DELETE FROM t');
ROLLBACK;
SELECT hql_execute('SELECT fts3_tokenizer(''code'', x''4141414141414141'')');

-- What the node says about itself.
.load ./libhiqlite
SELECT hql_start('{"commit_timeout_ms":4321,"secret_api":"0123456789abcdef"}');
.open file:app.db?vfs=hiqlite
CREATE TABLE t(x);
SELECT hql_wait_healthy();
SELECT id, role, reachable, raft_addr FROM hql_members;
SELECT name, state, page_count, length(digest), replace(path, rtrim(path, replace(path, '/', '')), '') FROM hql_databases;
SELECT role, leader_id, joint, peers FROM hql_raft;
SELECT key, value, origin FROM hql_config WHERE key IN ('commit_timeout_ms', 'secret_api', 'node_id', 'log_sync');
SELECT count(*) > 0, min(sequence) FROM hql_events;
SELECT count(*) FROM hql_events(1000000);
SELECT kind, text FROM hql_events WHERE kind = 'node';
SELECT json_extract(hql_status(), '$.state'), json_extract(hql_status(), '$.role'), json_extract(hql_status(), '$.managed');
SELECT hql_last_index() > 0, hql_wait_index(hql_last_index()) = hql_last_index(), hql_barrier() = hql_last_index();
SELECT hql_snapshot() > 0, hql_compact() >= 0;
INSERT INTO hql_members(id) VALUES (2);
SELECT * FROM hql_members('x');
SELECT (SELECT count(*) FROM hql_events(0) WHERE since = 0) > 0, (SELECT count(*) FROM hql_events(0) WHERE since = 1);

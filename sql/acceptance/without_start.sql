-- Opening starts the embedded node, as hql_start() without an argument does.
.load ./libhiqlite
.open file:app.db?vfs=hiqlite
CREATE TABLE t(x);
INSERT INTO t VALUES (1), (2);
SELECT sum(x) FROM t;
SELECT hql_start();
SELECT json_extract(hql_status(), '$.state'), json_extract(hql_status(), '$.managed'), json_extract(hql_status(), '$.data_dir');

-- A SQLite file becomes a replicated database and comes back as a plain one.
.load ./libhiqlite
SELECT hql_start();
.open shop.db
CREATE TABLE items(name TEXT PRIMARY KEY, price REAL) WITHOUT ROWID;
INSERT INTO items VALUES ('tea', 2.5), ('cup', 8);
.open file:shop.db?vfs=hiqlite
SELECT hql_last_error();
SELECT hql_import('shop.db', 'market.db');
SELECT hql_import('shop.db', 'market.db');
SELECT hql_import('missing.db', 'other.db');
.open file:market.db?vfs=hiqlite
INSERT INTO items VALUES ('pot', 20);
SELECT * FROM items;
SELECT hql_export('market.db', 'copy.db');
SELECT hql_export('market.db', 'copy.db');
.open copy.db
PRAGMA journal_mode;
SELECT count(*), sum(price) FROM items;
.open shop.db
SELECT count(*) FROM items;
.open :memory:
SELECT hql_export('missing.db', 'x.db');

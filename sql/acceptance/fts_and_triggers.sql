-- Full text kept by triggers, written by plain SQL and by hql_execute.
.load ./libhiqlite
.open file:notes.db?vfs=hiqlite
CREATE TABLE notes(id INTEGER PRIMARY KEY, body TEXT, changed INTEGER DEFAULT 0);
CREATE VIRTUAL TABLE words USING fts5(body, content='notes', content_rowid='id');
CREATE TRIGGER ai AFTER INSERT ON notes BEGIN INSERT INTO words(rowid, body) VALUES (new.id, new.body); END;
CREATE TRIGGER ad AFTER DELETE ON notes BEGIN INSERT INTO words(words, rowid, body) VALUES ('delete', old.id, old.body); END;
INSERT INTO notes(body) VALUES ('the quick brown fox'), ('a lazy dog');
SELECT hql_execute('INSERT INTO notes(body) VALUES (?1)', 'a quick forwarded note');
SELECT rowid, snippet(words, 0, '[', ']', '', 3) FROM words WHERE words MATCH 'quick' ORDER BY rowid;
DELETE FROM notes WHERE id = 1;
SELECT hql_execute('DELETE FROM notes WHERE id = ?1', 3);
SELECT count(*) FROM words WHERE words MATCH 'quick';
INSERT INTO words(words) VALUES ('integrity-check');
CREATE TRIGGER no BEFORE DELETE ON notes BEGIN SELECT RAISE(ABORT, 'notes are kept'); END;
DELETE FROM notes;
SELECT hql_execute('DELETE FROM notes');
SELECT body FROM notes;

"""A new user's session (issue: seen working 1) in the stock shell and in Debian's python3: load, start, write, read, leave, come back."""
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(__file__))
from harness import EXTENSION, host_environment, main, read_plain, sqlite_shell  # noqa: E402

SESSION = """
.load {extension}
SELECT hql_start('{{"data_dir":"{dir}/data"}}');
.open file:app.db?vfs=hiqlite
CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, at TEXT, r INTEGER);
INSERT INTO t(name, at, r) VALUES ('replicated', datetime('now'), random());
BEGIN; INSERT INTO t(name) VALUES ('two'); INSERT INTO t(name) VALUES ('three'); COMMIT;
BEGIN; INSERT INTO t(name) VALUES ('gone'); ROLLBACK;
INSERT INTO t(name) VALUES ('four') RETURNING id;
CREATE VIRTUAL TABLE f USING fts5(name);
CREATE TRIGGER tf AFTER INSERT ON t BEGIN INSERT INTO f(rowid, name) VALUES (new.id, new.name); END;
INSERT INTO t(name) VALUES ('hello full text');
SELECT 'fts', rowid FROM f WHERE f MATCH 'full';
BEGIN; SAVEPOINT a; INSERT INTO t(name) VALUES ('undone'); ROLLBACK TO a; INSERT INTO t(name) VALUES ('kept'); RELEASE a; COMMIT;
VACUUM;
SELECT 'rows', count(*), count(r) FROM t;
SELECT 'mode', journal_mode FROM pragma_journal_mode;
PRAGMA integrity_check;
"""


def shell_session(workspace):
    done = sqlite_shell(SESSION.format(extension=EXTENSION, dir=workspace.path) + ".quit\n", ":memory:")
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and not done.stderr, (done.returncode, done.stderr, done.stdout)
    assert lines == ["1", "4", "fts|5", "rows|6|1", "mode|wal", "ok"], lines
    # The file is a plain database now.
    assert read_plain(f"{workspace.path}/data/db/app.db", "SELECT count(*) FROM t") == ["6"]
    again = sqlite_shell(f".load {EXTENSION}\nSELECT hql_start('{{\"data_dir\":\"{workspace.path}/data\"}}');\n"
                         ".open file:app.db?vfs=hiqlite\nINSERT INTO t(name) VALUES ('later');\nSELECT count(*), max(id) FROM t;\n", ":memory:")
    assert again.stdout.splitlines() == ["1", "7|7"], (again.stdout, again.stderr)


def plain_reader_beside(workspace):
    """While the node runs, a plain sqlite3 reads the file and is refused when it writes."""
    program = r"""
import os, sqlite3, subprocess, sys
extension, directory = sys.argv[1:3]
db = sqlite3.connect(":memory:")
db.enable_load_extension(True)
db.load_extension(extension)
db.execute("SELECT hql_start(?)", ('{"data_dir":"%s/data"}' % directory,))
app = sqlite3.connect("file:app.db?vfs=hiqlite", uri=True, isolation_level=None)
app.execute("CREATE TABLE t(x)")
for i in range(100):
    app.execute("INSERT INTO t VALUES (?)", (i,))
second = sqlite3.connect("file:app.db?vfs=hiqlite", uri=True)
print("second", second.execute("SELECT count(*), sum(x) FROM t").fetchone())
path = directory + "/data/db/app.db"
clean = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
plain = subprocess.run(["sqlite3", path, "SELECT count(*), sum(x) FROM t; PRAGMA integrity_check;"], capture_output=True, text=True, env=clean)
print("plain", plain.stdout.split(), plain.stderr.strip())
write = subprocess.run(["sqlite3", path, "INSERT INTO t VALUES (1000)"], capture_output=True, text=True, env=clean)
print("write", write.returncode != 0, write.stderr.strip())
checkpoint = subprocess.run(["sqlite3", path, "PRAGMA wal_checkpoint(TRUNCATE)"], capture_output=True, text=True, env=clean)
app.execute("INSERT INTO t VALUES (100)")
print("after", app.execute("SELECT count(*), sum(x) FROM t").fetchone(), os.path.exists(path + "-wal"))
"""
    done = subprocess.run(["/usr/bin/python3", "-c", program, EXTENSION, workspace.path], capture_output=True, text=True, env=host_environment())
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
    lines = done.stdout.splitlines()
    assert lines[0] == "second (100, 4950)", lines
    assert lines[1] == "plain ['100|4950', 'ok'] ", lines
    assert lines[2].startswith("write True") and "locked" in lines[2], lines
    assert lines[3] == "after (101, 5050) True", lines


def literal_name_is_never_a_plain_file(workspace):
    """A driver that does not ask for URIs must not get a silently unreplicated file: SQLite either parses the name all the same (Debian's
    is built with SQLITE_USE_URI) and it is the replicated database, or the open fails."""
    program = r"""
import sqlite3, sys
db = sqlite3.connect(":memory:")
db.enable_load_extension(True)
db.load_extension(sys.argv[1])
try:
    app = sqlite3.connect("file:app.db?vfs=hiqlite")
    app.execute("CREATE TABLE t(x)")
    print("managed", app.execute("SELECT json_extract(hql_status(), '$.managed')").fetchone()[0])
except sqlite3.Error as error:
    print("refused", error)
"""
    done = subprocess.run(["/usr/bin/python3", "-c", program, EXTENSION], capture_output=True, text=True, env=host_environment(), cwd=workspace.path)
    assert done.stdout == "managed app.db\n" or done.stdout.startswith("refused"), (done.stdout, done.stderr)
    literal = [name for name in os.listdir(workspace.path) if name != "hiqlite-data"]
    assert not literal, literal


def literal_name_creates_under_the_default_vfs(workspace):
    """A driver without URIs, in a SQLite that does not read names as URIs either (SQLITE_CONFIG_URI off, as some drivers build it)."""
    program = r"""
import ctypes, sys
lib = ctypes.CDLL("libsqlite3.so.0")
assert lib.sqlite3_config(17, 0) == 0  # SQLITE_CONFIG_URI, before anything initializes SQLite
import sqlite3
db = sqlite3.connect(":memory:")
db.enable_load_extension(True)
db.load_extension(sys.argv[1])
try:
    sqlite3.connect("file:app.db?vfs=hiqlite")
except sqlite3.Error as error:
    print("refused")
db.execute("SELECT hql_start(), hql_default_vfs(1)").fetchall()
app = sqlite3.connect("file:app.db?vfs=hiqlite&page_size=8192", isolation_level=None)
app.execute("CREATE TABLE t(x)")
app.execute("INSERT INTO t VALUES (7)")
print(app.execute("SELECT json_extract(hql_status(), '$.managed')").fetchone()[0], app.execute("PRAGMA page_size").fetchone()[0])
print(sqlite3.connect("file:app.db?vfs=hiqlite").execute("SELECT x FROM t").fetchall())
"""
    done = subprocess.run(["/usr/bin/python3", "-c", program, EXTENSION], capture_output=True, text=True, env=host_environment(), cwd=workspace.path)
    assert done.stdout.splitlines() == ["refused", "app.db 8192", "[(7,)]"], (done.stdout, done.stderr)


def failed_request_leaves_nothing(workspace):
    """OR FAIL and RAISE(FAIL) keep what was done before the failure: no log entry would name that request, and it could be done twice."""
    program = r"""
import json, sqlite3, sys
db = sqlite3.connect(":memory:", isolation_level=None)
db.enable_load_extension(True)
db.load_extension(sys.argv[1])
db.execute("SELECT hql_start(?)", (json.dumps({"data_dir": "data", "filename_db": "app.db"}),)).fetchall()

def run(sql):
    try:
        return db.execute("SELECT hql_execute(?)", (sql,)).fetchone()[0]
    except sqlite3.Error as error:
        return str(error)

run("CREATE TABLE t(id INTEGER PRIMARY KEY)")
run("CREATE TRIGGER odd BEFORE INSERT ON t WHEN new.id > 90 BEGIN SELECT RAISE(FAIL, 'too many'); END")
print(run("INSERT INTO t VALUES (5)"))
print(run("INSERT OR FAIL INTO t VALUES (1), (2), (5), (7)"))
print(run("INSERT INTO t VALUES (8), (91)"))
print(run("INSERT INTO t VALUES (9)"))
print(db.execute("SELECT hql_execute_returning('SELECT id FROM t')").fetchone()[0])
"""
    done = subprocess.run(["/usr/bin/python3", "-c", program, EXTENSION], capture_output=True, text=True, env=host_environment(), cwd=workspace.path)
    assert done.stdout.splitlines() == ["1", "UNIQUE constraint failed: t.id", "too many", "1", '[{"id":5},{"id":9}]'], (done.stdout, done.stderr)


if __name__ == "__main__":
    main(shell_session, plain_reader_beside, literal_name_is_never_a_plain_file, literal_name_creates_under_the_default_vfs,
         failed_request_leaves_nothing)

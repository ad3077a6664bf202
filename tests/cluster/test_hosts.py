"""Hosts that own nodes (issue: seen working 1 and 2): Python's sqlite3 as an application uses it, and one cluster of three kinds of host."""
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(__file__))
from harness import EXTENSION, STEADY, Cluster, host_environment, main, read_plain, wait_until  # noqa: E402
from hosts import Python, Refused, Shell  # noqa: E402

APPLICATION = r"""
import json, sqlite3, sys, threading
extension, directory = sys.argv[1:3]
boot = sqlite3.connect(":memory:")
boot.enable_load_extension(True)
boot.load_extension(extension)
boot.execute("SELECT hql_start(?)", (json.dumps({"data_dir": directory + "/data"}),)).fetchall()
URI = "file:app.db?vfs=hiqlite"

db = sqlite3.connect(URI, uri=True)  # isolation_level "": BEGIN before each INSERT, UPDATE, DELETE
with db:
    db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT UNIQUE, at TEXT, r INTEGER)")
with db:
    db.executemany("INSERT INTO t(name, at, r) VALUES (?, datetime('now'), random())", [(f"n{i}",) for i in range(100)])
try:
    with db:
        db.execute("INSERT INTO t(name) VALUES ('gone')")
        db.execute("INSERT INTO t(name) VALUES ('n1')")
except sqlite3.IntegrityError as error:
    print("rolled back:", error, db.in_transaction)
print("rows", db.execute("SELECT count(*), count(r), count(at) FROM t").fetchone())

with db:
    cursor = db.execute("INSERT INTO t(name) VALUES ('returned') RETURNING id")
    print("returning", cursor.fetchone(), cursor.lastrowid)
auto = sqlite3.connect(URI, uri=True, isolation_level=None)
cursor = auto.execute("INSERT INTO t(name) VALUES ('stepped once') RETURNING id, name")
print("stepped once", next(cursor))
del cursor  # reset before the second step: the commit happens here
print("committed", sqlite3.connect(URI, uri=True).execute("SELECT count(*) FROM t WHERE name = 'stepped once'").fetchone()[0])

auto.execute("BEGIN IMMEDIATE")
auto.execute("INSERT INTO t(name) VALUES ('outer')")
auto.execute("SAVEPOINT a")
auto.execute("INSERT INTO t(name) VALUES ('inner')")
auto.execute("SAVEPOINT b")
auto.execute("DELETE FROM t")
auto.execute("ROLLBACK TO b")
auto.execute("RELEASE b")
auto.execute("ROLLBACK TO a")
auto.execute("RELEASE a")
auto.execute("COMMIT")
print("savepoints", [row[0] for row in db.execute("SELECT name FROM t WHERE name IN ('outer', 'inner')")])

auto.executescript("CREATE VIRTUAL TABLE f USING fts5(body); "
                   "CREATE TRIGGER tf AFTER INSERT ON t BEGIN INSERT INTO f(rowid, body) VALUES (new.id, new.name); END;"
                   "INSERT INTO t(name) VALUES ('a full text'); VACUUM;")
print("fts", auto.execute("SELECT count(*) FROM f WHERE f MATCH 'full'").fetchone()[0])
auto.create_function("twice", 1, lambda x: 2 * x)
auto.execute("INSERT INTO t(name, r) VALUES ('by function', twice(21))")
print("function", auto.execute("SELECT r FROM t WHERE name = 'by function'").fetchone()[0])
print("blob", auto.execute("SELECT hql_execute('INSERT INTO t(name, r) VALUES (?1, ?2)', ?, ?)", ("big", 2**63 - 1)).fetchone()[0],
      auto.execute("SELECT r FROM t WHERE name = 'big'").fetchone()[0])

auto.execute("CREATE TABLE work(id INTEGER PRIMARY KEY, thread INTEGER)")
failures = []
def worker(number):
    try:
        own = sqlite3.connect(URI, uri=True, timeout=60)
        for _ in range(25):
            with own:
                own.execute("INSERT INTO work(thread) VALUES (?)", (number,))
        own.close()
    except sqlite3.Error as error:
        failures.append(f"{type(error).__name__} {error}")
threads = [threading.Thread(target=worker, args=(n,)) for n in range(8)]
[t.start() for t in threads]
[t.join() for t in threads]
print("threads", failures, db.execute("SELECT count(*), count(DISTINCT thread) FROM work").fetchone())

held = sqlite3.connect(URI, uri=True, timeout=0.1)
held.execute("BEGIN IMMEDIATE")
try:
    sqlite3.connect(URI, uri=True, timeout=0.1, isolation_level=None).execute("INSERT INTO work(thread) VALUES (0)")
    print("a second writer was not refused")
except sqlite3.OperationalError as error:
    print("busy:", error)
held.rollback()

reader = sqlite3.connect(URI, uri=True, isolation_level=None)
reader.execute("BEGIN")
before = reader.execute("SELECT count(*) FROM work").fetchone()
auto.execute("INSERT INTO work(thread) VALUES (99)")
print("snapshot", before == reader.execute("SELECT count(*) FROM work").fetchone())
reader.execute("COMMIT")
print("then", reader.execute("SELECT count(*) FROM work WHERE thread = 99").fetchone()[0])
copy = sqlite3.connect(":memory:")
db.backup(copy)
print("backup", copy.execute("SELECT count(*) FROM work").fetchone()[0])
print("integrity", db.execute("PRAGMA integrity_check").fetchone()[0])
"""

EXPECTED = [
    "rolled back: UNIQUE constraint failed: t.name False",
    "rows (100, 100, 100)",
    "returning (101,) 101",
    "stepped once (102, 'stepped once')",
    "committed 1",
    "savepoints ['outer']",
    "fts 1",
    "function 42",
    "blob 1 9223372036854775807",
    "threads [] (200, 8)",
    "busy: database is locked",
    "snapshot True",
    "then 1",
    "backup 201",
    "integrity ok",
]


def python_application(workspace):
    done = subprocess.run(["/usr/bin/python3", "-c", APPLICATION, EXTENSION, workspace.path], capture_output=True, text=True,
                          env=host_environment(), timeout=240)
    assert done.returncode == 0 and not done.stderr, (done.returncode, done.stderr, done.stdout)
    lines = done.stdout.splitlines()
    assert lines == EXPECTED, [pair for pair in zip(lines, EXPECTED) if pair[0] != pair[1]] or lines
    assert read_plain(f"{workspace.path}/data/db/app.db", "SELECT count(*) FROM work") == ["201"]


URI = "file:app.db?vfs=hiqlite"


def three_kinds_of_host(workspace):
    """Node 1 is a sqlite3 shell, node 2 a Python program, node 3 `hiqlite serve`."""
    cluster = Cluster(workspace, 3, STEADY + 'filename_db = "app.db"\n')
    shell, program, server = Shell(workspace.path), Python(workspace.path), cluster.servers[2]
    try:
        assert shell.ask(f".load {EXTENSION}") == []
        assert shell.ask(f"SELECT hql_start('{cluster.config(1)}');") == ["1"]
        assert program.ask("SELECT hql_start(?)", cluster.config(2)) == [[2]]
        server.start()
        assert shell.ask("SELECT hql_wait_healthy();") == ["1"]
        assert program.ask("SELECT hql_wait_healthy()") == [[1]]
        server.run("status", "--wait", "healthy")

        def lead(node):
            """Makes `node` the leader, asked for on whatever node, and waits until every node knows."""
            assert program.ask("SELECT hql_transfer_leader(?)", node) == [[node]]
            wait_until(lambda: program.ask("SELECT hql_leader()") == [[node]] and shell.ask("SELECT hql_leader();") == [str(node)]
                       and (server.status() or {}).get("leader_id") == node, f"every node to know that node {node} leads")

        def everyone_reads(sql, expected):
            # Asked on the connections that wrote: what their node has applied may be a little behind their own commits.
            index = max(program.ask("SELECT hql_last_index()", on="app")[0][0], int(shell.ask("SELECT hql_last_index();")[0]),
                        server.status()["applied_index"])
            assert shell.ask(f"SELECT hql_wait_index({index});") == [str(index)]
            assert program.ask("SELECT hql_wait_index(?)", index) == [[index]]
            wait_until(lambda: server.status()["applied_index"] >= index, "node 3 to apply")
            assert shell.ask(sql) == [str(expected)], (shell.ask(sql), expected)
            assert program.ask(sql, on="app") == [[expected]]
            assert read_plain(server.file("app.db"), sql) == [str(expected)]

        lead(1)
        assert shell.ask(f".open {URI}") == []
        assert shell.ask("CREATE TABLE t(id INTEGER PRIMARY KEY, who TEXT);") == []
        assert shell.ask("BEGIN; INSERT INTO t(who) VALUES ('shell'); INSERT INTO t(who) VALUES ('shell'); COMMIT;") == []
        program.ask("SELECT hql_barrier()")
        program.open("app", URI)
        everyone_reads("SELECT count(*) FROM t;", 2)

        def refused_in_python(leader):
            try:
                program.ask("INSERT INTO t(who) VALUES ('refused')", on="app")
                raise AssertionError("a follower wrote")
            except Refused as refused:
                assert "readonly" in refused.text, refused
                assert refused.last.startswith("hiqlite: HQL_NOT_LEADER: "), refused
                assert f"write on node {leader} (127.0.0.1:" in refused.last and "hql_execute" in refused.last, refused
            assert program.ask("SELECT count(*) FROM t", on="app")[0][0] >= 2, "still readable"

        def refused_in_shell(leader):
            lines = shell.ask("INSERT INTO t(who) VALUES ('refused');")
            assert len(lines) == 1 and "readonly database (8)" in lines[0], lines
            last = shell.ask("SELECT hql_last_error();")[0]
            assert last.startswith("hiqlite: HQL_NOT_LEADER: ") and f"write on node {leader} (127.0.0.1:" in last and "hql_execute" in last, last

        refused_in_python(1)
        lead(2)
        program.ask("BEGIN", on="app")
        program.ask("INSERT INTO t(who) VALUES ('python')", on="app")
        program.ask("INSERT INTO t(who) VALUES ('python')", on="app")
        program.ask("COMMIT", on="app")
        refused_in_shell(2)
        everyone_reads("SELECT count(*) FROM t;", 4)

        lead(3)
        refused_in_python(3)
        refused_in_shell(3)
        for round_number in range(1, 4):  # hql_execute on each node, read on the same node at once
            lead(round_number)
            assert shell.ask(f"SELECT hql_execute('INSERT INTO t(who) VALUES (?1)', 'shell{round_number}');") == ["1"]
            assert shell.ask(f"SELECT count(*) FROM t WHERE who = 'shell{round_number}';") == ["1"]
            assert program.ask("SELECT hql_execute('INSERT INTO t(who) VALUES (?1)', ?)", f"python{round_number}", on="app") == [[1]]
            assert program.ask("SELECT count(*) FROM t WHERE who = ?", f"python{round_number}", on="app") == [[1]]
            assert server.execute(f"INSERT INTO t(who) VALUES ('serve{round_number}')", db="app.db").stdout == "1\n"
            assert read_plain(server.file("app.db"), f"SELECT count(*) FROM t WHERE who = 'serve{round_number}'") == ["1"]
        everyone_reads("SELECT count(*) FROM t;", 13)

        def digests():
            row = "SELECT applied_index || ' ' || digest FROM hql_databases WHERE name = 'app.db'"
            of_server = next(d for d in server.status()["databases"] if d["name"] == "app.db")
            seen = {shell.ask(row + ";")[0], program.ask(row)[0][0], f"{of_server['applied_index']} {of_server['digest']}"}
            return len(seen) == 1 and "|".join(seen)
        wait_until(digests, "equal digests at one index")

        assert shell.end() == 1, "the shell's own way to say that a statement was refused"
        assert program.ask("SELECT hql_wait_healthy()") == [[1]], "two of three are a quorum"
        assert program.ask("SELECT hql_execute('INSERT INTO t(who) VALUES (1)')") == [[1]]
        assert program.end() == 0
        server.stop()
    finally:
        shell.kill()
        program.kill()
        cluster.kill()


if __name__ == "__main__":
    main(python_application, three_kinds_of_host)

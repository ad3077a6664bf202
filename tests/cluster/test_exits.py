"""Hosts that end while they write (issue: seen working 7): never by a signal, with the status they asked for, and every row that was
acknowledged is there when the data directory is opened again.

Rounds share one data directory, so each one also opens what the one before left. A host says that a row is acknowledged by a line on
its standard output, written after the statement returned.
"""
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(__file__))
from harness import EXTENSION, PATIENCE, SANITIZED, host_environment, main, read_plain, scaled, sqlite_shell  # noqa: E402

ROUNDS = scaled(15, 50, 200) if SANITIZED else 200


def check_rows(workspace, acknowledged):
    path = f"{workspace.path}/data/db/app.db"
    rows = set(read_plain(path, "SELECT id FROM t"))
    assert read_plain(path, "PRAGMA integrity_check") == ["ok"]
    missing = acknowledged - rows
    assert not missing, f"{len(missing)} acknowledged rows are gone, for example {sorted(missing)[:5]}"
    return len(rows)


SHELL_START = """.load {extension}
SELECT hql_start('{{"data_dir":"{dir}/data"}}') = 0;
.open file:app.db?vfs=hiqlite
CREATE TABLE IF NOT EXISTS t(id TEXT PRIMARY KEY);
"""


def shell_exits(workspace):
    acknowledged = set()
    uncommitted = set()
    for number in range(ROUNDS):
        ids = [f"shell-{number}-{i}" for i in range(20)]
        script = SHELL_START.format(extension=EXTENSION, dir=workspace.path)
        script += "".join(f"INSERT INTO t VALUES ('{name}') RETURNING id;\n" for name in ids)
        ending, status = [(".quit\n", 0), ("", 0), (".exit 3\n", 3),
                          (f"BEGIN;\nINSERT INTO t VALUES ('open-{number}');\n.quit\n", 0),
                          (f"BEGIN;\nINSERT INTO t VALUES ('open-{number}');\n", 0)][number % 5]
        if "open" in ending:
            uncommitted.add(f"open-{number}")
        done = sqlite_shell(script + ending, ":memory:")
        assert (done.returncode, done.stderr) == (status, ""), (number, repr(ending), done.returncode, done.stderr)
        assert done.stdout.splitlines() == ["0", *ids], (number, done.stdout)
        acknowledged.update(ids)
    rows = check_rows(workspace, acknowledged)
    assert rows == len(acknowledged), (rows, len(acknowledged), "rows of open transactions stayed" if uncommitted else "")


PYTHON_HOST = r"""
import json, os, sqlite3, sys, threading
extension, directory, number, how = sys.argv[1:5]
boot = sqlite3.connect(":memory:", check_same_thread=False)
boot.enable_load_extension(True)
boot.load_extension(extension)
boot.execute("SELECT hql_start(?)", (json.dumps({"data_dir": directory + "/data", "filename_db": "app.db"}),)).fetchall()
URI = "file:app.db?vfs=hiqlite"
db = sqlite3.connect(URI, uri=True, isolation_level=None)
db.execute("CREATE TABLE IF NOT EXISTS t(id TEXT PRIMARY KEY)")
enough = threading.Semaphore(0)

def acknowledge(name):
    os.write(1, (name + "\n").encode())
    enough.release()

def plain(thread):
    own = sqlite3.connect(URI, uri=True, isolation_level=None, timeout=60)
    for i in range(10**9):
        name = f"{how}-{number}-{thread}-{i}"
        own.execute("INSERT INTO t VALUES (?)", (name,))
        acknowledge(name)

def forwarded(thread):
    own = sqlite3.connect(":memory:", isolation_level=None)
    for i in range(10**9):
        name = f"{how}-{number}-{thread}-{i}"
        own.execute("SELECT hql_execute('INSERT INTO t VALUES (?1)', ?)", (name,)).fetchall()
        acknowledge(name)

def transactions(thread):
    own = sqlite3.connect(URI, uri=True, timeout=60)
    for i in range(10**9):
        names = [f"{how}-{number}-{thread}-{i}-{k}" for k in range(5)]
        with own:
            own.executemany("INSERT INTO t VALUES (?)", [(name,) for name in names])
        for name in names:
            acknowledge(name)

for thread, work in enumerate((plain, forwarded, transactions)):
    threading.Thread(target=work, args=(thread,), daemon=True).start()
for _ in range(30 + 7 * (int(number) % 5)):
    enough.acquire()
if how == "exit":
    sys.exit(5)
if how == "hard":
    os._exit(6)
if how == "stop":
    boot.execute("SELECT hql_stop()").fetchall()
if how == "raise":
    raise SystemExit(7)
"""

PYTHON_ENDS = {"exit": 5, "off": 0, "hard": 6, "stop": 0, "raise": 7}


def python_exits(workspace):
    acknowledged = set()
    for number in range(ROUNDS):
        how = list(PYTHON_ENDS)[number % len(PYTHON_ENDS)]
        done = subprocess.run(["/usr/bin/python3", "-c", PYTHON_HOST, EXTENSION, workspace.path, str(number), how], capture_output=True,
                              text=True, env=host_environment(), timeout=4 * PATIENCE)
        assert done.returncode == PYTHON_ENDS[how], (number, how, done.returncode, done.stderr[-2000:])
        lines = done.stdout.splitlines()
        assert len(lines) >= 30, (number, how, done.stdout, done.stderr)
        acknowledged.update(lines)
    check_rows(workspace, acknowledged)
    print(f"python: {ROUNDS} exits, {len(acknowledged)} acknowledged rows")


# Calls with large arguments are inside the node for long enough that a stop finds them there.
STOP_HOST = r"""
import json, sqlite3, sys, threading
extension, directory, cycles = sys.argv[1:4]
boot = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
boot.enable_load_extension(True)
boot.load_extension(extension)
# The default directory: an opener may start the node by itself between stop and start.
start = lambda: boot.execute("SELECT hql_start(?)", (json.dumps({"data_dir": directory + "/hiqlite-data", "filename_db": "app.db"}),)).fetchall()
start()
ending, entered, answers = threading.Event(), threading.Semaphore(0), set()
large = b"x" * (24 << 20)

def call(sql, *values):
    own = sqlite3.connect(":memory:", isolation_level=None)
    while not ending.is_set():
        entered.release()
        try:
            own.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            answers.add(str(error).split(":")[1].strip())

threads = [threading.Thread(target=call, args=("SELECT hql_execute('SELECT length(?1)', ?)", large), daemon=True) for _ in range(4)]
threads.append(threading.Thread(target=call, args=("SELECT hql_status(), hql_barrier()",), daemon=True))
for thread in threads:
    thread.start()
for _ in range(int(cycles)):
    for _ in threads:
        entered.acquire()
    boot.execute("SELECT hql_stop()").fetchall()
    start()
ending.set()
for thread in threads:
    thread.join()
print(*sorted(answers))
"""


def stop_while_others_call(workspace):
    done = subprocess.run(["/usr/bin/python3", "-c", STOP_HOST, EXTENSION, workspace.path, str(ROUNDS)], capture_output=True, text=True,
                          env=host_environment(), cwd=workspace.path, timeout=4 * PATIENCE)
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    surprises = set(done.stdout.split()) - {"HQL_NOT_STARTED", "HQL_STOPPED", "HQL_UNKNOWN_OUTCOME", "HQL_BUSY", "HQL_TIMEOUT", "HQL_NO_QUORUM"}
    assert not surprises, surprises


if __name__ == "__main__":
    main(shell_exits, python_exits, stop_while_others_call)

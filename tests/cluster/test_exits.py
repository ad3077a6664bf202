"""Hosts that end while they write (issue: seen working 7): never by a signal, with the status they asked for, and every row that was
acknowledged is there when the data directory is opened again.

Rounds share one data directory, so each one also opens what the one before left. A host says that a row is acknowledged by a line on
its standard output, written after the statement returned.
"""
import os
import subprocess
import sys
import threading

sys.path.insert(0, os.path.dirname(__file__))
from harness import EXTENSION, PATIENCE, SANITIZED, host_environment, main, read_plain, scaled, sqlite_shell, wait_until  # noqa: E402

ROUNDS = scaled(15, 50, 200) if SANITIZED else 200
# What a call may hear from a node that stops or has just started.
STOPPED = {"HQL_NOT_STARTED", "HQL_STOPPED", "HQL_UNKNOWN_OUTCOME", "HQL_BUSY", "HQL_TIMEOUT", "HQL_NO_QUORUM"}


def check_rows(workspace, acknowledged):
    path = f"{workspace.path}/data/db/app.db"
    rows = set(read_plain(path, "SELECT id FROM t"))
    assert read_plain(path, "PRAGMA integrity_check") == ["ok"]
    missing = acknowledged - rows
    assert not missing, f"{len(missing)} acknowledged rows are gone, for example {sorted(missing)[:5]}"
    return len(rows)


# No unique constraint: a write that is applied twice makes two rows.
SHELL_START = """.load {extension}
.timeout 60000
SELECT hql_start('{{"data_dir":"{dir}/data","filename_db":"app.db"}}') = 0;
.open file:app.db?vfs=hiqlite
CREATE TABLE IF NOT EXISTS t(id TEXT);
"""

# Writes through the socket of whoever owns the data directory, one call after the other in each thread, whether a node runs or not. A line
# for each call that a node took: "acknowledged <id>" or "<code> <id>".
CLIENT = r"""
import os, sqlite3, sys, threading, time
extension, directory, name = sys.argv[1:4]
boot = sqlite3.connect(":memory:", isolation_level=None)
boot.enable_load_extension(True)
boot.load_extension(extension)

def wait_for_node(own):
    while True:
        try:
            return own.execute("SELECT hql_remote(?)", ("unix:" + directory + "/data",)).fetchall()
        except sqlite3.Error:
            time.sleep(0.005)  # tidy: allow(sleep) the poll interval of a client whose node is down

def call(thread):
    own = sqlite3.connect(":memory:", isolation_level=None)
    wait_for_node(own)
    for i in range(10**9):
        number = f"{name}-{thread}-{i}"
        try:
            own.execute("SELECT hql_execute('INSERT INTO t VALUES (?1)', ?)", (number,)).fetchall()
            answer = "acknowledged"
        except sqlite3.Error as error:
            answer = (str(error).split(":") + ["", ""])[1].strip() or str(error).replace(" ", "_")
        if answer == "HQL_NOT_STARTED":
            wait_for_node(own)
        else:
            os.write(1, f"{answer} {number}\n".encode())

for thread in range(3):
    threading.Thread(target=call, args=(thread,), daemon=True).start()
sys.stdin.read()
os._exit(0)
"""


class Clients(threading.Thread):
    """The process of CLIENT, and what it said."""

    def __init__(self, workspace):
        super().__init__(daemon=True)
        self.errors = open(os.path.join(workspace.path, "clients.err"), "wb")
        self.process = subprocess.Popen(["/usr/bin/python3", "-c", CLIENT, EXTENSION, workspace.path, "client"], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=self.errors, text=True, env=host_environment())
        self.answers = []  # (what, id), by this thread alone

    def run(self):
        for line in self.process.stdout:
            self.answers.append(tuple(line.split()))

    def count(self, what):
        return sum(answer == what for answer, _ in list(self.answers))

    def ids(self, what):
        return {name for answer, name in list(self.answers) if answer == what}

    def finish(self):
        self.process.stdin.close()
        assert self.process.wait(timeout=PATIENCE) == 0
        self.join()
        self.errors.close()


LEFT_MAX = max(1, ROUNDS // 20)  # a machine that stands still for two seconds: the stop at exit waits no longer (R2)
left = []


def check_stopped(workspace, *what):
    """The node was stopped, not left, but for rare exits on a busy machine: what is of a running node is gone."""
    if any(os.path.exists(f"{workspace.path}/data/{name}") for name in ("node.json", "sock")):
        left.append(what)
    assert len(left) <= LEFT_MAX, left


def shell_exits(workspace):
    """The shell ends while others write through its node: whatever is under way then, the shell ends as it always does."""
    # The table first: a client that finds the node before it rightly hears that there is no such table.
    begun = sqlite_shell(SHELL_START.format(extension=EXTENSION, dir=workspace.path), ":memory:")
    assert begun.returncode == 0, begun
    clients = Clients(workspace)
    clients.start()
    acknowledged, cut = set(), 0
    shell = None
    try:
        for number in range(ROUNDS):
            ids = [f"shell-{number}-{i}" for i in range(5)]
            opened = f"BEGIN;\nINSERT INTO t VALUES ('open-{number}') RETURNING id;\n"
            # The last two end inside a transaction, for whose lock the clients wait.
            start, ending, status = [("", ".quit\n", 0), ("", "", 0), ("", ".exit 3\n", 3), (opened, ".quit\n", 0), (opened, "", 0)][number % 5]
            shell = subprocess.Popen(["sqlite3", ":memory:"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                     bufsize=1, env=host_environment(HQL_LOG_LEVEL="error"))
            shell.stdin.write(SHELL_START.format(extension=EXTENSION, dir=workspace.path))
            for name in ids:
                shell.stdin.write(f"INSERT INTO t VALUES ('{name}') RETURNING id;\n")
            assert [shell.stdout.readline().strip() for _ in range(6)] == ["0", *ids], (number, shell.stderr.read())
            acknowledged.update(ids)
            seen = clients.count("acknowledged")
            wait_until(lambda: clients.count("acknowledged") >= seen + 5, f"the clients to write in round {number}")
            if start:
                shell.stdin.write(start)
                assert shell.stdout.readline().strip() == f"open-{number}", (number, shell.stderr.read())
            before = len(clients.answers)
            output, errors = shell.communicate(ending, timeout=4 * PATIENCE)
            assert (shell.returncode, output, errors) == (status, "", ""), (number, repr(ending), shell.returncode, output, errors)
            check_stopped(workspace, number, repr(ending))
            cut += any(answer != "acknowledged" for answer, _ in list(clients.answers)[before:])
        clients.finish()
        surprises = {answer for answer, _ in clients.answers} - {"acknowledged", *STOPPED}
        assert not surprises, surprises
        acknowledged |= clients.ids("acknowledged")
        path = f"{workspace.path}/data/db/app.db"
        counts = dict(row.split("|") for row in read_plain(path, "SELECT id, count(*) FROM t GROUP BY id"))
        assert read_plain(path, "PRAGMA integrity_check") == ["ok"]
        missing = acknowledged - set(counts)
        assert not missing, f"{len(missing)} acknowledged rows are gone, for example {sorted(missing)[:5]}"
        twice = {name: count for name, count in counts.items() if count != "1"}
        assert not twice, f"written once, there more than once: {twice}"
        invented = set(counts) - acknowledged - clients.ids("HQL_UNKNOWN_OUTCOME")
        assert not invented, f"rows of transactions that were open, or reported as surely not applied: {sorted(invented)[:5]}"
        print(f"shell: {ROUNDS} exits, {len(acknowledged)} acknowledged rows; {cut} exits cut calls off, "
              f"{clients.count('HQL_UNKNOWN_OUTCOME')} with unknown outcome")
        assert cut >= ROUNDS // 2, f"only {cut} of {ROUNDS} exits had a write under way"
    finally:
        clients.process.kill()
        if shell is not None and shell.poll() is None:
            shell.kill()
            shell.wait()


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
        if how != "hard":
            check_stopped(workspace, number, how)
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
    surprises = set(done.stdout.split()) - STOPPED
    assert not surprises, surprises


if __name__ == "__main__":
    main(shell_exits, python_exits, stop_while_others_call)

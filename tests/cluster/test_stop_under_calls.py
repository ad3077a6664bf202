"""hql_stop() while other threads of the process are inside calls: each call ends with a result or a clean error, nothing crashes or hangs, what
was acknowledged is there after the next hql_start(). Embedded, and as one of three nodes."""
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(__file__))
from harness import EXTENSION, PATIENCE, Cluster, host_environment, main, read_plain, scaled  # noqa: E402

FAST = "election_timeout_ms = 600\nheartbeat_ms = 60\n"
ROUNDS = scaled(30, 100, 500)

# Threads call without a pause. A round stops the node as soon as every thread has had a success since the start, that is, in the middle of
# further calls, and goes on when each of those has ended. A plain connection that is opened meanwhile starts the node by itself, with the file
# that HQL_CONFIG names; hql_start() then finds it running. Prints one line of JSON.
HOST = r"""
import json, sqlite3, sys, threading, time
extension, config, rounds, patience = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
boot = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
boot.enable_load_extension(True)
boot.load_extension(extension)
boot.execute("SELECT hql_start(?)", (config,)).fetchall()
boot.execute("SELECT hql_wait_healthy(60000)").fetchall()
boot.execute("SELECT hql_execute('CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, who TEXT)')").fetchall()

# Many calls without Python's lock between them.
STATUSES = "WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < 300) SELECT sum(length(hql_status() || i)) FROM r"

class Caller(threading.Thread):
    def __init__(self, number, kind):
        super().__init__(daemon=True)
        self.number, self.kind = number, kind
        self.good = self.ended = 0
        self.acknowledged, self.unknown, self.errors, self.ending = [], [], {}, False

    def run(self):
        # A plain connection does not survive its node: a program opens it again.
        db = own = sqlite3.connect(":memory:", isolation_level=None)
        row = self.number * 1000000
        while not self.ending:
            row += 1
            try:
                if self.kind == "plain":
                    if db is own:
                        db = sqlite3.connect("file:hiqlite.db?vfs=hiqlite", uri=True, isolation_level=None, timeout=1)
                    db.execute("INSERT INTO t VALUES (?, 'plain')", (row,))
                elif self.kind == "execute":
                    db.execute("SELECT hql_execute('INSERT INTO t VALUES (?, ''execute'')', ?)", (row,)).fetchall()
                elif self.kind == "barrier":
                    db.execute("SELECT hql_barrier()").fetchall()
                elif self.kind == "index":  # one that never comes: only the stop, or its deadline, ends it
                    db.execute("SELECT hql_wait_index(1000000000, 200)").fetchall()
                else:
                    db.execute(STATUSES).fetchall()
                if self.kind in ("plain", "execute"):
                    self.acknowledged.append(row)
                self.good += 1
            except sqlite3.Error as error:
                last = own.execute("SELECT hql_last_error()").fetchone()[0] or ""
                text = str(error) if "HQL_" in str(error) else last
                name = text.split("HQL_", 1)[1].split(":")[0] if "HQL_" in text else str(error)
                self.errors[name] = self.errors.get(name, 0) + 1
                if name == "UNKNOWN_OUTCOME" or name == "COMMITTED":
                    self.unknown.append(row)
                if (self.kind, name) in (("index", "TIMEOUT"), ("plain", "NOT_LEADER")):
                    self.good += 1
                if db is not own:
                    db.close()
                    db = own
            self.ended += 1

def reached(condition, what):
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            print(json.dumps({"hung": what, "callers": [[c.kind, c.good, c.ended, c.errors] for c in callers]}), flush=True)
            import os
            os._exit(3)
        time.sleep(0.001)  # tidy: allow(sleep) the poll interval of the host's one wait for a condition

# Far more threads inside a call than processors: some are held up there while the node goes.
kinds = ["plain", "execute", "execute", "barrier", "index"] + ["status"] * 6
callers = [Caller(number + 1, kind) for number, kind in enumerate(kinds)]
for caller in callers:
    caller.start()
for number in range(rounds):
    before = [caller.good for caller in callers]
    reached(lambda: all(caller.good > old for caller, old in zip(callers, before)), f"calls that succeed in round {number}")
    before = [caller.ended for caller in callers]
    boot.execute("SELECT hql_stop(2000)").fetchall()
    reached(lambda: all(caller.ended > old for caller, old in zip(callers, before)), f"the end of the calls of round {number}")
    boot.execute("SELECT hql_start(?)", (config,)).fetchall()
    boot.execute("SELECT hql_wait_healthy(60000)").fetchall()
for caller in callers:
    caller.ending = True
for caller in callers:
    caller.join(patience)
    if caller.is_alive():
        reached(lambda: not caller.is_alive(), "the end of " + caller.kind)
print(json.dumps({
    "acknowledged": [row for caller in callers for row in caller.acknowledged], "unknown": [row for caller in callers for row in caller.unknown],
    "errors": {caller.kind + str(caller.number): caller.errors for caller in callers}, "good": [caller.good for caller in callers]}))
"""

# What a caller may see. BUSY: the plain connection's one second passed while the node was being started.
CLEAN = {"STOPPED", "NOT_STARTED", "NO_QUORUM", "WAITING_FOR_NODES", "UNKNOWN_OUTCOME", "TIMEOUT", "BUSY", "LEASE_LOST", "NOT_LEADER",
         "LOST_WRITE", "COMMITTED"}


def run_host(workspace, config, file, rounds):
    """MALLOC_PERTURB_: what is used after it was freed is not what it was, in every build."""
    env = dict(host_environment(HQL_LOG_LEVEL="error", MALLOC_PERTURB_="165"), HQL_CONFIG=config)
    done = subprocess.run(["/usr/bin/python3", "-c", HOST, EXTENSION, config, str(rounds), str(4 * PATIENCE)], capture_output=True, text=True,
                          env=env, timeout=20 * PATIENCE, cwd=workspace.path,
                          check=False)
    assert done.returncode == 0, (done.returncode, done.stdout[-2000:], done.stderr[-4000:])
    result = json.loads(done.stdout)
    print({kind: errors for kind, errors in result["errors"].items()}, result["good"])
    for kind, errors in result["errors"].items():
        assert set(errors) <= CLEAN, (kind, errors)
    stopped = [kind for kind, errors in result["errors"].items() if set(errors) & {"STOPPED", "NOT_STARTED", "UNKNOWN_OUTCOME"}]
    assert len(stopped) >= 3, f"calls that met no stop at all: {result['errors']}"
    rows = {int(row) for row in read_plain(file, "SELECT id FROM t")}
    missing = set(result["acknowledged"]) - rows
    assert not missing, f"acknowledged and gone: {sorted(missing)[:10]}"
    invented = rows - set(result["acknowledged"]) - set(result["unknown"])
    assert not invented, f"refused and there: {sorted(invented)[:10]}"
    assert read_plain(file, "PRAGMA integrity_check") == ["ok"]
    assert len(result["acknowledged"]) > rounds


def embedded(workspace):
    config = os.path.join(workspace.path, "node.toml")
    with open(config, "w", encoding="utf-8") as file:
        file.write(f'data_dir = "{workspace.path}/data"\n')
    run_host(workspace, config, os.path.join(workspace.path, "data", "db", "hiqlite.db"), ROUNDS)


def one_of_three(workspace):
    cluster = Cluster(workspace, 3, FAST)
    host = cluster.servers[2]
    try:
        for server in cluster.servers[:2]:
            server.start()
        run_host(workspace, host.config, host.file(), ROUNDS // 3)
        host.start()
        cluster.wait_healthy()
        cluster.wait_equal()
        cluster.stop()
    finally:
        if host.process is not None:
            host.kill()
        for server in cluster.servers[:2]:
            server.kill()


DROPS = r"""
import sqlite3, sys, threading
extension, config, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
def opened():
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.enable_load_extension(True)
    db.load_extension(extension)
    return db
db = opened()
db.execute("SELECT hql_start(?), hql_wait_healthy(60000)", (config,)).fetchall()
enough, wrong = threading.Event(), []
written = threading.Semaphore(0)
def write():
    own = opened()
    while not enough.is_set():
        try:
            own.execute("SELECT hql_execute_opts('{\"db\":\"short.db\"}', 'CREATE TABLE IF NOT EXISTS t(x)')").fetchall()
            own.execute("SELECT hql_execute_opts('{\"db\":\"short.db\"}', 'INSERT INTO t VALUES (1)')").fetchall()
            written.release()
        except sqlite3.Error as error:
            # Dropped before, between or under the two statements; or the name was taken again meanwhile.
            if not any(word in str(error) for word in ("HQL_DROPPED", "no such table: t", "HQL_UNKNOWN_OUTCOME", "HQL_NOT_FOUND")):
                wrong.append(str(error))
threads = [threading.Thread(target=write) for _ in range(4)]
for thread in threads: thread.start()
for _ in range(rounds):
    written.acquire()
    try:
        db.execute("SELECT hql_drop_database('short.db')").fetchall()
    except sqlite3.Error as error:
        if "HQL_NOT_FOUND" not in str(error): wrong.append(str(error))
enough.set()
for thread in threads: thread.join()
print(wrong[:5])
db.execute("SELECT hql_stop()").fetchall()
"""


def dropped_under_batches(workspace):
    """A database is dropped while batches of it run: its executor ends on whatever thread is the loop just then."""
    config = json.dumps({"data_dir": os.path.join(workspace.path, "data")})
    done = subprocess.run(["/usr/bin/python3", "-c", DROPS, EXTENSION, config, str(scaled(20, 100, 500))], capture_output=True, text=True,
                          env=host_environment(), timeout=4 * PATIENCE)
    assert done.returncode == 0 and done.stdout.strip() == "[]", done


if __name__ == "__main__":
    main(embedded, one_of_three, dropped_under_batches)

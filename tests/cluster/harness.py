"""Real processes on loopback: clusters of `hiqlite serve`, stock sqlite3 shells and Python programs.

Standard library only; run by Debian's /usr/bin/python3 (its sqlite3 module can load extensions). HQL_BUILD names the build
directory. Nothing here sleeps for a fixed time: everything waits on a condition with a deadline.
"""
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

BUILD = os.environ.get("HQL_BUILD") or sys.exit("HQL_BUILD must name the build directory, e.g. build/dev")
BIN = os.path.join(BUILD, "bin", "hiqlite")
EXTENSION = os.path.join(BUILD, "lib", "libhiqlite")
SCALE = os.environ.get("HQL_TEST_SCALE", "ci")
SANITIZED = "dev" in os.path.basename(BUILD) or "tsan" in os.path.basename(BUILD) or os.environ.get("HQL_SANITIZED") == "1"
PATIENCE = 60.0 if SANITIZED else 30.0
# For tests in which the leader must not change by itself. It hands over when its disk has stood still for half of an election timeout, and
# 300 ms of that, as in the tests that want quick elections, are nothing unusual on a machine with a slow disk.
STEADY_ELECTION_S = 3
STEADY = f"election_timeout_ms = {STEADY_ELECTION_S * 1000}\nheartbeat_ms = 60\n"


def scaled(ci, hour, night):
    return {"ci": ci, "hour": hour, "night": night}[SCALE]


def host_environment(**extra):
    """The environment of a host program that loads the extension; sanitized builds need their runtime first and no DEEPBIND."""
    env = dict(os.environ, **extra)
    env.pop("HQL_CONFIG", None)
    runtime = os.environ.get("HQL_PRELOAD", "")
    if runtime:
        env["LD_PRELOAD"] = runtime
        env["HQL_NO_DEEPBIND"] = "1"
        env.setdefault("ASAN_OPTIONS", "detect_leaks=0:abort_on_error=1")
        env.setdefault("TSAN_OPTIONS", "halt_on_error=0:exitcode=66")
    return env


def wait_until(condition, what, patience=None):
    """Polls `condition` until it is true; the value. The poll interval is not a guess about the time it takes."""
    deadline = time.monotonic() + (patience or PATIENCE)
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"timed out waiting for {what}")
        time.sleep(0.02)  # tidy: allow(sleep) the poll interval of the one place that waits on a condition


reserved = []  # one socket for each block of ports that this process has, until it ends


def free_ports(count):
    """A first port P with P..P+count-1 and P+100..P+100+count-1 free on loopback, and no other test's: also while the servers of a test are
    down, a test that runs beside it neither takes their ports nor tries them. A block is had by binding its name in the kernel's own space of
    socket names, which is as wide as that of the ports and forgets a process that ended."""
    assert count <= 10
    blocks = [first + ten for first in range(21000, 31000, 200) for ten in range(0, 100, 10)]
    random.Random().shuffle(blocks)
    for first in blocks:
        name, sockets = socket.socket(socket.AF_UNIX), []
        try:
            name.bind(f"\0hiqlite-test-ports-{first}")
            for port in [*range(first, first + count), *range(first + 100, first + 100 + count)]:
                sockets.append(socket.socket())
                sockets[-1].bind(("127.0.0.1", port))
            reserved.append(name)
            return first
        except OSError:  # another test's, or another program uses one of the ports
            name.close()
        finally:
            for each in sockets:
                each.close()
    raise AssertionError("no free ports on loopback")


class Workspace:
    """A temporary directory, kept when the test failed or HQL_KEEP is set."""

    def __init__(self, name):
        self.path = tempfile.mkdtemp(prefix=f"hql-{name}-")

    def clean(self, failed):
        if failed or os.environ.get("HQL_KEEP"):
            print(f"files kept in {self.path}", file=sys.stderr)
        else:
            shutil.rmtree(self.path, ignore_errors=True)


class Server:
    """One `hiqlite serve` process."""

    started = []  # of this program, for the end of a test that does not get as far as its own

    def __init__(self, config, data_dir, node_id):
        self.config, self.data_dir, self.node_id = config, data_dir, node_id
        self.process = None
        self.log_path = config + ".log"

    def start(self, wait_ready=True, **env):
        read_fd, write_fd = os.pipe()
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [BIN, "serve", "-c", self.config, "--ready-fd", str(write_fd)], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                pass_fds=[write_fd], env=host_environment(HQL_LOG_LEVEL="info", **env))
        Server.started.append(self.process)
        os.close(write_fd)
        with os.fdopen(read_fd) as ready:
            if wait_ready:
                line = ready.readline()
                if not line.startswith("hiqlite: ready"):
                    raise AssertionError(f"node {self.node_id} did not start: {self.tail()}")
        return self

    def tail(self, lines=30):
        try:
            with open(self.log_path, errors="replace") as log:
                return "".join(log.readlines()[-lines:])
        except OSError:
            return ""

    def run(self, *words, check=True, timeout=None):
        done = subprocess.run([BIN, words[0], "-c", self.config, *words[1:]], capture_output=True, text=True,
                              env=host_environment(), timeout=timeout or 4 * PATIENCE)
        if check and done.returncode != 0:
            raise AssertionError(f"hiqlite {' '.join(words)} on node {self.node_id}: exit {done.returncode}: {done.stderr}\n{self.tail()}")
        return done

    def status(self):
        done = self.run("status", "--json", "--timeout", "2000", check=False)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def execute(self, sql, db="hiqlite.db", timeout_ms=None, check=True):
        extra = ["--timeout", str(timeout_ms)] if timeout_ms else []
        return self.run("exec", "--db", db, *extra, sql, check=check)

    def signal(self, number):
        os.kill(self.process.pid, number)

    def pause(self):
        """SIGSTOP; returns when every thread stands still."""
        def still():
            for task in os.listdir(f"/proc/{self.process.pid}/task"):
                with open(f"/proc/{self.process.pid}/task/{task}/stat", encoding="ascii") as stat:
                    if stat.read().rsplit(")", 1)[1].split()[0] != "T":
                        return False
            return True
        self.signal(signal.SIGSTOP)
        wait_until(still, f"node {self.node_id} to stand still")

    def go_on(self):
        self.signal(signal.SIGCONT)

    def kill(self):
        if self.alive():
            self.process.kill()
        self.process.wait()

    def stop(self):
        """A clean stop; the exit code must be 0."""
        self.signal(signal.SIGTERM)
        code = self.process.wait(timeout=PATIENCE)
        if code != 0:
            raise AssertionError(f"node {self.node_id}: clean stop gave exit code {code}: {self.tail()}")

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def file(self, db="hiqlite.db"):
        return os.path.join(self.data_dir, "db", db)


class Cluster:
    """`count` servers with the files that `hiqlite generate-config` makes."""

    def __init__(self, workspace, count, overrides=""):
        self.dir = workspace.path
        self.first_port = free_ports(count)
        made = subprocess.run([BIN, "generate-config", "--nodes", str(count), "--port", str(self.first_port), "--out", self.dir],
                              capture_output=True, text=True, env=host_environment())
        if made.returncode != 0:
            raise AssertionError(f"generate-config: {made.stderr}")
        for i in range(1, count + 1):
            with open(self.config(i), "a") as f:
                f.write("\n" + overrides)
        self.servers = [Server(self.config(i), os.path.join(self.dir, f"data{i}"), i) for i in range(1, count + 1)]

    def config(self, node_id):
        return os.path.join(self.dir, f"node{node_id}.toml")

    def start(self, **env):
        for server in self.servers:
            server.start(**env)
        return self

    def wait_healthy(self):
        for server in self.servers:
            if server.alive():
                server.run("status", "--wait", "healthy", "--timeout", str(int(PATIENCE * 1000)))
        return self

    def leader(self):
        """The server that says it leads with the highest term, once there is one."""
        def find():
            best = None
            for server in self.servers:
                if not server.alive():
                    continue
                status = server.status()
                if status and status["role"] == "leader" and status["state"] == "healthy":
                    if best is None or status["term"] > best[0]:
                        best = (status["term"], server)
            return best and best[1]
        return wait_until(find, "a leader")

    def followers(self):
        leader = self.leader()
        return [server for server in self.servers if server is not leader]

    def wait_equal(self, db="hiqlite.db"):
        """All living nodes have applied the same index of `db`; their digests must be the same. Returns the digest. A node that catches up
        may be seen while a database of that name goes, or while its applier waits for a writer: that passes."""
        def compare():
            seen = []
            for server in self.servers:
                if not server.alive():
                    continue
                status = server.status()
                row = next((d for d in (status or {}).get("databases", []) if d["name"] == db), None)
                if row is None:
                    return None
                if row["state"] in ("parked", "dropped"):
                    return None
                if row["state"] != "ok":
                    raise AssertionError(f"node {server.node_id}: {db} is {row['state']}: {status['last_error']}")
                seen.append((row["applied_index"], row["digest"]))
            if len({index for index, _ in seen}) != 1:
                return None
            if len({digest for _, digest in seen}) != 1:
                raise AssertionError(f"digests differ at one index: {seen}")
            return seen[0][1]
        return wait_until(compare, f"equal applied indexes of {db}")

    def stop(self):
        for server in self.servers:
            if server.alive():
                server.stop()

    def kill(self):
        for server in self.servers:
            if server.process is not None:
                try:
                    server.signal(signal.SIGCONT)
                except ProcessLookupError:
                    pass
                server.kill()


def sqlite_shell(script, *words, env=None, timeout=None):
    """The stock shell fed with `script`; returns the completed process."""
    return subprocess.run(["sqlite3", *words], input=script, capture_output=True, text=True,
                          env=env or host_environment(), timeout=timeout or 4 * PATIENCE)


def read_plain(path, sql):
    """One query by a plain stock shell without the extension; its lines."""
    done = subprocess.run(["sqlite3", "-cmd", ".timeout 20000", f"file:{path}?mode=ro", sql], capture_output=True, text=True,
                          timeout=4 * PATIENCE)
    if done.returncode != 0 or done.stderr:
        raise AssertionError(f"plain read of {path}: {done.stderr}")
    return done.stdout.splitlines()


class Reader(threading.Thread):
    """A plain process that checks integrity and an invariant in a loop until stopped; any error fails the test."""

    def __init__(self, path, query, expected):
        super().__init__(daemon=True)
        self.path, self.query, self.expected = path, query, expected
        self.errors, self.rounds, self.stopping = [], 0, threading.Event()

    def run(self):
        program = (
            "import sqlite3, sys\n"
            "path, query, expected = sys.argv[1:4]\n"
            "db = sqlite3.connect(f'file:{path}?mode=ro', uri=True, timeout=60)\n"
            "for line in sys.stdin:\n"
            "    ok = db.execute('PRAGMA integrity_check').fetchall()\n"
            "    got = db.execute(query).fetchone()\n"
            "    good = ok == [('ok',)] and (expected == '' or str(got[0]) == expected)\n"
            "    print('ok' if good else f'BAD {ok} {got}', flush=True)\n")
        process = subprocess.Popen(["/usr/bin/python3", "-c", program, self.path, self.query, self.expected], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while not self.stopping.is_set():
            process.stdin.write("go\n")
            process.stdin.flush()
            answer = process.stdout.readline().strip()
            if answer != "ok":
                process.stdin.close()
                self.errors.append(answer + process.stderr.read())
                break
            self.rounds += 1
        try:
            process.stdin.close()
        except OSError:
            pass
        process.wait()

    def finish(self):
        self.stopping.set()
        self.join()
        if self.errors:
            raise AssertionError(f"plain reader of {self.path}: {self.errors}")
        return self.rounds


def main(*tests):
    """Runs test functions, each with a fresh workspace; prints what ctest shows."""
    wanted = sys.argv[1:]
    failures = 0
    for test in tests:
        if wanted and test.__name__ not in wanted:
            continue
        workspace = Workspace(test.__name__)
        begin = time.monotonic()
        failed = False
        try:
            test(workspace)
        except Exception as error:  # a test's own failure: printed with its trace, counted, and the next test runs
            failed = True
            failures += 1
            import traceback
            traceback.print_exc()
        for process in Server.started:
            process.kill()  # nothing when it was waited for
            process.wait()
        Server.started.clear()
        print(f"{'FAILED' if failed else 'ok'}  {test.__name__}  {time.monotonic() - begin:.1f} s", flush=True)
        workspace.clean(failed)
    sys.exit(1 if failures else 0)

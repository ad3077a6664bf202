"""Processes around a node: attached to it, forked from its owner, or its owner while memory, threads or descriptors are missing."""
import json
import os
import sqlite3
import subprocess
import sys

sys.path.insert(0, os.path.dirname(__file__))
from harness import BIN, EXTENSION, PATIENCE, Cluster, host_environment, main, wait_until  # noqa: E402
from hosts import Python, Refused  # noqa: E402
from test_errors import URI, ended, fails, started  # noqa: E402


def attached_process_stays_attached(workspace):
    """Neither an open through the VFS nor an import makes it a node of its own: what it writes afterwards is the owner's."""
    owner = started(workspace)
    attached = Python(workspace.path)
    try:
        data = workspace.path + "/data"
        owner.ask("CREATE TABLE t(x)", on="app")
        plain = sqlite3.connect(os.path.join(workspace.path, "plain.db"))
        plain.executescript("CREATE TABLE t(x)")
        plain.close()
        attached.ask("SELECT hql_remote(?)", "unix:" + data)
        fails(attached, "SELECT hql_import('plain.db', 'copy.db')", "HQL_REFUSED", data)
        fails(attached, "SELECT hql_export('app.db', 'exported.db')", "HQL_REFUSED", data)
        for uri in (URI, URI + "&node=1"):
            try:
                attached.open("app", uri)
                raise AssertionError("an attached process opened a database")
            except Refused as refused:
                for text in ("HQL_REFUSED", data, "hql_execute()"):
                    assert text in refused.last, refused
        seen = json.loads(attached.ask("SELECT hql_status()")[0][0])
        assert (seen["pid"], seen["data_dir"]) == (owner.process.pid, data), seen
        assert attached.ask("SELECT hql_execute_opts(?, ?)", '{"db":"app.db"}', "INSERT INTO t VALUES (1)") == [[1]]
        assert owner.ask("SELECT count(*) FROM t", on="app") == [[1]]
        assert not os.path.exists(os.path.join(workspace.path, "hiqlite-data"))
        ended(attached)
        ended(owner)
    finally:
        attached.kill()
        owner.kill()


def host(workspace, program, *words, **env):
    """Runs a Python program that gets the extension and a directory; the lines it prints. One that hangs fails the test."""
    done = subprocess.run(["/usr/bin/python3", "-c", LOAD + program, EXTENSION, workspace.path, *words], capture_output=True, text=True,
                          env=host_environment(HQL_LOG_LEVEL="error", **env), cwd=workspace.path, timeout=4 * PATIENCE, check=False)
    assert done.returncode == 0, done
    return done.stdout.splitlines()


LOAD = r"""
import json, os, resource, signal, sqlite3, sys, threading
extension, directory = sys.argv[1:3]

def connect(name=":memory:"):
    return sqlite3.connect(name, uri=True, isolation_level=None, check_same_thread=False)

boot = connect()
boot.enable_load_extension(True)
boot.load_extension(extension)
CONFIG = json.dumps({"data_dir": directory + "/data"})

def ask(sql, *values, on=boot):
    try:
        return on.execute(sql, values).fetchall()[0][0]
    except (sqlite3.Error, MemoryError) as error:
        return f"{type(error).__name__}: {error}"
"""

# One thread more each time, until it is enough. The limit is the user's: one that has no other process, and none that root would ignore.
FEW_THREADS = r"""
os.chmod(directory, 0o777)
if os.getuid() == 0:
    os.setuid(60000 + os.getpid() % 5000)
most = resource.getrlimit(resource.RLIMIT_NPROC)[1]
for more in range(10):
    threads = len(os.listdir("/proc/self/task"))
    resource.setrlimit(resource.RLIMIT_NPROC, (threads + more, most))
    first = ask("SELECT hql_start(?)", CONFIG)
    resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
    print(first)
    if first != 1:
        assert ask("SELECT hql_start(?)", CONFIG) == 1
    assert ask("SELECT hql_stop()") == 1
"""


def start_without_threads(workspace):
    """An hql_start() that cannot have its threads says so, whichever thread it is, and the next one works."""
    answers = host(workspace, FEW_THREADS)
    assert answers[0].startswith("OperationalError: hiqlite: HQL_INTERNAL: "), answers
    for answer in answers:
        assert answer == "1" or "thread" in answer, answers


def start_with_another_encoding(workspace):
    """A configured address that is not UTF-8 is written to node.json all the same."""
    assert host(workspace, "print(ask('SELECT hql_start()'))\nprint(os.path.exists(directory + '/data/node.json'))\n"
                           "print(ask('SELECT hql_stop()'))", HQL_NODES=b"1 127.0.0.1:0 \xff:80", HQL_DATA_DIR=workspace.path + "/data",
                HQL_NODE_ID="1") == ["1", "True", "1"]


# The start waits for a plain program's transaction, the stop for a statement that runs: each is under way when the process forks.
FORKS = r"""
def files():
    links = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink("/proc/self/fd/" + fd))
        except OSError:  # the one that listed them
            pass
    ours = [link for link in links if link.startswith(directory + "/data/") and "/db/" not in link]
    return sorted(os.path.basename(link) for link in ours if os.path.isfile(link))  # a folder is open for as long as it is synced

def ticks_of(thread):
    # the processor time that the thread of this name has had
    for task in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{task}/stat", encoding="ascii") as stat:
            name, fields = stat.read().split("(", 1)[1].rsplit(")", 1)
        if name == thread:
            return int(fields.split()[11])
    return 0

def in_background(*words):
    answers = []
    thread = threading.Thread(target=lambda: answers.append(ask(*words, on=connect())))
    thread.start()
    return thread, answers

def wait_for(condition):
    while not condition():
        os.sched_yield()

def fork():
    report, write = os.pipe()
    child = os.fork()
    if child == 0:
        # No SQL here: another thread may have held one of SQLite's own mutexes, which nobody unlocks in the child.
        os.write(write, json.dumps(files()).encode())
        signal.pause()  # it lives until the parent has tried its directory
    return child, json.loads(os.read(report, 4096))

def end(child):
    os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]

assert ask("SELECT hql_start(?)", CONFIG) == 1
assert connect("file:app.db?vfs=hiqlite").execute("CREATE TABLE t(x)").fetchall() == []
assert ask("SELECT hql_stop()") == 1

plain = sqlite3.connect(directory + "/data/db/app.db", isolation_level=None)
plain.execute("BEGIN IMMEDIATE")
starter, started = in_background("SELECT hql_start(?)", CONFIG)
wait_for(lambda: "lock" in files() and "meta" in files())
first, answer = fork()
plain.close()
starter.join()
print("start", started, answer)

in_time = False
while not in_time:  # the fork must come before the stop ends, which gives the statement a fraction of a second
    busy, ran = in_background("SELECT hql_execute_opts(?, ?)", '{"db":"app.db","timeout_ms":3000}', ENDLESS)
    wait_for(lambda: ticks_of("hql-exec") >= 5)
    stopper, stopped = in_background("SELECT hql_stop()")
    wait_for(lambda: "HQL_NOT_STARTED" in str(ask("SELECT hql_status()")))
    second, answer = fork()
    in_time = "lock" in files()
    stopper.join()
    busy.join()
    if not in_time:
        end(second)
        assert ask("SELECT hql_start(?)", CONFIG) == 1
print("stop", stopped, answer)
print(ask("SELECT hql_start(?)", CONFIG), end(first), end(second))
""".replace("ENDLESS", repr("INSERT INTO t SELECT count(*) FROM (WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r) SELECT i FROM r)"))


def fork_beside_start_and_stop(workspace):
    """A child that is forked meanwhile holds nothing of the node; the parent has its directory."""
    answers = host(workspace, FORKS)
    assert answers == ["start [1] []", "stop [1] []", "1 9 9"], answers


# The parent has only loaded the extension, or has stopped its node: the child is a process like any other. After that it is the owner's child.
CHILDREN = r"""
def run(number):
    child = os.fork()
    if child == 0:
        config = json.dumps({"data_dir": f"{directory}/{number}", "filename_db": "app.db"})
        fresh = connect()
        print([ask(*words, on=fresh) for words in (("SELECT hql_start(?)", config), ("SELECT hql_wait_healthy()",),
                                                   ("SELECT hql_execute('CREATE TABLE t(x)')",))])
        app = connect("file:app.db?vfs=hiqlite")
        app.execute("INSERT INTO t VALUES (7)")
        print(app.execute("SELECT x FROM t").fetchall(), ask("SELECT hql_stop()"))
        sys.stdout.flush()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0

run(1)
assert ask("SELECT hql_start(?)", CONFIG) == 1
connect("file:app.db?vfs=hiqlite").execute("CREATE TABLE t(x)")
assert ask("SELECT hql_stop()") == 1
run(2)
assert ask("SELECT hql_start(?)", CONFIG) == 1
child = os.fork()
if child == 0:
    print(ask("SELECT hql_stop()"))
    sys.stdout.flush()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print(ask("SELECT hql_stop()"))
"""


def nodes_of_children(workspace):
    answers = host(workspace, CHILDREN)
    assert answers[:4] == ["[1, 1, 0]", "[(7,)] 1"] * 2, answers
    assert "HQL_FORKED" in answers[4] and answers[5:] == ["1"], answers


# The extension is loaded and the node started with some of 0 to 2 closed; what it says goes to a pipe of its own.
CLOSED = r"""
said = os.dup(1)
os.set_inheritable(said, False)
for fd in json.loads(sys.argv[3]):
    os.close(fd)
answers = [ask("SELECT hql_start(?)", CONFIG), ask("SELECT hql_wait_healthy()"), ask("SELECT hql_execute('CREATE TABLE t(x)')")]
answers.append([os.path.basename(os.readlink(f"/proc/self/fd/{fd}")) for fd in json.loads(sys.argv[3])])
answers.append(ask("SELECT hql_stop()"))
os.write(said, json.dumps(answers).encode())
os._exit(0)
"""


def standard_descriptors_closed(workspace):
    """A host without them is neither aborted nor has its log in one of the node's files, in whichever way it ends."""
    for closed in ([0, 1], [2], [0, 1, 2]):
        os.mkdir(f"{workspace.path}/{len(closed)}")
        done = host(workspace, f"directory += '/{len(closed)}'\nCONFIG = json.dumps({{'data_dir': directory}})\n" + CLOSED, json.dumps(closed))
        assert json.loads(done[0]) == [1, 1, 0, ["null"] * len(closed), 1], (closed, done)
    cluster = Cluster(workspace, 1)
    server = cluster.servers[0]
    server.process = subprocess.Popen(["/bin/sh", "-c", 'exec "$0" "$@" <&- >&-', BIN, "serve", "-c", server.config],
                                      env=host_environment(HQL_LOG_LEVEL="error"))
    try:
        wait_until(lambda: server.status(), "the node to answer")
        server.stop()
    finally:
        cluster.kill()


if __name__ == "__main__":
    main(attached_process_stays_attached, start_without_threads, start_with_another_encoding, fork_beside_start_and_stop,
         nodes_of_children, standard_descriptors_closed)

"""Group commit (DESIGN 5.3): what waits for the disks of a quorum is one entry for all, however many callers there are."""
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(__file__))
from harness import EXTENSION, PATIENCE, STEADY, Cluster, host_environment, main, read_plain  # noqa: E402

CALLERS = 64
ROUNDS = 5

# Threads that all call at once, a round for each line of input: "calling" from each thread, then "done" or its error.
CLIENT = r"""
import os, sqlite3, sys, threading
extension, directory, callers = sys.argv[1:4]
boot = sqlite3.connect(":memory:", isolation_level=None)
boot.enable_load_extension(True)
boot.load_extension(extension)
boot.execute("SELECT hql_remote(?)", ("unix:" + directory,)).fetchall()
gate = threading.Barrier(int(callers) + 1)

def say(text):
    os.write(1, (text + "\n").encode())

def call(thread):
    own = sqlite3.connect(":memory:", isolation_level=None)
    number = 0
    while True:
        gate.wait()
        say("calling")
        try:
            own.execute("SELECT hql_execute_opts('{\"timeout_ms\":60000}', 'INSERT INTO t VALUES (?1)', ?)", (f"{thread}-{number}",)).fetchall()
            say("done")
        except sqlite3.Error as error:
            say(str(error))
        number += 1

for thread in range(int(callers)):
    threading.Thread(target=call, args=(thread,), daemon=True).start()
for line in sys.stdin:
    gate.wait()
os._exit(0)
"""


def many_callers_few_entries(workspace):
    """The followers stand still while all callers call at once: the first batch waits for them, and what came meanwhile is the next one."""
    cluster = Cluster(workspace, 3, STEADY).start()
    client = None
    try:
        cluster.wait_healthy()
        leader, followers = cluster.leader(), cluster.followers()
        leader.execute("CREATE TABLE t(name TEXT)")  # no unique constraint: a write that is applied twice makes two rows
        cluster.wait_equal()
        term = leader.status()["term"]
        client = subprocess.Popen(["/usr/bin/python3", "-c", CLIENT, EXTENSION, leader.data_dir, str(CALLERS)], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, text=True, bufsize=1, env=host_environment())
        before = leader.status()["commit_index"]
        for _ in range(ROUNDS):
            for follower in followers:
                follower.pause()
            client.stdin.write("all\n")
            lines = [client.stdout.readline().strip() for _ in range(CALLERS)]
            assert lines == ["calling"] * CALLERS, lines  # nobody is answered: there is no quorum
            held = leader.status()  # asked after them, through the same door
            for follower in followers:
                follower.go_on()
            answers = [client.stdout.readline().strip() for _ in range(CALLERS)]
            assert answers == ["done"] * CALLERS, {answer for answer in answers if answer != "done"}
            assert held["role"] == "leader"
        calls, entries = ROUNDS * CALLERS, leader.status()["commit_index"] - before
        print(f"{calls} calls were {entries} entries")
        assert 0 < entries <= calls // 8, f"{calls} calls made {entries} entries"
        cluster.wait_equal()
        for server in cluster.servers:
            got = read_plain(server.file(), "SELECT count(*), count(DISTINCT name) FROM t")
            assert got == [f"{calls}|{calls}"], (server.node_id, got)
        assert leader.status()["term"] == term
        client.stdin.close()
        assert client.wait(timeout=PATIENCE) == 0
        cluster.stop()
    finally:
        if client is not None:
            client.kill()
            client.wait()
        cluster.kill()


if __name__ == "__main__":
    main(many_callers_few_entries)

"""Databases that are dropped and made again under the same name: files are known by name, transactions by database id."""
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(__file__))
from harness import BIN, EXTENSION, Cluster, host_environment, main, read_plain, scaled  # noqa: E402

FAST = "election_timeout_ms = 600\nheartbeat_ms = 60\n"
ROUNDS = scaled(3, 20, 60)

HOST = r"""
import json, os, signal, sqlite3, sys
extension, directory, what = sys.argv[1:4]
boot = sqlite3.connect(":memory:", isolation_level=None)
boot.enable_load_extension(True)
boot.load_extension(extension)
boot.execute("SELECT hql_start(?)", (json.dumps({"data_dir": directory + "/data", "filename_db": "app.db"}),)).fetchall()
if what == "crash":
    for value in range(3):
        boot.execute("SELECT hql_execute('CREATE TABLE t(id INTEGER PRIMARY KEY)')").fetchall()
        boot.execute("SELECT hql_execute('INSERT INTO t VALUES (?1)', ?)", (value,)).fetchall()
        if value < 2:
            boot.execute("SELECT hql_drop_database('app.db')").fetchall()
    os.kill(os.getpid(), signal.SIGKILL)
print(boot.execute("SELECT hql_execute_returning('SELECT id FROM t')").fetchone()[0])
"""


def kill_after_drop_and_create(workspace):
    """Recovery reads create, drop, create of one name in the log and finds the files of the last one."""
    words = ["/usr/bin/python3", "-c", HOST, EXTENSION, workspace.path]
    for number, what in enumerate(["crash", "read", "read"]):
        done = subprocess.run([*words, what], capture_output=True, text=True, env=host_environment())
        if what == "read":
            assert (done.returncode, done.stderr) == (0, ""), (number, done.returncode, done.stderr)
            assert "2" in done.stdout, (number, done.stdout)
            assert read_plain(f"{workspace.path}/data/db/app.db", "SELECT id FROM t") == ["2"], number


def node_that_was_away(workspace):
    """It gets drop and create of one name in one go, several times over."""
    cluster = Cluster(workspace, 3, FAST).start()
    try:
        cluster.wait_healthy()
        leader = cluster.leader()
        leader.execute("CREATE TABLE other(i)")
        leader.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v)", db="app.db")
        for number in range(ROUNDS):
            leader = cluster.leader()
            away = next(server for server in cluster.servers if server is not leader)
            away.kill()
            for i in range(3):
                dropped = subprocess.run([BIN, "shell", "-c", leader.config], input="SELECT hql_drop_database('app.db');\n",
                                         capture_output=True, text=True, env=host_environment())
                assert (dropped.returncode, dropped.stdout) == (0, "1\n"), dropped
                leader.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v)", db="app.db")
                leader.execute(f"INSERT INTO t VALUES ({10 * number + i}, randomblob(9000))", db="app.db")
            away.start()
            cluster.wait_healthy()
            cluster.wait_equal("app.db")
            for server in cluster.servers:
                rows = read_plain(server.file("app.db"), "SELECT id FROM t")
                assert rows == [str(10 * number + 2)], (number, server.node_id, rows)
        cluster.stop()
    finally:
        cluster.kill()


if __name__ == "__main__":
    main(kill_after_drop_and_create, node_that_was_away)

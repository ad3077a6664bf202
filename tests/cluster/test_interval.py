"""log_sync = "interval_<ms>": every process killed at once loses nothing (the page cache survives); a log that has lost its end as in a power
cut, with a database that has not, is repaired from the leader in a cluster and adopts the database alone. It says so everywhere."""
import json
import os
import re
import sys
import threading

sys.path.insert(0, os.path.dirname(__file__))
from harness import Cluster, Server, main, read_plain, scaled, wait_until  # noqa: E402

FAST = "election_timeout_ms = 600\nheartbeat_ms = 60\n"
NEVER = 'log_sync = "interval_60000"\n'  # nothing is synced by itself while a test runs


def ids(server):
    return [int(row) for row in read_plain(server.file(), "SELECT id FROM t ORDER BY id")]


class Writer:
    """Inserts rows one after another through one node until told to stop; knows which were acknowledged."""

    def __init__(self, server, first=1):
        self.server, self.first, self.acknowledged = server, first, []
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        row = self.first
        while not self.ended.is_set():
            if self.server.execute(f"INSERT INTO t VALUES ({row}, randomblob(300))", timeout_ms=5000, check=False).returncode != 0:
                return
            self.acknowledged.append(row)
            row += 1

    def kill_after(self, count, servers):
        """Kills while it writes: what was acknowledged last is a moment old."""
        wait_until(lambda: len(self.acknowledged) >= count, f"{count} acknowledged rows")
        for server in servers:
            server.process.kill()
        self.ended.set()
        self.thread.join()
        for server in servers:
            server.kill()


def everybody_killed(workspace):
    cluster = Cluster(workspace, 3, FAST + 'log_sync = "interval_200"\n').start()
    try:
        cluster.wait_healthy()
        status = cluster.servers[0].status()
        assert status["log_sync"] == "interval_200", status
        assert status["acknowledged"] == "in memory on a quorum, on disk 200 ms later", status
        assert "log_sync interval_200: acknowledged means in memory on a quorum" in cluster.servers[0].run("status").stdout
        leader = cluster.leader()
        leader.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
        config = leader.run("shell", "hiqlite.db", "SELECT value FROM hql_config WHERE key = 'log_sync'").stdout
        assert config == "interval_200\n", config
        kept = []
        for _ in range(scaled(3, 20, 100)):
            writer = Writer(cluster.servers[len(kept) % 3], max(kept, default=0) + 1000)
            writer.kill_after(20, cluster.servers)
            kept += writer.acknowledged
            cluster.start().wait_healthy()
            cluster.leader().execute("DELETE FROM t WHERE id < 0")
            cluster.wait_equal()
            for server in cluster.servers:
                there = set(ids(server))
                assert set(kept) <= there, (server.node_id, sorted(set(kept) - there))
                assert server.status()["last_error"] == "", server.status()["last_error"]
        cluster.stop()
    finally:
        cluster.kill()


def lose_the_end(server):
    """Zeroes the batches at the end of the log that no later one declares durable: what a power cut may do to them. Returns how many."""
    segment, batches = None, []
    for line in server.run("dump").stdout.splitlines():
        if line.startswith("segment "):
            segment = line.split()[1]
        elif found := re.match(r"  offset=(\d+) batch lsn=(\d+) durable_through=(\d+) length=(\d+) ", line):
            batches.append((segment, *(int(found[i]) for i in range(1, 5))))
    durable = max(through for _, _, _, through, _ in batches)
    lost = [batch for batch in batches if batch[2] > durable]
    for path, offset, _, _, length in lost:
        with open(path, "r+b") as file:
            file.seek(offset)
            file.write(bytes((length + 4095) // 4096 * 4096))
    return len(lost)


def member_without_the_end_of_its_log(workspace):
    cluster = Cluster(workspace, 3, FAST + NEVER).start()
    try:
        cluster.wait_healthy()
        cluster.leader().execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
        victim = cluster.followers()[0]
        writer = Writer(cluster.leader())
        wait_until(lambda: len(writer.acknowledged) >= 20, "rows")
        wait_until(lambda: len(ids(victim)) >= 20, "rows on the follower")
        victim.kill()
        writer.ended.set()
        writer.thread.join()
        before = ids(victim)
        assert lose_the_end(victim) > 3
        victim.start()
        cluster.wait_healthy()
        cluster.wait_equal()
        for server in cluster.servers:
            assert set(writer.acknowledged) <= set(ids(server)), server.node_id
        status = victim.status()
        assert status["databases"][0]["state"] == "ok", status
        assert "hiqlite.db was ahead of the log" in status["last_error"] and "made again from the log" in status["last_error"], status
        events = victim.run("shell", "hiqlite.db", "SELECT text FROM hql_events WHERE kind = 'ahead_of_log'").stdout
        assert "ahead of the log" in events, events
        aside = [name for name in os.listdir(os.path.dirname(victim.file())) if ".set-aside-" in name]
        assert any(name.startswith("hiqlite.db.set-aside-") for name in aside), aside
        assert set(before) <= set(ids(victim)), "what it had shown is there again"
        cluster.stop()
        cluster.start().wait_healthy()
        cluster.wait_equal()
        assert victim.status()["last_error"] == "", victim.status()["last_error"]
        cluster.stop()
    finally:
        cluster.kill()


def alone_without_the_end_of_its_log(workspace):
    config = os.path.join(workspace.path, "node.toml")
    with open(config, "w") as file:
        file.write(f'data_dir = "{workspace.path}/data"\n{NEVER}')
    server = Server(config, workspace.path + "/data", 1).start()
    try:
        server.run("status", "--wait", "healthy")
        server.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
        writer = Writer(server)
        writer.kill_after(20, [server])
        before = ids(server)
        assert lose_the_end(server) > 3
        server.start()
        server.run("status", "--wait", "healthy")
        status = json.loads(server.run("status", "--json").stdout)
        assert "hiqlite.db was ahead of the log" in status["last_error"] and "was adopted as entry" in status["last_error"], status
        assert set(writer.acknowledged) <= set(ids(server)) and set(before) <= set(ids(server))
        server.execute("INSERT INTO t VALUES (1000000, 'and on')")
        server.stop()
        server.start()
        server.run("status", "--wait", "healthy")
        assert server.status()["last_error"] == "" and 1000000 in ids(server)
        assert read_plain(server.file(), "PRAGMA integrity_check") == ["ok"]
        server.stop()
        # A program without the extension is told from a power cut as before: its WAL is not the node's.
        server.start()
        server.run("status", "--wait", "healthy")
        server.execute("INSERT INTO t VALUES (1000001, 'and on')")
        server.kill()
        os.system(f"sqlite3 {server.file()} 'INSERT INTO t VALUES (2000000, 0)'")
        server.start()
        state = wait_until(lambda: (server.status() or {}).get("databases"), "the database in the status")[0]["state"]
        assert state == "foreign_write", state
        server.stop()
    finally:
        server.kill()


if __name__ == "__main__":
    main(everybody_killed, member_without_the_end_of_its_log, alone_without_the_end_of_its_log)

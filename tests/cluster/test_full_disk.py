"""A full disk (DESIGN 6.3): writes are refused by name, reads go on, writes go on by themselves when there is space, nothing acknowledged is
lost. On a small tmpfs of its own, which only root may mount: skipped with the reason where that is not permitted."""
import json
import os
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(__file__))
from harness import STEADY, Cluster, main, read_plain, wait_until  # noqa: E402
from hosts import Python, Refused, skip  # noqa: E402

SMALL = STEADY + 'wal_size = "256KiB"\n'
SIZE = "8m"
ROUNDS = 3
IDLE = 4.0  # seconds; seals and sync points come after at most one
CAP_SYS_ADMIN = 21


class SmallDisk:
    """A tmpfs on `path`; fill() leaves nothing, free() gives it back."""

    def __init__(self, path):
        self.path = path
        os.makedirs(path, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", path], check=True)

    def fill(self):
        with open(os.path.join(self.path, "filler"), "ab", buffering=0) as file:
            for block in (1 << 16, 4096):
                try:
                    while True:
                        file.write(b"x" * block)
                except OSError:
                    pass

    def free(self):
        os.unlink(os.path.join(self.path, "filler"))

    def unmount(self):
        subprocess.run(["umount", "-l", self.path], check=True)


def start_on(disk, host):
    """An embedded node on the small disk, with a connection "app" and an empty table t; its data directory."""
    data = os.path.join(disk.path, "data")
    host.ask("SELECT hql_start(?)", json.dumps({"data_dir": data, "wal_size": "256KiB"}))
    host.open("app", "file:app.db?vfs=hiqlite&timeout_ms=2000")
    host.ask("CREATE TABLE t(id INTEGER PRIMARY KEY, v)", on="app")
    return data


def embedded_node(workspace):
    disk = SmallDisk(os.path.join(workspace.path, "disk"))
    host = None
    try:
        host = Python(workspace.path, errors=os.path.join(workspace.path, "host.err"))
        data = start_on(disk, host)
        kept, unknown, seen, number = [], [], [], 0
        host.ask("CREATE TABLE small(id INTEGER PRIMARY KEY)", on="app")
        one_frame = ("app", "INSERT INTO small VALUES (?)")  # the commit frame is the first that has no room
        plain = ("app", "INSERT INTO t VALUES (?, randomblob(3000))")
        forwarded = ("app", "SELECT hql_execute_opts('{\"timeout_ms\":2000}', 'INSERT INTO t VALUES (?1, randomblob(3000))', ?)")

        def write(on, sql):
            """None, or the error; keeps account."""
            nonlocal number
            number += 1
            try:
                host.ask(sql, number, on=on)
                kept.append(number)
                return None
            except Refused as refused:
                if "HQL_UNKNOWN_OUTCOME" in refused.last:
                    unknown.append(number)
                return refused

        for round_number in range(ROUNDS):
            assert write(*one_frame) is None and write(*plain) is None and write(*forwarded) is None
            disk.fill()
            for way in (one_frame, plain, forwarded):
                wait_until(lambda: write(*way), "a write to be refused")
                refused = write(*way)
                # SQLite's own words when it is the -wal that has no room, else ours: SQLITE_FULL in both.
                assert refused is not None and "full" in refused.text, refused
                assert refused.text == "database or disk is full" or "HQL_FULL: the disk of " + data in refused.text + refused.last, refused
                seen.append(refused.text)
            rows = [row[0] for row in host.ask("SELECT id FROM t UNION ALL SELECT id FROM small", on="app")]  # reads go on
            assert set(kept) <= set(rows) <= set(kept) | set(unknown), (round_number, kept, rows)
            disk.free()
            for way in (one_frame, plain, forwarded):
                wait_until(lambda: write(*way) is None, "a write to succeed without a restart")
            wait_until(lambda: host.ask("SELECT json_extract(hql_status(), '$.state')") == [["healthy"]], "the node to be healthy")
        assert host.ask("PRAGMA integrity_check", on="app") == [["ok"]]
        assert host.end() == 0
        rows = {int(row) for row in read_plain(os.path.join(data, "db", "app.db"), "SELECT id FROM t UNION ALL SELECT id FROM small")}
        assert set(kept) <= rows <= set(kept) | set(unknown), sorted(set(kept) - rows)
        print(f"acknowledged {len(kept)}, unknown {len(unknown)}, refused {number - len(kept) - len(unknown)}, as {sorted(set(seen))}")
    finally:
        if host is not None:
            host.kill()
        disk.unmount()


def idle_while_full(workspace):
    """Nobody writes for longer than the log needs to come to rest (its seal, its sync point), then there is space: it is noticed by itself."""
    disk = SmallDisk(os.path.join(workspace.path, "disk"))
    host = None
    try:
        host = Python(workspace.path, errors=os.path.join(workspace.path, "host.err"))
        start_on(disk, host)
        host.ask("INSERT INTO t VALUES (1, 0), (2, zeroblob(600000))", on="app")
        host.ask("PRAGMA wal_checkpoint", on="app")  # the -wal is long by now, and written from its beginning again: only the log needs room

        def state():
            return host.ask("SELECT json_extract(hql_status(), '$.state')")[0][0]

        def says_full():
            try:
                host.ask("UPDATE t SET v = v + 1 WHERE id = 1", on="app")
            except Refused as refused:
                assert "full" in refused.text, refused
            return state() == "disk_full"
        disk.fill()
        wait_until(says_full, "the node to say that its disk is full")
        began = time.monotonic()
        wait_until(lambda: state() == "disk_full" and time.monotonic() - began > IDLE, "an idle while")
        disk.free()
        wait_until(lambda: state() == "healthy", "the node to notice that there is space")
        host.ask("UPDATE t SET v = v + 1 WHERE id = 1", on="app")
        assert host.end() == 0
    finally:
        if host is not None:
            host.kill()
        disk.unmount()


def follower_of_three(workspace):
    """The others go on without it; it says disk_full; with space it catches up without a restart, also when it was killed meanwhile."""
    cluster = Cluster(workspace, 3, SMALL)
    disk = SmallDisk(cluster.servers[2].data_dir)
    small = cluster.servers[2]
    try:
        cluster.start().wait_healthy()
        if cluster.leader() is small:
            cluster.servers[0].run("exec", "CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
            small.stop()
            wait_until(lambda: cluster.leader() is not small, "another leader")
            small.start()
            cluster.wait_healthy()
        else:
            cluster.leader().execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
        leader, number = cluster.leader(), 0
        assert leader is not small
        for round_number in range(ROUNDS):
            disk.fill()
            def insert(size=3000):
                nonlocal number
                number += 1
                leader.execute(f"INSERT INTO t VALUES ({number}, randomblob({size}))")
            def says_full():
                insert(30000)  # the log has room to the end of its segments: some ten of these
                status = small.status()
                return status and status["state"] == "disk_full"
            wait_until(says_full, "the follower to say that its disk is full")
            for _ in range(20):
                insert()  # a majority has space
            assert read_plain(cluster.servers[0].file(), "SELECT count(*) FROM t") == [str(number)] or leader is not cluster.servers[0]
            read_plain(small.file(), "SELECT count(*) FROM t")
            if round_number == 1:
                small.kill()
                disk.free()
                small.start()
            else:
                disk.free()
            wait_until(lambda: (s := small.status()) and s["state"] == "healthy", "the follower to be healthy again")
            cluster.wait_equal()
            for server in cluster.servers:
                assert read_plain(server.file(), "SELECT count(*), min(id), max(id) FROM t") == [f"{number}|1|{number}"], server.node_id
        assert cluster.leader() is leader
        cluster.stop()
    finally:
        cluster.kill()
        disk.unmount()


def skip_without_mount():
    with open("/proc/self/status", encoding="ascii") as status:
        rights = next(int(line.split()[1], 16) for line in status if line.startswith("CapEff"))
    if not rights >> CAP_SYS_ADMIN & 1:
        skip("no small filesystem can be mounted here: that takes CAP_SYS_ADMIN")
    with tempfile.TemporaryDirectory() as folder:
        words = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder]
        try:
            done = subprocess.run(words, capture_output=True, text=True, check=False)
        except OSError as error:
            skip(f"no small filesystem can be mounted here: {error}", "mount")
        if done.returncode != 0:
            skip(f"no small filesystem can be mounted here: {done.stderr.strip()}", "mount")
        subprocess.run(["umount", folder], check=True)


if __name__ == "__main__":
    skip_without_mount()
    main(embedded_node, idle_while_full, follower_of_three)

"""What a node may not do to the process it lives in (R2), with faults injected (builds with HQL_FAULTS only): memory that runs out on a lane
ends the node, not the process, and not the cluster; a disk that hangs does not keep the process from ending.
"""
import json
import os
import sys

sys.path.insert(0, os.path.dirname(__file__))
from harness import PATIENCE, STEADY, Cluster, main, read_plain, wait_until  # noqa: E402
from hosts import Python, Refused  # noqa: E402

def insert(server, row):
    return server.execute(f"INSERT INTO t VALUES ({row})", check=False, timeout_ms=3000).returncode == 0


def out_of_memory(workspace, fault, lane, leads):
    """One member of three is struck, late enough for the cluster to be formed. It says why, reads go on there, writes go on elsewhere;
    restarted it is a member again."""
    cluster = Cluster(workspace, 3, STEADY)
    try:
        # The first node forms the cluster, and leads it in all likelihood.
        struck = cluster.servers[0 if leads else 2]
        others = [server for server in cluster.servers if server is not struck]
        struck.start(HQL_FAULT=fault)
        for server in others:
            server.start()
        for server in others:
            server.run("status", "--wait", "healthy", "--timeout", "30000")
        leader = struck if leads else others[0]
        if (cluster.leader() is struck) != leads:
            others[0].execute("CREATE TABLE x(y)", db="other.db")  # the shell wants one
            others[0].run("shell", "other.db", f"SELECT hql_transfer_leader({leader.node_id})")
        others[0].execute("CREATE TABLE t(id INTEGER PRIMARY KEY)")
        rows, kept, status = 0, [], None

        def write_until_struck():
            nonlocal rows, status
            if rows < 30:  # then it is idle, which is when maintenance works
                rows += 1
                if insert(others[rows % 2], rows):
                    kept.append(rows)
            assert struck.alive(), struck.tail()
            status = struck.status()
            return status is not None and status["state"] == "poisoned"
        wait_until(write_until_struck, f"{fault} to strike")
        for text in ("HQL_POISONED", lane, "bad_alloc", "restart"):
            assert text in status["last_error"], (text, status["last_error"])

        # It takes no part and does not pretend to; the file there can be read.
        refused = struck.execute("INSERT INTO t VALUES (-1)", check=False)
        assert refused.returncode != 0 and "HQL_POISONED" in refused.stderr and lane in refused.stderr, refused
        assert read_plain(struck.file(), "PRAGMA integrity_check") == ["ok"]
        assert set(int(row) for row in read_plain(struck.file(), "SELECT id FROM t")) <= set(range(1, rows + 1))
        # The others go on.
        for _ in range(10):
            rows += 1
            wait_until(lambda: insert(others[0], rows), "a write on the others")
            kept.append(rows)
        assert struck.alive() and struck.status()["state"] == "poisoned", struck.tail()
        struck.stop()
        struck.start()
        cluster.wait_healthy()
        cluster.wait_equal()
        for server in cluster.servers:
            there = set(int(row) for row in read_plain(server.file(), "SELECT id FROM t"))
            assert set(kept) <= there, (server.node_id, sorted(set(kept) - there))
        cluster.stop()
    finally:
        cluster.kill()


def out_of_memory_on_the_loop(workspace):
    out_of_memory(workspace, "driver.take:oom:200", "hql-loop", leads=False)  # after the database has come


def out_of_memory_on_the_log(workspace):
    out_of_memory(workspace, "wal.write:oom:20", "hql-log", leads=False)


def out_of_memory_on_the_applier(workspace):
    out_of_memory(workspace, "image.publish:oom:5", "hql-apply", leads=False)


def out_of_memory_in_maintenance(workspace):
    out_of_memory(workspace, "image.wal_sync:oom:2", "hql-maint", leads=False)


def out_of_memory_in_the_executor(workspace):
    out_of_memory(workspace, "exec.batch:oom:3", "hql-exec", leads=True)


def faulty_host(workspace, fault):
    os.environ["HQL_FAULT"] = fault
    try:
        return Python(workspace.path, errors=workspace.path + "/host.err")
    finally:
        del os.environ["HQL_FAULT"]


def start(host, workspace, number=1):
    data = f"{workspace.path}/data{number}"
    host.ask("SELECT hql_start(?)", json.dumps({"data_dir": data, "node_id": number, "filename_db": "app.db"}))
    host.open(f"app{number}", f"file:app.db?vfs=hiqlite&node={number}")
    return f"app{number}"


def embedded_node_runs_out_of_memory(workspace):
    """In a host's own process: the connection goes on reading, is told why it cannot write, and the process ends as it wanted to."""
    for fault, lane in (("driver.take:oom:40", "hql-loop"), ("wal.write:oom:40", "hql-loop"), ("exec.batch:oom:5", "hql-exec")):
        host = faulty_host(workspace, fault)
        name = start(host, workspace)
        host.ask("CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY)", on=name)
        before = host.ask("SELECT count(*) FROM t", on=name)[0][0]
        kept, refused = 0, None
        for row in range(200):
            try:
                host.ask("INSERT INTO t DEFAULT VALUES", on=name)
                kept += 1
                host.ask("SELECT hql_execute('INSERT INTO t DEFAULT VALUES')")
                kept += 1
            except Refused as why:
                refused = why
                break
        assert refused is not None, fault
        # The statement that was struck may not know its outcome; every later one hears why.
        for sql, on in (("INSERT INTO t DEFAULT VALUES", name), ("BEGIN IMMEDIATE", name), ("SELECT hql_execute('DELETE FROM t')", "")):
            try:
                raise AssertionError((sql, host.ask(sql, on=on)))
            except Refused as why:
                assert "HQL_POISONED" in why.last and lane in why.last, (fault, sql, why)
        status = json.loads(host.ask("SELECT hql_status()")[0][0])
        assert status["state"] == "poisoned" and lane in status["last_error"], status
        assert host.ask("SELECT count(*) FROM t", on=name)[0][0] >= before + kept
        assert host.end() == 0, fault
        assert not os.path.exists(f"{workspace.path}/data1/node.json"), "it was stopped, not left"
        host = Python(workspace.path)
        name = start(host, workspace)
        rows = host.ask("SELECT count(*) FROM t", on=name)[0][0]
        assert before + kept <= rows <= before + kept + 1, (fault, before, kept, rows)
        assert host.end() == 0
        assert read_plain(f"{workspace.path}/data1/db/app.db", "PRAGMA integrity_check") == ["ok"]


def exit_with_a_disk_that_hangs(workspace):
    """Every sync of a database's WAL takes an hour: a sync point at the stop of either node never ends. The process ends all the same, with its
    own status, and the next one finds every row."""
    host = faulty_host(workspace, "image.wal_sync:delay_ms=3600000")
    names = [start(host, workspace, number) for number in (1, 2)]
    for name in names:
        host.ask("CREATE TABLE t(id INTEGER PRIMARY KEY)", on=name)
        for row in range(50):
            host.ask("INSERT INTO t VALUES (?)", row, on=name)
    try:
        host.process.stdin.close()
        assert host.process.wait(timeout=PATIENCE) == 0
    finally:
        host.kill()
    for number in (1, 2):
        assert os.path.getsize(f"{workspace.path}/data{number}/db/app.db-wal") > 0, "nothing was checkpointed"
    host = Python(workspace.path)
    for number in (1, 2):
        name = start(host, workspace, number)
        assert host.ask("SELECT count(*), max(id) FROM t", on=name) == [[50, 49]]
        host.ask("INSERT INTO t VALUES (50)", on=name)
    assert host.end() == 0


if __name__ == "__main__":
    main(out_of_memory_on_the_loop, out_of_memory_on_the_log, out_of_memory_on_the_applier, out_of_memory_in_maintenance,
         out_of_memory_in_the_executor, embedded_node_runs_out_of_memory, exit_with_a_disk_that_hangs)

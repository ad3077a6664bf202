"""A damaged log on one of three nodes (R12): it is named by file and offset, the node does not vote with it, the others go on, what is lost
is fetched from them; a data directory that is wiped comes back as a new incarnation with all rows."""
import fcntl
import glob
import json
import os
import re
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.dirname(__file__))
from harness import BIN, Cluster, Server, host_environment, main, read_plain, wait_until  # noqa: E402
from hosts import Python, Refused  # noqa: E402

FAST = "election_timeout_ms = 600\nheartbeat_ms = 60\n"
ROWS = 40
FIRST = "first"  # which batch: the one with the first entry, so that nothing of the log can be read


def ids(server):
    return [int(row) for row in read_plain(server.file(), "SELECT id FROM t ORDER BY id")]


def formed(workspace):
    cluster = Cluster(workspace, 3, FAST).start()
    cluster.wait_healthy()
    cluster.leader().execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    for number in range(1, ROWS + 1):
        cluster.leader().execute(f"INSERT INTO t VALUES ({number}, randomblob(300))")
    cluster.wait_equal()
    return cluster


def batches(server):
    """(file, offset, length) of every batch that holds entries, as `hiqlite dump` shows them."""
    out, segment, batch = [], None, None
    dump = subprocess.run([BIN, "dump", server.data_dir], capture_output=True, text=True, check=True, env=host_environment())
    for line in dump.stdout.splitlines():
        if line.startswith("segment "):
            segment = line.split()[1]
        elif found := re.match(r"  offset=(\d+) batch .* length=(\d+) ", line):
            batch = (segment, int(found[1]), int(found[2]))
        elif line.startswith("    entry group=1") and "kind=data" in line and batch not in out:
            out.append(batch)
    return out


def first_batch(server):
    """(file, offset, length) of the very first batch, which holds the first entry."""
    segment = None
    for line in server.run("dump").stdout.splitlines():
        if line.startswith("segment "):
            segment = line.split()[1]
        elif found := re.match(r"  offset=(\d+) batch .* length=(\d+) ", line):
            return segment, int(found[1]), int(found[2])
    raise AssertionError("the log holds no batch")


def flip(path, offset, count=64):
    with open(path, "r+b") as file:
        file.seek(offset)
        old = file.read(count)
        file.seek(offset)
        file.write(bytes(byte ^ 0xFF for byte in old))


def damaged(server, which):
    """Flips bytes inside the records of a batch of the stopped node; returns file and offset of that batch."""
    found = batches(server)
    assert len(found) > 20, found
    segment, offset, length = first_batch(server) if which == FIRST else found[which]
    assert server.run("verify").returncode == 0
    flip(segment, offset + 96 + (length - 96) // 2, 8)
    return segment, offset


def middle_of_the_log(workspace):
    lost_in_the_middle(workspace, Server.stop)


def middle_of_the_log_of_a_killed_node(workspace):
    """Its database holds in its WAL what the log has lost: nothing says where it is, so it is made again from the log that comes back."""
    victim = lost_in_the_middle(workspace, Server.kill)
    assert glob.glob(victim.file() + ".set-aside-*"), os.listdir(os.path.dirname(victim.file()))


def lost_in_the_middle(workspace, end):
    cluster = formed(workspace)
    try:
        victim = cluster.followers()[0]
        others = [server for server in cluster.servers if server is not victim]
        end(victim)
        segment, offset = damaged(victim, len(batches(victim)) // 2)
        verify = victim.run("verify", check=False)
        assert verify.returncode == 4, verify
        for text in ("HQL_CORRUPT", segment, f"offset {offset}", "declared durable"):
            assert text in verify.stderr, (text, verify.stderr)
        assert f"DAMAGED: {segment} offset {offset}" in victim.run("dump").stdout
        others[0].execute(f"INSERT INTO t VALUES ({ROWS + 1}, 'while it was away')")

        victim.start()
        status = wait_until(victim.status, "a status of the damaged node")
        for text in (segment, f"offset {offset}", "damaged", "fetched from the other nodes"):
            assert text in status["last_error"], (text, status["last_error"])
        assert f"{segment} offset {offset}" in victim.run("status").stdout
        assert f"{segment} offset {offset}" in victim.tail(), "a daemon says it in its log"
        # What was lost is fetched from the others; nothing acknowledged is missing anywhere.
        others[0].execute(f"INSERT INTO t VALUES ({ROWS + 2}, 'with it')")
        victim.run("status", "--wait", "healthy", "--timeout", "60000")
        cluster.wait_equal()
        for server in cluster.servers:
            assert ids(server) == list(range(1, ROWS + 3)), server.node_id
        cluster.stop()
        # The log is whole again, and stays so.
        assert victim.run("verify").stdout.endswith(": ok\n")
        cluster.start().wait_healthy()
        assert victim.status()["last_error"] == ""
        cluster.wait_equal()
        cluster.stop()
        return victim
    finally:
        cluster.kill()


def damaged_node_is_not_half_of_a_quorum(workspace):
    """With one node down, the damaged one must not help to elect a leader that misses what it forgot (R12: no vote below its old end)."""
    no_vote_below_the_old_end(workspace, -9)  # what is left of it is shorter than the log of the one that is behind


def emptied_node_is_not_half_of_a_quorum(workspace):
    """The same when nothing is left of its log: it is not an empty node, which could be handed the first entry and begin anew."""
    no_vote_below_the_old_end(workspace, FIRST)


def no_vote_below_the_old_end(workspace, which):
    cluster = formed(workspace)
    try:
        leader = cluster.leader()
        victim, behind = cluster.followers()
        behind.stop()
        for number in range(ROWS + 1, ROWS + 6):  # acknowledged by leader and victim alone
            leader.execute(f"INSERT INTO t VALUES ({number}, randomblob(300))")
        leader.kill()
        victim.stop()
        segment, offset = damaged(victim, which)
        victim.start()
        behind.start()
        # The one that is behind tells: the other may not know any more who the members are.
        wait_until(lambda: victim.status() and (s := behind.status()) and len([m for m in s["members"] if m["reachable"]]) == 2,
                   "the two nodes to see each other")
        term = max(server.status()["term"] for server in (victim, behind))
        # Several elections of the one that is behind pass: it stays without a majority, however often it asks.
        def refused_long_enough():
            statuses = [server.status() for server in (victim, behind)]
            assert all(s is None or s["role"] != "leader" for s in statuses), [s and (s["role"], s["term"]) for s in statuses]
            write = behind.execute("INSERT INTO t VALUES (1000, 'x')", timeout_ms=1500, check=False)
            return write.returncode == 7 and "HQL_NO_QUORUM" in write.stderr
        for _ in range(3):
            wait_until(refused_long_enough, "a write to be refused for want of a quorum")
        assert f"{segment} offset {offset}" in victim.status()["last_error"]
        assert max(server.status()["term"] for server in (victim, behind)) >= term
        leader.start()
        cluster.wait_healthy()
        cluster.wait_equal()
        for server in cluster.servers:
            assert ids(server) == list(range(1, ROWS + 6)), server.node_id
        cluster.stop()
    finally:
        cluster.kill()


def without_others(workspace, spoil, *texts):
    """An embedded node that refuses to start on what `spoil` left of its log; then its own advice is followed, word for word."""
    host = Python(workspace.path)
    data = os.path.join(workspace.path, "data")
    start = lambda program: program.ask("SELECT hql_start(?)", json.dumps({"data_dir": data}))
    start(host)
    for name in ("app.db", "other.db"):
        host.open(name, f"file:{name}?vfs=hiqlite")
        host.ask("CREATE TABLE t(id INTEGER PRIMARY KEY, v)", on=name)
        for number in range(1, ROWS + 1):
            host.ask("INSERT INTO t VALUES (?, randomblob(300))", number, on=name)
    assert host.end() == 0
    spoil(Server("", data, 1))

    host = Python(workspace.path)
    try:
        start(host)
        raise AssertionError("it started")
    except Refused as refused:
        for text in ("HQL_CORRUPT", data, "hql_import(", *texts):
            assert text in refused.last, (text, refused.last)
        assert "rebuild" not in refused.last, refused.last
        imports = re.search(r"SELECT hql_import\('<where you moved it>/db/NAME', 'NAME'\)", refused.last)[0]
    assert host.end() == 0
    assert read_plain(os.path.join(data, "db", "app.db"), "SELECT count(*) FROM t") == [str(ROWS)], "nothing was touched"
    moved = data + "-moved"
    os.rename(data, moved)
    host = Python(workspace.path)
    start(host)
    for name in ("app.db", "other.db"):
        host.ask(imports.replace("<where you moved it>", moved).replace("NAME", name))
        host.open(name, f"file:{name}?vfs=hiqlite")
        host.ask("INSERT INTO t VALUES (?, 'new')", ROWS + 1, on=name)
        assert host.ask("SELECT count(*), sum(id) FROM t", on=name) == [[ROWS + 1, (ROWS + 1) * (ROWS + 2) // 2]]
    assert host.end() == 0
    for name in ("app.db", "other.db"):
        assert read_plain(os.path.join(data, "db", name), "PRAGMA integrity_check") == ["ok"]


def embedded_node_with_a_damaged_log(workspace):
    def spoil(server):
        found = batches(server)
        assert len(found) > 20, found
        segment, offset, length = found[len(found) // 2]
        flip(segment, offset + 96 + (length - 96) // 2, 8)
    without_others(workspace, spoil, "the log is damaged at", "offset")


def embedded_node_without_its_log(workspace):
    without_others(workspace, lambda server: shutil.rmtree(os.path.join(server.data_dir, "log")), "the log is missing")


def make_unreadable(server):
    """Nothing of its log can be read any more."""
    for path in glob.glob(os.path.join(server.data_dir, "log", "*.seg")):
        with open(path, "r+b") as file:
            file.write(b"\xaa" * os.path.getsize(path))


def wiped_after_damage(workspace):
    cluster = formed(workspace)
    try:
        victim = cluster.followers()[0]
        incarnation = victim.status()["incarnation"]
        victim.stop()
        make_unreadable(victim)
        verify = victim.run("verify", check=False)
        assert verify.returncode == 4 and "HQL_CORRUPT" in verify.stderr and ".seg" in verify.stderr, verify
        shutil.rmtree(victim.data_dir)
        victim.start()
        def replaced():
            own, seen = victim.status(), cluster.leader().status()
            return own and seen and own["incarnation"] != incarnation and any(
                m["incarnation"] == own["incarnation"] and m["role"] == "voter" for m in seen["members"])
        wait_until(replaced, "the new incarnation to be a voter")
        cluster.wait_equal()
        assert ids(victim) == list(range(1, ROWS + 1))
        cluster.stop()
    finally:
        cluster.kill()


def unreadable_log_is_set_aside(workspace):
    """Without a wipe: what cannot be this life's log begins a new one, and the old files are kept beside it."""
    cluster = formed(workspace)
    try:
        victim = cluster.followers()[0]
        incarnation = victim.status()["incarnation"]
        victim.stop()
        make_unreadable(victim)
        victim.start()
        wait_until(lambda: (s := victim.status()) and s["state"] == "healthy" and s["incarnation"] != incarnation, "a new incarnation")
        cluster.wait_equal()
        assert ids(victim) == list(range(1, ROWS + 1))
        aside = sorted(name.split(".")[0] for name in os.listdir(victim.data_dir) if ".aside-" in name)
        assert aside == ["db", "id", "log", "meta"], aside
        cluster.stop()
    finally:
        cluster.kill()


def locked_when_it_starts(workspace):
    """No damage at all: another program has the database locked when its node starts again. HQL_OWNED, and the next start finds it free."""
    config = json.dumps({"data_dir": os.path.join(workspace.path, "data")})
    host = Python(workspace.path)
    try:
        host.ask("SELECT hql_start(?)", config)
        host.open("app", "file:app.db?vfs=hiqlite")
        host.ask("CREATE TABLE t(id INTEGER PRIMARY KEY)", on="app")
        host.ask("INSERT INTO t VALUES (1)", on="app")
        host.kill()
        host = Python(workspace.path)
        with open(os.path.join(workspace.path, "data", "db", "app.db"), "r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX, 512, 0x40000000)  # EXCLUSIVE, as a plain reader that closes last
            try:
                raise AssertionError(host.ask("SELECT hql_start(?)", config))
            except Refused as refused:
                assert "HQL_OWNED" in refused.text and "app.db" in refused.text, refused.text
        host.ask("SELECT hql_start(?)", config)
        host.open("app", "file:app.db?vfs=hiqlite")
        host.ask("INSERT INTO t VALUES (2)", on="app")
        assert host.ask("SELECT count(*) FROM t", on="app") == [[2]]
        assert host.end() == 0
    finally:
        host.kill()


if __name__ == "__main__":
    main(middle_of_the_log, middle_of_the_log_of_a_killed_node, damaged_node_is_not_half_of_a_quorum,
         emptied_node_is_not_half_of_a_quorum, wiped_after_damage, unreadable_log_is_set_aside, locked_when_it_starts,
         embedded_node_with_a_damaged_log, embedded_node_without_its_log)

"""Three `hiqlite serve` processes (issue: seen working 2 to 6): replicate, fail over, come back, lose nothing."""
import os
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(__file__))
from harness import (BIN, PATIENCE, STEADY, STEADY_ELECTION_S, Cluster, Reader, host_environment, main, read_plain, scaled,  # noqa: E402
                     wait_until)

FAST = "election_timeout_ms = 600\nheartbeat_ms = 60\n"


def replicates_everywhere(workspace):
    cluster = Cluster(workspace, 3, FAST).start()
    try:
        cluster.wait_healthy()
        cluster.servers[0].execute("CREATE TABLE t(id INTEGER PRIMARY KEY, node INTEGER)")
        for server in cluster.servers:  # forwarded from any node, read on the same node at once
            assert server.execute(f"INSERT INTO t(node) VALUES ({server.node_id})").stdout == "1\n"
            rows = read_plain(server.file(), f"SELECT count(*) FROM t WHERE node = {server.node_id}")
            assert rows == ["1"], rows
        cluster.wait_equal()
        for server in cluster.servers:
            assert read_plain(server.file(), "SELECT node FROM t ORDER BY id") == ["1", "2", "3"]
        wrong = cluster.servers[1].execute("INSERT INTO missing VALUES (1)", check=False)
        assert wrong.returncode == 1 and "no such table: missing" in wrong.stderr, wrong
        cluster.stop()
        cluster.start().wait_healthy()
        assert cluster.servers[2].execute("INSERT INTO t(node) VALUES (9)").stdout == "1\n"
        cluster.wait_equal()
        cluster.stop()
    finally:
        cluster.kill()


# No key and no unique constraint: a write that is applied twice makes two rows.
TABLE = "CREATE TABLE t(id INTEGER, v INTEGER)"
INSERT = "INSERT INTO t VALUES ({number}, 1), (-{number}, -1)"
ROOM = 1_000_000  # numbers of one load


class Load(threading.Thread):
    """Inserts of numbers of its own through one node, from `first` on; remembers what was acknowledged and what is unknown."""

    def __init__(self, server, first):
        super().__init__(daemon=True)
        self.server, self.first, self.next = server, first, first
        self.acknowledged, self.unknown, self.surprises, self.refused, self.stopping = [], [], [], 0, threading.Event()

    def run(self):
        while not self.stopping.is_set():
            number = self.next
            self.next += 1
            done = self.server.execute(INSERT.format(number=number), timeout_ms=5000, check=False)
            if done.returncode == 0:
                self.acknowledged.append(number)
            elif "HQL_UNKNOWN_OUTCOME" in done.stderr:
                self.unknown.append(number)
            elif any(code in done.stderr for code in ("HQL_NO_QUORUM", "HQL_TIMEOUT", "HQL_WAITING_FOR_NODES", "HQL_STOPPED")):
                self.refused += 1
            elif "HQL_NOT_STARTED" in done.stderr:  # its node is down
                self.refused += 1
                while not self.stopping.is_set() and not os.path.exists(os.path.join(self.server.data_dir, "node.json")):
                    self.stopping.wait(0.02)
                self.stopping.wait(0.05)
            else:
                self.surprises.append(done.stderr.strip())

    def wait_next(self, what):
        """Until a write that has not begun yet is acknowledged."""
        begun, seen = self.next, len(self.acknowledged)
        wait_until(lambda: any(number >= begun for number in self.acknowledged[seen:]), f"node {self.server.node_id}: {what}")


def check_load(cluster, loads):
    """On each node: what was acknowledged once, what is unknown once or not at all, nothing else; both rows of a write or none."""
    cluster.wait_equal()
    surprises = [text for load in loads for text in load.surprises]
    assert not surprises, f"errors that no client should see: {surprises[:5]}"
    acknowledged = {n for load in loads for n in load.acknowledged}
    unknown = {n for load in loads for n in load.unknown}
    for server in cluster.servers:
        counts = dict([int(word) for word in row.split("|")] for row in read_plain(server.file(), "SELECT id, count(*) FROM t GROUP BY id"))
        twice = sorted(n for n, count in counts.items() if count != 1)
        assert not twice, f"node {server.node_id} applied writes more than once: {[(n, counts[n], n in unknown) for n in twice[:10]]}"
        missing = acknowledged - set(counts)
        assert not missing, f"node {server.node_id} lost acknowledged rows {sorted(missing)[:10]}"
        invented = {n for n in counts if n > 0} - acknowledged - unknown
        assert not invented, f"node {server.node_id} has rows that were reported as surely not applied: {sorted(invented)[:10]}"
        halves = {n for n in counts if -n not in counts}
        assert not halves, f"node {server.node_id} has one row of a write and not the other: {sorted(halves)[:10]}"
        assert read_plain(server.file(), "PRAGMA integrity_check") == ["ok"]
    return len(acknowledged), len(unknown)


def leader_killed_in_a_loop(workspace):
    cluster = Cluster(workspace, 3, FAST).start()
    readers, loads = [], []
    try:
        cluster.wait_healthy()
        cluster.servers[0].execute(TABLE)
        cluster.wait_equal()
        readers = [Reader(server.file(), "SELECT coalesce(sum(v), 0) FROM t", "0") for server in cluster.servers]
        for reader in readers:
            reader.start()
        loads = [Load(server, ROOM * server.node_id) for server in cluster.servers]
        for load in loads:
            load.start()
        for round_number in range(scaled(20, 50, 200)):
            killed = cluster.leader()
            term = killed.status()["term"]
            killed.kill()
            # Until another leads and both survivors acknowledge what was begun after the death, the dead one stays dead.
            for load in loads:
                if load.server is not killed:
                    load.wait_next(f"a write begun after the leader's death in round {round_number}")
            leader = cluster.leader()
            assert leader is not killed and leader.status()["term"] > term, (round_number, killed.node_id, term, leader.status())
            index = leader.status()["commit_index"]
            killed.start()
            wait_until(lambda: (status := killed.status()) and status["state"] == "healthy" and status["applied_index"] >= index,
                       f"node {killed.node_id} to catch up in round {round_number}")
            loads[killed.node_id - 1].wait_next(f"a write begun after its return in round {round_number}")
        for load in loads:
            load.stopping.set()
        for load in loads:
            load.join()
        rounds = [reader.finish() for reader in readers]
        acknowledged, unknown = check_load(cluster, loads)
        print(f"acknowledged {acknowledged}, unknown {unknown}, refused {sum(load.refused for load in loads)}, reader rounds {rounds}")
        assert acknowledged > 0 and all(rounds)
        cluster.stop()
    finally:
        for load in loads:
            load.stopping.set()
        cluster.kill()


def all_killed_at_once(workspace):
    cluster = Cluster(workspace, 3, FAST).start()
    loads = []  # of all rounds
    try:
        cluster.wait_healthy()
        cluster.servers[0].execute(TABLE)
        cluster.wait_equal()
        for round_number in range(scaled(3, 10, 50)):
            now = [Load(server, ROOM * (3 * round_number + server.node_id)) for server in cluster.servers]
            loads += now
            for load in now:
                load.start()
            wait_until(lambda: all(len(load.acknowledged) >= 3 for load in now), "some acknowledged writes on each node")
            for server in cluster.servers:
                server.signal(signal.SIGKILL)
            for load in now:
                load.stopping.set()
            for load in now:
                load.join()
            for server in cluster.servers:
                server.kill()
            cluster.start().wait_healthy()
            check_load(cluster, loads)
        cluster.stop()
    finally:
        for load in loads:
            load.stopping.set()
        cluster.kill()


def paused_follower_catches_up(workspace):
    """A follower that stands still for longer than an election takes, once with its connections kept and once until the leader gave them up,
    goes on without a word about elections: all nodes stay in the term they were in."""
    cluster = Cluster(workspace, 3, STEADY).start()
    try:
        cluster.wait_healthy()
        leader = cluster.leader()
        leader.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v INTEGER)")
        cluster.wait_equal()
        before = [server.status() for server in cluster.servers]
        follower = cluster.followers()[0]
        number = 0

        def insert():
            nonlocal number
            number += 1
            leader.execute(f"INSERT INTO t VALUES ({number}, 0)")

        def write_and_see(reached):
            insert()
            return reached()

        def given_up():
            return any(m["id"] == follower.node_id and not m["reachable"] for m in leader.status()["members"])

        for reached, what in ((lambda: time.monotonic() > since + 2 * STEADY_ELECTION_S, "any election timeout to be over"),
                              (given_up, "the leader to give the follower up")):
            follower.pause()
            since = time.monotonic()
            wait_until(lambda: write_and_see(reached), what)
            follower.go_on()
            wait_until(lambda: (status := follower.status()) and status["state"] == "healthy", "the follower to be back")
            insert()
            cluster.wait_equal()
            assert read_plain(follower.file(), "SELECT count(*) FROM t") == [str(number)]
            after = [server.status() for server in cluster.servers]
            for field in ("term", "leader_id", "term_changes", "role"):
                assert [status[field] for status in after] == [status[field] for status in before], (what, field, before, after)
        assert cluster.leader() is leader
        cluster.stop()
    finally:
        cluster.kill()


def wiped_node_returns(workspace):
    import shutil
    cluster = Cluster(workspace, 3, FAST).start()
    try:
        cluster.wait_healthy()
        cluster.leader().execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v INTEGER)")
        victim = cluster.followers()[0]
        victim.kill()
        shutil.rmtree(victim.data_dir)
        others = [server for server in cluster.servers if server is not victim]
        for i in range(1, 11):
            others[0].execute(f"INSERT INTO t VALUES ({i}, 0)")
        victim.start()
        victim.run("status", "--wait", "healthy", "--timeout", "60000")
        cluster.wait_equal()
        def promoted():
            status = victim.status()
            return status and any(m["incarnation"] == status["incarnation"] and m["role"] == "voter" for m in status["members"])
        wait_until(promoted, "the replacement to become a voter")
        others[0].kill()
        victim.execute("INSERT INTO t VALUES (11, 0)")  # the wiped node is half of the majority now
        assert read_plain(victim.file(), "SELECT count(*) FROM t") == ["11"]
    finally:
        cluster.kill()


def transfer_to_a_dead_node(workspace):
    """It is refused with a reason, long before the caller's deadline, and writes go on all the while."""
    cluster = Cluster(workspace, 3, FAST).start()
    try:
        cluster.wait_healthy()
        leader = cluster.leader()
        leader.execute("CREATE TABLE t(id INTEGER PRIMARY KEY)")
        dead, other = cluster.followers()
        dead.kill()
        for asked in (leader, other):
            wait_until(lambda: (s := asked.status()) and not any(m["reachable"] for m in s["members"] if m["id"] == dead.node_id),
                       "the dead node to be missed")
        term, count = leader.status()["term"], 0
        for asked in (leader, other):
            refused = subprocess.run([BIN, "shell", "-c", asked.config], input=f"SELECT hql_transfer_leader({dead.node_id});", text=True,
                                     capture_output=True, env=host_environment(), timeout=4 * PATIENCE)
            assert refused.returncode != 0 and "HQL_NOT_FOUND" in refused.stderr, refused
            assert f"node {dead.node_id} does not answer" in refused.stderr, refused
            count += 1
            leader.execute(f"INSERT INTO t VALUES ({count})")
        assert cluster.leader() is leader and leader.status()["term"] == term
        dead.start()
        cluster.wait_healthy()
        cluster.wait_equal()
        cluster.stop()
    finally:
        cluster.kill()


if __name__ == "__main__":
    main(replicates_everywhere, leader_killed_in_a_loop, all_killed_at_once, paused_follower_catches_up, wiped_node_returns, transfer_to_a_dead_node)

"""A Python program that leaves a write transaction open while it leads: others go on after transaction_timeout_ms, and it is told why its
commit failed (DESIGN 5.2); re-elected with such a transaction, it hands leadership over (R4)."""
import os
import sys
import threading

sys.path.insert(0, os.path.dirname(__file__))
from harness import STEADY, Cluster, main, read_plain, wait_until  # noqa: E402
from hosts import Python, Refused  # noqa: E402

URI = "file:app.db?vfs=hiqlite"


class Trio:
    """Node 1 is a Python program that has app.db open, nodes 2 and 3 are `hiqlite serve`."""

    def __init__(self, workspace, overrides=""):
        self.cluster = Cluster(workspace, 3, STEADY + 'filename_db = "app.db"\n' + overrides)
        self.program, self.servers = Python(workspace.path), self.cluster.servers[1:]

    def __enter__(self):
        assert self.program.ask("SELECT hql_start(?)", self.cluster.config(1)) == [[1]]
        for server in self.servers:
            server.start()
        assert self.program.ask("SELECT hql_wait_healthy()") == [[1]]
        self.lead(1)
        self.program.open("app", URI)
        self.program.ask("CREATE TABLE t(who TEXT)", on="app")
        return self

    def __exit__(self, *_):
        self.program.kill()
        self.cluster.kill()

    def leader(self):
        return self.program.ask("SELECT hql_leader()")[0][0]

    def lead(self, node):
        assert self.program.ask("SELECT hql_transfer_leader(?)", node) == [[node]]

    def leave_open(self):
        self.program.ask("BEGIN IMMEDIATE", on="app")
        self.program.ask("INSERT INTO t VALUES ('open')", on="app")

    def commit_is_refused(self, *words):
        try:
            self.program.ask("COMMIT", on="app")
            raise AssertionError("the transaction was committed")
        except Refused as refused:
            assert refused.last.startswith("hiqlite: HQL_LEASE_LOST: ") and all(word in refused.last for word in words), refused

    def everywhere(self, expected):
        """The rows of t, on every node at one index."""
        sql = "SELECT group_concat(who) FROM (SELECT who FROM t ORDER BY who)"
        row = "SELECT applied_index || ' ' || digest FROM hql_databases WHERE name = 'app.db'"

        def level():
            seen = {self.program.ask(row)[0][0]}
            for server in self.servers:
                database = next(d for d in server.status()["databases"] if d["name"] == "app.db")
                seen.add(f"{database['applied_index']} {database['digest']}")
            return len(seen) == 1
        wait_until(level, "one index and digest on all nodes")
        assert self.program.ask(sql, on="app") == [[expected]]
        for server in self.servers:
            assert read_plain(server.file("app.db"), sql) == [expected]


def open_beyond_its_limit(workspace):
    with Trio(workspace, "transaction_timeout_ms = 1000\n") as trio:
        trio.leave_open()
        done = trio.servers[0].execute("INSERT INTO t VALUES ('forwarded')", db="app.db", timeout_ms=60000)
        assert done.stdout == "1\n", done
        assert trio.leader() in (2, 3)
        for server in trio.servers:
            wait_until(lambda: read_plain(server.file("app.db"), "SELECT who FROM t") == ["forwarded"], "the row of hql_execute")
        trio.commit_is_refused("1000 ms (transaction_timeout_ms)", "app.db", "not applied")
        # Nothing is left of it, and the connection is as good as new.
        assert trio.program.ask("SELECT hql_execute(?)", "INSERT INTO t VALUES ('later')", on="app") == [[1]]
        trio.everywhere("forwarded,later")
        trio.lead(1)
        trio.program.ask("INSERT INTO t VALUES ('again')", on="app")
        trio.everywhere("again,forwarded,later")


def reelected_with_a_doomed_transaction(workspace):
    with Trio(workspace) as trio:
        trio.leave_open()
        trio.lead(2)
        trio.lead(1)
        wait_until(lambda: trio.leader() in (2, 3), "node 1 to hand leadership over")
        done = trio.servers[1].execute("INSERT INTO t VALUES ('forwarded')", db="app.db", timeout_ms=60000)
        assert done.stdout == "1\n", done
        trio.commit_is_refused("the leader changed")
        trio.everywhere("forwarded")


def alone_beyond_its_limit(workspace):
    """One node: nobody else can lead, so who waits goes on when the program has met its error."""
    cluster = Cluster(workspace, 1, 'filename_db = "app.db"\ntransaction_timeout_ms = 300\n')
    program, server = Python(workspace.path), cluster.servers[0]
    try:
        assert program.ask("SELECT hql_start(?)", cluster.config(1)) == [[1]]
        program.open("app", URI)
        program.ask("CREATE TABLE t(who TEXT)", on="app")
        program.ask("BEGIN IMMEDIATE", on="app")
        program.ask("INSERT INTO t VALUES ('open')", on="app")
        results = []
        waiter = threading.Thread(
            target=lambda: results.append(server.execute("INSERT INTO t VALUES ('forwarded')", db="app.db", timeout_ms=60000, check=False)))
        waiter.start()
        wait_until(lambda: program.ask("SELECT count(*) FROM hql_events WHERE kind = 'doomed'") == [[1]], "the limit")
        assert not results, results
        try:
            program.ask("COMMIT", on="app")
            raise AssertionError("the transaction was committed")
        except Refused as refused:
            assert "300 ms (transaction_timeout_ms)" in refused.last, refused
        waiter.join()
        assert results[0].stdout == "1\n", results
        assert program.ask("SELECT who FROM t", on="app") == [["forwarded"]]
    finally:
        program.kill()


if __name__ == "__main__":
    main(open_beyond_its_limit, reelected_with_a_doomed_transaction, alone_beyond_its_limit)

"""Several nodes in one process (DESIGN 4): each with a data directory of its own, and `node=` in the URI says which one is meant."""
import json
import os
import sys

sys.path.insert(0, os.path.dirname(__file__))
from harness import EXTENSION, STEADY, Cluster, host_environment, main, read_plain, sqlite_shell, wait_until  # noqa: E402
from hosts import Python, Refused  # noqa: E402


def uri(node):
    return f"file:app.db?vfs=hiqlite&node={node}"


def refused(program, sql, *texts, on="", parameters=()):
    """The statement fails, with all of the texts in what the user gets to read."""
    try:
        rows = program.ask(sql, *parameters, on=on)
    except Refused as error:
        for text in texts:
            assert text in error.text + error.last, (sql, text, str(error))
        return
    raise AssertionError(f"{sql} was not refused: {rows}")


def status(program, on):
    return json.loads(program.ask("SELECT hql_status()", on=on)[0][0])


def ended(program):
    code = program.end()
    assert code == 0, f"the host ended with {code}"


def two_members_and_a_server(workspace):
    """Nodes 1 and 2 of three live in one Python process: each is itself, one of them stops and comes back, both run when the process ends."""
    cluster = Cluster(workspace, 3, STEADY)
    server = cluster.servers[2]
    program = None
    try:
        server.start()
        program = Python(workspace.path, errors=os.path.join(workspace.path, "host.err"))
        for node in (1, 2):
            assert program.ask("SELECT hql_start(?)", cluster.config(node)) == [[node]]
        server.run("status", "--wait", "healthy", "--timeout", "30000")
        try:
            program.open("any", "file:app.db?vfs=hiqlite")
            raise AssertionError("opened without saying which node")
        except Refused as error:
            assert "several nodes run in this process (1, 2)" in error.last and "node=<id>" in error.last, error
        for node in (1, 2):
            program.open(f"on{node}", uri(node))
            program.ask("SELECT hql_wait_healthy()", on=f"on{node}")
            seen = status(program, f"on{node}")
            assert (seen["node_id"], seen["data_dir"]) == (node, cluster.servers[node - 1].data_dir), seen
        assert status(program, "on1")["cluster_id"] == status(program, "on2")["cluster_id"]

        program.ask("SELECT hql_execute('CREATE TABLE t(id INTEGER PRIMARY KEY, node INTEGER)')", on="on1")
        for node in (1, 2):
            wait_until(lambda: program.ask("SELECT count(*) FROM sqlite_master", on=f"on{node}") == [[1]], f"node {node} to have the table")
        number = 0
        for leader in (1, 2):  # plain SQL through the one that leads, hql_execute through both; the other one is refused
            program.ask("SELECT hql_transfer_leader(?)", leader, on="on1")
            wait_until(lambda: program.ask("SELECT hql_is_leader()", on=f"on{leader}") == [[1]], f"node {leader} to lead")
            number += 1
            program.ask("INSERT INTO t VALUES (?, ?)", number, leader, on=f"on{leader}")
            follower = 3 - leader
            wait_until(lambda: program.ask("SELECT hql_leader()", on=f"on{follower}") == [[leader]], f"node {follower} to see it")
            refused(program, "INSERT INTO t VALUES (-1, 0)", "HQL_NOT_LEADER", f"node {leader}", on=f"on{follower}")
            for node in (1, 2):
                number += 1
                program.ask("SELECT hql_execute('INSERT INTO t VALUES (?1, ?2)', ?, ?)", number, node, on=f"on{node}")
                assert program.ask("SELECT node FROM t WHERE id = ?", number, on=f"on{node}") == [[node]], "its own write"

        # Node 2 leads now and stops: node 1 and the server go on.
        program.ask("SELECT hql_stop()", on="on2")
        refused(program, "INSERT INTO t VALUES (-2, 0)", "HQL_STOPPED", on="on2")
        assert not os.path.exists(os.path.join(cluster.servers[1].data_dir, "node.json"))
        number += 1
        wait_until(lambda: status(program, "on1")["leader_id"] in (1, 3), "another leader")
        program.ask("SELECT hql_execute_opts('{\"timeout_ms\":30000}', 'INSERT INTO t VALUES (?1, 1)', ?)", number, on="on1")
        assert status(program, "on1")["node_id"] == 1

        # It comes back in the same process and has what it missed.
        assert program.ask("SELECT hql_start(?)", cluster.config(2)) == [[2]]
        program.open("again2", uri(2))
        program.ask("SELECT hql_wait_healthy()", on="again2")
        wait_until(lambda: program.ask("SELECT count(*) FROM t", on="again2") == [[number]], "node 2 to catch up")
        number += 1
        program.ask("SELECT hql_execute('INSERT INTO t VALUES (?1, 2)', ?)", number, on="again2")
        ended(program)  # with both running
        for node in (1, 2):
            data = cluster.servers[node - 1].data_dir
            assert not os.path.exists(os.path.join(data, "node.json")), f"node {node} was not stopped"
            path = os.path.join(data, "db", "app.db")
            assert read_plain(path, "PRAGMA integrity_check") == ["ok"]
            rows = int(read_plain(path, "SELECT count(*) FROM t")[0])
            assert rows == number or (node == 1 and rows == number - 1), (node, rows, number)  # one of the two may not have had the last
        for node in (1, 2):  # as servers of their own: the three are one cluster still, and equal
            cluster.servers[node - 1].start()
        cluster.wait_healthy()
        cluster.wait_equal("app.db")
        for each in cluster.servers:
            assert read_plain(each.file("app.db"), "SELECT count(*), min(id) FROM t") == [f"{number}|1"]
        cluster.stop()
    finally:
        if program is not None:
            program.kill()
        cluster.kill()


def two_embedded_nodes(workspace):
    """Two clusters of one node each, with a database of the same name; a data directory or an id that is taken is refused by name."""
    program = Python(workspace.path, errors=os.path.join(workspace.path, "host.err"))
    try:
        directory = {node: f"{workspace.path}/data{node}" for node in (1, 2)}

        def start(node, data):
            return "SELECT hql_start(?)", json.dumps({"node_id": node, "data_dir": data})

        for node in (1, 2):
            assert program.ask(*start(node, directory[node])) == [[node]]
        assert program.ask(*start(1, directory[1])) == [[1]], "the same again is no second start"
        os.symlink(directory[1], f"{workspace.path}/link")
        for data in (directory[1], f"{workspace.path}/link"):
            sql, values = start(3, data)
            refused(program, sql, "HQL_OWNED", "node 1 of this process", "node 3 needs its own data_dir", parameters=[values])
        sql, values = start(1, f"{workspace.path}/data3")
        refused(program, sql, "HQL_OWNED", "node 1 already runs in this process", directory[1], parameters=[values])
        for node in (1, 2):
            program.open(f"on{node}", uri(node))
            program.ask("CREATE TABLE t(node INTEGER)", on=f"on{node}")
        for count, node in ((3, 1), (5, 2)):
            for _ in range(count):
                program.ask("INSERT INTO t VALUES (?)", node, on=f"on{node}")
            program.ask("SELECT hql_execute('INSERT INTO t VALUES (?1)', ?)", node, on=f"on{node}")
        try:
            program.open("third", uri(3))
            raise AssertionError("opened on a node that does not run")
        except Refused as error:
            assert "node=3: no such node in this process" in error.last, error
        program.ask("SELECT hql_stop()", on="on1")
        refused(program, "SELECT count(*) FROM t", "HQL_STOPPED", on="on1")
        # Neither do the functions mean the other node: it would take the row, the database or the stop.
        for sql in ("SELECT hql_execute('INSERT INTO t VALUES (1)')", "SELECT hql_status()", "SELECT hql_export('app.db', 'exported.db')",
                    "SELECT hql_drop_database('app.db')", "SELECT hql_stop()"):
            refused(program, sql, "HQL_STOPPED", "node 1", directory[1], on="on1")
        assert program.ask(*start(1, f"{workspace.path}/data4")) == [[1]], "of the same id, but not the same node"
        refused(program, "SELECT hql_status()", "HQL_STOPPED", directory[1], on="on1")
        program.open("other1", uri(1))
        program.ask("SELECT hql_stop()", on="other1")
        program.ask("INSERT INTO t VALUES (2)", on="on2")
        assert program.ask(*start(1, directory[1])) == [[1]]
        program.open("again1", uri(1))
        program.ask("INSERT INTO t VALUES (1)", on="again1")
        ended(program)
        assert read_plain(f"{directory[1]}/db/app.db", "SELECT count(*), min(node), max(node) FROM t") == ["5|1|1"]
        assert read_plain(f"{directory[2]}/db/app.db", "SELECT count(*), min(node), max(node) FROM t") == ["7|2|2"]
    finally:
        program.kill()


def two_nodes_in_the_shell(workspace):
    """As a person types it: two nodes, `.open` of each, both running at `.quit`."""
    for number in range(1, 4):
        script = f".load {EXTENSION}\n"
        for node in (1, 2):
            script += f"SELECT hql_start('{{\"node_id\":{node},\"data_dir\":\"{workspace.path}/data{node}\"}}');\n"
        for node in (1, 2):
            script += f".open file:app.db?vfs=hiqlite&node={node}\nCREATE TABLE IF NOT EXISTS t(x);\n"
            script += f"INSERT INTO t VALUES ('node {node}');\nSELECT count(*), max(x) FROM t;\n"
        done = sqlite_shell(script + ".quit\n", ":memory:", env=host_environment(HQL_LOG_LEVEL="error"))
        assert (done.returncode, done.stderr) == (0, ""), done
        assert done.stdout.splitlines() == ["1", "2", f"{number}|node 1", f"{number}|node 2"], done.stdout
    for node in (1, 2):
        assert read_plain(f"{workspace.path}/data{node}/db/app.db", "SELECT count(*), max(x) FROM t") == [f"3|node {node}"]


if __name__ == "__main__":
    main(two_members_and_a_server, two_embedded_nodes, two_nodes_in_the_shell)

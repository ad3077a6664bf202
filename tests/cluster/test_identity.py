"""Who a node is (R10, R18): superseded copies, two processes with one id, nodes of another cluster, wrong secrets and lists, forced
bootstrap, a data directory that was rolled back to an older copy. Each is refused by name, and the cluster is not disturbed."""
import os
import shutil
import signal
import sys

sys.path.insert(0, os.path.dirname(__file__))
from harness import STEADY, Cluster, Server, free_ports, main, read_plain, wait_until  # noqa: E402
from hosts import Python, Refused  # noqa: E402

FAST = "election_timeout_ms = 600\nheartbeat_ms = 60\n"


def variant(server, name, replace=None, **values):
    """A second configuration of the same node: a copy of its file with other keys, or with texts replaced."""
    with open(server.config, encoding="utf-8") as file:
        lines = file.read()
    for old, new in (replace or {}).items():
        assert old in lines, (old, lines)
        lines = lines.replace(old, new)
    kept = [line for line in lines.splitlines() if line.split(" = ")[0].strip() not in values]
    path = os.path.join(os.path.dirname(server.config), name + ".toml")
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(kept) + "\n" + "".join(f'{key} = "{value}"\n' for key, value in values.items()))
    return Server(path, values.get("data_dir", server.data_dir), server.node_id)


def formed(workspace, rows=5):
    cluster = Cluster(workspace, 3, STEADY).start()
    cluster.wait_healthy()
    cluster.leader().execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    insert(cluster.leader(), 1, rows)
    cluster.wait_equal()
    return cluster


def insert(server, first, last):
    for number in range(first, last + 1):
        server.execute(f"INSERT INTO t VALUES ({number}, 'row')")


def ids(server):
    return [int(row) for row in read_plain(server.file(), "SELECT id FROM t ORDER BY id")]


def said(server, *texts):
    """Waits until the node's status names its trouble."""
    def all_there():
        status = server.status()
        return status and all(text in status["last_error"] for text in texts) and status
    try:
        return wait_until(all_there, f"last_error of node {server.node_id} to name {texts}")
    except AssertionError as error:
        raise AssertionError(f"{error}; it is {(server.status() or {}).get('last_error')!r}\n{server.tail()}") from error


def leadership(server):
    status = server.status()
    return status["leader_id"], status["term"]


def voter(cluster, server):
    """Waits until the leader shows this very incarnation of the node as a voter, by a committed configuration."""
    def promoted():
        own, seen = server.status(), cluster.leader().status()
        return own and seen and any(m["incarnation"] == own["incarnation"] and m["role"] == "voter" for m in seen["members"])
    wait_until(promoted, f"node {server.node_id} to become a voter")


def content(directory):
    """Name and bytes of every file below a directory."""
    out = {}
    for folder, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(folder, name)
            if os.path.isfile(path):
                with open(path, "rb") as file:
                    out[os.path.relpath(path, directory)] = file.read()
    return out


def replaced_copy_halts(workspace, restarted=False):
    """The old data directory is set aside, the wiped node takes its place; then somebody starts the old one. A leader that made the change
    a moment ago still serves the old one until it knows; one that was restarted since then tells it."""
    cluster = formed(workspace)
    host = None
    try:
        victim = cluster.followers()[0]
        aside = os.path.join(workspace.path, "old-copy")
        victim.stop()
        os.rename(victim.data_dir, aside)
        victim.start()
        victim.run("status", "--wait", "healthy", "--timeout", "60000")
        voter(cluster, victim)
        insert(cluster.leader(), 6, 10)
        cluster.wait_equal()
        incarnation = victim.status()["incarnation"]
        victim.stop()
        if restarted:
            for server in cluster.servers:
                if server is not victim:
                    server.stop()
            for server in cluster.servers:
                if server is not victim:
                    server.start()
        before = leadership(cluster.leader())
        identity = content(aside)["id"]

        old = variant(victim, "old", data_dir=aside)
        old.start()
        try:
            status = wait_until(lambda: (s := old.status()) and s["state"] == "stopped" and s, "the old copy to halt")
            assert "HQL_SUPERSEDED" in status["last_error"], status["last_error"]
            assert f"another incarnation of node {victim.node_id}" in status["last_error"], status["last_error"]
            assert "data_dir" in status["last_error"], "the fix is named"
            assert status["incarnation"] != incarnation
            shown = old.run("status").stdout
            assert "stopped" in shown and "HQL_SUPERSEDED" in shown, shown
            for words in (["exec", "INSERT INTO t VALUES (100, 'stale')"], ["status", "--wait", "healthy", "--timeout", "5000"]):
                refused = old.run(*words, check=False)
                assert refused.returncode == 1 and "HQL_SUPERSEDED" in refused.stderr, (words, refused)
            assert "HQL_SUPERSEDED" in old.tail(), "a daemon that halts says so in its log"
            kept = ids(old)
            assert kept == list(range(1, 6 if restarted else len(kept) + 1)) and len(kept) in (5, 10), f"reads of the old copy go on: {kept}"
            old.stop()
        finally:
            old.kill()

        # The same in an application: hql_start() takes the directory, and every call that needs the cluster says why it cannot be had.
        host = Python(workspace.path, errors=old.log_path)
        host.ask("SELECT hql_start(?)", old.config)
        wait_until(lambda: host.ask("SELECT json_extract(hql_status(), '$.state')") == [["stopped"]], "the old copy to halt in the application")
        try:
            host.ask("SELECT hql_wait_healthy(60000)")
            raise AssertionError("the old copy became healthy")
        except Refused as refused:
            assert "HQL_SUPERSEDED" in refused.text and "HQL_SUPERSEDED" in refused.last, refused
        shown = host.ask("SELECT json_extract(hql_status(), '$.state'), json_extract(hql_status(), '$.last_error')")[0]
        assert shown[0] == "stopped" and "HQL_SUPERSEDED" in shown[1], shown
        host.open("db", "file:hiqlite.db?vfs=hiqlite")
        assert host.ask("SELECT count(*) FROM t", on="db") == [[len(kept)]]
        for on, sql in (("", "SELECT hql_execute('INSERT INTO t VALUES (100, ''stale'')')"), ("db", "INSERT INTO t VALUES (100, 'stale')")):
            try:
                host.ask(sql, on=on)
                raise AssertionError(f"{sql} was not refused")
            except Refused as refused:
                assert "HQL_SUPERSEDED" in refused.last, refused
        assert host.end() == 0

        after = content(aside)
        assert after["id"] == identity and not [name for name in after if "aside" in name], sorted(after)
        assert ids(old) == kept
        assert old.run("verify").returncode == 0
        assert leadership(cluster.leader()) == before, "the cluster was not disturbed"
        insert(cluster.leader(), 11, 12)
        victim.start()
        cluster.wait_healthy()
        assert victim.status()["incarnation"] == incarnation
        cluster.wait_equal()
        assert ids(victim) == list(range(1, 13))
        cluster.stop()
    finally:
        if host is not None:
            host.kill()
        cluster.kill()


def replaced_copy_halts_later(workspace):
    replaced_copy_halts(workspace, restarted=True)


def two_processes_with_one_id(workspace):
    """The second one has its own directory and port, the id is taken: every node it reaches refuses it."""
    cluster = formed(workspace)
    first = cluster.servers[0]
    port = free_ports(1)
    second = variant(first, "second", data_dir=os.path.join(workspace.path, "second"), listen_addr_raft=f"127.0.0.1:{port}")
    try:
        before = leadership(cluster.leader())
        second.start()
        status = said(second, "id in use", "node 1", "node_id")
        assert status["state"] == "waiting_for_nodes" and status["members"] == [], status
        for other in cluster.servers[1:]:
            said(other, "id in use", "node 1")
        refused = second.execute("INSERT INTO t VALUES (100, 'of the second')", timeout_ms=300, check=False)
        assert refused.returncode == 7 and "HQL_WAITING_FOR_NODES" in refused.stderr, refused
        insert(first, 6, 7)  # the first one carries on
        cluster.wait_equal()
        assert leadership(cluster.leader()) == before
        second.stop()
        # At the first one's own address it does not even start.
        twin = variant(first, "twin", data_dir=os.path.join(workspace.path, "twin"))
        failed = twin.run("serve", check=False)
        assert failed.returncode == 5 and "HQL_ADDRESS" in failed.stderr, failed
        cluster.stop()
    finally:
        if second.process is not None:
            second.kill()
        cluster.kill()


def node_of_another_cluster(workspace):
    """Same addresses, same ids, same secret, another cluster: nothing of one is applied to the other."""
    cluster = formed(workspace)
    try:
        theirs = [variant(server, f"other{server.node_id}", data_dir=os.path.join(workspace.path, f"other{server.node_id}"))
                  for server in cluster.servers]
        cluster.stop()
        other = Cluster.__new__(Cluster)
        other.dir, other.first_port, other.servers = cluster.dir, cluster.first_port, theirs
        try:
            other.start().wait_healthy()
            other.leader().execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
            insert(other.leader(), 901, 903)
            other.wait_equal()
            other.stop()

            for server in cluster.servers[:2]:
                server.start()
            for server in cluster.servers[:2]:
                server.run("status", "--wait", "healthy", "--timeout", "60000")
            before = leadership(cluster.servers[0])
            stranger = theirs[2].start()
            mine, foreign = cluster.servers[0].status()["cluster_id"], stranger.status()["cluster_id"]
            assert mine != foreign
            for server in [stranger, *cluster.servers[:2]]:
                said(server, "cluster", mine, foreign, "wiped")
            assert stranger.status()["state"] == "no_quorum"
            refused = stranger.execute("INSERT INTO t VALUES (999, 'x')", timeout_ms=300, check=False)
            assert refused.returncode == 7 and "HQL_NO_QUORUM" in refused.stderr, refused
            cluster.servers[0].execute("INSERT INTO t VALUES (6, 'row')")
            assert leadership(cluster.servers[0]) == before
            assert ids(stranger) == [901, 902, 903]
            assert ids(cluster.servers[0]) == [1, 2, 3, 4, 5, 6]
            stranger.stop()
        finally:
            other.kill()
        cluster.servers[2].start()
        cluster.wait_healthy()
        cluster.wait_equal()
        assert ids(cluster.servers[2]) == [1, 2, 3, 4, 5, 6]
        cluster.stop()
    finally:
        cluster.kill()


def wrong_secret_and_wrong_list(workspace):
    """A member that comes back with another secret, or another list of nodes, is refused by name until its file is right again."""
    cluster, wrong = formed(workspace), []
    try:
        victim = cluster.followers()[0]
        others = [server for server in cluster.servers if server is not victim]
        victim.stop()
        before = leadership(cluster.leader())
        absent = others[0] if others[0].node_id != before[0] else others[1]
        moved = f"127.0.0.1:{free_ports(1)}"
        listed = f"127.0.0.1:{cluster.first_port + absent.node_id - 1}"
        wrong = [(variant(victim, "secret", secret_raft="0123456789abcdefFEDCBA9876543210"), ["HQL_AUTH", "secret_raft", str(victim.node_id)]),
                 (variant(victim, "list", replace={listed: moved}), ["HQL_REFUSED", "another cluster", "`nodes`"])]
        for number, (changed, texts) in enumerate(wrong):
            changed.start()
            said(changed, *texts)
            for other in others if number == 0 else [others[0] if absent is others[1] else others[1]]:
                said(other, *texts)
            insert(cluster.leader(), 10 + number, 10 + number)
            assert leadership(cluster.leader()) == before
            assert 10 + number not in ids(changed)
            changed.stop()
        victim.start()
        cluster.wait_healthy()
        cluster.wait_equal()
        assert ids(victim) == [1, 2, 3, 4, 5, 10, 11]
        cluster.stop()
    finally:
        cluster.kill()
        for changed, _ in wrong:
            if changed.process is not None:
                changed.kill()


def forced_bootstrap(workspace):
    """The operator forms the cluster without the nodes that are missing; they join when they come. Never for a node that belongs."""
    cluster = Cluster(workspace, 3, FAST)
    one, two, three = cluster.servers
    try:
        two.start()  # not the lowest id: it would wait for node 1 for ever
        assert two.run("status", "--field", "state").stdout == "waiting_for_nodes\n"
        usage = two.run("bootstrap", check=False)
        assert usage.returncode == 2 and "--force" in usage.stderr, usage
        nobody = one.run("bootstrap", "--force", check=False)
        assert nobody.returncode == 1 and "HQL_NOT_STARTED" in nobody.stderr, nobody
        assert two.run("bootstrap", "--force").stdout == "cluster formed\n"
        assert two.run("status", "--field", "state").stdout == "healthy\n"
        two.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
        insert(two, 1, 3)
        again = two.run("bootstrap", "--force", check=False)
        assert again.returncode == 1 and "HQL_MISUSE" in again.stderr and "belongs to a cluster already" in again.stderr, again
        for server in (one, three):
            server.start()
            voter(cluster, server)
        cluster.wait_healthy()
        cluster.wait_equal()
        for server in cluster.servers:
            assert server.status()["cluster_id"] == two.status()["cluster_id"]
            assert ids(server) == [1, 2, 3]
            refused = server.run("bootstrap", "--force", check=False)
            assert refused.returncode == 1 and "HQL_MISUSE" in refused.stderr, (server.node_id, refused)
        two.kill()  # the one that was forced is one of three now
        insert(one, 4, 4)
        # A member that is down to itself is no reason to force anything either.
        three.kill()
        refused = one.run("bootstrap", "--force", check=False)
        assert refused.returncode == 1 and "belongs to a cluster already" in refused.stderr, refused
        two.start()
        three.start()
        cluster.wait_healthy()
        cluster.wait_equal()
        assert ids(two) == [1, 2, 3, 4]
        cluster.stop()
    finally:
        cluster.kill()


def rolled_back_copy_is_refused(workspace):
    """A restored copy of a member counts as lost (R10): the nodes that remember a later life of it refuse it until it is wiped."""
    refuse_copy(workspace, running=False)


def copy_of_the_running_life_is_refused(workspace):
    """The copy was made while the node ran, as a snapshot of its disk is: its next start looks like a restart, but for what it lacks."""
    refuse_copy(workspace, running=True)


def refuse_copy(workspace, running):
    cluster = formed(workspace)
    try:
        victim = cluster.followers()[0]
        copy = os.path.join(workspace.path, "copy")
        if running:
            victim.signal(signal.SIGSTOP)
        else:
            victim.stop()
        shutil.copytree(victim.data_dir, copy, ignore=shutil.ignore_patterns("sock", "lock"))
        if running:
            victim.signal(signal.SIGCONT)
        else:
            victim.start()
        cluster.wait_healthy()
        insert(cluster.leader(), 6, 10)
        cluster.wait_equal()
        if running:
            victim.kill()
        else:
            victim.stop()
        shutil.rmtree(victim.data_dir)
        shutil.copytree(copy, victim.data_dir)
        assert ids(victim) == [1, 2, 3, 4, 5]
        before = leadership(cluster.leader())
        victim.start()
        for server in cluster.servers:
            said(server, "HQL_REFUSED", f"node {victim.node_id}", "older copy", "empty data_dir")
        refused = victim.execute("INSERT INTO t VALUES (100, 'stale')", timeout_ms=300, check=False)
        assert refused.returncode == 7, refused
        insert(cluster.leader(), 11, 12)
        assert leadership(cluster.leader()) == before
        assert ids(victim) == [1, 2, 3, 4, 5], "nothing is applied to the copy, and its file is as it was"
        victim.stop()
        shutil.rmtree(victim.data_dir)
        victim.start()
        voter(cluster, victim)
        cluster.wait_equal()
        for server in cluster.servers:
            assert ids(server) == list(range(1, 13))
        # A plain restart, also after kill -9, is not taken for a copy.
        for _ in range(3):
            victim.kill()
            victim.start()
            cluster.wait_healthy()
        cluster.wait_equal()
        cluster.stop()
    finally:
        cluster.kill()


if __name__ == "__main__":
    main(replaced_copy_halts, replaced_copy_halts_later, two_processes_with_one_id, node_of_another_cluster, wrong_secret_and_wrong_list,
         forced_bootstrap, rolled_back_copy_is_refused, copy_of_the_running_life_is_refused)

"""What a user gets to read when something is wrong: ownership, ports, quorum, configuration, arguments, forwarded SQL, fork (SQL.md)."""
import json
import os
import socket
import sqlite3
import subprocess
import sys
import threading

sys.path.insert(0, os.path.dirname(__file__))
from harness import BIN, EXTENSION, PATIENCE, Cluster, Server, free_ports, host_environment, main, read_plain, wait_until  # noqa: E402
from hosts import Python, Refused, Shell  # noqa: E402

URI = "file:app.db?vfs=hiqlite"
SECRET = "0123456789abcdef0123456789abcdef"


def write_config(workspace, name, **values):
    """A TOML file; values are written as JSON, which TOML understands for texts, numbers and lists of them."""
    path = os.path.join(workspace.path, name)
    with open(path, "w", encoding="utf-8") as file:
        for key, value in values.items():
            file.write(f"{key} = {json.dumps(value)}\n")
    return path


def serve_fails(config, code, *texts, **env):
    done = subprocess.run([BIN, "serve", "-c", config], capture_output=True, text=True, env=host_environment(HQL_LOG_LEVEL="error", **env),
                          timeout=PATIENCE, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == code, (code, done.returncode, done.stderr)
    for text in texts:
        assert text in done.stderr, (text, done.stderr)


def fails(program, sql, *texts, on="", parameters=(), kind=None):
    """The statement fails with all of the texts in SQLite's message."""
    try:
        rows = program.ask(sql, *parameters, on=on)
    except Refused as refused:
        for text in texts:
            assert text in refused.text, (sql, text, refused.text)
        assert kind is None or refused.kind == kind, (sql, refused)
        return refused
    raise AssertionError(f"{sql} was not refused: {rows}")


def started(workspace, **values):
    program = Python(workspace.path)
    program.ask("SELECT hql_start(?)", json.dumps({"data_dir": workspace.path + "/data", **values}))
    program.ask("SELECT hql_wait_healthy()")
    program.open("app", URI)
    return program


def ended(program):
    code = program.end()
    assert code == 0, f"the host ended with {code}"


def second_owner(workspace):
    first = started(workspace)
    second = Python(workspace.path)
    try:
        pid = first.process.pid
        config = write_config(workspace, "other.toml", data_dir=workspace.path + "/data")
        serve_fails(config, 6, "HQL_OWNED", f"{pid}", "node 1", "data_dir")
        fails(second, "SELECT hql_start(?)", "hiqlite: HQL_OWNED: ", f"{pid}", "node 1", parameters=[config])
        first.ask("CREATE TABLE t(x)", on="app")
        assert first.ask("SELECT hql_start(?)", config) == [[1]], "the owner itself may say it again"
        fails(first, "SELECT hql_start(?)", "HQL_OWNED", "node 2 needs its own data_dir",
              parameters=[json.dumps({"data_dir": workspace.path + "/data", "node_id": 2})])
        ended(first)
        assert second.ask("SELECT hql_start(?)", config) == [[1]], "free again"
        ended(second)
    finally:
        first.kill()
        second.kill()


def port_in_use(workspace):
    port = free_ports(1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        config = write_config(workspace, "node.toml", node_id=1, nodes=[f"1 127.0.0.1:{port} 127.0.0.1:1", "2 127.0.0.1:2 127.0.0.1:3"],
                              data_dir=workspace.path + "/data")
        serve_fails(config, 5, "HQL_ADDRESS", f"127.0.0.1:{port}", "in use")
    server = Server(config, workspace.path + "/data", 1).start()  # nothing of the failed start stands in the way
    try:
        assert server.run("status", "--field", "state").stdout == "waiting_for_nodes\n"
        server.stop()
    finally:
        server.kill()


def port_zero(workspace):
    """A single node may leave its port to the system: what it got is in the line it prints and in node.json, and somebody listens there."""
    config = write_config(workspace, "node.toml", node_id=1, nodes=["1 127.0.0.1:0 127.0.0.1:0"], data_dir=workspace.path + "/data")
    server = Server(config, workspace.path + "/data", 1)
    try:
        for count in (1, 2):  # it may be another one each time: the node does not depend on it
            server.start()
            server.run("status", "--wait", "healthy", "--timeout", "30000")
            with open(workspace.path + "/data/node.json", encoding="utf-8") as file:
                known = json.load(file)
            host, port = known["raft_addr"].rsplit(":", 1)
            assert host == "127.0.0.1" and int(port) > 0, known
            assert (known["node_id"], known["pid"]) == (1, server.process.pid), known
            with open(server.log_path, encoding="utf-8") as log:
                ready = [line for line in log if line.startswith("hiqlite: ready")]
            assert len(ready) == count and f" raft=127.0.0.1:{port} " in ready[-1], (ready, known)
            socket.create_connection(("127.0.0.1", int(port)), timeout=PATIENCE).close()
            assert server.execute("CREATE TABLE IF NOT EXISTS t(x)").returncode == 0
            server.execute("INSERT INTO t VALUES (1)")
            server.stop()
        assert read_plain(server.file(), "SELECT count(*) FROM t") == ["2"]
    finally:
        server.kill()


def permission_denied(workspace):
    """Where the system denies access (to the superuser too: nobody makes a directory in sysfs), serve ends with 8 and names the path."""
    config = write_config(workspace, "node.toml", data_dir="/sys/hiqlite")
    serve_fails(config, 8, "hiqlite: HQL_PERMISSION: ", "data_dir", "/sys/hiqlite")
    program = Python(workspace.path)
    try:
        fails(program, "SELECT hql_start(?)", "hiqlite: HQL_PERMISSION: ", "/sys/hiqlite", parameters=[config])
        ended(program)
    finally:
        program.kill()


def missing_quorum(workspace):
    cluster = Cluster(workspace, 3, "election_timeout_ms = 600\nheartbeat_ms = 60\n")
    try:
        one = cluster.servers[0].start()
        waiting = one.run("status", "--wait", "healthy", "--timeout", "300", check=False)
        assert waiting.returncode == 7 and "HQL_WAITING_FOR_NODES" in waiting.stderr, waiting
        for node in (2, 3):
            assert f"127.0.0.1:{cluster.first_port + node - 1}" in waiting.stderr, waiting.stderr
        assert one.run("status", "--field", "state").stdout == "waiting_for_nodes\n"
        refused = one.execute("CREATE TABLE t(x)", timeout_ms=300, check=False)
        assert refused.returncode == 7 and "HQL_WAITING_FOR_NODES" in refused.stderr, refused
        for server in cluster.servers[1:]:
            server.start()
        cluster.wait_healthy()
        one.execute("CREATE TABLE t(x)")
        cluster.wait_equal()
        for server in cluster.servers[1:]:
            server.kill()
        wait_until(lambda: one.status()["state"] == "no_quorum", "node 1 to notice that it is alone")
        waiting = one.run("status", "--wait", "healthy", "--timeout", "300", check=False)
        assert waiting.returncode == 7 and "HQL_NO_QUORUM" in waiting.stderr, waiting
        for server in cluster.servers[1:]:
            assert f"127.0.0.1:{cluster.first_port + server.node_id - 1}" in waiting.stderr, waiting.stderr
        refused = one.execute("INSERT INTO t VALUES (1)", timeout_ms=300, check=False)
        assert refused.returncode == 7 and "HQL_NO_QUORUM" in refused.stderr, refused
        assert read_plain(one.file(), "SELECT count(*) FROM t") == ["0"], "reads go on"
    finally:
        cluster.kill()


def wrong_configuration(workspace):
    generated = subprocess.run([BIN, "generate-config"], capture_output=True, text=True, check=True, env=host_environment()).stdout
    keys = [line.lstrip("# ").split(" = ")[0] for line in generated.splitlines() if " = " in line]
    assert len(keys) == 16 and "log_level" in keys, keys

    def wrong(texts, source=None, **values):
        config = write_config(workspace, "wrong.toml", **values)
        if source is not None:
            with open(config, "w", encoding="utf-8") as file:
                file.write(source)
        done = subprocess.run([BIN, "check-config", "-c", config], capture_output=True, text=True, env=host_environment(), check=False)
        assert done.returncode == 3 and done.stderr.startswith("hiqlite: HQL_CONFIG: " + config), (values, done)
        for text in texts:
            assert text in done.stderr, (values, text, done.stderr)

    for key in keys:
        spelt = key[:-2] + key[-1] + key[-2] if key[-1] != key[-2] else key[:-1]
        wrong([f'unknown key "{spelt}"; did you mean "{key}"?'], **{spelt: "x"})
        wrong([f'unknown key "{key}x"; did you mean "{key}"?'], **{key + "x": 1})
    wrong(['unknown key "elephant"; `hiqlite generate-config` prints all keys'], elephant=1)
    numbers = [key for key in keys if key.endswith("_ms") or key == "node_id"]
    for key in numbers:
        wrong([f"{key}: \"soon\" is not a whole number"], **{key: "soon"})
        wrong([f"{key}: -1 is outside "], **{key: -1})
        wrong([f"{key}: 99999999999 is outside "], **{key: 99999999999})
        wrong([f"{key}: expected a whole number, got a list"], **{key: ["1"]})
        wrong([f"{key}: expected a string, a whole number or a list of strings"], **{key: 1.5})
    wrong(['nodes[0] "1 a": expected "id raft_host:port api_host:port"'], nodes=["1 a"])
    wrong(['"nohost": expected "host:port"'], nodes=["1 nohost 127.0.0.1:2"])
    wrong(['"h:70000": expected "host:port"'], nodes=["1 h:70000 127.0.0.1:2"])
    wrong(["node 1 is listed twice"], nodes=["1 a:1 a:2", "1 b:1 b:2"])
    wrong(["node 1 has the same address"], nodes=["1 a:1 a:2", "2 a:1 a:2"])
    wrong(["node_id: 9 is not in nodes"], node_id=9, nodes=["1 a:1 a:2"])
    wrong(["port 0 is for a single node"], nodes=["1 a:0 a:2", "2 b:1 b:2"])
    wrong(["nodes: expected a list of strings"], nodes=3)
    for address in ("::1:8100", "[::1:8100", "a:-0", "a:", ":1"):
        wrong([f'"{address}": expected "host:port", for example "127.0.0.1:8100" or "[::1]:8100"'], nodes=[f"1 {address} a:2"])
        wrong([f'listen_addr_raft: "{address}": expected "host:port"'], listen_addr_raft=address)
    wrong(['"a:00": port 0 is for a single node'], nodes=["1 a:00 a:2", "2 b:1 b:2"])
    wrong(["data_dir: must not be empty"], data_dir="")
    wrong(["data_dir: no path holds a zero byte"], data_dir="a\0b")
    for name in ("", "a/b", "..", "a.db-wal", "x" * 65):
        wrong([f'filename_db: database name "{name[:60]}'], filename_db=name)
    for key in ("secret_raft", "secret_api"):
        wrong([f"{key}: the secret is too weak", "openssl rand -hex 32"], **{key: "short"})
        wrong([f"{key}: the secret is too weak"], **{key: "a" * 40})
    for value in ("never", "interval", "interval_", "interval_0", "interval_abc", "interval_5s", "interval_-1", "interval_60001",
                  "interval_1000000000", "interval_99999999999999999999", "Interval_200", " interval_200"):
        wrong([f'log_sync: "{value}" is neither "immediate" nor "interval_<ms>" with 1 to 60000 milliseconds, as in "interval_200"'],
              log_sync=value)
    wrong(['log_sync: "200" is neither'], log_sync=200)
    for value in ("immediate", "interval_1", "interval_200", "interval_60000"):
        accepted = write_config(workspace, "sync.toml", data_dir=workspace.path + "/data", log_sync=value)
        checked = subprocess.run([BIN, "check-config", "-c", accepted], capture_output=True, text=True, env=host_environment(), check=False)
        assert checked.returncode == 0 and value in checked.stdout, checked
    wrong(['log_level: "loud" is none of: error, warn, info, debug'], log_level="loud")
    wrong(['wal_size: "much" is not a size', "64MiB"], wal_size="much")
    wrong(["wal_size: 1 is outside 65536..1073741824"], wal_size=1)
    for key in ("listen_addr_raft", "listen_addr_api"):
        wrong([f'{key}: "nowhere": expected "host:port"'], **{key: "nowhere"})
    wrong(["heartbeat_ms: 500 is more than a third of election_timeout_ms (600)"], heartbeat_ms=500, election_timeout_ms=600)
    wrong([":2:"], source="node_id = 1\nnode_id = = 2\n")
    wrong(["expected a string"], source="data_dir = true\n")
    missing = subprocess.run([BIN, "check-config", "-c", "/nowhere.toml"], capture_output=True, text=True, env=host_environment(), check=False)
    assert missing.returncode == 3 and "/nowhere.toml" in missing.stderr and "No such file" in missing.stderr, missing
    good = write_config(workspace, "good.toml", data_dir=workspace.path + "/data")
    serve_fails(good, 3, "HQL_CONFIG", "environment: HQL_HEARTBEAT_MS", HQL_HEARTBEAT_MS="often")


def secrets_and_addresses(workspace):
    port = free_ports(2)
    nodes = [f"1 127.0.0.1:{port} 127.0.0.1:{port + 100}", f"2 127.0.0.1:{port + 1} 127.0.0.1:{port + 101}"]
    open_to_all = write_config(workspace, "open.toml", node_id=1, nodes=[f"1 0.0.0.0:{port} 127.0.0.1:{port + 100}", nodes[1]],
                               data_dir=workspace.path + "/open")
    done = subprocess.run([BIN, "serve", "-c", open_to_all], capture_output=True, text=True, env=host_environment(), timeout=PATIENCE,
                          stdin=subprocess.DEVNULL, check=False)
    assert done.returncode in (1, 3) and "secret_raft" in done.stderr and f"0.0.0.0:{port}" in done.stderr, done
    servers = []
    try:
        for node, secret in ((1, SECRET), (2, SECRET[::-1])):
            data = f"{workspace.path}/data{node}"
            config = write_config(workspace, f"node{node}.toml", node_id=node, nodes=nodes, secret_raft=secret, data_dir=data)
            servers.append(Server(config, data, node).start())
        wait_until(lambda: "HQL_AUTH" in servers[0].tail() or "secret" in servers[0].tail(), "node 1 to complain about the secret")
        waiting = servers[0].run("status", "--wait", "healthy", "--timeout", "500", check=False)
        assert waiting.returncode == 7, waiting
        for server in servers:
            assert SECRET not in server.tail(200) and SECRET[::-1] not in server.tail(200), "a secret is in the log"
            server.stop()
    finally:
        for server in servers:
            server.kill()


def arguments_of_functions(workspace):
    program = started(workspace)
    try:
        program.ask("CREATE TABLE t(id INTEGER PRIMARY KEY, x)", on="app")
        many = ", ".join(["1"] * 4)
        for name in ("hql_execute", "hql_execute_returning", "hql_txn", "hql_batch", "hql_drop_database"):
            for value, word in (("NULL", "NULL"), ("x'00'", "a blob")):
                fails(program, f"SELECT {name}({value})", f"hiqlite: HQL_ARGUMENT: {name}(): argument 1 (", word)
        for name in ("hql_execute", "hql_execute_opts", "hql_execute_returning"):
            fails(program, f"SELECT {name}()", f"HQL_ARGUMENT: {name}() was called with 0 arguments; usage: {name}(")
        for name in ("hql_stop", "hql_wait_healthy"):
            fails(program, f"SELECT {name}(-1)", "HQL_ARGUMENT", "argument 1 (ms): -1 is outside 0..86400000")
            fails(program, f"SELECT {name}('soon')", "HQL_ARGUMENT", "expected an integer, got \"soon\"")
            fails(program, f"SELECT {name}(x'00')", "HQL_ARGUMENT", "expected an integer, got a blob")
            fails(program, f"SELECT {name}({many})", "HQL_ARGUMENT", "4 arguments")
        for bad in ("NULL", "x'00'", "'a'", "-1", "1.5"):
            fails(program, f"SELECT hql_wait_index({bad})", "HQL_ARGUMENT: hql_wait_index(): argument 1 (index)")
        for name in ("hql_start", "hql_wait_index", "hql_transfer_leader", "hql_barrier", "hql_compact", "hql_remote"):
            fails(program, f"SELECT {name}({many})", f"HQL_ARGUMENT: {name}() was called with 4 arguments; usage: {name}(")
        fails(program, "SELECT hql_transfer_leader(-1)", "HQL_ARGUMENT", "outside 1..65535")
        fails(program, "SELECT hql_transfer_leader(7)", "HQL_NOT_FOUND", "node 7 is not a voter")
        fails(program, "SELECT hql_transfer_leader()", "HQL_NOT_FOUND", "there is no other voter to lead")
        fails(program, "SELECT hql_compact(-1)", "HQL_ARGUMENT", "outside 0..")
        fails(program, "SELECT hql_barrier('fast')", "HQL_ARGUMENT", "use 'linearizable'")
        fails(program, "SELECT hql_default_vfs(2)", "HQL_ARGUMENT", "outside 0..1")
        fails(program, "SELECT hql_remote('tcp:x')", "HQL_ARGUMENT", "unix:<data_dir>")
        fails(program, "SELECT hql_remote('unix:/nowhere')", "HQL_NOT_STARTED", "no node runs on this data directory")
        for name in ("hql_status", "hql_debug", "hql_is_leader", "hql_leader", "hql_last_error", "hql_last_index", "hql_snapshot"):
            fails(program, f"SELECT {name}({many})", "wrong number of arguments")
        fails(program, "SELECT hql_execute_opts('{', 'SELECT 1')", "HQL_ARGUMENT", "expected a JSON object")
        fails(program, "SELECT hql_execute_opts('{\"timeout_ms\":-1}', 'SELECT 1')", "HQL_ARGUMENT", "timeout_ms")
        fails(program, "SELECT hql_execute_opts('{\"tmeout\":1}', 'SELECT 1')", "HQL_ARGUMENT", '"tmeout"')
        for sql in ("SELECT 1", "SELECT * FROM t", "PRAGMA user_version", "INSERT INTO t VALUES (1)"):  # a name that is misspelt leaves no file
            fails(program, "SELECT hql_execute_opts('{\"db\":\"typo.db\"}', ?)", "HQL_NOT_FOUND", 'no database "typo.db"', "hql_databases",
                  parameters=[sql])
        assert program.ask("SELECT name FROM hql_databases") == [["app.db"]]
        program.ask("SELECT hql_execute_opts('{\"db\":\"meant.db\"}', 'CREATE TABLE t(x)')")
        assert program.ask("SELECT hql_execute_opts('{\"db\":\"meant.db\"}', 'INSERT INTO t VALUES (1)')") == [[1]]
        assert program.ask("SELECT hql_execute_opts('{\"db\":\"meant.db\"}', 'SELECT * FROM t')") == [[0]]
        assert program.ask("SELECT name FROM hql_databases ORDER BY name") == [["app.db"], ["meant.db"]]
        fails(program, "SELECT hql_txn('[]')", "HQL_ARGUMENT", "JSON array of statements")
        fails(program, "SELECT hql_txn('[[\"SELECT ?\", [1]]]')", "HQL_ARGUMENT", "statement [0] parameter 1")
        fails(program, "SELECT hql_txn('[[\"SELECT ?\", {\"$blob\":\"*\"}]]')", "HQL_ARGUMENT", "not base64")
        for name in ("", "a/b", "..", "x" * 65, "a b", "ä"):
            fails(program, "SELECT hql_import(?, ?)", "HQL_ARGUMENT", "database name", parameters=[sys.executable, name])
        fails(program, "SELECT hql_import('/nowhere.db', 'x.db')", "HQL_NOT_FOUND", "/nowhere.db")
        fails(program, "SELECT hql_export('nothing.db', ?)", "HQL_NOT_FOUND", "nothing.db", parameters=[workspace.path + "/x.db"])
        assert not os.path.exists(workspace.path + "/x.db")
        for path in ("", ":memory:"):
            fails(program, "SELECT hql_export('app.db', ?)", f'HQL_ARGUMENT: hql_export(): argument 2 (path): "{path}" is no file', parameters=[path])
        fails(program, "SELECT hql_drop_database('nothing.db')", "HQL_NOT_FOUND", 'no database "nothing.db"; hql_databases lists them')
        fails(program, "SELECT hql_drop_database('')", "HQL_ARGUMENT", 'database name "" is empty')
        fails(program, "SELECT hql_export('', ?)", "HQL_ARGUMENT", 'database name "" is empty', parameters=[workspace.path + "/x.db"])
        assert program.ask("SELECT hql_version() = json_extract(hql_debug(), '$.version')") == [[1]]
        program.ask("CREATE VIEW v AS SELECT hql_execute('DELETE FROM t')", on="app")
        fails(program, "SELECT * FROM v", "unsafe use of hql_execute", on="app")
        for path in ("a/b.db", "..%2fx.db", "a%20b.db"):
            try:
                program.open("bad", f"file:{path}?vfs=hiqlite")
                raise AssertionError(f"{path} was opened")
            except Refused as refused:
                assert "HQL_ARGUMENT" in refused.last, (path, refused)
        ended(program)
    finally:
        program.kill()


def forwarded_sql(workspace):
    program = started(workspace)
    try:
        def app(sql, *parameters):
            return program.ask(sql, *parameters, on="app")

        def count(table="t"):
            return app(f"SELECT count(*) FROM {table}")[0][0]

        app("CREATE TABLE t(id INTEGER PRIMARY KEY, x CHECK (x <> 13))")
        app("INSERT INTO t VALUES (1, 1)")
        fails(program, "SELECT hql_execute('INSERT INTO missing VALUES (1)')", "no such table: missing", on="app")
        fails(program, "SELECT hql_execute('INSER INTO t VALUES (1)')", 'near "INSER": syntax error', on="app")
        fails(program, "SELECT hql_execute('INSERT INTO t VALUES (1, 2)')", "UNIQUE constraint failed: t.id", on="app", kind="IntegrityError")
        fails(program, "SELECT hql_execute('INSERT INTO t VALUES (9, 13)')", "CHECK constraint failed", on="app", kind="IntegrityError")
        fails(program, "SELECT hql_execute('INSERT INTO t VALUES (?1, ?2)', 1)", "HQL_ARGUMENT", "2 parameters, 1 values", on="app")
        fails(program, "SELECT hql_execute('SELECT 1; DELETE FROM t')", "HQL_ARGUMENT", "one statement expected", on="app")
        fails(program, "SELECT hql_execute('-- nothing')", "HQL_ARGUMENT", "no statement", on="app")
        for sql in ("BEGIN", "COMMIT", "SAVEPOINT x", "ATTACH 'x' AS x", "PRAGMA journal_mode = DELETE", "PRAGMA synchronous = OFF",
                    "PRAGMA writable_schema = 1", "PRAGMA foreign_keys = 0", "PRAGMA locking_mode = EXCLUSIVE", "SELECT hql_stop()",
                    "SELECT load_extension('x')"):
            fails(program, "SELECT hql_execute(?)", "hiqlite: HQL_REFUSED: ", "not possible in forwarded SQL", on="app", parameters=[sql])
        assert app("SELECT hql_execute_returning('PRAGMA user_version')") == [['[{"user_version":0}]']]

        app("BEGIN IMMEDIATE")
        app("INSERT INTO t VALUES (2, 2)")
        fails(program, "SELECT hql_execute('INSERT INTO t VALUES (3, 3)')", "HQL_MISUSE", "COMMIT first", on="app")
        app("COMMIT")
        assert count() == 2

        fails(program, "SELECT hql_txn(?)", "UNIQUE constraint", on="app",
              parameters=['[["INSERT INTO t VALUES (?,?)",5,5],"INSERT INTO t VALUES (1,1)"]'])
        fails(program, "SELECT hql_batch('INSERT INTO t VALUES (6, 6); INSERT INTO missing VALUES (1);')", "no such table", on="app")
        assert count() == 2, "all or nothing"
        assert json.loads(app("SELECT hql_batch('INSERT INTO t VALUES (7, 7); SELECT count(*) AS n FROM t; -- end')")[0][0])[1]["rows"] == [{"n": 3}]

        fails(program, "SELECT hql_execute('INSERT OR ROLLBACK INTO t VALUES (1, 1)')", "UNIQUE constraint", on="app")
        app("CREATE TABLE r(x)")
        app("CREATE TRIGGER tr BEFORE INSERT ON r BEGIN SELECT RAISE(ROLLBACK, 'on purpose'); END")
        fails(program, "SELECT hql_execute('INSERT INTO r VALUES (1)')", "on purpose", on="app", kind="IntegrityError")
        fails(program, "SELECT hql_txn('[\"INSERT INTO t VALUES (8,8)\",\"INSERT INTO r VALUES (1)\"]')", "on purpose", on="app")
        assert count() == 3
        # In one batch with others: each of those is done once, whoever rolls back beside it.
        app("CREATE TABLE load(id INTEGER PRIMARY KEY, who)")
        results = []
        others = [Rollbacks(workspace.path + "/data", number, results) for number in range(4)]
        for other in others:
            other.start()
        for other in others:
            other.join()
        assert results == ["ok"] * 4, results
        assert app("SELECT count(*), count(DISTINCT who) FROM load") == [[4 * 20, 4]]

        app("CREATE TABLE parent(id INTEGER PRIMARY KEY)")
        app("CREATE TABLE child(p REFERENCES parent DEFERRABLE INITIALLY DEFERRED)")
        assert app("SELECT hql_execute('INSERT INTO child VALUES (1)')") == [[1]], "foreign_keys is off on this connection"
        app("DELETE FROM child")
        app("PRAGMA foreign_keys = 1")
        fails(program, "SELECT hql_execute('INSERT INTO child VALUES (1)')", "FOREIGN KEY constraint failed", on="app", kind="IntegrityError")
        app("SELECT hql_txn('[\"INSERT INTO child VALUES (5)\",\"INSERT INTO parent VALUES (5)\"]')")
        assert count("child") == 1

        endless = "WITH RECURSIVE r(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM r) SELECT max(x) FROM r"
        # The leader gives it up a little before the caller does, unless this machine stands still in between. The database is free again, or
        # what follows would wait for statement_timeout_ms.
        refused = fails(program, "SELECT hql_execute_opts('{\"timeout_ms\":200}', ?)", on="app", parameters=[endless])
        assert any(text in refused.text for text in ("HQL_TIMEOUT: the statement ran longer", "HQL_UNKNOWN_OUTCOME: the deadline passed")), refused
        app("CREATE VIRTUAL TABLE f USING fts5(body)")
        assert app("SELECT hql_execute('INSERT INTO f VALUES (?1)', 'some full text')") == [[1]]
        assert app("SELECT count(*) FROM f WHERE f MATCH 'full'") == [[1]]
        assert app("PRAGMA integrity_check") == [["ok"]]
        ended(program)
    finally:
        program.kill()

    strict = started(workspace, data_dir=workspace.path + "/strict", statement_timeout_ms=200)
    try:
        fails(strict, "SELECT hql_execute(?)", "HQL_TIMEOUT", "longer than its limit", on="app", parameters=[endless])
        ended(strict)
    finally:
        strict.kill()


class Rollbacks(threading.Thread):
    """A client over the local socket: good inserts in turn with statements that roll back."""

    def __init__(self, data_dir, number, results):
        super().__init__(daemon=True)
        self.data_dir, self.number, self.results = data_dir, number, results

    def run(self):
        words = [BIN, "exec", "--data-dir", self.data_dir, "--db", "app.db"]
        for i in range(20):
            good = subprocess.run([*words, f"INSERT INTO load(who) VALUES ({self.number})"], capture_output=True, text=True,
                                  env=host_environment(), check=False)
            bad = subprocess.run([*words, "INSERT INTO r VALUES (1)" if i % 2 else "INSERT OR ROLLBACK INTO t VALUES (1, 1)"],
                                 capture_output=True, text=True, env=host_environment(), check=False)
            if good.stdout != "1\n" or bad.returncode != 1:
                self.results.append(f"{good} {bad}")
                return
        self.results.append("ok")


def import_and_export(workspace):
    program = started(workspace)
    try:
        source = os.path.join(workspace.path, "source.db")
        hot = sqlite3.connect(source, isolation_level=None)
        hot.executescript("PRAGMA page_size = 8192; PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0;"
                          "CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB); CREATE TABLE w(k TEXT PRIMARY KEY, v) WITHOUT ROWID;"
                          "CREATE VIRTUAL TABLE f USING fts5(body); PRAGMA user_version = 42;"
                          "INSERT INTO f VALUES ('needle in hay'); INSERT INTO w VALUES ('k', 'v');")
        hot.execute("WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < 5000) INSERT INTO t SELECT i, randomblob(4000) FROM r")
        assert os.path.getsize(source + "-wal") > 20_000_000, "the rows are in the WAL alone"
        expected = hot.execute("SELECT count(*), sum(length(body)), sum(unicode(hex(body))) FROM t").fetchall()
        pages = program.ask("SELECT hql_import(?, 'copy.db')", source)[0][0]
        assert pages == hot.execute("PRAGMA page_count").fetchone()[0]
        hot.execute("INSERT INTO w VALUES ('later', 1)")  # the source is free again, and apart
        program.open("copy", "file:copy.db?vfs=hiqlite")
        sums = "SELECT count(*), sum(length(body)), sum(unicode(hex(body))) FROM t"
        assert program.ask(sums, on="copy") == [list(expected[0])]
        assert program.ask("SELECT * FROM w", on="copy") == [["k", "v"]]
        assert program.ask("SELECT count(*) FROM f WHERE f MATCH 'needle'", on="copy") == [[1]]
        assert program.ask("SELECT page_size, user_version FROM pragma_page_size, pragma_user_version", on="copy") == [[8192, 42]]
        program.ask("INSERT INTO w VALUES ('replicated', 1)", on="copy")
        fails(program, "SELECT hql_import(?, 'copy.db')", "HQL_EXISTS", "already has tables", parameters=[source])
        fails(program, "SELECT hql_import(?, 'text.db')", "file is not a database", parameters=[__file__])

        target = os.path.join(workspace.path, "exported.db")
        assert program.ask("SELECT hql_export('copy.db', ?)", target)[0][0] >= pages
        fails(program, "SELECT hql_export('copy.db', ?)", "HQL_EXISTS", target, parameters=[target])
        assert not os.path.exists(target + "-wal")
        assert read_plain(target, sums) == ["|".join(str(value) for value in expected[0])]
        assert read_plain(target, "PRAGMA integrity_check; PRAGMA journal_mode; SELECT count(*) FROM w;") == ["ok", "delete", "2"]

        plain = sqlite3.connect(os.path.join(workspace.path, "plain.db"))
        plain.execute("CREATE TABLE t(x)")
        plain.close()
        try:
            program.open("plain", "file:plain.db?vfs=hiqlite")
            raise AssertionError("a plain file was shadowed")
        except Refused as refused:
            assert "HQL_EXISTS: ./plain.db exists and is not replicated" in refused.last and "hql_import" in refused.last, refused
        ended(program)
    finally:
        program.kill()


def import_under_the_same_name(workspace):
    """What HQL_EXISTS tells the user to do."""
    plain = sqlite3.connect(os.path.join(workspace.path, "app.db"))
    plain.executescript("CREATE TABLE t(x); INSERT INTO t VALUES (1)")
    plain.close()
    program = Python(workspace.path)
    try:
        program.ask("SELECT hql_start(?)", json.dumps({"data_dir": workspace.path + "/data"}))
        assert program.ask("SELECT hql_import('app.db', 'app.db')") == [[2]]
        program.open("app", URI)
        assert program.ask("SELECT count(*) FROM t", on="app") == [[1]]
        ended(program)
    finally:
        program.kill()


def parameter_without_memory(workspace):
    """A parameter that SQLite has no memory for is an error: nothing is executed, least of all with an empty value."""
    shell = Shell(workspace.path)
    try:
        shell.ask(f".load {EXTENSION}")
        shell.ask(f"SELECT hql_start('{{\"data_dir\":\"{workspace.path}/data\"}}');")
        shell.ask(f".open {URI}")
        shell.ask("CREATE TABLE t(x);")
        assert shell.ask("SELECT hql_execute('INSERT INTO t VALUES (?1)', zeroblob(0));") == ["1"]
        shell.ask("PRAGMA hard_heap_limit=30000000;")
        for call in ("hql_execute('INSERT INTO t VALUES (?1)', zeroblob(100000000))",
                     "hql_execute('INSERT INTO t VALUES (?1), (?2)', 1, zeroblob(100000000))",
                     "hql_execute_opts('{}', 'INSERT INTO t VALUES (?1)', zeroblob(100000000))",
                     "hql_execute_returning('INSERT INTO t VALUES (?1) RETURNING 1', zeroblob(100000000))"):
            refused = shell.ask(f"SELECT {call};")
            assert len(refused) == 1 and "out of memory" in refused[0], (call, refused)
        assert shell.ask("SELECT typeof(x), length(x) FROM t;") == ["blob|0"]
        shell.end()
    finally:
        shell.kill()


def dropped_database(workspace):
    program = started(workspace)
    try:
        program.ask("CREATE TABLE t(x)", on="app")
        program.open("second", URI)
        assert program.ask("SELECT count(*) FROM t", on="second") == [[0]]
        assert program.ask("SELECT hql_drop_database('app.db')") == [[1]]
        refused = fails(program, "INSERT INTO t VALUES (1)", on="app")
        assert "HQL_DROPPED" in refused.last, refused
        program.open("new", URI)
        program.ask("CREATE TABLE other(x)", on="new")
        assert program.ask("SELECT name FROM sqlite_master", on="new") == [["other"]]
        refused = fails(program, "INSERT INTO t VALUES (1)", on="app")
        assert "HQL_DROPPED" in refused.last, "the name is the same, the database is another"
        refused = fails(program, "SELECT count(*) FROM t", on="second")
        assert "HQL_DROPPED" in refused.last, refused
        ended(program)
    finally:
        program.kill()


def sqlites_own_codes(workspace):
    """The same extended code and words from the owner's process, from an attached one and from the command line."""
    owner = started(workspace)
    attached = Python(workspace.path)
    try:
        owner.ask("CREATE TABLE t(id INTEGER PRIMARY KEY, u UNIQUE, n NOT NULL, c CHECK (c <> 13))", on="app")
        owner.ask("INSERT INTO t VALUES (1, 1, 1, 1)", on="app")
        attached.ask("SELECT hql_remote(?)", f"unix:{workspace.path}/data")
        config = write_config(workspace, "node.toml", data_dir=workspace.path + "/data", filename_db="app.db")
        for sql, code in (("INSERT INTO t VALUES (1, 2, 2, 2)", sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY),
                          ("INSERT INTO t VALUES (2, 1, 2, 2)", sqlite3.SQLITE_CONSTRAINT_UNIQUE),
                          ("INSERT INTO t VALUES (2, 2, NULL, 2)", sqlite3.SQLITE_CONSTRAINT_NOTNULL),
                          ("INSERT INTO t VALUES (2, 2, 2, 13)", sqlite3.SQLITE_CONSTRAINT_CHECK),
                          ("INSERT INTO missing VALUES (1)", sqlite3.SQLITE_ERROR)):
            here = fails(owner, "SELECT hql_execute(?)", on="app", parameters=[sql])
            there = fails(attached, "SELECT hql_execute_opts(?, ?)", parameters=['{"db":"app.db"}', sql])
            assert here.code == code, (sql, here, here.code)
            assert (there.code, there.text, there.kind) == (here.code, here.text, here.kind), (sql, here, there, there.code)
            done = subprocess.run([BIN, "exec", "-c", config, sql], capture_output=True, text=True, env=host_environment(), check=False)
            assert (done.returncode, done.stdout, done.stderr) == (1, "", f"{here.text} ({code})\n"), (sql, done)
        refused = fails(attached, "SELECT hql_execute_opts(?, ?)", "HQL_REFUSED", parameters=['{"db":"app.db"}', "BEGIN"])
        assert refused.code == sqlite3.SQLITE_ERROR | 92 << 8, refused.code
        ended(attached)
        ended(owner)
    finally:
        attached.kill()
        owner.kill()


SHELL_DROP = """.load {extension}
SELECT hql_start('{{"data_dir":"{dir}/data"}}');
.open file:app.db?vfs=hiqlite
CREATE TABLE t(x);
SELECT hql_drop_database('app.db');
"""


def shell_quits_after_a_drop(workspace):
    done = subprocess.run(["sqlite3", "-batch", ":memory:"], input=SHELL_DROP.format(extension=EXTENSION, dir=workspace.path), text=True,
                          capture_output=True, env=host_environment(), timeout=PATIENCE, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n1\n", ""), done


FORK = r"""
import json, multiprocessing, os, sqlite3, sys
extension, directory = sys.argv[1:3]
boot = sqlite3.connect(":memory:")
boot.enable_load_extension(True)
boot.load_extension(extension)
boot.execute("SELECT hql_start(?)", (json.dumps({"data_dir": directory + "/data"}),)).fetchall()
URI = "file:app.db?vfs=hiqlite"
db = sqlite3.connect(URI, uri=True, isolation_level=None)
db.execute("CREATE TABLE t(x)")

def child(answer):
    words = []
    fresh = sqlite3.connect(":memory:")
    for connection, sql in ((boot, "SELECT hql_status()"), (fresh, "SELECT hql_execute('DELETE FROM t')"), (db, "INSERT INTO t VALUES (0)")):
        try:
            connection.execute(sql).fetchall()
            words.append("not refused: " + sql)
        except sqlite3.Error:
            words.append(fresh.execute("SELECT hql_last_error()").fetchone()[0].split(":")[1].strip())
    try:
        sqlite3.connect(URI, uri=True)
        words.append("opened")
    except sqlite3.Error:
        words.append(fresh.execute("SELECT hql_last_error()").fetchone()[0].split(":")[1].strip())
    plain = sqlite3.connect(directory + "/childs.db")
    plain.execute("CREATE TABLE IF NOT EXISTS t(x)")
    plain.commit()
    answer.send(words)

context = multiprocessing.get_context("fork")
for _ in range(5):
    here, there = context.Pipe(duplex=False)  # a Queue would need semaphores in /dev/shm, which is not everywhere
    process = context.Process(target=child, args=(there,))
    process.start()
    there.close()
    words = here.recv() if here.poll(60) else "no answer"
    process.join(60)
    db.execute("INSERT INTO t VALUES (1)")
    print(process.exitcode, words)
print(db.execute("SELECT count(*), sum(x) FROM t").fetchone())
"""


def forked_child(workspace):
    done = subprocess.run(["/usr/bin/python3", "-c", FORK, EXTENSION, workspace.path], capture_output=True, text=True,
                          env=host_environment(), timeout=4 * PATIENCE, check=False)
    assert done.returncode == 0, done
    assert done.stdout.splitlines() == ["0 ['HQL_FORKED', 'HQL_FORKED', 'HQL_FORKED', 'HQL_FORKED']"] * 5 + ["(5, 5)"], done


TESTS = [second_owner, port_in_use, port_zero, permission_denied, missing_quorum, wrong_configuration, secrets_and_addresses,
         arguments_of_functions, forwarded_sql, sqlites_own_codes, import_and_export, forked_child, shell_quits_after_a_drop,
         import_under_the_same_name, dropped_database, parameter_without_memory]

if __name__ == "__main__":
    main(*TESTS)

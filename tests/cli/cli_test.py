"""`hiqlite <command>`: help, exit codes, and what each command prints (SQL.md, "Names that outside checks rely on")."""
import json
import os
import re
import shutil
import subprocess
import sys

os.environ.setdefault("HQL_BUILD", os.environ.get("HQL_BUILD_DIR", ""))
os.environ.setdefault("HQL_PRELOAD", os.environ.get("HQL_SANITIZER_RUNTIME", ""))
os.environ.setdefault("HQL_SANITIZED", "1" if os.environ.get("HQL_SANITIZE") else "0")
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cluster"))
from harness import BIN, PATIENCE, Server, host_environment, main  # noqa: E402

COMMANDS = ["serve", "status", "exec", "shell", "dump", "verify", "generate-config", "check-config", "bootstrap", "rebuild",
            "fault-points", "version"]


def run(*words, code=0, cwd=None, stdin="", **env):
    done = subprocess.run([BIN, *words], capture_output=True, text=True, cwd=cwd, input=stdin, env=host_environment(**env),
                          timeout=4 * PATIENCE, check=False)
    assert done.returncode == code, (words, done)
    return done


def config_of(workspace, *lines):
    path = os.path.join(workspace.path, "node.toml")
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join([f'data_dir = "{workspace.path}/data"', *lines, ""]))
    return path


def serving(workspace, *lines):
    return Server(config_of(workspace, *lines), workspace.path + "/data", 1).start()


def help_of_each_command(workspace):
    everything = run("--help").stdout
    for command in COMMANDS:
        assert re.search(rf"^  {command} +\S", everything, re.M), command
        for word in ("--help", "-h"):
            text = run(command, word).stdout
            assert text.startswith(f"usage: hiqlite {command}"), text
        if command not in ("fault-points", "version"):
            assert "options:" in text, text
    for code in range(9):
        assert f"{code} " in everything.split("exit codes:")[1]
    assert run(code=2).stdout == everything, "without a command: help, and the exit code says that nothing was done"
    version = run("version").stdout
    assert re.fullmatch(r"hiqlite \d+\.\d+\.\d+\n", version) and run("--version").stdout == version
    assert not os.listdir(workspace.path)


def usage_errors(workspace):
    assert 'unknown command "stats"' in run("stats", code=2).stderr
    for words, text in ((("status", "--jsn"), 'unknown option "--jsn"'), (("status", "--field"), "--field needs a value (NAME)"),
                        (("status", "--json=1"), "--json takes no value"), (("status", "extra"), 'unexpected "extra"'),
                        (("status", "--timeout", "soon"), '--timeout "soon": expected a whole number'),
                        (("status", "--timeout", "-1"), '--timeout "-1": expected a whole number'),
                        (("status", "--wait", "happy"), '--wait "happy": expected "healthy"'), (("exec",), "one SQL statement is wanted"),
                        (("exec", "SELECT 1", "SELECT 2"), 'unexpected "SELECT 2"'), (("rebuild",), "the name of a database is wanted"),
                        (("bootstrap",), "--force"), (("generate-config", "--nodes", "0"), '--nodes "0"'),
                        (("generate-config", "--node-id", "4", "--nodes", "3"), '--node-id "4"'),
                        (("serve", "--ready-fd", "x"), '--ready-fd "x"')):
        done = run(*words, code=2, cwd=workspace.path)
        assert text in done.stderr and f"usage: hiqlite {words[0]}" in done.stderr and not done.stdout, (words, done)


def nothing_runs(workspace):
    config = config_of(workspace)
    for words in (("status",), ("exec", "SELECT 1"), ("bootstrap", "--force")):
        done = run(words[0], "-c", config, *words[1:], code=1)
        assert "HQL_NOT_STARTED" in done.stderr and "hiqlite serve" in done.stderr and not done.stdout, done
    assert "HQL_NOT_FOUND" in run("shell", "-c", config, code=1).stderr
    for command in ("dump", "verify"):
        done = run(command, workspace.path + "/nowhere", code=4 if command == "verify" else 1)
        assert "/nowhere" in done.stderr, done
    assert "HQL_CONFIG" in run("status", "-c", workspace.path + "/nowhere.toml", code=3).stderr
    for command in ("serve", "status", "check-config"):  # a variable of the shell that is not set is not the defaults
        done = run(command, "-c", "", code=3, cwd=workspace.path)
        assert 'HQL_CONFIG: the configuration "" is no file' in done.stderr and not done.stdout, done
    assert os.listdir(workspace.path) == ["node.toml"], "asking creates nothing"


def status_exec_and_shell(workspace):
    server = serving(workspace)
    config = server.config
    try:
        assert run("status", "-c", config, "--wait", "healthy", "--timeout", "20000").stdout.startswith("node 1: healthy, leader")
        status = json.loads(run("status", "-c", config, "--json").stdout)
        for name in ("version", "state", "node_id", "incarnation", "cluster_id", "role", "leader_id", "term", "pid", "data_dir", "raft_addr",
                     "api_addr", "log_sync", "acknowledged", "commit_index", "durable_index", "applied_index", "log_bytes", "term_changes",
                     "last_error", "managed", "members", "databases"):
            assert name in status, name
        assert (status["log_sync"], status["acknowledged"]) == ("immediate", "on disk on a quorum")
        assert "log_sync immediate: acknowledged means on disk on a quorum" in run("status", "-c", config).stdout
        assert status["pid"] == server.process.pid and status["state"] == "healthy" and status["node_id"] == 1
        # docs/FORMATS.md, "Owner".
        shown = json.loads(text_of(workspace.path + "/data/node.json"))
        assert shown == {name: status[name] for name in ("node_id", "pid", "version", "raft_addr", "api_addr", "incarnation")}
        lock = f"pid {server.process.pid}, node 1\n"
        assert text_of(workspace.path + "/data/lock") == lock
        assert run("status", "-c", config, "--field", "state").stdout == "healthy\n"
        assert run("status", "-c", config, "--field", "pid").stdout == f"{server.process.pid}\n"
        assert "known are version, state" in run("status", "-c", config, "--field", "stat", code=2).stderr
        named = subprocess.run([BIN, "status", "--field", "node_id"], capture_output=True, text=True, timeout=PATIENCE,
                               env={**host_environment(), "HQL_CONFIG": config}, check=False)
        assert named.stdout == "1\n", named
        assert run("status", "--field", "node_id", "--data-dir", workspace.path + "/data").stdout == "1\n"

        assert run("exec", "-c", config, "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT)").stdout == "0\n"
        assert run("exec", "-c", config, "INSERT INTO t(name) VALUES ('a'), ('b')").stdout == "2\n"
        assert run("exec", "-c", config, "--json", "SELECT * FROM t").stdout == '[{"id":1,"name":"a"},{"id":2,"name":"b"}]\n'
        assert run("exec", "-c", config, "--json", "INSERT INTO t(name) VALUES ('c') RETURNING id").stdout == '[{"id":3}]\n'
        assert run("exec", "-c", config, "--db", "second.db", "CREATE TABLE x(y)").stdout == "0\n"
        done = run("exec", "-c", config, "INSERT INTO nowhere VALUES (1)", code=1)
        assert "no such table: nowhere" in done.stderr and not done.stdout, done
        assert "HQL_ARGUMENT" in run("exec", "-c", config, "--db", "a/b", "SELECT 1", code=1).stderr
        for sql in ("SELECT 1", "SELEC 1", "INSERT INTO x VALUES (1)"):  # a name that is misspelt creates nothing
            for form in ((), ("--json",)):
                assert 'HQL_NOT_FOUND: no database "typo.db"' in run("exec", "-c", config, *form, "--db", "typo.db", sql, code=1).stderr
        assert [each["name"] for each in json.loads(run("status", "-c", config, "--field", "databases").stdout)] == ["hiqlite.db", "second.db"]

        assert run("shell", "-c", config, "hiqlite.db", "SELECT count(*) FROM t").stdout == "3\n"
        done = run("shell", "-c", config, stdin="SELECT hql_execute('INSERT INTO t(name) VALUES (?1)', 'd');\nSELECT name FROM t WHERE id = 4;\n"
                   "SELECT json_extract(hql_status(), '$.node_id');\nSELECT count(*) FROM hql_members;\n")
        assert done.stdout == "1\nd\n1\n1\n" and not done.stderr, done
        done = run("shell", "-c", config, "hiqlite.db", "INSERT INTO t(name) VALUES ('no')", code=8)  # sqlite3's own
        assert "readonly" in done.stderr, done
        assert "HQL_NOT_FOUND" in run("shell", "-c", config, "nothing.db", code=1).stderr
        # What is written goes to the database that is shown.
        done = run("shell", "-c", config, "second.db", stdin="SELECT hql_execute('INSERT INTO x VALUES (7)');\nSELECT y FROM x;\n")
        assert done.stdout == "1\n7\n" and not done.stderr, done
        server.stop()
        assert not os.path.exists(workspace.path + "/data/node.json") and text_of(workspace.path + "/data/lock") == lock
    finally:
        server.kill()


def configuration_as_json(workspace):
    text = json.dumps({"data_dir": workspace.path + "/data", "commit_timeout_ms": 4321})
    assert re.search(r"^commit_timeout_ms .*4321$", run("check-config", "-c", text).stdout, re.M)
    server = Server(text, workspace.path + "/data", 1)
    server.log_path = workspace.path + "/log"
    try:
        server.start()
        server.run("status", "--wait", "healthy")
        assert server.status()["data_dir"] == workspace.path + "/data"
        server.stop()
    finally:
        server.kill()


def unusual_paths(workspace):
    """An install path and a data directory with what means something to the shell and in a URI."""
    folder = workspace.path + "/an \"install\" path"
    for name in ("bin/hiqlite", "lib/libhiqlite.so", "lib/libhiqlite-core.so"):
        os.makedirs(os.path.dirname(f"{folder}/{name}"), exist_ok=True)
        shutil.copy(os.path.join(os.path.dirname(BIN), "..", name), f"{folder}/{name}")
    config = workspace.path + "/node.toml"
    with open(config, "w", encoding="utf-8") as file:
        file.write(f"data_dir = '{workspace.path}/a?b#c%41 \"d\"'\n")
    server = Server(config, "", 1).start()
    try:
        server.run("status", "--wait", "healthy")
        server.execute("CREATE TABLE t(x)")
        for sql, answer in (("SELECT hql_execute('INSERT INTO t VALUES (7)')", "1\n"), ("SELECT x FROM t", "7\n")):
            done = subprocess.run([folder + "/bin/hiqlite", "shell", "-c", config, "hiqlite.db", sql], capture_output=True, text=True,
                                  env=host_environment(), timeout=4 * PATIENCE, check=False)
            assert (done.returncode, done.stdout, done.stderr) == (0, answer, ""), done
        server.stop()
    finally:
        server.kill()


def dump_and_verify(workspace):
    server = serving(workspace, "wal_size = 65536")
    config = server.config
    try:
        server.run("status", "--wait", "healthy")
        server.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB)")
        for _ in range(3):  # several segments, so that one of them is sealed; few enough that an embedded node keeps them when it has time
            server.execute("INSERT INTO t(body) VALUES (randomblob(30000))")
    finally:  # no clean stop, which would make room in the log
        server.kill()
    whole = "".join(f"{workspace.path}/data/{name}: ok\n" for name in ("id", "meta", "db/hiqlite.db.sums", "log"))
    assert run("verify", "-c", config).stdout == whole
    assert run("verify", workspace.path + "/data").stdout == whole
    assert run("verify", workspace.path + "/data/log").stdout == f"{workspace.path}/data/log: ok\n", "a log alone"
    dumped = run("dump", "-c", config).stdout
    assert len(dumped.splitlines()) > 10, dumped
    assert run("dump", workspace.path + "/data").stdout == dumped
    assert dumped.endswith(run("dump", workspace.path + "/data/log").stdout)
    incarnation = re.match(r"id node=1 incarnation=([0-9a-f]{16})\n", dumped).group(1)
    for slot in (0, 1):
        assert re.search(rf"^meta slot {slot} generation=\d+ node=1 incarnation={incarnation} boot=\d+ cluster=1/{incarnation} "
                         r"promise=\S+ catalogue=\d+:\d+( formed)?$", dumped, re.M), dumped
    assert len(re.findall(r"^  group [12] floor=\d+:\d+ members=(?:\d+|none)$", dumped, re.M)) == 4, dumped
    assert re.search(r'^sums "hiqlite.db" generation=\d+ database=\d+ page_size=4096 pages=\d+ base=\d+:\d+ digest=[0-9a-f]{16} '
                     r"wal_before=[0-9a-f]{16} wal_newest=[0-9a-f]{16}$", dumped, re.M), dumped
    before = [snapshot(workspace.path + "/data" + folder) for folder in ("", "/log", "/db")]
    run("dump", "-c", config)
    run("verify", "-c", config)
    assert [snapshot(workspace.path + "/data" + folder) for folder in ("", "/log", "/db")] == before, "looking changes nothing"

    segments = sorted(name for name in os.listdir(workspace.path + "/data/log") if name.endswith(".seg"))
    assert len(segments) >= 3, segments
    copy = workspace.path + "/copy"
    shutil.copytree(workspace.path + "/data", copy, ignore=shutil.ignore_patterns("sock"))
    # What a node mends by itself is shown and is no error.
    flip(copy + "/meta", 30)
    flip(copy + "/db/hiqlite.db.sums", 3 * 4096)
    assert "\nmeta slot 0 hiqlite: HQL_CORRUPT: " in run("dump", copy).stdout
    assert re.search(r'^sums "hiqlite.db" .* unknown_blocks=0$', run("dump", copy).stdout, re.M)
    run("verify", copy)
    # One file after the other, the last ones first: verify stops at the first.
    for name, offsets in ((f"log/{segments[0]}", (20000,)), ("db/hiqlite.db.sums", (9, 4096 + 9)), ("meta", ((1 << 20) + 30,)), ("id", (9,))):
        for offset in offsets:
            flip(f"{copy}/{name}", offset)
        done = run("verify", copy, code=4)
        assert "HQL_CORRUPT" in done.stderr and name in done.stderr and f"{name}: ok" not in done.stdout, done
        assert name.startswith("log/") or "HQL_CORRUPT" in run("dump", copy).stdout
    assert run("verify", "-c", config).stdout.endswith("ok\n"), "the original is whole"


def text_of(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def flip(path, offset):
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 1]))


def snapshot(folder):
    return {name: (os.stat(os.path.join(folder, name)).st_size, os.stat(os.path.join(folder, name)).st_mtime_ns) for name in os.listdir(folder)}


def generated_configuration(workspace):
    text = run("generate-config").stdout
    path = os.path.join(workspace.path, "one.toml")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    rows = run("check-config", "-c", path).stdout
    for key in re.findall(r"^#? ?(\w+) = ", text, re.M):
        assert re.search(rf"^{key} +\S+ ", rows, re.M), (key, rows)
    assert len(rows.splitlines()) == 16, rows
    secret = re.search(r'secret_raft = "([0-9a-f]{64})"', text).group(1)
    assert secret not in rows and re.search(r"^secret_raft .*\*\*\*$", rows, re.M), "secrets are hidden"
    assert secret not in run("generate-config").stdout, "another secret each time"

    folder = workspace.path + "/cluster"
    files = run("generate-config", "--nodes", "3", "--port", "9100", "--out", folder).stdout.split()
    assert files == [f"{folder}/node{n}.toml" for n in (1, 2, 3)], files
    secrets = set()
    for number, path in enumerate(files, 1):
        rows = run("check-config", "-c", path).stdout
        assert re.search(rf"^node_id +\S+ +{number}$", rows, re.M) and f"127.0.0.1:{9099 + number}" in rows, rows
        with open(path, encoding="utf-8") as file:
            content = file.read()
        secrets.add(re.search(r'secret_raft = "(\w+)"', content).group(1))
        # Every commented default is a legal line too, and means the same.
        with open(path, "w", encoding="utf-8") as file:
            file.write(re.sub(r"^# (\w+) = ", r"\1 = ", content, flags=re.M))
        again = run("check-config", "-c", path).stdout
        assert [line.split()[0::2] for line in again.splitlines()] == [line.split()[0::2] for line in rows.splitlines()], (rows, again)
    assert len(secrets) == 1, "nodes share their secret"
    overridden = run("check-config", "-c", files[0], HQL_LOG_LEVEL="debug", HQL_COMMIT_TIMEOUT_MS="1234").stdout
    assert re.search(r"^commit_timeout_ms +environment +1234$", overridden, re.M), overridden
    assert re.search(r"^log_level +environment +debug$", overridden, re.M), overridden
    assert re.search(r"^log_level +environment +warn$", run("check-config", cwd=workspace.path, HQL_LOG_LEVEL="warn").stdout, re.M)


def generated_beside_others(workspace):
    """Any folder can be named, and a second time the files that are there stay as they are: their secret is nowhere else."""
    folder = workspace.path + "/a\"b\\c\td"
    run("generate-config", "--out", folder)
    rows = run("check-config", "-c", folder + "/node1.toml").stdout
    assert f"{folder}/data1\n" in rows, rows
    before = text_of(folder + "/node1.toml")
    for nodes in ("1", "3"):
        refused = run("generate-config", "--nodes", nodes, "--out", folder, code=1)
        assert "HQL_EXISTS: " + folder + "/node1.toml exists" in refused.stderr and not refused.stdout, refused
    assert text_of(folder + "/node1.toml") == before and os.listdir(folder) == ["node1.toml"]
    run("generate-config", "--nodes", "2", "--out", workspace.path + "/two")
    os.remove(workspace.path + "/two/node1.toml")
    assert "HQL_EXISTS" in run("generate-config", "--nodes", "2", "--out", workspace.path + "/two", code=1).stderr
    assert os.listdir(workspace.path + "/two") == ["node2.toml"], "all or none"


def rebuilt_database(workspace):
    server = serving(workspace)
    try:
        server.run("status", "--wait", "healthy")
        server.execute("CREATE TABLE t(x)")
        server.execute("INSERT INTO t VALUES (1)")
        refused = run("rebuild", "-c", server.config, "hiqlite.db", code=6)
        assert "HQL_OWNED" in refused.stderr and f"pid {server.process.pid}," in refused.stderr, refused
        assert server.run("exec", "--json", "SELECT x FROM t").stdout == '[{"x":1}]\n'
        server.stop()
        assert "HQL_NOT_FOUND" in run("rebuild", "-c", server.config, "nothing.db", code=1).stderr
        before = snapshot(server.data_dir)
        for name in ("", "../log", "..", "hiqlite.db-wal"):
            assert f'HQL_ARGUMENT: database name "{name}"' in run("rebuild", "-c", server.config, name, code=1).stderr
        assert snapshot(server.data_dir) == before
        elsewhere = run("rebuild", "hiqlite.db", cwd=workspace.path, code=1)
        assert 'HQL_NOT_FOUND: data_dir "./hiqlite-data" does not exist' in elsewhere.stderr, elsewhere
        assert not os.path.exists(workspace.path + "/hiqlite-data")
        done = run("rebuild", "-c", server.config, "hiqlite.db")
        assert "set-aside" in done.stdout, done
        server.start()
        server.run("status", "--wait", "healthy")
        assert server.run("exec", "--json", "SELECT x FROM t").stdout == '[{"x":1}]\n'
        server.stop()
    finally:
        server.kill()


if __name__ == "__main__":
    main(help_of_each_command, usage_errors, nothing_runs, status_exec_and_shell, configuration_as_json, unusual_paths, dump_and_verify,
         generated_configuration, generated_beside_others, rebuilt_database)

"""README.md as it stands: its pasteable sessions (shell, Python, Node 22, three nodes) and README command 1, `scripts/demo`, without a terminal
and without a network. In the build that the README speaks of, build/release."""
import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(__file__))
from harness import BUILD, PATIENCE, free_ports, host_environment, main, read_plain  # noqa: E402
from hosts import node22  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def section(title):
    """The fenced blocks of one section of README.md, in order: (language, text)."""
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as file:
        parts = file.read().split("\n## ")
    text = next(part for part in parts if part.startswith(title + "\n"))
    return re.findall(r"```(\w*)\n(.*?)```", text, re.S)


def place(workspace):
    """A folder in which build/release is this build, as the README assumes."""
    os.makedirs(os.path.join(workspace.path, "build"))
    os.symlink(os.path.abspath(BUILD), os.path.join(workspace.path, "build", "release"))
    return workspace.path


def run(words, folder, **more):
    return subprocess.run(words, cwd=folder, env=host_environment(), capture_output=True, text=True, timeout=8 * PATIENCE, check=False, **more)


def replicated(folder, row):
    assert read_plain(os.path.join(folder, "hiqlite-data", "db", "app.db"), "SELECT * FROM t") == [row]


def shell_session(workspace):
    folder = place(workspace)
    language, text = section("A replicated row, by hand")[0]
    lines = text.splitlines()
    assert language == "" and lines[0] == "$ sqlite3" and all(line.startswith("sqlite> ") for line in lines[1:]), text
    assert len(lines) == 7, lines
    typed = "\n".join(line.removeprefix("sqlite> ") for line in lines[1:]) + "\n"
    done = run(["sqlite3"], folder, input=typed)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n1|replicated\n", ""), done
    # "Reading the files without the extension": the command in the text, from the same folder.
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as file:
        command = re.search(r"\(`(sqlite3 'file:[^`]*)`\)", file.read())[1]
    done = run(["bash", "-c", command + ' "SELECT * FROM t"'], folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1|replicated\n", ""), done


def python_session(workspace):
    folder = place(workspace)
    language, text = section("A replicated row, by hand")[1]
    assert language == "python" and "hql_start" in text
    done = run(["/usr/bin/python3", "-c", text], folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), done
    replicated(folder, "1|from Python")


def node_session(workspace):
    folder = place(workspace)
    language, text = section("A replicated row, by hand")[2]
    assert language == "js" and "hql_start" in text
    done = run([node22(), "--no-warnings", "-e", text], folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), done
    replicated(folder, "1|from Node")


def three_nodes_session(workspace):
    folder = place(workspace)
    language, text = section("Three nodes")[0]
    assert language == "sh" and "--port 28100" in text, text
    script = text.replace("--port 28100", f"--port {free_ports(3)}")
    # Every line must succeed, in the order in which it is pasted; only the port is another one.
    script = "set -e\ntrap 'kill $(jobs -p); wait' EXIT\n" + script
    with open(os.path.join(folder, "session.err"), "wb") as errors:
        done = subprocess.run(["bash"], input=script, cwd=folder, env=host_environment(HQL_LOG_LEVEL="error"), stdout=subprocess.PIPE,
                              stderr=errors, text=True, timeout=8 * PATIENCE, check=False)
    with open(os.path.join(folder, "session.err"), encoding="utf-8") as errors:
        said = errors.read()
    lines = [line for line in done.stdout.splitlines() if not line.startswith("hiqlite: ready ")]
    ready = done.stdout.count("hiqlite: ready ")
    assert done.returncode == 0 and ready == 3 and said == "", (done.returncode, done.stdout, said)
    assert re.search(r"^node 1: healthy, (leader|follower), ", done.stdout, re.M), done.stdout
    assert lines[-4:] == ["0", "1", '[{"id":1,"name":"from node 3"}]', "1|from node 3"], lines


def demo_without_a_terminal(workspace):
    """Exit 0, every step seen, nothing left behind; packages are all there, so neither apt-get nor sudo may be called."""
    if not os.path.samefile(BUILD, os.path.join(ROOT, "build", "release")):
        raise AssertionError(f"the demo builds and shows build/release, not {BUILD}")
    trap = os.path.join(workspace.path, "bin")
    os.makedirs(trap)
    for name in ("apt-get", "sudo"):
        with open(os.path.join(trap, name), "w", encoding="utf-8") as file:
            file.write(f"#!/bin/sh\necho {name} was called: \"$@\" >&2\nexit 9\n")
        os.chmod(os.path.join(trap, name), 0o755)
    temporary = tempfile.mkdtemp(dir=workspace.path)
    env = dict(host_environment(), PATH=trap + os.pathsep + os.environ["PATH"], TMPDIR=temporary)
    done = subprocess.run([os.path.join(ROOT, "scripts", "demo")], cwd=workspace.path, env=env, stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=16 * PATIENCE, check=False)
    assert done.returncode == 0, (done.stdout[-3000:], done.stderr[-3000:])
    steps = [int(number) for number in re.findall(r"== (\d)/6 ", done.stdout)]
    assert steps == [1, 2, 3, 4, 5, 6] and "== done (no terminal: no shell)" in done.stdout, done.stdout
    assert re.search(r"^row: replicated \d{4}-", done.stdout, re.M), done.stdout
    assert "this process is now node 1" in done.stdout
    stamp = r"\|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\n"
    both = "1\\|from node 1" + stamp + "2\\|and another" + stamp
    assert len(re.findall(both, done.stdout)) == 4, done.stdout  # nodes 2 and 3, after the failover, the node that came back
    assert len(re.findall(both + "3\\|after the failover" + stamp, done.stdout)) == 2, done.stdout
    assert os.listdir(temporary) == [], "the demo cleans up"


if __name__ == "__main__":
    tests = [shell_session, python_session, three_nodes_session, node_session]  # the last one may end the test as skipped
    main(*([demo_without_a_terminal] if "demo_without_a_terminal" in sys.argv[1:] else tests))

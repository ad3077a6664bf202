"""Host programs that a test drives line by line while they own a node: the stock sqlite3 shell, Debian's python3, Node 22.

Used by the tests of this folder. Each driver keeps one process alive through pipes; an answer that does not come within the patience of
harness.py fails the test, so no test hangs on a dead host.
"""
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time

from harness import BUILD, EXTENSION, PATIENCE, host_environment

SKIPPED = 77


def skip(reason, wants=""):
    """Ends the test as skipped; scripts/check prints the line. `wants`: the one word for what is missing although scripts/setup, or the rights
    that this process has, should give it. Where CI=true that is a failure, unless HQL_CI_WITHOUT=<word>[,<word>] names it."""
    if wants and os.environ.get("CI") == "true" and wants not in os.environ.get("HQL_CI_WITHOUT", "").split(","):
        print(f"failed: {reason}; CI may not leave this test out without HQL_CI_WITHOUT={wants}", flush=True)
        sys.exit(1)
    print(f"skipped: {os.path.basename(sys.argv[0])}: {reason}", flush=True)
    sys.exit(SKIPPED)


class Driver:
    """A process that answers one line for each line it gets. `errors`: a file for what it writes to stderr, else that is part of the answers."""

    def __init__(self, words, cwd, env=None, errors=None):
        with open(errors or os.devnull, "ab") as log:
            self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log if errors else subprocess.STDOUT,
                                            cwd=cwd, env=env or host_environment(HQL_LOG_LEVEL="error"))
        self.buffer = b""

    def send(self, text):
        self.process.stdin.write(text.encode() + b"\n")
        self.process.stdin.flush()

    def line(self):
        deadline = time.monotonic() + 4 * PATIENCE
        while b"\n" not in self.buffer:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise AssertionError(f"no answer from the host; so far: {self.buffer.decode(errors='replace')}")
            more = os.read(self.process.stdout.fileno(), 65536)
            if not more:
                raise AssertionError(f"the host ended with {self.process.wait()}: {self.buffer.decode(errors='replace')}")
            self.buffer += more
        text, self.buffer = self.buffer.split(b"\n", 1)
        return text.decode(errors="replace")

    def end(self):
        """Closes the host's input and waits; its exit status."""
        self.process.stdin.close()
        self.process.stdout.read()
        return self.process.wait(timeout=PATIENCE)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class Shell(Driver):
    """The stock sqlite3 shell, as a person types into it."""

    def __init__(self, cwd):
        super().__init__(["sqlite3", "-batch", "-init", "/dev/null", ":memory:"], cwd)
        self.count = 0

    def ask(self, text):
        """What the shell printed for `text`, errors included, as lines."""
        self.count += 1
        mark = f"-- answered {self.count}"
        self.send(text)
        self.send(f".print {mark}")
        lines = []
        while (line := self.line()) != mark:
            lines.append(line)
        return lines


PYTHON_LOOP = r"""
import json, sqlite3, sys
connections = {}
first = sqlite3.connect(":memory:", isolation_level=None)
first.enable_load_extension(True)
first.load_extension(sys.argv[1])
connections[""] = first
for line in sys.stdin:
    ask = json.loads(line)
    try:
        if ask["sql"] is None:
            connections[ask["on"]] = sqlite3.connect(ask["open"], uri=True, isolation_level=None)
            answer = {"rows": []}
        else:
            answer = {"rows": connections[ask["on"]].execute(ask["sql"], ask["parameters"]).fetchall()}
    except sqlite3.Error as error:
        last = connections[""].execute("SELECT hql_last_error()").fetchone()[0]
        answer = {"error": str(error), "kind": type(error).__name__, "last": last, "code": getattr(error, "sqlite_errorcode", None)}
    print(json.dumps(answer), flush=True)
"""


class Refused(Exception):
    """A statement that failed in the Python host: SQLite's words and extended code, the exception's class, and hql_last_error()."""

    def __init__(self, answer):
        super().__init__(f"{answer['kind']}: {answer['error']}; {answer['last']}")
        self.text, self.kind, self.last, self.code = answer["error"], answer["kind"], answer["last"] or "", answer["code"]


class Python(Driver):
    """Debian's python3 with the extension loaded; connections have names, "" is the one in memory."""

    def __init__(self, cwd, errors=None):
        super().__init__(["/usr/bin/python3", "-c", PYTHON_LOOP, EXTENSION], cwd, errors=errors)

    def call(self, request):
        self.send(json.dumps(request))
        answer = json.loads(self.line())
        if "error" in answer:
            raise Refused(answer)
        return answer["rows"]

    def open(self, name, uri):
        self.call({"on": name, "open": uri, "sql": None})

    def ask(self, sql, *parameters, on=""):
        return self.call({"on": on, "sql": sql, "parameters": parameters})


def node22():
    """The path of Node 22, installed once into the build directory by npm; ends the test as skipped when that is not possible. Tests that run
    side by side come here at once: the first one installs, and what an interrupted installation left is not taken for a whole one."""
    folder = os.path.join(BUILD, "node22")
    binary, whole = os.path.join(folder, "node_modules", "node", "bin", "node"), os.path.join(folder, "installed")
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "lock"), "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.exists(whole):
            return binary
        npm = shutil.which("npm")
        if npm is None:
            skip("npm is not installed, so Node 22 cannot be had", "npm")
        words = [npm, "install", "--no-save", "--no-audit", "--no-fund", "--prefix", folder, "node@22"]
        try:
            done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
        except subprocess.TimeoutExpired:
            skip("npm did not install node@22 within 300 s", "npm")
        if done.returncode != 0 or not os.path.exists(binary):
            skip(f"npm could not install node@22: {' '.join(done.stderr.split())[-300:]}", "npm")
        with open(whole, "wb"):
            return binary

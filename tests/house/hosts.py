"""Stock host processes with the extension of this build: the sqlite3 shell and Debian's python3.

Used by the Python tests of every folder (they put this folder on sys.path). CMake passes the build by environment (hql_python_test):
HQL_BUILD_DIR, HQL_SANITIZE ('' | address | thread), HQL_SANITIZER_RUNTIME (what to preload then).
"""
import os
import subprocess

BUILD_DIR = os.path.abspath(os.environ["HQL_BUILD_DIR"])
LIB_DIR = os.path.join(BUILD_DIR, "lib")
BIN_DIR = os.path.join(BUILD_DIR, "bin")
SANITIZE = os.environ.get("HQL_SANITIZE", "")
EXTENSION = os.path.join(LIB_DIR, "libhiqlite")
SHELL = "/usr/bin/sqlite3"
PYTHON = "/usr/bin/python3"
TIMEOUT_S = 120


def environment(**extra):
    """The environment for a host that loads the extension. Sanitizers need their runtime first and no DEEPBIND; what the host itself
    leaks is not ours, so leaks are checked in the statically linked test binaries instead."""
    env = {key: value for key, value in os.environ.items() if key not in ("LD_PRELOAD", "HQL_CONFIG")}
    if SANITIZE:
        env["LD_PRELOAD"] = os.environ["HQL_SANITIZER_RUNTIME"]
        env["HQL_NO_DEEPBIND"] = "1"
        env["ASAN_OPTIONS"] = "detect_leaks=0:abort_on_error=1"
        env["UBSAN_OPTIONS"] = "print_stacktrace=1"
        env["TSAN_OPTIONS"] = "halt_on_error=1:abort_on_error=1"
    env.update(extra)
    return env


def run(argv, stdin="", cwd=None, env=None):
    """Runs to the end; stdout and stderr are text. A negative returncode is the signal that ended it."""
    return subprocess.run(argv, input=stdin, cwd=cwd, env=env if env is not None else environment(), text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=TIMEOUT_S, check=False)


def shell(*commands, cwd=None, env=None):
    """The stock shell on a database in memory; each argument is one line that a user types."""
    return run([SHELL, "-batch", "-init", "/dev/null", ":memory:"], stdin="\n".join(commands) + "\n", cwd=cwd, env=env)


def python(code, cwd=None, env=None):
    """Debian's python3, which can load extensions (many others cannot)."""
    return run([PYTHON, "-c", code], cwd=cwd, env=env)

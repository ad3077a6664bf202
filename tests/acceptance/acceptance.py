"""Runs sql/acceptance/*.sql as a user types them and compares what the shell prints with the .out beside each.

    acceptance.py [--rewrite] [--folder DIR] [name ...]

A script is fed to the stock sqlite3 shell, which starts on a database in memory in an empty folder with `libhiqlite.so` in it (so scripts say
`.load ./libhiqlite`) and no configuration: data goes to ./hiqlite-data. Compared is stdout with stderr, in the order written; the folder's
path reads DIR, the extension's version VERSION, process ids PID. --rewrite writes the .out files: read the difference before committing it.
Exit: 0 all equal, 1 some differ, 77 there are no scripts.
"""
import argparse
import difflib
import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "house"))
import hosts  # noqa: E402

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
SKIPPED = 77


def version():
    with open(os.path.join(ROOT, "CMakeLists.txt"), encoding="utf-8") as file:
        return re.search(r"VERSION (\d+\.\d+\.\d+) LANGUAGES", file.read()).group(1)


def normalise(text, folder):
    text = text.replace(folder, "DIR")
    text = re.sub(rf"(?<![\d.]){re.escape(version())}(?![\d.])", "VERSION", text)
    return re.sub(r'\bpid(=|": ?|": )\d+', r"pid\1PID", text)


def run(script):
    """What the shell printed, normalised, with a last line that says how it ended when that was not a plain exit."""
    folder = os.path.realpath(tempfile.mkdtemp(prefix="hql-acceptance-"))
    try:
        os.symlink(hosts.EXTENSION + ".so", os.path.join(folder, "libhiqlite.so"))
        env = {key: value for key, value in hosts.environment().items() if not key.startswith("HQL_") or key == "HQL_NO_DEEPBIND"}
        with open(script, encoding="utf-8") as file:
            shell = subprocess.run([hosts.SHELL, "-batch", "-init", "/dev/null", ":memory:"], stdin=file, cwd=folder, env=env,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=hosts.TIMEOUT_S, check=False)
        text = normalise(shell.stdout.decode("utf-8", "replace"), folder)
        return text if shell.returncode in (0, 1) else text + f"\n-- the shell ended with {shell.returncode}\n"
    except subprocess.TimeoutExpired as expired:
        return (expired.stdout or b"").decode("utf-8", "replace") + f"\n-- the shell did not end within {hosts.TIMEOUT_S} s\n"
    finally:
        shutil.rmtree(folder)


def check(script, rewrite):
    """An empty text, or what is wrong."""
    expected_path = os.path.splitext(script)[0] + ".out"
    printed = run(script)
    if rewrite:
        with open(expected_path, "w", encoding="utf-8") as file:
            file.write(printed)
        return ""
    if not os.path.exists(expected_path):
        return f"{expected_path} is missing; run with --rewrite and read it\n"
    with open(expected_path, encoding="utf-8") as file:
        expected = file.read()
    return "".join(line if line.endswith("\n") else line + "\n" for line in difflib.unified_diff(
        expected.splitlines(keepends=True), printed.splitlines(keepends=True), expected_path, "printed"))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rewrite", action="store_true")
    parser.add_argument("--folder", default=os.path.join(ROOT, "sql", "acceptance"))
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()

    scripts = sorted(glob.glob(os.path.join(arguments.folder, "*.sql")))
    orphans = [path for path in sorted(glob.glob(os.path.join(arguments.folder, "*.out"))) if path[:-4] + ".sql" not in scripts]
    if arguments.names:
        scripts = [script for script in scripts if os.path.splitext(os.path.basename(script))[0] in arguments.names]
    if not scripts and not orphans:
        print(f"nothing to run: no *.sql in {os.path.relpath(arguments.folder, ROOT)}")
        return SKIPPED

    failed = len(orphans)
    for path in orphans:
        print(f"FAILED {os.path.basename(path)}: no script of that name; remove it")
    for script in scripts:
        wrong = check(script, arguments.rewrite)
        name = os.path.basename(script)
        print(f"FAILED {name}\n{wrong}" if wrong else f"ok     {name}", flush=True)
        failed += bool(wrong)
    print(f"{len(scripts)} scripts, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

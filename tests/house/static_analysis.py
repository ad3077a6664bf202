"""clang-tidy on the product and clang-format on everything, as errors (preset clang: ctest -L house).

usage: static_analysis.py tidy|format|write [FILE ...]     FILE: default all

`tidy` runs the checks of .clang-tidy but for LEFT_OUT, on the compile database of the build (HQL_BUILD_DIR), one file per processor at a
time. `format` compares every C++ file with what clang-format makes of it, `write` (scripts/format) makes it so.
"""
import concurrent.futures
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests"))
from tidy import read_tree  # noqa: E402

# clang-analyzer-*: it takes longer than all other checks together, and what it still says is no defect: the padding of the one
# raft::Core::State of a node, whose members stand together by what they are for.
# readability-function-size: open_data_dir(), NodeImpl::attach() and recover_from() are longer than 70 lines. Each is a sequence whose order
# is what matters in it, and its parts would share most of its variables.
LEFT_OUT = ("clang-analyzer-*", "readability-function-size")
PRODUCT = ("base", "raft", "wal", "pages", "vfs", "net", "node", "exec", "ext", "cli")


def files(suffixes, folders=None):
    return [name for name in sorted(read_tree(ROOT)) if name.endswith(suffixes) and (folders is None or name.split("/")[0] in folders)]


def tidy(name):
    checks = ",".join("-" + check for check in LEFT_OUT)
    done = subprocess.run(["clang-tidy-14", "-p", os.environ["HQL_BUILD_DIR"], "--quiet", "--checks=" + checks, name], cwd=ROOT,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True)
    return name, done.returncode == 0, done.stdout


def formatted(name):
    done = subprocess.run(["clang-format-14", "--dry-run", "-Werror", name], cwd=ROOT, capture_output=True, text=True)
    return name, done.returncode == 0, done.stderr


def write(name):
    done = subprocess.run(["clang-format-14", "-i", name], cwd=ROOT, capture_output=True, text=True)
    return name, done.returncode == 0, done.stderr


def main(what, names):
    work = {"tidy": tidy, "format": formatted, "write": write}[what]
    names = names or (files(".cc", PRODUCT) if what == "tidy" else files((".h", ".cc", ".c")))
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for name, good, text in pool.map(work, names):
            if good:
                continue
            failed += 1
            print(f"{name}:\n{text}", flush=True)
    print(f"{what}: {len(names)} files, {failed} with findings" + ("; scripts/format writes them" if failed and what == "format" else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))

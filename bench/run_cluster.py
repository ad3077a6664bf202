#!/usr/bin/env python3
"""Three processes on this machine: two `hiqlite serve` and hiqlite_bench, which owns node 1 and leads. Prints hiqlite_bench's table.

usage: bench/run_cluster.py [BUILD_DIR] [hiqlite_bench options]      BUILD_DIR: default build/release
"""
import os
import subprocess
import sys

repo = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
build = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 and not sys.argv[1].startswith("-") else os.path.join(repo, "build", "release")
options = sys.argv[2:] if len(sys.argv) > 1 and not sys.argv[1].startswith("-") else sys.argv[1:]
os.environ["HQL_BUILD"] = build
os.environ.setdefault("TMPDIR", "/var/tmp")  # a disk, where /tmp may be memory
sys.path.insert(0, os.path.join(repo, "tests", "cluster"))
from harness import Cluster, Workspace  # noqa: E402

workspace = Workspace("bench")
cluster = Cluster(workspace, 3)
failed = True
try:
    for server in cluster.servers[1:]:
        server.start()
    done = subprocess.run([os.path.join(build, "bin", "hiqlite_bench"), "--config", cluster.config(1), "--dir", workspace.path, *options])
    failed = done.returncode != 0
finally:
    cluster.kill()
    workspace.clean(failed)
sys.exit(1 if failed else 0)

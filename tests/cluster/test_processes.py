"""Processes around a node: attached to it, forked from its owner, or its owner while memory, threads or descriptors are missing."""
import json
import os
import sqlite3
import sys

sys.path.insert(0, os.path.dirname(__file__))
from harness import main  # noqa: E402
from hosts import Python, Refused  # noqa: E402
from test_errors import URI, ended, fails, started  # noqa: E402


def attached_process_stays_attached(workspace):
    """Neither an open through the VFS nor an import makes it a node of its own: what it writes afterwards is the owner's."""
    owner = started(workspace)
    attached = Python(workspace.path)
    try:
        data = workspace.path + "/data"
        owner.ask("CREATE TABLE t(x)", on="app")
        plain = sqlite3.connect(os.path.join(workspace.path, "plain.db"))
        plain.executescript("CREATE TABLE t(x)")
        plain.close()
        attached.ask("SELECT hql_remote(?)", "unix:" + data)
        fails(attached, "SELECT hql_import('plain.db', 'copy.db')", "HQL_REFUSED", data)
        fails(attached, "SELECT hql_export('app.db', 'exported.db')", "HQL_REFUSED", data)
        for uri in (URI, URI + "&node=1"):
            try:
                attached.open("app", uri)
                raise AssertionError("an attached process opened a database")
            except Refused as refused:
                for text in ("HQL_REFUSED", data, "hql_execute()"):
                    assert text in refused.last, refused
        seen = json.loads(attached.ask("SELECT hql_status()")[0][0])
        assert (seen["pid"], seen["data_dir"]) == (owner.process.pid, data), seen
        assert attached.ask("SELECT hql_execute_opts(?, ?)", '{"db":"app.db"}', "INSERT INTO t VALUES (1)") == [[1]]
        assert owner.ask("SELECT count(*) FROM t", on="app") == [[1]]
        assert not os.path.exists(os.path.join(workspace.path, "hiqlite-data"))
        ended(attached)
        ended(owner)
    finally:
        attached.kill()
        owner.kill()


if __name__ == "__main__":
    main(attached_process_stays_attached)

#!/usr/bin/python3 -B
"""Writes docs/ERRORS.md from the table in base/code.h, or with --check says whether it is current (ctest: errors_current)."""
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TABLE = os.path.join(ROOT, "base", "code.h")
PAGE = os.path.join(ROOT, "docs", "ERRORS.md")

SQLITE_NAMES = {
    1: "SQLITE_ERROR", 2: "SQLITE_INTERNAL", 3: "SQLITE_PERM", 4: "SQLITE_ABORT", 5: "SQLITE_BUSY", 6: "SQLITE_LOCKED", 7: "SQLITE_NOMEM",
    8: "SQLITE_READONLY", 9: "SQLITE_INTERRUPT", 10: "SQLITE_IOERR", 11: "SQLITE_CORRUPT", 12: "SQLITE_NOTFOUND", 13: "SQLITE_FULL",
    14: "SQLITE_CANTOPEN", 15: "SQLITE_PROTOCOL", 17: "SQLITE_SCHEMA", 18: "SQLITE_TOOBIG", 19: "SQLITE_CONSTRAINT",
    20: "SQLITE_MISMATCH", 21: "SQLITE_MISUSE", 22: "SQLITE_NOLFS", 23: "SQLITE_AUTH", 25: "SQLITE_RANGE", 26: "SQLITE_NOTADB",
}
ROW = re.compile(r'X\((k\w+),\s*"(\w+)",\s*(\d+),\s*(\d+),\s*"((?:\\.|[^"\\])*)"\)')

HEAD = """# Errors

Every error of the extension reads

    hiqlite: HQL_<NAME>: what happened to which thing, and what to do

The extended result code is `primary | (number << 8)`: `sqlite3_extended_errcode()` tells errors apart that share a primary code, and a
program that knows only the primary code still does the right thing (retries on `SQLITE_BUSY`, gives up on `SQLITE_CORRUPT`). Numbers are
never reused. This page is made by `scripts/gen_errors.py` from the table in `base/code.h`.

| error | primary code | number | extended code | meaning |
|---|---|---|---|---|
"""

TAIL = """
## When files of a node are damaged or gone

- The log is damaged. A member of a cluster says where (`last_error`, `hiqlite status`), does not campaign, and fetches what is lost from the
  others. Where it had been killed as well, a database that holds more than is left of the log is made again from it, and its files are kept as
  `<name>*.set-aside-...`. An embedded node does not start, `HQL_CORRUPT`: see below.
- The log, the id or the meta file is gone. A member of a cluster begins a new incarnation by itself: the old files are set aside
  (`*.aside-...`), the others send everything. So does an embedded node without databases; with databases it does not start, `HQL_CORRUPT`: see
  below.
- Nothing of the data directory can be trusted. In a cluster: stop the node, move the directory away, start it; the others, which must be a
  majority, send everything. An embedded node: see below.
- One database is damaged, or a program without the extension wrote to it (`HQL_FOREIGN_WRITE`), and the log is sound: stop the node,
  `hiqlite rebuild -c FILE app.db`, start it. On an embedded node only while its log goes back to the creation of the database.
- `HQL_POISONED`: a sync of the log failed, or a thread of the node ran out of memory. Restart the node. Until then its databases can be read.

An embedded node has the only copy of its log, and `hiqlite rebuild` makes databases from the log. But its databases are plain SQLite files with
all that was applied (after a power cut perhaps without the last transactions, which only the log had). Move the data directory away, start the
node again, which then begins an empty one, and take over each database: `SELECT hql_import('<where you moved it>/db/app.db', 'app.db')`. Keep
what was moved until you have looked at the content.
"""


def read_rows():
    with open(TABLE, encoding="utf-8") as file:
        rows = [(name, text, int(sqlite), int(number), meaning) for name, text, sqlite, number, meaning in ROW.findall(file.read())]
    if not rows:
        sys.exit(f"{TABLE}: no table HQL_CODES found")
    for field, what in ((1, "name"), (3, "number")):
        seen = set()
        for row in rows:
            if row[field] in seen:
                sys.exit(f"{TABLE}: the {what} {row[field]} is used twice")
            seen.add(row[field])
    for row in rows:
        if row[2] not in SQLITE_NAMES:
            sys.exit(f"{TABLE}: {row[1]}: {row[2]} is no primary code of SQLite")
    return rows


def make_page():
    lines = [f"| `HQL_{text}` | `{SQLITE_NAMES[sqlite]}` ({sqlite}) | {number} | {sqlite | number << 8} | {meaning} |"
             for _, text, sqlite, number, meaning in read_rows()]
    return HEAD + "\n".join(lines) + "\n" + TAIL


def main():
    page = make_page()
    if "--check" in sys.argv[1:]:
        try:
            with open(PAGE, encoding="utf-8") as file:
                current = file.read()
        except FileNotFoundError:
            current = ""
        if current != page:
            print("docs/ERRORS.md is not what base/code.h says; run scripts/gen_errors.py")
            return 1
        print("docs/ERRORS.md is current")
        return 0
    with open(PAGE, "w", encoding="utf-8") as file:
        file.write(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())

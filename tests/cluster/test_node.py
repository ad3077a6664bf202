"""Node 22's node:sqlite as a host (issue: seen working 1 and 7): a session, and exits while it writes. Skipped when npm cannot give Node 22,
and in sanitized builds: the release build runs it (label `acceptance`).
"""
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(__file__))
from harness import EXTENSION, PATIENCE, SANITIZED, host_environment, main, read_plain  # noqa: E402
from hosts import node22, skip  # noqa: E402

SESSION = r"""
import { DatabaseSync } from 'node:sqlite';
const [extension, directory] = process.argv.slice(2);
const show = (name, value) => console.log(name, JSON.stringify(value));
const boot = new DatabaseSync(':memory:', { allowExtension: true });
boot.loadExtension(extension);
show('start', boot.prepare('SELECT hql_start(?) AS id').get(JSON.stringify({ data_dir: directory + '/data' })));
const db = new DatabaseSync('file:app.db?vfs=hiqlite');
db.exec("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT UNIQUE, at TEXT, r INTEGER)");
show('insert', db.prepare("INSERT INTO t(name, at, r) VALUES ('one', datetime('now'), random())").run());
db.exec("BEGIN; INSERT INTO t(name) VALUES ('two'); INSERT INTO t(name) VALUES ('three'); COMMIT");
db.exec("BEGIN; INSERT INTO t(name) VALUES ('gone'); ROLLBACK");
try { db.exec("INSERT INTO t(name) VALUES ('two')"); } catch (error) { show('error', [error.code, error.errcode, error.message]); }
// get() steps once and resets: the commit happens in the reset.
show('returning', db.prepare("INSERT INTO t(name) VALUES (?) RETURNING id").get('four'));
const second = new DatabaseSync('file:app.db?vfs=hiqlite');
show('second', second.prepare('SELECT count(*) AS n FROM t').get());
db.exec("CREATE VIRTUAL TABLE f USING fts5(body)");
db.exec("CREATE TRIGGER tf AFTER INSERT ON t BEGIN INSERT INTO f(rowid, body) VALUES (new.id, new.name); END");
show('execute', db.prepare("SELECT hql_execute('INSERT INTO t(name) VALUES (?1)', ?) AS n").get('forwarded full text'));
show('fts', second.prepare("SELECT rowid FROM f WHERE f MATCH 'full'").all());
db.exec("BEGIN; SAVEPOINT a; INSERT INTO t(name) VALUES ('undone'); ROLLBACK TO a; INSERT INTO t(name) VALUES ('kept'); RELEASE a; COMMIT");
db.exec('VACUUM');
show('names', second.prepare("SELECT group_concat(name) AS names FROM (SELECT name FROM t ORDER BY id)").get());
show('blob', db.prepare("SELECT hql_execute_returning('SELECT ?1 AS b', ?) AS json").get(new Uint8Array([0, 255])));
const busy = new DatabaseSync('file:app.db?vfs=hiqlite');
busy.exec('PRAGMA busy_timeout = 50; BEGIN IMMEDIATE');
try { second.exec("PRAGMA busy_timeout = 50; INSERT INTO t(name) VALUES ('no')"); } catch (error) { show('busy', error.errcode & 0xff); }
busy.exec('ROLLBACK');
try { new DatabaseSync('file:app.db?vfs=hiqlite&cache=shared'); } catch (error) {
  show('refused', boot.prepare('SELECT hql_last_error() AS text').get().text.slice(0, 22));
}
show('integrity', db.prepare('PRAGMA integrity_check').get());
show('stop', boot.prepare('SELECT hql_stop() AS stopped').get());
try { db.prepare('SELECT count(*) FROM t').get(); show('stopped', 'still reads'); } catch (error) {
  show('stopped', boot.prepare('SELECT hql_last_error() AS text').get().text.split(':').slice(0, 2).join(':'));
}
"""

EXPECTED = [
    'start {"id":1}',
    'insert {"lastInsertRowid":1,"changes":1}',
    'error ["ERR_SQLITE_ERROR",2067,"UNIQUE constraint failed: t.name"]',
    'returning {"id":4}',
    'second {"n":4}',
    'execute {"n":1}',
    'fts [{"rowid":5}]',
    'names {"names":"one,two,three,four,forwarded full text,kept"}',
    'blob {"json":"[{\\"b\\":{\\"$blob\\":\\"AP8=\\"}}]"}',
    'busy 5',
    'refused "hiqlite: HQL_REFUSED: "',
    'integrity {"integrity_check":"ok"}',
    'stop {"stopped":1}',
    'stopped "hiqlite: HQL_STOPPED"',
]

# The main thread ends the process while its workers write; each acknowledged row is a line on standard output.
EXITS = r"""
import { DatabaseSync } from 'node:sqlite';
import { Worker, isMainThread, workerData } from 'node:worker_threads';
import { writeSync } from 'node:fs';
const acknowledge = (name) => writeSync(1, name + '\n');
if (isMainThread) {
  const [extension, directory, number, how] = process.argv.slice(2);
  const boot = new DatabaseSync(':memory:', { allowExtension: true });
  boot.loadExtension(extension);
  boot.prepare('SELECT hql_start(?)').get(JSON.stringify({ data_dir: directory + '/data' }));
  const db = new DatabaseSync('file:app.db?vfs=hiqlite');
  db.exec('CREATE TABLE IF NOT EXISTS t(id TEXT PRIMARY KEY)');
  const counts = new Int32Array(new SharedArrayBuffer(4));
  for (let thread = 0; thread < 2; ++thread)
    new Worker(new URL(import.meta.url), { workerData: { name: `${how}-${number}-${thread}`, counts } });
  const insert = db.prepare('INSERT INTO t VALUES (?)');
  db.exec('PRAGMA busy_timeout = 60000');
  for (let i = 0; i < 20; ++i) {
    insert.run(`${how}-${number}-main-${i}`);
    acknowledge(`${how}-${number}-main-${i}`);
  }
  const ready = () => Atomics.load(counts, 0) >= 20;
  if (how === 'exit') setInterval(() => { if (ready()) process.exit(4); }, 1);
  if (how === 'throw') setInterval(() => { if (ready()) throw new Error('on purpose'); }, 1);
  if (how === 'stop') setInterval(() => { if (ready()) { boot.prepare('SELECT hql_stop()').get(); process.exit(0); } }, 1);
} else {
  const db = new DatabaseSync('file:app.db?vfs=hiqlite');
  db.exec('PRAGMA busy_timeout = 60000');
  const insert = db.prepare('INSERT INTO t VALUES (?)');
  for (let i = 0; ; ++i) {
    try { insert.run(`${workerData.name}-${i}`); } catch (error) { break; }
    acknowledge(`${workerData.name}-${i}`);
    Atomics.add(workerData.counts, 0, 1);
  }
}
"""

NODE_ENDS = {"exit": 4, "throw": 1, "stop": 0}


def run_node(workspace, program, *words):
    path = os.path.join(workspace.path, "program.mjs")
    with open(path, "w", encoding="utf-8") as file:
        file.write(program)
    return subprocess.run([node22(), "--no-warnings", path, EXTENSION + ".so", workspace.path, *words], capture_output=True, text=True,
                          env=host_environment(), timeout=4 * PATIENCE)


def node_session(workspace):
    done = run_node(workspace, SESSION)
    assert done.returncode == 0 and not done.stderr, (done.returncode, done.stderr, done.stdout)
    lines = done.stdout.splitlines()
    assert lines == EXPECTED, [pair for pair in zip(lines, EXPECTED) if pair[0] != pair[1]] or lines
    assert read_plain(f"{workspace.path}/data/db/app.db", "SELECT count(*) FROM t") == ["6"]


def node_exits(workspace):
    acknowledged = set()
    for number in range(200):
        how = list(NODE_ENDS)[number % len(NODE_ENDS)]
        done = run_node(workspace, EXITS, str(number), how)
        assert done.returncode == NODE_ENDS[how], (number, how, done.returncode, done.stderr[-2000:])
        assert how == "throw" or not done.stderr, (number, how, done.stderr[-2000:])
        lines = done.stdout.splitlines()
        assert len(lines) >= 40, (number, how, lines)
        acknowledged.update(lines)
    path = f"{workspace.path}/data/db/app.db"
    missing = acknowledged - set(read_plain(path, "SELECT id FROM t"))
    assert not missing, f"{len(missing)} acknowledged rows are gone, for example {sorted(missing)[:5]}"
    assert read_plain(path, "PRAGMA integrity_check") == ["ok"]


if __name__ == "__main__":
    if SANITIZED:
        skip("this is a sanitized build, the release build runs it")
    node22()
    main(node_session, node_exits)

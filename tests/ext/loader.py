"""The loader: what the two shared objects export and need, and how they behave in stock hosts (ext/stub.c, ext/entry.cc)."""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "house"))
import hosts  # noqa: E402

STUB = os.path.join(hosts.LIB_DIR, "libhiqlite.so")
CORE = os.path.join(hosts.LIB_DIR, "libhiqlite-core.so")
LOAD = f".load {hosts.EXTENSION}"
JEMALLOC = "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2"
EXITS = {"ci": 20, "hour": 200, "night": 2000}[os.environ.get("HQL_TEST_SCALE", "ci")]


def version():
    listing = os.path.join(os.path.dirname(__file__), "..", "..", "CMakeLists.txt")
    with open(listing, encoding="utf-8") as file:
        return re.search(r"VERSION (\d+\.\d+\.\d+) LANGUAGES", file.read()).group(1)


def exports(path):
    listing = subprocess.run(["nm", "-D", "--defined-only", path], capture_output=True, text=True, check=True).stdout
    return sorted(line.split()[-1] for line in listing.splitlines())


def needed(path):
    listing = subprocess.run(["readelf", "-d", path], capture_output=True, text=True, check=True).stdout
    return re.findall(r"\(NEEDED\).*\[(.*)\]", listing)


class Objects(unittest.TestCase):
    def test_Stub_Exports_OnlyTheEntriesThatSqliteTries(self):
        self.assertEqual(exports(STUB), ["sqlite3_extension_init", "sqlite3_hiqlite_init"])

    def test_Core_Exports_OnlyItsEntry(self):
        self.assertEqual(exports(CORE), ["hiqlite_core_init"])

    def test_Objects_Needed_NeitherSqliteNorTheCxxRuntime(self):
        for path in (STUB, CORE):
            for library in needed(path):
                self.assertNotRegex(library, r"sqlite|stdc\+\+|libc\+\+|libgcc_s|fmt|spdlog|gtest", path)

    def test_Stub_Needed_OnlyLibc(self):
        self.assertEqual(needed(STUB), ["libc.so.6"])


class Hosts(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="hql-loader-")
        self.addCleanup(shutil.rmtree, self.dir)

    def copy(self, name, *files):
        folder = os.path.join(self.dir, name)
        os.mkdir(folder)
        for file in files:
            shutil.copy(file, folder)
        return os.path.join(folder, "libhiqlite")

    def assert_ran(self, result, stdout):
        self.assertEqual((result.returncode, result.stdout), (0, stdout), result.stderr)

    def test_Shell_Load_HasFunctions(self):
        self.assert_ran(hosts.shell(LOAD, "SELECT hql_version();", cwd=self.dir), version() + "\n")

    def test_Shell_LoadByRelativePath_HasFunctions(self):
        relative = os.path.relpath(hosts.EXTENSION, self.dir)
        self.assert_ran(hosts.shell(f".load {relative}", "SELECT hql_version();", cwd=self.dir), version() + "\n")

    def test_Shell_OpenAfterLoad_NewConnectionHasFunctions(self):
        result = hosts.shell(LOAD, ".open plain.db", "SELECT hql_version();", "ATTACH 'other.db' AS other;", "SELECT hql_version();",
                             cwd=self.dir)
        self.assert_ran(result, f"{version()}\n" * 2)

    def test_Shell_LoadTwiceAndInsideStatement_IsIdempotent(self):
        result = hosts.shell(LOAD, LOAD, f"SELECT load_extension('{hosts.EXTENSION}') IS NULL;",
                             f"SELECT hql_version() || coalesce(load_extension('{hosts.EXTENSION}'), '');", cwd=self.dir)
        self.assert_ran(result, f"1\n{version()}\n")

    def test_Shell_LoadThroughSymlink_FindsCoreBesideTheRealFile(self):
        link = os.path.join(self.dir, "link")
        os.symlink(STUB, link + ".so")
        # A link by another name: SQLite tries sqlite3_extension_init first.
        self.assert_ran(hosts.shell(f".load {link}", "SELECT hql_version();", cwd=self.dir), version() + "\n")
        os.symlink(hosts.LIB_DIR, os.path.join(self.dir, "folder"))
        self.assert_ran(hosts.shell(".load folder/libhiqlite", LOAD, "SELECT hql_version();", cwd=self.dir), version() + "\n")

    def test_Shell_LoadSecondCopy_IsRefusedByName(self):
        other = self.copy("other", STUB, CORE)
        result = hosts.shell(LOAD, f".load {other}", "SELECT hql_version();", cwd=self.dir)
        self.assertEqual(result.stdout, version() + "\n", "the first copy goes on")
        self.assertIn("HQL_REFUSED: another copy of the extension is already loaded in this process: " + CORE, result.stderr)

    def test_Shell_LoadSecondCopyFirst_ItIsTheOneThatRuns(self):
        other = self.copy("other", STUB, CORE)
        result = hosts.shell(f".load {other}", LOAD, LOAD, "SELECT hql_version();", cwd=self.dir)
        self.assertEqual(result.stdout, version() + "\n")
        self.assertEqual(result.stderr.count("HQL_REFUSED: another copy"), 2, result.stderr)

    def test_Shell_CopyOfStubWithLinkToTheSameCore_IsTheSameCopy(self):
        other = self.copy("other", STUB)
        os.symlink(CORE, os.path.join(self.dir, "other", "libhiqlite-core.so"))
        self.assert_ran(hosts.shell(LOAD, f".load {other}", "SELECT hql_version();", cwd=self.dir), version() + "\n")

    def test_Shell_CoreMissing_MessageNamesTheFile(self):
        alone = self.copy("alone", STUB)
        result = hosts.shell(f".load {alone}", cwd=self.dir)
        self.assertIn(f"cannot load {self.dir}/alone/libhiqlite-core.so (it must lie beside libhiqlite.so)", result.stderr)

    def test_Shell_CoreIsAnotherLibrary_IsRefused(self):
        wrong = self.copy("wrong", STUB)
        shutil.copy(STUB, os.path.join(self.dir, "wrong", "libhiqlite-core.so"))
        result = hosts.shell(f".load {wrong}", cwd=self.dir)
        self.assertIn("is not the core of this version of hiqlite: install both files together", result.stderr)

    def test_Shell_FailedLoadThenGoodOne_Works(self):
        alone = self.copy("alone", STUB)
        self.assertEqual(hosts.shell(f".load {alone}", LOAD, "SELECT hql_version();", cwd=self.dir).stdout, version() + "\n")

    def test_Shell_QuitAfterUse_ExitsCleanly(self):
        for attempt in range(EXITS):
            result = hosts.shell(LOAD, ".open plain.db", "CREATE TABLE IF NOT EXISTS t(x);", "INSERT INTO t VALUES(hql_version());",
                                 ".quit", cwd=self.dir)
            self.assertEqual((attempt, result.returncode, result.stderr), (attempt, 0, ""))

    def test_Python_Load_EveryConnectionAndThreadHasFunctions(self):
        result = hosts.python(f"""
import sqlite3, threading
first = sqlite3.connect(':memory:')
first.enable_load_extension(True)
first.load_extension({hosts.EXTENSION!r})
found = []
def other():
    found.append(sqlite3.connect(':memory:').execute('SELECT hql_version()').fetchone()[0])
threads = [threading.Thread(target=other) for _ in range(8)]
[t.start() for t in threads]
[t.join() for t in threads]
print(first.execute('SELECT hql_version()').fetchone()[0], len(found), set(found))
""", cwd=self.dir)
        self.assert_ran(result, f"{version()} 8 {{'{version()}'}}\n")

    def test_Python_LoadFromManyThreadsAtOnce_Works(self):
        result = hosts.python(f"""
import sqlite3, threading
gate = threading.Barrier(8)
failed = []
def load():
    db = sqlite3.connect(':memory:')
    db.enable_load_extension(True)
    gate.wait()
    try:
        db.load_extension({hosts.EXTENSION!r})
        db.execute('SELECT hql_version()').fetchone()
    except sqlite3.Error as error:
        failed.append(str(error))
threads = [threading.Thread(target=load) for _ in range(8)]
[t.start() for t in threads]
[t.join() for t in threads]
print(failed)
""", cwd=self.dir)
        self.assert_ran(result, "[]\n")

    def test_Python_LoaderConnectionClosed_OthersGoOn(self):
        result = hosts.python(f"""
import sqlite3
first = sqlite3.connect(':memory:')
first.enable_load_extension(True)
first.load_extension({hosts.EXTENSION!r})
first.close()
print(sqlite3.connect(':memory:').execute('SELECT hql_version()').fetchone()[0])
""", cwd=self.dir)
        self.assert_ran(result, version() + "\n")

    def test_Python_ForkWithoutNode_ChildCanUseTheExtension(self):
        result = hosts.python(f"""
import os, sqlite3
db = sqlite3.connect(':memory:')
db.enable_load_extension(True)
db.load_extension({hosts.EXTENSION!r})
child = os.fork()
if child == 0:
    os._exit(0 if sqlite3.connect(':memory:').execute('SELECT hql_version()').fetchone() else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
""", cwd=self.dir)
        self.assert_ran(result, "0\n")


class NodeInHost(unittest.TestCase):
    """The embedded node in a host's process: it must not be felt when the host ends, forks, or has another allocator."""
    SESSION = (LOAD, "SELECT hql_start() > 0, hql_wait_healthy(20000);", ".open file:app.db?vfs=hiqlite",
               "CREATE TABLE IF NOT EXISTS t(x);", "INSERT INTO t VALUES(1);", "SELECT count(*) FROM t;")

    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="hql-node-")
        self.addCleanup(shutil.rmtree, self.dir)

    def test_Shell_QuitWithRunningNode_ExitsCleanlyAndKeepsRows(self):
        for count in range(1, EXITS + 1):
            result = hosts.shell(*self.SESSION, ".quit", cwd=self.dir)
            self.assertEqual((result.returncode, result.stdout), (0, f"1|1\n{count}\n"), result.stderr)

    @unittest.skipIf(hosts.SANITIZE, "a sanitizer brings its own allocator")
    def test_Shell_NodeWithJemalloc_Works(self):
        for count in (1, 2, 3):
            result = hosts.shell(*self.SESSION, cwd=self.dir, env=hosts.environment(LD_PRELOAD=JEMALLOC))
            self.assertEqual((result.returncode, result.stdout), (0, f"1|1\n{count}\n"), result.stderr)

    def test_Python_ForkOfTheOwner_ChildRefusesParentGoesOn(self):
        result = hosts.python(f"""
import os, sqlite3, sys
first = sqlite3.connect(':memory:')
first.enable_load_extension(True)
first.load_extension({hosts.EXTENSION!r})
first.execute('SELECT hql_start(), hql_wait_healthy(20000)').fetchall()
db = sqlite3.connect('file:app.db?vfs=hiqlite', uri=True)
db.execute('CREATE TABLE t(x)')
sys.stdout.flush()
child = os.fork()
if child == 0:
    for connection, sql in ((sqlite3.connect(':memory:'), 'SELECT hql_status()'), (db, 'INSERT INTO t VALUES(1)')):
        try:
            connection.execute(sql).fetchall()
            print('the child was not refused:', sql)
        except sqlite3.Error:
            pass
    sys.exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
db.execute('INSERT INTO t VALUES(2)')
db.commit()
print(db.execute('SELECT group_concat(x) FROM t').fetchone()[0])
""", cwd=self.dir)
        self.assertEqual((result.returncode, result.stdout), (0, "0\n2\n"), result.stderr)


@unittest.skipIf(hosts.SANITIZE, "a sanitizer's runtime walks the loaded objects before this host is ready; the release build runs it")
class FakeHosts(unittest.TestCase):
    """Hosts that we refuse, through the real stub (tests/ext/fake_host.c)."""

    def load(self, what, host=os.path.join(hosts.BIN_DIR, "fake_host"), **extra):
        result = hosts.run([host, STUB, what], env=hosts.environment(**extra))
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout if extra else result.stdout.replace("interposed\n", "")

    def test_Host_Real_IsAccepted(self):
        self.assertEqual(self.load("real"), "256 \n")  # SQLITE_OK_LOAD_PERMANENTLY

    def test_Host_OldestSupported_IsAccepted(self):
        self.assertEqual(self.load("version=3035000"), "256 \n")

    def test_Host_TooOld_IsRefusedWithBothVersions(self):
        self.assertEqual(self.load("version=3034001"),
                         "1 hiqlite: HQL_REFUSED: this process uses SQLite 3.34.1; SQLite 3.35.0 or newer is needed\n")

    def test_Host_SingleThreaded_IsRefused(self):
        self.assertRegex(self.load("threadsafe=0"), r"^1 hiqlite: HQL_REFUSED: .*SQLITE_THREADSAFE=0")

    def test_Host_OtherDefaultVfs_IsRefusedByName(self):
        self.assertRegex(self.load("vfs=multiplex"), r'^1 hiqlite: HQL_REFUSED: the default VFS of this process is "multiplex"')

    def test_Host_SecondSqlite_IsRefusedAndTheFirstGoesOn(self):
        first, second = self.load("second").splitlines()
        self.assertEqual(first, "256 ")
        self.assertRegex(second, r"^1 hiqlite: HQL_REFUSED: two copies of SQLite are in this process")
        self.assertIn("3.45.0 tries now", second)

    @unittest.skipIf(hosts.SANITIZE, "sanitizers need HQL_NO_DEEPBIND")
    def test_Core_HostDefinesFunctionOfLibc_CoreKeepsLibcs(self):
        self.assertEqual(self.load("real", HQL_NO_DEEPBIND="0"), "256 \n")
        self.assertEqual(self.load("real", HQL_NO_DEEPBIND="1"), "interposed\n256 \n")

    @unittest.skipIf(hosts.SANITIZE or os.geteuid() != 0, "needs root and a build without sanitizer")
    def test_Core_NoDeepbindUnderSetuid_IsIgnored(self):
        folder = tempfile.mkdtemp(prefix="hql-setuid-", dir=hosts.BUILD_DIR)  # /tmp may be mounted nosuid
        self.addCleanup(shutil.rmtree, folder)
        host = shutil.copy(os.path.join(hosts.BIN_DIR, "fake_host"), folder)
        os.chmod(folder, 0o755)
        os.chown(host, 65534, 65534)
        os.chmod(host, 0o4755)
        if os.statvfs(folder).f_flag & os.ST_NOSUID:
            self.skipTest("the build lies on a nosuid mount")
        result = hosts.run([host, STUB, "real"], env=hosts.environment(HQL_NO_DEEPBIND="1"))
        if "Permission denied" in result.stderr:
            self.skipTest("another user cannot read the build")
        self.assertEqual((result.returncode, result.stdout), (0, "256 \n"), result.stderr)


@unittest.skipIf(hosts.SANITIZE, "a sanitizer brings its own allocator")
class PreloadedAllocator(unittest.TestCase):
    def probe(self, library, preload):
        env = hosts.environment(**({"LD_PRELOAD": preload} if preload else {}))
        return hosts.run([os.path.join(hosts.BIN_DIR, "probe_host"), os.path.join(hosts.LIB_DIR, library)], env=env)

    def test_Jemalloc_Installed(self):
        self.assertTrue(os.path.exists(JEMALLOC), "install libjemalloc2 (scripts/setup)")

    def test_Shell_WithJemalloc_Works(self):
        env = hosts.environment(LD_PRELOAD=JEMALLOC)
        result = hosts.shell(LOAD, "SELECT hql_version();", env=env)
        self.assertEqual((result.returncode, result.stdout), (0, version() + "\n"), result.stderr)

    def test_Forwarding_WithAndWithoutJemalloc_MemoryCrossesOver(self):
        for preload in ("", JEMALLOC):
            result = self.probe("libprobe_forwarding.so", preload)
            self.assertEqual((preload, result.returncode, result.stdout), (preload, 0, "survived\n"), result.stderr)

    def test_NoForwarding_WithJemalloc_Dies(self):
        """The canary: without ext/allocator.c the same code must die, or the test above proves nothing."""
        self.assertEqual(self.probe("libprobe_plain.so", "").returncode, 0)
        self.assertLess(self.probe("libprobe_plain.so", JEMALLOC).returncode, 0)


if __name__ == "__main__":
    unittest.main()

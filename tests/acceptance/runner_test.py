"""The acceptance runner itself: it must fail when a script prints anything else than its .out says (tests/acceptance/acceptance.py)."""
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

RUNNER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "acceptance.py")
SCRIPT = ".load ./libhiqlite\nSELECT hql_version();\n.open plain.db\nCREATE TABLE t(x);\nINSERT INTO t VALUES(1);\nSELECT count(*) FROM t;\n"


class Runner(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="hql-runner-")
        self.addCleanup(shutil.rmtree, self.folder)

    def write(self, name, text):
        with open(os.path.join(self.folder, name), "w", encoding="utf-8") as file:
            file.write(text)

    def run_it(self, *arguments):
        return subprocess.run([sys.executable, "-B", RUNNER, "--folder", self.folder, *arguments], text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=100, check=False)

    def test_NoScripts_Skipped(self):
        result = self.run_it()
        self.assertEqual(result.returncode, 77)
        self.assertIn("nothing to run", result.stdout)

    def test_Equal_Passes(self):
        self.write("a.sql", SCRIPT)
        self.write("a.out", "VERSION\n1\n")
        self.assertEqual(self.run_it().returncode, 0)
        self.assertEqual(self.run_it().returncode, 0, "each run has a folder of its own")

    def test_Different_FailsWithDifference(self):
        self.write("a.sql", SCRIPT)
        self.write("a.out", "VERSION\n2\n")
        result = self.run_it()
        self.assertEqual(result.returncode, 1)
        self.assertIn("-2\n+1\n", result.stdout)

    def test_ErrorText_IsCompared(self):
        self.write("a.sql", "SELECT hql_no_such_function();\n")
        self.write("a.out", "")
        result = self.run_it()
        self.assertEqual(result.returncode, 1)
        self.assertIn("no such function: hql_no_such_function", result.stdout)

    def test_OutMissingOrAlone_Fails(self):
        self.write("a.sql", SCRIPT)
        self.assertIn("a.out is missing", self.run_it().stdout)
        self.write("b.out", "")
        result = self.run_it()
        self.assertEqual(result.returncode, 1)
        self.assertIn("FAILED b.out", result.stdout)

    def test_Rewrite_ThenPasses(self):
        self.write("a.sql", SCRIPT)
        self.assertEqual(self.run_it("--rewrite").returncode, 0)
        self.assertEqual(self.run_it().returncode, 0)
        with open(os.path.join(self.folder, "a.out"), encoding="utf-8") as file:
            self.assertEqual(file.read(), "VERSION\n1\n")

    def test_ShellKilled_Fails(self):
        self.write("a.sql", ".shell kill -KILL $PPID\n")
        self.write("a.out", "")
        result = self.run_it()
        self.assertEqual(result.returncode, 1)
        self.assertIn("the shell ended with -9", result.stdout)


if __name__ == "__main__":
    unittest.main()

"""A cluster test that ends as skipped says why, and where CI=true it fails when CI should have what it wants (tests/cluster/hosts.py)."""
import os
import subprocess
import sys
import tempfile
import unittest

CLUSTER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cluster")


def skipped(call, **environment):
    """Exit status and output of a program that makes `call`."""
    env = {"PATH": os.environ["PATH"], "HQL_BUILD": os.curdir, **environment}
    program = f"import sys; sys.path.insert(0, {CLUSTER!r}); import hosts; {call}; print('went on')"
    done = subprocess.run([sys.executable, "-B", "-c", program], env=env, capture_output=True, text=True, timeout=30, check=False)
    return done.returncode, done.stdout + done.stderr


class Skips(unittest.TestCase):
    def test_Skip_OnAMachineOfSomebody_SaysWhy(self):
        self.assertEqual(skipped("hosts.skip('no such thing', 'thing')"), (77, "skipped: -c: no such thing\n"))

    def test_Skip_OnCi_Fails(self):
        status, text = skipped("hosts.skip('no such thing', 'thing')", CI="true")
        self.assertEqual(status, 1)
        self.assertIn("failed: no such thing; ", text)
        self.assertIn("HQL_CI_WITHOUT=thing", text)

    def test_Skip_OnCiThatSaysWhatItLacks_IsASkip(self):
        for without in ("thing", "other,thing"):
            self.assertEqual(skipped("hosts.skip('no such thing', 'thing')", CI="true", HQL_CI_WITHOUT=without)[0], 77)
        self.assertEqual(skipped("hosts.skip('no such thing', 'thing')", CI="true", HQL_CI_WITHOUT="other")[0], 1)

    def test_Skip_BecauseAnotherBuildRunsIt_IsASkipOnCiToo(self):
        self.assertEqual(skipped("hosts.skip('the release build runs it')", CI="true")[0], 77)

    def test_Node22_WithoutNpm_FailsOnCi(self):
        for ci, status in (("", 77), ("true", 1)):
            with tempfile.TemporaryDirectory() as build:
                self.assertEqual(skipped("hosts.node22()", HQL_BUILD=build, PATH="/nonexistent", CI=ci)[0], status)


if __name__ == "__main__":
    unittest.main()

"""docs/RULES.md tells the truth: all eighteen rules are there, and every file and test that it names exists."""
import glob
import os
import re
import unittest

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8", errors="replace") as file:
        return file.read()


def known_tests():
    names = set()
    for path in glob.glob(os.path.join(ROOT, "tests", "**", "*.cc"), recursive=True):
        names.update(f"{suite}.{test}" for suite, test in re.findall(r"\bTEST(?:_F|_P)?\((\w+),\s*(\w+)\)", read(path)))
    for path in glob.glob(os.path.join(ROOT, "tests", "**", "*.py"), recursive=True):
        for suite, body in re.findall(r"^class (\w+)\(.*?\):\n(.*?)(?=^\S|\Z)", read(path), re.DOTALL | re.MULTILINE):
            names.update(f"{suite}.{test}" for test in re.findall(r"^    def (test_\w+)\(", body, re.MULTILINE))
    for path in glob.glob(os.path.join(ROOT, "tests", "**", "CMakeLists.txt"), recursive=True):
        names.update(re.findall(r"hql_(?:python_)?test\((\w+)", read(path)))
    return names


def rows():
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in read("docs/RULES.md").splitlines() if line.startswith("| R")]


class Rules(unittest.TestCase):
    def test_Table_EveryRuleOnce_InOrder(self):
        self.assertEqual([row[0].split()[0] for row in rows()], [f"R{number}" for number in range(1, 19)])

    def test_Architecture_HasEveryRule(self):
        text = read("docs/ARCHITECTURE.md")
        for number in range(1, 19):
            self.assertRegex(text, rf"\*\*R{number}\b")

    def test_Files_Named_Exist(self):
        for row in rows():
            for name in re.findall(r"`([^`]+/[^`]+)`", row[1]):
                self.assertTrue(os.path.exists(os.path.join(ROOT, name)), f"{row[0]}: {name} does not exist")

    def test_Tests_Named_Exist(self):
        known = known_tests()
        for row in rows():
            for name in re.findall(r"`([^`]+)`", row[2]):
                if "/" in name:  # a transcript
                    self.assertTrue(os.path.exists(os.path.join(ROOT, name)), f"{row[0]}: {name} does not exist")
                else:
                    self.assertIn(name, known, f"{row[0]} names a test that does not exist")

    def test_Row_WithoutTests_SaysNotBuilt(self):
        for row in rows():
            self.assertTrue(row[2] or row[1] == "not built yet", f"{row[0]} is built but no test is named")


if __name__ == "__main__":
    unittest.main()

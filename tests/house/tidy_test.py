"""Every rule of tests/tidy.py is broken once here, and must be reported at the right line; good code must pass."""
import os
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))
import tidy  # noqa: E402

TOP = "foreach(folder base raft wal vfs net node ext tests/raft tests/ext)\n"


def found(path, text, listing=None):
    """Findings of one file in a small tree, as (line, rule)."""
    folder = os.path.dirname(path)
    tree = {"CMakeLists.txt": TOP, path: text}
    if folder:
        tree[folder + "/CMakeLists.txt"] = os.path.basename(path) + "\n" if listing is None else listing
    result = []
    for finding in tidy.check_tree(tree).findings:
        name, line, rule, what = finding.split(":", 3)
        assert what.strip(), finding
        if name == path:
            result.append((int(line), rule.strip()))
    return result


def source(*lines):
    return "// A file.\n" + "".join(line + "\n" for line in lines)


class Tidy(unittest.TestCase):
    def assert_rule(self, rule, path, *lines):
        self.assertIn((len(lines) + 1, rule), found(path, source(*lines)), lines)

    def assert_clean(self, path, *lines):
        self.assertEqual(found(path, source(*lines)), [], lines)

    def test_BannedCall_InCode_IsReported(self):
        for rule, line in [
                ("throw", "if (bad) throw 1;"),
                ("sleep", "std::this_thread::sleep_for(x);"),
                ("sleep", "  usleep(10);"),
                ("sleep", "::nanosleep(&time, nullptr);"),
                ("sprintf", "sprintf(text, format);"),
                ("strcpy", "std::strcpy(a, b);"),
                ("rand", "int x = rand();"),
                ("rand", "std::random_device device;"),
                ("time", "auto t = time(nullptr);"),
                ("time", "auto t = std::time(nullptr);"),
                ("time", "localtime(&t);"),
                ("system", "system(command);"),
                ("setjmp", "if (setjmp(here)) return;"),
                ("assert", "assert(x > 0);"),
                ("namespace", "using namespace std;"),
                ("thread", "std::thread worker([] {});"),
                ("thread", "std::jthread worker;"),
                ("mutex", "std::lock_guard<std::mutex> lock(m);"),
                ("print", 'printf("x");'),
                ("print", 'std::cout << "x";'),
                ("print", 'fprintf(stderr, "x");'),
                ("exit", "std::exit(1);"),
                ("signal", "signal(SIGPIPE, SIG_IGN);"),
                ("atexit", "atexit(stop);"),
                ("atfork", "pthread_atfork(a, b, c);"),
                ("cxx20", 'std::format("x");')]:
            self.assert_rule(rule, "net/a.cc" if rule == "atfork" else "vfs/a.cc", "int ok;", line)

    def test_BannedCall_InCommentOrString_IsNot(self):
        self.assert_clean("vfs/a.cc", "// printf() and throw are banned; system(x)", '/* rand() */ const char* s = "throw \\" time(0)";',
                          'const char* r = R"sql(throw', "assert(1))sql\";", "int n = 1'000'000; char c = '\"'; int m = 0xff'ff;")

    def test_BannedCall_LookAlike_IsNot(self):
        self.assert_clean("vfs/a.cc", "auto t = clock.time(); env->random(); my_sleep(1); static_assert(1);", "run_time(3); std::thread::id id;",
                          "snprintf(text, sizeof text, format); transport->system(1); signals(2); base::MutexLock lock(m);")

    def test_BannedCall_WhereItIsAllowed_IsNot(self):
        self.assert_clean("base/a.cc", "std::thread worker;")
        self.assert_clean("tests/raft/a.cc", "std::thread worker;", 'printf("x");')

    def test_BannedCall_WithReasonedException_IsNot(self):
        self.assert_clean("vfs/a.cc", "std::exit(1);  // tidy: allow(exit) a forked child of ours")
        self.assert_rule("exit", "vfs/a.cc", "std::exit(1);  // tidy: allow(exit)")
        self.assert_rule("exit", "vfs/a.cc", "std::exit(1);  // tidy: allow(print) another rule")

    def test_Include_OfUpperOrSideFolder_IsReported(self):
        for path, name in [("base/a.cc", "raft/core.h"), ("raft/a.cc", "wal/log.h"), ("wal/a.h", "node/node.h"), ("vfs/a.cc", "raft/core.h"),
                           ("net/a.cc", "pages/tx.h"), ("node/a.cc", "exec/request.h"), ("exec/a.cc", "ext/entry.h"), ("ext/a.cc", "cli/run.h"),
                           ("ext/a.cc", "tests/x.h")]:
            lines = ["#pragma once", f'#include "{name}"']
            self.assertIn((3, "layer"), found(path, source(*lines)), (path, name))
        self.assert_rule("layer", "ext/a.cc", '#include "entry.h"')

    def test_Include_OfLowerFolder_IsNot(self):
        self.assert_clean("vfs/a.cc", '#include "pages/tx.h"', '#include "base/sqlite.h"', '#include "vfs/b.h"')
        self.assert_clean("node/a.cc", '#include "raft/core.h"', '#include "vfs/gate.h"')
        self.assert_clean("ext/a.cc", '#include "node/node.h"', "#include <unistd.h>")
        self.assert_clean("tests/raft/a.cc", '#include "raft/core.h"', '#include "wal/log.h"')

    def test_Include_OfSqlite_OnlyThroughBase(self):
        self.assert_rule("sqlite", "vfs/a.cc", "#include <sqlite3.h>")
        self.assert_rule("sqlite", "vfs/a.cc", "#include <sqlite3ext.h>")
        self.assert_clean("base/sqlite.h", "#pragma once", "#include <sqlite3ext.h>")
        self.assert_clean("tests/ext/a.cc", "#include <sqlite3.h>")

    def test_Include_OfRealWorldInSimulatedFolder_IsReported(self):
        for name in ("<thread>", "<chrono>", "<uv.h>", '"base/sqlite.h"', "<unistd.h>", '"base/thread_lane.h"'):
            for folder in ("raft", "wal", "node"):
                self.assert_rule("seam", folder + "/a.cc", "#include " + name)

    def test_Include_OfWhatOneCompilerLacks_IsReported(self):
        self.assert_rule("cxx20", "ext/a.cc", "#include <ranges>")
        self.assert_rule("assert", "ext/a.cc", "#include <cassert>")
        self.assert_rule("heavy", "base/a.cc", "#include <spdlog/spdlog.h>")

    def test_File_Shape_IsReported(self):
        self.assertEqual(found("base/a.h", "// A file.\nint x;\n"), [(1, "once")])
        self.assertEqual(found("base/a.cc", "int x;\n"), [(1, "opening")])
        self.assertEqual(found("base/a.cc", source("int x; ")), [(2, "space")])
        self.assertEqual(found("base/a.cc", source("\tint x;")), [(2, "space")])
        self.assertEqual(found("base/a.cc", "// A file.\nint x;"), [(2, "newline")])
        self.assertEqual(found("base/a.cc", source("int " + "x" * 160 + ";")), [(2, "columns")])
        self.assertEqual(found("base/a.cc", source(*["int x;"] * 800)), [(801, "length")])
        self.assertEqual(found("base/a.cc", source(*["int x;"] * 799)), [])
        self.assertEqual(found("scripts/run", "#!/bin/sh\nset -e\n", ""), [(1, "opening")])
        self.assertEqual(found("docs/a.md", "see /" + "root/build\n", ""), [(1, "machine")])
        self.assertEqual(found("tests/raft/a.py", '"""A test."""\nimport time\ntime.' + "sleep(1)\n"), [(3, "sleep")])

    def test_File_OfManyLines_IsNoted(self):
        tree = {"CMakeLists.txt": TOP, "base/CMakeLists.txt": "a.cc\n", "base/a.cc": source(*["int x;"] * 400)}
        self.assertEqual(tidy.check_tree(tree).notes, ["base/a.cc: 401 lines (usual: up to 400)"])

    def test_Source_MissingFromCMake_IsReported(self):
        self.assertEqual(found("base/a.cc", source("int x;"), "b.cc aa.cc a.cc.in\n"), [(1, "listed")])
        self.assertEqual(found("tests/raft/a.py", '"""A test."""\n', "b.py\n"), [(1, "listed")])
        loop = "foreach(name b a)\n  add(${CMAKE_CURRENT_SOURCE_DIR}/test_${name}.py)\nendforeach()\n"
        self.assertEqual(found("tests/raft/test_a.py", '"""A test."""\n', loop), [])
        self.assertEqual(found("tests/raft/test_c.py", '"""A test."""\n', loop), [(1, "listed")])
        tree = {"CMakeLists.txt": TOP, "base/CMakeLists.txt": "deep/a.cc\n", "base/deep/a.cc": source("int x;")}
        self.assertEqual(tidy.check_tree(tree).findings, [])

    def test_Folder_MissingFromCMake_IsReported(self):
        tree = {"CMakeLists.txt": TOP, "cache/CMakeLists.txt": "a.cc\n", "cache/a.cc": source("int x;")}
        self.assertEqual([finding.split(":")[0] for finding in tidy.check_tree(tree).findings], ["cache/CMakeLists.txt"])

    def test_PythonModule_ImportedByATest_NeedNotBeListed(self):
        tree = {"CMakeLists.txt": TOP, "tests/raft/CMakeLists.txt": "a.py\n", "tests/raft/a.py": '"""A test."""\nimport helper\n',
                "tests/raft/helper.py": '"""Helps."""\n'}
        self.assertEqual(tidy.check_tree(tree).findings, [])


if __name__ == "__main__":
    unittest.main()

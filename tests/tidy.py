#!/usr/bin/python3 -B
"""Rules of the tree that no compiler checks: layers, banned calls, lengths, dead files, comments.

Run by ctest (tests/house) and by hand: tests/tidy.py [--notes] [folder or file ...]. Prints `file:line: rule: what; the fix`, exit 1 when
there is any. A line may claim an exception, with its reason:   // tidy: allow(<rule>) why
--notes also lists files that are getting long. tests/house/tidy_test.py breaks every rule once.
"""
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LENGTH_MAX = 800
LENGTH_NOTED = 400
COLUMNS_MAX = 150

# Which folders a folder may include, besides itself (docs/ARCHITECTURE.md, section 3). A folder that is not here may include everything.
ROW2 = ["raft", "wal", "pages", "vfs", "cache", "net"]
LAYERS = {"base": [], **{folder: ["base"] for folder in ROW2}}
LAYERS["vfs"] = ["base", "pages"]
LAYERS["node"] = ["base", *ROW2]
LAYERS.update({folder: ["base", *ROW2, "node"] for folder in ("exec", "http", "backup")})
LAYERS["ext"] = ["base", *ROW2, "node", "exec", "http", "backup"]
LAYERS["cli"] = [*LAYERS["ext"], "ext"]  # the command line is a client of the service that ext/ offers to other processes
FOLDERS = [*LAYERS, "bench", "tests"]
# R1: these run unchanged in the simulator, on virtual time.
SIMULATED = ["raft", "wal", "pages", "cache", "node"]

CODE = (".c", ".cc", ".h")
TEXT = CODE + (".py", ".sh", ".cmake", ".md", ".sql", ".txt", ".toml", ".json", ".map", ".yml", ".yaml")
SKIPPED_DIRS = {".git", "build", "node_modules", "hiqlite-data", "__pycache__"}


def outside(*folders):
    return lambda path: not in_folder(path, *folders)


def inside(*folders):
    return lambda path: in_folder(path, *folders)


def everywhere(_path):
    return True


def in_folder(path, *folders):
    return any(path == folder or path.startswith(folder + "/") for folder in folders)


# (rule, pattern over code without comments and strings, where it holds, what to write instead)
BANNED = [
    ("throw", r"\bthrow\b", everywhere, "return base::Result (base/result.h)"),
    ("sleep", r"\bsleep_(?:for|until)\b|(?<![\w.>:])(?:::)?(?:usleep|nanosleep|clock_nanosleep|sleep)\s*\(",
     outside("base/fault.cc"),  # where delay_ms= is made
     "wait for the condition itself, with a deadline (base::CondVar, Lane::post_at)"),
    ("sprintf", r"\bv?sprintf\s*\(", everywhere, "snprintf, or std::string"),
    ("strcpy", r"\b(?:strcpy|strcat|strncpy|strncat|stpcpy|gets)\s*\(", everywhere, "std::string, or memcpy with a checked size"),
    ("rand", r"(?<![\w.>])(?:std::|::)?(?:s?rand|drand48)\s*\(|\bstd::random_device\b|(?<!\w)::random\s*\(", everywhere,
     "Env::random() (base/env.h); in tests a seeded generator whose seed is printed"),
    ("time", r"(?<![\w.>:])(?:std::|::)?time\s*\(|\b(?:gettimeofday|localtime|gmtime|ctime|asctime)\s*\(", everywhere,
     "Env::now() or Env::wall_clock(); gmtime_r to format"),
    ("system", r"(?<![\w.>])(?:std::|::)?(?:system|popen)\s*\(", outside("tests", "bench"), "posix_spawn with an argument list"),
    ("setjmp", r"\b(?:setjmp|longjmp)\s*\(", everywhere, "return base::Result"),
    ("assert", r"(?<![\w.])assert\s*\(", everywhere, "CHECK (base/check.h): it is on in release; in tests ASSERT_*/EXPECT_*"),
    ("namespace", r"\busing\s+namespace\b", everywhere, "name what you use"),
    ("thread", r"\bstd::(?:thread|jthread|async)\b(?!::(?:id|hardware_concurrency)\b)|\bpthread_create\b",
     outside("base", "net", "tests", "bench"), "a base::Lane (base/lane.h)"),
    ("mutex", r"\bstd::(?:(?:recursive_|shared_|timed_)*mutex|lock_guard|unique_lock|scoped_lock|shared_lock|condition_variable\w*)\b",
     outside("base/mutex.h"), "base::Mutex, MutexLock, CondVar (base/mutex.h): they carry thread-safety annotations"),
    ("print", r"(?<![\w.>:])(?:std::)?(?:printf|puts|putchar|vprintf)\s*\(|\bstd::(?:cout|cerr|clog)\b|\bfprintf\s*\(\s*std(?:out|err)\b",
     outside("cli", "tests", "bench"), "return the error, or base::log (base/log.h): we are a guest in this process"),
    ("exit", r"(?<![\w.>:])(?:std::|::)?(?:exit|_exit|quick_exit|_Exit)\s*\(", outside("cli", "tests", "bench"),
     "return an error: the process is the host's"),
    ("signal", r"(?<![\w.>:])(?:std::|::)?(?:signal|sigaction)\s*\(", outside("cli", "tests", "bench"),
     "the host's handlers are never touched (R2); lanes block signals"),
    ("atexit", r"(?<![\w.>])(?:std::|::)?(?:atexit|on_exit|at_quick_exit)\s*\(", outside("ext/lifecycle.cc", "tests"),
     "ext/lifecycle.h: one handler for everything of ours"),
    ("atfork", r"\bpthread_atfork\s*\(", outside("ext/lifecycle.cc", "vfs", "tests"), "ext/lifecycle.h, or vfs/fork.h for descriptors"),
    ("cxx20", r"\bstd::(?:format|expected|ranges|views|source_location)\b", everywhere, "not in both g++ 12 and clang 14 with libstdc++ 12"),
]

# (rule, pattern of the included name, where it is banned, the fix)
BANNED_INCLUDES = [
    ("sqlite", r"sqlite3\.h", outside("tests", "bench", "cli"), "include base/sqlite.h: everything goes through the host's table of routines"),
    ("sqlite", r"sqlite3ext\.h", outside("base/sqlite.h", "tests"), "include base/sqlite.h"),
    ("seam", r"base/sqlite\.h|uv\.h|openssl/.*|thread|future|chrono|condition_variable|fstream|iostream|filesystem|fcntl\.h|unistd\.h"
             r"|sys/socket\.h|time\.h|ctime|base/thread_lane\.h", inside(*SIMULATED),
     "this folder runs in the simulator: files, time, threads and peers only through base/env.h, lane.h, transport.h (R1)"),
    ("cxx20", r"ranges|format|expected|source_location", everywhere, "not in both g++ 12 and clang 14 with libstdc++ 12"),
    ("heavy", r"spdlog/.*|msgpack\.hpp", everywhere, "costs up to 45 s per file to compile: base/log.h, or the C interface"),
    ("assert", r"cassert|assert\.h", everywhere, "CHECK (base/check.h)"),
]

# Words that tie the text to one machine. A machine path is one below a home or work folder.
MACHINE = re.compile(r"(?<![\w.~-])/(?:work|root|home)/\w")

ALLOW = re.compile(r"tidy: allow\((\w+)\)\s+\S")
INCLUDE = re.compile(r'^\s*#\s*include\s+(?:"([^"]+)"|<([^>]+)>)')


class Report:
    def __init__(self):
        self.findings = []
        self.notes = []

    def add(self, path, line, rule, what, lines=None):
        if lines is not None and 0 < line <= len(lines):
            allowed = ALLOW.search(lines[line - 1])
            if allowed and allowed.group(1) == rule:
                return
        self.findings.append(f"{path}:{line}: {rule}: {what}")


def blank(match):
    return re.sub(r"[^\n]", " ", match.group(0))


# Raw strings, comments, strings, characters: in this order of preference at each place. A digit separator (1'000) is no character.
NOT_CODE = re.compile(r'R"(?P<d>[^()\\\s]{0,16})\(.*?\)(?P=d)"|//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"'
                      r"|(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'", re.DOTALL)


def code_only(text):
    """The text with comments and literals as spaces, same lines."""
    return NOT_CODE.sub(blank, text)


def check_includes(report, path, lines):
    folder = path.split("/")[0]
    for number, line in enumerate(lines, 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        name = match.group(1) or match.group(2)
        for rule, pattern, holds, fix in BANNED_INCLUDES:
            if re.fullmatch(pattern, name) and holds(path):
                report.add(path, number, rule, f"includes {name}; {fix}", lines)
        if match.group(1) is None:
            continue
        target = name.split("/")[0]
        if "/" not in name and folder == "tests":
            continue  # the header beside a test
        if "/" not in name:
            report.add(path, number, "layer", f'"{name}" without its folder; write "{os.path.dirname(path)}/{name}"', lines)
        elif folder in LAYERS and target != folder and target in FOLDERS and target not in LAYERS[folder]:
            allowed = ", ".join(LAYERS[folder]) or "nothing"
            report.add(path, number, "layer", f"{folder}/ may not include {target}/ (allowed: {allowed}); "
                       f"join them in a folder above, or move the seam into a folder below", lines)


def check_code(report, path, text, lines):
    check_includes(report, path, lines)
    stripped = code_only(text)
    stripped_lines = stripped.splitlines()
    for rule, pattern, holds, fix in BANNED:
        if not holds(path):
            continue
        for match in re.finditer(pattern, stripped):
            number = stripped.count("\n", 0, match.start()) + 1
            if stripped_lines[number - 1].lstrip().startswith("#"):
                continue
            found = match.group(0).rstrip("({ \t")
            report.add(path, number, rule, f"{found} is banned; {fix}", lines)
    if path.endswith(".h") and not re.search(r"^#pragma once$", text, re.MULTILINE):
        report.add(path, 1, "once", "a header without #pragma once; add it below the opening comment")
    if not re.match(r"//|/\*", text):
        report.add(path, 1, "opening", "no opening comment; say what the file is for, who calls it, on which thread, and its format")


def check_text(report, path, text, lines):
    if text and not text.endswith("\n"):
        report.add(path, len(lines), "newline", "no newline at the end of the file; add one")
    code = path.endswith(CODE + (".py",))
    for number, line in enumerate(lines, 1):
        if line != line.rstrip():
            report.add(path, number, "space", "trailing whitespace; remove it", lines)
        if "\t" in line and code:
            report.add(path, number, "space", "a tab; use spaces", lines)
        if code and len(line) > COLUMNS_MAX:
            report.add(path, number, "columns", f"{len(line)} columns, at most {COLUMNS_MAX}; break the line", lines)
        if MACHINE.search(line):
            report.add(path, number, "machine", "a path of one machine; use a relative path or a temporary folder", lines)
    if code and len(lines) > LENGTH_MAX:
        report.add(path, len(lines), "length", f"{len(lines)} lines, at most {LENGTH_MAX}; split it by what it is about")
    elif code and len(lines) > LENGTH_NOTED:
        report.notes.append(f"{path}: {len(lines)} lines (usual: up to {LENGTH_NOTED})")


def check_scripts(report, path, lines):
    first = lines[1] if len(lines) > 1 and lines[0].startswith("#!") else (lines[0] if lines else "")
    if path.endswith(".py"):
        if not first.startswith(('"""', "#")):
            report.add(path, 1, "opening", 'no opening comment; begin with a docstring that says what the script is for')
        for number, line in enumerate(lines, 1):
            if re.search(r"\btime\.sleep\(", line):
                report.add(path, number, "sleep", "time.sleep is banned; wait for the condition itself, with a deadline", lines)
    elif os.path.basename(path) != "CMakeLists.txt" and not first.startswith("#"):
        report.add(path, 1, "opening", "no opening comment; say what the file is for")


LOOP = re.compile(r"foreach\((\w+)\s+([^()]*)\)(.*?)endforeach\(", re.DOTALL)


def expand_loops(listing):
    """The listing with the body of every foreach over plain words once per word."""
    def expand(match):
        return "\n".join(match.group(3).replace("${%s}" % match.group(1), word) for word in match.group(2).split())
    return (LOOP.sub(expand, listing) + listing).replace("${CMAKE_CURRENT_SOURCE_DIR}/", "")


def check_listed(report, tree):
    """Every source stands in the CMakeLists.txt of its folder or of one above; every Python test too, or a listed one imports it."""
    listings = {path: expand_loops(text) for path, text in tree.items() if os.path.basename(path) == "CMakeLists.txt"}
    scripts = {path: text for path, text in tree.items() if path.endswith(".py")}
    imported = set()
    for text in scripts.values():
        imported.update(re.findall(r"^\s*(?:import|from)\s+(\w+)", text, re.MULTILINE))

    def listing_of(path):
        folder = os.path.dirname(path)
        while folder:
            candidate = folder + "/CMakeLists.txt"
            if candidate in listings:
                return candidate
            folder = os.path.dirname(folder)
        return "CMakeLists.txt" if "CMakeLists.txt" in listings else None

    for path in sorted(tree):
        if not in_folder(path, *FOLDERS) or not path.endswith((".c", ".cc", ".py")):
            continue
        if path.endswith(".py") and (not in_folder(path, "tests") or os.path.splitext(os.path.basename(path))[0] in imported):
            continue
        listing = listing_of(path)
        name = path[len(os.path.dirname(listing)):].lstrip("/") if listing else path
        if any("${CMAKE_SOURCE_DIR}/" + path in text for text in listings.values()):
            continue
        if listing and re.search(rf"(?<![\w/.]){re.escape(name)}(?![\w.])", listings[listing]):
            continue
        what = "a test that never runs" if in_folder(path, "tests") else "a file that nobody compiles"
        report.add(path, 1, "listed", f"{what}: not in {listing or 'any CMakeLists.txt'}; add it or remove it")
    listed_above = listings.get("CMakeLists.txt", "")
    for path in listings:
        folder = os.path.dirname(path)
        if folder and not re.search(rf"(?<![\w/]){re.escape(folder)}(?![\w/])", listed_above):
            parent = os.path.dirname(folder)
            above = listings.get(parent + "/CMakeLists.txt", "")
            if not re.search(rf"add_subdirectory\({re.escape(os.path.basename(folder))}\b", above):
                report.add(path, 1, "listed", f"no CMakeLists.txt above adds {folder}; add it to the list of folders in CMakeLists.txt")


def is_script(path, text):
    return path.endswith((".py", ".sh", ".cmake")) or os.path.basename(path) == "CMakeLists.txt" or text.startswith("#!")


def check_tree(tree):
    """`tree`: path relative to the root -> text. The one entry for the tests."""
    report = Report()
    for path, text in sorted(tree.items()):
        lines = text.splitlines()
        check_text(report, path, text, lines)
        if path.endswith(CODE):
            check_code(report, path, text, lines)
        elif is_script(path, text):
            check_scripts(report, path, lines)
    check_listed(report, tree)
    return report


def read_tree(root):
    tree = {}
    for folder, dirs, files in os.walk(root):
        dirs[:] = sorted(name for name in dirs if name not in SKIPPED_DIRS)
        for name in files:
            path = os.path.relpath(os.path.join(folder, name), root)
            in_scripts = in_folder(path, "scripts", ".ci")
            if not (name.endswith(TEXT) or in_scripts):
                continue
            with open(os.path.join(folder, name), encoding="utf-8", errors="replace") as file:
                tree[path] = file.read()
    return tree


def main(arguments):
    wanted = [os.path.relpath(os.path.abspath(argument), ROOT) for argument in arguments if not argument.startswith("--")]
    report = check_tree(read_tree(ROOT))
    findings = [line for line in report.findings if not wanted or in_folder(line.split(":")[0], *wanted)]
    for line in findings:
        print(line)
    if "--notes" in arguments:
        for note in report.notes:
            print("note:", note)
    print(f"tidy: {len(findings)} finding(s)" if findings else "tidy: clean")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

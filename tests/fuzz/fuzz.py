#!/usr/bin/python3 -B
"""Runs one fuzzer for ctest: replays its corpus, then a fixed number of inputs from a fixed seed. The corpus is only read.

    fuzz.py <fuzzer> --corpus <folder> --runs <n> --length <n> [--canary]

Passes when the corpus is not empty, every input whose name begins with "valid" gets past the decoder, and nothing is found. With --canary the
fuzzer has a planted bug, and the test passes only when exactly that is found. What is found stays in the build folder, in fuzz-findings/.
"""
import argparse
import os
import re
import subprocess
import sys

LIMITS = ["-timeout=20", "-rss_limit_mb=2048", "-malloc_limit_mb=100"]
FOUND = 77  # libFuzzer's exit status after a crash


def fail(text, output):
    sys.stderr.write(output)
    sys.exit(f"fuzz: {text}")


def run(arguments):
    done = subprocess.run(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return done.returncode, done.stdout.decode(errors="replace")


def accepted_count(output):
    counts = re.findall(r"fuzz: accepted (\d+) of (\d+) inputs", output)
    if not counts:
        fail("the fuzzer did not come to its end", output)
    return int(counts[-1][0]), int(counts[-1][1])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("fuzzer")
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--runs", type=int, required=True)
    parser.add_argument("--length", type=int, required=True)
    parser.add_argument("--canary", action="store_true")
    options = parser.parse_args()
    name = os.path.basename(options.fuzzer)
    findings = os.path.join(os.path.dirname(options.fuzzer), "..", "fuzz-findings", name) + "-"
    os.makedirs(os.path.dirname(findings), exist_ok=True)
    inputs = sorted(os.path.join(options.corpus, file) for file in os.listdir(options.corpus))
    valid = [path for path in inputs if os.path.basename(path).startswith("valid")]
    if not valid:
        sys.exit(f"fuzz: {options.corpus} holds no input that is valid")
    common = [options.fuzzer, *LIMITS, "-artifact_prefix=" + findings]

    for path in [] if options.canary else inputs:
        status, output = run([*common, path])
        if status != 0:
            fail(f"{path}: exit status {status}", output)
        if path in valid and accepted_count(output)[0] == 0:
            fail(f"{path} is valid no more: has the format changed? `{name} --seeds {options.corpus}` writes the inputs anew", output)

    # No corpus folder is named, so nothing is written to one. A planted bug has to be found, not replayed.
    seeds = valid if options.canary else inputs
    status, output = run([*common, f"-runs={options.runs + len(seeds)}", "-seed=1", f"-max_len={options.length}",
                          "-seed_inputs=" + ",".join(seeds)])
    if options.canary:
        if status != FOUND or "canary found" not in output:
            fail(f"{options.runs} inputs did not find the planted bug: the fuzzer would not find a real one either", output)
        return
    if status != 0:
        fail(f"exit status {status}; the input is {findings}*", output)
    good, all_inputs = accepted_count(output)
    if all_inputs < options.runs:
        fail(f"only {all_inputs} of {options.runs} inputs were run", output)
    coverage = re.findall(r"cov: (\d+)", output)
    print(f"{name}: {all_inputs} inputs, {good} accepted, coverage {coverage[-1] if coverage else '?'}")
    if not coverage or int(coverage[-1]) < 20:
        fail("no coverage: the code under test is not instrumented", output)


if __name__ == "__main__":
    main()

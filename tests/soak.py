"""The suite again and again, in random orders, beside busy processes: does it always pass?

``python -m tests.soak --runs 20 --busy 2``; ``nox -s soak -- --runs 20`` on every Python there is.
A run fails that a test fails in, that takes too long, or that leaves processes behind.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from xml.etree import ElementTree

import psutil

ROOT = Path(__file__).parent.parent
MARK = "FASTMNIST_SOAK"  # in the environment of all that a run starts
LONGEST_RUN = 3600.0  # seconds


@dataclass
class Run:
    """One run of the suite."""

    python: str
    seed: int
    seconds: int
    tests: int
    slowest: str
    outcome: str  # "passed", or what is wrong


def soak(runs: int, busy: int, folder: Path, arguments: Sequence[str]) -> list[Run]:
    """Run the suite so often; print and log each run."""
    folder.mkdir(parents=True, exist_ok=True)
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
    done = []
    try:
        for _ in range(runs):
            done.append(run(folder, secrets.randbelow(2**32), arguments))
            line = "\t".join(map(str, astuple(done[-1])))
            print(line, flush=True)
            with open(folder / "runs.tsv", "a", encoding="utf-8") as log:
                log.write(f"{line}\n")
    finally:
        for other in others:
            other.kill()
    return done


def run(folder: Path, seed: int, arguments: Sequence[str]) -> Run:
    """Run the suite once; what it prints is in a file of the folder, named by the seed."""
    python = platform.python_version()
    name = folder / f"{python}-{seed}"
    report = name.with_suffix(".xml")
    command = [sys.executable, "-m", "pytest", f"--randomly-seed={seed}", f"--junitxml={report}"]
    mark = secrets.token_hex(8)
    began = time.monotonic()
    with open(f"{name}.log", "wb") as log:
        process = subprocess.Popen(
            [*command, *(arguments or ["-n", "auto"])],
            cwd=ROOT,
            env=os.environ | {MARK: mark},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            code = process.wait(LONGEST_RUN)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            left = kill_marked(mark)
    seconds = round(time.monotonic() - began)
    tests, slowest, failed = read(report)
    wrong = [*failed]
    if code is None:
        wrong.append(f"not done in {LONGEST_RUN:g} s")
    elif code and not failed:
        wrong.append(f"exit code {code}")
    if left:
        wrong.append(f"left behind: {'; '.join(left)}")
    return Run(python, seed, seconds, tests, slowest, ", ".join(wrong) or "passed")


def kill_marked(mark: str) -> list[str]:
    """Kill what does not end by itself of all that a run has started; return their commands."""
    killed = []
    for process in psutil.wait_procs(marked(mark), timeout=5)[1]:
        with contextlib.suppress(psutil.Error):  # it has just ended
            killed.append(" ".join(process.cmdline())[:200])
            process.kill()
    return killed


def marked(mark: str) -> list[psutil.Process]:
    """The processes whose environment has this mark."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):  # it has just ended, or is somebody else's
            if process.environ().get(MARK) == mark:
                found.append(process)
    return found


def read(report: Path) -> tuple[int, str, list[str]]:
    """How many tests were run, which took longest, and which failed; by JUnit's report."""
    if not report.exists():
        return 0, "", []
    cases = [*ElementTree.parse(report).iter("testcase")]
    slowest = max(cases, key=lambda case: float(case.get("time", 0)))
    failed = [
        case.get("name", "")
        for case in cases
        if case.find("failure") is not None or case.find("error") is not None
    ]
    return len(cases), f"{float(slowest.get('time', 0)):.1f} s {slowest.get('name')}", failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--busy", type=int, default=2, help="processes that compute beside it")
    parser.add_argument("--output", type=Path, default=Path("soak"), help="a folder for logs")
    given, arguments = parser.parse_known_args()
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # started in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)
    print("\t".join(field.name for field in fields(Run)), flush=True)
    done = soak(given.runs, given.busy, given.output, arguments)
    passed = sum(run.outcome == "passed" for run in done)
    longest = max(done, key=lambda run: float(run.slowest.partition(" ")[0] or 0)).slowest
    print(f"{passed} of {len(done)} passed; longest test: {longest}")
    return passed < len(done)


if __name__ == "__main__":
    sys.exit(main())

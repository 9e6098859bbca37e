"""Feed damaged and hostile files to every reader.

With Atheris (``pip install --group fuzz``) the changes are led by which code of the reader they
reach, else they are random ones. Each reader runs in a process of its own; a file that it fails on
is kept in tests/fuzz/found/, which the default tests read too. What must hold is in readers.py.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

FOUND = Path(__file__).parent / "found"
NAMES = ("idx", "gzip", "csv", "npz", "safetensors", "checkpoint", "picture")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("readers", nargs="*", metavar="READER", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--executions", type=int, default=20_000, help="for each reader")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plain", action="store_true", help="random changes, even with Atheris")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    unknown = set(arguments.readers) - set(NAMES)
    if unknown:
        parser.error(f"unknown readers {', '.join(unknown)}; known: {', '.join(NAMES)}")
    guided = importlib.util.find_spec("atheris") is not None and not arguments.plain
    with ThreadPoolExecutor(arguments.processes) as pool:
        lines = pool.map(
            lambda name: _fuzz(name, guided, arguments.executions, arguments.seed),
            arguments.readers or NAMES,
        )
        failed = 0
        for line, wrong in lines:
            print(line, flush=True)
            failed += wrong
    return 1 if failed else 0


def _fuzz(name: str, guided: bool, executions: int, seed: int) -> tuple[str, bool]:
    """One reader in a process of its own: what it came to, and whether it failed."""
    memory = Path("/dev/shm")
    place = memory if memory.is_dir() else None
    with (
        tempfile.TemporaryDirectory(dir=place) as folder,
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output,
    ):
        begun = time.perf_counter()
        done = subprocess.run(
            [
                *(sys.executable, "-X", "faulthandler", "-m", "tests.fuzz.process"),
                *(name, folder, str(executions), str(seed), str(int(guided))),
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        taken = time.perf_counter() - begun
        how = "guided" if guided else "random"
        if done.returncode == 0:
            speed = f"{taken:.0f} s, {executions / taken:,.0f} a second"
            return f"{name}: {executions:,} {how} files, {speed}: none wrong", False
        output.seek(0)
        told = output.read()[-6000:]
        [last] = Path(folder).glob("file*")
        digest = hashlib.sha256(last.read_bytes()).hexdigest()[:12]
        kept = shutil.copy(last, FOUND / f"{name}-{digest}")
        return f"{told}\n{name}: failed on {kept}", True


if __name__ == "__main__":
    sys.exit(main())

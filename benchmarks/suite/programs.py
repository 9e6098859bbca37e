"""Programs for a process of their own: what they print, and the memory that they take."""

from __future__ import annotations

import os
import subprocess
import sys

from . import THREADS, workloads

RESULT = """
import fastmnist as fm
data = fm.load({source!r})
model = fm.MLP([784, 128, 10], seed=0)
fm.fit(model, data.train[:{images}], epochs=1, batch_size=128, threads={threads})
report = fm.evaluate(model, data.test, threads={threads})
"""

# Linux keeps it: the most that this program had in memory. What `resource` tells of a child counts
# the memory of the parent that started it, too.
PEAK = """
import os
if os.path.exists("/proc/self/status"):
    print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM:")))
"""


def result(source: str, images: int = workloads.IMAGES) -> str:
    """The program that goes from nothing to a result."""
    return RESULT.format(source=source, images=images, threads=THREADS)


def peak_memory(script: str) -> float | None:
    """Run it in a new process; its peak memory in MB, where the system tells."""
    printed = run("-c", script + PEAK)
    return int(printed) * 1024 / 1e6 if printed else None


def run(*arguments: str, **environment: str) -> str:
    """What Python prints with these arguments, and the fastmnist that is installed.

    With -P the folder it is started in is not looked through: in a clone it would be that folder's
    working tree which is measured, and not the commit that asv has installed.
    """
    command = [sys.executable, "-P", *arguments]
    environment = os.environ | environment
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, encoding="utf-8")
    if done.returncode:
        raise SystemExit(f"{command} ended with {done.returncode}")
    return done.stdout.strip()

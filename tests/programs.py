"""Programs of their own for tests: with little memory, small files, or as an ordinary user."""

import os
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import processes
import pytest

NOBODY = 65534

_BEGIN = """
import os, resource
def limit(what, much):
    resource.setrlimit(what, (much, much))
def peak():
    "Bytes of memory that this program has held at most."
    status = open("/proc/self/status").read()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])
def reset_peak():
    open("/proc/self/clear_refs", "w").write("5")
def ordinary_user(number):
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(number)
        os.setuid(number)
"""

linux = pytest.mark.skipif(sys.platform != "linux", reason="limits and /proc of Linux")


def run(code, *arguments, without=(), **environment):
    """What a program printed; it may call `limit`, `peak`, `reset_peak` and `ordinary_user`.

    Its environment is this one's, changed, and without some variables.
    """
    # BLAS asks for memory for each thread as soon as it is loaded
    changes = dict.fromkeys(without) | {"OPENBLAS_NUM_THREADS": "1"} | environment
    done = processes.run(
        "-c", _BEGIN + code, *arguments, env=processes.environment(**changes), cwd=os.getcwd()
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def readable_folder():
    """A folder that every user can read; pytest's own are for whoever runs it."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)

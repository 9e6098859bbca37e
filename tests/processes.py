"""Programs that tests start: a hang ends, and tells where every thread of it stands."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def start(*arguments: str, **options) -> subprocess.Popen:
    """Start Python with `arguments`, in the root of the repository unless told otherwise."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT}
    return subprocess.Popen([sys.executable, *arguments], **pipes | options)


def finish(process: subprocess.Popen, timeout: float = 120) -> subprocess.CompletedProcess:
    """Wait for its end; the test fails, with all stacks, if that takes too long."""
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)  # Python prints all stacks: $PYTHONFAULTHANDLER is set
        _, err = process.communicate()
        pytest.fail(f"{process.args} hangs:\n{err}")
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def run(*arguments: str, timeout: float = 120, **options) -> subprocess.CompletedProcess:
    """Run Python to its end."""
    return finish(start(*arguments, **options), timeout)


def succeeds(*arguments: str, **options) -> str:
    """Run Python and return what it printed; it must not fail, nor complain."""
    done = run(*arguments, **options)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def environment(**changes: str | None) -> dict[str, str]:
    """The environment of this process, changed; None takes a variable away."""
    changed = os.environ | {name: value for name, value in changes.items() if value is not None}
    return {name: value for name, value in changed.items() if changes.get(name, "") is not None}

"""Programs that tests start: a hang ends, with every thread's stack; none outlives its test."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

ROOT = Path(__file__).parent.parent
_started: list[subprocess.Popen] = []


def start(*arguments: str | os.PathLike, **options) -> subprocess.Popen:
    """Start Python with `arguments`, in the root of the repository unless told otherwise."""
    return start_program(sys.executable, *arguments, **options)


def start_program(*command: str | os.PathLike, **options) -> subprocess.Popen:
    """Start any program, as the leader of a process group of its own."""
    usual = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": ROOT}
    usual |= {"encoding": "utf-8", "start_new_session": True}
    process = subprocess.Popen([*map(str, command)], **usual | options)
    _started.append(process)
    return process


@contextlib.contextmanager
def none_left() -> Iterator[None]:
    """Kill what the block has started, with all that it has started in turn."""
    before = len(_started)
    try:
        yield
    finally:
        while len(_started) > before:
            process = _started.pop()
            _kill_group(process)
            with process:  # closes its pipes, and waits
                pass


def _kill_group(process: subprocess.Popen) -> None:
    if os.name == "posix":
        # There is none left; or, on macOS, none but zombies.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()


def wait_for_line(process: subprocess.Popen, stream: str, beginning: str, timeout=120) -> str:
    """Read lines of a process until one begins like this, and return it."""
    watchdog = threading.Timer(timeout, process.send_signal, [signal.SIGABRT])
    watchdog.start()
    try:
        for line in _lines(getattr(process, stream)):
            if line.startswith(beginning):
                return line
    finally:
        watchdog.cancel()
    return pytest.fail(f"{process.args} ended without {beginning!r}:\n{process.communicate()[1]}")


def _lines(stream: TextIO) -> Iterator[str]:
    """The lines of a pipe, read no further: what a buffer held `communicate` would not find."""
    line = b""
    while byte := os.read(stream.fileno(), 1):
        line += byte
        if byte == b"\n":
            yield line.decode()
            line = b""


def finish(process: subprocess.Popen, timeout: float = 120) -> subprocess.CompletedProcess:
    """Wait for its end; the test fails, with all stacks, if that takes too long."""
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)  # Python prints all stacks: $PYTHONFAULTHANDLER is set
        try:
            _, err = process.communicate(timeout=10)
        except subprocess.TimeoutExpired:  # it ignores that, or one that it started has its pipes
            _kill_group(process)
            _, err = process.communicate()
        pytest.fail(f"{process.args} hangs:\n{err}")
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def run(*arguments: str | os.PathLike, timeout: float = 120, **options):
    """Run Python to its end."""
    return finish(start(*arguments, **options), timeout)


def run_program(*command: str | os.PathLike, timeout: float = 120, **options):
    """Run any program to its end."""
    return finish(start_program(*command, **options), timeout)


def succeeds(*arguments: str | os.PathLike, **options) -> str:
    """Run Python and return what it printed; it must not fail, nor complain."""
    done = run(*arguments, **options)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def environment(**changes: str | None) -> dict[str, str]:
    """The environment of this process, changed; None takes a variable away."""
    changed = os.environ | {name: value for name, value in changes.items() if value is not None}
    return {name: value for name, value in changed.items() if changes.get(name, "") is not None}

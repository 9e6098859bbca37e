"""What the command line shares: messages, the progress of a training, exit codes."""

from __future__ import annotations

import contextlib
import math
import os
import shlex
import signal
import subprocess
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fastmnist.history import Epoch, describe

FAILED, INTERRUPTED, TERMINATED = 1, 130, 143
_MOST_LINES = 50  # a training of more epochs prints every second, third, ... of them


class Terminated(BaseException):
    """SIGTERM has come; like KeyboardInterrupt, no error that a program handles."""


@dataclass
class Wanted:
    """How much the user wants to be told."""

    quiet: bool = False  # errors and warnings only
    verbose: bool = False  # and where an error came from


wanted = Wanted()


def note(message: str) -> None:
    """Print on standard error what is going on, unless it is not wanted."""
    if not wanted.quiet:
        say(message)


def say(message: str) -> None:
    """Print on standard error: what is going on, or went wrong."""
    print(message, file=sys.stderr, flush=True)


class Progress:
    """A callback of `fit`: a line per epoch or round, and on a terminal a bar below them."""

    def __init__(self, count: int, done: int = 0, *, unit: str = "epoch") -> None:
        from rich import progress
        from rich.console import Console

        self._unit, self._done, self._count = unit, done, count
        self._every = math.ceil(count / _MOST_LINES)
        console = Console(stderr=True)
        self._bar = progress.Progress(
            progress.TextColumn("training"),
            progress.BarColumn(bar_width=30),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=wanted.quiet or not sys.stderr.isatty() or console.is_dumb_terminal,
        )
        self._task = self._bar.add_task("training", total=count, completed=done)

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, model: object, epoch: Epoch) -> None:
        """Show that one more is done."""
        self._done += 1
        self._bar.update(self._task, advance=1, refresh=True)
        if self._done % self._every == 0 or self._done == self._count:
            number = f"{self._done:{len(str(self._count))}}"
            note(f"{self._unit} {number}/{self._count}: {describe(epoch)}")


def run(command: Callable[[], int]) -> int:
    """Call `command` and return the exit code of the process: its own, or that of its failure."""
    wanted.quiet = wanted.verbose = False  # until the command line says otherwise
    with _safe_streams(), _signals_raise(), warnings.catch_warnings():
        warnings.showwarning = _show_warning  # type: ignore[assignment]
        code = _exit_code(command)
        try:
            sys.stdout.flush()  # here, or it fails after the last line of this program
        except OSError as error:
            _discard_output()
            return code or _failed(error)
    return code


def _exit_code(command: Callable[[], int]) -> int:
    try:
        return command()
    except KeyboardInterrupt:
        say("fastmnist: interrupted")
        return INTERRUPTED
    except Terminated:
        say("fastmnist: terminated")
        return TERMINATED
    except (ValueError, TypeError, OSError, ArithmeticError, ImportError, MemoryError) as error:
        return _failed(error)


def _failed(error: Exception) -> int:
    if not isinstance(error, BrokenPipeError):  # whoever reads has read enough
        say(f"fastmnist: {reason(error)}")
        if wanted.verbose:
            traceback.print_exception(error)
    return FAILED


def command_line(*arguments: str) -> str:
    """A command, as the shell of this system takes it."""
    return subprocess.list2cmdline(arguments) if sys.platform == "win32" else shlex.join(arguments)


def reason(error: BaseException) -> str:
    """What an exception says, for people."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, MemoryError):
        return f"not enough memory: {error}".rstrip(": ")
    return str(error) or type(error).__name__


@contextmanager
def _signals_raise() -> Iterator[None]:
    """Ctrl-C and SIGTERM raise an exception, once: the second ends the process, at once.

    So does SIGBREAK on Windows, which comes with Ctrl-Break and when the console is closed.

    Elsewhere than in the main thread, and where they are ignored or handled, nothing changes.
    Python drops an exception that is raised while an object is destroyed; then the signal is sent
    once more.
    """
    usual: dict[signal.Signals, tuple[Any, type[BaseException]]] = {
        signal.SIGINT: (signal.default_int_handler, KeyboardInterrupt),
        signal.SIGTERM: (signal.SIG_DFL, Terminated),
    }
    if sys.platform == "win32":
        usual[signal.SIGBREAK] = (signal.SIG_DFL, Terminated)

    def stop(number: int, frame: object) -> None:
        for each in ours:
            signal.signal(each, signal.SIG_DFL)
        raise usual[signal.Signals(number)][1]

    ours = []
    if threading.current_thread() is threading.main_thread():
        ours = [number for number in usual if signal.getsignal(number) == usual[number][0]]

    def send_again(dropped: Any) -> None:
        for number in ours:
            if dropped.exc_type is usual[number][1]:
                signal.signal(number, stop)
                threading.Timer(0.05, _send, (number,)).start()  # not in here
                return
        hook(dropped)

    hook = sys.unraisablehook
    sys.unraisablehook = send_again
    for number in ours:
        signal.signal(number, stop)
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number in ours:
            signal.signal(number, usual[number][0])


def _send(number: signal.Signals) -> None:
    """Send a signal to the main thread, from another one."""
    if sys.platform == "win32":  # os.kill ends the process there, whatever handles the signal
        signal.raise_signal(number)
    else:
        signal.pthread_kill(threading.main_thread().ident or 0, number)


@contextmanager
def _safe_streams() -> Iterator[None]:
    """Streams that are always there, and write what their encoding lacks as an escape sequence."""
    with contextlib.ExitStack() as stack:
        for name in ("stdout", "stderr"):
            if getattr(sys, name) is None:  # closed by whoever started this program
                nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
                stack.callback(setattr, sys, name, None)
                setattr(sys, name, nowhere)
            elif hasattr(getattr(sys, name), "reconfigure"):
                getattr(sys, name).reconfigure(errors="backslashreplace")
        yield


def _discard_output() -> None:
    """Drop what could not be written, or the interpreter tries again, and complains, at its end."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _show_warning(message: Warning | str, *_: Any) -> None:
    say(f"fastmnist: warning: {message}")

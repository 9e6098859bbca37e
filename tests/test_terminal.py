import errno
import io
import os
import signal
import sys
import threading
import time

import pytest

from fastmnist import terminal
from fastmnist.history import Epoch


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file", "digits.npz"), "digits.npz: No such file"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (MemoryError(), "not enough memory"),
        (MemoryError("Unable to allocate 3 GiB"), "not enough memory: Unable to allocate 3 GiB"),
        (ValueError("epochs must be from 1"), "epochs must be from 1"),
        (ValueError(), "ValueError"),
    ],
)
def test_reason(error, message):
    assert terminal.reason(error) == message


def test_a_programming_error_is_not_hidden():
    def command():
        raise KeyError("surprise")

    with pytest.raises(KeyError):
        terminal.run(command)


def test_the_exit_code_is_the_command_s_own():
    assert terminal.run(lambda: 7) == 7


def test_progress_prints_at_most_fifty_lines_and_no_bar_without_a_terminal(capsys):
    with terminal.Progress(120) as progress:
        for _ in range(120):
            progress(None, Epoch(0.5, None, None, 0.25, 0.1))

    out, err = capsys.readouterr()
    assert not out
    assert err.splitlines() == [
        f"epoch {number:3}/120: loss 0.5000, 0.25 s" for number in range(3, 121, 3)
    ]


@pytest.mark.fault(row=69)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_that_comes_while_an_object_is_destroyed_is_not_lost(number, code, capsys):
    class Closing:
        def __del__(self):
            signal.raise_signal(number)

    def command():
        Closing()
        for _ in range(600):  # in steps: no signal interrupts one on Windows
            time.sleep(0.1)
        return 0

    assert terminal.run(command) == code
    assert capsys.readouterr().err.count("\n") == 1


def test_another_exception_that_is_dropped_is_told_as_ever(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda dropped: told.append(dropped.exc_type))

    class Closing:
        def __del__(self):
            raise ValueError

    def command():
        Closing()
        return 0

    assert terminal.run(command) == 0
    assert told == [ValueError]


def test_in_another_thread_signals_stay_as_they_are():
    handlers, codes = [], []

    def command():
        handlers.extend(map(signal.getsignal, [signal.SIGINT, signal.SIGTERM]))
        return 7

    usual = [*map(signal.getsignal, [signal.SIGINT, signal.SIGTERM])]
    thread = threading.Thread(target=lambda: codes.append(terminal.run(command)))
    thread.start()
    thread.join()
    assert (codes, handlers) == ([7], usual)


def test_a_stream_without_an_encoding_is_written_to_as_it_is(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert terminal.run(lambda: print("7") or 0) == 0
    assert sys.stdout.getvalue() == "7\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_what_cannot_be_written_is_told_once(monkeypatch, capsys):
    with open("/dev/full", "w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert terminal.run(lambda: print("lost") or 0) == 1
        assert terminal.run(lambda: print("dropped") or 0) == 0  # nobody wants it any more
    assert capsys.readouterr().err == f"fastmnist: {os.strerror(errno.ENOSPC)}\n"


def test_a_reader_that_has_gone_is_told_nothing(capsys):
    def command():
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    assert terminal.run(command) == 1
    assert capsys.readouterr().err == ""

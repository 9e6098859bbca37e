import errno
import signal
import threading

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
        threading.Event().wait(60)
        return 0

    assert terminal.run(command) == code
    assert capsys.readouterr().err.count("\n") == 1

"""A team of threads that run one compiled function at the same time.

Plain Python threads, each in one `nogil` kernel from the beginning of an epoch to its end. Numba's
own parallel loops cost 55 to 100 us a region with the one threading layer that is always there, and
abort the process when used from two threads or after a fork; meeting at an atomic word costs 1 us.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from typing import Any

import numba
from numba._dispatcher import compute_fingerprint

from fastmnist.kernels.barrier import ABANDONED, CANCEL, new_words
from fastmnist.kernels.jit import OFF

_compiled: set[tuple[Any, ...]] = set()


def compiled(kernel: Any, *args: Any) -> Any:
    """`kernel`, compiled for such arguments; by the calling thread, before any other starts."""
    if not OFF:
        # Numba's own key for the types of arguments, known in 5 us; the types themselves take 240
        kinds = (kernel, *map(compute_fingerprint, args))
        if kinds not in _compiled:
            kernel.compile(tuple(map(numba.typeof, args)))
            _compiled.add(kinds)
    return kernel


def run_briefly(kernel: Any, members: Sequence[tuple[Any, ...]]) -> None:
    """`run` for work that is soon done and need not be interrupted.

    One member works in the calling thread: starting another takes 100 us, a prediction 10.
    """
    if len(members) == 1:
        kernel(new_words(), *members[0])
    else:
        run(kernel, members)


def run(kernel: Any, members: Sequence[tuple[Any, ...]]) -> None:
    """Run ``kernel(words, *arguments)`` for each member's arguments, each in a thread of its own.

    `words` are the team's shared atomic words. The calling thread only waits, so that it can be
    interrupted: then, or when a member fails, the others are told to stop and all leave before the
    exception goes on.
    """
    words = new_words()
    compiled(kernel, words, *members[0])
    failures: list[BaseException] = []
    go = threading.Event()
    gone = [threading.Event() for _ in members]

    def member(arguments: tuple[Any, ...], has_gone: threading.Event) -> None:
        go.wait()  # nobody begins before all have started; set whatever happens
        try:
            if words[CANCEL]:
                words[ABANDONED] = 1  # whoever has begun already would wait for this one
            else:
                kernel(words, *arguments)
        except BaseException as failure:
            failures.append(failure)
            words[ABANDONED] = 1
        finally:
            has_gone.set()

    threads = [
        threading.Thread(target=member, args=work, daemon=True)
        for work in zip(members, gone, strict=True)
    ]
    started = 0
    try:
        for thread in threads:
            thread.start()
            started += 1
        go.set()
        for event in gone:
            _wait(event)  # as long as the work takes; Ctrl-C ends it
    except BaseException:
        words[CANCEL] = 1
        go.set()
        _wait_whatever_comes(gone[:started])
        raise
    for thread in threads:
        thread.join()  # its work is done
    if failures:
        raise failures[0]


def _wait_whatever_comes(gone: Sequence[threading.Event]) -> None:
    """Wait until all members have gone, however often Ctrl-C is pressed: they still write.

    Events, since a `Thread.join` that Ctrl-C has ended takes the thread for ended, too, before
    Python 3.13: the next one returns at once.
    """
    for event in gone:
        while not event.is_set():
            with contextlib.suppress(KeyboardInterrupt):
                _wait(event)  # at most a batch: all have been told to stop


def _wait(event: threading.Event) -> None:
    """Wait in steps: nothing interrupts one on Windows, where Ctrl-C comes 50 ms later at most."""
    while not event.wait(0.05):
        pass

"""Each contender in a process of its own, taking turns at one epoch each."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from multiprocessing.connection import Connection

from benchmarks import THREADS
from benchmarks.peers import CONTENDERS
from benchmarks.peers.problem import Problem

REST = 0.3  # seconds; the threads of BLAS and OpenMP go on spinning for a while after their work


class Contender:
    """The end of a pipe at whose other end a process has prepared a problem."""

    def __init__(self, name: str, pipe: Connection) -> None:
        self.name = name
        self._pipe = pipe
        self.loss, _ = self._answer()

    def epoch(self) -> float:
        """Train one more epoch; the seconds it took."""
        time.sleep(REST)
        self._pipe.send("epoch")
        return self._answer()[1]

    def _answer(self) -> tuple[float, float]:
        try:
            answer = self._pipe.recv()
        except EOFError:
            raise SystemExit(f"{self.name}: its process ended") from None
        if isinstance(answer, str):
            raise SystemExit(f"{self.name}: {answer}")
        return answer


@contextmanager
def contenders(names: list[str], problem: Problem) -> Iterator[list[Contender]]:
    """Start them, one after the other; each has trained a first epoch, compilation included."""
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        ready = []
        for name in names:
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(name, problem, theirs), daemon=True)
            process.start()
            theirs.close()
            stack.callback(process.join)
            stack.callback(ours.close)
            ready.append(Contender(name, ours))
        yield ready


def _serve(name: str, problem: Problem, pipe: Connection) -> None:
    keep_to_processors()
    module, function = CONTENDERS[name].split(":")
    try:
        prepare = getattr(import_module(f"benchmarks.peers.{module}"), function)
        epoch = prepare(problem)
        while True:
            started = time.perf_counter()
            loss = epoch()
            pipe.send((loss, time.perf_counter() - started))
            pipe.recv()
    except EOFError:  # the other end was closed: the turns are over
        return
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {error}")


def keep_to_processors() -> None:
    """So many as there may be threads: not every library can be told their number."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])

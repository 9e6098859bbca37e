"""Searches and trainings whose workers and scheduler are killed, stopped and restarted at random.

``python -m tests.chaos --runs 200``; a seed repeats its run: ``--runs 1 --seed 17``. Each
must end, with the bits that it has undisturbed or with a ClusterError; and after that with these
bits when it is resumed on another cluster. A hang ends the command with all stacks.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import faulthandler
import logging
import multiprocessing
import os
import random
import signal
import socket
import statistics
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client, Scheduler, Worker

import fastmnist as fm
from fastmnist.distributed import connect, tasks
from fastmnist.errors import ClusterError
from fastmnist.recipes import Recipe

WORKERS = 2
STALLED = 6.0  # seconds: Dask's worker-ttl
NO_ANSWER, NO_WORKERS = 4.0, 6.0  # in place of 30 and 300 seconds
PATIENCE = 200.0  # where nothing is disturbed, on a busy machine
HANG = 600.0  # seconds
EMBEDDED = 5  # of so many runs one has embedded workers


# What is done.


def images() -> fm.Dataset:
    """Of four classes that a network soon tells apart."""
    rng = np.random.default_rng(0)
    labels = np.arange(240) % 4
    pixels = rng.integers(0, 256, (4, 6, 6))[labels] * (rng.random((240, 6, 6)) < 0.6)
    return fm.Dataset(pixels.astype(np.uint8), labels)


def train(client: Client, folder: Path) -> bytes:
    """A training's parameters, resumed where there is a checkpoint."""
    model, path = fm.MLP([36, 16, 4], seed=1), folder / "training.npz"
    settings: dict[str, Any] = {"shards": 9, "rounds": 8, "batch_size": 8, "dropout": 0.2}
    fm.distributed.fit(model, images(), client, checkpoint=path, resume=path.exists(), **settings)
    return model.params.flat.tobytes()


def search(client: Client, folder: Path) -> str:
    """What came of all trials, whatever their order; gone on with where there is a study."""
    recipe = Recipe("Small.", hidden=(8,), epochs=30, batch_size=8, learning_rate=0.1)
    found = fm.distributed.search(
        images(),
        client,
        recipe=recipe,
        vary={"hidden": [4, 8, 16], "seed": [1, 2]},
        validation=60,
        stop_weak=False,
        study=folder / "study.log",
    )
    return repr(sorted((t.describe(), t.state, t.accuracies, t.loss) for t in found.trials))


WORK: dict[str, Callable[[Client, Path], Any]] = {"training": train, "search": search}


# Where: processes that are forked from one that has imported everything, so that they start soon.


def run_scheduler(port: int) -> None:
    async def run() -> None:
        async with Scheduler(
            host="127.0.0.1", port=port, dashboard=False, worker_ttl=f"{STALLED}s"
        ) as scheduler:
            await scheduler.finished()

    _quietly(run)


def run_worker(port: int) -> None:
    async def run() -> None:
        async with Worker(f"tcp://127.0.0.1:{port}", nthreads=1, dashboard=False) as worker:
            await worker.finished()

    _quietly(run)


def _quietly(run: Callable[[], Any]) -> None:
    logging.disable()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    asyncio.run(run())


class Cluster:
    """A scheduler and its workers, each a process."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["fastmnist.distributed", "fastmnist.kernels"])
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self._port}"
        self._all: list[Any] = []
        self.start()

    def start(self) -> None:
        """A scheduler, always at the same address, and workers."""
        self.scheduler = self._process(run_scheduler)
        self.workers = [self._process(run_worker) for _ in range(WORKERS)]

    def join(self) -> None:
        """One worker more."""
        self.workers.append(self._process(run_worker))

    def _process(self, function: Callable[[int], None]) -> Any:
        process = self._context.Process(target=function, args=(self._port,), daemon=True)
        process.start()
        self._all.append(process)
        return process

    def close(self) -> None:
        for process in self._all:
            process.kill()
        for process in self._all:
            process.join()


class Embedded:
    """The workers of `connect`; its scheduler is in this process."""

    def __init__(self, client: Client) -> None:
        self._client = client

    @property
    def workers(self) -> list[Any]:
        """The processes that are workers now."""
        return [nanny.process.process for nanny in self._client.cluster.workers.values()]

    def close(self) -> None:
        for process in self.workers:
            _send(process, signal.SIGCONT)


# What happens to it.


def _send(process: Any, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, AttributeError, TypeError):  # it is gone
        os.kill(process.pid, number)


@dataclass(frozen=True)
class Event:
    """Something that happens to a cluster, and is over after a while."""

    what: str
    after: float  # seconds from the beginning
    lasts: float  # seconds until what is stopped goes on, and what is restarted starts

    def begin(self, cluster: Any, chance: random.Random) -> Callable[[], None]:
        """Returns what ends it."""
        process = chance.choice(cluster.workers)
        match self.what:
            case "worker killed":
                _send(process, signal.SIGKILL)
            case "worker restarted":
                _send(process, signal.SIGKILL)
                return cluster.join
            case "worker stopped":
                _send(process, signal.SIGSTOP)
                return lambda: _send(process, signal.SIGCONT)
            case "workers killed":
                for process in cluster.workers:
                    _send(process, signal.SIGKILL)
            case "workers restarted":
                for process in cluster.workers:
                    _send(process, signal.SIGKILL)
                return cluster.join
            case "worker joins":
                cluster.join()
            case "scheduler killed":
                _send(cluster.scheduler, signal.SIGKILL)
            case "scheduler stopped":
                _send(cluster.scheduler, signal.SIGSTOP)
                return lambda: _send(cluster.scheduler, signal.SIGCONT)
            case "all restarted":
                _send(cluster.scheduler, signal.SIGKILL)
                return cluster.start
        return lambda: None


ELSEWHERE = (
    *("worker killed", "worker restarted", "worker stopped", "workers killed"),
    *("workers restarted", "worker joins", "scheduler killed", "scheduler stopped"),
    "all restarted",
)
OF_EMBEDDED = ("worker killed", "worker stopped", "workers killed")


def planned(chance: random.Random, kinds: tuple[str, ...], seconds: float) -> list[Event]:
    """One to three events, at any moment of a run."""
    return [
        Event(
            chance.choice(kinds),
            chance.uniform(0, 1.2 * seconds),
            chance.choice([0.1, 1.0, 3.0, 2 * STALLED]) * chance.uniform(0.5, 1.5),
        )
        for _ in range(chance.randint(1, 3))
    ]


@contextlib.contextmanager
def disturbed(cluster: Any, events: list[Event], chance: random.Random) -> Iterator[None]:
    """Have these happen while the block lasts."""
    over = threading.Event()

    def act() -> None:
        began = time.monotonic()
        steps: list[tuple[float, Any]] = [(event.after, event) for event in events]
        while steps:
            steps.sort(key=lambda step: step[0])
            when, step = steps.pop(0)
            if over.wait(max(0, when - (time.monotonic() - began))):
                return
            if isinstance(step, Event):
                end = step.begin(cluster, chance)
                steps.append((when + step.lasts, end))
            else:
                step()

    thread = threading.Thread(target=act)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


# What comes of it.


@dataclass(frozen=True)
class Run:
    """What came of one."""

    seed: int
    work: str
    on: str
    events: list[Event]
    outcome: str
    right: bool
    seconds: float


class Chaos:
    """Runs, each with its seed; the results that they must have are found first.

    Parameters
    ----------
    embedded : bool
        Whether some runs have embedded workers.
    undisturbed : int
        Runs that tell how long it takes.
    """

    def __init__(self, *, embedded: bool, undisturbed: int = 3) -> None:
        self._embedded = embedded
        self.seconds: dict[str, float] = {}
        self._right: dict[str, Any] = {}
        for name in WORK:
            took = []
            for _ in range(undisturbed):
                with tempfile.TemporaryDirectory() as folder:
                    began = time.perf_counter()
                    result = self._on_another_cluster(name, Path(folder))
                    took.append(time.perf_counter() - began)
                assert self._right.setdefault(name, result) == result
            self.seconds[name] = statistics.median(took)

    def _on_another_cluster(self, name: str, folder: Path) -> Any:
        cluster = Cluster()
        try:
            with patient(), connect(cluster.address, timeout=PATIENCE) as client:
                client.wait_for_workers(WORKERS, PATIENCE)
                return WORK[name](client, folder)
        finally:
            cluster.close()

    def run(self, seed: int) -> Run:
        """Disturb one; resume it undisturbed where it ends in a ClusterError."""
        warnings.filterwarnings("ignore", ".* has no workers")
        chance = random.Random(seed)
        name = chance.choice(list(WORK))
        here = self._embedded and seed % EMBEDDED == 0
        events = planned(chance, OF_EMBEDDED if here else ELSEWHERE, self.seconds[name])
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            try:
                with on_embedded() if here else on_cluster() as (client, cluster):
                    with disturbed(cluster, events, chance):
                        began = time.perf_counter()
                        result = WORK[name](client, Path(folder))
                    seconds = time.perf_counter() - began
                outcome = "the result"
            except ClusterError as error:
                seconds = time.perf_counter() - began
                outcome = f"ClusterError: {error}".partition(", after")[0]
                result = self._on_another_cluster(name, Path(folder))
            except Exception as error:
                traceback.print_exc()
                seconds, outcome, result = time.perf_counter() - began, repr(error), None
        where = "embedded" if here else "cluster"
        return Run(seed, name, where, events, outcome, result == self._right[name], seconds)

    def run_in_time(self, seed: int) -> Run:
        """The same; a hang ends this process, after it has told where every thread stands."""
        faulthandler.dump_traceback_later(HANG, exit=True)
        try:
            return self.run(seed)
        finally:
            faulthandler.cancel_dump_traceback_later()


@contextlib.contextmanager
def on_cluster() -> Iterator[tuple[Client, Cluster]]:
    cluster = Cluster()
    try:
        with patient(), contextlib.ExitStack() as stack:
            client = stack.enter_context(connect(cluster.address, timeout=PATIENCE))
            client.wait_for_workers(WORKERS, PATIENCE)
            with impatient():
                yield client, cluster
    finally:
        cluster.close()


@contextlib.contextmanager
def on_embedded() -> Iterator[tuple[Client, Embedded]]:
    with connect(f"local:{WORKERS}", stalled=STALLED) as client:
        cluster = Embedded(client)
        try:
            yield client, cluster
        finally:
            cluster.close()


@contextlib.contextmanager
def limits(no_answer: float, no_workers: float) -> Iterator[None]:
    before = tasks.NO_ANSWER, tasks.NO_WORKERS
    tasks.NO_ANSWER, tasks.NO_WORKERS = no_answer, no_workers
    try:
        yield
    finally:
        tasks.NO_ANSWER, tasks.NO_WORKERS = before


def patient() -> contextlib.AbstractContextManager[None]:
    return limits(PATIENCE, PATIENCE)


def impatient() -> contextlib.AbstractContextManager[None]:
    return limits(NO_ANSWER, NO_WORKERS)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1, help="of the first run (default: 1)")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time (default: 1)")
    parser.add_argument("--no-embedded", action="store_true", help="clusters elsewhere only")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", ".* has no workers")
    seeds = range(arguments.seed, arguments.seed + arguments.runs)
    chaos = Chaos(embedded=not arguments.no_embedded)
    print(f"Undisturbed: {', '.join(f'{n} {s:.1f} s' for n, s in chaos.seconds.items())}\n")
    print("| seed | work | on | what happens, after | outcome | seconds |")
    print("|--:|---|---|---|---|--:|")
    runs = []
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.jobs, mp_context=spawn) as processes:
        for run in processes.map(chaos.run_in_time, seeds):
            runs.append(run)
            print(row(run), flush=True)
    outcomes = Counter(run.outcome.partition(":")[0] for run in runs if run.right)
    wrong = [run.seed for run in runs if not run.right]
    beyond = max(runs, key=lambda run: run.seconds - chaos.seconds[run.work])
    print(
        f"\n{len(runs)} runs: {outcomes['the result']} the result, {outcomes['ClusterError']} "
        f"ClusterError and the result when resumed, {len(wrong)} wrong {wrong or ''}; the longest "
        f"{beyond.seconds - chaos.seconds[beyond.work]:.1f} s beyond the undisturbed (seed "
        f"{beyond.seed}), with limits of {NO_ANSWER:g} s for an answer, {NO_WORKERS:g} s for a "
        f"worker, {STALLED:g} s for a stalled one"
    )
    return 1 if wrong else 0


def row(run: Run) -> str:
    events = "; ".join(f"{e.what} {e.after:.1f} s, for {e.lasts:.1f} s" for e in run.events)
    outcome = run.outcome if run.right else f"WRONG: {run.outcome}"
    return f"| {run.seed} | {run.work} | {run.on} | {events} | {outcome} | {run.seconds:.1f} |"


if __name__ == "__main__":
    sys.exit(main())

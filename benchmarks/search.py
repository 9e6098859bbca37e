"""What a search gains from more worker processes: ``python -m benchmarks.search``.

The same trials, of about a second each, on one worker and on two, in turns. What the engine costs a
trial is the time of the search in which no worker trains, as Dask's own record of its tasks has it.
Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass, replace
from typing import Any

from distributed import get_task_stream

import fastmnist as fm
from benchmarks import workloads
from benchmarks.conditions import machine
from fastmnist.distributed.searching import run_trial
from fastmnist.recipes import RECIPES, Recipe


@dataclass(frozen=True)
class Run:
    """A search: how long it took, and of that its trials' computing, all workers together."""

    seconds: float
    computing: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--rounds", type=int, default=5, help="searches with each (default: 5)")
    parser.add_argument("--trials", type=int, default=16, help="in a search (default: 16)")
    parser.add_argument("--epochs", type=int, default=20, help="of a trial (default: 20)")
    parser.add_argument("--images", type=int, default=workloads.IMAGES)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    arguments = parser.parse_args()
    recipe = replace(RECIPES["quick"], epochs=arguments.epochs)
    train = fm.Dataset(workloads.pixels(arguments.images), workloads.labels(arguments.images))
    held_out = max(1, arguments.images // 6)
    alone = statistics.median(_alone(recipe, train, held_out) for _ in range(3))
    print(
        f"{arguments.trials} trials of {arguments.epochs} epochs of {workloads.NETWORK} "
        f"({workloads.data_name()}), {alone:.2f} s each in one thread of this process: median "
        f"(fastest to slowest) of {arguments.rounds} searches with each number of workers, in "
        f"turns. {machine('distributed', 'optuna')}",
        end="\n\n",
    )
    runs: dict[int, list[Run]] = {workers: [] for workers in arguments.workers}
    for _ in range(arguments.rounds):
        for workers, ended in runs.items():
            ended.append(_search(recipe, train, held_out, workers, arguments.trials))
    print("| workers | search | trials in a second | of one worker | engine's share of the time |")
    print("|--:|---|--:|--:|--:|")
    base = statistics.median(run.seconds for run in runs[arguments.workers[0]])
    for workers, ended in runs.items():
        seconds = sorted(run.seconds for run in ended)
        middle = statistics.median(seconds)
        engine = statistics.median(1 - run.computing / workers / run.seconds for run in ended)
        print(
            f"| {workers} | {middle:.2f} s ({seconds[0]:.2f} to {seconds[-1]:.2f}) "
            f"| {arguments.trials / middle:.2f} | {base / middle:.2f} | {100 * engine:.1f} % |"
        )


def _search(recipe: Recipe, train: fm.Dataset, held_out: int, workers: int, trials: int) -> Run:
    """The same trials each time, none of them stopped: only their seeds differ."""
    seeds = {"seed": list(range(trials))}
    options: dict[str, Any] = {"recipe": recipe, "validation": held_out, "stop_weak": False}
    with fm.distributed.connect(f"local:{workers}") as client:
        first = {"seed": list(range(workers))}  # each worker has loaded its kernels then
        fm.distributed.search(train, client, vary=first, **options)
        with get_task_stream(client) as tasks:
            started = time.perf_counter()
            fm.distributed.search(train, client, vary=seeds, **options)
            seconds = time.perf_counter() - started
            time.sleep(0.5)  # the last of Dask's records comes a moment later
        computing = sum(
            part["stop"] - part["start"]
            for task in tasks.data
            if task["key"].startswith("run_trial")
            for part in task["startstops"]
            if part["action"] == "compute"
        )
    return Run(seconds, computing)


def _alone(recipe: Recipe, train: fm.Dataset, held_out: int) -> float:
    """The same trial without any engine."""
    data = (train[held_out:], train[:held_out])
    run_trial(replace(recipe, epochs=1), {}, 0, data, [])
    started = time.perf_counter()
    run_trial(recipe, {}, 0, data, [])
    return time.perf_counter() - started


if __name__ == "__main__":
    main()

"""Where an epoch's time goes: ``python -m benchmarks.phases``.

The kernels' threads read the processor's tick counter at the end of each phase. Prints a table in
Markdown: milliseconds of the fastest of some epochs, the mean of the threads.
"""

from __future__ import annotations

import argparse
import time
from operator import itemgetter

import numpy as np

import fastmnist as fm
from benchmarks import THREADS, workloads
from benchmarks.conditions import machine
from fastmnist import kernels
from fastmnist.kernels.phases import PHASES, new_ticks
from fastmnist.optimizers import SGD

NETWORKS = ("784-10-10", "784-128-10", "784-800-10", "784-256-128-10")
BATCHES = (32, 128, 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--networks", nargs="+", default=NETWORKS, metavar="784-128-10")
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES, metavar="N")
    parser.add_argument("--threads", nargs="+", type=int, default=(1, THREADS), metavar="N")
    parser.add_argument("--rounds", type=int, default=7, help="epochs of each (default: 7)")
    parser.add_argument("--images", type=int, default=workloads.IMAGES, help="in an epoch")
    arguments = parser.parse_args()
    print(
        f"One epoch of plain SGD over {arguments.images:,} images ({workloads.data_name()}): "
        f"milliseconds of the fastest of {arguments.rounds}, mean of the threads. {machine()}"
    )
    print()
    print(f"| network | batch | threads | in all | {' | '.join(PHASES)} |")
    print(f"|{'---|' * (4 + len(PHASES))}")
    for network in arguments.networks:
        for batch in arguments.batches:
            for threads in arguments.threads:
                seconds = phases(network, batch, threads, arguments.rounds, arguments.images)
                cells = [f"{1e3 * s:.1f}" for s in (sum(seconds), *seconds)]
                print(f"| {network} | {batch} | {threads} | {' | '.join(cells)} |", flush=True)


def phases(network: str, batch: int, threads: int, rounds: int, images: int) -> list[float]:
    """Seconds of each phase in the fastest epoch."""
    params = fm.MLP(workloads.sizes(network), seed=0).params
    rows, labels = kernels.prepare(workloads.pixels(images)), workloads.labels(images)
    order = np.random.default_rng(0).permutation(images)

    def epoch() -> tuple[float, np.ndarray]:
        ticks = [new_ticks() for _ in range(threads)]
        started = time.perf_counter()
        kernels._train(
            params, rows, labels, learning_rate=workloads.RATE, batch_size=batch, optimizer=SGD(),
            order=order, threads=threads, ticks=ticks,
        )  # fmt: skip
        return time.perf_counter() - started, np.sum(ticks, axis=0)[: len(PHASES)]

    epoch()  # compiles
    seconds, ticks = min((epoch() for _ in range(rounds)), key=itemgetter(0))
    return list(seconds * ticks / ticks.sum())


if __name__ == "__main__":
    main()

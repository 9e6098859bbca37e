"""What momentum and Adam cost: ``python -m benchmarks.optimizers``.

Epochs of the kernels with each optimiser, in turns. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
from functools import partial

from benchmarks import THREADS, workloads
from benchmarks.conditions import machine
from benchmarks.timing import in_turns
from fastmnist.optimizers import OPTIMIZERS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--network", default=workloads.NETWORK, metavar="784-128-10")
    parser.add_argument("--rounds", type=int, default=11, help="epochs of each (default: 11)")
    parser.add_argument("--images", type=int, default=workloads.IMAGES, help="in an epoch")
    arguments = parser.parse_args()
    print(
        f"One epoch of {arguments.network}, batch {workloads.BATCH}, {arguments.images:,} images "
        f"({workloads.data_name()}), {THREADS} threads: median (fastest to slowest) of "
        f"{arguments.rounds}, in turns. {machine()}"
    )
    print()
    print("| optimizer | epoch | in times of plain SGD |")
    print("|---|---|---|")
    epoch = partial(workloads.epoch, arguments.network, images=arguments.images)
    epochs = {name: partial(epoch, optimizer=optimizer) for name, optimizer in OPTIMIZERS.items()}
    taken = in_turns(epochs, arguments.rounds)
    for name, each in taken.items():
        print(f"| {name} | {each.spread()} | {each.median / taken['sgd'].median:.2f} |")


if __name__ == "__main__":
    main()

"""A command that times variants of an epoch in turns and prints a table in Markdown."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping

from benchmarks import THREADS, workloads
from benchmarks.conditions import machine
from benchmarks.timing import in_turns

Epochs = Mapping[str, Callable[[], object]]


def compare(doc: str, variant: str, base: str, epochs_of: Callable[[str, int], Epochs]) -> None:
    """Print how long each epoch of ``epochs_of(network, images)`` takes, and in times of `base`.

    `doc` describes the command, and `variant` is what the epochs differ in.
    """
    parser = argparse.ArgumentParser(description=doc.partition(":")[0])
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
    print(f"| {variant} | epoch | in times of {base} |")
    print("|---|---|---|")
    taken = in_turns(epochs_of(arguments.network, arguments.images), arguments.rounds)
    for name, each in taken.items():
        print(f"| {name} | {each.spread()} | {each.median / taken[base].median:.2f} |")

"""How much faster the kernels are than the reference: ``python -m benchmarks.ratios``.

Epochs of both, in turn, in one process and with the same number of threads, so that whatever else
the machine does slows both alike. First it is verified that they compute the same thing. Prints
the README's table, in Markdown.
"""

from __future__ import annotations

import argparse
from functools import partial
from itertools import chain

import numpy as np

from benchmarks import THREADS, workloads
from benchmarks.conditions import machine
from benchmarks.timing import in_turns

CASES = (  # network, samples in a batch
    ("784-10-10", 32),
    ("784-10-10", 128),
    ("784-128-10", 32),
    ("784-128-10", 128),
    ("784-800-10", 128),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--rounds", type=int, default=11, help="epochs of each (default: 11)")
    parser.add_argument("--images", type=int, default=workloads.IMAGES, help="in an epoch")
    arguments = parser.parse_args()
    print(conditions(arguments.images, arguments.rounds))
    print()
    print("| network | batch | reference | kernels | ratio of medians | of the fastest |")
    print("|---|---|---|---|---|---|")
    for network, batch in CASES:
        print(row(network, batch, arguments.images, arguments.rounds), flush=True)


def conditions(images: int, rounds: int) -> str:
    """What the figures belong to, one sentence."""
    return (
        f"One epoch of plain SGD over {images:,} images ({workloads.data_name()}), float32, "
        f"{THREADS} threads each: median (fastest to slowest) of {rounds}, taken in turn. "
        f"{machine()}"
    )


def row(network: str, batch: int, images: int, rounds: int) -> str:
    """One line of the table."""
    verify_gradients(network, batch)
    epochs = {
        backend: partial(workloads.epoch, network, backend, images, batch)
        for backend in workloads.BACKENDS
    }
    taken = in_turns(epochs, rounds)
    verify_losses(network, {backend: each.results[-1] for backend, each in taken.items()})
    reference, kernels = taken["reference"], taken["numba"]
    of_fastest = min(reference.seconds) / min(kernels.seconds)
    return (
        f"| {network} | {batch} | {reference.spread()} | {kernels.spread()} "
        f"| {reference.median / kernels.median:.1f} | {of_fastest:.1f} |"
    )


def verify_gradients(network: str, batch: int) -> None:
    """Stop unless the gradients of one batch agree within 64 rounding steps: 32 for each."""
    (_, wanted), (_, got) = (
        workloads.loss_and_gradients(network, backend, batch)() for backend in workloads.BACKENDS
    )
    for w, g in zip(chain(*wanted), chain(*got), strict=True):
        steps = np.abs(g - w).max() / (np.finfo(np.float32).eps * np.abs(w).max())
        if not steps <= 64:
            raise SystemExit(f"{network}: gradients differ by {steps:.0f} rounding steps")


def verify_losses(what: str, losses: dict[str, float]) -> None:
    """Stop unless all epochs went alike: to 1 in 1000, when a rounding may switch a ReLU over.

    784-128-10 in batches of 32: NumPy in float32 gave 0.29053, the kernels and NumPy in float64
    0.29047. Where nothing is switched over, the losses agree to 1 in 10 million.
    """
    wanted = next(iter(losses.values()))
    if not all(abs(loss - wanted) <= 1e-3 * abs(wanted) for loss in losses.values()):
        raise SystemExit(f"{what}: losses differ: {losses}")


if __name__ == "__main__":
    main()

"""What momentum and Adam cost: ``python -m benchmarks.optimizers``.

Epochs of the kernels with each optimiser, in turns. Prints a table in Markdown.
"""

from __future__ import annotations

from functools import partial

from benchmarks import workloads
from benchmarks.comparison import Epochs, compare
from fastmnist.optimizers import OPTIMIZERS


def epochs(network: str, images: int) -> Epochs:
    epoch = partial(workloads.epoch, network, images=images)
    return {name: partial(epoch, optimizer=optimizer) for name, optimizer in OPTIMIZERS.items()}


def main() -> None:
    compare(__doc__, "optimizer", "sgd", epochs)


if __name__ == "__main__":
    main()

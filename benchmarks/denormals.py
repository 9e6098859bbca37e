"""Whether denormal numbers cost time: ``python -m benchmarks.denormals``.

Epochs of the kernels on the same images, in turns, with ordinary numbers and with those below
1.2e-38, on which some processors work more slowly. Prints a table in Markdown.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

import fastmnist as fm
from benchmarks import THREADS, workloads
from benchmarks.comparison import Epochs, compare
from fastmnist import kernels
from fastmnist.optimizers import SGD, State
from fastmnist.parameters import Parameters

SMALL = 1e-40
STUCK = SGD(momentum=1 - 1e-7)  # velocities stay what they are


def epochs(network: str, images: int) -> Epochs:
    sizes, rows = workloads.sizes(network), kernels.prepare(workloads.pixels(images))
    ready(sizes, rows, gradients)()  # compiles
    return {name: partial(ready, sizes, rows, made) for name, made in CASES.items()}


def ready(sizes: tuple[int, ...], rows: Any, made: Any) -> Any:
    """An epoch whose steps change next to nothing: every image is of class 0, and known to be."""
    params = fm.MLP(sizes, seed=0).params
    params[-1][0][...] *= np.float32(0.01)
    state = State.zeros(params)
    state.velocity.flat[:] = 1e-20
    made(params, state.velocity)
    y = np.zeros(rows.rows, np.int64)
    return partial(
        kernels.train_epoch, params, rows, y, learning_rate=1e-20, batch_size=workloads.BATCH,
        optimizer=STUCK, state=state, threads=THREADS,
    )  # fmt: skip


def nothing(params: Parameters, velocity: Parameters) -> None:
    params[-1][1][0] = 20  # gradients of 1e-9


def weights(params: Parameters, velocity: Parameters) -> None:
    """And with them the activations of the first layer."""
    W, b = params[0]
    W[...], b[...] = SMALL, SMALL


def gradients(params: Parameters, velocity: Parameters) -> None:
    params[-1][1][0] = 85  # exp(-85), divided by the batch


def velocities(params: Parameters, velocity: Parameters) -> None:
    params[-1][1][0] = 200  # no gradient is left that would change them
    velocity.flat[:] = SMALL


CASES = {made.__name__: made for made in (nothing, weights, gradients, velocities)}


def main() -> None:
    compare(__doc__, "denormal", "nothing", epochs)


if __name__ == "__main__":
    main()

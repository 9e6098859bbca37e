"""Processes that compile and load the same kernels at once: ``filling.py PROCESSES KERNELS``.

Each calls the first KERNELS of `CHECKSUMS`, in an order of its own, and reports what they gave.
"""

import hashlib
import json
import multiprocessing
import random
import sys

import numpy as np
from numba.core import event

from fastmnist import kernels
from fastmnist.kernels import packed


def checksum(*arrays):
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()[:16]


def rows(dtype):
    rng = np.random.default_rng(0)
    return (rng.integers(1, 256, (40, 60)) * (rng.random((40, 60)) < 0.2)).astype(dtype)


def packing(dtype):
    made = packed.rows_of(rows(dtype))
    return checksum(*(made.entries[bands[0] : bands[-1]] for bands in made.bands))


def logits():
    """Of whole numbers: every processor gives the same bits, also one without multiply-adds."""
    rng = np.random.default_rng(1)
    layers = [rng.integers(-2, 3, shape).astype(np.float32) for shape in ((60, 20), (20, 10))]
    params = [(W, np.zeros(W.shape[1], np.float32)) for W in layers]
    return checksum(kernels.logits(params, rows(np.float32), threads=1))


CHECKSUMS = {
    "packing of pixels": lambda: packing(np.uint8),
    "packing of floats": lambda: packing(np.float32),
    "logits": logits,
}


def checksums(seed, names):
    """What the kernels of those names give, called in an order that depends on the seed.

    And how many were compiled for it.
    """
    shuffled = random.Random(seed).sample(names, len(names))
    with event.install_recorder("numba:compile") as recorder:
        return {name: CHECKSUMS[name]() for name in shuffled}, len(recorder.buffer)


def main(processes, count):
    fork = multiprocessing.get_context("fork")  # what is imported is imported once
    barrier = fork.Barrier(processes)
    names = list(CHECKSUMS)[:count]
    with fork.Pool(processes, initializer=barrier.wait) as pool:
        tasks = [(seed, names) for seed in range(processes)]
        print(json.dumps(pool.starmap(checksums, tasks, chunksize=1)))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

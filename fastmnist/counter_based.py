"""Random numbers that depend on nothing but their place: seed, epoch, sample, stream, index.

So they can be drawn in any order, by any thread, by either backend, and are the same. The kernels
have the same two functions (`kernels/random_lanes.py`), and a test that they agree.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

STREAMS = 2**16  # of each sample

# Streams of a sample: dropout uses the number of the layer whose inputs are dropped.
AFFINE, ELASTIC = STREAMS - 1, STREAMS - 2


def epoch_key(seed: int, epoch: int) -> int:
    """From which all numbers of an epoch are derived."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0])


def sample_keys(key: int, samples: NDArray[Any], stream: int) -> NDArray[np.uint64]:
    """A key for one stream of each sample, uint64 like `samples`.

    References
    ----------
    Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators": the outputs of
    SplitMix64 that stand ``samples * STREAMS + stream`` places behind `key`.
    """
    place = samples.astype(np.uint64) * np.uint64(STREAMS) + np.uint64(stream)
    z = np.uint64(key) + (place + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def bits(keys: NDArray[np.uint64], count: int) -> NDArray[np.uint32]:
    """`count` numbers of 32 random bits for each key, uint32 of shape (keys, count)."""
    low, high = keys.astype(np.uint32), (keys >> np.uint64(32)).astype(np.uint32)
    index = np.arange(count, dtype=np.uint32)
    return _mixed(_mixed(index + low[:, None]) ^ high[:, None])


def _mixed(x: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Each bit of the result depends on all of `x`.

    References
    ----------
    Wellons 2018, "Prospecting for hash functions", nullprogram.com: multipliers and shifts.
    """
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
    return x ^ (x >> np.uint32(16))

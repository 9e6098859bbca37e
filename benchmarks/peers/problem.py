"""What every contender is given: a network's first parameters, images, labels and an order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

import fastmnist as fm
from benchmarks import workloads

RATE = 0.1


@dataclass(frozen=True)
class Problem:
    """One epoch of plain SGD."""

    network: str  # as "784-128-10"
    batch: int
    images: int
    density: float | None = None  # share of pixels that are not zero; None: MNIST as it is

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(map(int, self.network.split("-")))

    @property
    def flops(self) -> float:
        """Operations of an epoch as dense products: forward, gradient of W, and backward."""
        weights = [n * m for n, m in pairwise(self.sizes)]
        # three products a layer, but nothing flows back into the images
        return self.images * 2.0 * (3 * sum(weights) - weights[0])

    @cached_property
    def params(self) -> list[tuple[np.ndarray, np.ndarray]]:
        return [(W.copy(), b.copy()) for W, b in fm.MLP(self.sizes, seed=0).params]

    @cached_property
    def pixels(self) -> np.ndarray:
        """uint8 of shape (images, 784)."""
        train = workloads.data()[0]
        if self.density is None:
            return train.images[: self.images].reshape(self.images, -1)
        generator = np.random.default_rng(0)
        X = generator.integers(1, 256, (self.images, self.sizes[0]), dtype=np.uint8)
        X[generator.random(X.shape, np.float32) >= self.density] = 0
        return X

    @cached_property
    def features(self) -> np.ndarray:
        """The same as float32 in [0, 1], for those who cannot take pixels."""
        return self.pixels / np.float32(255)

    @cached_property
    def labels(self) -> np.ndarray:
        """int64 of shape (images,)."""
        return workloads.data()[0].labels[: self.images].astype(np.int64)

    @cached_property
    def order(self) -> np.ndarray:
        return np.random.default_rng(1).permutation(self.images)

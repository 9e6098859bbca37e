"""What every contender is given: a network's first parameters, images, labels and an order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

import fastmnist as fm
from benchmarks import workloads

RATE = workloads.RATE


@dataclass(frozen=True)
class Problem:
    """One epoch of plain SGD."""

    network: str  # as "784-128-10"
    batch: int
    images: int
    density: float | None = None  # share of pixels that are not zero; None: MNIST as it is

    @property
    def sizes(self) -> tuple[int, ...]:
        return workloads.sizes(self.network)

    @property
    def flops(self) -> float:
        return workloads.operations(self.network, self.images)

    @cached_property
    def params(self) -> list[tuple[np.ndarray, np.ndarray]]:
        return [(W.copy(), b.copy()) for W, b in fm.MLP(self.sizes, seed=0).params]

    @cached_property
    def pixels(self) -> np.ndarray:
        """uint8 of shape (images, 784)."""
        if self.density is None:
            return workloads.pixels(self.images)
        return workloads.random_pixels(self.density, self.images)

    @cached_property
    def features(self) -> np.ndarray:
        """The same as float32 in [0, 1], for those who cannot take pixels."""
        return self.pixels / np.float32(255)

    @cached_property
    def labels(self) -> np.ndarray:
        return workloads.labels(self.images)

    @cached_property
    def order(self) -> np.ndarray:
        return np.random.default_rng(1).permutation(self.images)

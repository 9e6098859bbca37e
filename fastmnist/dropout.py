"""Dropout: units that are left out at random, other ones for every sample and epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmnist.checks import share
from fastmnist.counter_based import bits, sample_keys


@dataclass(frozen=True)
class Dropout:
    """Which units are left out while training; those that stay are scaled up to make up for them.

    Parameters
    ----------
    hidden, inputs : float
        Share of each hidden layer's units, and of the inputs, in [0, 1).
    key : int
        `fastmnist.counter_based.epoch_key` of the epoch.

    References
    ----------
    Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov 2014, "Dropout: a simple way to
    prevent neural networks from overfitting".
    """

    hidden: float = 0.0
    inputs: float = 0.0
    key: int = 0

    def __post_init__(self) -> None:
        share("dropout", self.hidden)
        share("input_dropout", self.inputs)

    def masks(self, samples: NDArray[Any], widths: Sequence[int]) -> list[Any]:
        """What the inputs of each layer are multiplied by.

        Parameters
        ----------
        samples : ndarray of int, shape (n,)
            The samples' numbers in their data set.
        widths : sequence of int
            Inputs of each layer.

        Returns
        -------
        list of ndarray of shape (n, width), or of 1 where nothing is left out
        """
        dropped = [self.inputs, *[self.hidden] * (len(widths) - 1)]
        return [
            self._mask(samples, layer, width, p) if p else 1
            for layer, (width, p) in enumerate(zip(widths, dropped, strict=True))
        ]

    def _mask(self, samples: NDArray[Any], layer: int, width: int, p: float) -> NDArray[Any]:
        numbers = bits(sample_keys(self.key, samples, layer), width)
        return (numbers >= threshold(p)) / (1 - p)


def threshold(p: float) -> np.uint32:
    """Of 32 random bits, a share `p` is below this."""
    return np.uint32(p * 2**32)

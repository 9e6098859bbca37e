"""How far a training is: all that is needed, besides the parameters, to go on from there."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from fastmnist.history import Epoch
from fastmnist.optimizers import State
from fastmnist.parameters import Parameters


@dataclass
class Average:
    """The mean of a network's parameters at several times.

    Attributes
    ----------
    mean : Parameters or None
        None before the first.
    count : int
        How many have been added.
    """

    mean: Parameters | None = None
    count: int = 0

    def add(self, params: Parameters) -> None:
        """One more."""
        if self.mean is None:
            self.mean = Parameters(params.sizes)
        self.count += 1
        self.mean.flat += (params.flat - self.mean.flat) / np.float32(self.count)

    def restore(self, params: Parameters) -> None:
        """`params` become the mean."""
        if self.mean is not None:
            params.flat[:] = self.mean.flat


@dataclass
class Best:
    """The parameters with the smallest validation loss.

    Attributes
    ----------
    params : Parameters or None
        None as long as no loss was a number.
    loss : float
        Nats per image.
    age : int
        How many epochs ago they were.
    """

    params: Parameters | None = None
    loss: float = math.inf
    age: int = 0

    def note(self, params: Parameters, loss: float) -> None:
        """The loss after one more epoch."""
        if loss < self.loss:
            self.params, self.loss, self.age = Parameters.copy_of(params), loss, 0
        else:
            self.age += 1

    def restore(self, params: Parameters) -> None:
        """`params` become the best."""
        if self.params is not None:
            params.flat[:] = self.params.flat


@dataclass
class Progress:
    """What a training has done so far.

    Attributes
    ----------
    state : State
        Of the optimiser.
    history : list of Epoch
    average : Average
    best : Best
    """

    state: State
    history: list[Epoch] = field(default_factory=list)
    average: Average = field(default_factory=Average)
    best: Best = field(default_factory=Best)

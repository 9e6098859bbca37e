"""Update rules and learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmnist.checks import nearest


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent, plain or with (Nesterov) momentum.

    plain     ``w -= rate * g``
    momentum  ``v = momentum * v + g;  w -= rate * v``
    Nesterov  ``v = momentum * v + g;  w -= rate * (g + momentum * v)``

    Parameters
    ----------
    momentum : float
        In [0, 1); 0 is plain SGD.
    nesterov : bool
        Look ahead by one step of the velocity.

    References
    ----------
    Sutskever, Martens, Dahl and Hinton 2013, "On the importance of initialization and momentum in
    deep learning", in the form in which the gradient is taken at the shifted point.
    """

    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {self.momentum}")
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum greater than 0")

    def update(self, w: NDArray[Any], g: NDArray[Any], v: NDArray[Any] | None, rate: float) -> None:
        """Take one step in place: parameters `w`, gradient `g` and velocity `v` of one shape."""
        if v is not None and self.momentum:
            v *= self.momentum
            v += g
            g = g + self.momentum * v if self.nesterov else v
        w -= rate * g


OPTIMIZERS = {
    "sgd": SGD(),
    "momentum": SGD(momentum=0.9),
    "nesterov": SGD(momentum=0.9, nesterov=True),
}


def constant(progress: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same learning rate throughout."""
    return np.ones_like(progress)


def one_cycle(progress: NDArray[np.float64]) -> NDArray[np.float64]:
    """Half a cosine up from 1/25 to 1 over the first 30 %, then one down to 1/10,000.

    References
    ----------
    Smith and Topin 2017, "Super-convergence", arXiv:1708.07120, with cosines for straight lines.
    """
    start, end, peak = 1 / 25, 1e-4, 0.3
    rise = start + (1 - start) * (1 - np.cos(math.pi * progress / peak)) / 2
    fall = end + (1 - end) * (1 + np.cos(math.pi * (progress - peak) / (1 - peak))) / 2
    return np.where(progress < peak, rise, fall)


Schedule = Callable[[NDArray[np.float64]], NDArray[np.float64]]

SCHEDULES: dict[str, Schedule] = {"constant": constant, "one-cycle": one_cycle}


def optimizer_named(optimizer: str | SGD) -> SGD:
    """The optimiser of that name, or the one given."""
    if isinstance(optimizer, SGD):
        return optimizer
    return OPTIMIZERS[nearest("optimizer", optimizer, OPTIMIZERS)]


def rates(schedule: str | Schedule, peak: float, steps: int) -> NDArray[np.float64]:
    """Learning rate of each step, shape (steps,): `peak` times the schedule.

    A schedule maps the share of the training that is done, in [0, 1), to a factor.
    """
    if not callable(schedule):
        schedule = SCHEDULES[nearest("schedule", schedule, SCHEDULES)]
    return peak * schedule(np.arange(steps) / steps)

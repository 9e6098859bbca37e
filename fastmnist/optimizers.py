"""Update rules and learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastmnist.checks import at_least_zero, nearest, positive, share
from fastmnist.parameters import Gradients, Parameters

Array = NDArray[Any]


class Optimizer(Protocol):
    """An update rule: `SGD`, `Adam`."""

    @property
    def weight_decay(self) -> float:
        """How fast parameters shrink."""

    @property
    def decoupled(self) -> bool:
        """Whether they do so beside the step, not as a part of the gradient."""

    def update(self, w: Array, g: Array, v: Array, s: Array, rate: float, step: int) -> None:
        """Take a step in place.

        Parameters
        ----------
        w : ndarray
            Parameters.
        g : ndarray
            Gradient, like `w`; stays as it is.
        v, s : ndarray
            Means of gradients and of their squares, like `w`: `State`'s.
        rate : float
            Learning rate.
        step : int
            Which step this is, from 1.
        """


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
    weight_decay : float
        At least 0. ``weight_decay * w`` is added to the gradient (L2 regularisation), of biases,
        too.
    decoupled : bool
        Instead, parameters shrink beside the step: ``w -= rate * weight_decay * w``.

    References
    ----------
    Sutskever, Martens, Dahl and Hinton 2013, "On the importance of initialization and momentum in
    deep learning", in the form in which the gradient is taken at the shifted point. Loshchilov and
    Hutter 2019, "Decoupled weight decay regularization", arXiv:1711.05101.
    """

    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    decoupled: bool = False

    def __post_init__(self) -> None:
        share("momentum", self.momentum)
        at_least_zero("weight_decay", self.weight_decay)
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum greater than 0")

    def update(self, w: Array, g: Array, v: Array, s: Array, rate: float, step: int) -> None:
        """As of every `Optimizer`; `s` and `step` are not used."""
        g = _decayed(self, w, g, rate)
        if self.momentum:
            v *= self.momentum
            v += g
            g = g + self.momentum * v if self.nesterov else v
        w -= rate * g


@dataclass(frozen=True)
class Adam:
    """Steps of about the learning rate in every parameter, however large its gradient.

    ``v = beta1 * v + (1 - beta1) * g;  s = beta2 * s + (1 - beta2) * g**2``
    ``w -= rate * (v / (1 - beta1**step)) / (sqrt(s / (1 - beta2**step)) + epsilon)``

    Parameters
    ----------
    beta1, beta2 : float
        In [0, 1): how much of the means is kept at each step.
    epsilon : float
        Positive; keeps the quotient finite.
    weight_decay : float
        At least 0. ``weight_decay * w`` is added to the gradient, of biases, too.
    decoupled : bool
        Instead, parameters shrink beside the step: ``w -= rate * weight_decay * w``. This is AdamW.

    References
    ----------
    Kingma and Ba 2015, "Adam: a method for stochastic optimization", arXiv:1412.6980. Loshchilov
    and Hutter 2019, "Decoupled weight decay regularization", arXiv:1711.05101.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    decoupled: bool = False

    def __post_init__(self) -> None:
        share("beta1", self.beta1)
        share("beta2", self.beta2)
        positive("epsilon", self.epsilon)
        at_least_zero("weight_decay", self.weight_decay)

    def update(self, w: Array, g: Array, v: Array, s: Array, rate: float, step: int) -> None:
        """As of every `Optimizer`."""
        g = _decayed(self, w, g, rate)
        v *= self.beta1
        v += (1 - self.beta1) * g
        s *= self.beta2
        s += (1 - self.beta2) * g**2
        # Means that began at zero are too small by these.
        v_part, s_part = 1 - self.beta1**step, 1 - self.beta2**step
        w -= rate * (v / v_part) / (np.sqrt(s / s_part) + self.epsilon)


def _decayed(rule: Optimizer, w: Array, g: Array, rate: float) -> Array:
    """The gradient with weight decay; if that is decoupled, `w` shrinks instead."""
    if not rule.weight_decay:
        return g
    if rule.decoupled:
        w *= 1 - rate * rule.weight_decay
        return g
    return g + rule.weight_decay * w


OPTIMIZERS: dict[str, SGD | Adam] = {
    "sgd": SGD(),
    "momentum": SGD(momentum=0.9),
    "nesterov": SGD(momentum=0.9, nesterov=True),
    "adam": Adam(),
    "adamw": Adam(weight_decay=0.01, decoupled=True),
}


@dataclass
class State:
    """What an optimiser carries from one step to the next.

    Attributes
    ----------
    velocity, squares : list of (W, b)
        Shaped like the parameters; means of the gradients, and of their squares (Adam's).
    steps : int
        Taken so far.
    """

    velocity: Any
    squares: Any
    steps: int = 0

    @classmethod
    def zeros(cls, params: Sequence[tuple[Array, Array]]) -> State:
        """The state before the first step, for parameters like these."""
        if isinstance(params, Parameters):
            return cls(Parameters(params.sizes), Parameters(params.sizes))
        return cls(_zeros_like(params), _zeros_like(params))


def _zeros_like(params: Sequence[tuple[Array, Array]]) -> Gradients:
    return [(np.zeros_like(W), np.zeros_like(b)) for W, b in params]


# Schedules: factors of the learning rate, from the share of the training that is done.

Progress = NDArray[np.float64]
Schedule = Callable[[Progress], Progress]


def constant(progress: Progress) -> Progress:
    """The same learning rate throughout."""
    return np.ones_like(progress)


def linear(progress: Progress) -> Progress:
    """In a straight line down to 0."""
    return 1 - progress


def cosine(progress: Progress) -> Progress:
    """Half a cosine, from 1 down to 0.

    References
    ----------
    Loshchilov and Hutter 2017, "SGDR: stochastic gradient descent with warm restarts",
    arXiv:1608.03983, without the restarts.
    """
    return (1 + np.cos(math.pi * progress)) / 2


def one_cycle(progress: Progress) -> Progress:
    """Half a cosine up from 1/25 to 1 over the first 30 %, then one down to 1/10,000.

    References
    ----------
    Smith and Topin 2017, "Super-convergence", arXiv:1708.07120, with cosines for straight lines.
    """
    start, end, peak = 1 / 25, 1e-4, 0.3
    rise = start + (1 - start) * (1 - np.cos(math.pi * progress / peak)) / 2
    fall = end + (1 - end) * (1 + np.cos(math.pi * (progress - peak) / (1 - peak))) / 2
    return np.where(progress < peak, rise, fall)


@dataclass(frozen=True)
class Steps:
    """Constant, and multiplied by `factor` at each of `at`: by default a tenth, then a hundredth.

    Parameters
    ----------
    at : tuple of float
        Shares of the training, in [0, 1).
    factor : float
        Positive.
    """

    at: tuple[float, ...] = (0.5, 0.75)
    factor: float = 0.1

    def __post_init__(self) -> None:
        if not isinstance(self.at, tuple):
            raise TypeError(f"at must be a tuple of shares, got {self.at!r}")
        for at in self.at:
            share("each of at", at)
        positive("factor", self.factor)

    def __call__(self, progress: Progress) -> Progress:
        """Factors of the rate."""
        passed = [(progress >= at).astype(float) for at in self.at]
        return np.power(self.factor, np.sum(passed, axis=0, dtype=np.float64))


@dataclass(frozen=True)
class WarmUp:
    """In a straight line from 0 to the peak, then another schedule over the rest.

    Parameters
    ----------
    then : str or callable
        The schedule that follows.
    share : float
        Of the training that the rise takes, in (0, 1).

    References
    ----------
    Goyal et al. 2017, "Accurate, large minibatch SGD", arXiv:1706.02677, section 2.2.
    """

    then: str | Schedule = constant
    share: float = 0.1

    def __post_init__(self) -> None:
        share("share", positive("share", self.share))
        schedule_named(self.then)

    def __call__(self, progress: Progress) -> Progress:
        """Factors of the rate."""
        rest = np.maximum(progress - self.share, 0) / (1 - self.share)
        return np.where(
            progress < self.share, progress / self.share, schedule_named(self.then)(rest)
        )


def usual_rate(optimizer: SGD | Adam) -> float:
    """A learning rate to begin with; Adam's steps are as long as it, whatever the gradient."""
    return 0.003 if isinstance(optimizer, Adam) else 0.1


def optimizer_named(optimizer: str | SGD | Adam) -> SGD | Adam:
    """The optimiser of that name, or the one given."""
    if isinstance(optimizer, (SGD, Adam)):
        return optimizer
    return OPTIMIZERS[nearest("optimizer", optimizer, OPTIMIZERS)]


def schedule_named(schedule: str | Schedule) -> Schedule:
    """The schedule of that name, or the one given."""
    return schedule if callable(schedule) else SCHEDULES[nearest("schedule", schedule, SCHEDULES)]


def rates(schedule: str | Schedule, peak: float, steps: int) -> Progress:
    """Learning rate of each step, shape (steps,): `peak` times the schedule.

    A schedule maps the share of the training that is done, in [0, 1), to a factor.
    """
    factors = np.asarray(schedule_named(schedule)(np.arange(steps) / steps), np.float64)
    if factors.shape not in ((), (1,), (steps,)) or not np.isfinite(factors).all():
        raise ValueError(f"a schedule must give a finite factor for each of {steps} steps")
    if (factors < 0).any():
        raise ValueError("a schedule must give factors of at least 0")
    return peak * np.broadcast_to(factors, steps)


SCHEDULES: dict[str, Schedule] = {
    "constant": constant,
    "steps": Steps(),
    "linear": linear,
    "cosine": cosine,
    "one-cycle": one_cycle,
    "warm-up": WarmUp(),
    "warm-up-cosine": WarmUp(cosine),
}

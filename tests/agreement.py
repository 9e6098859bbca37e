"""What the tests of agreement share: networks and samples, exact ones too, and checks.

A check takes an implementation (`fastmnist.kernels`, `fastmnist.reference` or one of `faults`) and
raises AssertionError if it is wrong. Errors are counted in rounding steps of float32.
"""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from fastmnist import reference
from fastmnist.optimizers import SGD, Adam, State
from fastmnist.parameters import Parameters

EPS = float(np.finfo(np.float32).eps)

# The bounds that are promised; plain NumPy in float32 needs 5, 1 and 8 on ordinary networks.
GRADIENT_STEPS, LOSS_STEPS, PROBABILITY_STEPS = 32, 8, 32

# Backward differences of this much cancel: what is left of the terms' rounding is not bounded by
# the sum's size, in float32 NumPy no more than in the kernels.
CANCELLED = 8

# Rows that are all zero add the same rounding error each, so their errors never cancel.
MOST_EMPTY_ROWS = 32

OPTIMIZERS = {
    "sgd": None,
    "momentum": SGD(momentum=0.9),
    "nesterov": SGD(momentum=0.9, nesterov=True),
    "weight decay": SGD(momentum=0.9, weight_decay=0.1),
    "decoupled": SGD(weight_decay=0.1, decoupled=True),
    # with an epsilon that small gradients do not reach: their rounding decides the sign of a step
    "adam": Adam(epsilon=0.1),
    "adam, weight decay": Adam(epsilon=0.1, weight_decay=0.1),
    "adamw": Adam(epsilon=0.1, weight_decay=0.1, decoupled=True),
}


UNCOMPILED = os.environ.get("NUMBA_DISABLE_JIT", "0") != "0"

BACKENDS = [pytest.param("numba", marks=pytest.mark.kernels), "reference"]


def properties(examples):
    """Settings for a property test: the same examples every time, however slow the machine.

    With --long, as many as that profile has.
    """
    if settings().max_examples == settings.get_profile("long").max_examples:
        examples = settings().max_examples
    return settings(
        max_examples=examples // 10 if UNCOMPILED else examples,
        derandomize=True,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )


class Case(NamedTuple):
    """A network twice, in float32 and float64, and samples for it."""

    params: Parameters
    exact: list
    X: np.ndarray
    y: np.ndarray


def random_case(seed, sizes, count, density=0.19, dtype=np.uint8):
    """A network whose outputs are of ordinary size, and samples away from all ReLU's corners."""
    rng = np.random.default_rng(seed)
    params = random_params(rng, sizes)
    X = random_images(rng, count, sizes[0], density, dtype)
    X = np.delete(X, np.flatnonzero(~X.any(axis=1))[MOST_EMPTY_ROWS:], axis=0)
    # A probability's relative error is the absolute one of its exponent.
    largest = np.abs(reference.logits(float64(params), X)).max()
    if largest > 2:
        params[-1] = tuple(np.float32(2 / largest) * p for p in params[-1])
    exact = float64(params)
    X = X[~doubtful(exact, X)]
    return Case(params, exact, X, unlikely_labels(rng, exact, X))


def random_params(rng, sizes):
    params = Parameters(sizes)
    for W, b in params:
        W[...] = rng.normal(size=W.shape) * np.sqrt(2 / len(W))
        b[...] = rng.normal(size=b.shape) / 10
    return params


def random_images(rng, count, features, density, dtype):
    """uint8 pixels, or floats in [-1, 1] that float32 holds; `density` of them are not zero."""
    X = rng.integers(1, 256, (count, features)) * (rng.random((count, features)) < density)
    if dtype == np.uint8:
        return X.astype(np.uint8)
    return (X * rng.choice([-1, 1], X.shape) / 255).astype(np.float32).astype(dtype)


def unlikely_labels(rng, exact, X):
    """Labels from the less probable half of the classes.

    With likely ones the samples' gradients point in all directions and cancel.
    """
    ranked = np.argsort(reference.forward(exact, X), axis=1)
    place = rng.integers(0, (ranked.shape[1] + 1) // 2, len(X))
    return ranked[np.arange(len(X)), place]


def float64(params):
    return [(W.astype(np.float64), b.astype(np.float64)) for W, b in params]


def scaled(X):
    return X.reshape(len(X), -1) / (255 if X.dtype == np.uint8 else 1)


def doubtful(exact, X, masks=None):
    """Which samples have an activation so close to 0 that rounding decides whether it is active.

    Its whole gradient is there in one precision and not in the other: an error of any size.
    """
    A, close = scaled(X), np.zeros(len(X), bool)
    for layer, (W, b) in enumerate(exact[:-1]):
        A = A * masks[layer] if masks else A
        Z, terms = A @ W + b, np.abs(A) @ np.abs(W) + np.abs(b)
        close |= ((np.abs(Z) <= 16 * EPS * terms) & (terms > 0)).any(axis=1)
        A = np.maximum(Z, 0)
    return close


def sums_of_magnitudes(exact, X, y):
    """The gradients with all their terms taken as positive."""
    inputs = [scaled(X)]
    for W, b in exact[:-1]:
        inputs.append(np.maximum(inputs[-1] @ W + b, 0))
    dZ = reference.forward(exact, X)
    dZ[np.arange(len(y)), y] = 1
    dZ /= len(y)
    sums = []
    for A, (W, _) in zip(inputs[::-1], exact[::-1], strict=True):
        sums.append((np.abs(A).T @ dZ, dZ.sum(axis=0)))
        dZ = (dZ @ np.abs(W).T) * (A > 0)
    return sums[::-1]


def flat(params):
    """All arrays of a list of (W, b) in one list."""
    return [array for pair in params for array in pair]


def steps_apart(got, want):
    """The largest error, in float32 rounding steps of the largest entry of `want`."""
    error, largest = np.abs(got - want).max(), np.abs(want).max()
    return error / (largest * EPS) if error else 0.0


def check_gradients(implementation, case, **options):
    """Loss and gradients are those of the reference in float64, within the promised bounds."""
    loss, gradients = implementation.loss_and_gradients(case.params, case.X, case.y, **options)
    want_loss, want = reference.loss_and_gradients(case.exact, case.X, case.y, **options)
    assert abs(loss - want_loss) <= LOSS_STEPS * EPS * want_loss
    magnitudes = sums_of_magnitudes(case.exact, case.X, case.y)
    for name, g, w, terms in zip(
        names(case.params), flat(gradients), flat(want), flat(magnitudes), strict=True
    ):
        assert g.shape == w.shape, name
        if terms.max() < CANCELLED * np.abs(w).max():
            assert steps_apart(g, w) <= GRADIENT_STEPS, name
        else:  # rounding steps of the terms, then
            assert np.abs(g - w).max() <= GRADIENT_STEPS * EPS * terms.max(), name


def check_probabilities(implementation, case):
    got = implementation.forward(case.params, case.X)
    want = reference.forward(case.exact, case.X)
    assert got.shape == want.shape
    assert (np.abs(got - want) <= PROBABILITY_STEPS * EPS * want).all()


def check_epoch(implementation, case, rates, batch_size, optimizer=None, order=None, **others):
    """An epoch moves every parameter where the reference in float64 moves it.

    The rates are large, so that the parameters move by about their own size: a step of 1.0001
    times the right length is then 840 rounding steps off.
    """
    params = Parameters.copy_of(case.params)
    state, exact_state = used_state(case.params), float64_state(used_state(case.params))
    exact = float64(params)
    options = {"batch_size": batch_size, "optimizer": optimizer, "order": order} | others
    loss = implementation.train_epoch(
        params, case.X, case.y, state=state, learning_rate=rates, **options
    )
    want_loss = reference.train_epoch(
        exact, case.X, case.y, state=exact_state, learning_rate=rates, **options
    )
    assert abs(loss - want_loss) <= LOSS_STEPS * EPS * want_loss
    for name, got, want in zip(names(params), flat(params), flat(exact), strict=True):
        assert steps_apart(got, want) <= GRADIENT_STEPS, name
    if optimizer is not None:
        assert state.steps == exact_state.steps
        for means in ("velocity", "squares"):
            for name, got, want in zip(
                names(params),
                flat(getattr(state, means)),
                flat(getattr(exact_state, means)),
                strict=True,
            ):
                assert steps_apart(got, want) <= GRADIENT_STEPS, f"{means} of {name}"


def used_state(params, steps=3):
    """A state after some steps: its means are anything but zero, so that it is seen to be used."""
    squares = Parameters(params.sizes)
    for (W, b), (sW, sb) in zip(params, squares, strict=True):
        sW[...], sb[...] = W**2, b**2
    return State(Parameters.copy_of(params), squares, steps)


def float64_state(state):
    return State(float64(state.velocity), float64(state.squares), state.steps)


def crosses_no_corner(case, rates, batch_size, optimizer=None, order=None):
    """Whether in no batch of such an epoch a sample is doubtful."""
    exact, state = float64(case.params), float64_state(used_state(case.params))
    order = np.arange(len(case.X)) if order is None else order
    batches = [order[at : at + batch_size] for at in range(0, len(order), batch_size)]
    for batch, rate in zip(batches, np.broadcast_to(rates, len(batches)), strict=True):
        if doubtful(exact, case.X[batch]).any():
            return False
        reference.train_epoch(
            exact, case.X[batch], case.y[batch],
            learning_rate=rate, batch_size=batch_size, optimizer=optimizer, state=state,
        )  # fmt: skip
    return True


def names(params):
    return [f"{kind}{layer}" for layer in range(len(params)) for kind in "Wb"]


def exact_case(seed, sizes, count, density=0.19):
    """A network and samples whose outputs and gradients are exact in float32, in any order.

    Pixels are 0 to 15, weights k/4, so every sum has few bits. Of the classes the even ones have
    the same weights and win by thousands, so that their probabilities are equal, a power of two,
    and those of the others 0; every label is an odd class. `sizes` must end in 4 or 8, and
    `count` must be a power of two.
    """
    rng = np.random.default_rng(seed)
    params = Parameters(sizes)
    for W, b in params:
        W[...] = rng.integers(-2, 3, W.shape) / 4
        b[...] = rng.integers(-4, 5, b.shape) / 4
    W, b = params[-1]
    W[:, ::2] = W[:, :1]
    b[::2], b[1::2] = 0, -(2.0**13)
    X = (rng.integers(1, 16, (count, sizes[0])) * (rng.random((count, sizes[0])) < density)).astype(
        np.float32
    )
    y = 1 + 2 * rng.integers(0, sizes[-1] // 2, count)
    return Case(params, float64(params), X, y)

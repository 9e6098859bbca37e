"""The functions of `fastmnist.reference` under the same names, compiled and multi-threaded.

Everything is computed in float32. Where parameters are a model's own (`fastmnist.MLP.params`) the
kernels work on its buffer; other lists of (W, b) are copied first, and back when training is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmnist import checks
from fastmnist.kernels import epoch, prediction, team
from fastmnist.kernels.network import CHUNK, Rule, new_chunk, new_network, new_scratch, pieces_of
from fastmnist.kernels.packed import Dense, Packed, rows_of
from fastmnist.kernels.team import thread_count
from fastmnist.optimizers import SGD
from fastmnist.parameters import Gradients, Parameters

__all__ = [
    "forward",
    "logits",
    "loss_and_gradients",
    "prepare",
    "thread_count",
    "train_epoch",
    "warmup",
]

Params = Sequence[tuple[ArrayLike, ArrayLike]]


Rows = Packed | Dense  # what `prepare` gives


def forward(params: Params, X: ArrayLike | Rows, *, threads: int | None = None) -> NDArray[Any]:
    """Class probabilities.

    Parameters
    ----------
    params : list of (W, b)
    X : array_like of shape (n, features), or the result of `prepare`
        uint8 pixels, scaled by 1/255, or floats, taken as they are.
    threads : int, optional
        By default as many as this process may use.

    Returns
    -------
    ndarray of float32, shape (n, classes)

    Raises
    ------
    TypeError, ValueError
        If `X` does not hold finite real numbers, or does not fit the network.
    """
    Z = logits(params, X, threads=threads)
    Z -= Z.max(axis=1, keepdims=True)
    E = np.exp(Z, out=Z)
    P: NDArray[Any] = np.divide(E, E.sum(axis=1, keepdims=True), out=E)
    return P


def logits(params: Params, X: ArrayLike | Rows, *, threads: int | None = None) -> NDArray[Any]:
    """The last layer before softmax, float32 of shape (n, classes); arguments as of `forward`."""
    own = _own(params)
    samples = X if isinstance(X, Rows) else checks.features(X, own.sizes[0])
    Z: NDArray[Any] = prediction.logits(own, samples, threads)
    return Z


def loss_and_gradients(
    params: Params, X: ArrayLike | Rows, y: ArrayLike, *, threads: int | None = None
) -> tuple[float, Gradients]:
    """Mean cross-entropy in nats per image, and its gradient with respect to every parameter.

    Parameters
    ----------
    params : list of (W, b)
    X, threads
        As in `forward`.
    y : array_like of int, shape (n,)
        Class numbers from 0.

    Returns
    -------
    loss : float
    gradients : list of (dW, db)
        float32, shaped like `params`.
    """
    own = _own(params)
    gradient = Parameters(own.sizes)
    loss = _train(own, X, y, gradient=gradient, threads=threads)
    return loss, gradient


def train_epoch(
    params: Params,
    X: ArrayLike | Rows,
    y: ArrayLike,
    *,
    learning_rate: float | NDArray[Any] = 0.1,
    batch_size: int = 64,
    optimizer: SGD | None = None,
    velocity: Parameters | None = None,
    order: NDArray[Any] | None = None,
    threads: int | None = None,
) -> float:
    """Train once over all samples, in place.

    Parameters
    ----------
    params : list of (W, b)
        Changed in place.
    X, y, threads
        As in `loss_and_gradients`. `params` get the same bits for any number of threads.
    learning_rate : float or ndarray of shape (batches,)
        One rate, or one for each batch.
    batch_size : int
        Samples in a step; the last batch may be smaller.
    optimizer : SGD, optional
        By default without momentum.
    velocity : list of (vW, vb), optional
        Shaped like `params`, changed in place; what momentum carries from epoch to epoch.
    order : ndarray of int, shape (n,), optional
        In which order the samples are taken; by default as they stand.

    Returns
    -------
    float
        Loss in nats per image, each batch measured before its own step.
    """
    own = _own(params)
    own_velocity = Parameters(own.sizes) if velocity is None else _own(velocity)
    loss = _train(
        own,
        X,
        y,
        velocity=own_velocity,
        learning_rate=learning_rate,
        batch_size=checks.whole("batch_size", batch_size, 1),
        optimizer=optimizer or SGD(),
        order=order,
        threads=threads,
    )
    for given, trained in ((params, own), (velocity, own_velocity)):
        if given is not None and given is not trained:
            for (W, b), (new_W, new_b) in zip(given, trained, strict=True):
                W[...], b[...] = new_W, new_b  # type: ignore[index]
    return loss


def prepare(X: ArrayLike | Rows, inputs: int | None = None) -> Rows:
    """`X` in the form the kernels work on, which every function here takes in its place.

    Packed if enough of its numbers are zero, else `X` itself, so that nothing is copied and later
    changes to `X` show. `inputs` is its width; None for any.
    """
    return X if isinstance(X, Rows) else rows_of(checks.features(X, inputs))


def warmup(*, prediction: bool = True) -> None:
    """Compile, or load from disk, all that training on images needs.

    Parameters
    ----------
    prediction : bool
        And what predicting needs, else compiled at the first prediction.
    """
    params = Parameters((4, 3, 2))
    X, y = np.zeros((2, 4), np.uint8), np.zeros(2, np.int64)
    train_epoch(params, X, y, threads=1)
    if prediction:
        forward(params, X, threads=1)


def _own(params: Params) -> Parameters:
    return params if isinstance(params, Parameters) else Parameters.copy_of(params)


def _train(
    params: Parameters,
    X: ArrayLike | Rows,
    y: ArrayLike,
    *,
    gradient: Parameters | None = None,
    velocity: Parameters | None = None,
    learning_rate: float | NDArray[Any] = 0.0,
    batch_size: int | None = None,
    optimizer: SGD | None = None,
    order: NDArray[Any] | None = None,
    threads: int | None = None,
    ticks: Sequence[NDArray[np.int64]] | None = None,
) -> float:
    """One epoch; without an optimiser one batch of everything, whose gradient is the result."""
    rows = prepare(X, params.sizes[0])
    labels = checks.labels(y, rows.rows, params.sizes[-1])
    order = np.arange(rows.rows) if order is None else np.ascontiguousarray(order, np.int64)
    batch_size = batch_size or len(order)
    batches = -(-len(order) // batch_size)
    rates = np.full(batches, learning_rate, np.float32)
    rule = Rule(
        optimizer is not None,
        np.float32(optimizer.momentum if optimizer else 0),
        optimizer is not None and optimizer.nesterov,
    )
    samples = min(CHUNK, batch_size)
    network = new_network(params, samples, velocity, gradient)
    losses = np.empty(len(order))
    members = thread_count(threads)
    run = team.run
    if optimizer is None and len(order) <= CHUNK:
        members, run = 1, team.run_briefly
    chunk = new_chunk(params.sizes, samples)
    work = [
        (
            *(member, members, pieces_of(member, members, network.shapes), network, chunk),
            *(new_scratch(params.sizes, samples), rows, labels, order),
            *(batch_size, rates, rule, losses, None if ticks is None else ticks[member]),
        )
        for member in range(members)
    ]
    run(epoch.train, work)
    return float(losses.mean())

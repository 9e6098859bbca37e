"""The mathematics, in plain NumPy: a multi-layer perceptron and its gradients.

A network is a list of layers `params = [(W, b), ...]`, W of shape (inputs, outputs). Each layer
computes Z = A W + b from the layer before; hidden layers apply ReLU, the last one softmax.

Letters: X images (n, features), y labels (n,), Z before and A after ReLU, P probabilities
(n, classes); B samples in a batch; d + name is the gradient of the mean loss with respect to name.

Everything works in the dtype of the parameters. Arguments are taken as valid; `fastmnist.fit`
checks them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Params = Sequence[tuple[Array, Array]]

_BLOCK = 4096  # samples whose layers are in memory at the same time


class Optimizer(Protocol):
    """Anything that takes a step, such as `fastmnist.SGD`."""

    def update(self, w: Array, g: Array, v: Array, s: Array, rate: float, step: int) -> None:
        """Change parameters `w` in place, and the means `v` and `s` that go with them."""


class State(Protocol):
    """What an optimiser carries from step to step, such as `fastmnist.optimizers.State`."""

    velocity: Params
    squares: Params
    steps: int


class Dropout(Protocol):
    """What leaves units out, such as `fastmnist.dropout.Dropout`."""

    def masks(self, samples: Array, widths: Sequence[int]) -> list[Any]:
        """What to multiply the inputs of each layer by, for each sample."""


def forward(params: Params, X: Array, *, threads: int | None = None) -> Array:
    """Class probabilities.

    Parameters
    ----------
    params : list of (W, b)
    X : ndarray of shape (n, features)
        uint8 pixels, scaled by 1/255, or floats, taken as they are.
    threads : int, optional
        Not used in this file: NumPy's matrix products choose their own.

    Returns
    -------
    ndarray of shape (n, classes)
        Each row is positive and sums to 1.
    """
    Z = logits(params, X)
    E = np.exp(Z - Z.max(axis=1, keepdims=True))  # the shift keeps exp from overflowing
    P: Array = E / E.sum(axis=1, keepdims=True)
    return P


def logits(params: Params, X: Array, *, threads: int | None = None) -> Array:
    """The last layer before softmax, shape (n, classes)."""
    blocks = range(0, len(X), _BLOCK) or [0]
    return np.concatenate([_layers(params, X[at : at + _BLOCK])[-1] for at in blocks])


def loss_and_gradients(
    params: Params,
    X: Array,
    y: Array,
    *,
    weights: Array | None = None,
    label_smoothing: float = 0.0,
    dropout: Dropout | None = None,
    samples: Array | None = None,
    threads: int | None = None,
) -> tuple[float, list[tuple[Array, Array]]]:
    """Mean cross-entropy and its gradient with respect to every parameter.

    Parameters
    ----------
    params : list of (W, b)
    X, threads
        As in `forward`.
    y : ndarray of int, shape (n,)
        Class numbers from 0.
    weights : ndarray of float, shape (n,), optional
        What each sample counts for, at least 0; the mean is over their sum. By default 1.
    label_smoothing : float
        In [0, 1): this share of each label is spread over all classes.
    dropout : optional
        Its ``masks(samples, widths)`` multiply the inputs of the layers.
    samples : ndarray of int, shape (n,), optional
        The samples' numbers, for `dropout`; by default from 0.

    Returns
    -------
    loss : float
        In nats per image.
    gradients : list of (dW, db)
        Shaped like `params`.

    References
    ----------
    Rumelhart, Hinton and Williams 1986, "Learning representations by back-propagating errors".
    Label smoothing: Szegedy et al. 2016, "Rethinking the Inception architecture", section 7.
    """
    masks = None
    if dropout:
        samples = np.arange(len(X)) if samples is None else samples
        masks = dropout.masks(samples, [len(W) for W, _ in params])
    *A, Z = _layers(params, X, masks)
    parts = _parts(len(X), weights, Z.dtype)
    loss, dZ = _cross_entropy(Z, y, parts, label_smoothing)
    gradients = []
    for layer in reversed(range(len(params))):
        gradients.append((A[layer].T @ dZ, dZ.sum(axis=0)))
        if layer:
            dA = dZ @ params[layer][0].T
            dZ = np.multiply(dA, A[layer] > 0, out=dA)  # ReLU passes where it was active
            if masks:
                dZ *= masks[layer]
    return loss, gradients[::-1]


def input_gradients(params: Params, X: Array, y: Array) -> Array:
    """What each input does for a class: the gradient of log P[y] with respect to the inputs.

    Parameters
    ----------
    params, X
        As in `forward`.
    y : ndarray of int, shape (n,)
        The class of each image that is asked about, from 0.

    Returns
    -------
    ndarray of shape (n, features)
        In nats per unit of input, where 1 is a white pixel.

    References
    ----------
    Simonyan, Vedaldi and Zisserman 2014, "Deep inside convolutional networks", arXiv:1312.6034.
    """
    *A, Z = _layers(params, X)
    dZ = -forward(params, X)
    dZ[np.arange(len(Z)), y] += 1
    for layer in reversed(range(len(params))):
        dA: Array = dZ @ params[layer][0].T
        dZ = dA * (A[layer] > 0)
    return dA


def train_epoch(
    params: Params,
    X: Array,
    y: Array,
    *,
    learning_rate: float | Array = 0.1,
    batch_size: int = 64,
    optimizer: Optimizer | None = None,
    state: State | None = None,
    order: Array | None = None,
    weights: Array | None = None,
    label_smoothing: float = 0.0,
    dropout: Dropout | None = None,
    threads: int | None = None,
) -> float:
    """Train once over all samples, in place.

    Parameters
    ----------
    params : list of (W, b)
        Changed in place.
    X, y, weights, label_smoothing, dropout, threads
        As in `loss_and_gradients`.
    learning_rate : float or ndarray of shape (batches,)
        One rate, or one for each batch.
    batch_size : int
        Samples in a step; the last batch may be smaller.
    optimizer : optional
        Its ``update(w, g, v, s, rate, step)`` takes each step; by default plain SGD.
    state : optional
        What the optimiser carries from epoch to epoch: its ``velocity`` and ``squares``, each
        shaped like `params`, and its ``steps`` are changed in place.
    order : ndarray of int, optional
        Which samples are taken, and in which order; by default all, as they stand.

    Returns
    -------
    float
        Loss in nats per image, each batch measured before its own step.
    """
    order = np.arange(len(X)) if order is None else order
    batches = range(0, len(order), batch_size)
    step_rates = np.broadcast_to(np.asarray(learning_rate, params[0][0].dtype), len(batches))
    update = optimizer.update if optimizer else _descend
    velocity = state.velocity if state else _zeros_like(params)
    squares = state.squares if state else _zeros_like(params)
    before = state.steps if state else 0
    total = 0.0
    for step, (start, rate) in enumerate(zip(batches, step_rates, strict=True), before + 1):
        batch = order[start : start + batch_size]
        loss, gradients = loss_and_gradients(
            params,
            X[batch],
            y[batch],
            weights=None if weights is None else weights[batch],
            label_smoothing=label_smoothing,
            dropout=dropout,
            samples=batch,
        )
        total += loss * (len(batch) if weights is None else weights[batch].sum())
        for (W, b), (dW, db), (vW, vb), (sW, sb) in zip(
            params, gradients, velocity, squares, strict=True
        ):
            update(W, dW, vW, sW, rate, step)
            update(b, db, vb, sb, rate, step)
    if state:
        state.steps = before + len(batches)
    return float(total / (len(order) if weights is None else weights[order].sum()))


def prepare(X: Array) -> Array:
    """What `train_epoch` reads fastest: here, `X` itself."""
    return X


def _layers(params: Params, X: Array, masks: list[Any] | None = None) -> list[Array]:
    """Input and output of every layer: [A0 = scaled X, A1, ..., Z of the last]."""
    layers = [_scaled(X, params[0][0].dtype)]
    for layer, (W, b) in enumerate(params):
        if masks:
            layers[-1] = np.multiply(layers[-1], masks[layer], dtype=W.dtype)
        Z = layers[-1] @ W
        Z += b
        last = layer == len(params) - 1
        layers.append(Z if last else np.maximum(Z, 0, out=Z))
    return layers


def _scaled(X: Array, dtype: np.dtype[Any]) -> Array:
    rows = X.reshape(len(X), np.prod(X.shape[1:]))  # not -1: there may be no rows
    if rows.dtype == np.uint8:
        return np.divide(rows, 255, dtype=dtype)
    return rows.astype(dtype, copy=False)


def _parts(count: int, weights: Array | None, dtype: np.dtype[Any]) -> Array:
    """What part of a mean each sample is: 1 / n, or its weight in the sum of all."""
    if weights is None:
        return np.full(count, 1 / count, dtype)
    total = weights.sum(dtype=np.float64)
    return (weights / total if total else weights).astype(dtype)  # without any weight no gradient


def _cross_entropy(Z: Array, y: Array, parts: Array, smoothing: float) -> tuple[float, Array]:
    """Mean of -sum(T log softmax(Z)), and its gradient dZ = (P - T) * part. Overwrites Z.

    The target T is 1 - smoothing for the label y, and besides smoothing / classes for every class.
    """
    rows = np.arange(len(Z))
    Z -= Z.max(axis=1, keepdims=True)
    shifted = (1 - smoothing) * Z[rows, y] + smoothing * Z.mean(axis=1)
    E = np.exp(Z, out=Z)
    S = E.sum(axis=1, keepdims=True)
    losses = parts * (np.log(S[:, 0]) - shifted)
    loss = losses.sum(dtype=np.promote_types(Z.dtype, np.float64))
    dZ = np.divide(E, S, out=E)
    dZ[rows, y] -= 1 - smoothing
    dZ -= smoothing / Z.shape[1]
    dZ *= parts[:, None]
    return loss.item(), dZ


def _descend(w: Array, g: Array, v: Array, s: Array, rate: float, step: int) -> None:
    w -= rate * g


def _zeros_like(params: Params) -> list[tuple[Array, Array]]:
    return [(np.zeros_like(W), np.zeros_like(b)) for W, b in params]

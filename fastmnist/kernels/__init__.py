"""The functions of `fastmnist.reference` under the same names, compiled and multi-threaded.

Everything is computed in float32. Where parameters are a model's own (`fastmnist.MLP.params`) the
kernels work on its buffer; other lists of (W, b) are copied first, and back when training is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmnist.kernels.numba_advice import advice

try:
    import numba  # noqa: F401  # first of all, so that what stands in its way is told
except Exception as error:  # llvmlite raises OSError, a wrong variable NUMBA_... ValueError
    raise ImportError(advice(error), name="numba") from error

from fastmnist import checks
from fastmnist.augment import Augmentation, check_images
from fastmnist.dropout import Dropout, threshold
from fastmnist.kernels import epoch, network, prediction, team
from fastmnist.kernels.distort import Canvas, distortion_of, new_canvas
from fastmnist.kernels.fresh import Fresh, draw, fresh_rows
from fastmnist.kernels.network import (
    CHUNK,
    Rule,
    new_chunk,
    new_network,
    new_scratch,
    pieces_of,
)
from fastmnist.kernels.packed import Dense, Packed, columns_of, from_csr, rows_of
from fastmnist.optimizers import SGD, Adam, State
from fastmnist.parameters import Gradients, Parameters, aligned_zeros
from fastmnist.threads import thread_count

__all__ = [
    "augmented",
    "drawn",
    "forward",
    "from_csr",
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
    samples = _checked(X, own.sizes[0]) if isinstance(X, Rows) else checks.features(X, own.sizes[0])
    Z: NDArray[Any] = prediction.logits(own, samples, threads)
    return Z


def loss_and_gradients(
    params: Params,
    X: ArrayLike | Rows,
    y: ArrayLike,
    *,
    weights: NDArray[Any] | None = None,
    label_smoothing: float = 0.0,
    dropout: Dropout | None = None,
    samples: NDArray[Any] | None = None,
    threads: int | None = None,
) -> tuple[float, Gradients]:
    """Mean cross-entropy in nats per image, and its gradient with respect to every parameter.

    Parameters
    ----------
    params : list of (W, b)
    X, threads
        As in `forward`.
    y : array_like of int, shape (n,)
        Class numbers from 0.
    weights : ndarray of float, shape (n,), optional
        What each sample counts for, at least 0; the mean is over their sum. By default 1.
    label_smoothing : float
        In [0, 1): this share of each label is spread over all classes.
    dropout : Dropout, optional
        What is left out; of inputs only where `X` is an array.
    samples : ndarray of int, shape (n,), optional
        The samples' numbers, for `dropout`; by default from 0.

    Returns
    -------
    loss : float
    gradients : list of (dW, db)
        float32, shaped like `params`.
    """
    own = _own(params)
    gradient = Parameters(own.sizes)
    loss = _train(
        own,
        X,
        y,
        gradient=gradient,
        weights=weights,
        label_smoothing=label_smoothing,
        dropout=dropout,
        samples=samples,
        threads=threads,
    )
    return loss, gradient


def train_epoch(
    params: Params,
    X: ArrayLike | Rows | Fresh,
    y: ArrayLike,
    *,
    learning_rate: float | NDArray[Any] = 0.1,
    batch_size: int = 64,
    optimizer: SGD | Adam | None = None,
    state: State | None = None,
    order: NDArray[Any] | None = None,
    weights: NDArray[Any] | None = None,
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
        As in `loss_and_gradients`; X may be the result of `augmented`, too. `params` get the same
        bits for any number of threads.
    learning_rate : float or ndarray of shape (batches,)
        One rate, or one for each batch.
    batch_size : int
        Samples in a step; the last batch may be smaller.
    optimizer : SGD or Adam, optional
        By default SGD without momentum.
    state : State, optional
        What the optimiser carries from epoch to epoch, changed in place.
    order : ndarray of int, optional
        Which samples are taken, and in which order; by default all, as they stand.

    Returns
    -------
    float
        Loss in nats per image, each batch measured before its own step.
    """
    own = _own(params)
    state = State.zeros(own) if state is None else state
    own_state = State(_own(state.velocity), _own(state.squares), state.steps)
    loss = _train(
        own,
        X,
        y,
        state=own_state,
        learning_rate=learning_rate,
        batch_size=checks.whole("batch_size", batch_size, 1),
        optimizer=optimizer or SGD(),
        order=order,
        weights=weights,
        label_smoothing=label_smoothing,
        dropout=dropout,
        threads=threads,
    )
    state.steps = own_state.steps
    for given, trained in (
        (params, own),
        (state.velocity, own_state.velocity),
        (state.squares, own_state.squares),
    ):
        if given is not trained:
            for (W, b), (new_W, new_b) in zip(given, trained, strict=True):
                W[...], b[...] = new_W, new_b
    return loss


def prepare(X: ArrayLike | Rows, inputs: int | None = None) -> Rows:
    """`X` in the form the kernels work on, which every function here takes in its place.

    Packed if enough of its numbers are zero, else `X` itself, so that nothing is copied and later
    changes to `X` show. `inputs` is its width; None for any.
    """
    return _checked(X, inputs) if isinstance(X, Rows) else rows_of(checks.features(X, inputs))


def augmented(images: NDArray[np.uint8], augmentation: Augmentation, key: int) -> Fresh:
    """Images of shape (n, height, width) to train on, distorted as they are needed.

    `key` is `fastmnist.counter_based.epoch_key` of the epoch. Other images need not be prepared.
    """
    images = check_images(images)
    _, height, width = images.shape
    X = np.ascontiguousarray(images).reshape(len(images), height * width)
    return fresh_rows(X, distortion_of(augmentation, height, width, key))


def drawn(pictures: Fresh, *, threads: int | None = None) -> NDArray[np.uint8]:
    """What `augmented` images look like, uint8 of shape (n, height, width)."""
    distortion: Any = pictures.distortion
    height, width = distortion.height, distortion.width
    out = np.empty(pictures.X.shape, np.uint8)
    work = [
        (pictures.X, distortion, new_canvas(height, width), aligned_zeros(height * width + 16), out)
        for _ in range(min(thread_count(threads), max(1, len(out))))
    ]
    team.run_briefly(draw, work)
    return out.reshape(len(out), height, width)


def warmup(*, prediction: bool = True, augmentation: bool = False) -> None:
    """Compile, or load from disk, all that training on images needs.

    Parameters
    ----------
    prediction : bool
        And what predicting needs, else compiled at the first prediction.
    augmentation : bool
        For images that are distorted, in place of images as they are.
    """
    params = Parameters((4, 3, 2))
    images, y = np.zeros((2, 2, 2), np.uint8), np.zeros(2, np.int64)
    X = augmented(images, Augmentation(), 0) if augmentation else images
    train_epoch(params, X, y, threads=1)
    if prediction:
        forward(params, images, threads=1)


def _own(params: Params) -> Parameters:
    return params if isinstance(params, Parameters) else Parameters.copy_of(params)


def _train(
    params: Parameters,
    X: ArrayLike | Rows | Fresh,
    y: ArrayLike,
    *,
    gradient: Parameters | None = None,
    state: State | None = None,
    learning_rate: float | NDArray[Any] = 0.0,
    batch_size: int | None = None,
    optimizer: SGD | Adam | None = None,
    order: NDArray[Any] | None = None,
    weights: NDArray[Any] | None = None,
    label_smoothing: float = 0.0,
    dropout: Dropout | None = None,
    samples: NDArray[Any] | None = None,
    threads: int | None = None,
    ticks: Sequence[NDArray[np.int64]] | None = None,
) -> float:
    """One epoch; without an optimiser one batch of everything, whose gradient is the result."""
    dropout = dropout or Dropout()
    rows = _rows(X, params.sizes[0], dropout)
    labels = checks.labels(y, rows.rows, params.sizes[-1])
    order = np.arange(rows.rows) if order is None else checks.writable(order, np.int64)
    batch_size = batch_size or len(order)
    numbers = order if samples is None else checks.writable(samples, np.int64)
    rates = np.full(-(-len(order) // batch_size), learning_rate, np.float64)
    count = min(CHUNK, batch_size)
    parts = new_network(params, count, state, gradient)
    counted = None if weights is None else checks.weights(weights, rows.rows)
    losses = np.empty(len(order))
    members = thread_count(threads)
    run = team.run
    if optimizer is None and len(order) <= CHUNK:
        members, run = 1, team.run_briefly
    chunk = new_chunk(params.sizes, count)
    common = (
        *(
            rows,
            labels,
            counted,
            order,
            batch_size,
            _paces(optimizer, rates, state),
            _rule(optimizer),
        ),
        *(
            np.float32(checks.share("label_smoothing", label_smoothing)),
            _left_out(dropout, numbers),
        ),
    )
    work = [
        (
            *(member, members, pieces_of(member, members, parts.shapes), parts, chunk),
            *(new_scratch(params.sizes, count, _canvas(rows)), *common),
            *(losses, None if ticks is None else ticks[member]),
        )
        for member in range(members)
    ]
    run(epoch.train, work)
    if state:
        state.steps += len(rates)
    return float(np.average(losses, weights=None if counted is None else counted[order]))


def _rows(X: ArrayLike | Rows | Fresh, inputs: int, dropout: Dropout) -> Rows | Fresh:
    if isinstance(X, Fresh):
        _checked(X, inputs)
        return X
    if not dropout.inputs:
        return prepare(X, inputs)
    if isinstance(X, Rows):
        raise TypeError("dropout of inputs needs X as an array, not prepared")
    return fresh_rows(checks.features(X, inputs), None)


def _checked(rows: Any, inputs: int | None) -> Any:
    """`rows`, if they are as wide as the network; the kernels do not look."""
    columns = columns_of(rows)
    if inputs is not None and columns not in (inputs, None):
        raise ValueError(f"X has {columns} features a row, the network has {inputs} inputs")
    return rows


def _canvas(rows: Rows | Fresh) -> Canvas | None:
    if isinstance(rows, Fresh) and rows.distortion:
        return new_canvas(rows.distortion.height, rows.distortion.width)
    return None


def _rule(optimizer: SGD | Adam | None) -> Rule:
    """The optimiser as the kernels know it; None: only the gradient is wanted."""
    rule = optimizer or SGD()
    if isinstance(rule, Adam):
        momentum, squares, nesterov = rule.beta1, rule.beta2, False
    else:
        momentum, squares, nesterov = rule.momentum, 0.0, rule.nesterov
    return Rule(
        steps=optimizer is not None,
        plain=optimizer == SGD(),
        momentum=np.float32(momentum),
        nesterov=nesterov,
        adaptive=isinstance(rule, Adam),
        beta2=np.float32(squares),
        gain1=np.float32(1 - momentum),
        gain2=np.float32(1 - squares),
        decay=np.float32(0 if rule.decoupled else rule.weight_decay),
    )


def _paces(
    optimizer: SGD | Adam | None, rates: NDArray[np.float64], state: State | None
) -> NDArray[np.float32]:
    """A `Pace` for each step, float32 of shape (steps, 3).

    Adam's means, too small at first since they begin at zero, stay as they are; instead the rate
    and epsilon make up for it: Kingma and Ba 2015, end of section 2.
    """
    paces = np.ones((len(rates), 3))
    paces[:, 0], paces[:, 1] = rates, 0
    if optimizer and optimizer.decoupled:
        paces[:, 2] = 1 - rates * optimizer.weight_decay
    if isinstance(optimizer, Adam) and state:
        step = np.arange(state.steps + 1, state.steps + len(rates) + 1)
        root = np.sqrt(1 - optimizer.beta2**step)
        paces[:, 0] *= root / (1 - optimizer.beta1**step)
        paces[:, 1] = optimizer.epsilon * root
    return paces.astype(np.float32)


def _left_out(dropout: Dropout, numbers: NDArray[np.int64]) -> network.Dropout:
    """What is left out, as the kernels know it; sample i of a pass is number ``numbers[i]``."""
    return network.Dropout(
        np.uint64(dropout.key),
        *(np.int64(threshold(dropout.inputs)), np.float32(1 / (1 - dropout.inputs))),
        *(np.int64(threshold(dropout.hidden)), np.float32(1 / (1 - dropout.hidden))),
        *(numbers, 0),
    )

"""Implementations that are wrong on purpose: a check that lets one pass checks nothing.

Each fault is a function from an implementation to a faulted one.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from agreement import scaled

from fastmnist import reference


def _unmasked_gradients(params, X, y):
    """Backpropagation that has forgotten ReLU's derivative."""
    loss, _ = reference.loss_and_gradients(params, X, y)
    A = [scaled(X)]
    for W, b in params[:-1]:
        A.append(np.maximum(A[-1] @ W + b, 0))
    dZ = reference.forward(params, X)
    dZ[np.arange(len(y)), y] -= 1
    dZ /= len(y)
    gradients = []
    for inputs, (W, _) in zip(A[::-1], params[::-1], strict=True):
        gradients.append((inputs.T @ dZ, dZ.sum(axis=0)))
        dZ = dZ @ W.T
    return loss, gradients[::-1]


def _changed(change):
    """A gradient fault: `change(dW, db, n)` is what comes back for each layer."""

    def fault(right):
        def loss_and_gradients(params, X, y):
            loss, gradients = right.loss_and_gradients(params, X, y)
            return loss, [change(dW, db, len(X)) for dW, db in gradients]

        return SimpleNamespace(loss_and_gradients=loss_and_gradients)

    return fault


GRADIENTS = {
    "scaled by 1.0001": _changed(lambda dW, db, n: (dW * 1.0001, db * 1.0001)),
    "biases scaled by 1.0001": _changed(lambda dW, db, n: (dW, db * 1.0001)),
    "sum for mean": _changed(lambda dW, db, n: (dW * n, db * n)),
    "rows shifted by one": _changed(lambda dW, db, n: (np.roll(dW, 1, axis=0), db)),
    "last row forgotten": _changed(lambda dW, db, n: (np.vstack([dW[:-1], 0 * dW[-1:]]), db)),
    "no ReLU mask": lambda right: SimpleNamespace(loss_and_gradients=_unmasked_gradients),
}


def _other_arguments(change):
    """A fault of an epoch: it runs on what `change(X, y, options)` returns."""

    def fault(right):
        def train_epoch(params, X, y, **options):
            X, y, options = change(X, y, options)
            return right.train_epoch(params, X, y, **options)

        return SimpleNamespace(train_epoch=train_epoch)

    return fault


def _without_last_batch(X, y, options):
    order = np.arange(len(X)) if options["order"] is None else options["order"]
    kept = order[: len(order) // options["batch_size"] * options["batch_size"]]
    rates = options["learning_rate"]
    rates = rates if np.ndim(rates) == 0 else rates[: len(kept) // options["batch_size"]]
    return X[kept], y[kept], options | {"order": None, "learning_rate": rates}


EPOCHS = {
    "last batch forgotten": _other_arguments(_without_last_batch),
    "steps of 1.0001 times the length": _other_arguments(
        lambda X, y, o: (X, y, o | {"learning_rate": np.asarray(o["learning_rate"]) * 1.0001})
    ),
    "labels shifted by one row": _other_arguments(lambda X, y, o: (X, np.roll(y, 1), o)),
    "one rate for all batches": _other_arguments(
        lambda X, y, o: (X, y, o | {"learning_rate": float(np.mean(o["learning_rate"]))})
    ),
    "momentum forgotten": _other_arguments(lambda X, y, o: (X, y, o | {"optimizer": None})),
    "order ignored": _other_arguments(lambda X, y, o: (X, y, o | {"order": None})),
    "state not carried over": _other_arguments(lambda X, y, o: (X, y, o | {"state": None})),
}

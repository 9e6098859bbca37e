"""How good a network is: loss, accuracy, confusion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastmnist import checks
from fastmnist.datasets import Dataset
from fastmnist.model import MLP


@dataclass(frozen=True)
class Report:
    """Result of `evaluate`.

    Attributes
    ----------
    loss : float
        Mean cross-entropy in nats per image.
    accuracy : float
        Share of right predictions, 0 to 1.
    confusion : ndarray of int64, shape (classes, classes)
        Counts; rows are the true class, columns the prediction.
    """

    loss: float
    accuracy: float
    confusion: NDArray[np.int64]

    def mistakes(self, most: int = 5) -> list[tuple[int, int, int]]:
        """The most frequent confusions as (label, prediction, count), most frequent first."""
        wrong = self.confusion - np.diag(np.diag(self.confusion))
        ranked = np.argsort(-wrong, axis=None, kind="stable")[:most]
        pairs = [np.unravel_index(place, wrong.shape) for place in ranked]
        return [(int(y), int(p), int(wrong[y, p])) for y, p in pairs if wrong[y, p]]


def evaluate(model: MLP, dataset: Dataset, *, threads: int | None = None) -> Report:
    """Loss, accuracy and confusion of `model` on a labelled dataset.

    Raises
    ------
    TypeError, ValueError
        If the dataset has no samples or no labels, or does not fit the network.
    """
    from fastmnist import kernels  # Numba, only now

    if dataset.labels is None:
        raise ValueError(f"{dataset.name} has no labels to compare with")
    if not len(dataset):
        raise ValueError(f"{dataset.name} has no samples")
    classes = model.sizes[-1]
    y = checks.labels(dataset.labels, len(dataset), classes)
    Z = kernels.logits(model.params, dataset.images, threads=threads)
    return report(Z, y)


def report(Z: NDArray[np.float32], y: NDArray[np.int64]) -> Report:
    """The report on outputs `Z` (before softmax), shape (n, classes), with true classes `y`."""
    classes = Z.shape[1]
    predictions = Z.argmax(axis=1)
    confusion = np.bincount(y * classes + predictions, minlength=classes**2)
    shifted = Z - Z.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(shifted).sum(axis=1))
    loss = np.mean(log_sum - shifted[np.arange(len(y)), y], dtype=np.float64)
    return Report(
        float(loss), float(np.mean(predictions == y)), confusion.reshape(classes, classes)
    )

"""How good a network is: loss, accuracy, confusion, calibration."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastmnist import checks
from fastmnist.backends import backend_named
from fastmnist.datasets import Dataset
from fastmnist.model import MLP

BINS = 15  # of confidence, for the calibration error
WORST = 24  # misread images that a report names, at most


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
    calibration_error : float
        How far the probability of the predicted class is from the share of right predictions,
        0 to 1: the mean over 15 equal bins of that probability, weighted by their samples
        (expected calibration error: Guo, Pleiss, Sun and Weinberger 2017, arXiv:1706.04599).
    worst : ndarray of int64
        Indices of up to 24 misread samples, that with the least probable label first.
    """

    loss: float
    accuracy: float
    confusion: NDArray[np.int64]
    calibration_error: float
    worst: NDArray[np.int64]

    def mistakes(self, most: int = 5) -> list[tuple[int, int, int]]:
        """The most frequent confusions as (label, prediction, count), most frequent first."""
        wrong = self.confusion - np.diag(np.diag(self.confusion))
        ranked = np.argsort(-wrong, axis=None, kind="stable")[:most]
        pairs = [np.unravel_index(place, wrong.shape) for place in ranked]
        return [(int(y), int(p), int(wrong[y, p])) for y, p in pairs if wrong[y, p]]


def evaluate(
    model: MLP, dataset: Dataset, *, backend: str = "auto", threads: int | None = None
) -> Report:
    """Loss, accuracy and confusion of `model` on a labelled dataset.

    Parameters
    ----------
    model : MLP
    dataset : Dataset
    backend, threads
        As `fastmnist.fit` takes them.

    Raises
    ------
    TypeError, ValueError
        If the dataset has no samples or no labels, or does not fit the network.
    """
    if dataset.labels is None:
        raise ValueError(f"{dataset.name} has no labels to compare with")
    if not len(dataset):
        raise ValueError(f"{dataset.name} has no samples")
    with checks.naming(dataset.name):
        y = checks.labels(dataset.labels, len(dataset), model.sizes[-1])
        X = checks.images(dataset.images, model.sizes[0])
    with np.errstate(over="ignore", invalid="ignore"):
        Z = backend_named(backend).logits(model.params, X, threads=threads)
    if not np.isfinite(Z).all():
        raise ValueError(f"{dataset.name}: outputs are not finite; scale the features to about 1")
    return report(Z, y)


def report(Z: NDArray[np.float32], y: NDArray[np.int64]) -> Report:
    """The report on outputs `Z` (before softmax), shape (n, classes), with true classes `y`."""
    classes = Z.shape[1]
    predictions = Z.argmax(axis=1)
    confusion = np.bincount(y * classes + predictions, minlength=classes**2)
    shifted = Z - Z.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(shifted).sum(axis=1))
    losses = log_sum - shifted[np.arange(len(y)), y]
    right = predictions == y
    worst = np.argsort(np.where(right, -np.inf, losses), kind="stable")[::-1]
    return Report(
        loss=float(np.mean(losses, dtype=np.float64)),
        accuracy=float(np.mean(right)),
        confusion=confusion.reshape(classes, classes),
        calibration_error=_calibration_error(np.exp(-log_sum), right),
        worst=worst[: min(WORST, len(y) - int(right.sum()))],
    )


def _calibration_error(confidence: NDArray[np.float32], right: NDArray[np.bool_]) -> float:
    bins = np.minimum((BINS * confidence).astype(np.int64), BINS - 1)
    excess = np.bincount(bins, confidence.astype(np.float64) - right, minlength=BINS)
    return float(np.abs(excess).sum() / len(right))

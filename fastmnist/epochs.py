"""What an epoch trains on: which samples, in which order, distorted how."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmnist import checks
from fastmnist.augment import Augmentation, augmented, check_images
from fastmnist.checkpoints import fingerprint
from fastmnist.counter_based import epoch_key
from fastmnist.datasets import Dataset
from fastmnist.parameters import Parameters


def epoch_rows(
    backend: ModuleType,
    train: Dataset,
    X: NDArray[Any],
    augmentation: Augmentation | None,
    input_dropout: float,
    seed: int,
) -> Callable[[int], Any]:
    """What the backend trains on in an epoch of that number."""
    if augmentation is None:
        prepared = X if input_dropout else backend.prepare(X)
        return lambda number: prepared
    images = check_images(train.images)
    if hasattr(backend, "augmented"):  # as the kernels need them, without a copy of all
        return lambda number: backend.augmented(images, augmentation, epoch_key(seed, number))
    return lambda number: augmented(images, augmentation, seed=seed, epoch=number)


def epoch_order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """The order of an epoch's samples: a permutation that depends on nothing but its arguments."""
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(count)


def set_aside(
    train: Dataset, validation: int | Dataset | None, seed: int
) -> tuple[Dataset, Dataset | None]:
    """The training set and the set to validate with: samples set aside at random, or its own."""
    if validation is None or isinstance(validation, Dataset):
        return train, validation
    held = checks.whole("validation", validation, 1)
    if held >= len(train):
        raise ValueError(f"validation must leave samples to train: {held} of {len(train)}")
    order = np.random.default_rng(seed).permutation(len(train))
    return train[np.sort(order[held:])], train[np.sort(order[:held])]


def samples_of(data: Dataset, sizes: Sequence[int]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Features and labels of a dataset, checked to fit the network."""
    if data.labels is None:
        raise ValueError(f"{data.name} has no labels")
    if not len(data):
        raise ValueError(f"{data.name} has no samples")
    with checks.naming(data.name):
        X = checks.images(data.images, sizes[0])
        return X, checks.labels(data.labels, len(X), sizes[-1])


def samples_identity(X: NDArray[Any], y: NDArray[Any]) -> str:
    """What tells these samples from others."""
    return f"{len(X):,} samples ({fingerprint(X, y)})"


def finite(loss: float, params: Parameters) -> bool:
    """Whether a training has not diverged."""
    return math.isfinite(loss) and bool(np.isfinite(params.flat).all())

"""fit(): the one training loop, for both backends."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from fastmnist import checks, metrics
from fastmnist.datasets import Dataset
from fastmnist.errors import DivergedError
from fastmnist.model import MLP
from fastmnist.optimizers import SGD, Schedule, optimizer_named, rates
from fastmnist.parameters import Parameters

BACKENDS = ("numba", "reference")


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave.

    Attributes
    ----------
    loss : float
        Mean cross-entropy in nats per image, each batch measured before its own step.
    validation_loss, validation_accuracy : float or None
        After the epoch; None without validation.
    seconds : float
        Training alone, without validation and callbacks.
    learning_rate : float
        Of the epoch's last step.
    """

    loss: float
    validation_loss: float | None
    validation_accuracy: float | None
    seconds: float
    learning_rate: float


class History(Sequence[Epoch]):
    """The epochs of a training, in order; each quantity also as a list: ``history.loss``."""

    def __init__(self, epochs: Iterable[Epoch] = ()) -> None:
        self._epochs = list(epochs)

    @overload
    def __getitem__(self, index: int) -> Epoch: ...
    @overload
    def __getitem__(self, index: slice) -> History: ...
    def __getitem__(self, index: int | slice) -> Epoch | History:
        found = self._epochs[index]
        return History(found) if isinstance(found, list) else found

    def __len__(self) -> int:
        return len(self._epochs)

    def __repr__(self) -> str:
        return f"History({self._epochs!r})"

    @property
    def loss(self) -> list[float]:
        """Training loss of each epoch, nats per image."""
        return [epoch.loss for epoch in self]

    @property
    def validation_loss(self) -> list[float | None]:
        """Validation loss after each epoch, nats per image."""
        return [epoch.validation_loss for epoch in self]

    @property
    def validation_accuracy(self) -> list[float | None]:
        """Validation accuracy after each epoch, 0 to 1."""
        return [epoch.validation_accuracy for epoch in self]

    @property
    def seconds(self) -> list[float]:
        """Training time of each epoch."""
        return [epoch.seconds for epoch in self]

    @property
    def learning_rate(self) -> list[float]:
        """Learning rate of each epoch's last step."""
        return [epoch.learning_rate for epoch in self]


Callback = Callable[[MLP, Epoch], object]


def fit(
    model: MLP,
    train: Dataset,
    *,
    epochs: int = 5,
    batch_size: int = 64,
    learning_rate: float = 0.1,
    optimizer: str | SGD = "nesterov",
    schedule: str | Schedule = "one-cycle",
    validation: int | Dataset | None = None,
    backend: str = "numba",
    threads: int | None = None,
    seed: int = 0,
    progress: bool = False,
    callbacks: Sequence[Callback] = (),
) -> History:
    """Train `model` in place.

    Parameters
    ----------
    model : MLP
    train : Dataset
    epochs : int
        Passes over the training set, each in a new random order.
    batch_size : int
        Samples in a step; larger than the set means all of it.
    learning_rate : float
        The schedule's peak; positive.
    optimizer : {"sgd", "momentum", "nesterov"} or SGD
        The names mean momentum 0, 0.9 and 0.9.
    schedule : {"constant", "one-cycle"} or callable
        A callable maps the share of the training that is done, an array in [0, 1), to factors.
    validation : int or Dataset, optional
        Samples to set aside from `train`, drawn at random, or a set of its own.
    backend : {"numba", "reference"}
        The kernels, or plain NumPy.
    threads : int, optional
        By default as many as this process may use. The kernels give the same bits for any number.
    seed : int
        Of the order of samples and the choice of validation samples.
    progress : bool
        Print a line per epoch on standard error.
    callbacks : sequence of callable
        Each is called as ``callback(model, epoch)`` after every epoch.

    Returns
    -------
    History

    Raises
    ------
    TypeError, ValueError
        If an argument is out of its range or the data does not fit the network; nothing changed.
    DivergedError
        If the loss or a parameter becomes infinite or NaN.
    KeyboardInterrupt
        On Ctrl-C, within one batch. After this and after divergence the model has the parameters
        of the last whole epoch.
    """
    epochs = checks.whole("epochs", epochs, 1)
    batch_size = checks.whole("batch_size", batch_size, 1)
    seed = checks.whole("seed", seed, 0, 2**63 - 1)
    peak = checks.positive("learning_rate", learning_rate)
    rule = optimizer_named(optimizer)
    if threads is not None:
        threads = checks.whole("threads", threads, 1)
    train, held_out = _split(train, validation, seed)
    backend_module = _backend(checks.nearest("backend", backend, BACKENDS))
    X, y = _samples(train, model)
    if held_out is not None:
        _samples(held_out, model)  # wrong ones are found now, not after the first epoch
    rows = backend_module.prepare(X)
    batches = math.ceil(len(X) / batch_size)
    step_rates = rates(schedule, peak, epochs * batches).reshape(epochs, batches)
    velocity = Parameters(model.sizes)
    report_to = (*((_Printer(epochs),) if progress else ()), *callbacks)

    history: list[Epoch] = []
    for number in range(epochs):
        before = model.params.flat.copy()
        started = time.perf_counter()
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # divergence is looked for below
                loss = backend_module.train_epoch(
                    model.params,
                    rows,
                    y,
                    learning_rate=step_rates[number],
                    batch_size=batch_size,
                    optimizer=rule,
                    velocity=velocity,
                    order=epoch_order(seed, number, len(X)),
                    threads=threads,
                )
            seconds = time.perf_counter() - started
            if not (math.isfinite(loss) and np.isfinite(model.params.flat).all()):
                raise DivergedError(
                    f"training diverged in epoch {number + 1}: loss {loss:.4g}; the model keeps "
                    f"the parameters from before; try a learning rate below {peak:g}"
                )
        except BaseException:
            model.params.flat[:] = before
            raise
        scores = None
        if held_out is not None:
            scores = metrics.evaluate(model, held_out, threads=threads)
        epoch = Epoch(
            loss,
            scores.loss if scores else None,
            scores.accuracy if scores else None,
            seconds,
            float(step_rates[number, -1]),
        )
        history.append(epoch)
        for callback in report_to:
            callback(model, epoch)
    return History(history)


def epoch_order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """The order of an epoch's samples: a permutation that depends on nothing but its arguments."""
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(count)


def _split(
    train: Dataset, validation: int | Dataset | None, seed: int
) -> tuple[Dataset, Dataset | None]:
    """The training set and the set to validate with."""
    if validation is None or isinstance(validation, Dataset):
        return train, validation
    held = checks.whole("validation", validation, 1)
    if held >= len(train):
        raise ValueError(f"validation must leave samples to train: {held} of {len(train)}")
    order = np.random.default_rng(seed).permutation(len(train))
    return train[np.sort(order[held:])], train[np.sort(order[:held])]


def _samples(data: Dataset, model: MLP) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Features and labels of a dataset, checked to fit the network."""
    if data.labels is None:
        raise ValueError(f"{data.name} has no labels")
    if not len(data):
        raise ValueError(f"{data.name} has no samples")
    X = checks.features(data.images, model.sizes[0])
    return X, checks.labels(data.labels, len(X), model.sizes[-1])


def _backend(name: str) -> ModuleType:
    if name == "reference":
        from fastmnist import reference

        return reference
    from fastmnist import kernels  # Numba, only now

    return kernels


class _Printer:
    """A callback that prints a line per epoch on standard error."""

    def __init__(self, epochs: int) -> None:
        self._done, self._epochs = 0, epochs

    def __call__(self, model: Any, epoch: Epoch) -> None:
        self._done += 1
        print(f"epoch {self._done}/{self._epochs}: {describe(epoch)}", file=sys.stderr)


def describe(epoch: Epoch) -> str:
    """One line on an epoch, for people."""
    line = f"loss {epoch.loss:.4f}"
    if epoch.validation_accuracy is not None:
        line += f", validation {100 * epoch.validation_accuracy:.2f} %"
    return f"{line}, {epoch.seconds:.2f} s"

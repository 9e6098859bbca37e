"""fit(): the one training loop, for both backends."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from fastmnist import checks, metrics
from fastmnist.augment import Augmentation, augmented, check_images
from fastmnist.counter_based import epoch_key
from fastmnist.datasets import Dataset
from fastmnist.dropout import Dropout
from fastmnist.errors import DivergedError
from fastmnist.model import MLP
from fastmnist.optimizers import SGD, Adam, Schedule, State, optimizer_named, rates, usual_rate

BACKENDS = ("numba", "reference")


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave.

    Attributes
    ----------
    loss : float
        Mean cross-entropy in nats per image, each batch measured before its own step, with
        whatever makes training harder: distorted images, units left out, smoothed labels.
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
    learning_rate: float | None = None,
    optimizer: str | SGD | Adam = "nesterov",
    schedule: str | Schedule = "one-cycle",
    label_smoothing: float = 0.0,
    dropout: float = 0.0,
    input_dropout: float = 0.0,
    augmentation: Augmentation | None = None,
    averaging: float = 0.0,
    validation: int | Dataset | None = None,
    patience: int | None = None,
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
    learning_rate : float, optional
        The schedule's peak; positive. By default 0.1, for Adam 0.003.
    optimizer : {"sgd", "momentum", "nesterov", "adam", "adamw"}, SGD or Adam
        The names mean momentum 0, 0.9 and 0.9, and Adam's defaults without weight decay and with
        0.01, decoupled.
    schedule : str or callable
        A name in `fastmnist.optimizers.SCHEDULES`, or what maps the share of the training that is
        done, an array in [0, 1), to factors.
    label_smoothing : float
        In [0, 1): this share of each label is spread over all classes.
    dropout, input_dropout : float
        In [0, 1): share of each hidden layer's units, and of the inputs, that is left out, other
        ones for each sample and epoch.
    augmentation : Augmentation, optional
        Distorts images, otherwise in each epoch; they must be uint8 of shape (n, height, width).
    averaging : float
        In [0, 1): at the end the parameters become their mean over the ends of the epochs in this
        last part of the training (Izmailov et al. 2018, arXiv:1803.05407).
    validation : int or Dataset, optional
        Samples to set aside from `train`, drawn at random, or a set of its own.
    patience : int, optional
        Training stops early after so many epochs without a smaller validation loss, and the
        parameters become those with the smallest.
    backend : {"numba", "reference"}
        The kernels, or plain NumPy.
    threads : int, optional
        By default as many as this process may use. The kernels give the same bits for any number.
    seed : int
        From 0 to 2**63 - 1, of any integer type. Of the order of samples, of what is left out, of
        distortions, and of the choice of validation samples.
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
        If an argument is out of its range, the data does not fit the network, or patience lacks
        validation or is joined with averaging; nothing changed.
    DivergedError
        If the loss or a parameter becomes infinite or NaN.
    KeyboardInterrupt
        On Ctrl-C, within one batch. After this and after divergence the model has the parameters
        of the last whole epoch.
    """
    epochs = checks.whole("epochs", epochs, 1)
    batch_size = checks.whole("batch_size", batch_size, 1)
    seed = checks.whole("seed", seed, 0, 2**63 - 1)
    rule = optimizer_named(optimizer)
    peak = usual_rate(rule)
    if learning_rate is not None:
        peak = checks.positive("learning_rate", learning_rate)
    label_smoothing = checks.share("label_smoothing", label_smoothing)
    Dropout(dropout, input_dropout)  # checked now
    averaged_from = epochs  # none
    if checks.share("averaging", averaging):
        averaged_from = min(round(epochs * (1 - averaging)), epochs - 1)
    if not isinstance(augmentation, Augmentation | None):
        raise TypeError(f"augmentation must be an Augmentation or None, got {augmentation!r}")
    if patience is not None:
        patience = checks.whole("patience", patience, 1)
        if validation is None or averaging:
            raise ValueError("patience needs validation, and no averaging")
    if threads is not None:
        threads = checks.whole("threads", threads, 1)
    train, held_out = _split(train, validation, seed)
    backend = checks.nearest("backend", backend, BACKENDS)
    backend_module = _backend(backend)
    X, y = _samples(train, model)
    if held_out is not None:
        _samples(held_out, model)  # wrong ones are found now, not after the first epoch
    rows_of = _epoch_rows(backend_module, train, X, augmentation, input_dropout, seed, threads)
    batches = math.ceil(len(X) / batch_size)
    step_rates = rates(schedule, peak, epochs * batches).reshape(epochs, batches)
    state = State.zeros(model.params)
    report_to = (*((_Printer(epochs),) if progress else ()), *callbacks)
    average, best = _Average(), _Best()

    history: list[Epoch] = []
    for number in range(epochs):
        started = time.perf_counter()
        with _undone_on_failure(model):
            loss = backend_module.train_epoch(
                model.params,
                rows_of(number),
                y,
                learning_rate=step_rates[number],
                batch_size=batch_size,
                optimizer=rule,
                state=state,
                order=epoch_order(seed, number, len(X)),
                label_smoothing=label_smoothing,
                dropout=Dropout(dropout, input_dropout, epoch_key(seed, number)),
                threads=threads,
            )
            if not (math.isfinite(loss) and np.isfinite(model.params.flat).all()):
                raise DivergedError(
                    f"training diverged in epoch {number + 1}: loss {loss:.4g}; the model keeps "
                    f"the parameters from before; try a learning rate below {peak:g}"
                )
        seconds = time.perf_counter() - started
        if number >= averaged_from:
            average.add(model)
        if number == epochs - 1 and averaging:
            average.restore(model)
        scores = metrics.evaluate(model, held_out, threads=threads) if held_out else None
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
        if patience and scores:
            best.note(model, scores.loss)
            if best.age == patience:
                break
    if patience:
        best.restore(model)
    return History(history)


def _epoch_rows(
    backend: ModuleType,
    train: Dataset,
    X: NDArray[Any],
    augmentation: Augmentation | None,
    input_dropout: float,
    seed: int,
    threads: int | None,
) -> Callable[[int], Any]:
    """What the backend trains on in an epoch of that number."""
    if augmentation is None:
        prepared = X if input_dropout else backend.prepare(X)
        return lambda number: prepared
    images = check_images(train.images)
    if hasattr(backend, "augmented"):  # as the kernels need them, without a copy of all
        return lambda number: backend.augmented(images, augmentation, epoch_key(seed, number))
    return lambda number: augmented(images, augmentation, seed=seed, epoch=number, threads=threads)


@contextlib.contextmanager
def _undone_on_failure(model: MLP) -> Iterator[None]:
    """The parameters are what they were before if the block fails."""
    before = model.params.flat.copy()
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # divergence is looked for inside
            yield
    except BaseException:
        model.params.flat[:] = before
        raise


class _Average:
    """The mean of a network's parameters at several times."""

    def __init__(self) -> None:
        self._count, self._mean = 0, np.empty(0, np.float32)

    def add(self, model: MLP) -> None:
        if not self._count:
            self._mean = np.zeros_like(model.params.flat)
        self._count += 1
        self._mean += (model.params.flat - self._mean) / np.float32(self._count)

    def restore(self, model: MLP) -> None:
        model.params.flat[:] = self._mean


class _Best:
    """The parameters with the smallest validation loss, and how many epochs ago they were."""

    def __init__(self) -> None:
        self.age, self._loss, self._params = 0, math.inf, np.empty(0, np.float32)

    def note(self, model: MLP, loss: float) -> None:
        if loss < self._loss:
            self.age, self._loss, self._params = 0, loss, model.params.flat.copy()
        else:
            self.age += 1

    def restore(self, model: MLP) -> None:
        if self._params.size:  # else no loss was a number
            model.params.flat[:] = self._params


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
    with checks.naming(data.name):
        X = checks.images(data.images, model.sizes[0])
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

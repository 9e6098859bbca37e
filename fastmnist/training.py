"""fit(): the one training loop, for both backends."""

from __future__ import annotations

import bisect
import copy
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmnist import checks, metrics
from fastmnist.augment import Augmentation
from fastmnist.backends import backend_named, resolved
from fastmnist.checkpoints import Checkpoint, Identity, fingerprint, kept
from fastmnist.counter_based import epoch_key
from fastmnist.datasets import Dataset
from fastmnist.dropout import Dropout
from fastmnist.epochs import (
    epoch_order,
    epoch_rows,
    finite,
    samples_identity,
    samples_of,
    set_aside,
)
from fastmnist.errors import DivergedError
from fastmnist.history import Epoch, History, Printer
from fastmnist.model import MLP
from fastmnist.optimizers import SGD, Adam, Schedule, State, optimizer_named, rates, usual_rate
from fastmnist.parameters import Parameters

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
    backend: str = "auto",
    threads: int | None = None,
    seed: int = 0,
    checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
    resume: bool = False,
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
    backend : {"auto", "numba", "reference"}
        The kernels, or plain NumPy. "auto" takes the kernels, and warns if Numba is missing or
        broken and NumPy has to do.
    threads : int, optional
        By default as many as this process may use. The kernels give the same bits for any number.
    seed : int
        From 0 to 2**63 - 1, of any integer type. Of the order of samples, of what is left out, of
        distortions, and of the choice of validation samples.
    checkpoint : path-like or Checkpoint, optional
        A file (.npz) in which all that is needed to go on is kept: written at the beginning and
        after every epoch, whole or not at all. `fastmnist.MLP.load` reads the model in it.
    resume : bool
        Go on from that file, which must be of the same training: same data and settings, but for
        `threads`, `progress` and `callbacks`. The kernels then give the same bits as without a
        pause. The model becomes the file's.
    progress : bool
        Print a line per epoch on standard error.
    callbacks : sequence of callable
        Each is called as ``callback(model, epoch)`` after every epoch, before it is kept.

    Returns
    -------
    History

    Raises
    ------
    TypeError, ValueError
        If an argument is out of its range, the data does not fit the network, or patience lacks
        validation or is joined with averaging; if the checkpoint is of another training, or is
        there and not to be resumed. Nothing changed.
    ModelFileError, DataError, OSError
        If there is no checkpoint to resume, it is damaged, in use, or cannot be written; the one
        before is unchanged.
    ImportError
        If the backend is "numba", and Numba is missing or broken.
    DivergedError
        If the loss or a parameter becomes infinite or NaN.
    KeyboardInterrupt
        On Ctrl-C, within one batch. After this, divergence, and a checkpoint that cannot be written
        the model has the parameters of the last whole epoch.
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
    train, held_out = set_aside(train, validation, seed)
    backend = resolved(backend)
    backend_module = backend_named(backend)
    X, y = samples_of(train, model.sizes)
    if held_out is not None:
        samples_of(held_out, model.sizes)  # wrong ones are found now, not after the first epoch
    batches = math.ceil(len(X) / batch_size)
    course = _Course(
        backend_module,
        epoch_rows(backend_module, train, X, augmentation, input_dropout, seed),
        y,
        rates(schedule, peak, epochs * batches).reshape(epochs, batches),
        batch_size,
        rule,
        seed,
        {"label_smoothing": label_smoothing, "threads": threads},
        Dropout(dropout, input_dropout),
    )

    def identity() -> Identity:
        return {
            "sizes": "-".join(map(str, model.sizes)),
            "train": samples_identity(X, y),
            "validation": held_out and samples_identity(*samples_of(held_out, model.sizes)),
            "epochs": epochs,
            "batch_size": batch_size,
            "learning_rate": peak,
            "optimizer": repr(rule),
            "schedule": schedule if isinstance(schedule, str) else repr(schedule),
            "learning rates": fingerprint(course.rates),
            "label_smoothing": label_smoothing,
            "dropout": float(dropout),
            "input_dropout": float(input_dropout),
            "augmentation": repr(augmentation),
            "averaging": float(averaging),
            "patience": patience,
            "backend": backend,
            "seed": seed,
        }

    with kept(checkpoint, model, identity, resume=resume) as (done, save):
        report_to = [*callbacks]
        if progress:
            report_to.insert(0, Printer("epoch", epochs, len(done.history)))
        for number in range(len(done.history), epochs):
            if patience and done.best.age == patience:
                break
            started = time.perf_counter()
            loss = course.train(model, done.state, number)
            seconds = time.perf_counter() - started
            if number >= averaged_from:
                done.average.add(model.params)
            if number == epochs - 1:
                done.average.restore(model.params)
            scores = None
            if held_out:
                scores = metrics.evaluate(model, held_out, backend=backend, threads=threads)
            epoch = Epoch(
                loss,
                scores.loss if scores else None,
                scores.accuracy if scores else None,
                seconds,
                float(course.rates[number, -1]),
            )
            done.history.append(epoch)
            if patience and scores:
                done.best.note(model.params, scores.loss)
            for callback in report_to:
                callback(model, epoch)
            save()
        if patience:
            done.best.restore(model.params)
    return History(done.history)


@dataclass(frozen=True)
class _Course:
    """The epochs of a training: `rates` has a row for each, and a column for each batch."""

    backend: ModuleType
    rows_of: Callable[[int], Any]
    y: NDArray[np.int64]
    rates: NDArray[np.float64]
    batch_size: int
    optimizer: SGD | Adam
    seed: int
    options: dict[str, Any]
    dropout: Dropout

    def train(self, model: MLP, state: State, number: int) -> float:
        """Train an epoch and return its loss; if it fails, the model is what it was before."""
        rows, batches = self.rows_of(number), self.rates.shape[1]
        params, state_before = Parameters.copy_of(model.params), copy.deepcopy(state)
        loss = self._batches(params, state, number, rows, batches)
        if not finite(loss, params):

            def diverges(batches: int) -> bool:
                tried = Parameters.copy_of(model.params)
                state = copy.deepcopy(state_before)
                return not finite(self._batches(tried, state, number, rows, batches), tried)

            batch = 1 + bisect.bisect(range(1, batches), False, key=diverges)
            raise DivergedError(
                f"training diverged in epoch {number + 1}, batch {batch} of {batches}; the model "
                f"keeps the parameters from before that epoch; try a learning rate below "
                f"{self.rates.max():g}, and look for extreme numbers in the data",
                epoch=number + 1,
                batch=batch,
            )
        model.params.flat[:] = params.flat  # in one go: Ctrl-C leaves a whole epoch's
        return loss

    def _batches(
        self, params: Parameters, state: State, number: int, rows: Any, batches: int
    ) -> float:
        """Train the first batches of an epoch, in place, and return their loss."""
        order = epoch_order(self.seed, number, len(self.y))
        key = epoch_key(self.seed, number)
        with np.errstate(over="ignore", invalid="ignore"):  # divergence is looked for
            loss: float = self.backend.train_epoch(
                params,
                rows,
                self.y,
                learning_rate=self.rates[number, :batches],
                batch_size=self.batch_size,
                optimizer=self.optimizer,
                state=state,
                order=order[: batches * self.batch_size],
                dropout=replace(self.dropout, key=key),
                **self.options,
            )
        return loss

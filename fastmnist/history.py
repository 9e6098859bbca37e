"""What a training gave, epoch by epoch."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import overload


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


def describe(epoch: Epoch) -> str:
    """One line on an epoch, for people."""
    line = f"loss {epoch.loss:.4f}"
    if epoch.validation_accuracy is not None:
        line += f", validation {100 * epoch.validation_accuracy:.2f} %"
    return f"{line}, {epoch.seconds:.2f} s"


class Printer:
    """A callback of `fit` that prints a line on standard error for each epoch, or whatever it is.

    Parameters
    ----------
    unit : str
        What is counted.
    count, done : int
        How many there will be, and how many there were before.
    """

    def __init__(self, unit: str, count: int, done: int) -> None:
        self._unit, self._count, self._done = unit, count, done

    def __call__(self, model: object, epoch: Epoch) -> None:
        """One more."""
        self._done += 1
        print(f"{self._unit} {self._done}/{self._count}: {describe(epoch)}", file=sys.stderr)

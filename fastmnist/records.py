"""The record of a training: a JSON file beside the model, for whoever looks at the model later."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fastmnist.errors import DataError
from fastmnist.files import atomic_write, open_regular
from fastmnist.history import Epoch


@dataclass(frozen=True)
class Record:
    """What a model was trained with, and what came of it.

    Attributes
    ----------
    data : str
        A name or a path that `fastmnist.load` takes.
    class_names : sequence of str
    sizes : sequence of int
        Inputs, units in each hidden layer, classes.
    recipe : str
    seed : int
    test_accuracy : float
        0 to 1.
    test_loss : float
        Nats per image.
    train_seconds : float
        Training alone, without compilation and validation.
    epochs : sequence of Epoch
    """

    data: str
    class_names: Sequence[str]
    sizes: Sequence[int]
    recipe: str
    seed: int
    test_accuracy: float
    test_loss: float
    train_seconds: float
    epochs: Sequence[Epoch]

    def as_dict(self) -> dict[str, Any]:
        """The record in types that JSON has."""
        return asdict(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the record to `path`, whole or not at all."""
        with atomic_write(path) as file:
            file.write(json.dumps(self.as_dict(), indent=1).encode())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Record:
        """Read a record that `save` has written.

        Raises
        ------
        DataError
            If the file cannot be read or is anything else.
        """
        with open_regular(path) as file:
            content = file.read()
        try:
            found = json.loads(content)
            epochs = [Epoch(**epoch) for epoch in found.pop("epochs")]
            record = cls(epochs=epochs, **found)
            well_typed = (
                isinstance(record.data, str)
                and all(isinstance(name, str) for name in record.class_names)
                and all(isinstance(epoch.loss, float) for epoch in epochs)
                and all(isinstance(epoch.validation_loss, float | None) for epoch in epochs)
            )
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
            raise DataError(f"{path}: not the record of a training: {error!r}") from error
        if not (epochs and well_typed):
            raise DataError(f"{path}: not the record of a training")
        return record

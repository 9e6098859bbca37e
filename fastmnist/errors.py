"""The package's own exceptions."""

from __future__ import annotations

from typing import Any


class DataError(ValueError):
    """A dataset's file is not what it should be, or cannot be found."""


class DownloadError(DataError):
    """No mirror could deliver a dataset."""


class ModelFileError(ValueError):
    """A file is not a model that can be loaded."""


class ClusterError(OSError):
    """A scheduler or its workers cannot be reached, were lost, or have another version."""


class DivergedError(ArithmeticError):
    """The loss or a parameter became NaN or infinite.

    Attributes
    ----------
    epoch, batch : int
        When, both from 1.
    """

    def __init__(self, message: str, *, epoch: int, batch: int) -> None:
        super().__init__(message)
        self.epoch, self.batch = epoch, batch

    def __reduce__(self) -> tuple[Any, ...]:  # so that it can be raised in another process
        return _diverged, (str(self), self.epoch, self.batch)


def _diverged(message: str, epoch: int, batch: int) -> DivergedError:
    return DivergedError(message, epoch=epoch, batch=batch)

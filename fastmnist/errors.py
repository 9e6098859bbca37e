"""The package's own exceptions."""


class DataError(ValueError):
    """A dataset's file is not what it should be, or cannot be found."""


class DownloadError(DataError):
    """No mirror could deliver a dataset."""


class ModelFileError(ValueError):
    """A file is not a model that can be loaded."""


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

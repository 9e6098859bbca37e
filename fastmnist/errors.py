"""The package's own exceptions."""


class DataError(ValueError):
    """A dataset's file is not what it should be, or cannot be found."""


class DownloadError(DataError):
    """No mirror could deliver a dataset."""


class ModelFileError(ValueError):
    """A file is not a model that can be loaded."""


class DivergedError(ArithmeticError):
    """The loss or a parameter became NaN or infinite."""

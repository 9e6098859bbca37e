"""Neural networks for MNIST, written twice: a reference to read, kernels to run fast.

>>> import fastmnist as fm
>>> data = fm.load("generated")
>>> model = fm.MLP([784, 128, 10], seed=0)
>>> history = fm.fit(model, data.train, epochs=4, batch_size=64)
>>> fm.evaluate(model, data.test).accuracy > 0.9
True
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastmnist import distributed, kernels, plots, reference
    from fastmnist.augment import Augmentation, augmented
    from fastmnist.datasets import Dataset, load
    from fastmnist.errors import (
        ClusterError,
        DataError,
        DivergedError,
        DownloadError,
        ModelFileError,
    )
    from fastmnist.history import Epoch, History
    from fastmnist.kernels import warmup
    from fastmnist.metrics import Report, evaluate
    from fastmnist.model import MLP
    from fastmnist.optimizers import SGD, Adam
    from fastmnist.training import fit

__version__ = "0.1.0"

_MODULES = ("distributed", "kernels", "plots", "reference")

# Where each public name lives. Imported at first use (PEP 562), so that `import fastmnist`
# loads neither Numba nor Matplotlib.
_HOMES = {
    "Augmentation": "augment",
    "augmented": "augment",
    "Dataset": "datasets",
    "load": "datasets",
    "ClusterError": "errors",
    "DataError": "errors",
    "DivergedError": "errors",
    "DownloadError": "errors",
    "ModelFileError": "errors",
    "warmup": "kernels",
    "Report": "metrics",
    "evaluate": "metrics",
    "MLP": "model",
    "Adam": "optimizers",
    "SGD": "optimizers",
    "Epoch": "history",
    "History": "history",
    "fit": "training",
}

__all__ = [
    "MLP",
    "SGD",
    "Adam",
    "Augmentation",
    "ClusterError",
    "DataError",
    "Dataset",
    "DivergedError",
    "DownloadError",
    "Epoch",
    "History",
    "ModelFileError",
    "Report",
    "__version__",
    "augmented",
    "distributed",
    "evaluate",
    "fit",
    "kernels",
    "load",
    "plots",
    "reference",
    "warmup",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    if name in _HOMES:
        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value  # the next look-up is an ordinary one
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

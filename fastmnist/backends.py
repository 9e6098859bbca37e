"""Which backend computes: the kernels, or plain NumPy where Numba is missing or broken."""

from __future__ import annotations

import functools
import warnings
from types import ModuleType

from fastmnist import checks, reference

BACKENDS = ("auto", "numba", "reference")


def resolved(name: str) -> str:
    """`name`, checked; of "auto", "numba" where the kernels can be used, else "reference"."""
    name = checks.nearest("backend", name, BACKENDS)
    if name == "auto":
        return "numba" if _kernels_can_be_used() else "reference"
    return name


def backend_named(name: str) -> ModuleType:
    """The module that computes: `fastmnist.kernels` or `fastmnist.reference`.

    Raises
    ------
    ValueError
        If there is no such backend.
    ImportError
        If it is "numba", and Numba is missing or broken.
    """
    if resolved(name) == "reference":
        return reference
    from fastmnist import kernels  # Numba, only now

    return kernels


@functools.cache  # one attempt a process, and one warning
def _kernels_can_be_used() -> bool:
    try:
        import fastmnist.kernels  # noqa: F401
    except ImportError as error:
        warnings.warn(f"using NumPy, several times slower than the kernels. {error}", stacklevel=2)
        return False
    return True

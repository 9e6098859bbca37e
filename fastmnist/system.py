"""What a bug report needs to say about the system: versions, processor, folders."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from importlib import resources
from pathlib import Path

from fastmnist import __version__
from fastmnist.download import SETS
from fastmnist.files import cache_dir
from fastmnist.threads import thread_count

_PACKAGES = ("numpy", "numba", "llvmlite", "typer", "rich", "pooch", "matplotlib", "pillow")
_FEATURES = ("avx", "avx2", "fma", "avx512f", "neon", "sve")  # what decides how long a vector is


def facts() -> dict[str, str]:
    """Each fact under its name, in the order to be printed."""
    return {
        "fastmnist": f"{__version__} in {resources.files(__package__)}",
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        **{name: _version(name) for name in _PACKAGES},
        "system": platform.platform(),
        "processor": platform.machine(),
        "processors": str(os.cpu_count()),
        "threads": str(thread_count()),
        "cache folder": str(cache_dir()),
        **_kernels(),
        "data": ", ".join(_sets_at_hand()) or "none at hand; downloaded when asked for",
        **{name: value for name, value in sorted(os.environ.items()) if _matters(name)},
    }


def _kernels() -> dict[str, str]:
    """What the kernels are compiled for and where they are kept, or why there are none."""
    try:
        from fastmnist.kernels import jit
    except ImportError as error:
        return {"backend": "reference", "kernels": str(error)}
    from llvmlite import binding

    has = binding.get_host_cpu_features()
    return {
        "backend": "numba",
        "processor": f"{platform.machine()} {binding.get_host_cpu_name()}",
        "vector features": ", ".join(name for name in _FEATURES if has.get(name)) or "none known",
        "kernels": str(jit.folder() or "not kept on disk"),
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _matters(variable: str) -> bool:
    return variable.startswith(("FASTMNIST_", "NUMBA_", "OMP_", "OPENBLAS_", "MKL_"))


def _sets_at_hand() -> list[str]:
    shared = os.environ.get("FASTMNIST_DATA")
    roots = [*([Path(shared)] if shared else []), cache_dir()]
    folders = [root / name for name in SETS for root in roots]
    return [str(folder) for folder in folders if folder.is_dir()]

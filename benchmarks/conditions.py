"""What figures belong to: the machine, the versions of the packages, the data."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version


def versions(*packages: str) -> dict[str, str]:
    """Of those that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def machine(*packages: str) -> str:
    """One sentence: processors, and the versions of Python, NumPy, Numba and these packages."""
    from llvmlite.binding import get_host_cpu_name

    found = versions("numpy", "numba", *packages).items()
    return (
        f"{os.cpu_count()} processors, {get_host_cpu_name()}; Python {platform.python_version()}, "
        f"{', '.join(f'{name} {number}' for name, number in found)}."
    )

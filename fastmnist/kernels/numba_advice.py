"""What to do where Numba is missing or broken."""

from __future__ import annotations

import os
import re


def advice(error: Exception) -> str:
    """What is wrong with Numba, whose import has failed, and what to do."""
    if isinstance(error, ModuleNotFoundError) and error.name in ("numba", "llvmlite"):
        return "The kernels need Numba, which is not installed. Install it: pip install numba"
    reason = str(error).rstrip(".")
    if newest := re.search(r"NumPy (\d+)\.(\d+) or less", reason):
        older = f"numpy<{newest[1]}.{int(newest[2]) + 1}"
        return f'{reason}. Run pip install --upgrade numba, or else pip install "{older}"'
    if any(name.startswith("NUMBA_") for name in os.environ):
        return f"Numba does not start: {reason}. Check the environment's variables NUMBA_..."
    return f"Numba does not start: {reason}. Run pip install --force-reinstall numba llvmlite"

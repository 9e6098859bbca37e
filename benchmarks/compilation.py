"""What compiling all kernels takes: ``python -m benchmarks.compilation`` prints it as JSON.

For a process of its own, whose FASTMNIST_CACHE is an empty folder (see `benchmarks.start`).
"""

from __future__ import annotations

import json
import time

from numba.core import event

import fastmnist.kernels


def main() -> None:
    print(json.dumps(measured()))


def measured() -> dict[str, float]:
    """How many functions and signatures were compiled, and seconds in all, in Numba and in LLVM.

    Whatever calls LLVM holds a lock, so the time for which it is held is LLVM's: optimising and
    writing machine code. The rest of a compilation is Numba's: types and their lowering to LLVM.
    """
    started = time.perf_counter()
    with (
        event.install_recorder("numba:compile") as compilations,
        event.install_listener("numba:compile", event.TimingListener()) as compiling,
        event.install_listener("numba:llvm_lock", event.TimingListener()) as llvm,
    ):
        fastmnist.kernels.warmup()
    seconds = time.perf_counter() - started
    starts = [occurred for _, occurred in compilations.buffer if occurred.is_start]
    if not starts:
        raise SystemExit("nothing was compiled: FASTMNIST_CACHE holds it all")
    return {
        "seconds": seconds,
        "functions": len({occurred.data["dispatcher"] for occurred in starts}),
        "signatures": len(starts),
        "numba": compiling.duration - llvm.duration,
        "llvm": llvm.duration,
    }


if __name__ == "__main__":
    main()

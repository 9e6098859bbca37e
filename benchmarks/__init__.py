"""Every speed and accuracy claim of this project, as something to run again.

`workloads` says what is timed. asv (`bench_*.py`) keeps its history over commits, pytest-benchmark
(`test_speed.py`) sets the two backends side by side, and commands print tables, all taking turns
as `timing` says: ``python -m benchmarks.ratios``, ``peers`` (training beside other libraries),
``prediction`` (likewise), ``start``, ``growth``, ``density``, ``optimizers``, ``ablations``,
``records``, ``race``, ``estimators``, ``denormals``, ``exchange`` and ``photos``.
"""

import os

THREADS = 2  # of either backend

# A BLAS reads its number of threads once, when NumPy is imported; so it is set here, before any
# module of this package imports NumPy. OpenBLAS, oneMKL, and Apple's Accelerate.
for _variable in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
    os.environ[_variable] = str(THREADS)

"""What asv times over commits, in environments that hold what asv.conf.json lists and no more.

asv imports every module of this folder, and this folder alone: under the name `suite`, so that they
import each other relatively. pytest-benchmark and the commands of `benchmarks` take their
workloads from here, too.
"""

import os

THREADS = 2  # of either backend

# A BLAS reads its number of threads once, when NumPy is imported; so it is set here, before any
# module of this package imports NumPy. OpenBLAS, oneMKL, and Apple's Accelerate.
for _variable in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
    os.environ[_variable] = str(THREADS)

"""Every speed and accuracy claim of this project, as something to run again.

`suite.workloads` says what is timed. asv (`suite`) keeps its history over commits, pytest-benchmark
(`test_speed.py`) sets the two backends side by side, and commands print tables, all taking turns
as `timing` says: ``python -m benchmarks.ratios``, ``peers`` (training beside other libraries),
``prediction`` (likewise), ``start``, ``growth``, ``density``, ``optimizers``, ``ablations``,
``processors``, ``records``, ``race``, ``estimators``, ``denormals``, ``exchange`` and ``photos``.
"""

from benchmarks.suite import THREADS, workloads

__all__ = ["THREADS", "workloads"]

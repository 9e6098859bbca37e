"""How many threads this process may use."""

from __future__ import annotations

import math
import os
from functools import cache
from pathlib import Path

from fastmnist.checks import whole

MOST_THREADS = 1024


def thread_count(threads: int | None = None) -> int:
    """`threads`, checked; by default as many as this process may use.

    That is the number of processors in its affinity mask, and no more than its container's quota.
    """
    if threads is not None:
        return whole("threads", threads, 1, MOST_THREADS)
    if hasattr(os, "sched_getaffinity"):
        processors = len(os.sched_getaffinity(0))
    else:
        processors = os.cpu_count() or 1
    return max(1, math.ceil(min(processors, _container_quota())))


@cache
def _container_quota() -> float:
    """Processors that the control group (version 2, then 1) grants; infinite without a limit."""
    root = Path("/sys/fs/cgroup")
    try:
        quota, period = (root / "cpu.max").read_text("utf-8").split()
    except (OSError, ValueError):
        try:
            quota = (root / "cpu/cpu.cfs_quota_us").read_text("utf-8").strip()
            period = (root / "cpu/cpu.cfs_period_us").read_text("utf-8").strip()
        except OSError:
            return math.inf
    limited = quota.isdigit() and period.isdigit() and int(period) > 0
    return int(quota) / int(period) if limited else math.inf

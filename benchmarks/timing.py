"""Turns: one of each, again and again, so that whatever else the machine does slows all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

REST = 0.1  # seconds; OpenBLAS's threads go on spinning for a while after their last product

UNITS = {"s": 1, "ms": 1e3, "µs": 1e6}

Key = TypeVar("Key", bound=Hashable)


@dataclass
class Taken:
    """What one of them took in each of its turns, and what it gave."""

    seconds: list[float] = field(default_factory=list)
    results: list[Any] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def spread(self, unit: str = "ms", digits: int = 1) -> str:
        """The median, and the fastest and the slowest."""
        shown = (self.median, min(self.seconds), max(self.seconds))
        middle, least, most = (f"{UNITS[unit] * seconds:.{digits}f}" for seconds in shown)
        return f"{middle} {unit} ({least} to {most})"


def in_turns(
    prepare: Mapping[Key, Callable[[], Callable[[], Any]]], rounds: int, calls: int = 1
) -> dict[Key, Taken]:
    """Time each `rounds` times, `calls` calls at a time; seconds are of one call.

    What is in `prepare` makes the call that is timed, anew for every turn, and leaves it warm.
    """
    taken = {name: Taken() for name in prepare}
    for _ in range(rounds):
        for name, ready in prepare.items():
            time.sleep(REST)
            call = ready()
            started = time.perf_counter()
            for _ in range(calls):
                result = call()
            taken[name].seconds.append((time.perf_counter() - started) / calls)
            taken[name].results.append(result)
    return taken


def warm(call: Callable[[], Any]) -> Callable[[], Any]:
    """The same, called once: after the rest before a turn its threads and caches are cold."""
    call()
    return call

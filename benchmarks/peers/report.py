"""The results of a comparison: as JSON, as a Markdown table, and as a picture."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers import CONTENDERS, KERNELS, OURS, SHOWN_ONLY


@dataclass
class Row:
    """One network, batch and density."""

    network: str
    batch: int
    density: float
    loss: float  # of the first epoch, as the kernels compute it
    flops: float  # of an epoch as dense products
    peak: float  # operations a second, as this machine's own sgemm reaches them
    seconds: dict[str, list[float]]

    @property
    def fastest_peer(self) -> str:
        """The fastest of those that are measured against."""
        return min(self._peers, key=self.median)

    @property
    def of_the_fastest(self) -> float:
        """How many times as long as the kernels the fastest peer takes, in the best epoch of each.

        On a machine that others use too, a median of few epochs may have caught a busy minute.
        """
        return min(min(self.seconds[name]) for name in self._peers) / min(self.seconds[KERNELS])

    @property
    def _peers(self) -> list[str]:
        return [name for name in self.seconds if name not in (*OURS, *SHOWN_ONLY)]

    def median(self, name: str) -> float:
        return statistics.median(self.seconds[name])

    def ratio(self, name: str) -> float:
        """How many times as long as the kernels."""
        return self.median(name) / self.median(KERNELS)

    def share_of_peak(self, name: str) -> float:
        """What dense products take at the machine's best, as a share of the median."""
        return self.flops / self.peak / self.median(name)

    def as_dict(self) -> dict[str, Any]:
        peers = {}
        if self._peers:
            peers = {"fastest_peer": self.fastest_peer, "of_the_fastest": self.of_the_fastest}
        medians = {name: self.median(name) for name in self.seconds}
        shares = {name: self.share_of_peak(name) for name in self.seconds}
        return asdict(self) | peers | {"medians": medians, "shares_of_peak": shares}

    def markdown(self, names: list[str]) -> str:
        cells = [self._cell(name) for name in names]
        against = " | "
        if self._peers:
            against = f"{self.ratio(self.fastest_peer):.1f} | {self.of_the_fastest:.1f}"
        return (
            f"| {self.network} | {self.batch} | {100 * self.density:.0f} % | {' | '.join(cells)} "
            f"| {against} | {self.share_of_peak(KERNELS):.2f} |"
        )

    def _cell(self, name: str) -> str:
        if name not in self.seconds:
            return ""
        least, most = min(self.seconds[name]), max(self.seconds[name])
        text = f"{1e3 * self.median(name):.1f} ({1e3 * least:.1f} to {1e3 * most:.1f})"
        return f"**{text}**" if name == min(self.seconds, key=self.median) else text


def header(names: list[str]) -> str:
    """The first two lines of the table."""
    columns = ["network", "batch", "not zero", *names, "fastest peer : kernels", "of the fastest"]
    columns.append("dense peak")
    return f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}"


def save(rows: list[Row], conditions: dict[str, Any], folder: Path) -> list[str]:
    """Write numbers, table and, of more than the kernels alone, a picture; the files' names."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [name for name in CONTENDERS if any(name in row.seconds for row in rows)]
    results = {"conditions": conditions, "rows": [row.as_dict() for row in rows]}
    (folder / "peers.json").write_text(json.dumps(results, indent=2) + "\n", "utf-8")
    lines = [row.markdown(names) for row in rows]
    title = "# An epoch beside other libraries"
    table = f"{title}\n\n{conditions['sentence']}\n\n{header(names)}\n" + "\n".join(lines) + "\n"
    (folder / "peers.md").write_text(table, "utf-8")
    others = [name for name in names if name != KERNELS]
    if not others:
        return ["peers.json", "peers.md"]
    _draw(rows, others, folder / "peers.png")
    return ["peers.json", "peers.md", "peers.png"]


def _draw(rows: list[Row], others: list[str], path: Path) -> None:
    """How many times as long as the kernels each contender takes, one group of bars a row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1 + 0.7 * len(rows)), layout="constrained")
    axes = figure.subplots()
    height = 0.8 / len(others)
    for i, name in enumerate(others):
        at = [r + (i - (len(others) - 1) / 2) * height for r, row in enumerate(rows)]
        ratios = [row.ratio(name) if name in row.seconds else 0 for row in rows]
        axes.barh(at, ratios, height, label=name)
    axes.axvline(1, color="black", linewidth=1)
    labels = [f"{row.network}\nbatch {row.batch}, {100 * row.density:.0f} %" for row in rows]
    axes.set_yticks(range(len(rows)), labels)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xscale("log")
    axes.set_xticks([1, 2, 3, 5, 10, 20, 50], ["1", "2", "3", "5", "10", "20", "50"], minor=False)
    axes.set_xticks([], minor=True)
    axes.set_xlabel("time of an epoch, in times of fastmnist's kernels")
    axes.legend(loc="lower right", fontsize="small")
    figure.savefig(path, dpi=120)

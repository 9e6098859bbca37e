"""How an epoch's time grows with the work: ``python -m benchmarks.growth``.

Images, width, depth, samples in a batch, threads, and threads with as many images for each of them:
one thing is changed at a time, all cases of it in turns. Perfect is time in proportion to the
operations (as dense products) of one thread. Prints a table in Markdown, and saves a picture and
all figures.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from benchmarks import THREADS, workloads
from benchmarks.conditions import machine
from benchmarks.timing import Taken, in_turns
from fastmnist.kernels import thread_count

WIDTHS = (16, 32, 64, 128, 256, 512, 1024, 2048)
DEPTHS = range(9)
BATCHES = tuple(2**k for k in range(3, 13))


@dataclass(frozen=True)
class Case:
    """One epoch of the kernels."""

    network: str = workloads.NETWORK
    images: int = workloads.IMAGES
    batch: int = workloads.BATCH
    threads: int = THREADS

    @property
    def work(self) -> float:
        """Operations of one thread, as dense products."""
        return workloads.operations(self.network, self.images) / self.threads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--rounds", type=int, default=7, help="epochs of each (default: 7)")
    parser.add_argument("--images", type=int, default=workloads.IMAGES, help="in an epoch")
    parser.add_argument("--output", type=Path, default=Path("growth"), metavar="FOLDER")
    arguments = parser.parse_args()
    sentence = (
        f"One epoch, {arguments.images:,} images ({workloads.data_name()}), {workloads.NETWORK}, "
        f"batch {workloads.BATCH}, {THREADS} threads, but for what is named: median (fastest to "
        f"slowest) of {arguments.rounds}, in turns. {machine()}"
    )
    print(sentence, end="\n\n")
    print("| what grows | to | epoch | in times of perfect scaling |")
    print("|---|---|---|---|")
    results = {}
    for name, panel in panels(arguments.images).items():
        results[name] = measured(panel, arguments.rounds)
        for point in results[name]:
            print(f"| {name} {row(point)}", flush=True)
    arguments.output.mkdir(parents=True, exist_ok=True)
    found = {name: [asdict(point) for point in points] for name, points in results.items()}
    saved = {"conditions": sentence, "panels": found}
    (arguments.output / "growth.json").write_text(json.dumps(saved, indent=2) + "\n", "utf-8")
    draw(results, arguments.output / "growth.png")
    print(f"\nSaved in {arguments.output}: growth.json and growth.png")


@dataclass(frozen=True)
class Point:
    """What a case took, and the seconds it would have taken if time grew with the work."""

    value: int
    perfect: float
    taken: Taken


@dataclass(frozen=True)
class Panel:
    """The cases for each value of what grows, and the value that perfect scaling starts from."""

    cases: dict[int, Case]
    start: int


def panels(images: int) -> dict[str, Panel]:
    """All that grows."""
    usual = Case(images=images)
    counts = [images >> k for k in range(5, -1, -1)]
    teams = range(1, thread_count() + 1)
    each = images // len(teams)
    return {
        "images": Panel({n: replace(usual, images=n) for n in counts}, images),
        "units of the hidden layer": Panel(
            {n: replace(usual, network=f"784-{n}-10") for n in WIDTHS}, 128
        ),
        "hidden layers of 128": Panel({n: replace(usual, network=deep(n)) for n in DEPTHS}, 1),
        "samples in a batch": Panel({n: replace(usual, batch=n) for n in BATCHES}, workloads.BATCH),
        "threads": Panel({n: replace(usual, threads=n) for n in teams}, 1),
        "threads, each with its images": Panel(
            {n: replace(usual, threads=n, images=n * each) for n in teams}, 1
        ),
    }


def deep(layers: int) -> str:
    return "-".join(["784", *["128"] * layers, "10"])


def measured(panel: Panel, rounds: int) -> list[Point]:
    """A point for each case."""
    epochs = {n: partial(workloads.epoch, **asdict(case)) for n, case in panel.cases.items()}
    taken = in_turns(epochs, rounds)
    a_piece = taken[panel.start].median / panel.cases[panel.start].work
    return [Point(n, case.work * a_piece, taken[n]) for n, case in panel.cases.items()]


def row(point: Point) -> str:
    """The end of a line of the table."""
    ratio = point.taken.median / point.perfect
    return f"| {point.value:,} | {point.taken.spread()} | {ratio:.2f} |"


def draw(results: dict[str, list[Point]], path: Path) -> None:
    """A panel for each thing that grows."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6.5), layout="constrained")
    for axes, (name, points) in zip(figure.subplots(2, 3).flat, results.items(), strict=True):
        values = [point.value for point in points]
        medians = [1e3 * point.taken.median for point in points]
        below = [1e3 * (point.taken.median - min(point.taken.seconds)) for point in points]
        above = [1e3 * (max(point.taken.seconds) - point.taken.median) for point in points]
        perfect = [1e3 * point.perfect for point in points]
        axes.plot(values, perfect, "--", color="gray", label="perfect scaling")
        axes.errorbar(values, medians, (below, above), marker="o", capsize=3, label="measured")
        if values[-1] > 10 * values[0] > 0:
            axes.set_xscale("log")
            shown = values[:: 1 + len(values) // 7]
            axes.set_xticks(shown, [f"{value:,}" for value in shown], minor=False)
            axes.set_xticks([], minor=True)
        else:
            axes.set_xticks(values)
        if perfect[-1] > 10 * perfect[0] and axes.get_xscale() == "log":
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
        else:
            axes.set_ylim(0, 1.05 * axes.get_ylim()[1])
        axes.set(xlabel=name, ylabel="ms an epoch")
        axes.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()

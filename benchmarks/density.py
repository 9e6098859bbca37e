"""What zeros are worth: ``python -m benchmarks.density``.

Epochs of 784-128-10 over random pixels against the share of them that is not zero, as uint8 and as
float32: in the form that the kernels choose, always packed, and always dense; with JAX beside them
on request. Prints a table in Markdown and where curves cross, and saves a picture and all figures.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmarks import THREADS, workloads
from benchmarks.conditions import machine
from benchmarks.peers.problem import Problem
from benchmarks.peers.turns import keep_to_processors
from benchmarks.ratios import verify_losses
from benchmarks.timing import Taken, in_turns, warm
from fastmnist.kernels import packed, prepare

DENSITIES = (0.01, 0.03, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
KINDS = ("uint8", "float32")
# The share of numbers that are not zero from which on rows are left dense; None: as it is.
FORMS = {"chosen": None, "packed": 1.0, "dense": -1.0}
CROSSINGS = (("packed", "dense"), ("chosen", "JAX"))

Curves = dict[str, list[Taken]]  # by name, for each density
Epochs = dict[str, Callable[[], Callable[[], float]]]  # as `in_turns` takes them


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--densities", nargs="+", type=float, default=DENSITIES, metavar="X")
    parser.add_argument("--rounds", type=int, default=7, help="epochs of each (default: 7)")
    parser.add_argument("--images", type=int, default=workloads.IMAGES, help="in an epoch")
    parser.add_argument("--jax", action="store_true", help="and JAX, always from float32")
    parser.add_argument("--output", type=Path, default=Path("density"), metavar="FOLDER")
    arguments = parser.parse_args()
    sentence = (
        f"One epoch of {workloads.NETWORK}, batch {workloads.BATCH}, {arguments.images:,} images "
        f"of random pixels, {THREADS} threads: median (fastest to slowest) of {arguments.rounds}, "
        f"in turns. {machine('jax')}"
    )
    names = [*FORMS, *(["JAX"] if arguments.jax else [])]
    print(f"{sentence}\n\n| pixels | not zero | {' | '.join(names)} |")
    print(f"|{'---|' * (2 + len(names))}")
    results: dict[str, Curves] = {kind: {name: [] for name in names} for kind in KINDS}
    for density in arguments.densities:
        for kind, curves in results.items():
            taken = in_turns(
                epochs(density, kind, arguments.images, arguments.jax), arguments.rounds
            )
            verify_losses(f"{density:.0%}", {form: taken[form].results[0] for form in FORMS})
            for name in names:
                curves[name].append(taken[name])
            cells = " | ".join(taken[name].spread() for name in names)
            print(f"| {kind} | {density:.0%} | {cells} |", flush=True)
    print()
    for kind, curves in results.items():
        for first, second, x, _ in crossings(arguments.densities, curves):
            print(f"{kind}: the curves of {first} and {second} cross at {x:.0%}.")
    save(sentence, arguments.densities, results, arguments.output)
    print(f"Saved in {arguments.output}: density.json and density.png")


def epochs(density: float, kind: str, images: int, jax: bool) -> Epochs:
    """An epoch for each curve."""
    X = workloads.random_pixels(density, images)
    rows = X if kind == "uint8" else X / np.float32(255)
    epoch = partial(workloads.epoch, workloads.NETWORK, images=images)
    found: Epochs = {form: partial(epoch, rows=in_form(form, rows)) for form in FORMS}
    if jax:
        from benchmarks.peers.with_jax import scanned

        keep_to_processors()
        problem = Problem(workloads.NETWORK, workloads.BATCH, images, density)
        found["JAX"] = partial(warm, scanned(problem))
    return found


def in_form(form: str, X: np.ndarray) -> Any:
    """`X` prepared in one of the `FORMS`."""
    threshold = packed.DENSE if FORMS[form] is None else FORMS[form]
    with mock.patch.object(packed, "DENSE", threshold):
        return prepare(X)


def crossings(densities: Sequence[float], curves: Curves) -> list[tuple[str, str, float, float]]:
    """Where the medians of two curves cross: which two, at what density, and at how many seconds.

    Between two densities the curves are taken for straight.
    """
    found = []
    for first, second in CROSSINGS:
        if first in curves and second in curves:
            heights = [
                (x, a.median, b.median)
                for x, a, b in zip(densities, curves[first], curves[second], strict=True)
            ]
            for (x, a, b), (next_x, next_a, next_b) in pairwise(heights):
                if (a < b) != (next_a < next_b):
                    part = (b - a) / (b - a + next_a - next_b)
                    at = x + part * (next_x - x), a + part * (next_a - a)
                    found.append((first, second, *at))
    return found


def save(
    sentence: str, densities: Sequence[float], results: dict[str, Curves], folder: Path
) -> None:
    """density.json and density.png."""
    folder.mkdir(parents=True, exist_ok=True)
    seconds = {
        kind: {name: [taken.seconds for taken in curve] for name, curve in curves.items()}
        for kind, curves in results.items()
    }
    saved = {"conditions": sentence, "densities": list(densities), "seconds": seconds}
    (folder / "density.json").write_text(json.dumps(saved, indent=2) + "\n", "utf-8")
    _draw(densities, results, folder / "density.png")


def _draw(densities: Sequence[float], results: dict[str, Curves], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.5), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    percent = [100 * density for density in densities]
    for axes, (kind, curves) in zip(panels, results.items(), strict=True):
        for name, curve in curves.items():
            # what is chosen lies on one of the others, so it is drawn wide, below them
            wide = {"linewidth": 6, "alpha": 0.4} if name == "chosen" else {"marker": "."}
            axes.plot(percent, [1e3 * taken.median for taken in curve], label=name, **wide)
        for first, _, x, seconds in crossings(densities, curves):
            at = 100 * x, 1e3 * seconds
            axes.plot(*at, "o", markersize=12, color="black", fillstyle="none")
            above = 12 if first == "chosen" else -20
            axes.annotate(f"{x:.0%}", at, (0, above), textcoords="offset points", ha="center")
        axes.set(xlabel="pixels that are not zero, %", title=kind)
        axes.legend()
    panels[0].set(ylabel="ms an epoch")
    panels[0].set_ylim(bottom=0)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()

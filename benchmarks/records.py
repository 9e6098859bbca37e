"""How well and how fast the recipes train: ``python -m benchmarks.records``.

Each recipe trains on all of MNIST's training images, once for each seed; each network is scored on
the test images once. Prints rows for RECORDS.md. MNIST is downloaded if it is not there.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass, replace

from scipy import stats

import fastmnist as fm
from benchmarks import THREADS, workloads
from benchmarks.conditions import machine
from fastmnist.recipes import RECIPES

# Per cent of the test images that a recipe's mean must beat, and for how many seeds.
BARS = {"notebook": (80.0, 5), "quick": (98.0, 20), "default": (98.6, 20), "accurate": (99.0, 10),
        "best": (99.35, 5), "patient": (99.5, 3)}  # fmt: skip
GENERATED = "generated"  # trained on the package's own digits instead, and no MNIST at all
GENERATED_BAR = (93.0, 5)


@dataclass
class Scores:
    """Of one recipe, an entry for each seed."""

    percent: list[float]
    calibration: list[float]
    seconds: list[float]  # from data in memory and kernels compiled to the final weights

    @property
    def accuracy(self) -> str:
        """Mean, standard deviation and range, per cent."""
        mean = f"{statistics.mean(self.percent):.2f} %"
        if len(self.percent) == 1:
            return mean
        worst, best = min(self.percent), max(self.percent)
        return f"{mean} ± {statistics.stdev(self.percent):.2f} ({worst:.2f} to {best:.2f})"

    def p(self, bar: float) -> float | None:
        """How probable such a mean is if the true one is no better than `bar`: one-sided t-test."""
        if len(set(self.percent)) == 1:  # no spread to judge by
            return None
        return float(stats.ttest_1samp(self.percent, bar, alternative="greater").pvalue)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    names = [*RECIPES, GENERATED]
    parser.add_argument("--recipes", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--seeds", type=int, help="trainings of each; as many as its record wants")
    parser.add_argument("--epochs", type=int, help="for a trial: fewer than the recipe has")
    arguments = parser.parse_args()
    print(f"MNIST's test images, {THREADS} threads. {machine()}")
    print()
    print(
        "| recipe | seeds | accuracy: mean ± deviation (worst to best) | bar | p | "
        "calibration error | seconds | in plain epochs |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name in arguments.recipes:
        bar, seeds = BARS.get(name, GENERATED_BAR)
        print(row(name, arguments.seeds or seeds, bar, arguments.epochs), flush=True)


def row(name: str, seeds: int, bar: float, epochs: int | None = None) -> str:
    """One line of the table."""
    train = fm.load(GENERATED if name == GENERATED else "mnist").train
    before = plain_epoch()
    found = scores(name, train, fm.load("mnist").test, seeds, epochs)
    epoch = (before + plain_epoch()) / 2
    seconds = statistics.median(found.seconds)
    calibration = f"{100 * statistics.mean(found.calibration):.1f} %"
    p = found.p(bar)
    judged = "not known" if p is None else f"{p:.1g}"
    return (
        f"| {name} | {seeds} | {found.accuracy} | {bar:g} % | {judged} | {calibration} | "
        f"{seconds:.2f} | {seconds / epoch:.1f} |"
    )


def scores(
    name: str, train: fm.Dataset, test: fm.Dataset, seeds: int, epochs: int | None
) -> Scores:
    recipe = RECIPES["accurate" if name == GENERATED else name]
    recipe = replace(recipe, epochs=epochs or recipe.epochs)
    recipe.fit(recipe.model(train), train[:256], epochs=1, threads=THREADS)  # compiles
    found = Scores([], [], [])
    for seed in range(seeds):
        started = time.perf_counter()
        model = recipe.model(train, seed=seed)
        recipe.fit(model, train, seed=seed, threads=THREADS)
        found.seconds.append(time.perf_counter() - started)
        report = fm.evaluate(model, test)
        found.percent.append(100 * report.accuracy)
        found.calibration.append(report.calibration_error)
    return found


def plain_epoch(rounds: int = 5) -> float:
    """Seconds of an epoch of plain 784-128-10, batch 128: the unit of other machines."""
    taken = []
    for _ in range(rounds):
        call = workloads.epoch(workloads.NETWORK)
        started = time.perf_counter()
        call()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


if __name__ == "__main__":
    main()

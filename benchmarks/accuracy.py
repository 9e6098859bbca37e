"""How well the recipes read MNIST's test set: ``python -m benchmarks.accuracy``.

The default recipe, the notebook's, and the default recipe trained on generated digits alone, each
for several seeds. Prints the README's table, in Markdown. MNIST is downloaded if it is not there.
"""

from __future__ import annotations

import argparse
import statistics

import fastmnist as fm
from fastmnist.recipes import RECIPES

CASES = (
    ("default", "mnist"),
    ("notebook", "mnist"),
    ("default", "generated"),
)  # recipe, trained on


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--seeds", type=int, default=5, help="trainings of each (default: 5)")
    seeds = parser.parse_args().seeds
    test = fm.load("mnist").test
    print(f"Share of {test.name} that is read correctly: mean (worst to best) of {seeds} seeds.")
    print()
    print("| recipe | trained on | accuracy | seconds of training |")
    print("|---|---|---|---|")
    for recipe, data in CASES:
        print(row(recipe, fm.load(data).train, test, seeds), flush=True)


def row(name: str, train: fm.Dataset, test: fm.Dataset, seeds: int) -> str:
    """One line of the table."""
    recipe = RECIPES[name]
    percent, seconds = [], []
    for seed in range(seeds):
        model = recipe.model(train, seed=seed)
        history = recipe.fit(model, train, seed=seed)
        seconds.append(sum(history.seconds))
        percent.append(100 * fm.evaluate(model, test).accuracy)
    mean, worst, best = statistics.mean(percent), min(percent), max(percent)
    accuracy = f"{mean:.2f} % ({worst:.2f} to {best:.2f})"
    return f"| {name} | {train.name} | {accuracy} | {statistics.median(seconds):.1f} |"


if __name__ == "__main__":
    main()

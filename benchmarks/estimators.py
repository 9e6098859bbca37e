"""Fitting beside scikit-learn's MLPClassifier: ``python -m benchmarks.estimators``.

Equal settings, the same images, in turns, each seed once. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from typing import Any

from benchmarks import THREADS, workloads
from benchmarks.conditions import machine
from benchmarks.timing import REST

SOLVERS: dict[str, dict[str, Any]] = {
    "adam": {"solver": "adam"},
    "sgd": {"solver": "sgd", "learning_rate_init": 0.05},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--seeds", type=int, default=10, help="fits of each (default: 10)")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--images", type=int, default=workloads.IMAGES)
    arguments = parser.parse_args()
    print(
        f"MLPClassifier, 784-128-10, batches of 128, {arguments.epochs} epochs over "
        f"{arguments.images:,} images ({workloads.data_name()}), {THREADS} threads: median of "
        f"{arguments.seeds} fits, in turns. {machine('scikit-learn')}"
    )
    print()
    print(
        "| solver | | seconds | in times of fastmnist's | test images read: mean (worst to best) |"
    )
    print("|---|---|---|---|---|")
    for solver, options in SOLVERS.items():
        for line in rows(solver, options, arguments):
            print(line, flush=True)


def rows(solver: str, options: dict[str, Any], arguments: argparse.Namespace) -> list[str]:
    """Two lines of the table."""
    from sklearn.neural_network import MLPClassifier as Theirs

    from fastmnist.sklearn import MLPClassifier as Ours

    X, y = workloads.pixels(arguments.images) / 255, workloads.labels(arguments.images)
    test = workloads.data()[1]
    test_X = test.images.reshape(len(test), -1) / 255
    makers = {"fastmnist": Ours, "scikit-learn": Theirs}
    seconds: dict[str, list[float]] = {name: [] for name in makers}
    scores: dict[str, list[float]] = {name: [] for name in makers}
    with warnings.catch_warnings(action="ignore"):  # compiles; one epoch is no convergence
        Ours((128,), batch_size=128, max_iter=1, **options).fit(X[:500], y[:500])
    for seed in range(arguments.seeds):
        for name, maker in makers.items():
            model = maker(
                (128,), batch_size=128, max_iter=arguments.epochs, random_state=seed, **options
            )
            time.sleep(REST)
            with warnings.catch_warnings(action="ignore"):  # ten epochs are no convergence
                started = time.perf_counter()
                model.fit(X, y)
                seconds[name].append(time.perf_counter() - started)
            scores[name].append(100 * model.score(test_X, test.labels))
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    return [
        f"| {solver} | {name} | {medians[name]:.2f} | {medians[name] / medians['fastmnist']:.1f} | "
        f"{statistics.mean(scores[name]):.2f} % "
        f"({min(scores[name]):.2f} to {max(scores[name]):.2f}) |"
        for name in makers
    ]


if __name__ == "__main__":
    main()

"""Data-parallel training: what it reads after how many rounds: ``python -m benchmarks.rounds``.

For 1, 2, 4 and 8 shards, each round with the same steps of every shard: on MNIST, and on digits
that the workers draw, and distort anew in each round: eight million at most, as many as infinite
MNIST has. Each number of rounds is a training of its own, with its own schedule. Prints
tables in Markdown, and saves a picture and all figures.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from distributed import Client

import fastmnist as fm
from benchmarks import workloads
from benchmarks.conditions import machine

SHARDS = (1, 2, 4, 8)
ROUNDS = (5, 10, 20, 40, 80, 160)
BATCH = 64
NETWORK = "784-256-64-10"
DISTORTED = fm.Augmentation(shift=1, rotation=10, scale=0.1, shear=0.1, elastic=20)


@dataclass(frozen=True)
class Case:
    """What trainings have in common, but for shards, rounds and seeds."""

    title: str
    steps: int  # of a shard in a round
    seeds: int
    samples: int  # to train on, at most
    augmentation: fm.Augmentation | None


@dataclass(frozen=True)
class Point:
    """A training, or several with other seeds."""

    shards: int
    rounds: int
    samples: int  # trained on, all together
    read: list[float]  # share of MNIST's test images
    seconds: float  # a round, median


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--seeds", type=int, default=3, help="on MNIST (default: 3)")
    parser.add_argument("--samples", type=int, default=8_000_000, help="drawn, at most")
    parser.add_argument("--steps", type=int, default=118, help="a round, on MNIST (default: 118)")
    parser.add_argument("--shards", type=int, nargs="+", default=SHARDS)
    parser.add_argument("--rounds", type=int, nargs="+", default=ROUNDS)
    parser.add_argument("--cluster", default="local:2", metavar="ADDRESS")
    parser.add_argument("--output", type=Path, default=Path("rounds"), metavar="FOLDER")
    arguments = parser.parse_args()
    train, test = workloads.data()
    drawn = max(BATCH, arguments.samples // max(arguments.shards) // 20)
    cases = {
        Case(train.name, arguments.steps, arguments.seeds, 20 * len(train), None): train,
        Case(
            "Drawn digits, distorted anew in each round",
            steps=drawn // BATCH,
            seeds=1,
            samples=arguments.samples,
            augmentation=DISTORTED,
        ): fm.distributed.Drawn(drawn),
    }
    results: dict[str, list[Point]] = {}
    with fm.distributed.connect(arguments.cluster) as client:
        for case, train in cases.items():
            print(
                f"{case.title}: {NETWORK}, batch {BATCH}, {case.steps} steps of each shard in a "
                f"round, {case.seeds} seeds, on {arguments.cluster}. {machine('distributed')}\n"
            )
            print("| shards | rounds | samples | test images read | a round |")
            print("|--:|--:|--:|---|--:|")
            results[case.title] = []
            for shards in arguments.shards:
                a_round = shards * case.steps * BATCH
                for rounds in [n for n in arguments.rounds if n * a_round <= case.samples]:
                    point = measured(client, train, test, case, shards, rounds)
                    results[case.title].append(point)
                    print(row(point), flush=True)
            print()
    arguments.output.mkdir(parents=True, exist_ok=True)
    figures = {title: [asdict(point) for point in points] for title, points in results.items()}
    (arguments.output / "rounds.json").write_text(json.dumps(figures, indent=1), "utf-8")
    draw(results, arguments.output / "rounds.png")
    print(f"Saved in {arguments.output}: rounds.json and rounds.png")


def measured(
    client: Client, train: Any, test: fm.Dataset, case: Case, shards: int, rounds: int
) -> Point:
    read, seconds = [], []
    for seed in range(case.seeds):
        model = fm.MLP(workloads.sizes(NETWORK), seed=seed)
        history = fm.distributed.fit(
            model,
            train,
            client,
            shards=shards,
            rounds=rounds,
            steps=case.steps,
            batch_size=BATCH,
            learning_rate=0.1,
            label_smoothing=0.1,
            augmentation=case.augmentation,
            seed=seed,
        )
        read.append(fm.evaluate(model, test).accuracy)
        seconds += history.seconds[1:] or history.seconds  # the first one opens the data, too
    samples = shards * rounds * case.steps * BATCH
    return Point(shards, rounds, samples, read, statistics.median(seconds))


def row(point: Point) -> str:
    mean = 100 * statistics.fmean(point.read)
    spread = f" ± {100 * statistics.stdev(point.read):.2f}" if len(point.read) > 1 else ""
    return (
        f"| {point.shards} | {point.rounds} | {point.samples:,} | {mean:.2f} %{spread} "
        f"| {point.seconds:.2f} s |"
    )


def draw(results: dict[str, list[Point]], path: Path) -> None:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(results), figsize=(10, 4), layout="constrained")
    for ax, (title, points) in zip(axes, results.items(), strict=True):
        for shards in dict.fromkeys(point.shards for point in points):
            line = [point for point in points if point.shards == shards]
            misread = [100 * (1 - statistics.fmean(point.read)) for point in line]
            label = f"{shards} shard{'s' * (shards > 1)}"
            ax.plot([point.rounds for point in line], misread, "o-", label=label)
        ax.set(title=title, xlabel="rounds", ylabel="test images misread, %", xscale="log")
        ticks = sorted({point.rounds for point in points})
        ax.set_xticks(ticks, map(str, ticks))
        ax.minorticks_off()
        ax.grid(alpha=0.3)
        ax.legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()

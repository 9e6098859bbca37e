"""The same recipes in fastmnist, PyTorch and JAX, to the end: ``python -m benchmarks.race``.

Every training runs in a new process, in turns: first with an empty stop watch from the start of the
process, then from data in memory and everything compiled. Scoring after each epoch is not counted.
Prints a table in Markdown and draws accuracy against time.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import time
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import fastmnist as fm
from benchmarks import THREADS, workloads
from benchmarks.conditions import machine
from benchmarks.peers.course import Course
from benchmarks.peers.turns import keep_to_processors
from fastmnist import recipes

RUNNERS = {"fastmnist": "with_fastmnist", "PyTorch compiled": "with_pytorch", "JAX": "with_jax"}
RECIPES = ("quick", "default", "accurate")
COLOURS = {"fastmnist": "#d55e00", "PyTorch compiled": "#0072b2", "JAX": "#009e73"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument(
        "--recipes", nargs="+", choices=recipes.RECIPES, default=RECIPES, metavar="NAME"
    )
    parser.add_argument("--only", nargs="+", choices=RUNNERS, default=list(RUNNERS), metavar="NAME")
    parser.add_argument("--rounds", type=int, default=3, help="trainings of each (default: 3)")
    parser.add_argument("--epochs", type=int, help="for a trial: fewer than the recipe has")
    parser.add_argument("--images", type=int, default=workloads.IMAGES)
    parser.add_argument("--output", type=Path, default=Path("race"), metavar="FOLDER")
    arguments = parser.parse_args()
    print(
        f"The same recipe to its end, {THREADS} threads, {arguments.images:,} images "
        f"({workloads.data_name()}): median of {arguments.rounds}, in turns. "
        f"{machine('torch', 'jax')}"
    )
    print()
    print(
        "| recipe | | test accuracy | seconds from the start of the process | "
        "in times of fastmnist's | from data in memory, compiled | in times of fastmnist's |"
    )
    print("|---|---|---|---|---|---|---|")
    runs = {}
    for recipe in arguments.recipes:
        runs[recipe] = compare(recipe, arguments)
        for name in arguments.only:
            print(row(recipe, name, runs[recipe]), flush=True)
    save(runs, arguments.output)
    print(f"\nSaved in {arguments.output}: race.json and race.png")


def compare(recipe: str, arguments: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """What each runner did in each of its turns."""
    done: dict[str, list[dict[str, Any]]] = {name: [] for name in arguments.only}
    for seed in range(arguments.rounds):
        course = Course(recipe, arguments.images, arguments.epochs, seed)
        for name in arguments.only:
            done[name].append(in_a_process(name, course))
    return done


def in_a_process(name: str, course: Course) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_run, args=(name, course, time.time(), theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        return ours.recv()
    except EOFError:
        raise SystemExit(f"{name}: its process ended") from None
    finally:
        process.join()


def _run(name: str, course: Course, spawned: float, pipe: Connection) -> None:
    """Train; send the seconds since the process was wanted, and since all was ready, and scores."""
    keep_to_processors()
    after, accuracy, scoring = [], [], 0.0

    def note(params: list) -> None:
        nonlocal scoring
        now = time.time()
        after.append(now - scoring)
        model = fm.MLP([W.shape[0] for W, _ in params] + [params[-1][0].shape[1]])
        model.params.assign(params)
        accuracy.append(fm.evaluate(model, workloads.data()[1]).accuracy)
        scoring += time.time() - now

    call = import_module(f"benchmarks.peers.{RUNNERS[name]}").train(course, note)
    ready = time.time()
    call()
    pipe.send(
        {
            "accuracy": accuracy,
            "since_start": [end - spawned for end in after],
            "since_ready": [end - ready for end in after],
        }
    )


def row(recipe: str, name: str, runs: dict[str, list[dict[str, Any]]]) -> str:
    """One line of the table."""
    accuracy = 100 * statistics.mean(run["accuracy"][-1] for run in runs[name])
    cells = []
    for clock in ("since_start", "since_ready"):
        seconds = {
            other: statistics.median(run[clock][-1] for run in turns)
            for other, turns in runs.items()
        }
        ours = seconds.get("fastmnist", seconds[name])
        cells += [f"{seconds[name]:.2f}", f"{seconds[name] / ours:.1f}"]
    return f"| {recipe} | {name} | {accuracy:.2f} % | {' | '.join(cells)} |"


def save(runs: dict[str, dict[str, list[dict[str, Any]]]], folder: Path) -> None:
    """All figures as JSON, and accuracy against time as a picture."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "race.json").write_text(json.dumps(runs, indent=1), "utf-8")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.5, 4.2), layout="constrained", dpi=120)
    titles = {
        "since_start": "from the start of the process",
        "since_ready": "from data in memory, everything compiled",
    }
    for ax, clock in zip(figure.subplots(1, 2, sharey=True), titles, strict=True):
        for recipe, marker in zip(runs, "os^Dv*", strict=False):
            for name, turns in runs[recipe].items():
                first = turns[0]
                errors = [100 * (1 - accuracy) for accuracy in first["accuracy"]]
                ax.plot(
                    first[clock],
                    errors,
                    color=COLOURS[name],
                    marker=marker,
                    markersize=3,
                    linewidth=1,
                    label=f"{name}, {recipe}",
                )
        ax.set(title=titles[clock], xlabel="seconds", xscale="log", yscale="log")
        ax.set_yticks([1, 2, 5, 10], ["1 %", "2 %", "5 %", "10 %"])
        ax.minorticks_off()
        ax.grid(alpha=0.3)
        ax.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("test images misread")
    lines = figure.axes[1].get_legend_handles_labels()
    figure.legend(*lines, loc="outside right center", fontsize=8, frameon=False)
    figure.savefig(folder / "race.png")


if __name__ == "__main__":
    main()

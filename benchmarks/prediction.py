"""How soon images are read: ``python -m benchmarks.prediction``.

`MLP.predict` for 1, 100 and 10,000 images, beside what else would be used to predict with the same
network, in turns in one process. All get uint8 images and give classes, and first it is verified
that these are the same. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable
from functools import partial
from importlib import import_module

import numpy as np

from benchmarks import THREADS, workloads
from benchmarks.conditions import machine
from benchmarks.peers.problem import Problem
from benchmarks.timing import Taken, in_turns, warm

Predict = Callable[[], np.ndarray]

OURS = "fastmnist"
PEERS = {  # the package that is needed, and the module whose `classes` prepares it
    "ONNX Runtime": ("onnxruntime", "with_onnx_runtime"),
    "PyTorch": ("torch", "with_pytorch"),
    "scikit-learn": ("sklearn", "with_scikit_learn"),
}
# Images, calls in a turn so that it takes some milliseconds, and the unit to print.
CASES = ((1, 500, "µs"), (100, 50, "µs"), (10_000, 1, "ms"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--network", default=workloads.NETWORK, metavar="784-128-10")
    parser.add_argument("--rounds", type=int, default=21, help="turns of each (default: 21)")
    parser.add_argument("--only", nargs="+", choices=PEERS, default=list(PEERS), metavar="NAME")
    arguments = parser.parse_args()
    peers = [name for name in arguments.only if importlib.util.find_spec(PEERS[name][0])]
    print(
        f"Predicting with {arguments.network} ({workloads.data_name()}), float32, {THREADS} "
        f"threads: median (fastest to slowest) of {arguments.rounds}, in turns; in brackets in "
        f"times of fastmnist's. {machine('onnxruntime', 'torch', 'scikit-learn')}"
    )
    print()
    print(f"| images | {' | '.join([OURS, *peers])} |")
    print(f"|{'---|' * (2 + len(peers))}")
    for count, calls, unit in CASES:
        predicts = prepare(arguments.network, count, peers)
        verify({name: predict() for name, predict in predicts.items()})
        taken = in_turns(
            {name: partial(warm, predict) for name, predict in predicts.items()},
            arguments.rounds,
            calls,
        )
        print(row(count, taken, unit), flush=True)


def prepare(network: str, count: int, peers: list[str]) -> dict[str, Predict]:
    """What predicts the first test images, ours and the peers'."""
    problem, images = Problem(network, workloads.BATCH, workloads.BATCH), workloads.unseen(count)
    predicts = {OURS: workloads.predict(network, count)}
    for name in peers:
        module = import_module(f"benchmarks.peers.{PEERS[name][1]}")
        predicts[name] = module.classes(problem, images)
    return predicts


def verify(classes: dict[str, np.ndarray]) -> None:
    """Stop unless all give the same classes."""
    for name, given in classes.items():
        if not np.array_equal(given, classes[OURS]):
            raise SystemExit(f"{name} predicts other classes than {OURS}")


def row(count: int, taken: dict[str, Taken], unit: str) -> str:
    """One line of the table."""
    ours, *others = taken.values()
    cells = [f"{each.spread(unit)} [{each.median / ours.median:.1f}]" for each in others]
    return f"| {count:,} | {' | '.join([ours.spread(unit), *cells])} |"


if __name__ == "__main__":
    main()

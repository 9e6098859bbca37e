"""How far data-parallel training scales: ``python -m benchmarks.communication``.

Rounds of one step, so short that they are nothing but communication, between a hub (scheduler and
driver) and workers behind links that are limited and delayed (`benchmarks.relay`). Fitted to their
times is a model of a round,

    compute + base + task * shards + bytes * max(handling, 1 / rate) + trips * delay,

where bytes are those that pass links one after the other: the parameters from the driver to a
worker, from that to all others, by the tree of means to one, and back; and `rest` for each shard.
It is then checked against rounds that train, and drawn for clusters that are not at hand. Prints
tables in Markdown, and saves a picture and all figures.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client

import fastmnist as fm
from benchmarks import workloads
from benchmarks.conditions import machine
from benchmarks.relay import Host, Links, free_ports, relayed
from fastmnist.distributed.local_sgd import FAN_IN

NETWORKS = ("784-10-10", "784-128-10", "784-800-10")
LINKS = ((0, 0.0), (1e9, 0.0), (1e8, 0.0), (0, 0.005), (0, 0.02), (1e9, 0.005))  # bits/s, seconds
CHECKED = ("784-256-64-10", ((1e9, 0.001), (2e8, 0.01)))
BATCH = 64
SENT = 10  # Dask's distributed.worker.connections.incoming
BANDWIDTHS = (1e9, 1e10)
WORKERS = (2, 4, 8, 16, 32, 64, 128, 256)
COMPUTE = (1.0, 10.0)  # seconds that a worker trains in a round


@dataclass(frozen=True)
class Round:
    """One kind of round, and what it took."""

    network: str
    workers: int  # and as many shards
    rate: float  # bits a second, 0 for no limit
    delay: float  # seconds, one way
    steps: int
    parameters: int  # bytes
    passed: float  # bytes over the hub's link, out and in
    busiest: float  # bytes over the busiest link of a worker, out or in
    seconds: float  # median


@dataclass(frozen=True)
class Model:
    """Seconds of a round, but for what the workers compute."""

    base: float
    task: float  # for each shard
    trips: float  # delays
    handling: float  # of each byte, while it passes a link or, on fast links, for longer than that
    copies: float  # of the parameters over the hub's link, whatever the number of shards
    rest: float  # bytes besides, for each shard

    def passed(self, shards: int, parameters: float) -> float:
        """Bytes over the hub's link."""
        return self.copies * parameters + self.rest * shards

    def seconds(self, shards: int, parameters: float, rate: float, delay: float) -> float:
        each = max(self.handling, 8 / rate if rate else 0)
        passing = (copies_in_turn(shards) * parameters + self.rest * shards) * each
        return self.base + self.task * shards + passing + self.trips * delay


def copies_in_turn(shards: int) -> float:
    """Copies of the parameters that pass one after the other, with as many shards as workers.

    One from the driver, and one back. A worker sends to ten others at a time, Dask's limit, and
    those that come later ask whoever has them. Each level of the tree takes in the means of all but
    one of its group: those of shards are float32, means float64.
    """
    spread = shards - 1 if shards <= SENT + 1 else SENT * math.log(shards, SENT + 1)
    means, left, size = 0.0, shards, 1
    while left > 1:
        means += size * (min(left, FAN_IN) - 1)
        left, size = -(-left // FAN_IN), 2
    return 2 + spread + means


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--rounds", type=int, default=20, help="of each kind (default: 20)")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--steps", type=int, default=1000, help="of rounds that train")
    parser.add_argument("--output", type=Path, default=Path("communication"), metavar="FOLDER")
    arguments = parser.parse_args()
    print(
        f"Rounds over links between processes of this machine, medians of {arguments.rounds}. "
        f"{machine('distributed')}\n"
    )
    print(
        "| network | workers, shards | link | delay | driver's link | busiest worker's | a round |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|")
    fitted, checked = [], []
    for workers in arguments.workers:
        with hosts(workers) as (client, links):
            for network in arguments.networks:
                for link in LINKS:
                    fitted.append(measured(client, links, network, workers, link, 1, arguments))
                    print(row(fitted[-1]), flush=True)
            if workers <= 2:  # there are no processors for more that compute
                checked += trained(client, links, workers, arguments)
    model = fit(fitted)
    print(f"\n{describe(model)}\n")
    print(f"Checked against rounds of {arguments.steps} steps, which it was not fitted to:\n")
    print("| network | workers, shards | link | delay | a round | the model | communication |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for compute, point in checked:
        told = compute + model.seconds(point.workers, point.parameters, point.rate, point.delay)
        share = 1 - compute / point.seconds
        print(
            f"| {point.network} | {point.workers} | {_rate(point.rate)} | {_ms(point.delay)} "
            f"| {point.seconds:.3f} s | {told:.3f} s | {100 * share:.0f} % |"
        )
    print("\nWhat the model says of larger clusters, delay 0.1 ms, as many shards as workers:\n")
    print(predictions(model))
    arguments.output.mkdir(parents=True, exist_ok=True)
    figures = {
        "model": asdict(model),
        "fitted": [asdict(point) for point in fitted],
        "checked": [{"compute": c, **asdict(point)} for c, point in checked],
    }
    (arguments.output / "communication.json").write_text(json.dumps(figures, indent=1), "utf-8")
    draw(model, arguments.output / "communication.png")
    print(f"\nSaved in {arguments.output}: communication.json and communication.png")


@contextmanager
def hosts(workers: int) -> Iterator[tuple[Client, Links]]:
    """A scheduler, and so many workers with a host and a link each."""
    scheduler, *ports = free_ports(1 + 3 * workers)
    players = [Host(*ports[3 * i : 3 * i + 3]) for i in range(workers)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with relayed(scheduler, players) as links:
        local = "tcp://127.0.0.1"
        commands = [
            ("scheduler", "--host", "127.0.0.1", "--port", str(scheduler), "--no-dashboard"),
            *[
                (
                    *("worker", f"{local}:{player.scheduler}", "--nthreads", "1"),
                    *("--listen-address", f"{local}:{player.worker}"),
                    *("--contact-address", f"{local}:{player.contact}"),
                    *("--no-nanny", "--no-dashboard"),
                )
                for player in players
            ],
        ]
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.dask_{name}", *options], **quiet
            )
            for name, *options in commands
        ]
        try:
            with Client(f"tcp://127.0.0.1:{scheduler}", timeout=300) as client:
                client.wait_for_workers(workers, 300)
                yield client, links
        finally:
            for process in processes:
                process.kill()  # a worker whose scheduler is gone first does not end itself
            for process in processes:
                process.wait()


def measured(
    client: Client,
    links: Links,
    network: str,
    workers: int,
    link: tuple[float, float],
    steps: int,
    arguments: argparse.Namespace,
) -> Round:
    """A few rounds to begin with, without a limit, then those that count."""
    model = fm.MLP(workloads.sizes(network), seed=0)
    seconds, before = [], np.zeros(())
    begin = 3

    def watch(model: object, epoch: fm.Epoch) -> None:
        nonlocal before
        seconds.append(epoch.seconds)
        if len(seconds) == begin:
            links.set(*link)
            before = links.passed()

    links.set(0, 0.0)
    fm.distributed.fit(
        model,
        fm.distributed.Drawn(BATCH * 10),
        client,
        shards=workers,
        rounds=begin + arguments.rounds,
        steps=steps,
        batch_size=BATCH,
        learning_rate=0.01,
        callbacks=[watch],
    )
    hub, *own = (links.passed() - before) / arguments.rounds
    links.set(0, 0.0)
    parameters = sum(W.nbytes + b.nbytes for W, b in model.params)
    return Round(
        *(network, workers, *link, steps, parameters),
        *(float(np.sum(hub)), float(np.max(own)), statistics.median(seconds[begin:])),
    )


def trained(
    client: Client, links: Links, workers: int, arguments: argparse.Namespace
) -> list[tuple[float, Round]]:
    """Rounds that train, over several links; and what of each is not communication."""
    network, tried = CHECKED
    alone, idle = (
        measured(client, links, network, workers, (0, 0.0), steps, arguments).seconds
        for steps in (arguments.steps, 1)
    )
    return [
        (
            alone - idle,
            measured(client, links, network, workers, link, arguments.steps, arguments),
        )
        for link in tried
    ]


def fit(points: list[Round]) -> Model:
    """Bytes, then times, by least squares of the relative errors; no coefficient is negative."""
    from scipy.optimize import least_squares

    def errors_of_bytes(coefficients: Any) -> list[float]:
        model = Model(0, 0, 0, 0, *coefficients)
        return [model.passed(p.workers, p.parameters) / p.passed - 1 for p in points]

    copies_and_rest = least_squares(errors_of_bytes, [2, 1000], bounds=(0, np.inf)).x

    def errors(coefficients: Any) -> list[float]:
        model = Model(*coefficients, *copies_and_rest)
        return [
            model.seconds(p.workers, p.parameters, p.rate, p.delay) / p.seconds - 1 for p in points
        ]

    scales = [0.01, 0.01, 5, 1e-8]
    found = least_squares(errors, scales, bounds=(0, np.inf), x_scale=scales).x
    return Model(*map(float, (*found, *copies_and_rest)))


def describe(model: Model) -> str:
    return (
        f"Fitted: a round takes {_ms(model.base)}, {_ms(model.task)} for each shard, "
        f"{model.trips:.1f} delays, and as long as the bytes need that pass in turn, at "
        f"{8e-9 / model.handling:.2f} Gbit/s at most. Over the driver's link pass "
        f"{model.copies:.2f} copies of the parameters, and {model.rest / 1000:.1f} kB for each "
        "shard."
    )


def predictions(model: Model) -> str:
    """Workers that are worth it: together as fast as so many without communication."""
    lines = [
        "| network | link | a round's computing | "
        + " | ".join(map(str, WORKERS))
        + " | half at |",
        "|---|--:|--:|" + "--:|" * (len(WORKERS) + 1),
    ]
    for network, bits, compute in _clusters():
        size = _bytes(network)
        worth = [n * compute / (compute + model.seconds(n, size, bits, 1e-4)) for n in WORKERS]
        half = next(n for n in itertools.count(1) if model.seconds(n, size, bits, 1e-4) > compute)
        lines.append(
            f"| {network} | {_rate(bits)} | {compute:g} s | "
            + " | ".join(f"{w:.1f}" for w in worth)
            + f" | {half} |"
        )
    return "\n".join(lines)


def _clusters() -> list[tuple[str, float, float]]:
    return [(n, b, c) for n in NETWORKS[1:] for b in BANDWIDTHS for c in COMPUTE]


def _bytes(network: str) -> int:
    return sum(W.nbytes + b.nbytes for W, b in fm.MLP(workloads.sizes(network)).params)


def row(point: Round) -> str:
    return (
        f"| {point.network} | {point.workers} | {_rate(point.rate)} | {_ms(point.delay)} "
        f"| {point.passed / 1e6:.2f} MB | {point.busiest / 1e6:.2f} MB | {_ms(point.seconds)} |"
    )


def _rate(bits: float) -> str:
    return f"{bits / 1e9:g} Gbit/s" if bits else "no limit"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms"


def draw(model: Model, path: Path) -> None:
    from matplotlib import pyplot as plt

    figure, ax = plt.subplots(figsize=(7, 5), layout="constrained")
    workers = np.arange(1, 257)
    ax.plot(workers, workers, color="0.7", label="perfect")
    for network, bits, compute in _clusters():
        size = _bytes(network)
        times = np.array([model.seconds(int(n), size, bits, 1e-4) for n in workers])
        ax.plot(
            workers,
            workers * compute / (compute + times),
            "-" if bits == BANDWIDTHS[1] else "--",
            label=f"{network}, {_rate(bits)}, {compute:g} s a round",
        )
    ax.set(xscale="log", yscale="log", xlabel="workers", ylabel="as fast as so many without links")
    ticks = [1, *WORKERS]
    ax.set_xticks(ticks, map(str, ticks))
    ax.set_yticks(ticks, map(str, ticks))
    ax.minorticks_off()
    ax.grid(alpha=0.3)
    ax.legend(fontsize="small")
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()

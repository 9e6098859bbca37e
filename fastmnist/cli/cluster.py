"""``fastmnist search``, and ``fastmnist train --cluster``: work for Dask's workers."""

from __future__ import annotations

import contextlib
import math
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastmnist import metrics
from fastmnist.backends import resolved
from fastmnist.cli.files import check_writable, load_data, model_path, record_of
from fastmnist.cli.options import AUTO, DEFAULT_MODEL, Backend, Data, DataDir, Json, known
from fastmnist.cli.results import described, percent, save_result
from fastmnist.datasets import Dataset
from fastmnist.errors import ClusterError
from fastmnist.files import locked
from fastmnist.history import History
from fastmnist.model import MLP
from fastmnist.recipes import RECIPES, Recipe
from fastmnist.records import Record
from fastmnist.terminal import Progress, Terminated, note, say, wanted

if TYPE_CHECKING:
    from distributed import Client
    from rich.table import Table

    from fastmnist.distributed import Trial


def _address(value: str | None) -> str | None:
    if value is None or re.fullmatch(r"local(:[1-9]\d*)?|\w+://.+", value):
        return value
    raise typer.BadParameter(
        f"{value!r} is neither local, nor local:2 or the like, nor an address tcp://host:8786"
    )


ROUNDS = 4  # in each epoch, by default
_SHOWN = 10  # trials, while others run

Cluster = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        callback=_address,
        help="local:2 for two worker processes; tcp://host:8786 for Dask's scheduler there.",
    ),
]
Shards = Annotated[
    int,
    typer.Option(metavar="N", min=1, help="With --cluster: parts that are trained on at a time."),
]
Rounds = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="With --cluster: how often their networks are averaged."),
]


def train_on_cluster(
    client: Client,
    plan: Recipe,
    network: MLP,
    train: Dataset,
    *,
    shards: int,
    rounds: int | None,
    done: int,
    **options: Any,
) -> History:
    """Train by a recipe, as many epochs as it has, in rounds; `options` as of `distributed.fit`."""
    from fastmnist import distributed

    settings = plan.options(train)
    epochs = settings.pop("epochs")
    settings.pop("averaging")  # of no recipe; the mean over shards takes its place
    samples = math.ceil(len(train) / shards)
    batch_size = min(settings["batch_size"], samples)
    rounds = rounds or ROUNDS * epochs
    settings |= {
        "batch_size": batch_size,
        "rounds": rounds,
        "steps": max(1, round(epochs * math.ceil(samples / batch_size) / rounds)),
    }
    with Progress(rounds, done, unit="round") as progress:
        return distributed.fit(
            network, train, client, shards=shards, callbacks=[progress], **settings | options
        )


@contextlib.contextmanager
def connected(address: str) -> Iterator[Client]:
    """Workers, and a line that tells of them."""
    from fastmnist import distributed

    with distributed.connect(address) as client:
        threads = distributed.tasks.Tasks(client).nthreads().values()
        note(
            f"{len(threads)} worker{'s' * (len(threads) != 1)}, {sum(threads)} tasks at a time; "
            f"dashboard: {client.dashboard_link}"
        )
        yield client


def search(
    vary: Annotated[
        list[str],
        typer.Option(
            metavar="NAME=VALUES",
            help="A range such as learning_rate=0.05..0.5, or a list such as hidden=64,256-64.",
        ),
    ],
    data: Data = AUTO,
    data_dir: DataDir = None,
    recipe: Annotated[
        str,
        typer.Option(metavar="NAME", callback=known("recipe", RECIPES), help="What does not vary."),
    ] = "default",
    trials: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="By default 40, or all combinations if fewer."),
    ] = None,
    validation: Annotated[
        int, typer.Option(metavar="N", min=1, help="Images set aside, to compare trials with.")
    ] = 10_000,
    stop_weak: Annotated[
        bool, typer.Option(help="Stop trials that are worse on the way than half of the others.")
    ] = True,
    study: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Keep all trials here; if it is there, go on with it."),
    ] = None,
    cluster: Cluster = "local",
    backend: Backend = AUTO,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of the search.")] = 0,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", help="The network with the best settings."),
    ] = DEFAULT_MODEL,
    as_json: Json = False,
) -> None:
    """Try many settings of a recipe, several at a time; train a network with the best, and test it.

    fastmnist search --vary learning_rate=0.05..0.5 --vary hidden=64,128,256 --trials 40

    fastmnist search --recipe accurate --vary rotation=0..15 --vary scale=0..0.2 --study study.log

    fastmnist search --vary seed=0,1,2,3,4 --vary optimizer=nesterov,adam --cluster tcp://host:8786
    """
    from fastmnist.distributed import searching, varied

    output = model_path(output)
    for path in (output, record_of(output), output.with_suffix(".png"), *filter(None, [study])):
        check_writable(path)
    try:
        space = varied.checked(dict(map(varied.parse, vary)))
    except (TypeError, ValueError) as error:
        raise typer.BadParameter(str(error), param_hint="--vary") from None
    backend = resolved(backend)
    source, split = load_data(data, data_dir)
    if validation >= len(split.train):
        raise typer.BadParameter(
            f"leaves nothing of {len(split.train):,} images", param_hint="--validation"
        )
    for part in split:
        note(described(part))
    with locked(output):
        with (
            _told_how_to_go_on(study),
            connected(cluster or "local") as client,
            _Shown(searching.count(space, trials)) as shown,
        ):
            found = searching.search(
                split.train,
                client,
                vary=space,
                recipe=recipe,
                trials=trials,
                validation=validation,
                stop_weak=stop_weak,
                backend=backend,
                seed=seed,
                study=study,
                callbacks=[shown],
            )
        if not as_json:
            from rich.console import Console

            Console().print(_table(found.trials))
        best, plan = found.best, found.recipe
        note(
            f"the best once more, on all {len(split.train):,} images: {best.describe()}; "
            f"{plan.describe()}, seed {found.best_seed}"
        )
        with Progress(plan.epochs) as progress:
            network, history = found.refit(split.train, backend=backend, callbacks=[progress])
        report = metrics.evaluate(network, split.test, backend=backend)
        record = Record(
            data=source,
            class_names=split.train.class_names,
            sizes=network.sizes,
            recipe=best.settings.get("recipe", recipe),
            seed=found.best_seed,
            test_accuracy=report.accuracy,
            test_loss=report.loss,
            train_seconds=sum(history.seconds),
            epochs=list(history),
        )
        tried = [asdict(trial) for trial in found.trials]
        options: dict[str, Any] = {"backend": backend, "as_json": as_json, "trials": tried}
        save_result(network, record, report, split.test, output, **options)


@contextlib.contextmanager
def _told_how_to_go_on(study: Path | None) -> Iterator[None]:
    """Say what is left of a search that ends before its time."""
    try:
        yield
    except (KeyboardInterrupt, Terminated, ClusterError):
        if study:
            say(f"trials that have ended are kept in {study}; to go on: the same command again")
        else:
            say("nothing is kept; a search with --study FILE can be gone on with")
        raise


class _Shown:
    """A callback of a search: a line for each trial, or on a terminal a table of the best."""

    def __init__(self, count: int) -> None:
        from rich.console import Console
        from rich.live import Live

        self._count = count
        console = Console(stderr=True)
        self._terminal = sys.stderr.isatty() and not console.is_dumb_terminal
        self._live = Live(console=console, transient=True, auto_refresh=False)

    def __enter__(self) -> _Shown:
        if self._terminal and not wanted.quiet:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def __call__(self, trial: Trial, trials: Sequence[Trial]) -> None:
        """Show that a trial has ended."""
        if self._live.is_started:
            from fastmnist.distributed.searching import ranked

            table = _table(ranked(trials)[:_SHOWN])
            table.title = f"{len(trials)} of {self._count} trials"
            self._live.update(table, refresh=True)
            return
        outcome = trial.reason or f"validation {percent(trial.accuracy)}"
        note(
            f"trial {len(trials)}/{self._count}: {trial.describe()}: {outcome}, "
            f"{trial.seconds:.2f} s"
        )


def _table(trials: Sequence[Trial]) -> Table:
    """Trials in this order."""
    from rich.table import Table

    from fastmnist.distributed.varied import text_of

    table = Table("", "validation", *map(_words, trials[0].settings), "epochs", "seconds", "")
    for place, trial in enumerate(trials, 1):
        table.add_row(
            str(place),
            percent(trial.accuracy),
            *(text_of(value) for value in trial.settings.values()),
            str(len(trial.accuracies)),
            f"{trial.seconds:.2f}",
            trial.reason,
        )
    return table


def _words(name: str) -> str:
    return name.replace("_", " ")

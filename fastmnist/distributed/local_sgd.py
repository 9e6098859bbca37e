"""Data-parallel training by local SGD: shards train by themselves, and meet once a round.

In each round every shard trains some steps from the round's parameters, with the kernels, on its
own samples; then the parameters become the mean of the shards' (Stich 2018, arXiv:1805.09767;
"federated averaging" of McMahan et al. 2017, arXiv:1602.05629). With one step a round and plain SGD
that is SGD with a batch of all shards' samples: the mean of the new parameters is the old ones
less the mean gradient. With more steps it is another algorithm: a shard's later gradients are those
at its own parameters. So the number of shards and of rounds belongs to the mathematics, like the
batch size. The number of workers does not: results are averaged in the order of the shards.

The mean is taken on the workers, by a tree of sums whose shape follows from the number of shards
alone. So only one copy of the parameters passes the link of the driver each way in a round.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np
from distributed import Client
from numpy.typing import NDArray

from fastmnist import checks, metrics
from fastmnist.augment import Augmentation
from fastmnist.backends import backend_named, resolved
from fastmnist.checkpoints import Checkpoint, Identity, kept
from fastmnist.counter_based import epoch_key
from fastmnist.datasets import Dataset
from fastmnist.distributed.cluster import check_client, compile_once
from fastmnist.distributed.sources import InMemory, Part, Source, seed_of
from fastmnist.distributed.tasks import Tasks
from fastmnist.dropout import Dropout
from fastmnist.epochs import (
    epoch_order,
    epoch_rows,
    finite,
    samples_identity,
    samples_of,
    set_aside,
)
from fastmnist.errors import ClusterError, DivergedError
from fastmnist.history import Epoch, History, Printer
from fastmnist.model import MLP
from fastmnist.optimizers import SGD, Adam, Schedule, State, optimizer_named, rates, usual_rate
from fastmnist.parameters import Parameters
from fastmnist.training import Callback

# Shards, or means of shards, that a worker averages at a time: so many copies of the parameters
# come in over its link for each level of the tree. Up to eight shards make a single sum, in order.
FAN_IN = 8


def fit(
    model: MLP,
    train: Dataset | Source,
    client: Client,
    *,
    shards: int = 8,
    rounds: int = 20,
    steps: int | None = None,
    batch_size: int = 64,
    learning_rate: float | None = None,
    optimizer: str | SGD | Adam = "nesterov",
    schedule: str | Schedule = "one-cycle",
    label_smoothing: float = 0.0,
    dropout: float = 0.0,
    input_dropout: float = 0.0,
    augmentation: Augmentation | None = None,
    validation: int | Dataset | None = None,
    backend: str = "auto",
    seed: int = 0,
    checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
    resume: bool = False,
    progress: bool = False,
    callbacks: Sequence[Callback] = (),
) -> History:
    """Train `model` in place, on the workers of a Dask cluster.

    Parameters
    ----------
    model : MLP
    train : Dataset, Folder or Drawn
        A data set in memory is dealt out to the shards; of the others each worker reads or draws
        what it needs.
    client : distributed.Client
        Of `connect`, or any other. Workers may be lost, stall or join at any time: the result has
        the same bits for any number of them, on one kind of processor.
    shards : int
        Into how many parts the data is divided, for one task each in every round: at least as many
        as there are threads of workers, or some have nothing to do. Other shards, other results.
    rounds : int
        How often the shards' parameters are averaged.
    steps : int, optional
        Steps that every shard trains in a round; by default it trains once on its samples (of
        folders, on one folder). The next round goes on where this one ends.
    batch_size : int
        Samples in a step of one shard.
    learning_rate, optimizer, schedule, label_smoothing, dropout, input_dropout, augmentation
        As `fastmnist.fit` takes them. The schedule is one over all rounds; what the optimiser
        carries from step to step begins anew in each.
    validation : int or Dataset, optional
        A set to test after each round, in this process; or samples to set aside, of data in memory.
    backend : {"auto", "numba", "reference"}
        The kernels, or plain NumPy. "auto" takes what this process can use; the workers need it.
    seed : int
        From 0 to 2**63 - 1. With one shard and one round, the same as `fastmnist.fit`.
    checkpoint, resume, progress, callbacks
        As `fastmnist.fit` takes them; a checkpoint is written after each round.

    Returns
    -------
    History
        An `Epoch` for each round; its seconds include communication.

    Raises
    ------
    TypeError, ValueError, ModelFileError, DataError, OSError
        As of `fastmnist.fit`; if there is too little data for so many shards.
    ClusterError
        If the scheduler is lost, or a task with every worker that tries it.
    DivergedError
        If a loss or a parameter becomes infinite or NaN; `epoch` is the round.
    KeyboardInterrupt
        On Ctrl-C. After this, and other errors, the model has the parameters of the last whole
        round.
    """
    check_client(client)
    seed = checks.whole("seed", seed, 0, 2**63 - 1)
    rule = optimizer_named(optimizer)
    if not isinstance(augmentation, Augmentation | None):
        raise TypeError(f"augmentation must be an Augmentation or None, got {augmentation!r}")
    Dropout(dropout, input_dropout)  # checked now
    plan = Plan(
        shards=checks.whole("shards", shards, 1),
        rounds=checks.whole("rounds", rounds, 1),
        steps=None if steps is None else checks.whole("steps", steps, 1),
        batch_size=checks.whole("batch_size", batch_size, 1),
        learning_rate=usual_rate(rule)
        if learning_rate is None
        else checks.positive("learning_rate", learning_rate),
        optimizer=rule,
        schedule=schedule,
        label_smoothing=checks.share("label_smoothing", label_smoothing),
        dropout=float(dropout),
        input_dropout=float(input_dropout),
        augmentation=augmentation,
        backend=resolved(backend),
        seed=seed,
    )
    rates(schedule, plan.learning_rate, plan.rounds)  # checked now
    if isinstance(train, Dataset):
        train, validation = set_aside(train, validation, seed)
        samples_of(train, model.sizes)
        train = InMemory(train, seed)
    if isinstance(validation, Dataset):
        samples_of(validation, model.sizes)
    elif validation is not None:
        raise TypeError("validation must be a Dataset where train is none")
    parts = [train.part(shard, plan.shards) for shard in range(plan.shards)]

    def identity() -> Identity:
        told = {name: getattr(plan, name) for name in plan.__dataclass_fields__}
        return {
            "sizes": "-".join(map(str, model.sizes)),
            "train": train.describe(),
            "validation": validation and samples_identity(*samples_of(validation, model.sizes)),
            **{
                name: value if isinstance(value, int | float | str | None) else repr(value)
                for name, value in told.items()
            },
        }

    with (
        kept(checkpoint, model, identity, resume=resume) as (done, save),
        _told_what_is_kept(checkpoint, done.history),
    ):
        report_to = [*callbacks]
        if progress:
            report_to.insert(0, Printer("round", plan.rounds, len(done.history)))
        tasks = Tasks(client)
        if plan.backend == "numba":
            compile_once(tasks, augmentation=augmentation is not None)
        held: dict[tuple[int, int], Any] = {}
        for number in range(len(done.history), plan.rounds):
            started = time.perf_counter()
            mean = _round(tasks, model.params, parts, plan, number, held)
            params = Parameters.copy_of(mean.params)
            model.params.flat[:] = params.flat  # in one go: Ctrl-C leaves a whole round's
            seconds = time.perf_counter() - started
            scores = None
            if validation:
                scores = metrics.evaluate(model, validation, backend=plan.backend)
            epoch = Epoch(
                mean.loss,
                scores.loss if scores else None,
                scores.accuracy if scores else None,
                seconds,
                mean.rate,
            )
            done.history.append(epoch)
            for callback in report_to:
                callback(model, epoch)
            save()
    return History(done.history)


@dataclass(frozen=True)
class Plan:
    """How each shard trains in each round, as `fit` says."""

    shards: int
    rounds: int
    steps: int | None
    batch_size: int
    learning_rate: float
    optimizer: SGD | Adam
    schedule: str | Schedule
    label_smoothing: float
    dropout: float
    input_dropout: float
    augmentation: Augmentation | None
    backend: str
    seed: int


class Trained(NamedTuple):
    """What a shard has come to in a round, or several of them on average."""

    params: Sequence[tuple[NDArray[Any], NDArray[Any]]]
    loss: float  # nats per image
    samples: int  # that it was trained on, each as often as it came
    rate: float  # of the last step


def train_shard(
    params: Parameters, data: Dataset, plan: Plan, shard: int, number: int, portions: int
) -> Trained:
    """Train a shard in round `number`, from the round's parameters, on one thread.

    A pure function: it may be called again, elsewhere, with the same result.
    """
    params = Parameters.copy_of(params)  # those given belong to other tasks, too
    visit, portion = divmod(number, portions)
    seed = seed_of(plan.seed, shard + plan.shards * portion)
    backend = backend_named(plan.backend)
    X, y = samples_of(data, params.sizes)
    rows_of = epoch_rows(backend, data, X, plan.augmentation, plan.input_dropout, seed)
    batches = math.ceil(len(y) / plan.batch_size)
    steps = plan.steps or batches
    pace = rates(plan.schedule, plan.learning_rate, plan.rounds * steps)[number * steps :][:steps]
    state, losses, done = State.zeros(params), 0.0, 0
    for epoch, first, last in _passes(visit * steps, steps, batches):
        order = epoch_order(seed, epoch, len(y))[first * plan.batch_size : last * plan.batch_size]
        taken = state.steps
        with np.errstate(over="ignore", invalid="ignore"):  # divergence is looked for
            loss = backend.train_epoch(
                params,
                rows_of(epoch),
                y,
                learning_rate=pace[taken : taken + last - first],
                batch_size=plan.batch_size,
                optimizer=plan.optimizer,
                state=state,
                order=order,
                label_smoothing=plan.label_smoothing,
                dropout=Dropout(plan.dropout, plan.input_dropout, epoch_key(seed, epoch)),
                threads=1,
            )
        losses, done = losses + loss * len(order), done + len(order)
    loss = losses / done
    if not finite(loss, params):
        raise DivergedError(
            f"training diverged in round {number + 1}, shard {shard + 1} of {plan.shards}; the "
            f"model keeps the parameters from before that round; try a learning rate below "
            f"{plan.learning_rate:g}, and look for extreme numbers in the data",
            epoch=number + 1,
            batch=steps,
        )
    return Trained(params, loss, done, float(pace[-1]))


def _passes(first: int, steps: int, batches: int) -> Iterator[tuple[int, int, int]]:
    """Steps `first` to `first + steps` as (epoch, first batch in it, last), of `batches` each."""
    while steps:
        epoch, batch = divmod(first, batches)
        count = min(steps, batches - batch)
        yield epoch, batch, batch + count
        first, steps = first + count, steps - count


def _round(
    tasks: Tasks,
    params: Parameters,
    parts: Sequence[Part],
    plan: Plan,
    number: int,
    held: dict[tuple[int, int], Any],
) -> Trained:
    """The mean of what all shards come to.

    `held` are the portions that workers hold: those of the round before, if they are the same.
    """
    numbers = {(shard, number % part.portions): part for shard, part in enumerate(parts)}
    for key in held.keys() - numbers.keys():
        del held[key]  # and the workers forget it
    begun = tasks.hold(params)
    for (shard, portion), part in numbers.items():
        if (shard, portion) not in held:
            held[shard, portion] = tasks.submit(load_portion, part, portion)
    trained = [
        tasks.submit(train_shard, begun, held[shard, portion], plan, shard, number, part.portions)
        for (shard, portion), part in numbers.items()
    ]
    means = trained
    while len(means) > FAN_IN:
        means = [tasks.submit(average, *group) for group in _groups(means)]
    mean = tasks.submit(average_in_float32, *means)
    while not tasks.wait([mean]):
        pass
    if mean.status == "error":
        tasks.results(trained)  # raises that of the first shard that has one, whichever came first
    (result,) = tasks.results([mean])
    return cast("Trained", result)


def load_portion(part: Part, portion: int) -> Dataset:
    """The samples of a portion; called on a worker."""
    return part.load(portion)


def _groups(futures: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (futures[begin : begin + FAN_IN] for begin in range(0, len(futures), FAN_IN))


def average(*results: Trained) -> Trained:
    """The mean, weighted by samples, summed in this order in float64; called on a worker."""
    total = sum(result.samples for result in results)
    shares = [result.samples / total for result in results]

    def mean(arrays: Iterable[NDArray[Any]]) -> Any:
        return sum(s * a.astype(np.float64) for s, a in zip(shares, arrays, strict=True))

    layers = zip(*(result.params for result in results), strict=True)
    params = [(mean(W for W, _ in layer), mean(b for _, b in layer)) for layer in layers]
    loss = sum(s * result.loss for s, result in zip(shares, results, strict=True))
    return Trained(params, loss, total, results[0].rate)


def average_in_float32(*results: Trained) -> Trained:
    """The mean of all, as the next round begins with it."""
    mean = average(*results)
    return mean._replace(params=Parameters.copy_of(mean.params))


@contextlib.contextmanager
def _told_what_is_kept(checkpoint: Any, history: Sequence[Epoch]) -> Iterator[None]:
    """A lost cluster's error also says from where to go on."""
    try:
        yield
    except ClusterError as error:
        path = checkpoint.path if isinstance(checkpoint, Checkpoint) else checkpoint
        kept = f"{path} has all of it: resume" if path else "no checkpoint was asked for"
        raise ClusterError(f"{error}, after round {len(history)}; {kept}") from error

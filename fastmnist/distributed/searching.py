"""Search: many trainings with other settings, on all workers at once; which reads most?

Optuna chooses what to try next, and keeps the study; the workers train. Each trial is one task, a
pure function of its settings, the data, and the bars that it has to clear on the way.
"""

from __future__ import annotations

import contextlib
import math
import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from distributed import Client, Future

from fastmnist import checks
from fastmnist.backends import resolved
from fastmnist.datasets import Dataset
from fastmnist.distributed import varied
from fastmnist.distributed.cluster import check_client, compile_once
from fastmnist.distributed.study import Outcome, Study, Trial, kept_study
from fastmnist.distributed.tasks import TaskLost, Tasks
from fastmnist.distributed.varied import Vary
from fastmnist.epochs import samples_identity, samples_of, set_aside
from fastmnist.errors import ClusterError, DivergedError
from fastmnist.history import Epoch, History
from fastmnist.model import MLP
from fastmnist.recipes import RECIPES, Recipe

TRIALS = 40  # by default, where there are more settings than that
ENOUGH = 5  # trials that are done before others are compared with them

Callback = Callable[[Trial, Sequence[Trial]], object]


@dataclass(frozen=True)
class Found:
    """What a search has found.

    Attributes
    ----------
    trials : list of Trial
        The best first: those that are done by their accuracy, then those that are not.
    base : Recipe
        What the settings change.
    seed : int
        Of all trials that do not vary it.
    """

    trials: list[Trial]
    base: Recipe
    seed: int

    @property
    def best(self) -> Trial:
        """The one that read most of the validation images, with the smallest loss of equals."""
        return self.trials[0]

    @property
    def recipe(self) -> Recipe:
        """With the best settings."""
        return varied.applied(self.base, self.best.settings)

    @property
    def best_seed(self) -> int:
        """Of the best trial."""
        return int(self.best.settings.get("seed", self.seed))

    def refit(self, train: Dataset, **options: Any) -> tuple[MLP, History]:
        """Train a network with the best settings, on all of `train`, in this process.

        `options` are further arguments of `fastmnist.fit`.
        """
        model = self.recipe.model(train, seed=self.best_seed)
        return model, self.recipe.fit(model, train, seed=self.best_seed, **options)


def search(
    train: Dataset,
    client: Client,
    *,
    vary: Vary,
    recipe: str | Recipe = "default",
    trials: int | None = None,
    validation: int | Dataset = 10_000,
    stop_weak: bool = True,
    backend: str = "auto",
    seed: int = 0,
    study: str | os.PathLike[str] | None = None,
    callbacks: Sequence[Callback] = (),
) -> Found:
    """Try settings of a recipe, and find those with which a network reads most.

    Parameters
    ----------
    train : Dataset
    client : distributed.Client
        Of `connect`, or any other.
    vary : mapping
        From the names of settings to a `Range` or a list of choices:
        ``{"learning_rate": Range(0.05, 0.5), "hidden": [64, 128, (256, 64)]}``. They are those of
        `Recipe`, the fields of `Augmentation`, "recipe" and "seed".
    recipe : str or Recipe
        What is not varied.
    trials : int, optional
        How many, with those that the study holds: by default 40, or all combinations of choices if
        these are fewer. All combinations are tried where there are trials enough; else Optuna's
        tree-structured Parzen estimator chooses, from what came of earlier ones.
    validation : int or Dataset
        Samples set aside from `train` to compare trials with, or a set of its own: never the test
        set, whose accuracy would then be too good.
    stop_weak : bool
        Stop a trial that is worse, after an epoch, than the median of those that are done was at
        the same part of its training (the median stopping rule of Golovin et al. 2017, "Google
        Vizier", for the accuracy itself in place of its running average).
    backend : {"auto", "numba", "reference"}
        The kernels, or plain NumPy. "auto" takes what this process can use; the workers need it.
    seed : int
        Of the choice of settings, of samples to set aside, and of trials that do not vary it.
    study : path-like, optional
        A file in which all trials are kept as they end. If it is there, it is gone on with: it
        must be of the same search.
    callbacks : sequence of callable
        Each is called as ``callback(trial, trials)`` when a trial has ended, with all so far.

    Returns
    -------
    Found

    Raises
    ------
    TypeError, ValueError
        If an argument is out of its range, or the study is of another search.
    DataError
        If another process searches with this study, or the file is no study.
    ClusterError
        If the scheduler is lost, or a trial with every worker that tries it; the study keeps what
        has ended.
    RuntimeError
        If no trial was done; the message has the reason of the last.
    """
    check_client(client)
    if not isinstance(recipe, Recipe):
        recipe = RECIPES[checks.nearest("recipe", recipe, RECIPES)]
    space = varied.checked(vary)
    seed, backend = checks.whole("seed", seed, 0), resolved(backend)
    wanted = count(space, trials)
    fit_to, held_out = set_aside(train, validation, seed)
    if held_out is None:
        raise TypeError("validation must be a number of samples, or a Dataset")
    sizes = recipe.model(train).sizes
    identity = {
        "train": samples_identity(*samples_of(fit_to, sizes)),
        "validation": samples_identity(*samples_of(held_out, sizes)),
        "recipe": repr(recipe),
        "varied": repr(space),
        "seed": seed,
    }
    with kept_study(study, identity, space, seed) as kept:
        if wanted == varied.combinations(space):
            kept.try_all()
        distorted = recipe.augmentation is not None or bool(varied.DISTORTIONS & space.keys())
        with _told_what_is_kept(study, kept):
            tasks = Tasks(client)
            if backend == "numba":
                compile_once(tasks, augmentation=distorted)
            _run(
                tasks,
                kept,
                wanted,
                _Task(recipe, backend, seed, stop_weak),
                (fit_to, held_out),
                callbacks,
            )
        ended = kept.trials()
    if not any(trial.state == "done" for trial in ended):
        raise RuntimeError(f"no trial was done: {ended[-1].reason}")
    return Found(ranked(ended), recipe, seed)


def count(vary: Vary, trials: int | None = None) -> int:
    """How many trials a search of so many at most has: no more than there are settings."""
    most = TRIALS if trials is None else checks.whole("trials", trials, 1)
    return int(min(most, varied.combinations(vary)))


def ranked(trials: Sequence[Trial]) -> list[Trial]:
    """The best first: those that are done by accuracy and loss, then the others."""
    return sorted(trials, key=lambda t: (t.state != "done", -t.accuracy, t.loss, t.number))


@dataclass(frozen=True)
class _Task:
    """What all trials have in common."""

    recipe: Recipe
    backend: str
    seed: int
    stop_weak: bool

    def epochs(self, settings: dict[str, Any]) -> int:
        return varied.applied(self.recipe, settings).epochs


def _run(
    tasks: Tasks,
    study: Study,
    wanted: int,
    task: _Task,
    data: tuple[Dataset, Dataset],
    callbacks: Sequence[Callback],
) -> None:
    """Have trials run on all workers until so many have ended."""
    held = tasks.hold(data)
    begun: dict[Future[Outcome], Any] = {}
    ended = study.trials()
    while len(ended) < wanted:
        # No more than can run: Dask could put one that waits on the worker that is free last. But
        # one also without workers: adaptive clusters start some for tasks that wait.
        room = max(1, tasks.threads()) - len(begun)
        for _ in range(min(room, wanted - len(ended) - len(begun))):
            trial, settings = study.ask()
            bars = _bars(ended, task.epochs(settings)) if task.stop_weak else []
            future = tasks.submit(
                run_trial, task.recipe, settings, task.seed, held, bars, task.backend
            )
            begun[future] = trial
        if not tasks.wait(begun, "FIRST_COMPLETED"):
            continue  # workers may have come
        future = next(future for future in begun if future.done())
        ended.append(study.tell(begun.pop(future), _outcome(tasks, future)))
        for callback in callbacks:
            callback(ended[-1], ended)


def _outcome(tasks: Tasks, future: Future[Outcome]) -> Outcome:
    try:
        (outcome,) = tasks.results([future])
    except TaskLost as error:  # out of memory, say: others may have what they need
        return Outcome("failed", [], str(error))
    return cast("Outcome", outcome)


@contextlib.contextmanager
def _told_what_is_kept(path: str | os.PathLike[str] | None, study: Study) -> Iterator[None]:
    """A lost cluster's error also says from where to go on."""
    try:
        yield
    except ClusterError as error:
        kept = f"{path} has them: search again with it" if path else "no study was asked for"
        raise ClusterError(f"{error}, after {len(study.trials())} trials; {kept}") from error


def _bars(ended: Sequence[Trial], epochs: int) -> list[float]:
    """The accuracy that a trial of so many epochs has to reach after each but the last."""
    done = [trial.accuracies for trial in ended if trial.state == "done"]
    if len(done) < ENOUGH:
        return []
    return [
        statistics.median(curve[math.ceil(len(curve) * k / epochs) - 1] for curve in done)
        for k in range(1, epochs)
    ]


class _Weak(Exception):
    """A trial that does not clear a bar."""


def run_trial(
    recipe: Recipe,
    settings: dict[str, Any],
    seed: int,
    data: tuple[Dataset, Dataset],
    bars: Sequence[float],
    backend: str = "auto",
) -> Outcome:
    """Train with these settings, on one thread, and test after every epoch."""
    train, held_out = data
    recipe, seed = varied.applied(recipe, settings), settings.get("seed", seed)
    epochs: list[Epoch] = []

    def watch(model: MLP, epoch: Epoch) -> None:
        epochs.append(epoch)
        if len(epochs) <= len(bars) and (epoch.validation_accuracy or 0) < bars[len(epochs) - 1]:
            raise _Weak

    try:
        model = recipe.model(train, seed=seed)
        recipe.fit(
            *(model, train),
            validation=held_out,
            backend=backend,
            threads=1,
            seed=seed,
            callbacks=[watch],
        )
    except _Weak:
        return Outcome("stopped", epochs, f"weak after epoch {len(epochs)}")
    except DivergedError:
        return Outcome("stopped", epochs, f"diverged in epoch {len(epochs) + 1}")
    except (ValueError, TypeError, MemoryError) as error:
        return Outcome("failed", epochs, f"{type(error).__name__}: {error}")
    return Outcome("done", epochs)

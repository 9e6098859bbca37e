"""A study: the trials of a search, as Optuna keeps them and chooses the next."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from fastmnist.distributed import varied
from fastmnist.distributed.varied import Range
from fastmnist.errors import DataError
from fastmnist.files import locked
from fastmnist.history import Epoch

Space = Mapping[str, Range | tuple[Any, ...]]

_NAME = "fastmnist"
_STATES = {"done": TrialState.COMPLETE, "stopped": TrialState.PRUNED, "failed": TrialState.FAIL}
_NAMES = {state: name for name, state in _STATES.items()}


class Outcome(NamedTuple):
    """What came of a trial."""

    state: str  # as of `Trial`
    epochs: list[Epoch]
    reason: str = ""


@dataclass(frozen=True)
class Trial:
    """Settings that were tried.

    Attributes
    ----------
    number : int
        From 0.
    settings : dict
        What is varied, and its values.
    state : {"done", "stopped", "failed"}
        Stopped if it was worse on the way than half of the others, or diverged.
    accuracies : tuple of float
        Share of the validation images that was read right after each epoch, 0 to 1.
    loss : float
        Validation loss after the last epoch, nats per image.
    seconds : float
        Training alone.
    reason : str
        Why it was stopped or failed.
    """

    number: int
    settings: dict[str, Any]
    state: str
    accuracies: tuple[float, ...]
    loss: float
    seconds: float
    reason: str

    @property
    def accuracy(self) -> float:
        """After its last epoch; 0 if there was none."""
        return self.accuracies[-1] if self.accuracies else 0.0

    def describe(self) -> str:
        """Its settings, for people."""
        return ", ".join(
            f"{name.replace('_', ' ')} {varied.text_of(value)}"
            for name, value in self.settings.items()
        )


class Study:
    """Trials of settings in a space, in memory or in a file.

    Parameters
    ----------
    kept : optuna.Study
    space : mapping
        From names of settings to ranges and choices.
    """

    def __init__(self, kept: optuna.Study, space: Space) -> None:
        self._kept, self._space = kept, space
        self._distributions = {name: _distribution(values) for name, values in space.items()}
        for trial in kept.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
            self._kept.enqueue_trial(trial.params)  # who tried it is gone
            kept.tell(trial.number, state=TrialState.FAIL)

    def try_all(self) -> None:
        """Let the next trials be all combinations of choices that have not been tried yet."""
        for values in product(*self._space.values()):  # type: ignore[arg-type]
            settings = {n: _label(v) for n, v in zip(self._space, values, strict=True)}
            self._kept.enqueue_trial(settings, skip_if_exists=True)

    def ask(self) -> tuple[optuna.Trial, dict[str, Any]]:
        """What to try next: the trial, to be told what came of it, and its settings."""
        trial = self._kept.ask(self._distributions)
        return trial, self._settings(trial.params)

    def tell(self, trial: optuna.Trial, outcome: Outcome) -> Trial:
        """What came of it."""
        for number, epoch in enumerate(outcome.epochs):
            trial.report(float(epoch.validation_accuracy or 0), number)
            trial.set_user_attr("loss", epoch.validation_loss)
        trial.set_user_attr("seconds", sum(epoch.seconds for epoch in outcome.epochs))
        trial.set_user_attr("reason", outcome.reason)
        state = _STATES[outcome.state]
        done = state == TrialState.COMPLETE
        value = outcome.epochs[-1].validation_accuracy if done else None
        return self._trial(self._kept.tell(trial, value, state))

    def trials(self) -> list[Trial]:
        """All that have ended, in the order in which they began."""
        ended = self._kept.get_trials(deepcopy=False, states=tuple(_STATES.values()))
        return [self._trial(trial) for trial in ended if "seconds" in trial.user_attrs]

    def _trial(self, kept: FrozenTrial) -> Trial:
        told = kept.user_attrs
        return Trial(
            kept.number,
            self._settings(kept.params),
            _NAMES[kept.state],
            tuple(kept.intermediate_values.values()),
            float(told.get("loss", np.inf)),
            told["seconds"],
            told["reason"],
        )

    def _settings(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Values in place of the labels of choices."""
        settings = {}
        for name, values in self._space.items():
            value = params[name]
            if isinstance(values, tuple):
                value = {_label(choice): choice for choice in values}[value]
            settings[name] = value
        return settings


@contextlib.contextmanager
def kept_study(
    path: str | os.PathLike[str] | None, identity: Mapping[str, Any], space: Space, seed: int
) -> Iterator[Study]:
    """A study, in a file that nobody else has in this block; in memory without one."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(_silent())
        storage: Any = InMemoryStorage()
        if path is not None:
            stack.enter_context(locked(path))
            storage = _in_file(path)
        sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        if storage.get_all_studies():
            kept = optuna.load_study(study_name=_NAME, storage=storage, sampler=sampler)
        else:
            kept = optuna.create_study(
                storage=storage, study_name=_NAME, direction="maximize", sampler=sampler
            )
        before = kept.user_attrs.get("identity", identity)
        differences = [
            f"{name} was {before.get(name)}, is {value}"
            for name, value in identity.items()
            if before.get(name) != value
        ]
        if differences:
            raise ValueError(
                f"{path} is of another search: {'; '.join(differences)}; "
                "go on with the same data and settings, or name another file"
            )
        kept.set_user_attr("identity", dict(identity))
        yield Study(kept, space)


def _in_file(path: str | os.PathLike[str]) -> JournalStorage:
    """The storage in a file; what a process that was killed has left of a last line is removed."""
    try:
        content = Path(path).read_bytes() if os.path.exists(path) else b""
        whole = content[: content.rfind(b"\n") + 1]
        for line in whole.splitlines() or [content] * bool(content):
            json.loads(line)  # Optuna itself would write behind a last line that it cannot read
        storage = _storage(path)
        if any(study.study_name != _NAME for study in storage.get_all_studies()):
            raise ValueError("of another program")
    except OSError:
        raise
    except Exception as error:  # whatever a line that is none of its own leads to
        raise DataError(f"{path}: not a readable study: {error!r}") from error
    if whole != content:
        os.truncate(path, len(whole))
        storage = _storage(path)
    return storage


class _Locked:
    """The file is locked already; Optuna's own lock outlives a process, and is waited for 30 s."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


def _storage(path: str | os.PathLike[str]) -> JournalStorage:
    lock: Any = _Locked()
    return JournalStorage(JournalFileBackend(os.fspath(path), lock_obj=lock))


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Optuna logs what the callers of a search are told otherwise."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def _distribution(values: Range | tuple[Any, ...]) -> BaseDistribution:
    if isinstance(values, tuple):
        return CategoricalDistribution([_label(value) for value in values])
    if values.whole:
        return IntDistribution(int(values.low), int(values.high), log=bool(values.log))
    return FloatDistribution(values.low, values.high, log=bool(values.log))


def _label(choice: Any) -> Any:
    """A choice as Optuna keeps it: layers as text."""
    return varied.text_of(choice) if isinstance(choice, tuple) else choice

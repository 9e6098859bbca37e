"""Checkpoints: a training on disk after every epoch, to go on from with the same bits.

A checkpoint is a model's file (`fastmnist.archive`) with more in it: the optimiser's state, the
history, and what the training is, so that it goes on with the same data and settings only. Random
numbers need no state: they are computed from the seed, the epoch and the sample.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmnist import __version__, archive, checks
from fastmnist.errors import ModelFileError
from fastmnist.files import locked
from fastmnist.history import Epoch
from fastmnist.model import MLP, arrays_of, params_in, sizes_in
from fastmnist.optimizers import State
from fastmnist.parameters import Parameters
from fastmnist.progress import Average, Best, Progress

Identity = dict[str, Any]  # what a training is: names of data and settings, and their values

_START = "parameters at the start"


@dataclass(frozen=True)
class Checkpoint:
    """Where a training is kept, and what whoever resumes it may want to know.

    Attributes
    ----------
    path : path-like
    notes : mapping
        Anything that JSON has.
    """

    path: str | os.PathLike[str]
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Saved:
    """What a checkpoint holds."""

    params: Parameters
    progress: Progress
    identity: Identity
    notes: Mapping[str, Any]


@contextlib.contextmanager
def kept(
    checkpoint: str | os.PathLike[str] | Checkpoint | None,
    model: MLP,
    identity: Callable[[], Identity],
    *,
    resume: bool,
) -> Iterator[tuple[Progress, Callable[[], None]]]:
    """The progress to go on from, and what saves it; nobody else has the file in this block.

    Without a checkpoint, that is the beginning, and nothing is saved.

    Raises
    ------
    DataError
        If another process trains with this checkpoint.
    ModelFileError
        If there is none to resume, or it is damaged.
    OSError
        If it cannot be written; the one before is unchanged.
    ValueError
        If it is of another training: names what differs; if it is there and not to be resumed, or
        to be resumed and none is named.
    """
    if checkpoint is None:
        if resume:
            raise ValueError("resume needs a checkpoint")
        yield Progress(State.zeros(model.params)), lambda: None
        return
    if not isinstance(checkpoint, Checkpoint):
        checkpoint = Checkpoint(checkpoint)
    told = {**identity(), _START: fingerprint(*_flat(model.params)), "fastmnist": __version__}
    with locked(checkpoint.path):
        if resume:
            saved = read(checkpoint.path)
            _check_same(checkpoint.path, saved, told)
            told, progress, notes = saved.identity, saved.progress, saved.notes
            model.params = saved.params
        elif os.path.lexists(checkpoint.path):
            raise ValueError(
                f"{checkpoint.path} is there already: resume it, remove it, or name another file"
            )
        else:
            progress, notes = Progress(State.zeros(model.params)), checkpoint.notes

        def save() -> None:
            write(checkpoint.path, Saved(model.params, progress, told, notes))

        if not resume:
            save()  # what cannot be written is known now, and there is always one to resume
        yield progress, save


def write(path: str | os.PathLike[str], saved: Saved) -> None:
    """Write a checkpoint, whole or not at all."""
    progress = saved.progress
    header = {
        "sizes": saved.params.sizes,
        "training": {
            "identity": saved.identity,
            "notes": saved.notes,
            "epochs": [asdict(epoch) for epoch in progress.history],
            "steps": progress.state.steps,
            "averaged": progress.average.count,
            "best loss": progress.best.loss,
            "best age": progress.best.age,
        },
    }
    arrays = arrays_of(saved.params)
    for prefix, params in (
        ("velocity.", progress.state.velocity),
        ("squares.", progress.state.squares),
        ("average.", progress.average.mean),
        ("best.", progress.best.params),
    ):
        if params is not None and params.flat.any():  # what is not in the file is zero
            arrays |= arrays_of(params, prefix)
    archive.write(path, header, arrays)


def read(path: str | os.PathLike[str]) -> Saved:
    """Read a checkpoint; nothing in it is executed.

    Raises
    ------
    ModelFileError
        If it cannot be read, is damaged, of a newer version, or no checkpoint.
    """
    header, arrays = archive.read(path)
    sizes = sizes_in(header, path)
    if "training" not in header:
        raise ModelFileError(f"{path}: a model, not the checkpoint of a training")

    def part(prefix: str) -> Parameters | None:
        return params_in(arrays, sizes, path, prefix) if f"{prefix}W0" in arrays else None

    params = params_in(arrays, sizes, path)
    try:
        told = header["training"]
        state = State(
            part("velocity.") or Parameters(sizes),
            part("squares.") or Parameters(sizes),
            _count(told, "steps"),
        )
        progress = Progress(
            state,
            [_epoch(epoch) for epoch in told["epochs"]],
            Average(part("average."), _count(told, "averaged")),
            Best(part("best."), float(told["best loss"]), _count(told, "best age")),
        )
        if arrays:
            raise ModelFileError(f"{path}: holds arrays of no checkpoint: {sorted(arrays)[:3]}")
        return Saved(params, progress, dict(told["identity"]), dict(told["notes"]))
    except ModelFileError:
        raise
    except Exception as error:  # whatever a value of another type leads to
        raise ModelFileError(f"{path}: not a readable checkpoint: {error!r}") from error


def _count(told: Mapping[str, Any], name: str) -> int:
    return checks.whole(name, told[name], 0, 2**63 - 1)


def _epoch(told: Mapping[str, Any]) -> Epoch:
    numbers: dict[str, Any] = {k: None if n is None else float(n) for k, n in told.items()}
    return Epoch(**numbers)


def fingerprint(*arrays: NDArray[Any]) -> str:
    """What tells arrays from others: a part of SHA-256 of their types, shapes and values."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]


def _flat(params: Parameters) -> list[NDArray[np.float32]]:
    return [array for pair in params for array in pair]


def _check_same(path: str | os.PathLike[str], saved: Saved, identity: Identity) -> None:
    """Raise ValueError with every difference between two trainings."""
    if identity[_START] == fingerprint(*_flat(saved.params)):  # the checkpoint's own model
        identity = {**identity, _START: saved.identity.get(_START)}
    differences = [
        f"{name} was {saved.identity.get(name)}, is {identity.get(name)}"
        for name in {**identity, **saved.identity}
        if saved.identity.get(name) != identity.get(name)
    ]
    if differences:
        raise ValueError(
            f"{path} is of another training: {'; '.join(differences)}; "
            "resume with the same data and settings, or begin another checkpoint"
        )

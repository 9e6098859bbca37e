"""The files that commands read and write: data, models and what lies beside them, pictures."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import typer

from fastmnist import datasets
from fastmnist.cli.options import AUTO, DEFAULT_MODEL
from fastmnist.download import SETS
from fastmnist.errors import DataError
from fastmnist.files import atomic_write
from fastmnist.records import Record
from fastmnist.terminal import say

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PICTURES = (".png", ".svg", ".pdf", ".eps", ".jpg", ".jpeg", ".webp")  # that Matplotlib writes


def load_data(data: str, data_dir: Path | None) -> tuple[str, datasets.Split]:
    """The data, and the name or path under which they are found again."""
    if data == AUTO:
        split, missing = datasets.load_or_generate(data_dir=data_dir)
        if missing is None:
            return "mnist", split
        say(
            f"{missing}; taking digits that this package draws itself instead (for MNIST, "
            "connect to the internet or name a folder that has it with --data-dir)"
        )
        return datasets.GENERATED, split
    try:
        split = datasets.load(data, data_dir=data_dir)
    except DataError:
        raise
    except ValueError as error:  # neither a name nor a path
        raise typer.BadParameter(str(error), param_hint="--data") from None
    return data if data in (*SETS, datasets.GENERATED) else os.path.abspath(data), split


def model_path(output: Path) -> Path:
    """Where the model goes: a file that ends in .npz, in the folder named or under that name."""
    if output.is_dir() and output.suffix != ".npz":
        return output / DEFAULT_MODEL
    # Else the picture, whose name is the model's with another ending, might replace the model.
    return output if output.suffix == ".npz" else output.with_name(f"{output.name}.npz")


def record_of(model: Path) -> Path:
    """Where the record of a model's training lies."""
    return model.with_suffix(".json")


def record_beside(model: Path) -> Record | None:
    """The record of the model's training, if it lies beside it; whatever else does is ignored."""
    path = record_of(model)
    try:
        return Record.load(path) if path.exists() else None
    except DataError as error:
        say(f"fastmnist: warning: {error}; it is ignored")
        return None


def trained_with(model: Path) -> str:
    """The data that a model was trained with, as far as it is known."""
    record = record_beside(model)
    return record.data if record else AUTO


def class_names_of(model: Path) -> Sequence[str]:
    """What a model's classes are called; nothing where that is not known."""
    record = record_beside(model)
    return record.class_names if record else ()


def class_name(names: Sequence[str], number: int) -> str:
    """The name of a class; its number where it has none."""
    return names[number] if number < len(names) else str(number)


def check_writable(path: Path) -> None:
    """Raise DataError if a file cannot be written to `path`: before the work, not after it."""
    if path.is_dir():
        raise DataError(f"{path} is a folder; name a file in it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}") from error


def check_picture(path: Path) -> None:
    """Raise, before the work, if no picture can be written to `path`, or its ending says none."""
    if path.suffix and path.suffix.lower() not in PICTURES:
        raise typer.BadParameter(f"{path} must end in {', '.join(PICTURES)}", param_hint="--output")
    check_writable(path)


def write_picture(drawn: Axes | Figure, path: Path) -> None:
    """Write a picture, whole or not at all, in the format of its ending."""
    figure = drawn if hasattr(drawn, "savefig") else cast("Figure", drawn.figure)
    content = io.BytesIO()
    figure.savefig(content, format=path.suffix.removeprefix(".").lower() or "png")
    with atomic_write(path) as file:
        file.write(content.getvalue())

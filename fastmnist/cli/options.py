"""Options that several commands share, and what their values mean."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from fastmnist.augment import Augmentation
from fastmnist.backends import BACKENDS
from fastmnist.checks import nearest, positive, share

AUTO = "auto"
DEFAULT_MODEL = Path("fastmnist-model.npz")


def known(kind: str, names: Iterable[str]) -> Callable[[str | None], str | None]:
    """A check that an option's value, where given, is one of `names`."""

    def check(value: str | None) -> str | None:
        try:
            return value if value is None else nearest(kind, value, names)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None

    return check


def rate(value: float | None) -> float | None:
    """A learning rate, checked where it is given."""
    try:
        return value if value is None else positive("learning_rate", value)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def share_of(parameter: typer.CallbackParam, value: float | None) -> float | None:
    """A share in [0, 1), checked where it is given."""
    try:
        return value if value is None else share(str(parameter.name), value)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def layers(text: str | None) -> tuple[int, ...] | None:
    """Units of each hidden layer from text such as "256,64"."""
    if text is None:
        return None
    if text == "none":
        return ()
    units = text.split(",")
    if not all(unit.isascii() and unit.strip().isdigit() and int(unit) for unit in units):
        raise typer.BadParameter(
            f"{text!r} is neither numbers such as 128 or 256,64 nor none", param_hint="--hidden"
        )
    return tuple(map(int, units))


def augmentation_of(text: str) -> Augmentation | None:
    """How to distort images, from text such as "shift=1,rotation=8"; None for "none"."""
    if text == "none":
        return None
    known = [field.name for field in fields(Augmentation)]
    found: dict[str, Any] = {}
    try:
        for part in text.split(","):
            name, _, value = part.partition("=")
            name = nearest("distortion", name.strip(), known)
            kind: Any = int if name == "shift" else float
            try:
                found[name] = kind(value)
            except ValueError:
                wanted = "a whole number" if name == "shift" else "a number"
                raise ValueError(f"{name} needs {wanted}, as in {name}=1; got {part!r}") from None
        return Augmentation(**found)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--augmentation") from None


Data = Annotated[
    str,
    typer.Option(
        metavar="NAME|PATH",
        help="auto, mnist, fashion, kmnist, generated, a folder of IDX files or a CSV file.",
    ),
]
TrainedData = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|PATH", help="As for train; by default what the model was trained with."
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER", help="Folder with the files of a named set, or the one above it."
    ),
]
Threads = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="As many as there are processors by default.")
]
Backend = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        callback=known("backend", BACKENDS),
        help="numba, reference (plain NumPy), or auto: numba where it can be used.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
Model = Annotated[Path, typer.Argument(help="A model that train has saved.")]
Picture = Annotated[
    Path,
    typer.Option(
        "--output", "-o", metavar="FILE", help="The picture, by its ending PNG, SVG or PDF."
    ),
]

"""What a search varies: ranges and choices of a recipe's settings, from Python or from text."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, NamedTuple

from fastmnist import checks
from fastmnist.augment import Augmentation
from fastmnist.optimizers import OPTIMIZERS, SCHEDULES
from fastmnist.recipes import RECIPES, Recipe


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included; whole ones if both are whole.

    Parameters
    ----------
    low, high : int or float
        Finite; `low` is smaller.
    log : bool, optional
        Whether 1 to 10 is as likely as 10 to 100: by default for the learning rate, the batch size
        and units, above zero.
    """

    low: float
    high: float
    log: bool | None = None

    def __post_init__(self) -> None:
        ends = checks.number("low", self.low), checks.number("high", self.high)
        if not -math.inf < ends[0] < ends[1] < math.inf:
            raise ValueError(f"a range goes up to a larger number, got {self.low}..{self.high}")
        if self.log and ends[0] <= 0:
            raise ValueError(f"a logarithmic range begins above 0, got {self.low}..{self.high}")

    @property
    def whole(self) -> bool:
        """Whether it has whole numbers only."""
        return isinstance(self.low, int) and isinstance(self.high, int)


Vary = Mapping[str, Range | Sequence[Any]]


class _Setting(NamedTuple):
    """What a setting may be."""

    check: Callable[[str, Any], Any]  # given its name and a value; returns that
    read: Callable[[str], Any]  # a value from text
    log: bool = False


def _units(name: str, value: Any) -> tuple[int, ...]:
    """Of each hidden layer; a number is one layer."""
    layers = value if isinstance(value, (tuple, list)) else (value,)
    return tuple(checks.whole("each of hidden", layer, 1) for layer in layers)


def _read_units(text: str) -> tuple[int, ...] | int:
    if text == "none":
        return ()
    layers = tuple(map(int, text.split("-")))
    return layers if len(layers) > 1 else layers[0]


def _one_of(known: Sequence[str]) -> Callable[[str, Any], Any]:
    return lambda name, value: checks.nearest(name, value, known)


_AT_LEAST_1 = partial(checks.whole, low=1)
_AT_LEAST_0 = partial(checks.whole, low=0)
SETTINGS = {
    "recipe": _Setting(_one_of(list(RECIPES)), str),
    "hidden": _Setting(_units, _read_units, log=True),
    "epochs": _Setting(_AT_LEAST_1, int),
    "batch_size": _Setting(_AT_LEAST_1, int, log=True),
    "learning_rate": _Setting(checks.positive, float, log=True),
    "optimizer": _Setting(_one_of(list(OPTIMIZERS)), str),
    "schedule": _Setting(_one_of(list(SCHEDULES)), str),
    **{
        name: _Setting(checks.share, float)
        for name in ("label_smoothing", "dropout", "input_dropout", "averaging", "scale")
    },
    "shift": _Setting(_AT_LEAST_0, int),
    **{name: _Setting(checks.at_least_zero, float) for name in ("rotation", "shear", "elastic")},
    "smoothness": _Setting(checks.positive, float),
    "seed": _Setting(_AT_LEAST_0, int),
}
DISTORTIONS = {field.name for field in fields(Augmentation)}


def checked(vary: Vary) -> dict[str, Range | tuple[Any, ...]]:
    """Ranges and choices, each of whose values is possible.

    Raises
    ------
    TypeError, ValueError
        If one is not; names the setting.
    """
    if not vary:
        raise ValueError(f"nothing varies; what can: {', '.join(SETTINGS)}")
    found: dict[str, Range | tuple[Any, ...]] = {}
    for name, values in vary.items():
        setting = SETTINGS[checks.nearest("setting", name, SETTINGS)]
        if isinstance(values, Range):
            for end in (values.low, values.high):
                if setting.read is str:
                    raise ValueError(f"{name} has no range; name choices: {name}=A,B")
                setting.check(name, end)
            log = setting.log and values.low > 0 if values.log is None else values.log
            found[name] = replace(values, log=log)
        elif isinstance(values, str) or not isinstance(values, Sequence) or not len(values):
            raise TypeError(f"{name} must vary over a Range or a list of choices, got {values!r}")
        else:
            found[name] = tuple(dict.fromkeys(setting.check(name, value) for value in values))
    return found


def parse(text: str) -> tuple[str, Range | tuple[Any, ...]]:
    """What varies, from text such as "learning_rate=0.05..0.5" or "hidden=64,128,256-64,none".

    Raises
    ------
    ValueError
        If it is nothing of the kind.
    """
    name, _, values = text.partition("=")
    name = checks.nearest("setting", name.strip().replace("-", "_"), SETTINGS)
    read = SETTINGS[name].read
    try:
        if ".." in values:
            low, high = values.split("..")
            return name, Range(read(low), read(high))
        return name, tuple(read(value.strip()) for value in values.split(","))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{text!r} is neither a range such as learning_rate=0.05..0.5 nor a list such as "
            f"hidden=64,128,256-64: {error}"
        ) from None


def text_of(value: Any) -> str:
    """A value as `parse` reads it."""
    if isinstance(value, tuple):
        return "-".join(map(str, value)) or "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def combinations(vary: Vary) -> float:
    """How many settings there are to choose from; of a range, endless."""
    return math.prod(
        math.inf if isinstance(values, Range) else len(values) for values in vary.values()
    )


def applied(recipe: Recipe, settings: Mapping[str, Any]) -> Recipe:
    """The recipe with these settings in place of its own; it has no seed."""
    recipe = RECIPES[settings["recipe"]] if "recipe" in settings else recipe
    own = {
        name: SETTINGS[name].check(name, value)
        for name, value in settings.items()
        if name not in ("recipe", "seed")
    }
    if own.get("optimizer") in ("adam", "adamw"):
        own.setdefault("learning_rate", None)  # the recipe's is not meant for it
    distortions = {name: own.pop(name) for name in DISTORTIONS & own.keys()}
    if distortions:
        own["augmentation"] = replace(recipe.augmentation or Augmentation(), **distortions)
    return replace(recipe, measured=None, **own)

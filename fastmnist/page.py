"""A page to draw digits on, with the network inside: one file that asks nothing of anybody."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from importlib.resources import files

import numpy as np

from fastmnist.model import MLP
from fastmnist.placing import FRAME


def page(model: MLP, class_names: Sequence[str] = ()) -> str:
    """The page as HTML: a board to draw on, what the network sees, and what it reads.

    Parameters
    ----------
    model : MLP
        A network for images of 28 x 28.
    class_names : sequence of str
        What the classes are called; by default their numbers.

    Raises
    ------
    ValueError
        If the network has other inputs, or there are too few names.
    """
    if model.sizes[0] != FRAME**2:
        raise ValueError(
            f"a page is for networks with {FRAME**2} inputs, 28 x 28 pixels; this one has "
            f"{model.sizes[0]}"
        )
    names = list(class_names) or [str(number) for number in range(model.sizes[-1])]
    if len(names) < model.sizes[-1]:
        raise ValueError(f"{len(names)} names for {model.sizes[-1]} classes")
    numbers = [
        np.ascontiguousarray(array, "<f4").tobytes() for layer in model.params for array in layer
    ]
    network = {
        "sizes": model.sizes,
        "names": names[: model.sizes[-1]],
        "weights": base64.b64encode(b"".join(numbers)).decode(),
    }
    # in a script, "</" would end it
    inside = json.dumps(network).replace("<", "\\u003c")
    template = files("fastmnist").joinpath("page.html").read_text(encoding="utf-8")
    return template.replace("/*NETWORK*/null", inside)

"""Recipes: a network and how to train it, under a name.

A recipe is plain data: copy one, change it with `dataclasses.replace`, train with it. All choices
were made on the last 10,000 training images of MNIST, after training on the other 50,000; the test
set was for reporting (RECORDS.md; docs/recipes.md says where it was used twice).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastmnist.augment import Augmentation
from fastmnist.datasets import Dataset
from fastmnist.history import History
from fastmnist.model import MLP
from fastmnist.optimizers import SGD, Adam, Schedule, optimizer_named, usual_rate
from fastmnist.training import fit

MACHINE = "two virtual Zen 5 processors"  # where the recipes were measured


@dataclass(frozen=True)
class Measured:
    """What a recipe reached: MNIST, trained on all 60,000 images (RECORDS.md).

    Attributes
    ----------
    accuracy, deviation : float
        Per cent of the test images read right: mean and standard deviation over seeds.
    seeds : int
    seconds : float
        Median, from data in memory and kernels compiled to the final weights, on `MACHINE`.
    """

    accuracy: float
    deviation: float
    seeds: int
    seconds: float

    def describe(self) -> str:
        """For people."""
        spread = f"{self.accuracy:.2f} % ± {self.deviation:.2f} of MNIST's test images"
        return f"{spread} ({self.seeds} seeds) in {self.seconds:g} s"


@dataclass(frozen=True)
class Recipe:
    """A network and how to train it, for any number of inputs and classes.

    The learning rates are for images like MNIST's, most of whose pixels are 0. Where the background
    is bright, or features are not about 1 at most, learning needs a lower one.

    Attributes
    ----------
    purpose : str
        What it is for, in one sentence.
    hidden : tuple of int
        Units in each hidden layer; empty for none.
    epochs : int
        Passes over the training samples.
    batch_size : int or None
        Samples in a step; None for all of them.
    learning_rate : float or None
        The schedule's peak; None for what is usual with the optimiser.
    optimizer, schedule, label_smoothing, dropout, input_dropout, augmentation, averaging
        As `fastmnist.fit` takes them. Samples that are no uint8 images are not distorted.
    uniform : bool
        Draw weights and biases uniformly from [-0.5, 0.5) instead of `MLP`'s way.
    measured : Measured, optional
        What it reached.
    """

    purpose: str
    hidden: tuple[int, ...]
    epochs: int
    batch_size: int | None
    learning_rate: float | None
    optimizer: str | SGD | Adam = "nesterov"
    schedule: str | Schedule = "one-cycle"
    label_smoothing: float = 0.0
    dropout: float = 0.0
    input_dropout: float = 0.0
    augmentation: Augmentation | None = None
    averaging: float = 0.0
    uniform: bool = False
    measured: Measured | None = None

    def model(self, train: Dataset, *, seed: int = 0) -> MLP:
        """An untrained network for the images and classes of `train`."""
        sizes = (train.images[0].size, *self.hidden, _classes(train))
        return MLP.uniform(sizes, seed=seed) if self.uniform else MLP(sizes, seed=seed)

    def describe(self) -> str:
        """How the recipe trains, for people."""
        peak = self.learning_rate or usual_rate(optimizer_named(self.optimizer))
        rate = f"learning rate {peak:g} ({_named(self.schedule)})"
        parts = [
            f"{self.epochs} epoch{'s' * (self.epochs > 1)}",
            f"batches of {self.batch_size:,}" if self.batch_size else "full batches",
            _named(self.optimizer),
            rate,
            *[
                f"{name.replace('_', ' ')} {value:g}"
                for name, value in (
                    ("label_smoothing", self.label_smoothing),
                    ("dropout", self.dropout),
                    ("input_dropout", self.input_dropout),
                    ("averaging", self.averaging),
                )
                if value
            ],
        ]
        if self.augmentation:
            parts.append(f"images with {self.augmentation.describe()}")
        return ", ".join(parts)

    def options(self, train: Dataset) -> dict[str, Any]:
        """What `fastmnist.fit` is to be given, to train on this set by this recipe."""
        images = train.images.ndim == 3 and train.images.dtype == np.uint8
        return {
            "epochs": self.epochs,
            "batch_size": self.batch_size or len(train),
            "learning_rate": self.learning_rate,
            "optimizer": self.optimizer,
            "schedule": self.schedule,
            "label_smoothing": self.label_smoothing,
            "dropout": self.dropout,
            "input_dropout": self.input_dropout,
            "augmentation": self.augmentation if images else None,
            "averaging": self.averaging,
        }

    def fit(self, model: MLP, train: Dataset, **options: Any) -> History:
        """Train `model` by this recipe; `options` are further arguments of `fastmnist.fit`."""
        return fit(model, train, **(self.options(train) | options))


RECIPES = {
    "quick": Recipe(
        "98 % of MNIST in a blink.",
        hidden=(128,),
        epochs=4,
        batch_size=128,
        learning_rate=0.5,
        label_smoothing=0.1,  # validation 98.00 %, mean of 8 seeds; rate 0.4: 97.98 %
        measured=Measured(98.19, 0.06, seeds=20, seconds=0.15),
    ),
    "default": Recipe(
        "A good network in about a second.",
        hidden=(256, 64),  # validation 98.69 %, 6 seeds; one layer of 256, 8 epochs: 98.66 %
        epochs=6,
        batch_size=128,
        learning_rate=0.3,
        label_smoothing=0.1,
        augmentation=Augmentation(shift=1),
        measured=Measured(98.80, 0.09, seeds=20, seconds=0.58),
    ),
    "accurate": Recipe(
        "99 % of MNIST in a few seconds.",
        hidden=(384, 128),  # validation 99.06 %, 4 seeds; one layer of 512, 13 epochs: 99.01 %
        epochs=12,
        batch_size=128,
        learning_rate=0.3,
        label_smoothing=0.1,
        augmentation=Augmentation(shift=1, rotation=8, scale=0.08, shear=0.08),
        measured=Measured(99.15, 0.06, seeds=10, seconds=2.3),
    ),
    "best": Recipe(
        "What a multi-layer perceptron can do in less than a minute.",
        hidden=(640, 320),  # validation 99.44 %, 2 seeds; 512 and 256, 60 epochs: 99.39 %
        epochs=50,
        batch_size=128,
        learning_rate=0.2,
        label_smoothing=0.1,
        augmentation=Augmentation(shift=1, rotation=10, scale=0.1, shear=0.1, elastic=20),
        measured=Measured(99.43, 0.03, seeds=5, seconds=22),
    ),
    "patient": Recipe(
        "99.5 %, for those who can wait some minutes.",
        hidden=(1024, 512),  # validation 99.55 %, 1 seed; weaker distortions: 99.54 %
        epochs=150,
        batch_size=128,
        learning_rate=0.2,
        label_smoothing=0.1,
        augmentation=Augmentation(shift=1, rotation=12, scale=0.15, shear=0.15, elastic=25),
        measured=Measured(99.52, 0.04, seeds=3, seconds=212),
    ),
    "notebook": Recipe(
        "Where this package comes from: a student's notebook, with full-batch gradient descent.",
        hidden=(10,),
        epochs=500,
        batch_size=None,
        learning_rate=0.1,
        optimizer="sgd",
        schedule="constant",
        uniform=True,
        measured=Measured(84.44, 1.17, seeds=5, seconds=7.2),
    ),
}


def _classes(train: Dataset) -> int:
    if train.labels is None:
        raise ValueError(f"{train.name} has no labels to train with")
    return len(train.class_names) or int(train.labels.max()) + 1


def _named(choice: Any) -> str:
    return choice if isinstance(choice, str) else getattr(choice, "__name__", repr(choice))

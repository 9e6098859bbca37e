"""A whole training: what every contender of `benchmarks.race` is given."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

import fastmnist as fm
from benchmarks import workloads
from fastmnist.epochs import epoch_order
from fastmnist.optimizers import rates
from fastmnist.recipes import RECIPES, Recipe


@dataclass(frozen=True)
class Course:
    """A recipe, and the images it trains on."""

    name: str
    images_used: int
    epochs: int | None = None  # fewer than the recipe's, for a trial
    seed: int = 0

    @property
    def recipe(self) -> Recipe:
        return RECIPES[self.name]

    @property
    def count(self) -> int:
        return self.epochs or self.recipe.epochs

    @property
    def train(self) -> fm.Dataset:
        return workloads.data()[0][: self.images_used]

    @cached_property
    def params(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """The first ones."""
        model = self.recipe.model(self.train, seed=self.seed)
        return [(W.copy(), b.copy()) for W, b in model.params]

    @cached_property
    def rates(self) -> np.ndarray:
        """Learning rates, float32 of shape (epochs, batches)."""
        batches = -(-self.images_used // self.recipe.batch_size)
        steps = rates(self.recipe.schedule, self.recipe.learning_rate, self.count * batches)
        return steps.reshape(self.count, batches).astype(np.float32)

    def smoothing(self, size: int) -> np.ndarray:
        """What smooths random displacements in one direction, and scales them: (size, size)."""
        a, place = self.recipe.augmentation, np.arange(size)
        weights = np.exp(-((place[:, None] - place) ** 2) / (2 * a.smoothness**2))
        whole = a.smoothness * np.sqrt(2 * np.pi)
        return (np.sqrt(a.elastic) * weights / whole).astype(np.float32)

    def order(self, epoch: int) -> np.ndarray:
        return epoch_order(self.seed, epoch, self.images_used)

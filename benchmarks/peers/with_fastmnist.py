"""fastmnist's two backends; rows are prepared once, as `fit` does."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import fastmnist as fm
from benchmarks import THREADS
from benchmarks.peers.course import Course
from benchmarks.peers.problem import RATE, Problem


def kernels(problem: Problem) -> Callable[[], float]:
    """Compiled, from packed pixels."""
    return _epoch(fm.kernels, fm.MLP(problem.sizes, seed=0).params, problem)


def reference(problem: Problem) -> Callable[[], float]:
    """NumPy, from pixels scaled to float32."""
    return _epoch(fm.reference, problem.params, problem)


def _epoch(backend: ModuleType, params: list, problem: Problem) -> Callable[[], float]:
    rows = backend.prepare(problem.pixels)
    options = {"learning_rate": RATE, "batch_size": problem.batch, "order": problem.order}
    return lambda: backend.train_epoch(params, rows, problem.labels, threads=THREADS, **options)


def train(course: Course, note: Callable[[list], None]) -> Callable[[], None]:
    """A training by the recipe; `note` gets the parameters after each epoch."""
    options = {"epochs": course.count, "seed": course.seed, "threads": THREADS}

    def call() -> None:
        model = course.recipe.model(course.train, seed=course.seed)
        course.recipe.fit(
            model, course.train, callbacks=[lambda model, _: note(model.params)], **options
        )

    warm = course.recipe.model(course.train)
    course.recipe.fit(
        warm, course.train[:256], **(options | {"epochs": 1})
    )  # loads what is compiled
    return call

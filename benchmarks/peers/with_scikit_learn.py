"""scikit-learn's MLPClassifier, one `partial_fit` an epoch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.peers.problem import RATE, Problem


def partial_fit(problem: Problem) -> Callable[[], float]:
    """Plain SGD without penalty; the images are put in order beforehand, which is not timed."""
    from sklearn.neural_network import MLPClassifier

    X, y = problem.features[problem.order], problem.labels[problem.order]
    model = MLPClassifier(
        problem.sizes[1:-1],
        solver="sgd",
        momentum=0,
        nesterovs_momentum=False,
        alpha=0,
        learning_rate_init=RATE,
        batch_size=problem.batch,
        shuffle=False,
    )
    model.partial_fit(X[: problem.batch], y[: problem.batch], classes=np.arange(problem.sizes[-1]))
    for (W, b), own_W, own_b in zip(problem.params, model.coefs_, model.intercepts_, strict=True):
        own_W[...], own_b[...] = W, b

    def epoch() -> float:
        model.partial_fit(X, y)
        return float(model.loss_)

    return epoch

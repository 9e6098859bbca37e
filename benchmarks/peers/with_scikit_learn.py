"""scikit-learn's MLPClassifier: one `partial_fit` an epoch, and predicting."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.peers.problem import RATE, Problem


def partial_fit(problem: Problem) -> Callable[[], float]:
    """Plain SGD without penalty; the images are put in order beforehand, which is not timed."""
    X, y = problem.features[problem.order], problem.labels[problem.order]
    model = _model(problem)

    def epoch() -> float:
        model.partial_fit(X, y)
        return float(model.loss_)

    return epoch


def classes(problem: Problem, images: np.ndarray) -> Callable[[], np.ndarray]:
    """Predict the classes of uint8 images."""
    model = _model(problem)
    return lambda: model.predict(images / np.float32(255))


def _model(problem: Problem):
    from sklearn.neural_network import MLPClassifier

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
    # it makes its arrays when it first trains
    few = slice(problem.batch)
    classes = np.arange(problem.sizes[-1])
    model.partial_fit(problem.features[few], problem.labels[few], classes=classes)
    for (W, b), own_W, own_b in zip(problem.params, model.coefs_, model.intercepts_, strict=True):
        own_W[...], own_b[...] = W, b
    return model

"""The kernels against the reference: promise 1, agreement."""

import numpy as np
import pytest

from fastmnist import kernels, reference
from fastmnist.parameters import Parameters


@pytest.mark.parametrize("sizes", [(784, 10), (20, 50, 3, 7), (784, 128, 10), (30, 256, 128, 10)])
def test_gradients_agree(sizes):
    rng = np.random.default_rng(0)
    params = Parameters(sizes)
    for W, b in params:
        W[:] = rng.normal(size=W.shape) / np.sqrt(len(W))
        b[:] = rng.normal(size=b.shape)
    X = (rng.integers(0, 256, (300, sizes[0])) * (rng.random((300, sizes[0])) < 0.3)).astype(np.uint8)
    y = rng.integers(0, sizes[-1], 300)
    exact = [(W.astype(float), b.astype(float)) for W, b in params]
    loss, gradients = kernels.loss_and_gradients(params, X, y)
    want_loss, want = reference.loss_and_gradients(exact, X, y)
    assert abs(loss - want_loss) <= 8 * np.finfo(np.float32).eps * want_loss
    for pair, want_pair in zip(gradients, want, strict=True):
        for got, wanted in zip(pair, want_pair, strict=True):
            error = np.abs(got - wanted).max() / np.abs(wanted).max()
            assert error <= 32 * np.finfo(np.float32).eps

"""Dropout: how much is left out, what is scaled, and what is refused."""

import numpy as np
import pytest

from fastmnist import reference
from fastmnist.counter_based import epoch_key
from fastmnist.dropout import Dropout


def test_a_share_is_left_out_and_the_rest_makes_up_for_it():
    inputs, hidden = Dropout(0.5, 0.2, epoch_key(0, 0)).masks(np.arange(1000), [784, 100])
    assert inputs.shape == (1000, 784)
    assert hidden.shape == (1000, 100)
    assert set(np.unique(inputs)) == {0, 1 / 0.8}
    assert set(np.unique(hidden)) == {0, 2}
    assert (inputs == 0).mean() == pytest.approx(0.2, abs=5 * 0.4 / 784_000**0.5)
    assert (hidden == 0).mean() == pytest.approx(0.5, abs=5 * 0.5 / 100_000**0.5)


def test_nothing_is_left_out_of_what_is_not_named():
    assert Dropout(0, 0.5).masks(np.arange(3), [4, 5, 6])[1:] == [1, 1]
    assert Dropout(0.5, 0).masks(np.arange(3), [4, 5, 6])[0] == 1


def test_masks_belong_to_samples_layers_and_epochs():
    drop = Dropout(0.5, 0.5, epoch_key(0, 0))
    first, second, third = drop.masks(np.arange(10), [50, 50, 50])
    assert not np.array_equal(first, second)
    assert not np.array_equal(second, third)
    backwards, *_ = drop.masks(np.arange(10)[::-1], [50])
    np.testing.assert_array_equal(backwards[::-1], first)
    other, *_ = Dropout(0.5, 0.5, epoch_key(0, 1)).masks(np.arange(10), [50])
    assert not np.array_equal(other, first)


def test_the_reference_multiplies_by_the_masks():
    rng = np.random.default_rng(0)
    params = [(rng.normal(size=(6, 5)), rng.normal(size=5)), (rng.normal(size=(5, 3)), np.zeros(3))]
    X, y, drop = rng.normal(size=(4, 6)), np.array([0, 1, 2, 0]), Dropout(0.5, 0.3, epoch_key(0, 0))
    inputs, hidden = drop.masks(np.arange(4), [6, 5])
    A = np.maximum((X * inputs) @ params[0][0] + params[0][1], 0) * hidden
    Z = A @ params[1][0] + params[1][1]
    want = np.mean(np.log(np.exp(Z).sum(axis=1)) - Z[np.arange(4), y])
    loss, gradients = reference.loss_and_gradients(params, X, y, dropout=drop)
    assert loss == pytest.approx(want, rel=1e-12)
    for layer, part in ((0, 0), (0, 1), (1, 0), (1, 1)):  # a central difference
        for place in np.ndindex(params[layer][part].shape):
            losses = []
            for step in (1e-6, -1e-6):
                moved = [(W.copy(), b.copy()) for W, b in params]
                moved[layer][part][place] += step
                losses.append(reference.loss_and_gradients(moved, X, y, dropout=drop)[0])
            slope = (losses[0] - losses[1]) / 2e-6
            assert gradients[layer][part][place] == pytest.approx(slope, abs=1e-7)


@pytest.mark.parametrize("share", [-0.1, 1, 2, float("nan")])
def test_shares_out_of_range_are_refused(share):
    with pytest.raises(ValueError, match=r"dropout must be in \[0, 1\)"):
        Dropout(share)
    with pytest.raises(ValueError, match=r"input_dropout must be in \[0, 1\)"):
        Dropout(0, share)

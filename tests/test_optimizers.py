"""Update rules and schedules, against the formulas written out."""

import numpy as np
import pytest

from fastmnist.optimizers import SGD, optimizer_named, rates


def steps_by_hand(momentum, nesterov, gradients, rate):
    w = v = 0.0
    for g in gradients:
        v = momentum * v + g
        w -= rate * (g + momentum * v if nesterov else v)
    return w


@pytest.mark.parametrize(("momentum", "nesterov"), [(0, False), (0.9, False), (0.5, True)])
def test_steps_are_those_of_the_formula(momentum, nesterov):
    rule = SGD(momentum=momentum, nesterov=nesterov)
    w, v = np.zeros(3), np.zeros(3)
    for g in (1.0, -2.0, 0.5):
        rule.update(w, np.full(3, g), v, 0.1)
    np.testing.assert_allclose(w, steps_by_hand(momentum, nesterov, (1.0, -2.0, 0.5), 0.1))


def test_gradients_are_not_changed():
    g, v = np.ones(2), np.ones(2)
    SGD(momentum=0.9, nesterov=True).update(np.zeros(2), g, v, 0.1)
    np.testing.assert_array_equal(g, 1)


@pytest.mark.parametrize("momentum", [-0.1, 1, 1.5, float("nan")])
def test_momentum_out_of_range_is_refused(momentum):
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        SGD(momentum=momentum)


def test_nesterov_without_momentum_is_refused():
    with pytest.raises(ValueError, match="greater than 0"):
        SGD(nesterov=True)


def test_names():
    assert optimizer_named("nesterov") == SGD(momentum=0.9, nesterov=True)
    assert optimizer_named(SGD(0.3)) == SGD(0.3)
    with pytest.raises(ValueError, match="nesterov"):
        optimizer_named("nesterow")  # codespell:ignore


def test_a_constant_rate():
    np.testing.assert_array_equal(rates("constant", 0.3, 4), np.full(4, 0.3))


def test_one_cycle_rises_from_a_25th_to_the_peak_and_falls_to_almost_nothing():
    found = rates("one-cycle", 2.0, 1000)
    assert found[0] == pytest.approx(2 / 25)
    assert found[300] == pytest.approx(2)
    assert found[-1] < 1e-3
    assert np.all(np.diff(found[:301]) > 0)
    assert np.all(np.diff(found[300:]) < 0)


def test_a_schedule_of_ones_own():
    np.testing.assert_allclose(rates(lambda done: 1 - done, 0.5, 2), [0.5, 0.25])


def test_an_unknown_schedule_names_the_nearest():
    with pytest.raises(ValueError, match="one-cycle"):
        rates("onecycle", 0.1, 3)

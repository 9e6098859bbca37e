"""Update rules and schedules, against the formulas written out."""

import numpy as np
import pytest

from fastmnist.optimizers import SGD, Adam, Steps, WarmUp, optimizer_named, rates


def steps_by_hand(momentum, nesterov, gradients, rate):
    w = v = 0.0
    for g in gradients:
        v = momentum * v + g
        w -= rate * (g + momentum * v if nesterov else v)
    return w


@pytest.mark.parametrize(("momentum", "nesterov"), [(0, False), (0.9, False), (0.5, True)])
def test_steps_are_those_of_the_formula(momentum, nesterov):
    rule = SGD(momentum=momentum, nesterov=nesterov)
    w, v, s = np.zeros(3), np.zeros(3), np.zeros(3)
    for step, g in enumerate((1.0, -2.0, 0.5), 1):
        rule.update(w, np.full(3, g), v, s, 0.1, step)
    np.testing.assert_allclose(w, steps_by_hand(momentum, nesterov, (1.0, -2.0, 0.5), 0.1))


def test_gradients_are_not_changed():
    for rule in (SGD(0.9, nesterov=True, weight_decay=0.1), Adam(weight_decay=0.1)):
        g = np.ones(2)
        rule.update(np.zeros(2), g, np.ones(2), np.ones(2), 0.1, 1)
        np.testing.assert_array_equal(g, 1)


def test_adam_steps_by_the_rate_at_first_however_large_the_gradient():
    for g in (1e-3, 5.0, -700.0):
        w, v, s = np.zeros(1), np.zeros(1), np.zeros(1)
        Adam().update(w, np.array([g]), v, s, 0.01, 1)
        assert w[0] == pytest.approx(-0.01 * np.sign(g), rel=1e-4)


@pytest.mark.parametrize("rule", [SGD, Adam])
def test_decay_shrinks_parameters(rule):
    w = np.ones(1)
    rule(weight_decay=0.5, decoupled=True).update(w, np.zeros(1), np.zeros(1), np.zeros(1), 0.1, 1)
    assert w[0] == pytest.approx(0.95)
    w, v = np.ones(1), np.zeros(1)
    SGD(momentum=0.9, weight_decay=0.5).update(w, np.zeros(1), v, np.zeros(1), 0.1, 1)
    assert w[0] == pytest.approx(0.95)
    assert v[0] == pytest.approx(0.5)  # what momentum carries on


@pytest.mark.fault(row=53)
@pytest.mark.parametrize("momentum", [-0.1, 1, 1.5, float("nan")])
def test_momentum_out_of_range_is_refused(momentum):
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        SGD(momentum=momentum)


@pytest.mark.fault(row=53)
@pytest.mark.parametrize(
    ("rule", "wrong"),
    [
        (Adam, {"beta1": 1}),
        (Adam, {"beta2": -0.1}),
        (Adam, {"epsilon": 0}),
        (Adam, {"weight_decay": -1}),
        (SGD, {"weight_decay": float("inf")}),
        (Steps, {"at": (0.5, 1)}),
        (Steps, {"factor": 0}),
        (WarmUp, {"share": 0}),
        (WarmUp, {"share": 1}),
        (WarmUp, {"then": "cosin"}),
    ],
)
def test_values_out_of_range_are_refused(rule, wrong):
    with pytest.raises(
        ValueError, match=next(iter(wrong)) if wrong != {"then": "cosin"} else "cosine"
    ):
        rule(**wrong)


def test_nesterov_without_momentum_is_refused():
    with pytest.raises(ValueError, match="greater than 0"):
        SGD(nesterov=True)


def test_names():
    assert optimizer_named("nesterov") == SGD(momentum=0.9, nesterov=True)
    assert optimizer_named(SGD(0.3)) == SGD(0.3)
    assert optimizer_named("adamw") == Adam(weight_decay=0.01, decoupled=True)
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


def test_a_straight_line_and_a_cosine_fall_from_the_peak_to_nothing():
    for name, half in (("linear", 0.5), ("cosine", 0.5)):
        found = rates(name, 2.0, 1000)
        assert found[0] == 2
        assert found[500] == pytest.approx(2 * half)
        assert 0 < found[-1] < 0.01
        assert np.all(np.diff(found) < 0)


def test_steps_fall_to_a_tenth_and_a_hundredth():
    np.testing.assert_allclose(rates("steps", 1.0, 8), [1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])
    np.testing.assert_allclose(rates(Steps((0.25,), 0.5), 1.0, 4), [1, 0.5, 0.5, 0.5])


def test_a_warm_up_rises_in_a_straight_line():
    found = rates(WarmUp("linear", 0.5), 1.0, 8)
    np.testing.assert_allclose(found, [0, 0.25, 0.5, 0.75, 1, 0.75, 0.5, 0.25])
    assert rates("warm-up-cosine", 1.0, 100)[10] == pytest.approx(1)


def test_a_schedule_may_give_one_factor():
    np.testing.assert_array_equal(rates(lambda progress: 0.5, 2.0, 3), [1, 1, 1])


def test_steps_need_a_tuple():
    with pytest.raises(TypeError, match="tuple of shares"):
        Steps(0.5)


def test_a_schedule_of_ones_own():
    np.testing.assert_allclose(rates(lambda done: 1 - done, 0.5, 2), [0.5, 0.25])


@pytest.mark.fault(row=56)
def test_an_unknown_schedule_names_the_nearest():
    with pytest.raises(ValueError, match="one-cycle"):
        rates("onecycle", 0.1, 3)

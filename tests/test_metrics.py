"""Loss, accuracy and confusion, against plain loops."""

import math

import numpy as np
import pytest

import fastmnist as fm
from fastmnist import metrics
from fastmnist.metrics import Report, report


def test_a_report_counted_by_hand():
    Z = np.log(np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.5, 0.3, 0.2]], np.float32))
    found = report(Z, np.array([0, 2, 0]))
    assert found.accuracy == pytest.approx(2 / 3)
    assert found.loss == pytest.approx(-(math.log(0.7) + math.log(0.3) + math.log(0.5)) / 3)
    np.testing.assert_array_equal(found.confusion, [[2, 0, 0], [0, 0, 0], [0, 1, 0]])


def test_far_logits_overflow_nothing():
    found = report(np.array([[2000, -2000]], np.float32), np.array([1]))
    assert found.loss == 4000
    assert found.accuracy == 0


def test_mistakes_are_the_most_frequent_first():
    confusion = np.array([[9, 1, 0], [5, 9, 2], [0, 0, 9]])
    found = Report(0.0, 0.0, confusion, 0.0, np.empty(0, int))
    assert found.mistakes(2) == [(1, 0, 5), (1, 2, 2)]
    assert found.mistakes() == [(1, 0, 5), (1, 2, 2), (0, 1, 1)]


def test_the_worst_are_those_whose_label_is_least_probable():
    P = np.array([[0.9, 0.1], [0.6, 0.4], [0.8, 0.2], [0.3, 0.7], [0.01, 0.99]], np.float32)
    found = report(np.log(P), np.array([1, 1, 0, 1, 0]))
    np.testing.assert_array_equal(found.worst, [4, 0, 1])
    assert not len(report(np.log(P), np.array([0, 0, 0, 1, 1])).worst)
    many = report(np.log(np.tile(P[:1], (100, 1))), np.ones(100, int))
    assert len(many.worst) == metrics.WORST


def test_calibration_compares_confidence_with_success():
    P = np.array([[0.8, 0.2]] * 10 + [[0.45, 0.55]] * 10, np.float32)
    y = np.array([0] * 8 + [1] * 2 + [1] * 9 + [0])  # 8 of 10 right at 80 %, 9 of 10 at 55 %
    assert report(np.log(P), y).calibration_error == pytest.approx((0 + 0.35) / 2, abs=1e-6)
    certain = report(np.array([[99, -99]] * 4, np.float32), np.array([0, 0, 0, 1]))
    assert certain.calibration_error == pytest.approx(0.25)


def test_outputs_that_overflow_are_named():
    data = fm.Dataset(np.full((3, 20), 1e30, np.float32), np.array([0, 1, 2]), "mine")
    model = fm.MLP([20, 6, 4], seed=1)
    model.params.flat[:] *= 1e12
    with pytest.raises(ValueError, match="mine: outputs are not finite; scale the features"):
        fm.evaluate(model, data)


def test_evaluate_agrees_with_predict():
    rng = np.random.default_rng(0)
    model = fm.MLP([20, 6, 4], seed=1)
    data = fm.Dataset(rng.random((300, 20), np.float32), rng.integers(0, 4, 300))
    found = fm.evaluate(model, data)
    assert found.accuracy == np.mean(model.predict(data.images) == data.labels)
    assert found.confusion.sum() == 300
    P = model.predict_proba(data.images)
    assert found.loss == pytest.approx(-np.log(P[np.arange(300), data.labels]).mean(), rel=1e-5)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (fm.Dataset(np.zeros((3, 5)), None, "mine"), "mine has no labels"),
        (fm.Dataset(np.zeros((0, 5)), np.zeros(0, int), "mine"), "mine has no samples"),
        (fm.Dataset(np.zeros((3, 5)), np.array([0, 1, 2])), "label 2 at index 2"),
        (fm.Dataset(np.zeros((3, 4)), np.array([0, 1, 1])), "4 features a row, .* 5 inputs"),
    ],
    ids=["labels", "samples", "class", "width"],
)
def test_data_that_does_not_fit_is_refused(data, message):
    with pytest.raises(ValueError, match=message):
        fm.evaluate(fm.MLP([5, 2]), data)

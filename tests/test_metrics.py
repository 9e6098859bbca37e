"""Loss, accuracy and confusion, against plain loops."""

import math

import numpy as np
import pytest

import fastmnist as fm
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
    found = Report(0.0, 0.0, confusion)
    assert found.mistakes(2) == [(1, 0, 5), (1, 2, 2)]
    assert found.mistakes() == [(1, 0, 5), (1, 2, 2), (0, 1, 1)]


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

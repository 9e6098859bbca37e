import numpy as np
import pytest

from fastmnist import MLP, Dataset, evaluate
from fastmnist.recipes import RECIPES


def accuracy(recipe, split, seed):
    model = recipe.model(split.train, seed=seed)
    recipe.fit(model, split.train, seed=seed)
    return evaluate(model, split.test).accuracy


def test_default_reaches_98_percent_of_mnist(mnist):
    reached = [accuracy(RECIPES["default"], mnist, seed) for seed in range(5)]

    assert np.mean(reached) >= 0.98, reached


def test_notebook_lands_where_the_notebook_did(mnist):
    # One seed, because 500 steps of 60,000 images take half a minute on two slow processors.
    # Seeds 0 to 4 gave 82.9, 86.0, 83.9, 84.9 and 84.5 %.
    assert 0.82 <= accuracy(RECIPES["notebook"], mnist, seed=0) <= 0.88


def test_notebook_draws_weights_and_biases_uniformly():
    train = Dataset(np.zeros((3, 28, 28), np.uint8), np.array([0, 1, 9]))

    parameters = [p for layer in RECIPES["notebook"].model(train).params for p in layer]

    assert [p.shape for p in parameters] == [(784, 10), (10,), (10, 10), (10,)]
    for p in parameters:
        assert -0.5 <= p.min() < -0.2 < 0.2 < p.max() < 0.5


def test_the_network_has_an_input_for_each_feature_and_an_output_for_each_class():
    digits = Dataset(np.zeros((2, 8, 8), np.uint8), np.array([0, 6]))
    named = Dataset(np.zeros((2, 5)), np.array([0, 0]), class_names=("cat", "dog", "owl"))

    assert RECIPES["default"].model(digits).sizes == (64, 128, 7)
    assert RECIPES["default"].model(named).sizes == (5, 128, 3)


def test_labels_are_needed():
    with pytest.raises(ValueError, match="ten digits has no labels"):
        RECIPES["default"].model(Dataset(np.zeros((10, 4)), name="ten digits"))


@pytest.mark.parametrize(("samples", "validated"), [(11, False), (24, True)])
def test_validation_where_there_are_samples_to_spare(samples, validated):
    rng = np.random.default_rng(0)
    train = Dataset(rng.random((samples, 4)), rng.integers(0, 2, samples))

    history = RECIPES["default"].fit(MLP([4, 2]), train)

    assert len(history) == RECIPES["default"].epochs
    assert (history[-1].validation_loss is not None) is validated

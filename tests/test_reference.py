"""The reference against derivatives that know nothing of backpropagation: promise 2, truth."""

import ast
import copy
from itertools import pairwise
from pathlib import Path

import agreement
import faults
import numpy as np
import pytest
from agreement import OPTIMIZERS, flat, properties
from hypothesis import given
from hypothesis import strategies as st

from fastmnist import reference
from fastmnist.optimizers import SGD, Adam, State


def random_network(rng, sizes, dtype=np.float64):
    return [
        (
            (rng.normal(size=(n, m)) * np.sqrt(2 / n)).astype(dtype),
            (rng.normal(size=m) / 10).astype(dtype),
        )
        for n, m in pairwise(sizes)
    ]


def mean_loss(params, X, y, weights=None, label_smoothing=0, masks=None):
    """The mean of -log softmax, from its definition; for complex parameters too."""
    weights = np.ones(len(y)) if weights is None else weights
    A = X.reshape(len(X), -1) / (255 if X.dtype == np.uint8 else 1)
    for layer, (W, b) in enumerate(params):
        A = (A * masks[layer] if masks else A) @ W + b
        if layer + 1 < len(params):
            A = np.where(A.real > 0, A, 0)
    Z = A - A.real.max(axis=1, keepdims=True)
    total = 0
    for z, label, weight in zip(Z, y, weights, strict=True):
        log_softmax = z - np.log(np.exp(z).sum())
        target = np.full(len(z), label_smoothing / len(z))
        target[label] += 1 - label_smoothing
        total -= weight * (target * log_softmax).sum()
    return total / weights.sum()


def slope(params, direction, X, y, **options):
    """The loss's derivative along `direction`, by a complex step.

    Squire and Trapp 1998, "Using complex variables to estimate derivatives of real functions":
    with an imaginary step nothing is subtracted, so the step can be as small as one likes.
    """
    step = 1e-30
    stepped = [
        (W + 1j * step * dW, b + 1j * step * db)
        for (W, b), (dW, db) in zip(params, direction, strict=True)
    ]
    return mean_loss(stepped, X, y, **options).imag / step


def derivative(params, X, y, **options):
    """The gradient, one complex step for each parameter."""
    direction = [(np.zeros(W.shape), np.zeros(b.shape)) for W, b in params]
    gradients = [(np.zeros_like(W), np.zeros_like(b)) for W, b in params]
    for probe, gradient in zip(flat(direction), flat(gradients), strict=True):
        for place in np.ndindex(probe.shape):
            probe[place] = 1
            gradient[place] = slope(params, direction, X, y, **options)
            probe[place] = 0
    return gradients


def check_every_parameter(implementation, params, X, y, bound=1e-12):
    _, gradients = implementation.loss_and_gradients(params, X, y)
    for got, want in zip(flat(gradients), flat(derivative(params, X, y)), strict=True):
        assert got.shape == want.shape
        assert np.abs(got - want).max() <= bound * np.abs(want).max()


def check_directions(implementation, params, X, y, rng):
    """Along random directions, two evaluations each: usable where the parameters are many."""
    _, gradients = implementation.loss_and_gradients(params, X, y)
    for _ in range(5):
        direction = [(rng.normal(size=W.shape), rng.normal(size=b.shape)) for W, b in params]
        terms = [g * d for g, d in zip(flat(gradients), flat(direction), strict=True)]
        got = sum(term.sum() for term in terms)
        size = np.sqrt(sum((term**2).sum() for term in terms))
        assert abs(got - slope(params, direction, X, y)) <= 1e-12 * size


SMALL = [(3, 2), (5, 1, 3), (4, 6, 3), (3, 5, 4, 2), (2, 3, 3, 3, 5)]


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
@pytest.mark.parametrize("sizes", SMALL)
def test_gradients_are_the_derivative(sizes, dtype):
    rng = np.random.default_rng(0)
    params = random_network(rng, sizes)
    X = agreement.random_images(rng, 7, sizes[0], 0.8, dtype)
    check_every_parameter(reference, params, X, rng.integers(0, sizes[-1], 7))


class Masks:
    """Leaves out what it was told to, of samples by their numbers."""

    def __init__(self, *masks):
        self._masks = masks

    def masks(self, samples, widths):
        assert widths == [mask.shape[1] for mask in self._masks]
        return [mask[samples] for mask in self._masks]


@pytest.mark.parametrize("dropped", [False, True])
@pytest.mark.parametrize("smoothing", [0, 0.2])
@pytest.mark.parametrize("weights", [None, np.array([3, 0, 1, 0.25, 7])])
def test_loss_and_gradients_with_every_option_are_those_of_the_definition(
    weights, smoothing, dropped
):
    rng = np.random.default_rng(0)
    params, X, y = random_network(rng, (4, 6, 3)), rng.normal(size=(5, 4)), rng.integers(0, 3, 5)
    options, defined = {}, {"weights": weights, "label_smoothing": smoothing}
    if dropped:
        all_masks = [rng.integers(0, 3, (9, width)) / 2 for width in (4, 6)]
        samples = np.array([8, 1, 0, 5, 2])
        options = {"dropout": Masks(*all_masks), "samples": samples}
        defined["masks"] = [mask[samples] for mask in all_masks]
    loss, gradients = reference.loss_and_gradients(
        params, X, y, weights=weights, label_smoothing=smoothing, **options
    )
    assert loss == pytest.approx(mean_loss(params, X, y, **defined), rel=1e-13)
    for got, want in zip(flat(gradients), flat(derivative(params, X, y, **defined)), strict=True):
        assert np.abs(got - want).max() <= 1e-12 * np.abs(want).max()


def test_samples_are_numbered_from_0_where_nothing_else_is_said():
    rng = np.random.default_rng(0)
    params, X, y = random_network(rng, (4, 6, 3)), rng.normal(size=(5, 4)), rng.integers(0, 3, 5)
    masks = [rng.integers(0, 3, (5, width)) / 2 for width in (4, 6)]
    loss, _ = reference.loss_and_gradients(params, X, y, dropout=Masks(*masks))
    assert loss == pytest.approx(mean_loss(params, X, y, masks=masks), rel=1e-13)


def test_samples_without_any_weight_have_no_gradient():
    rng = np.random.default_rng(0)
    params, X, y = random_network(rng, (4, 6, 3)), rng.normal(size=(5, 4)), rng.integers(0, 3, 5)
    loss, gradients = reference.loss_and_gradients(params, X, y, weights=np.zeros(5))
    assert loss == 0
    assert not any(gradient.any() for gradient in flat(gradients))


@pytest.mark.parametrize("sizes", [(784, 10), (784, 128, 10), (784, 30, 20, 47)])
def test_gradients_are_the_derivative_along_random_directions(sizes):
    rng = np.random.default_rng(0)
    params = random_network(rng, sizes)
    X = agreement.random_images(rng, 20, 784, 0.19, np.uint8)
    check_directions(reference, params, X, rng.integers(0, sizes[-1], 20), rng)


@properties(30)
@given(
    seed=st.integers(0, 2**32),
    sizes=st.lists(st.integers(1, 6), min_size=2, max_size=5),
    count=st.integers(1, 9),
    density=st.floats(0.2, 1),
)
def test_gradients_are_the_derivative_of_any_network(seed, sizes, count, density):
    rng = np.random.default_rng(seed)
    params = random_network(rng, sizes)
    X = agreement.random_images(rng, count, sizes[0], density, np.float64)
    y = rng.integers(0, sizes[-1], count)
    _, gradients = reference.loss_and_gradients(params, X, y)
    for got, want in zip(flat(gradients), flat(derivative(params, X, y)), strict=True):
        # An absolute bound besides, for sums whose terms of about 1 cancel.
        assert np.abs(got - want).max() <= 1e-12 * max(1, np.abs(want).max())


def test_gradients_are_those_of_automatic_differentiation():
    autograd = pytest.importorskip("autograd")
    anp = pytest.importorskip("autograd.numpy")
    rng = np.random.default_rng(0)
    params = random_network(rng, (784, 16, 10))
    X, y = rng.normal(size=(20, 784)), rng.integers(0, 10, 20)

    def loss(params):
        A = anp.maximum(X @ params[0][0] + params[0][1], 0)
        Z = A @ params[1][0] + params[1][1]
        return anp.mean(anp.log(anp.sum(anp.exp(Z), axis=1)) - Z[anp.arange(20), y])

    _, gradients = reference.loss_and_gradients(params, X, y)
    for got, want in zip(flat(gradients), flat(autograd.grad(loss)(params)), strict=True):
        assert np.abs(got - want).max() <= 1e-12 * np.abs(want).max()


@pytest.mark.parametrize("fault", faults.GRADIENTS.values(), ids=faults.GRADIENTS)
def test_faulted_gradients_are_caught(fault):
    rng = np.random.default_rng(0)
    params = random_network(rng, (4, 6, 3))
    X, y = rng.normal(size=(7, 4)), rng.integers(0, 3, 7)
    check_every_parameter(reference, params, X, y)
    with pytest.raises(AssertionError):
        check_every_parameter(fault(reference), params, X, y)
    with pytest.raises(AssertionError):
        check_directions(fault(reference), params, X, y, rng)


@pytest.mark.parametrize("sizes", [(6, 3), (8, 5, 4), (784, 20, 10)])
def test_the_loss_is_the_mean_of_its_definition(sizes):
    rng = np.random.default_rng(0)
    params = random_network(rng, sizes)
    X, y = rng.normal(size=(11, sizes[0])), rng.integers(0, sizes[-1], 11)
    loss, _ = reference.loss_and_gradients(params, X, y)
    assert isinstance(loss, float)
    assert loss == pytest.approx(mean_loss(params, X, y), rel=1e-14)
    P = reference.forward(params, X)
    assert loss == pytest.approx(-np.log(P[np.arange(11), y]).mean(), rel=1e-14)
    assert P.sum(axis=1) == pytest.approx(np.ones(11), rel=1e-14)


def test_large_logits_overflow_nothing():
    params = [(np.array([[1000.0, -1000.0, 0.0]]), np.zeros(3))]
    X = np.array([[1.0], [-1.0]])
    np.testing.assert_array_equal(reference.forward(params, X), [[1, 0, 0], [0, 1, 0]])
    loss, gradients = reference.loss_and_gradients(params, X, np.array([1, 1]))
    assert loss == 1000
    assert all(np.isfinite(gradient).all() for gradient in flat(gradients))


def test_no_other_numbers_than_uint8_are_pixels():
    params = random_network(np.random.default_rng(0), (4, 3))
    X = np.array([[0, 1, 1, 0], [1, 0, 1, 1]])
    for dtype in (bool, np.int8, np.uint16, np.int64, np.float32):
        np.testing.assert_array_equal(
            reference.forward(params, X.astype(dtype)), reference.forward(params, X * 1.0)
        )


def test_all_classes_alike_lose_the_logarithm_of_their_number():
    params = [(np.zeros((4, 10)), np.full(10, 3.0))]
    loss, _ = reference.loss_and_gradients(params, np.ones((2, 4)), np.array([0, 9]))
    assert loss == pytest.approx(np.log(10), rel=1e-15)


@pytest.mark.parametrize(
    ("dtype", "bound"), [(np.float32, 32 * 2.0**-23), (np.float64, 1e-12), (np.longdouble, 1e-12)]
)
@pytest.mark.parametrize("pixels", [np.uint8, np.float32, np.float64])
def test_everything_has_the_dtype_of_the_parameters(dtype, bound, pixels):
    rng = np.random.default_rng(0)
    params = random_network(rng, (5, 4, 3), dtype)
    X = agreement.random_images(rng, 8, 5, 0.8, pixels)
    y = rng.integers(0, 3, 8)
    exact = [(W.astype(np.float64), b.astype(np.float64)) for W, b in params]
    _, gradients = reference.loss_and_gradients(params, X, y)
    for got, want in zip(flat(gradients), flat(derivative(exact, X, y)), strict=True):
        assert got.dtype == dtype
        assert np.abs(got - want).max() <= bound * np.abs(want).max()
    assert reference.forward(params, X).dtype == dtype
    reference.train_epoch(params, X, y, batch_size=3, optimizer=OPTIMIZERS["nesterov"])
    assert {a.dtype for a in flat(params)} == {np.dtype(dtype)}


def test_more_precision_gives_a_nearer_derivative():
    rng = np.random.default_rng(0)
    params = random_network(rng, (5, 4, 3), np.longdouble)
    if np.finfo(np.longdouble).eps == np.finfo(np.float64).eps:
        pytest.skip("a long double is a float64 on this machine")
    X, y = rng.normal(size=(8, 5)).astype(np.longdouble), rng.integers(0, 3, 8)
    check_every_parameter(reference, params, X, y, bound=1e-16)


def test_arguments_stay_as_they_were():
    rng = np.random.default_rng(0)
    params = random_network(rng, (5, 4, 3))
    for dtype in (np.uint8, np.float32, np.float64):
        X = agreement.random_images(rng, 8, 5, 0.8, dtype)
        arguments = [*flat(params), X, rng.integers(0, 3, 8)]
        before = [a.copy() for a in arguments]
        reference.forward(params, X)
        reference.logits(params, X)
        reference.loss_and_gradients(params, X, arguments[-1])
        assert all(np.array_equal(a, b) for a, b in zip(arguments, before, strict=True))


@pytest.mark.parametrize("sizes", [(6, 3), (6, 5, 3), (6, 5, 4, 3)])
def test_input_gradients_are_the_derivative_of_the_log_probability(sizes):
    rng = np.random.default_rng(0)
    params, X, y = random_network(rng, sizes), rng.normal(size=(7, 6)), rng.integers(0, 3, 7)
    found = reference.input_gradients(params, X, y)
    for i, k in np.ndindex(X.shape):
        moved = X[[i]].astype(complex)
        moved[0, k] += 1e-30j
        slope = -mean_loss(params, moved, y[[i]]).imag / 1e-30
        assert found[i, k] == pytest.approx(slope, rel=1e-12, abs=1e-14)


# Whole epochs, against a loop that knows only the definition of the loss.

EPOCH = {"batch_size": 4, "order": np.array([6, 2, 9, 0, 5, 1, 8, 3, 7, 4])}
RATES = np.array([0.1, 0.3, 0.2])


def epoch_by_definition(params, state, X, y, rule):
    """An epoch of ten samples in batches of four, step by step, by complex steps."""
    losses = []
    for start, rate in zip((0, 4, 8), RATES, strict=True):
        batch = EPOCH["order"][start : start + 4]
        losses += [mean_loss(params, X[[i]], y[[i]]) for i in batch]
        gradients = derivative(params, X[batch], y[batch])
        state.steps += 1
        for w, g, v, s in zip(
            *map(flat, (params, gradients, state.velocity, state.squares)), strict=True
        ):
            if not rule.decoupled:
                g = g + rule.weight_decay * w
            shrunk = w * (1 - rate * rule.weight_decay) if rule.decoupled else w
            if isinstance(rule, Adam):
                v[...] = rule.beta1 * v + (1 - rule.beta1) * g
                s[...] = rule.beta2 * s + (1 - rule.beta2) * g * g
                v_hat = v / (1 - rule.beta1**state.steps)
                s_hat = s / (1 - rule.beta2**state.steps)
                w[...] = shrunk - rate * v_hat / (s_hat**0.5 + rule.epsilon)
            elif rule.momentum:
                v[...] = rule.momentum * v + g
                w[...] = shrunk - rate * (g + rule.momentum * v if rule.nesterov else v)
            else:
                w[...] = shrunk - rate * g
    return sum(losses) / len(losses)


def check_epoch(implementation, optimizer):
    rng = np.random.default_rng(0)
    params = random_network(rng, (4, 5, 3))
    state = used_state(random_network(rng, (4, 5, 3))) if optimizer else None
    X, y = rng.normal(size=(10, 4)), rng.integers(0, 3, 10)
    want = [(W.copy(), b.copy()) for W, b in params]
    want_state = copy.deepcopy(state) if state else State.zeros(params)
    rule = optimizer or SGD()
    loss = implementation.train_epoch(
        params, X, y, learning_rate=RATES, state=state, optimizer=optimizer, **EPOCH
    )
    want_loss = epoch_by_definition(want, want_state, X, y, rule)
    assert loss == pytest.approx(want_loss, rel=1e-12)
    for got, wanted in zip(flat(params), flat(want), strict=True):
        assert np.abs(got - wanted).max() <= 1e-12 * np.abs(wanted).max()
    if optimizer:
        assert state.steps == want_state.steps
        for got, wanted in zip(flat(state.velocity), flat(want_state.velocity), strict=True):
            assert np.abs(got - wanted).max() <= 1e-12 * np.abs(wanted).max()


def used_state(params):
    """A state after two steps."""
    return State(params, [(W**2, b**2) for W, b in params], 2)


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_an_epoch_follows_the_definition(optimizer):
    check_epoch(reference, optimizer)


@pytest.mark.parametrize("fault", faults.EPOCHS.values(), ids=faults.EPOCHS)
def test_faulted_epochs_are_caught(fault):
    with pytest.raises(AssertionError):
        check_epoch(fault(reference), OPTIMIZERS["nesterov"])


def test_an_epoch_passes_every_option_on_and_counts_each_sample_by_its_weight():
    rng = np.random.default_rng(0)
    params, X, y = random_network(rng, (4, 5, 3)), rng.normal(size=(10, 4)), rng.integers(0, 3, 10)
    options = {
        "label_smoothing": 0.2,
        "dropout": Masks(*(rng.integers(0, 3, (10, width)) / 2 for width in (4, 5))),
    }
    weights = rng.exponential(size=10)
    want, total = [(W.copy(), b.copy()) for W, b in params], 0
    for start, rate in zip((0, 4, 8), RATES, strict=True):
        batch = EPOCH["order"][start : start + 4]
        loss, gradients = reference.loss_and_gradients(
            want, X[batch], y[batch], weights=weights[batch], samples=batch, **options
        )
        total += loss * weights[batch].sum()
        for w, g in zip(flat(want), flat(gradients), strict=True):
            w -= rate * g
    loss = reference.train_epoch(
        params, X, y, learning_rate=RATES, weights=weights, **options, **EPOCH
    )
    assert loss == pytest.approx(total / weights.sum(), rel=1e-14)
    for got, wanted in zip(flat(params), flat(want), strict=True):
        assert got == pytest.approx(wanted, rel=1e-13)


def test_one_rate_serves_all_batches():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(10, 4)), rng.integers(0, 3, 10)
    one = random_network(rng, (4, 3))
    many = [(W.copy(), b.copy()) for W, b in one]
    reference.train_epoch(one, X, y, learning_rate=0.2, **EPOCH)
    reference.train_epoch(many, X, y, learning_rate=np.full(3, 0.2), **EPOCH)
    assert all(np.array_equal(a, b) for a, b in zip(flat(one), flat(many), strict=True))


def test_by_default_samples_are_taken_as_they_stand():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(10, 4)), rng.integers(0, 3, 10)
    stood = random_network(rng, (4, 3))
    ordered = [(W.copy(), b.copy()) for W, b in stood]
    reference.train_epoch(stood, X, y, batch_size=4)
    reference.train_epoch(ordered, X, y, batch_size=4, order=np.arange(10))
    assert all(np.array_equal(a, b) for a, b in zip(flat(stood), flat(ordered), strict=True))


def test_by_default_64_samples_take_a_step_at_a_rate_of_a_tenth():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(130, 4)), rng.integers(0, 3, 130)
    default = random_network(rng, (4, 3))
    named = [(W.copy(), b.copy()) for W, b in default]
    reference.train_epoch(default, X, y)
    reference.train_epoch(named, X, y, learning_rate=0.1, batch_size=64)
    assert all(np.array_equal(a, b) for a, b in zip(flat(default), flat(named), strict=True))


def test_without_a_state_an_optimizer_begins_at_its_first_step():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(10, 4)), rng.integers(0, 3, 10)
    without = random_network(rng, (4, 3))
    fresh = [(W.copy(), b.copy()) for W, b in without]
    reference.train_epoch(without, X, y, batch_size=4, optimizer=Adam())
    reference.train_epoch(fresh, X, y, batch_size=4, optimizer=Adam(), state=State.zeros(fresh))
    assert all(np.array_equal(a, b) for a, b in zip(flat(without), flat(fresh), strict=True))


def test_a_batch_larger_than_the_set_is_all_of_it():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(10, 4)), rng.integers(0, 3, 10)
    params = random_network(rng, (4, 3))
    loss, gradients = reference.loss_and_gradients(params, X, y)
    want = [
        (W - 0.5 * dW, b - 0.5 * db) for (W, b), (dW, db) in zip(params, gradients, strict=True)
    ]
    assert reference.train_epoch(params, X, y, learning_rate=0.5, batch_size=99) == loss
    assert all(np.array_equal(a, b) for a, b in zip(flat(params), flat(want), strict=True))


def test_the_reference_imports_numpy_alone():
    tree = ast.parse(Path(reference.__file__).read_text(encoding="utf-8"))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in (
            [node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
        )
    }
    assert imported <= {"__future__", "collections", "typing", "numpy"}

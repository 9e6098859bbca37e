"""The scikit-learn estimator: its own checks, and the tools that people use it with."""

import pickle

import numpy as np
import pytest

sklearn = pytest.importorskip("sklearn")

from scipy import sparse  # noqa: E402
from sklearn.base import clone  # noqa: E402
from sklearn.calibration import CalibratedClassifierCV  # noqa: E402
from sklearn.datasets import load_digits, make_classification  # noqa: E402
from sklearn.exceptions import ConvergenceWarning, NotFittedError  # noqa: E402
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split  # noqa: E402
from sklearn.neural_network import MLPClassifier as Theirs  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from sklearn.utils.estimator_checks import parametrize_with_checks  # noqa: E402

import fastmnist as fm  # noqa: E402
from fastmnist import reference  # noqa: E402
from fastmnist.sklearn import MLPClassifier  # noqa: E402

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning", "ignore:X does not have valid feature names"
)


@parametrize_with_checks([MLPClassifier(max_iter=100)])
@pytest.mark.filterwarnings("ignore")
def test_scikit_learns_own_checks_pass(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def digits():
    """1,797 images of 8 x 8: large enough for the kernels."""
    X, y = load_digits(return_X_y=True)
    return train_test_split((X / 16).astype(np.float32), y, random_state=0)


@pytest.fixture(scope="module")
def fitted(digits):
    X, _, y, _ = digits
    return MLPClassifier(max_iter=30, random_state=0).fit(X, y)


def test_names_and_defaults_are_scikit_learns():
    ours, theirs = MLPClassifier().get_params(), Theirs().get_params()
    assert set(ours) - set(theirs) == {"n_jobs"}
    assert set(theirs) - set(ours) == {"max_fun"}  # of a solver that is not here
    assert all(ours[name] == theirs[name] for name in ours.keys() & theirs.keys())


@pytest.mark.compiled
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"solver": "sgd", "learning_rate_init": 0.1},
        {"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 1, "power_t": 0.1},
        {"solver": "sgd", "nesterovs_momentum": False, "learning_rate_init": 0.05},
        {"early_stopping": True},
        {"hidden_layer_sizes": (40, 20), "alpha": 0.01, "batch_size": 64},
    ],
    ids=str,
)
def test_it_is_as_accurate_as_scikit_learns(digits, options):
    X, test_X, y, test_y = digits
    ours = [
        MLPClassifier(max_iter=30, random_state=seed, **options).fit(X, y).score(test_X, test_y)
        for seed in range(2)
    ]
    theirs = [
        Theirs(max_iter=30, random_state=seed, **options).fit(X, y).score(test_X, test_y)
        for seed in range(2)
    ]
    assert abs(np.mean(ours) - np.mean(theirs)) < 0.02


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_the_loss_curve_is_scikit_learns(solver):
    # The same weights, taken from theirs, the same order (none), float64: the same way. Biases are
    # regularised here and not there, so without regularisation.
    X, y = make_classification(300, 10, n_informative=8, n_classes=3, random_state=0)
    options = {
        "shuffle": False,
        "alpha": 0.0,
        "batch_size": 50,
        "solver": solver,
        "random_state": 0,
    }
    theirs = Theirs(max_iter=8, learning_rate_init=0.01, **options).fit(X, y)
    start = Theirs(max_iter=1, learning_rate_init=1e-30, **options).fit(X, y)
    ours = MLPClassifier(max_iter=8, learning_rate_init=0.01, warm_start=True, **options)
    ours.partial_fit(X[:1], y[:1], classes=np.unique(y))  # makes room for weights
    for (W, b), V, c in zip(ours._params, start.coefs_, start.intercepts_, strict=True):
        W[...], b[...] = V, c
    ours.loss_curve_, ours.best_loss_ = [], np.inf
    ours.fit(X, y)
    tolerance = {"adam": 1e-5, "sgd": 1e-9}[solver]  # adam's epsilon: theirs is not scaled
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=tolerance)


@pytest.mark.compiled
def test_small_sets_are_left_to_numpy_and_large_ones_to_the_kernels(digits, fitted):
    X, _, y, _ = digits
    assert fitted._backend is fm.kernels
    assert fitted.coefs_[0].dtype == np.float32
    small = MLPClassifier(max_iter=2).fit(X[:100], y[:100])
    assert small._backend is reference
    assert small.coefs_[0].dtype == np.float64


@pytest.mark.compiled
def test_probabilities_belong_to_the_classes(digits):
    X, test_X, y, test_y = digits
    names = np.array(
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    )
    model = MLPClassifier(max_iter=30, random_state=0).fit(X, names[y])
    assert list(model.classes_) == sorted(names)
    P = model.predict_proba(test_X)
    np.testing.assert_allclose(P.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.exp(model.predict_log_proba(test_X)), P, rtol=1e-5)
    assert (model.classes_[P.argmax(axis=1)] == model.predict(test_X)).all()
    assert model.score(test_X, names[test_y]) > 0.95


@pytest.mark.compiled
def test_what_it_has_learnt_can_be_looked_at(digits, fitted):
    assert [W.shape for W in fitted.coefs_] == [(64, 100), (100, 10)]
    assert [b.shape for b in fitted.intercepts_] == [(100,), (10,)]
    assert fitted.n_iter_ == len(fitted.loss_curve_) == 30
    assert fitted.loss_ == fitted.loss_curve_[-1]
    assert fitted.best_loss_ == min(fitted.loss_curve_)
    assert fitted.t_ == 30 * len(digits[0])
    assert (fitted.n_layers_, fitted.n_outputs_, fitted.n_features_in_) == (3, 10, 64)


@pytest.mark.kernels  # NumPy's products take dense rows
@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csr_array, sparse.csc_array])
def test_sparse_input_gives_the_same_bits(digits, kind, monkeypatch):
    X, test_X, y, _ = digits
    dense = MLPClassifier(max_iter=3, random_state=0).fit(X, y)
    monkeypatch.setattr(sparse.csr_array, "toarray", None)
    monkeypatch.setattr(sparse.csr_matrix, "toarray", None)
    model = MLPClassifier(max_iter=3, random_state=0).fit(kind(X), y)
    for W, V in zip(model.coefs_, dense.coefs_, strict=True):
        np.testing.assert_array_equal(W, V)
    np.testing.assert_array_equal(model.predict_proba(kind(test_X)), dense.predict_proba(test_X))


def test_sparse_input_may_be_in_any_order_and_twice(digits):
    X, _, y, _ = digits
    turned = sparse.csr_array(X[:, ::-1])[:, ::-1]  # indices fall
    assert not turned.has_sorted_indices
    before = turned.indices.copy()
    model = MLPClassifier(max_iter=3, random_state=0).fit(turned, y)
    straight = MLPClassifier(max_iter=3, random_state=0).fit(X, y)
    for W, V in zip(model.coefs_, straight.coefs_, strict=True):
        np.testing.assert_array_equal(W, V)
    np.testing.assert_array_equal(model.predict_proba(turned), straight.predict_proba(X))
    np.testing.assert_array_equal(turned.indices, before)


@pytest.mark.compiled
def test_sparse_input_must_be_finite_in_float32(digits, fitted):
    huge = sparse.csr_array(digits[0].astype(np.float64) * 1e39)
    with pytest.raises(ValueError, match="finite in float32"):
        fitted.predict_proba(huge)


def test_weights_that_cannot_be_are_refused(digits):
    X, _, y, _ = digits
    with pytest.raises(ValueError, match="Negative values in data passed to `sample_weight`"):
        MLPClassifier(max_iter=1).fit(X, y, sample_weight=-np.ones(len(X)))
    with pytest.raises(ValueError, match="non-zero"):
        MLPClassifier(max_iter=1).fit(X, y, sample_weight=np.zeros(len(X)))


def test_early_stopping_may_be_switched(digits):
    X, _, y, _ = digits
    model = MLPClassifier(max_iter=2, warm_start=True, early_stopping=True).fit(X, y)
    model.set_params(early_stopping=False).partial_fit(X, y)
    assert model.best_loss_ == model.loss_
    model.set_params(early_stopping=True).fit(X, y)
    assert model.best_validation_score_ == max(model.validation_scores_)


@pytest.mark.compiled
def test_weights_are_like_repetitions(digits):
    X, _, y, _ = digits
    counts = np.random.default_rng(0).integers(0, 3, len(X))
    options = {"batch_size": 10_000, "max_iter": 10, "random_state": 0}  # all in one batch
    weighted = MLPClassifier(**options).fit(X, y, sample_weight=counts)
    repeated = MLPClassifier(**options).fit(X.repeat(counts, axis=0), y.repeat(counts))
    np.testing.assert_allclose(weighted.loss_curve_, repeated.loss_curve_, rtol=1e-4)
    assert weighted.loss_ < MLPClassifier(**options).fit(X, y).loss_ * 2


def test_warm_start_goes_on(digits):
    X, _, y, _ = digits
    model = MLPClassifier(max_iter=3, warm_start=True, random_state=0).fit(X, y)
    first = model.loss_
    assert model.fit(X, y).loss_ < first
    assert len(model.loss_curve_) == 6
    with pytest.raises(ValueError, match="same classes"):
        model.fit(X, y % 5)


@pytest.mark.compiled
def test_partial_fit_trains_an_epoch_at_a_time(digits):
    X, test_X, y, test_y = digits
    model = MLPClassifier(random_state=0)
    for _ in range(20):
        model.partial_fit(X, y, classes=np.arange(10))
    assert len(model.loss_curve_) == 20
    assert model.score(test_X, test_y) > 0.9


def test_partial_fit_refuses_other_classes_and_early_stopping():
    X, y = np.eye(4), np.array([0, 1, 0, 1])
    model = MLPClassifier().partial_fit(X, y, classes=[0, 1])
    with pytest.raises(ValueError, match="classes not in"):
        model.partial_fit(X, y + 1)
    with pytest.raises(ValueError, match="early_stopping"):
        MLPClassifier(early_stopping=True).partial_fit(X, y, classes=[0, 1])


def test_weights_are_there_as_soon_as_it_is_fitted():
    model = MLPClassifier(hidden_layer_sizes=(3,), max_iter=1)
    assert not hasattr(model, "coefs_")
    assert not hasattr(model, "intercepts_")
    model.fit(np.eye(4), [0, 1, 2, 1])
    assert [W.shape for W in model.coefs_] == [(4, 3), (3, 3)]
    assert [b.shape for b in model.intercepts_] == [(3,), (3,)]


def test_inverse_scaling_slows_down_by_the_samples_seen():
    options = {"learning_rate": "invscaling", "learning_rate_init": 0.1, "power_t": 0.5}
    model = MLPClassifier(solver="sgd", max_iter=3, **options).fit(np.eye(4), [0, 1, 0, 1])
    assert model._rate == pytest.approx(0.1 / np.sqrt(2 * 4 + 1))


def test_verbose_prints_a_line_an_epoch(capsys):
    model = MLPClassifier(max_iter=2, verbose=True).fit(np.eye(4), [0, 1, 0, 1])
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("Iteration 1, loss = ")
    assert second == f"Iteration 2, loss = {model.loss_:.8f}"


@pytest.mark.filterwarnings("ignore:.* encountered in:RuntimeWarning")
def test_weights_that_are_no_numbers_any_more_are_an_error():
    with pytest.raises(ValueError, match="non-finite parameter weights"):
        MLPClassifier(solver="sgd", learning_rate_init=1e300).fit(np.eye(4), [0, 1, 0, 1])


def test_too_few_samples_to_stop_by_are_refused():
    with pytest.raises(ValueError, match="validation set is too small"):
        MLPClassifier(early_stopping=True).fit(np.eye(5), np.zeros(5))


@pytest.mark.compiled
def test_early_stopping_keeps_the_best(digits):
    X, _, y, _ = digits
    model = MLPClassifier(early_stopping=True, n_iter_no_change=3, random_state=0, max_iter=300)
    model.fit(X, y)
    assert model.n_iter_ < 300
    assert model.best_validation_score_ == max(model.validation_scores_) > 0.9
    assert model.best_loss_ is None


def test_training_stops_when_nothing_improves_and_warns_when_it_has_not():
    rng = np.random.default_rng(0)
    X, y = rng.random((40, 5)), rng.integers(0, 2, 40)
    still = MLPClassifier(solver="sgd", learning_rate_init=1e-12, n_iter_no_change=4).fit(X, y)
    assert still.n_iter_ == 6
    adaptive = MLPClassifier(
        solver="sgd", learning_rate="adaptive", learning_rate_init=1e-5, n_iter_no_change=2
    ).fit(X, y)
    assert adaptive._rate < 1e-6
    with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(3\)"):
        MLPClassifier(max_iter=3).fit(X, y)


@pytest.mark.compiled
def test_same_seed_same_bits_for_any_number_of_threads(digits):
    X, _, y, _ = digits
    first, *others = (
        MLPClassifier(max_iter=3, random_state=0, n_jobs=jobs).fit(X, y) for jobs in (1, 2, 3, None)
    )
    for other in others:
        for W, V in zip(first.coefs_, other.coefs_, strict=True):
            np.testing.assert_array_equal(W, V)


@pytest.mark.compiled
@pytest.mark.parametrize("how", [lambda m: pickle.loads(pickle.dumps(m)), lambda m: m])
def test_it_pickles_and_goes_on(digits, fitted, how):
    X, test_X, y, _ = digits
    copy = how(fitted)
    np.testing.assert_array_equal(copy.predict_proba(test_X), fitted.predict_proba(test_X))
    again = pickle.loads(pickle.dumps(fitted)).partial_fit(X, y)
    assert again.t_ == fitted.t_ + len(X)
    with pytest.raises(NotFittedError):
        clone(fitted).predict(test_X)


@pytest.mark.compiled
def test_it_works_where_classifiers_do(digits):
    X, test_X, y, test_y = digits
    small = MLPClassifier(learning_rate_init=0.01, max_iter=30, random_state=0)
    assert make_pipeline(StandardScaler(), small).fit(X, y).score(test_X, test_y) > 0.9
    assert cross_val_score(small, X, y, cv=3).mean() > 0.9
    calibrated = CalibratedClassifierCV(small, cv=2).fit(X, y)
    assert calibrated.score(test_X, test_y) > 0.9


@pytest.mark.compiled
@pytest.mark.fault(row=86)
@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_a_search_runs_in_joblibs_workers(digits, backend):
    import joblib

    X, _, y, _ = digits
    grid = {"hidden_layer_sizes": [(16,), (32,)], "solver": ["adam"]}
    with joblib.parallel_config(backend=backend, n_jobs=2):
        search = GridSearchCV(MLPClassifier(max_iter=5, random_state=0), grid, cv=2).fit(X, y)
    alone = GridSearchCV(MLPClassifier(max_iter=5, random_state=0), grid, cv=2).fit(X, y)
    np.testing.assert_array_equal(
        search.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"]
    )


def test_inside_a_worker_one_thread_is_enough():
    import joblib

    model = MLPClassifier()
    assert model._threads() is None
    with joblib.parallel_config(backend="threading", n_jobs=2):
        found = joblib.Parallel()(joblib.delayed(model._threads)() for _ in range(2))
    assert found == [1, 1]
    assert MLPClassifier(n_jobs=3)._threads() == 3
    assert MLPClassifier(n_jobs=-1)._threads() is None


@pytest.mark.parametrize(
    "options",
    [
        {"activation": "tanh"},
        {"solver": "lbfgs"},
        {"alpha": -1},
        {"n_jobs": 0},
        {"max_iter": 0},
        {"hidden_layer_sizes": (3, 0)},
    ],
    ids=str,
)
def test_what_it_cannot_do_is_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        MLPClassifier(**options).fit(np.eye(4), [0, 1, 0, 1])

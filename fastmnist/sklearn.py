"""A classifier for scikit-learn's pipelines, searches and ensembles, with scikit-learn's names."""

from __future__ import annotations

import contextlib
import sys
import warnings
from numbers import Integral, Real
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

try:
    from joblib.parallel import effective_n_jobs, get_active_backend
    from scipy.sparse import issparse
    from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import LabelEncoder
    from sklearn.utils import check_random_state
    from sklearn.utils._param_validation import Interval, StrOptions
    from sklearn.utils.multiclass import (
        _check_partial_fit_first_call,
        check_classification_targets,
    )
    from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
except ImportError as error:
    raise ImportError(
        'fastmnist.sklearn needs scikit-learn: pip install "fastmnist[sklearn]"', name="sklearn"
    ) from error

from fastmnist import reference
from fastmnist.backends import backend_named
from fastmnist.checks import finite
from fastmnist.model import MLP
from fastmnist.optimizers import SGD, Adam, State

# Numbers in a training set from which on the kernels are faster than NumPy, threads included.
_FEW = 2**16


class MLPClassifier(ClassifierMixin, BaseEstimator):
    """Multi-layer perceptron with scikit-learn's interface, trained by the kernels.

    Names, defaults and meanings are those of `sklearn.neural_network.MLPClassifier`; change the
    import, and the rest stays. What differs: hidden layers are ReLU, solvers "adam" and "sgd",
    two classes have two outputs, and the kernels compute in float32. Small training sets are left
    to NumPy, in float64. Features are taken as they are: scale pixels to [0, 1] yourself.

    Parameters
    ----------
    hidden_layer_sizes : array-like of int, default=(100,)
        Units of each hidden layer; empty for none.
    activation : {"relu"}
    solver : {"adam", "sgd"}
    alpha : float, default=0.0001
        Strength of L2 regularisation, divided by the samples of a batch; of biases, too.
    batch_size : int or "auto"
        Samples in a step; "auto" is 200, or all where there are fewer.
    learning_rate : {"constant", "invscaling", "adaptive"}
        Of "sgd": as it is, divided by (samples seen + 1) ** power_t, or divided by 5 whenever two
        epochs bring no improvement, until it is below 1e-6.
    learning_rate_init : float, default=0.001
    power_t : float, default=0.5
    max_iter : int, default=200
        Epochs.
    shuffle : bool, default=True
    random_state : int, RandomState instance or None
        Of weights, order and validation samples. Same seed, same bits, whatever `n_jobs` is.
    tol : float, default=1e-4
        Improvement of the loss, or of the validation score, that counts as one.
    verbose : bool, default=False
    warm_start : bool, default=False
        `fit` goes on from the weights of the last call.
    momentum : float, default=0.9
        Of "sgd", in [0, 1).
    nesterovs_momentum : bool, default=True
    early_stopping : bool, default=False
        Stop by the accuracy on samples set aside, and keep the best weights.
    validation_fraction : float, default=0.1
        Share of samples set aside, in (0, 1).
    beta_1, beta_2 : float, default=0.9, 0.999
        Of "adam", in [0, 1).
    epsilon : float, default=1e-8
        Of "adam".
    n_iter_no_change : int, default=10
        Epochs without improvement after which training stops.
    n_jobs : int, optional
        Threads; -1, as by default, means as many as this process may use, and inside joblib's
        workers one.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    coefs_, intercepts_ : list of ndarray
        Weights of shape (inputs, outputs) and biases of each layer, float32.
    loss_, best_loss_ : float
        Of the last epoch, and the smallest (None with early stopping).
    loss_curve_ : list of float
    validation_scores_ : list of float or None
    best_validation_score_ : float or None
    n_iter_, t_ : int
        Epochs of the last call, and samples seen in all.
    n_features_in_, n_layers_, n_outputs_ : int
    feature_names_in_ : ndarray of str, where X has them
    out_activation_ : {"softmax"}
    """

    _parameter_constraints: dict[str, list[Any]] = {  # noqa: RUF012
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions({"relu"})],
        "solver": [StrOptions({"adam", "sgd"})],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "power_t": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "momentum": [Interval(Real, 0, 1, closed="left")],
        "nesterovs_momentum": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "n_jobs": [
            Interval(Integral, 1, None, closed="left"),
            Interval(Integral, None, -1, closed="right"),
            None,
        ],
    }

    classes_: NDArray[Any]
    _params: Any  # a list of (W, b)

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: int = 10,
        n_jobs: int | None = None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.n_jobs = n_jobs

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPClassifier:
        """Train on samples `X` with labels `y`.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)
            Labels of any kind.
        sample_weight : array-like of shape (n_samples,), optional
            What each sample counts for; by default 1.

        Returns
        -------
        self
        """
        again = self.warm_start and hasattr(self, "_params")
        X, y = self._validated(X, y, reset=not again)
        check_classification_targets(y)
        encoder = LabelEncoder().fit(y)
        if again and set(encoder.classes_) != set(self.classes_):
            raise ValueError(
                "warm_start can only be used where `y` has the same classes as in the previous "
                f"call to fit. Previously got {self.classes_}, `y` has {encoder.classes_}"
            )
        self.classes_ = encoder.classes_
        random = check_random_state(self.random_state)
        if not again:
            self._begin(X, random)
        self._train(X, encoder.transform(y), sample_weight, random, self.max_iter)
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None
    ) -> MLPClassifier:
        """Train for one epoch, going on from the last call.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.
        classes : array-like of shape (n_classes,), optional
            All labels there will ever be; needed in the first call.

        Returns
        -------
        self
        """
        if self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        first = _check_partial_fit_first_call(self, classes)
        X, y = self._validated(X, y, reset=first)
        random = check_random_state(self.random_state)
        if first:
            self._begin(X, random)
        unknown = np.setdiff1d(y, self.classes_)
        if len(unknown):
            raise ValueError(f"`y` has classes not in `self.classes_`: {unknown}")
        self._train(X, np.searchsorted(self.classes_, y), sample_weight, random, 1, whole=False)
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        """The most probable label of each sample, shape (n_samples,)."""
        P = self.predict_proba(X)
        found: NDArray[Any] = self.classes_[P.argmax(axis=1)]
        return found

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Probabilities of the classes, in the order of `classes_`: (n_samples, n_classes)."""
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", dtype=[np.float64, np.float32], reset=False)
        backend = self._backend
        P: NDArray[Any] = backend.forward(self._params, _rows(X, backend), threads=self._threads())
        return P

    def predict_log_proba(self, X: Any) -> NDArray[Any]:
        """Logarithms of `predict_proba`."""
        with np.errstate(divide="ignore"):  # of a probability that is too small for its type
            logs: NDArray[Any] = np.log(self.predict_proba(X))
        return logs

    @property
    def coefs_(self) -> list[NDArray[Any]]:
        """Weights of each layer."""
        return [W for W, _ in self._fitted()]

    @property
    def intercepts_(self) -> list[NDArray[Any]]:
        """Biases of each layer."""
        return [b for _, b in self._fitted()]

    def _fitted(self) -> Any:
        if not hasattr(self, "_params"):
            raise AttributeError("not fitted yet")
        return self._params

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_params")

    def _validated(self, X: Any, y: Any, *, reset: bool) -> tuple[Any, NDArray[Any]]:
        X, y = validate_data(
            self, X, y, accept_sparse="csr", dtype=[np.float64, np.float32], reset=reset
        )
        return X, y

    def _begin(self, X: Any, random: np.random.RandomState) -> None:
        """New weights, drawn as scikit-learn draws them (Glorot and Bengio 2010, equation 16)."""
        hidden = np.atleast_1d(np.asarray(self.hidden_layer_sizes, dtype=int)).tolist()
        if any(units <= 0 for units in hidden):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {self.hidden_layer_sizes}.")
        sizes = (X.shape[1], *hidden, len(self.classes_))
        params = MLP(sizes).params
        values = []
        for W, b in params:
            bound = np.sqrt(6 / sum(W.shape))
            values.append(
                (random.uniform(-bound, bound, W.shape), random.uniform(-bound, bound, b.shape))
            )
        params.assign(values)
        small = X.shape[0] * X.shape[1] < _FEW
        self._backend_name = "reference" if small else "auto"
        self._params = values if small else params
        self._state = State.zeros(self._params)
        self._rate = self.learning_rate_init
        self.n_layers_, self.n_outputs_ = len(sizes), sizes[-1]
        self.out_activation_ = "softmax"
        self.t_ = 0
        self.loss_curve_: list[float] = []
        self._idle = 0
        self._begin_scores()

    def _begin_scores(self) -> None:
        self.best_loss_: float | None = None if self.early_stopping else np.inf
        self.validation_scores_: list[float] | None = [] if self.early_stopping else None
        self.best_validation_score_ = -np.inf if self.early_stopping else None

    def _train(
        self,
        X: Any,
        y: NDArray[np.int64],
        sample_weight: Any,
        random: np.random.RandomState,
        epochs: int,
        whole: bool = True,
    ) -> None:
        """Epochs until nothing improves, or so many; `whole`: a warning if they were too few."""
        weights = None
        if sample_weight is not None:
            weights = _check_sample_weight(sample_weight, X, ensure_non_negative=True)
            if not weights.any():  # which older releases of scikit-learn let pass
                raise ValueError("sample_weight is 0 everywhere; give at least one non-zero weight")
        held_out = None
        if self.early_stopping != (self.validation_scores_ is not None):  # it was changed
            self._begin_scores()
        if self.early_stopping:
            X, y, weights, held_out = self._split(X, y, weights, random)
        if whole:  # as scikit-learn does, also when the weights are those of the last call
            self._state, self._rate, self._idle = (
                State.zeros(self._params),
                self.learning_rate_init,
                0,
            )
        count = X.shape[0]
        batch = min(200 if self.batch_size == "auto" else int(self.batch_size), count)
        rows = _rows(X, self._backend)
        best = None
        for self.n_iter_ in range(1, epochs + 1):
            order = random.permutation(count) if self.shuffle else np.arange(count)
            loss = self._backend.train_epoch(
                self._params,
                rows,
                y,
                learning_rate=self._rates(-(-count // batch), batch),
                batch_size=batch,
                optimizer=self._optimizer(batch if weights is None else batch * weights.mean()),
                state=self._state,
                order=order,
                weights=weights,
                threads=self._threads(),
            )
            if not np.isfinite(loss) or not all(np.isfinite(W).all() for W in self.coefs_):
                raise ValueError(
                    "Solver produced non-finite parameter weights. The input data may contain "
                    "large values and need to be preprocessed."
                )
            self.t_ += count
            penalty = sum(float((W * W).sum(dtype=np.float64)) for W in self.coefs_)
            self.loss_ = loss + self.alpha / 2 * penalty / (
                batch if weights is None else batch * weights.mean()
            )
            self.loss_curve_.append(self.loss_)
            if self._improved(held_out):
                best = [(W.copy(), b.copy()) for W, b in self._params]
            if self.verbose:
                print(f"Iteration {self.n_iter_}, loss = {self.loss_:.8f}")
            if self._idle > self.n_iter_no_change and self._stops():
                break
        else:
            if whole:
                warnings.warn(
                    f"Maximum iterations ({self.max_iter}) reached and the optimization hasn't "
                    "converged yet.",
                    ConvergenceWarning,
                    stacklevel=3,
                )
        if held_out is not None and best is not None:
            for (W, b), (best_W, best_b) in zip(self._params, best, strict=True):
                W[...], b[...] = best_W, best_b

    def _split(self, X: Any, y: Any, weights: Any, random: Any) -> tuple[Any, Any, Any, Any]:
        arrays = (X, y) if weights is None else (X, y, weights)
        parts = train_test_split(
            *arrays, random_state=random, test_size=self.validation_fraction, stratify=y
        )
        X, held_X, y, held_y = parts[:4]
        if len(held_y) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of "
                "your dataset."
            )
        weights, held_weights = parts[4:] or (None, None)
        return X, y, weights, (_rows(held_X, self._backend), held_y, held_weights)

    def _improved(self, held_out: Any) -> bool:
        """Count epochs without improvement; whether this one is the best on held-out samples."""
        if held_out is None:
            best = float(self.best_loss_)  # type: ignore[arg-type]
            self._idle = self._idle + 1 if self.loss_ > best - self.tol else 0
            self.best_loss_ = min(best, self.loss_)
            return False
        rows, y, weights = held_out
        Z = self._backend.logits(self._params, rows, threads=self._threads())
        score = float(np.average(Z.argmax(axis=1) == y, weights=weights))
        best_score = float(self.best_validation_score_)  # type: ignore[arg-type]
        self.validation_scores_.append(score)  # type: ignore[union-attr]
        self._idle = self._idle + 1 if score < best_score + self.tol else 0
        self.best_validation_score_ = max(best_score, score)
        return score > best_score

    def _stops(self) -> bool:
        """Whether training ends when nothing improves; an adaptive rate falls first."""
        if self.solver == "sgd" and self.learning_rate == "adaptive" and self._rate > 1e-6:
            self._rate, self._idle = self._rate / 5, 0
            return False
        return True

    def _optimizer(self, counted: float) -> SGD | Adam:
        decay = self.alpha / counted
        if self.solver == "adam":
            return Adam(self.beta_1, self.beta_2, self.epsilon, weight_decay=decay)
        nesterov = self.nesterovs_momentum and self.momentum > 0
        return SGD(self.momentum, nesterov, weight_decay=decay)

    def _rates(self, steps: int, batch: int) -> NDArray[np.float64]:
        if self.solver == "sgd" and self.learning_rate == "invscaling":
            self._rate = self.learning_rate_init / (self.t_ + 1) ** self.power_t
        return np.full(steps, self._rate)

    @property
    def _backend(self) -> ModuleType:
        return backend_named(self._backend_name)

    def _threads(self) -> int | None:
        """Threads that are wanted; in a worker of joblib, one, for there are others beside it."""
        if self.n_jobs is not None and self.n_jobs != -1:
            return int(effective_n_jobs(self.n_jobs))
        return 1 if get_active_backend()[0].nesting_level or _in_task_of_dask() else None


def _in_task_of_dask() -> bool:
    """Whether a Dask worker runs this: joblib's backend for it says nothing of nesting."""
    if distributed := sys.modules.get("distributed"):
        with contextlib.suppress(ValueError):  # there is no worker
            return distributed.get_worker() is not None
    return False


def _rows(X: Any, backend: ModuleType) -> Any:
    """Samples in the form in which the backend reads them fastest, sparse ones as they are."""
    if not issparse(X):
        return backend.prepare(X) if len(X) else X
    if backend is reference:
        return X.toarray()
    if not X.has_canonical_format:
        X = X.copy()
        X.sum_duplicates()  # and sorts
    count = X.indptr[-1]  # behind it there may be room
    with np.errstate(over="ignore"):
        values = X.data[:count].astype(np.float32)
    finite(values[None], "X.data")
    return backend.from_csr(X.indptr, X.indices[:count], values, X.shape[1])

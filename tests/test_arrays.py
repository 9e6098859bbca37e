"""Arrays as people have them: any layout, type and container gives the same bits, or is told."""

import sys

import numpy as np
import pytest
from agreement import BACKENDS, EPS, check_epoch, float64, properties, random_case, random_params
from hypothesis import given
from hypothesis import strategies as st
from unchanged import unchanged, watched

import fastmnist as fm
from fastmnist import checks, reference
from fastmnist.backends import backend_named

RNG = np.random.default_rng(0)
Y = RNG.integers(0, 3, 40)
# quarters up to 4, which float16 holds, and of which most, or few, are 0
SPARSE = (RNG.integers(0, 17, (40, 24)) * (RNG.random((40, 24)) < 0.2) / 4).astype(np.float32)
DENSE = (RNG.integers(1, 17, (40, 24)) / 4).astype(np.float32)
BITS = np.minimum(SPARSE, 1).round()
PIXELS = (SPARSE * 60).astype(np.uint8)


def network_and_answers(X, y=Y):
    """All bits that come of training with these samples, and of asking about them."""
    model = fm.MLP([24, 9, 3], seed=1)
    history = fm.fit(model, fm.Dataset(X, y), epochs=2, batch_size=16, threads=1)
    return model.params.flat.tobytes(), model.predict_proba(X).tobytes(), history.loss


def unaligned(X):
    raw = np.zeros(X.nbytes + 1, np.uint8)
    raw[1:] = np.frombuffer(X.tobytes(), np.uint8)
    return raw[1:].view(X.dtype).reshape(X.shape)


def read_only(X):
    X = X.copy()
    X.flags.writeable = False
    return X


LAYOUTS = {
    "big-endian": lambda X: X.astype(X.dtype.newbyteorder(">")),
    "Fortran order": np.asfortranarray,
    "every second row and third column": lambda X: X.repeat(2, axis=0).repeat(3, axis=1)[::2, ::3],
    "backwards": lambda X: X[::-1, ::-1].copy()[::-1, ::-1],
    "unaligned": unaligned,
    "read-only": read_only,
    "images": lambda X: X.reshape(len(X), 4, 6),
}


@pytest.mark.fault(row=40)
@pytest.mark.fault(row=41)
@pytest.mark.fault(row=42)
@pytest.mark.fault(row=46)
@pytest.mark.parametrize("X", [PIXELS, SPARSE, DENSE], ids=["uint8", "sparse", "dense"])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_any_layout_trains_the_same_network(layout, X):
    given = layout(X)
    with unchanged(given):
        assert network_and_answers(given) == network_and_answers(X)


@pytest.mark.fault(row=36)
@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.longdouble])
@pytest.mark.parametrize("X", [SPARSE, DENSE], ids=["sparse", "dense"])
def test_any_float_trains_as_float32(X, dtype):
    assert network_and_answers(X.astype(dtype)) == network_and_answers(X)


@pytest.mark.fault(row=36)
@pytest.mark.parametrize("dtype", [bool, np.int64, np.uint64, np.int8, np.float64])
def test_any_whole_number_trains_as_float32(dtype):
    assert network_and_answers(BITS.astype(dtype)) == network_and_answers(BITS)


@pytest.mark.fault(row=36)
def test_the_casts_bits_are_those_of_numpy():
    X = RNG.normal(size=(40, 24))
    assert network_and_answers(X) == network_and_answers(X.astype(np.float32))


@pytest.mark.kernels
@pytest.mark.fault(row=41)
@given(
    rows=st.sampled_from([slice(None), slice(None, None, -1), slice(1, None, 3), slice(0, 0)]),
    columns=st.sampled_from([slice(None, None, 2), slice(None, None, -2), slice(3, 9)]),
    order=st.sampled_from("CF"),
    dtype=st.sampled_from(["u1", "<f4", ">f4", ">f8", "<f2"]),
    broadcast=st.booleans(),
)
def test_any_strides_are_the_same_rows(rows, columns, order, dtype, broadcast):
    X = (np.arange(240).reshape(12, 20) % 7).astype(dtype).copy(order)[rows, columns]
    if broadcast:
        X = np.broadcast_to(X[:1], (5 if len(X) else 0, X.shape[1]))
    with unchanged(X):
        found = checks.features(X)
    assert found.dtype == (np.uint8 if dtype == "u1" else np.float32)
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, X)
    params = fm.MLP([X.shape[1], 5, 3], seed=0).params
    np.testing.assert_array_equal(
        fm.kernels.logits(params, X), fm.kernels.logits(params, np.array(X, order="C"))
    )


def signatures():
    """How many kernels are compiled, each type of its arguments counted."""
    return sum(
        len(getattr(function, "overloads", ()))
        for name, module in list(sys.modules.items())
        if name.startswith("fastmnist.kernels")
        for function in list(vars(module).values())
    )


@pytest.mark.kernels
@pytest.mark.fault(row=42)
def test_read_only_arrays_and_files_in_memory_compile_nothing_new(tmp_path):
    def use(X, y, order, weights):
        network_and_answers(X, y)
        params = fm.MLP([24, 9, 3]).params
        fm.kernels.train_epoch(params, X, y, order=order, weights=weights)
        fm.kernels.loss_and_gradients(params, X, y, samples=order, weights=weights)

    rest = Y, np.arange(40)[::-1].copy(), np.ones(40, np.float32)
    for X in (PIXELS, SPARSE, DENSE):
        use(X.copy(), *rest)
    compiled = signatures()
    for X in (PIXELS, SPARSE, DENSE):
        use(read_only(X), *map(read_only, rest))
        X.tofile(tmp_path / "X")
        for mode in ("r", "r+", "c"):
            mapped = np.memmap(tmp_path / "X", X.dtype, mode, shape=X.shape)
            with unchanged(mapped):
                use(mapped, *rest)
    assert signatures() == compiled


@pytest.mark.fault(row=44)
def test_lists_are_taken():
    assert network_and_answers(SPARSE.tolist(), Y.tolist()) == network_and_answers(SPARSE)
    assert network_and_answers(tuple(map(tuple, SPARSE)), tuple(Y)) == network_and_answers(SPARSE)


@pytest.mark.fault(row=44)
def test_frames_of_pandas_are_taken():
    pandas = pytest.importorskip("pandas")
    for X in (SPARSE, PIXELS):
        frame, series = pandas.DataFrame(X), pandas.Series(Y, index=range(100, 140))
        assert network_and_answers(frame, series) == network_and_answers(X)


@pytest.mark.fault(row=44)
def test_tensors_of_pytorch_are_taken():
    torch = pytest.importorskip("torch")
    for X in (SPARSE, PIXELS):
        assert network_and_answers(torch.tensor(X), torch.tensor(Y)) == network_and_answers(X)


@pytest.mark.fault(row=44)
def test_what_pytorch_does_not_give_away_is_a_type_error():
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match=r"X is no array: .*detach"):
        fm.MLP([24, 3]).predict(torch.tensor(SPARSE, requires_grad=True))


@pytest.mark.kernels
@pytest.mark.fault(row=49)
@properties(60)
@given(
    seed=st.integers(0, 2**32),
    count=st.integers(1, 40),
    batch_size=st.integers(1, 60),
    classes=st.integers(1, 5),
    density=st.sampled_from([0.2, 0.9]),
)
def test_any_number_of_samples_in_any_batches_agrees(seed, count, batch_size, classes, density):
    # without hidden layers, so that no gate of a ReLU can differ between the precisions
    case = random_case(seed, (30, classes), count, density, np.float32)
    rates = np.full(-(-len(case.X) // batch_size), 0.1)
    check_epoch(fm.kernels, case, rates, batch_size)


@pytest.mark.fault(row=49)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("count", "classes", "batch_size"), [(1, 3, 1), (1, 1, 64), (7, 1, 3)])
def test_a_sample_or_a_class_is_enough(backend, count, classes, batch_size):
    model = fm.MLP([24, 9, classes], seed=0)
    data = fm.Dataset(PIXELS[:count], np.minimum(Y[:count], classes - 1))
    history = fm.fit(model, data, batch_size=batch_size, backend=backend)
    assert np.isfinite(history.loss).all()
    assert (model.predict(PIXELS) < classes).all()
    assert classes > 1 or history.loss == [0] * 5


EVERYTHING = {
    "optimizer": "adamw",
    "label_smoothing": 0.1,
    "dropout": 0.2,
    "input_dropout": 0.1,
    "validation": 10,
    "patience": 3,
}


@pytest.mark.fault(row=50)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", ["images", "augmented", "features", "dense"])
def test_no_option_changes_the_callers_arrays(backend, kind):
    X = {"features": SPARSE, "dense": DENSE}.get(kind, PIXELS.reshape(-1, 4, 6)).copy()
    y = Y.copy()
    augmentation = fm.Augmentation(shift=1, rotation=9) if kind == "augmented" else None
    model = fm.MLP([24, 9, 3])
    with unchanged(X, y):
        data = fm.Dataset(X, y)
        fm.fit(model, data, backend=backend, augmentation=augmentation, **EVERYTHING)
        fm.fit(model, data, backend=backend, averaging=0.5, validation=data)
        fm.evaluate(model, data)
        model.predict(X)
        model.predict(X[:3])
        model.predict_proba(X)
        backend_named(backend).prepare(X)
        fm.plots.predictions(fm.Dataset(PIXELS.reshape(-1, 4, 6), y), model.predict_proba(X))


@pytest.mark.fault(row=50)
def test_scikit_learns_callers_keep_their_arrays():
    sparse = pytest.importorskip("scipy.sparse")
    sklearn = pytest.importorskip("fastmnist.sklearn")
    rows = np.tile(SPARSE, (80, 1))  # enough for the kernels
    for X, y in ((SPARSE.copy(), Y.copy()), (rows, np.tile(Y, 80))):
        matrix, weights = sparse.csr_array(X), np.ones(len(y))
        with unchanged(X, y, weights, matrix.data, matrix.indices, matrix.indptr):
            for samples in (X, matrix):
                model = sklearn.MLPClassifier(early_stopping=True, max_iter=400)
                model.fit(samples, y, sample_weight=weights).predict_proba(samples)


@pytest.mark.fault(row=50)
def test_a_changed_argument_is_seen():
    X = SPARSE.copy()
    with pytest.raises(AssertionError, match="an argument was changed"):
        watched(lambda params, X: X.fill(0))(None, X)
    with pytest.raises(AssertionError, match="an argument was changed"), unchanged(X):
        X.flags.writeable = False


# Numbers at the edges.

SMALLEST = float(np.finfo(np.float32).smallest_subnormal)
EXTREMES = [0.0, -0.0, 1.0, -1.0, SMALLEST, -SMALLEST, 1e-40, 1e-38, 1e30, -1e30, 1e15]


@st.composite
def extreme_rows(draw, most=6):
    values = st.lists(st.sampled_from(EXTREMES), min_size=6, max_size=6)
    rows = draw(st.lists(values, min_size=1, max_size=most))
    return np.array(rows, np.float32)


@pytest.mark.kernels
@pytest.mark.fault(row=51)
@properties(100)
@given(extreme_rows(), st.integers(0, 100))
def test_extreme_features_agree(X, seed):
    params = random_params(np.random.default_rng(seed), (6, 5, 3))
    exact = float64(params)
    terms = np.abs(X.astype(np.float64))
    for W, b in exact:  # sums of magnitudes: rounding is a part of these
        terms = terms @ np.abs(W) + np.abs(b)
    Z, want = fm.kernels.logits(params, X), reference.logits(exact, X)
    assert (np.abs(Z - want) <= 32 * EPS * terms).all()


@pytest.mark.fault(row=51)
@pytest.mark.parametrize("backend", BACKENDS)
@properties(60)
@given(extreme_rows(), st.sampled_from(["sgd", "adam"]), st.sampled_from([1e-3, 0.1, 10]))
def test_extreme_features_train_a_finite_network_or_diverge(backend, X, optimizer, rate):
    data = fm.Dataset(X, np.arange(len(X)) % 3)
    model = fm.MLP([6, 5, 3], seed=0)
    ends = [model.params.flat.copy()]
    try:
        history = fm.fit(
            model,
            data,
            optimizer=optimizer,
            learning_rate=rate,
            batch_size=2,
            backend=backend,
            callbacks=[lambda model, epoch: ends.append(model.params.flat.copy())],
        )
    except fm.DivergedError:
        np.testing.assert_array_equal(model.params.flat, ends[-1])
    else:
        assert np.isfinite(history.loss).all()
    assert np.isfinite(model.params.flat).all()


@pytest.mark.fault(row=51)
@pytest.mark.parametrize("value", [1e38, -1e38, 2e30])
def test_larger_features_are_told(value):
    X = SPARSE.copy()
    X[3, 5] = value
    model = fm.MLP([24, 9, 3], seed=0)
    before = model.params.flat.copy()
    for ask in (model.predict, model.predict_proba, lambda X: fm.fit(model, fm.Dataset(X, Y))):
        with pytest.raises(ValueError, match=r"1e\+30 at most: found .* at row 3, column 5; scale"):
            ask(X)
    np.testing.assert_array_equal(model.params.flat, before)


@pytest.mark.fault(row=51)
@pytest.mark.parametrize("count", [3, 100])
def test_outputs_that_overflow_are_told(count):
    model = fm.MLP([24, 9, 3], seed=0)
    model.params[1] = (np.full((9, 3), 1e20), np.zeros(3))
    X = np.full((count, 24), 1e29, np.float32)
    for ask in (model.predict, model.predict_proba):
        with pytest.raises(ValueError, match="outputs are not finite; scale X to about 1"):
            ask(X)


@pytest.mark.kernels
@pytest.mark.fault(row=51)
def test_a_sum_that_is_not_a_number_is_never_a_silent_zero():
    params = fm.MLP([4, 1, 2], seed=0).params
    params[0] = (np.array([[1e9], [1e9], [-1e9], [-1e9]]), np.zeros(1))
    params[1] = (np.ones((1, 2)), np.zeros(2))
    X = np.full((200, 4), 1e30, np.float32)  # inf - inf in the hidden unit
    with np.errstate(over="ignore", invalid="ignore"):
        for backend in (fm.kernels, reference):
            assert not np.isfinite(backend.logits(params, X)).any()
            assert not np.isfinite(backend.loss_and_gradients(params, X, np.zeros(200, int))[0])

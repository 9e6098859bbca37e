"""What comes in at the door, and what does not."""

import math
import re
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

import fastmnist as fm
from fastmnist import checks


def layouts(X):
    """The same numbers, laid out in memory in other ways."""
    wide = np.zeros((X.shape[0] * 2, X.shape[1] * 3), X.dtype)
    wide[::2, ::3] = X
    raw = bytearray(1) + bytearray(X.tobytes())
    return {
        "Fortran": np.asfortranarray(X),
        "strided": wide[::2, ::3],
        "reversed": X[::-1, ::-1].copy()[::-1, ::-1],
        "unaligned": np.frombuffer(raw, X.dtype, X.size, 1).reshape(X.shape),
        "big-endian": X.astype(X.dtype.newbyteorder(">")),
        "list": X.tolist() if X.dtype != np.uint8 else X,
        "image": X.reshape(len(X), 2, -1),
    }


@pytest.mark.fault(row=40)
@pytest.mark.fault(row=41)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_any_layout_gives_the_same_rows(dtype):
    X = np.random.default_rng(0).integers(0, 256, (7, 6)).astype(dtype)
    for name, same in layouts(X).items():
        rows = checks.features(same)
        np.testing.assert_array_equal(rows, X, name)
        assert rows.dtype == dtype, name
        assert rows.flags.c_contiguous, name


@pytest.mark.fault(row=36)
@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int64, np.int8, np.bool_])
def test_other_numbers_become_float32(dtype):
    X = np.array([[0, 1], [1, 1]], dtype)
    rows = checks.features(X)
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, [[0, 1], [1, 1]])


@pytest.mark.fault(row=39)
@pytest.mark.parametrize(
    "X",
    [
        np.array([["a"]]),
        np.array([[None]]),
        np.array([["2020-01-01"]], "M8[D]"),
        np.ones((1, 1), complex),
        np.array([[1]], "m8[s]"),
        np.array([[(1, 2.0)]], "i4,f4"),
        [[b"1", b"2"]],
        None,
    ],
    ids=["text", "object", "date", "complex", "duration", "record", "bytes", "None"],
)
def test_what_is_no_array_of_real_numbers_is_a_type_error(X):
    with pytest.raises(TypeError, match="X "):
        checks.features(X)


@pytest.mark.fault(row=43)
@pytest.mark.parametrize("mask", [[[True]], [[False]]], ids=["used", "unused"])
def test_gaps_are_refused_not_filled_in_silence(mask):
    with pytest.raises(TypeError, match=r"X is a masked array; fill its gaps first: X.filled"):
        checks.features(np.ma.masked_array([[1.0]], mask))
    with pytest.raises(TypeError, match=r"y is a masked array"):
        checks.labels(np.ma.masked_array([1], mask[0]), 1, 2)
    with pytest.raises(TypeError, match=r"labels is a masked array"):
        fm.Dataset(np.ones((1, 4)), np.ma.masked_array([1], mask[0]))


@pytest.mark.fault(row=44)
def test_sparse_rows_are_a_type_error_that_says_what_takes_them():
    sparse = pytest.importorskip("scipy.sparse")
    for kind in (sparse.csr_array, sparse.csc_matrix, sparse.coo_array):
        with pytest.raises(TypeError, match=r"X is sparse; pass X.toarray\(\)"):
            checks.features(kind(np.eye(3)))
        with pytest.raises(TypeError, match="images is sparse"):
            fm.Dataset(kind(np.eye(3)))


@pytest.mark.fault(row=44)
def test_lists_of_different_lengths_are_told_as_such():
    with pytest.raises(ValueError, match=r"X is no array: .* inhomogeneous"):
        checks.features([[1, 2], [3]])
    with pytest.raises(ValueError, match="y is no array"):
        checks.labels([1, [2]], 2, 3)


@pytest.mark.fault(row=46)
@given(array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5), st.integers(1, 30))
def test_any_shape_fits_or_is_told(shape, inputs):
    X = np.zeros(shape)
    if len(shape) > 1 and math.prod(shape[1:]) == inputs:
        assert checks.features(X, inputs).shape == (shape[0], inputs)
    else:
        wanted = f"{inputs} inputs" if len(shape) > 1 else re.escape(f"got {shape}")
        with pytest.raises(ValueError, match=wanted):
            checks.features(X, inputs)


@pytest.mark.fault(row=46)
@pytest.mark.parametrize("X", [np.float32(1), np.ones(5), []], ids=["0-d", "1-d", "empty list"])
def test_rows_are_wanted(X):
    with pytest.raises(ValueError, match=r"\(n, features\)"):
        checks.features(X)


@pytest.mark.fault(row=46)
def test_another_width_names_both():
    with pytest.raises(ValueError, match="400 features a row, the network has 784 inputs"):
        checks.features(np.zeros((2, 20, 20), np.uint8), 784)


@pytest.mark.fault(row=37)
@given(
    st.integers(0, 8), st.integers(0, 4), st.sampled_from([np.nan, np.inf, -np.inf, 1e39, -1e300])
)
def test_the_first_number_that_is_not_finite_is_named(row, column, value):
    X = np.ones((9, 5))
    X[row, column] = value
    X[8, 4] = value
    with pytest.raises(ValueError, match=f"at row {row}, column {column}; scale it"):
        checks.features(X)


@pytest.fixture
def pixel_warning():
    """The warning has not been given yet in this process."""
    checks._warn_of_pixels.cache_clear()
    yield
    checks._warn_of_pixels.cache_clear()


PIXELS = np.random.default_rng(0).integers(0, 256, (30, 16))
LABELS = np.arange(30) % 3
ASK = {
    "fit": lambda X: fm.fit(fm.MLP([16, 3]), fm.Dataset(X, LABELS), learning_rate=1e-6),
    "predict": lambda X: fm.MLP([16, 3]).predict(X),
    "predict_proba": lambda X: fm.MLP([16, 3]).predict_proba(X),
    "evaluate": lambda X: fm.evaluate(fm.MLP([16, 3]), fm.Dataset(X, LABELS)),
}


@pytest.mark.fault(row=38)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint16])
@pytest.mark.parametrize("ask", ASK.values(), ids=ASK)
def test_pixels_as_floats_are_taken_as_they_are_with_one_warning(ask, dtype, pixel_warning):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            ask(PIXELS.astype(dtype))
    assert len(caught) == 1
    assert "divide them by 255, or pass uint8" in str(caught[0].message)
    np.testing.assert_array_equal(checks.images(PIXELS.astype(dtype), 16), PIXELS)


@pytest.mark.fault(row=38)
@pytest.mark.parametrize(
    "X",
    {
        "pixels": PIXELS.astype(np.uint8),
        "scaled": PIXELS / 255,
        "centred": PIXELS - 128,
        "standardised": (PIXELS - PIXELS.mean()) / PIXELS.std(),
        "counts": PIXELS // 16,
        "bits": PIXELS > 127,
        "larger": PIXELS * 2,
        "fractions": PIXELS * 0.7,
        "none": PIXELS[:0] * 1.0,
    }.items(),
    ids=lambda item: item[0],
)
@pytest.mark.parametrize("ask", ["predict", "predict_proba"])
def test_other_features_are_taken_without_a_word(ask, X, pixel_warning):
    ASK[ask](X[1])


@pytest.mark.fault(row=48)
def test_labels_become_whole_numbers():
    for y in ([0, 1, 2], np.array([0, 1, 2], np.uint8), [0.0, 1.0, 2.0], (False, True, 2)):
        found = checks.labels(y, 3, 3)
        assert found.dtype == np.int64
        np.testing.assert_array_equal(found, [0, 1, 2])


@pytest.mark.fault(row=47)
@pytest.mark.fault(row=48)
@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        ([0, 3, -1], ValueError, "label 3 at index 1: wanted 0 to 2"),
        ([0, -1, 0], ValueError, "label -1 at index 1"),
        ([0, 1.5, 0], ValueError, r"label 1\.5 at index 1"),
        ([0, 1, np.nan], ValueError, "label nan at index 2"),
        ([0, 1], ValueError, "3 rows of X but 2 labels"),
        (np.eye(3), ValueError, "one-hot"),
        (["0", "1", "2"], TypeError, "class numbers"),
        ([[0], [1], [2]], ValueError, "shape"),
        (1, ValueError, "shape"),
        (np.array([0, 1, 2j]), TypeError, "class numbers"),
        ([0, np.inf, 0], ValueError, "label inf at index 1"),
        ([0, 2**64, 0], TypeError, "class numbers"),
        (np.array([0, 2**63, 0], np.uint64), ValueError, "label 9223372036854775808 at index 1"),
    ],
)
def test_labels_that_are_no_classes_are_refused(y, error, message):
    with pytest.raises(error, match=message):
        checks.labels(y, 3, 3)


@pytest.mark.fault(row=52)
def test_whole_numbers():
    assert checks.whole("n", np.int8(3), 1) == 3
    assert type(checks.whole("n", np.int8(3), 1)) is int
    for value in (1.0, "1", None, True, np.bool_(True)):
        with pytest.raises(TypeError, match="n must be a whole number"):
            checks.whole("n", value, 0)
    for value in (0, 2**40):
        with pytest.raises(ValueError, match="n must be from 1 to"):
            checks.whole("n", value, 1)


@pytest.mark.fault(row=53)
def test_positive_numbers():
    assert checks.positive("rate", np.float32(0.5)) == 0.5
    for value in ("1", None, True, 1j):
        with pytest.raises(TypeError, match="rate must be a number"):
            checks.positive("rate", value)
    for value in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="rate must be finite"):
            checks.positive("rate", value)


@pytest.mark.fault(row=56)
def test_unknown_names_get_the_nearest_as_a_hint():
    assert checks.nearest("fruit", "apple", ["apple", "pear"]) == "apple"
    with pytest.raises(ValueError, match="unknown fruit 'aple'; did you mean 'apple'"):
        checks.nearest("fruit", "aple", ["apple", "pear"])
    with pytest.raises(ValueError, match="known: apple, pear"):
        checks.nearest("fruit", 7, ["apple", "pear"])

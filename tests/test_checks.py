"""What comes in at the door, and what does not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmnist import checks, kernels
from fastmnist.parameters import Parameters


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


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_any_layout_gives_the_same_rows(dtype):
    X = np.random.default_rng(0).integers(0, 256, (7, 6)).astype(dtype)
    for name, same in layouts(X).items():
        rows = checks.features(same)
        np.testing.assert_array_equal(rows, X, name)
        assert rows.dtype == dtype, name
        assert rows.flags.c_contiguous, name


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int64, np.int8, np.bool_])
def test_other_numbers_become_float32(dtype):
    X = np.array([[0, 1], [1, 1]], dtype)
    rows = checks.features(X)
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, [[0, 1], [1, 1]])


@pytest.mark.compiled
def test_read_only_rows_compile_nothing_new():
    params, y = Parameters((6, 2)), np.zeros(3, int)
    X = np.ones((3, 6), np.uint8)
    wanted = kernels.loss_and_gradients(params, X, y)[0]
    compiled = len(kernels.epoch.train.overloads)
    X.flags.writeable = False
    assert kernels.loss_and_gradients(params, X, y)[0] == wanted
    assert len(kernels.epoch.train.overloads) == compiled


@pytest.mark.parametrize(
    "X",
    [
        np.array([["a"]]),
        np.array([[None]]),
        np.array([["2020-01-01"]], "M8[D]"),
        np.ones((1, 1), complex),
        np.ma.masked_array([[1.0]], [[True]]),
    ],
    ids=["text", "object", "date", "complex", "masked"],
)
def test_what_is_no_array_of_real_numbers_is_a_type_error(X):
    with pytest.raises(TypeError, match="X "):
        checks.features(X)


@pytest.mark.parametrize("X", [np.float32(1), np.ones(5), []], ids=["0-d", "1-d", "empty list"])
def test_rows_are_wanted(X):
    with pytest.raises(ValueError, match=r"\(n, features\)"):
        checks.features(X)


def test_another_width_names_both():
    with pytest.raises(ValueError, match="400 features a row, the network has 784 inputs"):
        checks.features(np.zeros((2, 20, 20), np.uint8), 784)


@given(
    st.integers(0, 8), st.integers(0, 4), st.sampled_from([np.nan, np.inf, -np.inf, 1e39, -1e300])
)
def test_the_first_number_that_is_not_finite_is_named(row, column, value):
    X = np.ones((9, 5))
    X[row, column] = value
    X[8, 4] = value
    with pytest.raises(ValueError, match=f"at row {row}, column {column}"):
        checks.features(X)


def test_labels_become_whole_numbers():
    for y in ([0, 1, 2], np.array([0, 1, 2], np.uint8), [0.0, 1.0, 2.0], (False, True, 2)):
        found = checks.labels(y, 3, 3)
        assert found.dtype == np.int64
        np.testing.assert_array_equal(found, [0, 1, 2])


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
    ],
)
def test_labels_that_are_no_classes_are_refused(y, error, message):
    with pytest.raises(error, match=message):
        checks.labels(y, 3, 3)


def test_whole_numbers():
    assert checks.whole("n", np.int8(3), 1) == 3
    assert type(checks.whole("n", np.int8(3), 1)) is int
    for value in (1.0, "1", None, True, np.bool_(True)):
        with pytest.raises(TypeError, match="n must be a whole number"):
            checks.whole("n", value, 0)
    for value in (0, 2**40):
        with pytest.raises(ValueError, match="n must be from 1 to"):
            checks.whole("n", value, 1)


def test_positive_numbers():
    assert checks.positive("rate", np.float32(0.5)) == 0.5
    for value in ("1", None, True, 1j):
        with pytest.raises(TypeError, match="rate must be a number"):
            checks.positive("rate", value)
    for value in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="rate must be finite"):
            checks.positive("rate", value)


def test_unknown_names_get_the_nearest_as_a_hint():
    assert checks.nearest("fruit", "apple", ["apple", "pear"]) == "apple"
    with pytest.raises(ValueError, match="unknown fruit 'aple'; did you mean 'apple'"):
        checks.nearest("fruit", "aple", ["apple", "pear"])
    with pytest.raises(ValueError, match="known: apple, pear"):
        checks.nearest("fruit", 7, ["apple", "pear"])

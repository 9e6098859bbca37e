"""Arguments checked and converted at the door, so that nothing behind it has to."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def features(X: ArrayLike, inputs: int | None = None) -> NDArray[Any]:
    """Images or features as C-ordered rows, uint8 or float32.

    Parameters
    ----------
    X : array_like
        Shape (n, features) or (n, height, width). uint8 stays what it is (pixels, scaled by 1/255
        where they are used); other real numbers become float32 and are taken as they are.
    inputs : int, optional
        The number of features that is wanted.

    Returns
    -------
    ndarray of shape (n, features), uint8 or float32

    Raises
    ------
    TypeError
        If `X` is masked or does not hold real numbers.
    ValueError
        If its shape does not fit, or a number is NaN, infinite or too large for float32.
    """
    if isinstance(X, np.ma.MaskedArray):
        raise TypeError("X is a masked array; fill its gaps first: X.filled(0)")
    array = np.asarray(X)
    if array.dtype.kind not in "buif":
        raise TypeError(f"X must hold real numbers, got dtype {array.dtype}")
    if array.ndim < 2:
        raise ValueError(f"X must be rows of shape (n, features) or images, got {array.shape}")
    rows = array.reshape(len(array), math.prod(array.shape[1:]))
    if inputs is not None and rows.shape[1] != inputs:
        raise ValueError(f"X has {rows.shape[1]} features a row, the network has {inputs} inputs")
    if rows.dtype == np.uint8:
        return np.ascontiguousarray(rows)
    with np.errstate(over="ignore"):
        rows = np.ascontiguousarray(rows, np.float32)
    finite(rows, "X")
    return rows


def finite(rows: NDArray[Any], name: str) -> None:
    """Raise ValueError with the first place of a NaN or an infinity in a 2-D array."""
    if np.isfinite(rows.sum(dtype=np.float64)):  # one fast pass; any NaN or infinity survives it
        return
    row, column = np.argwhere(~np.isfinite(rows))[0]
    raise ValueError(
        f"{name} must be finite in float32: found {rows[row, column]} at row {row}, column {column}"
    )


def labels(y: ArrayLike, count: int, classes: int) -> NDArray[np.int64]:
    """Class numbers as int64 of shape (count,), each in [0, classes).

    Raises
    ------
    TypeError
        If `y` does not hold numbers.
    ValueError
        If the shape, the count or a value does not fit; the first wrong value is named.
    """
    array = np.asarray(y)
    if array.dtype.kind not in "buif":
        raise TypeError(f"labels must be class numbers, got dtype {array.dtype}")
    if array.ndim != 1:
        raise ValueError(f"labels must have shape (n,), got {array.shape}; one-hot? use argmax")
    if len(array) != count:
        raise ValueError(f"{count} rows of X but {len(array)} labels")
    bad = ~((array >= 0) & (array < classes) & (array == np.floor(array)))
    if bad.any():
        first = int(np.argmax(bad))
        raise ValueError(f"label {array[first]} at index {first}: wanted 0 to {classes - 1}")
    return array.astype(np.int64)


def weights(values: ArrayLike, samples: int) -> NDArray[np.float32]:
    """What each sample counts for, float32 of shape (samples,).

    Raises
    ------
    ValueError
        If there are more or fewer, or one is negative, NaN or infinite, or all are 0.
    """
    array = np.ascontiguousarray(values, np.float32)
    if array.shape != (samples,):
        raise ValueError(f"weights must have shape ({samples},), got {array.shape}")
    if not (np.isfinite(array).all() and (array >= 0).all() and array.any()):
        raise ValueError("weights must be finite, at least 0, and not all 0")
    return array


def whole(name: str, value: Any, low: int, high: int = 2**31 - 1) -> int:
    """`value` as an int within [low, high]; TypeError or ValueError naming the argument."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    if not low <= value <= high:
        raise ValueError(f"{name} must be from {low} to {high}, got {value}")
    return int(value)


def positive(name: str, value: Any) -> float:
    """`value` as a float that is finite and greater than 0."""
    number = _number(name, value)
    if not 0 < number < math.inf:
        raise ValueError(f"{name} must be finite and greater than 0, got {value}")
    return number


def at_least_zero(name: str, value: Any) -> float:
    """`value` as a float that is finite and not negative."""
    number = _number(name, value)
    if not 0 <= number < math.inf:
        raise ValueError(f"{name} must be finite and at least 0, got {value}")
    return number


def share(name: str, value: Any) -> float:
    """`value` as a float in [0, 1)."""
    number = _number(name, value)
    if not 0 <= number < 1:
        raise ValueError(f"{name} must be in [0, 1), got {value}")
    return number


def _number(name: str, value: Any) -> float:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.number)):
        raise TypeError(f"{name} must be a number, got {value!r}")
    return float(value)


def nearest(kind: str, name: Any, known: Iterable[str]) -> str:
    """`name` if it is known; else ValueError with the nearest known name."""
    names = list(known)
    if name in names:
        return str(name)
    close = difflib.get_close_matches(str(name), names, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise ValueError(f"unknown {kind} {name!r}; {hint}known: {', '.join(names)}")

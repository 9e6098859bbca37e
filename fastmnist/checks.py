"""Arguments checked and converted at the door, so that nothing behind it has to."""

from __future__ import annotations

import contextlib
import difflib
import functools
import math
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

LARGEST = 2.0**100  # features in float32; weights would have to be 2**28 for a sum to overflow


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
        If `X` is masked, sparse or does not hold real numbers.
    ValueError
        If its shape does not fit, or a number is NaN, infinite or larger than `LARGEST`.
    """
    array = as_array("X", X)
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


def images(X: ArrayLike, inputs: int) -> NDArray[Any]:
    """As `features`, with one warning a process if floats are probably meant as pixels.

    They are if the first 100 rows hold whole numbers from 0 to 255 only, the largest above 127:
    neither features about 0 nor small counts. As pixels they would have to be uint8.
    """
    rows = features(X, inputs)
    first = rows[:100]
    if rows.dtype != np.uint8 and first.size:
        low, high = first.min(), first.max()
        if low >= 0 and 127 < high <= 255 and (first == np.floor(first)).all():
            _warn_of_pixels()
    return rows


@functools.cache  # one is enough, however often a network is asked
def _warn_of_pixels() -> None:
    warnings.warn(
        "X looks like pixels from 0 to 255 that are not uint8: such numbers are taken as they are; "
        "divide them by 255, or pass uint8",
        stacklevel=2,
    )


def as_array(name: str, values: ArrayLike) -> NDArray[Any]:
    """`values` as an array, whatever holds them.

    Raises
    ------
    TypeError
        If they are masked, sparse, or do not give their numbers away.
    ValueError
        If they are lists of different lengths.
    """
    if isinstance(values, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array; fill its gaps first: {name}.filled(0)")
    if hasattr(values, "toarray"):
        raise TypeError(f"{name} is sparse; pass {name}.toarray() (fastmnist.sklearn takes it)")
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} is no array: {error}") from error
    except RuntimeError as error:  # a tensor of PyTorch in the midst of a computation
        raise TypeError(f"{name} is no array: {error}") from error


@contextlib.contextmanager
def naming(source: str) -> Iterator[None]:
    """Begin the message of a TypeError or ValueError with where the data come from."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise type(error)(f"{source}: {error}") from error


def finite(rows: NDArray[Any], name: str) -> None:
    """Raise ValueError with the first place of a NaN, or of a number too large, in a 2-D array.

    Too large is above `LARGEST`: sums of such numbers may overflow, and what comes of it depends
    on their order.
    """
    # two fast passes; NaN survives both, and is not within the bounds
    if not rows.size or (rows.min() >= -LARGEST and rows.max() <= LARGEST):
        return
    row, column = np.argwhere(~(np.abs(rows) <= LARGEST))[0]
    raise ValueError(
        f"{name} must be finite in float32, and of {LARGEST:.0e} at most: found "
        f"{rows[row, column]} at row {row}, column {column}; scale it to about 1"
    )


def labels(y: ArrayLike, count: int, classes: int) -> NDArray[np.int64]:
    """Class numbers as int64 of shape (count,), each in [0, classes).

    Raises
    ------
    TypeError
        If `y` is masked or does not hold numbers.
    ValueError
        If the shape, the count or a value does not fit; the first wrong value is named.
    """
    array = as_array("y", y)
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
    array = writable(as_array("weights", values), np.float32)
    if array.shape != (samples,):
        raise ValueError(f"weights must have shape ({samples},), got {array.shape}")
    if not (np.isfinite(array).all() and (array >= 0).all() and array.any()):
        raise ValueError("weights must be finite, at least 0, and not all 0")
    return array


def writable(values: ArrayLike, dtype: type[np.generic]) -> NDArray[Any]:
    """`values` in C order and writable, for kernels compile for that alone; else a copy."""
    return np.require(values, dtype, ["C", "W"])


def whole(name: str, value: Any, low: int, high: int = 2**31 - 1) -> int:
    """`value` as an int within [low, high]; TypeError or ValueError naming the argument."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be a whole number from {low} to {high}, got {value!r}")
    if not low <= value <= high:
        raise ValueError(f"{name} must be from {low} to {high}, got {value}")
    return int(value)


def positive(name: str, value: Any) -> float:
    """`value` as a float that is finite and greater than 0."""
    given = number(name, value)
    if not 0 < given < math.inf:
        raise ValueError(f"{name} must be finite and greater than 0, got {value}")
    return given


def at_least_zero(name: str, value: Any) -> float:
    """`value` as a float that is finite and not negative."""
    given = number(name, value)
    if not 0 <= given < math.inf:
        raise ValueError(f"{name} must be finite and at least 0, got {value}")
    return given


def share(name: str, value: Any) -> float:
    """`value` as a float in [0, 1)."""
    given = number(name, value)
    if not 0 <= given < 1:
        raise ValueError(f"{name} must be in [0, 1), got {value}")
    return given


def number(name: str, value: Any) -> float:
    """`value` as a float; TypeError if it is no number."""
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

"""What the kernels' own instructions do, in NumPy: a specification, and what runs uncompiled.

Where compilation is off (NUMBA_DISABLE_JIT=1), `jit.intrinsic` puts the function of the same name
from here in the place of each instruction. A vector is an array of float32 then. All bits are those
of compiled code but in three cases: a multiply-add is rounded to float64 first, which now and then
tips the rounding to float32; `exponential` is closer to the truth; and denormal numbers stay.

What compiled code does out of an array's bounds fails here, as a rule: slices become too short.
"""

from __future__ import annotations

import threading
import time

import numpy as np

from fastmnist import counter_based
from fastmnist.kernels.target import FMA, LINE
from fastmnist.parameters import LANES

# Vectors.


def zeros(lanes):
    return np.zeros(lanes, np.float32)


def zero_rows(rows, lanes):
    return np.zeros((rows, lanes), np.float32)


def row_count(block):
    return len(block)


def load(like, array, offset):
    return array[offset : offset + len(like)].copy()


def store(array, offset, vector):
    array[offset : offset + len(vector)] = vector


def add(left, right):
    return left + right


def add_scaled(vector, scalar, other):
    return _multiply_add(np.float32(scalar), other, vector)


def _multiply_add(a, b, c):
    if not FMA:  # pragma: no cover
        return a * b + c
    product = np.multiply(a, b, dtype=np.float64)  # exact
    return (product + c).astype(np.float32)


def scaled(vector, scalar):
    return np.float32(scalar) * vector


def squared(vector):
    return vector * vector


def over_root(vector, squares, epsilon):
    return vector / (np.sqrt(squares) + np.float32(epsilon))


def shifted(vector, shift):
    return vector - np.float32(shift)


def add_scaled_row(vector, scalar, array, offset):
    return add_scaled(vector, scalar, array[offset : offset + len(vector)])


def load_rows(like, array, offset, stride):
    return array[_places(like, offset, stride)].reshape(like.shape)


def store_rows(array, offset, stride, block):
    array[_places(block, offset, stride)] = block


def _places(block, offset, stride):
    """Where the rows of a block, or a vector, stand in an array."""
    rows, lanes = np.atleast_2d(block).shape
    return (offset + stride * np.arange(rows))[:, None] + np.arange(lanes)


def add_outer(block, X, offset, stride, row):
    x = X[offset + stride * np.arange(len(block))]
    return _multiply_add(x[:, None], row, block)


def transpose_square(source, at, stride, target, to, step):
    lanes = np.arange(LANES)
    target[to + step * lanes[:, None] + lanes] = source[at + stride * lanes + lanes[:, None]]


def where_positive(condition, vector):
    return np.where(condition <= 0, np.float32(0), vector)  # `vector` beside NaN


def exponential(vector):
    exact = np.exp(vector.astype(np.float64))
    return np.where(vector > -87, exact, 0).astype(np.float32)


def maximum(left, right):
    return np.where(left > right, left, right)  # unlike np.maximum, `right` beside NaN


def first_lanes(vector, count, other):
    return np.where(np.arange(len(vector)) < count, vector, np.float32(other))


def largest_lane(vector):
    return _folded(vector, maximum)


def sum_of_lanes(vector):
    return _folded(vector, add)


def _folded(vector, combine):
    while len(vector) > 1:
        half = len(vector) // 2
        vector = combine(vector[:half], vector[half:])
    return vector[0]


# What makes no difference to results.


def prefetch(array, offset):
    pass


def per_line(array):
    return np.uintp(LINE // array.itemsize)


def opaque(number):
    return number


def now():
    return time.perf_counter_ns()


def flush_denormals():
    return np.uint64(0)


def restore(state):
    pass


# Packed rows.


def column_of(entries, p):
    return np.intp(entries[p]["column"])


def value_of(entries, p):
    value = entries[p]["value"]
    return value / np.float32(255) if value.dtype == np.uint8 else value


def pack_lanes(X, first, column, entries, at):
    row = X[first : first + LANES]
    kept = np.flatnonzero(row)
    entries["column"][at : at + np.uintp(len(kept))] = column + kept
    entries["value"][at : at + np.uintp(len(kept))] = row[kept]
    return np.uintp(len(kept))


def put(entries, p, column, value):
    entries[p] = (column, value)


# Random numbers.


def where_kept(vector, key, first, threshold, scale):
    return np.where(_bits(key, first, vector) >= threshold, scaled(vector, scale), np.float32(0))


def uniform(like, key, first):
    return _bits(key, first, like).view(np.int32).astype(np.float32) * np.float32(2.0**-31)


def _bits(key, first, like):
    return counter_based.bits(np.array([key]), first + len(like))[0, first:]


# Pixels.


def lane_numbers(like, first):
    return np.arange(len(like), dtype=np.float32) + np.float32(first)


def between(x, y, quads, width, height, stride):
    part_x, column = _within(x, width)
    part_y, row = _within(y, height)
    found = quads[row * stride + column]
    here, right, below, both = (
        (found >> shift & 255).astype(np.float32) for shift in (0, 8, 16, 24)
    )
    above = here + part_x * (right - here)
    under = below + part_x * (both - below)
    return above + part_y * (under - above)


def _within(place, size):
    """How far behind a pixel a place is, and that pixel, counted from the ring's edge."""
    place = np.fmin(np.fmax(place, np.float32(-1)), np.float32(size))
    pixel = np.floor(place)
    return place - pixel, pixel.astype(np.intp) + 1


def put_pixels(array, offset, ink):
    whole = (ink + np.float32(0.5)).astype(np.int32)
    array[offset : offset + len(ink)] = whole.astype(np.float32) / np.float32(255)


# Words that threads share: the interpreter's lock orders reads and writes, not a read and a write.

_lock = threading.Lock()


def fetch_add(words, index, amount):
    with _lock:
        before = words[index]
        words[index] += amount
    return before


def acquire(words, index):
    return words[index]


def release(words, index, value):
    words[index] = value


def yield_processor():
    time.sleep(0)

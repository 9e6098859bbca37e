"""The one packed form: of every row, only what is not zero.

81 % of MNIST's pixels and about half of all ReLU activations are zero, and a zero input neither
changes a sum nor receives a gradient. So every row, of pixels, features or activations alike, is
kept as the list of its non-zero entries (column, value), in order of columns, with one more entry
at the end: the constant 1 whose weight is the bias. Columns are grouped into bands of `BAND`, and
for each row it is noted where each band begins, so that the threads can divide a batch by columns
as easily as by rows.

Column and value stand side by side: a row that shuffling brings up costs half as many reads of
memory as it would from two arrays.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba.core import types
from numba.extending import overload
from numpy.typing import NDArray

from fastmnist.kernels.jit import entry, inlined

# Columns in a band. A band of a chunk is turned round at a time for the update: with 64 there are
# more short loops to mispredict (784-128-10: 1.04 times as slow), with 200 fewer bands to share.
BAND = 128

PIXELS = np.dtype([("column", np.uint16), ("value", np.uint8)], align=True)  # 4 bytes
FLOATS = np.dtype([("column", np.uint32), ("value", np.float32)])

SLACK = 3  # entries behind the last row that may be read, though they are not used

_SCALED = np.arange(256, dtype=np.float32) / np.float32(255)


class Packed(NamedTuple):
    """Rows without their zeros.

    The band b of row r stands at ``start[r] + bands[r, b]`` to ``start[r] + bands[r, b + 1]``.
    """

    start: NDArray[np.int64]  # (rows,)
    bands: NDArray[np.uint32]  # (rows, band_count + 1)
    entries: NDArray[np.void]  # PIXELS or FLOATS

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.start)


def scaled(value):
    """The value of an entry as the network sees it: pixels in [0, 1], floats as they are."""
    raise NotImplementedError("compiled only")


@overload(scaled, inline="always")
def _scaled(value):
    return (lambda value: _SCALED[value]) if value == types.uint8 else (lambda value: value)


@entry
def band_count(columns):
    """Bands of `columns` columns and the constant 1 behind them."""
    return columns // BAND + 1


def new_packed(columns: list[int]) -> Packed:
    """Room for rows of floats, the i-th of so many columns as ``columns[i]``."""
    start = np.cumsum([0, *(count + 1 for count in columns)])
    bands = np.zeros((len(columns), band_count(max(columns, default=0)) + 1), np.uint32)
    return Packed(start[:-1], bands, np.zeros(start[-1] + SLACK, FLOATS))


def pack(X: NDArray[Any]) -> Packed:
    """The packed form of `X`, uint8 or float32 of shape (rows, columns)."""
    rows, columns = X.shape
    if X.dtype == np.uint8 and columns >= 2**16:
        X = _SCALED[X]
    pixels = X.dtype == np.uint8
    start = np.zeros(rows + 1, np.int64)
    _count_entries(X, start)
    packed = Packed(
        start[:-1],
        np.empty((rows, band_count(columns) + 1), np.uint32),
        np.empty(start[-1] + SLACK, PIXELS if pixels else FLOATS),
    )
    _pack_rows(X.reshape(-1), columns, packed, X.dtype.type(255 if pixels else 1))
    return packed


@entry
def _count_entries(X, start):
    """Fill `start` from the number of entries of each row."""
    for r in range(len(X)):
        row = X[r]
        entries = 1
        for k in range(len(row)):
            entries += row[k] != 0
        start[r + 1] = start[r] + entries


@entry
def _pack_rows(X, columns, packed, one):
    for r in range(len(packed.start)):
        pack_row(X, r * columns, columns, packed, r, one)


@inlined
def pack_row(X, first, columns, packed, r, one):
    """Row r of `packed` becomes the packed form of ``X[first : first + columns]``.

    Every column is written and the position moves on if it is not zero, which needs no branch;
    the last write of a row never passes the place of its constant 1.
    """
    entries = packed.entries
    start, end = np.uintp(packed.start[r]), np.uintp(columns)
    at = start
    band = 0
    for begin in range(np.uintp(0), end + np.uintp(1), np.uintp(BAND)):
        packed.bands[r, band] = at - start
        band += 1
        for k in range(begin, min(begin + np.uintp(BAND), end)):
            x = X[np.uintp(first) + k]
            entries[at].column = k
            entries[at].value = x
            at += np.uintp(x != 0)
    entries[at].column = columns
    entries[at].value = one
    packed.bands[r, band] = at + np.uintp(1) - start

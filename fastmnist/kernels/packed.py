"""The one packed form: of every row, only what is not zero.

81 % of MNIST's pixels and about half of all ReLU activations are zero, and a zero input neither
changes a sum nor receives a gradient. So every row, of pixels, features or activations alike, is
kept as the list of its non-zero entries (column, value), in order of columns, with one more entry
at the end: the constant 1 whose weight is the bias. Columns are grouped into bands of `BAND`, and
for each row it is noted where each band begins, so that the threads can divide a batch by columns
as easily as by rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastmnist.kernels.jit import entry, inlined
from fastmnist.kernels.vectors import COPIED

# Columns in a band. A band of a chunk is turned round at a time for the update: with 64 there are
# more short loops to mispredict (784-128-10: 1.04 times as slow), with 200 fewer bands to share.
BAND = 128


class Packed(NamedTuple):
    """Rows without their zeros.

    Row r stands at ``start[r]`` to ``start[r + 1]``; its band b begins ``bands[r, b]`` further.
    """

    start: NDArray[np.int64]  # (rows + 1,)
    bands: NDArray[Any]  # (rows, band_count + 1), unsigned as `indices`
    indices: NDArray[Any]  # (entries,), uint16 where the columns allow it, else uint32
    pixels: NDArray[np.uint8]  # (entries,), to be scaled by 1/255; or (0,) where the rows are
    floats: NDArray[np.float32]  # (entries,)

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.bands)


@entry
def band_count(columns):
    """Bands of `columns` columns and the constant 1 behind them."""
    return columns // BAND + 1


@entry
def room(columns):
    """Entries to set aside for a row: as many as there can be, and a copy may run over its end."""
    return (columns + 2 * COPIED) // COPIED * COPIED


@entry
def bands_room(columns):
    """The same for the beginnings of a row's bands and the end of the last."""
    return room(band_count(columns))


def index_dtype(columns: int) -> type[np.unsignedinteger[Any]]:
    """The smallest type that can number `columns` columns and the constant 1."""
    return np.uint16 if columns < 2**16 else np.uint32


class Inputs(NamedTuple):
    """Packed rows of which each has the same room, whatever it holds."""

    indices: NDArray[Any]  # uint16 or uint32
    values: NDArray[np.float32]
    bands: NDArray[Any]  # as indices


def new_inputs(rows: int, columns: Iterable[int], small: Any) -> Inputs:
    """Room for `rows` rows of each of these numbers of columns, one behind the other."""
    columns = list(columns)
    entries = rows * sum(map(room, columns))
    return Inputs(
        np.empty(entries, small),
        np.empty(entries, np.float32),
        np.empty(rows * sum(map(bands_room, columns)), small),
    )


def pack(X: NDArray[Any]) -> Packed:
    """The packed form of `X`, uint8 or float32 of shape (rows, columns)."""
    rows, columns = X.shape
    small = index_dtype(columns)
    start = np.zeros(rows + 1, np.int64)
    _count_entries(X, start)
    bands = np.zeros((rows, bands_room(columns)), small)
    index = np.empty(start[-1] + COPIED, small)
    value = np.empty(start[-1] + COPIED, X.dtype)
    one = X.dtype.type(255 if X.dtype == np.uint8 else 1)
    _pack_rows(X.reshape(-1), columns, start, bands.reshape(-1), index, value, one)
    pixels, floats = np.empty(0, np.uint8), np.empty(0, np.float32)
    return Packed(
        start, bands, index, *((value, floats) if X.dtype == np.uint8 else (pixels, value))
    )


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
def _pack_rows(X, columns, start, bands, index, value, one):
    for r in range(len(start) - 1):
        pack_row(
            X, r * columns, columns, index, value, start[r], bands, r * bands_room(columns), one
        )


@inlined
def pack_row(X, row, columns, index, value, start, bands, band, one):
    """Write the entries of the `columns` numbers from ``X[row]`` on, and where its bands begin.

    Entries go to ``index[start]`` and ``value[start]`` and onwards, the bands' beginnings to
    ``bands[band]``. Every column is written and the position moves on if it is not zero, which
    needs no branch; the last write of a row never passes the place of its constant 1.
    """
    at, end = np.uintp(start), np.uintp(columns)
    for first in range(np.uintp(0), end + np.uintp(1), np.uintp(BAND)):
        bands[band] = at - np.uintp(start)
        band += 1
        for k in range(first, min(first + np.uintp(BAND), end)):
            x = X[np.uintp(row) + k]
            index[at] = k
            value[at] = x
            at += np.uintp(x != 0)
    index[at] = columns
    value[at] = one
    bands[band] = at + np.uintp(1) - np.uintp(start)

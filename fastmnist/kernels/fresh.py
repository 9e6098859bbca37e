"""Rows that are made anew for every chunk of samples: distorted images, inputs left out.

The threads divide a chunk's samples, make their rows and pack them, and meet; from there on a chunk
of such rows is like any other. It stays in the cache, so nothing has to be brought up from memory.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastmnist.kernels.barrier import CLAIMED, fetch_add
from fastmnist.kernels.dense import scaled_input
from fastmnist.kernels.distort import Distortion, distort
from fastmnist.kernels.jit import chosen, entry, jit, kind_of
from fastmnist.kernels.layer import drop_out
from fastmnist.kernels.network import CHUNK, FIRST, Inputs
from fastmnist.kernels.packed import FLOATS, SLACK, Packed, new_packed, pack_row, read_only

_ONE = np.float32(1)


class Fresh(NamedTuple):
    """Rows to be made anew."""

    X: NDArray[Any]  # uint8 pixels or float32, of shape (rows, columns)
    distortion: Distortion | None
    packed: Packed  # room for two chunks: one is made while slower threads use the other
    places: NDArray[np.int64]  # 0, 1, ...: where the samples stand in it

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.X)


def fresh_rows(X: NDArray[Any], distortion: Distortion | None) -> Fresh:
    """The rows of `X`, distorted whenever they are used."""
    capacity = np.full(2 * CHUNK, X.shape[1] + 1 + SLACK)
    packed = new_packed(capacity, X.shape[1], FLOATS)
    return Fresh(read_only(X), distortion, packed, np.arange(2 * CHUNK))


@chosen
def made_anew(rows):
    """Whether `rows` are `Fresh`."""
    return (lambda rows: True) if kind_of(rows) is Fresh else (lambda rows: False)


@chosen
def make_rows(rows, scratch, dropout, order, start, base, first, stop):
    """Make the rows of samples first to stop of the chunk that begins at ``order[start]``.

    Its rows in `packed` begin at `base`. Of other rows this is compiled, but never called.
    """
    if kind_of(rows) is Fresh:
        return lambda rows, scratch, dropout, order, start, base, first, stop: _make(
            rows, scratch, dropout, order, start, base, first, stop
        )
    return lambda rows, scratch, dropout, order, start, base, first, stop: None  # pragma: no cover


@chosen
def inputs_of(rows, order, start, base):
    """What enters the first layer."""
    if kind_of(rows) is Fresh:
        return lambda rows, order, start, base: Inputs(rows.packed, rows.places, base)
    return lambda rows, order, start, base: Inputs(rows, order, start)


@entry
def draw(words, X, distortion, canvas, row, pictures):
    """One thread's part of the distorted pictures, uint8 of shape (rows, columns)."""
    sample = fetch_add(words, CLAIMED, 1)
    while sample < len(X):
        distort(X, sample, distortion, canvas, row)
        for k in range(X.shape[1]):
            pictures[sample, k] = np.uint8(row[k] * np.float32(255) + np.float32(0.5))
        sample = fetch_add(words, CLAIMED, 1)


@jit
def _make(rows, scratch, dropout, order, start, base, first, stop):
    row, columns = scratch.panel, rows.X.shape[1]
    for s in range(first, stop):
        _bring_up(rows, scratch, order[start + s])
        if dropout.inputs:
            drop_out(row, FIRST, columns, dropout, s, FIRST)
        pack_row(row, FIRST, columns, rows.packed, base + s, _ONE)


@chosen
def _bring_up(rows, scratch, sample):
    """Bring a sample's inputs into the panel, distorted, as float32."""

    def as_it_is(rows, scratch, sample):
        row = rows.X[sample]
        for k in range(len(row)):
            scratch.panel[k] = scaled_input(row[k])

    def distorted(rows, scratch, sample):
        distort(rows.X, sample, rows.distortion, scratch.canvas, scratch.panel)

    return distorted if kind_of(rows[1]) is Distortion else as_it_is

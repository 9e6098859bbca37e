"""One layer, for the samples of a chunk: a single sum of rows, used in three directions.

    forward    Z[s]  = sum of A[s, k]  * W[k]     over the non-zero inputs k of sample s
    backward   dA[s] = sum of dZ[s, j] * W.T[j]   over the active units j of sample s
    update     dW[k] = sum of A[s, k]  * dZ[s]    over the samples s whose input k is non-zero

Each is `sum_of_rows`: a list of (index, value) and a matrix whose rows are gathered, the sum held
in registers, `WIDE` columns at a time and then `NARROW` ones. For the update the chunk is turned
round, one band of inputs at a time: for each input, the list of its samples.
"""

# ruff: noqa: D103
# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import numpy as np
from numba.extending import overload

from fastmnist.kernels.jit import jit
from fastmnist.kernels.network import (
    BACK,
    BACK_STRIDE,
    BANDS,
    CHUNK,
    DENSE,
    INPUTS,
    OUTPUTS,
    PACKED,
    STRIDE,
    WEIGHTS,
)
from fastmnist.kernels.packed import BAND, band_count, pack_row
from fastmnist.kernels.vectors import (
    NARROW,
    WIDE,
    add,
    add_scaled,
    add_scaled_row,
    load,
    store,
    where_positive,
    zeros,
)

_ONE = np.float32(1)


def sum_of_rows(total, index, value, first, stop, matrix, origin, stride):
    """`total` + sum over p of value[p] * row index[p] of `matrix`, first <= p < stop.

    Rows begin at `origin` and are `stride` apart; as many columns as `total` has lanes.
    """
    raise NotImplementedError("compiled only")


@overload(sum_of_rows)
def _sum_of_rows(total, index, value, first, stop, matrix, origin, stride):
    return _sum_of_narrow_rows if total.lanes == NARROW else _sum_of_wide_rows


def _sum_of_wide_rows(total, index, value, first, stop, matrix, origin, stride):
    for p in range(np.uintp(first), np.uintp(stop)):
        total = add_scaled_row(total, value[p], matrix, origin + np.intp(index[p]) * stride)
    return total


def _sum_of_narrow_rows(total, index, value, first, stop, matrix, origin, stride):
    # Four independent sums hide the latency of the multiply-add, as the lanes of WIDE do.
    second, third, fourth = zeros(NARROW), zeros(NARROW), zeros(NARROW)
    p, end = np.uintp(first), np.uintp(stop)
    while p + np.uintp(4) <= end:
        q, r, s = p + np.uintp(1), p + np.uintp(2), p + np.uintp(3)
        total = add_scaled_row(total, value[p], matrix, origin + np.intp(index[p]) * stride)
        second = add_scaled_row(second, value[q], matrix, origin + np.intp(index[q]) * stride)
        third = add_scaled_row(third, value[r], matrix, origin + np.intp(index[r]) * stride)
        fourth = add_scaled_row(fourth, value[s], matrix, origin + np.intp(index[s]) * stride)
        p += np.uintp(4)
    while p < end:
        total = add_scaled_row(total, value[p], matrix, origin + np.intp(index[p]) * stride)
        p += np.uintp(1)
    return add(add(total, second), add(third, fourth))


@jit
def wide_columns(columns):
    """How many columns are worked off `WIDE` at a time; those left over are narrow.

    Rows have room for one more cache line where their number of lines would be even, so the last
    wide step may reach beyond the columns, into padding.
    """
    room = NARROW * (((columns + NARROW - 1) // NARROW) | 1)
    return min(room // WIDE, (columns + WIDE - 1) // WIDE) * WIDE


@jit
def forward(network, chunk, layer, first, stop):
    """Z of one layer for samples first to stop; of a hidden layer ReLU(Z), packed for the next."""
    shape = network.shapes[layer]
    wide = wide_columns(shape[OUTPUTS])
    # Columns outside, samples inside: the columns' part of W stays in the cache.
    for column in range(0, wide, WIDE):
        _forward_columns(zeros(WIDE), network, chunk, layer, column, first, stop)
    for column in range(wide, shape[OUTPUTS], NARROW):
        _forward_columns(zeros(NARROW), network, chunk, layer, column, first, stop)
    if layer + 1 < len(network.shapes):
        for s in range(first, stop):
            _pack_activations(network, chunk, layer, s)


@jit
def _forward_columns(zero, network, chunk, layer, column, first, stop):
    shape = network.shapes[layer]
    stride, hidden = shape[STRIDE], layer + 1 < len(network.shapes)
    band_total = shape[BANDS] + band_count(shape[INPUTS])
    for s in range(first, stop):
        at = shape[PACKED] + s * (shape[INPUTS] + 1)
        entries = chunk.bands[band_total + s * (band_count(shape[INPUTS]) + 1)]
        Z = sum_of_rows(
            zero, chunk.index, chunk.value, at, at + entries,
            network.weights, shape[WEIGHTS] + column, stride,
        )  # fmt: skip
        if hidden:
            Z = where_positive(Z, Z)
        store(chunk.dense, shape[DENSE] + s * stride + column, Z)


@jit
def _pack_activations(network, chunk, layer, s):
    shape, following = network.shapes[layer], network.shapes[layer + 1]
    row = shape[DENSE] + s * shape[STRIDE]
    band_row = following[BANDS] + s * (band_count(shape[OUTPUTS]) + 1)
    pack_row(
        chunk.dense[row : row + shape[OUTPUTS]],
        chunk.index,
        chunk.value,
        following[PACKED] + s * (shape[OUTPUTS] + 1),
        chunk.bands[band_row : band_row + band_count(shape[OUTPUTS]) + 1],
        _ONE,
    )


@jit
def backward(network, chunk, scratch, layer, first, stop):
    """From dZ of `layer` to dZ of the layer before, over its activations, samples first to stop."""
    shape, before = network.shapes[layer], network.shapes[layer - 1]
    for s in range(first, stop):
        row = shape[DENSE] + s * shape[STRIDE]
        bands = scratch.bands[: band_count(shape[OUTPUTS]) + 1]
        dZ = chunk.dense[row : row + shape[OUTPUTS]]
        pack_row(dZ, scratch.index, scratch.value, np.intp(0), bands, _ONE)
        entries = bands[len(bands) - 1] - 1  # without the constant
        row = before[DENSE] + s * before[STRIDE]
        wide = wide_columns(shape[INPUTS])
        for column in range(0, wide, WIDE):
            _backward_columns(zeros(WIDE), network, chunk, scratch, shape, entries, row, column)
        for column in range(wide, shape[INPUTS], NARROW):
            _backward_columns(zeros(NARROW), network, chunk, scratch, shape, entries, row, column)


@jit
def _backward_columns(zero, network, chunk, scratch, shape, entries, row, column):
    dA = sum_of_rows(
        zero, scratch.index, scratch.value, 0, entries,
        network.transposed, shape[BACK] + column, shape[BACK_STRIDE],
    )  # fmt: skip
    A = load(zero, chunk.dense, row + column)
    store(chunk.dense, row + column, where_positive(A, dA))  # ReLU passes where it was active


@jit
def update(network, chunk, scratch, layer, band, samples, rule, rate, begins, ends):
    """The gradient of one band of a layer's weights, and the optimiser's step.

    A batch of several chunks adds up its gradient in `network.gradient`: `begins` and `ends` tell
    whether this chunk is the batch's first and last.
    """
    shape = network.shapes[layer]
    first_row = band * BAND
    rows = min(BAND, shape[INPUTS] + 1 - first_row)
    _turn(shape, chunk, scratch, band, samples)
    wide = wide_columns(shape[OUTPUTS])
    for column in range(0, wide, WIDE):
        _update_columns(
            zeros(WIDE), network, chunk, scratch, shape, first_row, rows, column,
            rule, rate, begins, ends,
        )  # fmt: skip
    for column in range(wide, shape[OUTPUTS], NARROW):
        _update_columns(
            zeros(NARROW), network, chunk, scratch, shape, first_row, rows, column,
            rule, rate, begins, ends,
        )  # fmt: skip
    if layer > 0 and ends and rule.steps:
        _transpose_band(network, shape, first_row, min(rows, shape[INPUTS] - first_row))


@jit
def _turn(shape, chunk, scratch, band, samples):
    """For each input of the band, the list of samples in which it is not zero, and the values."""
    scratch.filled[:] = 0
    first_row = band * BAND
    capacity, band_stride = shape[INPUTS] + 1, band_count(shape[INPUTS]) + 1
    for s in range(samples):
        bands = shape[BANDS] + s * band_stride + band
        row = shape[PACKED] + s * capacity
        for p in range(np.uintp(row + chunk.bands[bands]), np.uintp(row + chunk.bands[bands + 1])):
            k = np.uintp(chunk.index[p] - first_row)
            at = k * np.uintp(CHUNK) + np.uintp(scratch.filled[k])
            scratch.turned_index[at] = s
            scratch.turned_value[at] = chunk.value[p]
            scratch.filled[k] += 1


@jit
def _update_columns(
    zero, network, chunk, scratch, shape, first_row, rows, column, rule, rate, begins, ends
):
    unmoved = rule.steps and not rule.momentum and begins and ends  # where no sample has an entry
    for k in range(rows):
        if unmoved and scratch.filled[k] == 0:
            continue
        at = shape[WEIGHTS] + (first_row + k) * shape[STRIDE] + column
        dW = sum_of_rows(
            zero if begins else load(zero, network.gradient, at),
            scratch.turned_index, scratch.turned_value, k * CHUNK, k * CHUNK + scratch.filled[k],
            chunk.dense, shape[DENSE] + column, shape[STRIDE],
        )  # fmt: skip
        if ends and rule.steps:
            _step(dW, network, at, rule, rate)
        else:
            store(network.gradient, at, dW)


@jit
def _step(dW, network, at, rule, rate):
    if rule.momentum:
        v = add_scaled(dW, rule.momentum, load(dW, network.velocity, at))
        store(network.velocity, at, v)
        dW = add_scaled(dW, rule.momentum, v) if rule.nesterov else v
    store(network.weights, at, add_scaled(load(dW, network.weights, at), -rate, dW))


@jit
def _transpose_band(network, shape, first_row, rows):
    """Bring the transposed copy of W, which `backward` gathers from, up to date."""
    for j in range(shape[OUTPUTS]):
        source = shape[WEIGHTS] + first_row * shape[STRIDE] + j
        target = shape[BACK] + j * shape[BACK_STRIDE] + first_row
        for k in range(rows):
            network.transposed[target + k] = network.weights[source + k * shape[STRIDE]]

"""One layer, for the samples of a chunk: a single sum of rows, used in three directions.

    forward    Z[s]  = sum of A[s, k]  * W[k]     over the non-zero inputs k of sample s
    backward   dA[s] = sum of dZ[s, j] * W.T[j]   over the active units j of sample s
    update     dW[k] = sum of A[s, k]  * dZ[s]    over the samples s whose input k is non-zero

Each is `sum_of_rows`: a list of (index, value) and a matrix whose rows are gathered, the sum held
in registers, `WIDE` columns at a time and then `NARROW` ones. For the update the chunk is turned
round, one band of inputs at a time: for each input, the list of its samples.
"""

from __future__ import annotations

import numpy as np
from numba.extending import overload

from fastmnist.kernels.jit import jit
from fastmnist.kernels.network import (
    BACK,
    BACK_STRIDE,
    BANDS,
    DENSE,
    INPUTS,
    OUTPUTS,
    PACKED,
    STRIDE,
    TURNED,
    WEIGHTS,
)
from fastmnist.kernels.packed import BAND, band_count, bands_room, pack_row, room
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

# Bands in a block of W that all samples walk over before the next one, so that its `WIDE` columns
# stay in the L1 cache: 48 KiB, less the rows that no sample needs. (784-128, forward: all bands
# at once 1.2 times as slow; 1 band too, for the mispredicted ends of so many short loops.)
_BLOCK = 3


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
    bands = band_count(shape[INPUTS])
    wide = wide_columns(shape[OUTPUTS])
    for column in range(0, wide, WIDE):
        for band in range(0, bands, _BLOCK):
            band_stop = min(band + _BLOCK, bands)
            _forward_block(zeros(WIDE), network, chunk, layer, column, band, band_stop, first, stop)
    for column in range(wide, shape[OUTPUTS], NARROW):
        _forward_block(zeros(NARROW), network, chunk, layer, column, 0, bands, first, stop)
    if layer + 1 < len(network.shapes):
        _pack_activations(network, chunk, layer, first, stop)


@jit
def _forward_block(zero, network, chunk, layer, column, band, band_stop, first, stop):
    shape = network.shapes[layer]
    stride = shape[STRIDE]
    bands = bands_room(shape[INPUTS])
    active = layer + 1 < len(network.shapes) and band_stop == band_count(shape[INPUTS])
    for s in range(first, stop):
        start = shape[PACKED] + s * room(shape[INPUTS])
        at = shape[BANDS] + s * bands
        out = shape[DENSE] + s * stride + column
        Z = sum_of_rows(
            load(zero, chunk.dense, out) if band else zero, chunk.indices, chunk.values,
            start + chunk.bands[at + band], start + chunk.bands[at + band_stop],
            network.weights, shape[WEIGHTS] + column, stride,
        )  # fmt: skip
        if active:
            Z = where_positive(Z, Z)
        store(chunk.dense, out, Z)


@jit
def _pack_activations(network, chunk, layer, first, stop):
    shape, following = network.shapes[layer], network.shapes[layer + 1]
    columns, bands = shape[OUTPUTS], bands_room(shape[OUTPUTS])
    for s in range(first, stop):
        pack_row(
            chunk.dense, shape[DENSE] + s * shape[STRIDE], columns,
            chunk.indices, chunk.values, following[PACKED] + s * room(columns),
            chunk.bands, following[BANDS] + s * bands, _ONE,
        )  # fmt: skip


@jit
def backward(network, chunk, scratch, layer, first, stop):
    """From dZ of `layer` to dZ of the layer before, over its activations, samples first to stop."""
    shape, before = network.shapes[layer], network.shapes[layer - 1]
    wide = wide_columns(shape[INPUTS])
    last = band_count(shape[OUTPUTS])
    for s in range(first, stop):
        pack_row(
            chunk.dense, shape[DENSE] + s * shape[STRIDE], shape[OUTPUTS],
            scratch.indices, scratch.values, 0, scratch.bands, 0, _ONE,
        )  # fmt: skip
        entries = scratch.bands[last] - 1  # without the constant
        row = before[DENSE] + s * before[STRIDE]
        for column in range(0, wide, WIDE):
            _backward_columns(zeros(WIDE), network, chunk, scratch, shape, entries, row, column)
        for column in range(wide, shape[INPUTS], NARROW):
            _backward_columns(zeros(NARROW), network, chunk, scratch, shape, entries, row, column)


@jit
def _backward_columns(zero, network, chunk, scratch, shape, entries, row, column):
    dA = sum_of_rows(
        zero, scratch.indices, scratch.values, 0, entries,
        network.transposed, shape[BACK] + column, shape[BACK_STRIDE],
    )  # fmt: skip
    A = load(zero, chunk.dense, row + column)
    store(chunk.dense, row + column, where_positive(A, dA))  # ReLU passes where it was active


@jit
def task(network, members, number):
    """The layer and its bands, first to stop, that are the update's piece of work `number`.

    A wide layer's piece is one band. A narrow one's are larger and few: a third of a thread's
    share, to even out that the pictures' corners are empty.
    """
    for layer in range(len(network.shapes)):
        bands = band_count(network.shapes[layer, INPUTS])
        size = 1
        if network.shapes[layer, OUTPUTS] <= NARROW:
            size = (bands + 3 * members - 1) // (3 * members)
        pieces = (bands + size - 1) // size
        if number < pieces:
            return layer, number * size, min(bands, (number + 1) * size)
        number -= pieces
    return len(network.shapes), 0, 0


@jit
def update(network, chunk, scratch, layer, band, band_stop, samples, rule, rate, begins, ends):
    """The gradient of some bands of a layer's weights, and the optimiser's step.

    A batch of several chunks adds up its gradient in `network.gradient`: `begins` and `ends` tell
    whether this chunk is the batch's first and last.
    """
    shape = network.shapes[layer]
    first_row = band * BAND
    rows = min(band_stop * BAND, shape[INPUTS] + 1) - first_row
    if shape[OUTPUTS] <= NARROW:
        _update_narrow(
            zeros(NARROW), network, chunk, layer, band, band_stop, rows, samples,
            rule, rate, begins, ends,
        )  # fmt: skip
    else:
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
def _update_narrow(
    zero, network, chunk, layer, band, band_stop, rows, samples, rule, rate, begins, ends
):
    """`update` of a layer whose dZ fits one register: straight from the packed rows.

    The gradient's rows are loaded and stored for every entry, and stay in the L1 cache. Turning
    the band round to save that costs more than it saves (784-10-10: twice as slow).
    """
    shape = network.shapes[layer]
    stride, origin = shape[STRIDE], shape[WEIGHTS]
    first_row = origin + band * BAND * stride
    if begins:
        for k in range(rows):
            store(network.gradient, first_row + k * stride, zero)
    bands = bands_room(shape[INPUTS])
    for s in range(samples):
        dZ = load(zero, chunk.dense, shape[DENSE] + s * stride)
        start = shape[PACKED] + s * room(shape[INPUTS])
        at = shape[BANDS] + s * bands
        entry, stop = start + chunk.bands[at + band], start + chunk.bands[at + band_stop]
        for p in range(np.uintp(entry), np.uintp(stop)):
            row = origin + np.intp(chunk.indices[p]) * stride
            dW = add_scaled(load(zero, network.gradient, row), chunk.values[p], dZ)
            store(network.gradient, row, dW)
    if ends and rule.steps:
        for k in range(rows):
            row = first_row + k * stride
            _step(load(zero, network.gradient, row), network, row, rule, rate)


@jit
def _turn(shape, chunk, scratch, band, samples):
    """For each input of the band, the list of samples in which it is not zero, and the values."""
    index, value = scratch.turned_index, scratch.turned_value
    scratch.filled[:] = 0
    first_row = np.uintp(band * BAND)
    bands = bands_room(shape[INPUTS])
    for s in range(samples):
        at = shape[BANDS] + s * bands + band
        start = shape[PACKED] + s * room(shape[INPUTS])
        for p in range(np.uintp(start + chunk.bands[at]), np.uintp(start + chunk.bands[at + 1])):
            k = np.uintp(chunk.indices[p]) - first_row
            q = k * np.uintp(TURNED) + np.uintp(scratch.filled[k])
            index[q] = s
            value[q] = chunk.values[p]
            scratch.filled[k] += 1


@jit
def _update_columns(
    zero, network, chunk, scratch, shape, first_row, rows, column, rule, rate, begins, ends
):
    index, value = scratch.turned_index, scratch.turned_value
    unmoved = rule.steps and not rule.momentum and begins and ends  # where no sample has an entry
    for k in range(rows):
        if unmoved and scratch.filled[k] == 0:
            continue
        at = shape[WEIGHTS] + (first_row + k) * shape[STRIDE] + column
        dW = sum_of_rows(
            zero if begins else load(zero, network.gradient, at),
            index, value, k * TURNED, k * TURNED + scratch.filled[k],
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

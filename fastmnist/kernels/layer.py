"""One layer, for the samples of a chunk: a single sum of rows, used in three directions.

    forward    Z[s]  = sum of A[s, k]  * W[k]     over the non-zero inputs k of sample s
    backward   dA[s] = sum of dZ[s, j] * W.T[j]   over the active units j of sample s
    update     dW[k] = sum of A[s, k]  * dZ[s]    over the samples s whose input k is non-zero

Each is `sum_of_rows`: a list of (column, value) and a matrix whose rows are gathered, the sum held
in registers, `WIDE` columns at a time and then `NARROW` ones. For the update the chunk is turned
round, one band of inputs at a time: for each input, the list of its samples.
"""

from __future__ import annotations

import numpy as np
from numba.extending import overload

from fastmnist.kernels.dense import forward_dense, update_dense
from fastmnist.kernels.jit import jit
from fastmnist.kernels.network import (
    BACK,
    BACK_STRIDE,
    BANDS,
    DENSE,
    FIRST,
    FIRST_BAND,
    FIRST_STEP,
    INPUTS,
    LAST_BAND,
    LAST_STEP,
    OUTPUTS,
    PIECE,
    ROWS,
    STEPS,
    STRIDE,
    TURNED,
    WEIGHTS,
    WIDE_INPUTS,
    WIDE_STEPS,
    Inputs,
)
from fastmnist.kernels.packed import BAND, Dense, column_of, pack_row, value_of
from fastmnist.kernels.step import finish, step
from fastmnist.kernels.vectors import (
    NARROW,
    WIDE,
    add,
    add_scaled,
    add_scaled_row,
    load,
    per_line,
    prefetch,
    store,
    where_positive,
    zeros,
)

_ONE = np.float32(1)
_ZERO = np.float32(0)

AHEAD = 4  # samples whose rows are under way from memory


def sum_of_rows(total, entries, first, stop, matrix, origin, stride):
    """`total` + sum of value * row `column` of `matrix`, over the entries from first to stop.

    Rows begin at `origin` and are `stride` apart; as many columns as `total` has lanes.
    """
    raise NotImplementedError("compiled only")


@overload(sum_of_rows)
def _sum_of_rows(total, entries, first, stop, matrix, origin, stride):
    return _sum_of_narrow_rows if total.lanes == NARROW else _sum_of_wide_rows


def _sum_of_wide_rows(total, entries, first, stop, matrix, origin, stride):
    for p in range(np.uintp(first), np.uintp(stop)):
        x, k = value_of(entries, p), column_of(entries, p) * stride
        total = add_scaled_row(total, x, matrix, origin + k)
    return total


def _sum_of_narrow_rows(total, entries, first, stop, matrix, origin, stride):
    # Four independent sums hide the latency of the multiply-add, as the lanes of WIDE do.
    second, third, fourth = zeros(NARROW), zeros(NARROW), zeros(NARROW)
    p, end = np.uintp(first), np.uintp(stop)
    while p + np.uintp(4) <= end:
        q, r, s = p + np.uintp(1), p + np.uintp(2), p + np.uintp(3)
        x, k = value_of(entries, p), column_of(entries, p) * stride
        total = add_scaled_row(total, x, matrix, origin + k)
        x, k = value_of(entries, q), column_of(entries, q) * stride
        second = add_scaled_row(second, x, matrix, origin + k)
        x, k = value_of(entries, r), column_of(entries, r) * stride
        third = add_scaled_row(third, x, matrix, origin + k)
        x, k = value_of(entries, s), column_of(entries, s) * stride
        fourth = add_scaled_row(fourth, x, matrix, origin + k)
        p += np.uintp(4)
    # The last three or fewer without a branch, which would be mispredicted: 0 * row 0 for those
    # that are missing (behind every list there is SLACK).
    q, r = p + np.uintp(1), p + np.uintp(2)
    x, k = value_of(entries, p), column_of(entries, p) * stride
    total = add_scaled_row(total, x if p < end else _ZERO, matrix, origin + (k if p < end else 0))
    x, k = value_of(entries, q), column_of(entries, q) * stride
    second = add_scaled_row(second, x if q < end else _ZERO, matrix, origin + (k if q < end else 0))
    x, k = value_of(entries, r), column_of(entries, r) * stride
    third = add_scaled_row(third, x if r < end else _ZERO, matrix, origin + (k if r < end else 0))
    return add(add(total, second), add(third, fourth))


def forward_piece(network, chunk, scratch, inputs, piece, samples):
    """One piece's part of the first layer's Z, for so many samples."""
    raise NotImplementedError("compiled only")


@overload(forward_piece)
def _forward_piece(network, chunk, scratch, inputs, piece, samples):
    if _is_dense(inputs):
        return lambda network, chunk, scratch, inputs, piece, samples: forward_dense(
            network, chunk, scratch, inputs, piece, samples
        )

    def forward_packed(network, chunk, scratch, inputs, piece, samples):
        _sums(
            network, inputs, FIRST, piece[FIRST_BAND], piece[LAST_BAND], piece[FIRST_STEP],
            piece[LAST_STEP], FIRST, samples, chunk.parts, piece[PIECE] * chunk.parts.shape[1],
            False,
        )  # fmt: skip

    return forward_packed


def update_piece(network, chunk, scratch, inputs, piece, samples, rule, rate, begins, ends):
    """`update` of one piece of the first layer's weights."""
    raise NotImplementedError("compiled only")


@overload(update_piece)
def _update_piece(network, chunk, scratch, inputs, piece, samples, rule, rate, begins, ends):
    def of_dense(network, chunk, scratch, inputs, piece, samples, rule, rate, begins, ends):
        update_dense(network, chunk, scratch, piece, samples, rule, rate, begins, ends)

    def of_packed(network, chunk, scratch, inputs, piece, samples, rule, rate, begins, ends):
        update(
            network, chunk, scratch, inputs, FIRST, piece[FIRST_BAND], piece[LAST_BAND],
            piece[FIRST_STEP], piece[LAST_STEP], samples, rule, rate, begins, ends,
        )  # fmt: skip

    return of_dense if _is_dense(inputs) else of_packed


def _is_dense(inputs):
    return inputs.types[0].instance_class is Dense


@jit
def add_pieces(network, chunk, first, stop):
    """Z of the first layer, the sum of its parts, for samples first to stop; if hidden, ReLU(Z)."""
    shape = network.shapes[0]
    hidden = len(network.shapes) > 1
    pieces, size = chunk.parts.shape
    for s in range(first, stop):
        for column in range(s * shape[STRIDE], s * shape[STRIDE] + shape[OUTPUTS], NARROW):
            Z = load(zeros(NARROW), chunk.parts, column)
            for piece in range(1, pieces):
                Z = add(Z, load(Z, chunk.parts, piece * size + column))
            store(chunk.dense, shape[DENSE] + column, where_positive(Z, Z) if hidden else Z)
    if hidden:
        _pack_activations(network, chunk, FIRST, first, stop)


@jit
def forward(network, chunk, layer, first, stop):
    """Z of a later layer for samples first to stop; if hidden, ReLU(Z), packed for the next."""
    shape = network.shapes[layer]
    hidden = layer + 1 < len(network.shapes)
    _sums(
        network, Inputs(chunk.rows, chunk.order, shape[ROWS]), layer, FIRST, shape[BANDS], FIRST,
        shape[STEPS], first, stop, chunk.dense, shape[DENSE], hidden,
    )  # fmt: skip
    if hidden:
        _pack_activations(network, chunk, layer, first, stop)


@jit
def _sums(network, inputs, layer, band, last_band, step, last_step, first, stop, out, origin, relu):
    # Columns outside, samples inside: a block of W that fits the L1 cache meets all samples.
    wide = network.shapes[layer, WIDE_STEPS]
    fresh = True
    while step < last_step:
        if step < wide:
            _sums_of_columns(
                zeros(WIDE), network, inputs, layer, step * WIDE, band, last_band, first, stop,
                out, origin, relu, fresh,
            )  # fmt: skip
        else:
            _sums_of_columns(
                zeros(NARROW), network, inputs, layer, wide * WIDE + (step - wide) * NARROW,
                band, last_band, first, stop, out, origin, relu, fresh,
            )  # fmt: skip
        fresh = False
        step += 1


@jit
def _sums_of_columns(
    zero, network, inputs, layer, column, band, last_band, first, stop, out, origin, relu, fresh
):
    shape = network.shapes[layer]
    stride, weights = shape[STRIDE], shape[WEIGHTS] + column
    rows, order = inputs.rows, inputs.order
    for s in range(first, stop):
        if fresh:
            _fetch(rows, order, np.uintp(inputs.first + s), band, last_band)
        r = np.uintp(order[np.uintp(inputs.first + s)])
        Z = sum_of_rows(
            zero, rows.entries, np.uintp(rows.bands[r, band]), np.uintp(rows.bands[r, last_band]),
            network.weights, weights, stride,
        )  # fmt: skip
        store(out, origin + s * stride + column, where_positive(Z, Z) if relu else Z)


@jit
def _fetch(rows, order, at, band, last_band):
    """Begin to bring up, for a sample soon to come, what its row holds in some bands.

    Shuffled rows lie anywhere in memory, and the processor does not foresee where: without this
    784-10-10 takes twice as long.
    """
    last = np.uintp(len(order) - 1)
    r = np.uintp(order[min(at + np.uintp(2 * AHEAD), last)])
    prefetch(rows.bands, r * np.uintp(rows.bands.shape[1]))
    r = np.uintp(order[min(at + np.uintp(AHEAD), last)])
    for p in range(rows.bands[r, band], rows.bands[r, last_band], per_line(rows.entries)):
        prefetch(rows.entries, p)


@jit
def _pack_activations(network, chunk, layer, first, stop):
    shape, rows = network.shapes[layer], network.shapes[layer + 1, ROWS]
    for s in range(first, stop):
        row = shape[DENSE] + s * shape[STRIDE]
        pack_row(chunk.dense, row, shape[OUTPUTS], chunk.rows, rows + s, _ONE)


@jit
def backward(network, chunk, scratch, layer, first, stop):
    """From dZ of `layer` to dZ of the layer before, over its activations, samples first to stop."""
    shape, before = network.shapes[layer], network.shapes[layer - 1]
    wide = shape[WIDE_INPUTS]
    for s in range(first, stop):
        row = shape[DENSE] + s * shape[STRIDE]
        pack_row(chunk.dense, row, shape[OUTPUTS], scratch.row, FIRST, _ONE)
        entries = scratch.row.bands[0, shape[OUTPUTS] // BAND + 1] - 1  # without the constant
        row = before[DENSE] + s * before[STRIDE]
        for column in range(0, wide, WIDE):
            _backward_columns(zeros(WIDE), network, chunk, scratch, shape, entries, row, column)
        for column in range(wide, shape[INPUTS], NARROW):
            _backward_columns(zeros(NARROW), network, chunk, scratch, shape, entries, row, column)


@jit
def _backward_columns(zero, network, chunk, scratch, shape, entries, row, column):
    dA = sum_of_rows(
        zero, scratch.row.entries, np.uintp(0), np.uintp(entries),
        network.transposed, shape[BACK] + column, shape[BACK_STRIDE],
    )  # fmt: skip
    A = load(zero, chunk.dense, row + column)
    store(chunk.dense, row + column, where_positive(A, dA))  # ReLU passes where it was active


@jit
def update(
    network, chunk, scratch, inputs, layer, band, last_band, step, last_step, samples,
    rule, rate, begins, ends,
):  # fmt: skip
    """The gradient of some bands of a layer's weights, some steps of columns, and the optimiser's.

    A batch of several chunks adds up its gradient in `network.gradient`: `begins` and `ends` tell
    whether this chunk is the batch's first and last.
    """
    if step == last_step:
        return
    if network.shapes[layer, OUTPUTS] <= NARROW:
        _update_narrow(
            zeros(NARROW), network, chunk, inputs, layer, band, last_band, samples,
            rule, rate, begins, ends,
        )  # fmt: skip
    else:
        for b in range(band, last_band):
            _turn(inputs, scratch, b, samples)
            _update_band(
                network, chunk, scratch, layer, b, step, last_step, rule, rate, begins, ends
            )


@jit
def _update_narrow(
    zero, network, chunk, inputs, layer, band, last_band, samples, rule, rate, begins, ends
):
    """`update` of a layer whose dZ fits one register: straight from the packed rows.

    The gradient's rows are loaded and stored for every entry, and stay in the L1 cache. Turning
    the band round to save that costs more than it saves (784-10-10: twice as slow).
    """
    shape = network.shapes[layer]
    stride, origin = shape[STRIDE], shape[WEIGHTS]
    first_row, last_row = band * BAND, min(last_band * BAND, shape[INPUTS] + 1)
    if begins:
        for k in range(first_row, last_row):
            store(network.gradient, origin + k * stride, zero)
    bands, entries = inputs.rows.bands, inputs.rows.entries
    for s in range(samples):
        dZ = load(zero, chunk.dense, shape[DENSE] + s * stride)
        r = np.uintp(inputs.order[np.uintp(inputs.first + s)])
        for p in range(np.uintp(bands[r, band]), np.uintp(bands[r, last_band])):
            row = origin + column_of(entries, p) * stride
            dW = add_scaled(load(zero, network.gradient, row), value_of(entries, p), dZ)
            store(network.gradient, row, dW)
    if ends and rule.steps:
        for k in range(first_row, last_row):
            row = origin + k * stride
            step(load(zero, network.gradient, row), network, row, rule, rate)


@jit
def _turn(inputs, scratch, band, samples):
    """For each input of the band, the list of samples in which it is not zero, and the values."""
    bands, entries = inputs.rows.bands, inputs.rows.entries
    turned, filled = scratch.turned, scratch.filled
    filled[:] = 0
    for s in range(samples):
        r = np.uintp(inputs.order[np.uintp(inputs.first + s)])
        for p in range(np.uintp(bands[r, band]), np.uintp(bands[r, band + 1])):
            k = np.uintp(column_of(entries, p) - band * BAND)
            q = k * np.uintp(TURNED) + np.uintp(filled[k])
            turned[q].column = s
            turned[q].value = value_of(entries, p)
            filled[k] += 1


@jit
def _update_band(network, chunk, scratch, layer, band, step, last_step, rule, rate, begins, ends):
    """The update from the lists of a band that is turned round."""
    wide = network.shapes[layer, WIDE_STEPS]
    while step < last_step:
        if step < wide:
            _update_columns(
                zeros(WIDE), network, chunk, scratch, layer, band, step * WIDE,
                rule, rate, begins, ends,
            )  # fmt: skip
        else:
            _update_columns(
                zeros(NARROW), network, chunk, scratch, layer, band,
                wide * WIDE + (step - wide) * NARROW, rule, rate, begins, ends,
            )  # fmt: skip
        step += 1


@jit
def _update_columns(zero, network, chunk, scratch, layer, band, column, rule, rate, begins, ends):
    shape = network.shapes[layer]
    filled = scratch.filled
    unmoved = rule.steps and not rule.momentum and begins and ends  # where no sample has an entry
    first_row = band * BAND
    for k in range(min(BAND, shape[INPUTS] + 1 - first_row)):
        if unmoved and filled[k] == 0:
            continue
        at = shape[WEIGHTS] + (first_row + k) * shape[STRIDE] + column
        dW = sum_of_rows(
            zero if begins else load(zero, network.gradient, at),
            scratch.turned, np.uintp(k * TURNED), np.uintp(k * TURNED + filled[k]),
            chunk.dense, shape[DENSE] + column, shape[STRIDE],
        )  # fmt: skip
        finish(dW, network, at, rule, rate, ends)


@jit
def transpose(network, layer, band):
    """Bring the transposed copy of W, which `backward` gathers from, up to date for a band."""
    shape = network.shapes[layer]
    first_row = band * BAND
    for j in range(shape[OUTPUTS]):
        source = shape[WEIGHTS] + first_row * shape[STRIDE] + j
        target = shape[BACK] + j * shape[BACK_STRIDE] + first_row
        for k in range(min(BAND, shape[INPUTS] - first_row)):
            network.transposed[target + k] = network.weights[source + k * shape[STRIDE]]

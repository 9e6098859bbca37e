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

from fastmnist.kernels.jit import inlined, jit
from fastmnist.kernels.network import (
    ALL_COLUMNS,
    BACK,
    BACK_STRIDE,
    DENSE,
    FIRST_LAYER,
    INPUTS,
    OUTPUTS,
    ROWS,
    STRIDE,
    TURNED,
    WEIGHTS,
    Inputs,
    piece_count,
)
from fastmnist.kernels.packed import BAND, band_count, pack_row, scaled
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
        total = _add_row(total, entries, p, True, matrix, origin, stride)
    return total


def _sum_of_narrow_rows(total, entries, first, stop, matrix, origin, stride):
    # Four independent sums hide the latency of the multiply-add, as the lanes of WIDE do.
    second, third, fourth = zeros(NARROW), zeros(NARROW), zeros(NARROW)
    p, end = np.uintp(first), np.uintp(stop)
    while p + np.uintp(4) <= end:
        q, r, s = p + np.uintp(1), p + np.uintp(2), p + np.uintp(3)
        total = _add_row(total, entries, p, True, matrix, origin, stride)
        second = _add_row(second, entries, q, True, matrix, origin, stride)
        third = _add_row(third, entries, r, True, matrix, origin, stride)
        fourth = _add_row(fourth, entries, s, True, matrix, origin, stride)
        p += np.uintp(4)
    # The last three or fewer without a branch, which would be mispredicted: 0 * row 0 for those
    # that are missing (behind every list there is SLACK).
    q, r = p + np.uintp(1), p + np.uintp(2)
    total = _add_row(total, entries, p, p < end, matrix, origin, stride)
    second = _add_row(second, entries, q, q < end, matrix, origin, stride)
    third = _add_row(third, entries, r, r < end, matrix, origin, stride)
    return add(add(total, second), add(third, fourth))


@inlined
def _add_row(total, entries, p, wanted, matrix, origin, stride):
    """`total` + the row of entry p, if it is wanted."""
    x, k = scaled(entries[p].value), np.intp(entries[p].column) * stride
    return add_scaled_row(
        total, x if wanted else _ZERO, matrix, origin + (k if wanted else np.intp(0))
    )


@jit
def wide_columns(columns):
    """How many columns are worked off `WIDE` at a time; those left over are narrow.

    Rows have room for one more cache line where their number of lines would be even, so the last
    wide step may reach beyond the columns, into padding.
    """
    room = NARROW * (((columns + NARROW - 1) // NARROW) | 1)
    return min(room // WIDE, (columns + WIDE - 1) // WIDE) * WIDE


@jit
def column_steps(columns):
    """How many steps `columns` are worked off in, and how many of them, the first, are wide."""
    wide = wide_columns(columns) // WIDE
    return wide + (max(0, columns - wide * WIDE) + NARROW - 1) // NARROW, wide


@jit
def bands_of(network, piece):
    """The bands, first to stop, of one piece of the first layer."""
    bands, pieces = band_count(network.shapes[0, INPUTS]), piece_count(network.shapes[0, OUTPUTS])
    return piece * bands // pieces, (piece + 1) * bands // pieces


@jit
def forward_piece(network, chunk, inputs, piece, share, shares, samples):
    """One piece's part of the first layer's Z, for so many samples.

    Of the columns only a share, where several threads have the same piece.
    """
    band, band_stop = bands_of(network, piece)
    origin = piece * (len(chunk.parts) // piece_count(network.shapes[0, OUTPUTS]))
    _sums(
        network, inputs, FIRST_LAYER, band, band_stop, share, shares, np.int64(0), samples,
        chunk.parts, origin, np.bool_(False),
    )  # fmt: skip


@jit
def add_pieces(network, chunk, first, stop):
    """Z of the first layer, the sum of its parts, for samples first to stop; if hidden, ReLU(Z)."""
    shape = network.shapes[0]
    hidden = len(network.shapes) > 1
    pieces = piece_count(shape[OUTPUTS])
    size = len(chunk.parts) // pieces
    for s in range(first, stop):
        for column in range(s * shape[STRIDE], s * shape[STRIDE] + shape[OUTPUTS], NARROW):
            Z = load(zeros(NARROW), chunk.parts, column)
            for piece in range(1, pieces):
                Z = add(Z, load(Z, chunk.parts, piece * size + column))
            store(chunk.dense, shape[DENSE] + column, where_positive(Z, Z) if hidden else Z)
    if hidden:
        _pack_activations(network, chunk, FIRST_LAYER, first, stop)


@jit
def inputs_of(network, chunk, layer):
    """The inputs of a later layer."""
    return Inputs(chunk.rows, chunk.order, network.shapes[layer, ROWS])


@jit
def forward(network, chunk, layer, first, stop):
    """Z of a later layer for samples first to stop; if hidden, ReLU(Z), packed for the next."""
    shape = network.shapes[layer]
    hidden = layer + 1 < len(network.shapes)
    share, shares = ALL_COLUMNS
    _sums(
        network, inputs_of(network, chunk, layer), layer, np.int64(0), band_count(shape[INPUTS]),
        share, shares, first, stop, chunk.dense, shape[DENSE], hidden,
    )  # fmt: skip
    if hidden:
        _pack_activations(network, chunk, layer, first, stop)


@jit
def _sums(network, inputs, layer, band, band_stop, share, shares, first, stop, out, origin, relu):
    columns = network.shapes[layer, OUTPUTS]
    steps, wide = column_steps(columns)
    first_step, last_step = share * steps // shares, (share + 1) * steps // shares
    # Columns outside, samples inside: a block of W that fits the L1 cache meets all samples.
    for step in range(first_step, min(wide, last_step)):
        _sums_of_columns(
            zeros(WIDE), network, inputs, layer, step * WIDE, band, band_stop, first, stop,
            out, origin, relu, step == first_step,
        )  # fmt: skip
    for step in range(max(wide, first_step), last_step):
        _sums_of_columns(
            zeros(NARROW), network, inputs, layer, wide * WIDE + (step - wide) * NARROW,
            band, band_stop, first, stop, out, origin, relu, step == first_step,
        )  # fmt: skip


@jit
def _sums_of_columns(
    zero, network, inputs, layer, column, band, band_stop, first, stop, out, origin, relu, fresh
):
    shape = network.shapes[layer]
    stride = shape[STRIDE]
    rows = inputs.rows
    for s in range(first, stop):
        if fresh:
            _fetch(inputs, s, band, band_stop)
        start, end = entries_of(rows, row_of(inputs, s), band, band_stop)
        Z = sum_of_rows(
            zero, rows.entries, start, end, network.weights, shape[WEIGHTS] + column, stride
        )
        store(out, origin + s * stride + column, where_positive(Z, Z) if relu else Z)


@inlined
def _fetch(inputs, s, band, band_stop):
    """Begin to bring up, for a sample soon to come, what its row holds in some bands.

    Shuffled rows lie anywhere in memory, and the processor does not foresee where: without this
    784-10-10 takes twice as long.
    """
    rows, order, last = inputs.rows, inputs.order, np.uintp(len(inputs.order) - 1)
    at = np.uintp(inputs.first + s)
    r = np.uintp(order[min(at + np.uintp(2 * AHEAD), last)])
    prefetch(rows.bands, r * np.uintp(rows.bands.shape[1]))
    r = np.uintp(order[min(at + np.uintp(AHEAD), last)])
    first, stop = entries_of(rows, r, band, band_stop)
    for p in range(first, stop, per_line(rows.entries)):
        prefetch(rows.entries, p)


@inlined
def row_of(inputs, s):
    """The number of the row that is the input of sample s."""
    return np.uintp(inputs.order[np.uintp(inputs.first + s)])


@inlined
def entries_of(rows, r, band, band_stop):
    """The entries of row r in some bands, first to stop."""
    start = np.uintp(rows.start[r])
    return start + np.uintp(rows.bands[r, band]), start + np.uintp(rows.bands[r, band_stop])


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
    wide = wide_columns(shape[INPUTS])
    last = band_count(shape[OUTPUTS])
    for s in range(first, stop):
        pack_row(
            chunk.dense, shape[DENSE] + s * shape[STRIDE], shape[OUTPUTS], scratch.row, 0, _ONE
        )
        entries = scratch.row.bands[0, last] - 1  # without the constant
        row = before[DENSE] + s * before[STRIDE]
        for column in range(0, wide, WIDE):
            _backward_columns(zeros(WIDE), network, chunk, scratch, shape, entries, row, column)
        for column in range(wide, shape[INPUTS], NARROW):
            _backward_columns(zeros(NARROW), network, chunk, scratch, shape, entries, row, column)


@jit
def _backward_columns(zero, network, chunk, scratch, shape, entries, row, column):
    dA = sum_of_rows(
        zero, scratch.row.entries, 0, entries,
        network.transposed, shape[BACK] + column, shape[BACK_STRIDE],
    )  # fmt: skip
    A = load(zero, chunk.dense, row + column)
    store(chunk.dense, row + column, where_positive(A, dA))  # ReLU passes where it was active


@jit
def task(network, number):
    """The layer, of those after the first, and its band that are piece of work `number`."""
    layer = 1
    while layer < len(network.shapes) and number >= band_count(network.shapes[layer, INPUTS]):
        number -= band_count(network.shapes[layer, INPUTS])
        layer += 1
    return layer, number


@jit
def update(
    network, chunk, scratch, inputs, layer, band, band_stop, share, shares, samples,
    rule, rate, begins, ends,
):  # fmt: skip
    """The gradient of some bands of a layer's weights, and the optimiser's step.

    Of the columns only a share, where several threads have the same bands. A batch of several
    chunks adds up its gradient in `network.gradient`: `begins` and `ends` tell whether this chunk
    is the batch's first and last.
    """
    shape = network.shapes[layer]
    steps, wide = column_steps(shape[OUTPUTS])
    first_step, last_step = share * steps // shares, (share + 1) * steps // shares
    first_row = band * BAND
    if shape[OUTPUTS] <= NARROW:
        if first_step < last_step:
            rows = min(band_stop * BAND, shape[INPUTS] + 1) - first_row
            _update_narrow(
                zeros(NARROW), network, chunk, inputs, layer, band, band_stop, rows, samples,
                rule, rate, begins, ends,
            )  # fmt: skip
    else:
        for b in range(band, band_stop):
            row = b * BAND
            rows = min(BAND, shape[INPUTS] + 1 - row)
            _turn(inputs, scratch, b, samples)
            for step in range(first_step, min(wide, last_step)):
                _update_columns(
                    zeros(WIDE), network, chunk, scratch, shape, row, rows, step * WIDE,
                    rule, rate, begins, ends,
                )  # fmt: skip
            for step in range(max(wide, first_step), last_step):
                _update_columns(
                    zeros(NARROW), network, chunk, scratch, shape, row, rows,
                    wide * WIDE + (step - wide) * NARROW, rule, rate, begins, ends,
                )  # fmt: skip
    if layer > 0 and ends and rule.steps:
        last_row = min(band_stop * BAND, shape[INPUTS])
        _transpose_band(network, shape, first_row, last_row - first_row)


@jit
def _update_narrow(
    zero, network, chunk, inputs, layer, band, band_stop, rows, samples, rule, rate, begins, ends
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
    entries = inputs.rows.entries
    for s in range(samples):
        dZ = load(zero, chunk.dense, shape[DENSE] + s * stride)
        first, stop = entries_of(inputs.rows, row_of(inputs, s), band, band_stop)
        for p in range(first, stop):
            row = origin + np.intp(entries[p].column) * stride
            dW = add_scaled(load(zero, network.gradient, row), scaled(entries[p].value), dZ)
            store(network.gradient, row, dW)
    if ends and rule.steps:
        for k in range(rows):
            row = first_row + k * stride
            _step(load(zero, network.gradient, row), network, row, rule, rate)


@jit
def _turn(inputs, scratch, band, samples):
    """For each input of the band, the list of samples in which it is not zero, and the values."""
    entries = inputs.rows.entries
    turned, filled = scratch.turned, scratch.filled
    filled[:] = 0
    first_row = np.uintp(band * BAND)
    for s in range(samples):
        first, stop = entries_of(inputs.rows, row_of(inputs, s), band, band + 1)
        for p in range(first, stop):
            k = np.uintp(entries[p].column) - first_row
            q = k * np.uintp(TURNED) + np.uintp(filled[k])
            turned[q].column = s
            turned[q].value = scaled(entries[p].value)
            filled[k] += 1


@jit
def _update_columns(
    zero, network, chunk, scratch, shape, first_row, rows, column, rule, rate, begins, ends
):
    filled = scratch.filled
    unmoved = rule.steps and not rule.momentum and begins and ends  # where no sample has an entry
    for k in range(rows):
        if unmoved and filled[k] == 0:
            continue
        at = shape[WEIGHTS] + (first_row + k) * shape[STRIDE] + column
        dW = sum_of_rows(
            zero if begins else load(zero, network.gradient, at),
            scratch.turned, k * TURNED, k * TURNED + filled[k],
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

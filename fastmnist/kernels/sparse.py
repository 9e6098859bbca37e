"""The first layer from packed rows: zeros are free.

    forward    Z[s]  = sum of x[s, k] * W[k]    over the non-zero inputs k of sample s
    update     dW[k] = sum of x[s, k] * dZ[s]   over the samples s whose input k is non-zero

Both are `sum_of_rows`: a list of (column, value) and a matrix whose rows are gathered, the sum held
in registers, as many columns at a time as they hold. For the update the chunk is turned round: for
each input, the list of its samples.
"""

from __future__ import annotations

import numpy as np

from fastmnist.kernels.jit import chosen, jit
from fastmnist.kernels.network import (
    ADDS,
    FIRST,
    FIRST_BAND,
    FIRST_COLUMN,
    INPUTS,
    LAST_BAND,
    LAST_COLUMN,
    PART,
    STRIDE,
    TURNED,
    WEIGHTS,
)
from fastmnist.kernels.packed import BAND, column_of, put, value_of
from fastmnist.kernels.step import finish, step
from fastmnist.kernels.vectors import (
    MIDDLE,
    NARROW,
    WIDE,
    add,
    add_scaled,
    add_scaled_row,
    load,
    opaque,
    per_line,
    prefetch,
    store,
    zeros,
)

_AHEAD = 8  # samples whose rows are under way from memory


@chosen
def sum_of_rows(zero, entries, first, stop, matrix, origin, stride):
    """The sum of value * row `column` of `matrix`, over the entries from first to stop.

    Rows begin at `origin` and are `stride` apart; as many columns as `zero` has lanes.
    """
    return _sum_of_narrow_rows if len(zero) == NARROW else _sum_of_wide_rows


def _sum_of_wide_rows(zero, entries, first, stop, matrix, origin, stride):
    total = zero
    p, end = np.uintp(first), np.uintp(stop)
    while p < end:
        x, k = value_of(entries, p), column_of(entries, p) * stride
        total = add_scaled_row(total, x, matrix, origin + k)
        p = opaque(p + np.uintp(1))  # lists are short: an unrolled loop has two ends to mispredict
    return total


def _sum_of_narrow_rows(zero, entries, first, stop, matrix, origin, stride):
    # Four independent sums hide the latency of the multiply-add, as the lanes of WIDE do.
    total = second = third = fourth = zero
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
    while p < end:
        x, k = value_of(entries, p), column_of(entries, p) * stride
        total = add_scaled_row(total, x, matrix, origin + k)
        p += np.uintp(1)
    return add(add(total, second), add(third, fourth))


@jit
def forward_sparse(network, chunk, inputs, piece, samples):
    """One piece's part of Z, for so many samples."""
    band, last_band = piece[FIRST_BAND], piece[LAST_BAND]
    column, last_column = piece[FIRST_COLUMN], piece[LAST_COLUMN]
    out, adds = piece[PART] * chunk.part, piece[ADDS] != 0
    if last_column - column == NARROW:
        # all of W fits the L1 cache, and one long list is better than several short ones
        _forward_columns(
            zeros(NARROW), network, chunk, inputs, column, band, last_band, samples, out, adds, True
        )
        return
    # Bands and columns outside, samples inside: a block of W that fits the cache meets all samples.
    for b in range(band, last_band):
        c = column
        while c < last_column:
            if c + WIDE <= last_column:
                _forward_columns(
                    zeros(WIDE), network, chunk, inputs, c, b, b + 1, samples, out,
                    adds or b > band, False,
                )  # fmt: skip
                c += WIDE
            else:
                _forward_columns(
                    zeros(MIDDLE), network, chunk, inputs, c, b, b + 1, samples, out,
                    adds or b > band, False,
                )  # fmt: skip
                c += MIDDLE


@jit
def _forward_columns(
    zero, network, chunk, inputs, column, band, last_band, samples, out, adds, fetches
):
    shape = network.shapes[0]
    stride, weights = shape[STRIDE], shape[WEIGHTS] + column
    rows, order, bands = inputs.rows, inputs.order, inputs.rows.bands
    here, last = np.uintp(inputs.first), np.uintp(len(order) - 1)
    r = np.uintp(order[here])
    begin, end = np.uintp(bands[r, band]), np.uintp(bands[r, last_band])
    for s in range(samples):
        if fetches:
            _fetch(rows, order, here, band, last_band)
        # Where the next list stands is read before this one is summed: the end of a short loop is
        # often mispredicted, and all that follows would wait for it (1.1 times as slow).
        here = min(here + np.uintp(1), last)
        r = np.uintp(order[here])
        next_begin, next_end = np.uintp(bands[r, band]), np.uintp(bands[r, last_band])
        prefetch(rows.entries, next_begin)
        Z = sum_of_rows(zero, rows.entries, begin, end, network.weights, weights, stride)
        at = out + s * stride + column
        store(chunk.parts, at, add(load(zero, chunk.parts, at), Z) if adds else Z)
        begin, end = next_begin, next_end


@jit
def _fetch(rows, order, at, band, last_band):
    """Begin to bring up, for a sample soon to come, what its row holds in some bands.

    Shuffled rows lie anywhere in memory, and the processor does not foresee where: without this
    784-10-10 takes twice as long.
    """
    last = np.uintp(len(order) - 1)
    r = np.uintp(order[min(at + np.uintp(2 * _AHEAD), last)])
    prefetch(rows.bands, r * np.uintp(rows.bands.shape[1]))
    r = np.uintp(order[min(at + np.uintp(_AHEAD), last)])
    for p in range(rows.bands[r, band], rows.bands[r, last_band], per_line(rows.entries)):
        prefetch(rows.entries, p)


@jit
def turn(network, scratch, inputs, piece, samples):
    """For each input of a piece, the list of samples in which it is not zero, and the values.

    A sample's list is read from end to end, which also brings it up from memory for all that
    follows. A narrow layer does without: turning costs more than it saves.
    """
    if piece[LAST_COLUMN] - piece[FIRST_COLUMN] <= NARROW:
        return
    band, last_band = piece[FIRST_BAND], piece[LAST_BAND]
    bands, entries = inputs.rows.bands, inputs.rows.entries
    turned, filled = scratch.turned, scratch.filled
    for k in range(band * BAND, min(last_band * BAND, network.shapes[0, INPUTS] + 1)):
        filled[k] = k * TURNED
    for s in range(samples):
        at = np.uintp(inputs.first + s)
        _fetch(inputs.rows, inputs.order, at, band, last_band)
        r = np.uintp(inputs.order[at])
        for p in range(np.uintp(bands[r, band]), np.uintp(bands[r, last_band])):
            k = column_of(entries, p)
            q = np.uintp(filled[k])
            put(turned, q, s, value_of(entries, p))
            filled[k] = q + np.uintp(1)


@jit
def update_sparse(network, scratch, inputs, dZ, piece, samples, rule, pace, begins, ends):
    """The gradient of one piece's weights, and the optimiser's step; after `turn`."""
    column, last_column = piece[FIRST_COLUMN], piece[LAST_COLUMN]
    k = piece[FIRST_BAND] * BAND
    last_k = min(piece[LAST_BAND] * BAND, network.shapes[0, INPUTS] + 1)
    if last_column - column == NARROW:
        _update_narrow(zeros(NARROW), network, inputs, dZ, piece, k, last_k, samples, begins)
        if ends and rule.steps:
            step(network, FIRST, k, last_k, column, last_column, rule, pace)
        return
    c = column
    while c < last_column:
        if c + WIDE <= last_column:
            _update_columns(
                zeros(WIDE), network, scratch, dZ, k, last_k, c, rule, pace, begins, ends
            )
            c += WIDE
        else:
            _update_columns(
                zeros(MIDDLE), network, scratch, dZ, k, last_k, c, rule, pace, begins, ends
            )
            c += MIDDLE
    if ends and rule.steps and not rule.plain:
        step(network, FIRST, k, last_k, column, last_column, rule, pace)


@jit
def _update_columns(zero, network, scratch, dZ, first_k, last_k, column, rule, pace, begins, ends):
    shape, filled = network.shapes[0], scratch.filled
    unmoved = rule.plain and begins and ends  # where no sample has an entry
    for k in range(first_k, last_k):
        first, stop = k * TURNED, filled[k]
        if unmoved and stop == first:
            continue
        at = shape[WEIGHTS] + k * shape[STRIDE] + column
        dW = sum_of_rows(
            zero, scratch.turned, first, stop, dZ.numbers, dZ.origin + column, dZ.stride
        )
        if not begins:
            dW = add(load(zero, network.gradient, at), dW)
        finish(dW, network, at, shape[STRIDE], rule, pace, ends)


@jit
def _update_narrow(zero, network, inputs, dZ, piece, first_k, last_k, samples, begins):
    """The gradient of a layer whose dZ fits one register: straight from the packed rows.

    Its rows are loaded and stored for every entry, and stay in the L1 cache. Turning the chunk
    round to save that costs more than it saves (784-10-10: twice as slow).
    """
    shape = network.shapes[0]
    stride, origin = shape[STRIDE], shape[WEIGHTS]
    if begins:
        for k in range(first_k, last_k):
            store(network.gradient, origin + k * stride, zero)
    band, last_band = piece[FIRST_BAND], piece[LAST_BAND]
    bands, entries = inputs.rows.bands, inputs.rows.entries
    for s in range(samples):
        of_sample = load(zero, dZ.numbers, dZ.origin + s * dZ.stride)
        r = np.uintp(inputs.order[np.uintp(inputs.first + s)])
        for p in range(np.uintp(bands[r, band]), np.uintp(bands[r, last_band])):
            row = origin + column_of(entries, p) * stride
            dW = add_scaled(load(zero, network.gradient, row), value_of(entries, p), of_sample)
            store(network.gradient, row, dW)

"""The first layer for rows with few zeros: sums over all inputs, four of them at the same time.

Where zeros are skipped, each row that is loaded takes part in one multiply-add, and the loads are
the limit. Here it takes part in four: a row of W for four samples forward, a row of dZ for four
inputs in the update. A processor with two loads and one multiply-add a cycle then does little but
multiply and add. The chunk's inputs are copied, scaled, into a panel of the thread's own first.
"""

from __future__ import annotations

import numpy as np
from numba.core import types
from numba.extending import overload

from fastmnist.kernels.jit import jit
from fastmnist.kernels.network import (
    DENSE,
    FIRST_BAND,
    FIRST_STEP,
    INPUTS,
    LAST_BAND,
    LAST_STEP,
    PIECE,
    STRIDE,
    WEIGHTS,
    WIDE_STEPS,
)
from fastmnist.kernels.packed import BAND
from fastmnist.kernels.step import finish
from fastmnist.kernels.vectors import (
    NARROW,
    WIDE,
    add_scaled,
    load,
    per_line,
    prefetch,
    store,
    zeros,
)
from fastmnist.parameters import BLOCK

_AHEAD = 4  # samples whose rows are under way from memory


@jit
def forward_dense(network, chunk, scratch, inputs, piece, samples):
    """One piece's part of the first layer's Z, for so many samples."""
    wide = network.shapes[0, WIDE_STEPS]
    _copy(network, scratch, inputs, piece, samples)
    for step in range(piece[FIRST_STEP], piece[LAST_STEP]):
        if step < wide:
            _forward_columns(zeros(WIDE), network, chunk, scratch, piece, samples, step * WIDE)
        else:
            column = wide * WIDE + (step - wide) * NARROW
            _forward_columns(zeros(NARROW), network, chunk, scratch, piece, samples, column)


@jit
def update_dense(network, chunk, scratch, piece, samples, rule, rate, begins, ends):
    """The gradient of one piece's weights, and the optimiser's step; after `forward_dense`."""
    wide = network.shapes[0, WIDE_STEPS]
    for step in range(piece[FIRST_STEP], piece[LAST_STEP]):
        if step < wide:
            _update_columns(
                zeros(WIDE), network, chunk, scratch, piece, samples, step * WIDE,
                rule, rate, begins, ends,
            )  # fmt: skip
        else:
            _update_columns(
                zeros(NARROW), network, chunk, scratch, piece, samples,
                wide * WIDE + (step - wide) * NARROW, rule, rate, begins, ends,
            )  # fmt: skip


@jit
def _inputs_of(network, piece):
    """The piece's first input and the one behind its last, the constant 1 included."""
    return piece[FIRST_BAND] * BAND, min(piece[LAST_BAND] * BAND, network.shapes[0, INPUTS] + 1)


@jit
def _copy(network, scratch, inputs, piece, samples):
    """Bring the piece's inputs of all samples into the panel, scaled, and the constant 1."""
    X, order, panel = inputs.rows.X, inputs.order, scratch.panel
    columns = network.shapes[0, INPUTS]
    first, stop = _inputs_of(network, piece)
    last = np.uintp(len(order) - 1)
    for s in range(samples):
        at = np.uintp(inputs.first + s)
        coming = order[min(at + np.uintp(_AHEAD), last)] * columns
        for k in range(first, min(stop, columns), per_line(X)):
            prefetch(X, coming + k)
        row, out = X[order[at]], panel[s]
        for k in range(np.uintp(first), np.uintp(min(stop, columns))):
            out[k] = _scaled(row[k])
        if stop > columns:
            out[np.uintp(columns)] = 1


def _scaled(x):
    raise NotImplementedError("compiled only")


@overload(_scaled)
def _scaled_pixel_or_feature(x):
    if x == types.uint8:
        return lambda x: np.float32(x) / np.float32(255)
    return lambda x: x


@jit
def _forward_columns(zero, network, chunk, scratch, piece, samples, column):
    shape, panel = network.shapes[0], scratch.panel
    stride, origin = shape[STRIDE], shape[WEIGHTS] + column
    out = piece[PIECE] * chunk.parts.shape[1] + column
    first, stop = _inputs_of(network, piece)
    for s in range(0, samples, BLOCK):  # behind the last sample there is room for a whole block
        x0, x1, x2, x3 = panel[s], panel[s + 1], panel[s + 2], panel[s + 3]
        Z0 = Z1 = Z2 = Z3 = zero
        for k in range(np.uintp(first), np.uintp(stop)):
            W = load(zero, network.weights, origin + k * stride)
            Z0 = add_scaled(Z0, x0[k], W)
            Z1 = add_scaled(Z1, x1[k], W)
            Z2 = add_scaled(Z2, x2[k], W)
            Z3 = add_scaled(Z3, x3[k], W)
        store(chunk.parts, out + s * stride, Z0)
        store(chunk.parts, out + (s + 1) * stride, Z1)
        store(chunk.parts, out + (s + 2) * stride, Z2)
        store(chunk.parts, out + (s + 3) * stride, Z3)


@jit
def _update_columns(
    zero, network, chunk, scratch, piece, samples, column, rule, rate, begins, ends
):
    shape, panel = network.shapes[0], scratch.panel
    stride = shape[STRIDE]
    first, stop = _inputs_of(network, piece)
    for k in range(first, stop, BLOCK):  # behind the last input there is padding to a whole block
        at = shape[WEIGHTS] + k * stride + column
        dW0 = zero if begins else load(zero, network.gradient, at)
        dW1 = zero if begins else load(zero, network.gradient, at + stride)
        dW2 = zero if begins else load(zero, network.gradient, at + 2 * stride)
        dW3 = zero if begins else load(zero, network.gradient, at + 3 * stride)
        for s in range(np.uintp(samples)):
            dZ = load(zero, chunk.dense, shape[DENSE] + column + s * stride)
            x = panel[s]
            dW0 = add_scaled(dW0, x[np.uintp(k)], dZ)
            dW1 = add_scaled(dW1, x[np.uintp(k + 1)], dZ)
            dW2 = add_scaled(dW2, x[np.uintp(k + 2)], dZ)
            dW3 = add_scaled(dW3, x[np.uintp(k + 3)], dZ)
        finish(dW0, network, at, rule, rate, ends)
        finish(dW1, network, at + stride, rule, rate, ends)
        finish(dW2, network, at + 2 * stride, rule, rate, ends)
        finish(dW3, network, at + 3 * stride, rule, rate, ends)

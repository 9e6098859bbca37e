"""Products of matrices: sums over all inputs, zeros too, several of them at the same time.

Where zeros are skipped, each row that is loaded takes part in one multiply-add, and the loads are
the limit. Here it takes part in several: a row of W for a block of samples, a row of dZ for a block
of inputs. A processor with two loads and one multiply-add a cycle then does little but multiply and
add. It pays for all layers after the first, of whose inputs only half are zero (finding those takes
as long as it saves: 784-256-128-10 took 1.3 times as long), and for a first layer whose rows have
few zeros.
"""

from __future__ import annotations

import numpy as np

from fastmnist.kernels.jit import chosen, jit, kind_of
from fastmnist.kernels.network import (
    ADDS,
    FIRST,
    FIRST_BAND,
    FIRST_COLUMN,
    INPUT_STRIDE,
    INPUTS,
    LAST_BAND,
    LAST_COLUMN,
    PART,
    STRIDE,
    WEIGHTS,
    Matrix,
)
from fastmnist.kernels.packed import BAND
from fastmnist.kernels.step import finish, step
from fastmnist.kernels.vectors import (
    MR,
    NARROW,
    NARROW_MR,
    NR,
    REST,
    add,
    add_outer,
    load,
    load_rows,
    per_line,
    prefetch,
    row_count,
    store_rows,
    zero_rows,
    zeros,
)

_AHEAD = 4  # samples whose rows are under way from memory


@jit
def multiply(X, W, k, last_k, s, last_s, column, last_column, Z, adds):
    """Rows s to last_s and some columns of Z = X W, or Z += X W, over inputs k to last_k.

    Behind the last row of Z there must be room for a whole block.
    """
    while column + NR <= last_column:
        rest = _multiply_columns(
            zero_rows(MR, NR), zeros(NR), X, W, k, last_k, s, last_s - (MR - 1), column, Z, adds
        )
        _multiply_columns(
            zero_rows(REST, NR), zeros(NR), X, W, k, last_k, rest, last_s, column, Z, adds
        )
        column += NR
    while column < last_column:
        _multiply_columns(
            zero_rows(NARROW_MR, NARROW), zeros(NARROW), X, W, k, last_k, s, last_s, column, Z,
            adds,
        )  # fmt: skip
        column += NARROW


@jit
def _multiply_columns(block, row, X, W, k, last_k, s, last_s, column, Z, adds):
    """Blocks of rows that begin before `last_s`; where the next one would."""
    while s < last_s:
        sums = block
        for i in range(k, last_k):
            at = W.origin + i * W.stride + column
            sums = add_outer(
                sums, X.numbers, X.origin + s * X.stride + i, X.stride, load(row, W.numbers, at)
            )
        at = Z.origin + s * Z.stride + column
        if adds:
            sums = add(load_rows(sums, Z.numbers, at, Z.stride), sums)
        store_rows(Z.numbers, at, Z.stride, sums)
        s += row_count(block)
    return s


@jit
def update(
    network, layer, X, dZ, k, last_k, samples, column, last_column, rule, pace, begins, ends
):
    """Some columns of dW = X.T dZ, for inputs k to last_k, and the optimiser's step.

    Behind the last input there must be padding to a whole block. A batch of several chunks adds up
    its gradient in `network.gradient`: `begins` and `ends` tell whether this chunk is the batch's
    first and last.
    """
    c = column
    while c + NR <= last_column:
        rest = _update_columns(
            zero_rows(MR, NR), zeros(NR), network, layer, X, dZ, k, last_k - (MR - 1), samples,
            c, rule, pace, begins, ends,
        )  # fmt: skip
        _update_columns(
            zero_rows(REST, NR), zeros(NR), network, layer, X, dZ, rest, last_k, samples,
            c, rule, pace, begins, ends,
        )  # fmt: skip
        c += NR
    while c < last_column:
        _update_columns(
            zero_rows(NARROW_MR, NARROW), zeros(NARROW), network, layer, X, dZ, k, last_k,
            samples, c, rule, pace, begins, ends,
        )  # fmt: skip
        c += NARROW
    if ends and rule.steps and not rule.plain:
        step(network, layer, k, last_k, column, last_column, rule, pace)


@jit
def _update_columns(
    block, row, network, layer, X, dZ, k, last_k, samples, column, rule, pace, begins, ends
):
    """Blocks of inputs that begin before `last_k`; where the next one would."""
    stride = network.shapes[layer, STRIDE]
    while k < last_k:
        at = network.shapes[layer, WEIGHTS] + k * stride + column
        dW = block
        for s in range(samples):
            of_sample = load(row, dZ.numbers, dZ.origin + s * dZ.stride + column)
            dW = add_outer(dW, X.numbers, X.origin + s * X.stride + k, 1, of_sample)
        if not begins:
            dW = add(load_rows(block, network.gradient, at, stride), dW)
        finish(dW, network, at, stride, rule, pace, ends)
        k += row_count(block)
    return k


@jit
def forward_dense(network, chunk, scratch, inputs, piece, samples):
    """One piece's part of the first layer's Z, for so many samples."""
    _copy(network, scratch, inputs, piece, samples)
    shape = network.shapes[0]
    for band in range(piece[FIRST_BAND], piece[LAST_BAND]):
        multiply(
            Matrix(scratch.panel, FIRST, shape[INPUT_STRIDE]),
            Matrix(network.weights, shape[WEIGHTS], shape[STRIDE]),
            band * BAND, min((band + 1) * BAND, shape[INPUTS] + 1), FIRST, samples,
            piece[FIRST_COLUMN], piece[LAST_COLUMN],
            Matrix(chunk.parts, piece[PART] * chunk.part, shape[STRIDE]),
            piece[ADDS] != 0 or band > piece[FIRST_BAND],
        )  # fmt: skip


@jit
def update_dense(network, scratch, dZ, piece, samples, rule, pace, begins, ends):
    """The gradient of one piece's weights, and the optimiser's step; after `forward_dense`."""
    first, stop = _inputs_of(network, piece)
    update(
        network, FIRST, Matrix(scratch.panel, FIRST, network.shapes[0, INPUT_STRIDE]), dZ,
        first, stop, samples, piece[FIRST_COLUMN], piece[LAST_COLUMN], rule, pace, begins, ends,
    )  # fmt: skip


@jit
def _inputs_of(network, piece):
    """The piece's first input and the one behind its last, the constant 1 included."""
    return piece[FIRST_BAND] * BAND, min(piece[LAST_BAND] * BAND, network.shapes[0, INPUTS] + 1)


@jit
def _copy(network, scratch, inputs, piece, samples):
    """Bring the piece's inputs of all samples into the panel, scaled, and the constant 1."""
    X, order, panel = inputs.rows.X, inputs.order, scratch.panel
    columns, stride = network.shapes[0, INPUTS], network.shapes[0, INPUT_STRIDE]
    first, stop = _inputs_of(network, piece)
    last = np.uintp(len(order) - 1)
    for s in range(samples):
        at = np.uintp(inputs.first + s)
        coming = order[min(at + np.uintp(_AHEAD), last)] * columns
        for k in range(first, min(stop, columns), per_line(X)):
            prefetch(X, coming + k)
        row, out = X[order[at]], np.uintp(s * stride)
        for k in range(np.uintp(first), np.uintp(min(stop, columns))):
            panel[out + k] = scaled_input(row[k])
        if stop > columns:
            panel[out + np.uintp(columns)] = 1


@chosen
def scaled_input(x):
    """A pixel, scaled to [0, 1]; a feature as it is."""
    if kind_of(x) is np.uint8:
        return lambda x: np.float32(x) / np.float32(255)
    return lambda x: x

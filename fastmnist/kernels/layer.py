"""One layer, for the samples of a chunk: forward, backward, update.

The first layer is divided among the threads by its inputs, in the form that suits its rows: packed
(`sparse.py`) or dense (`dense.py`). Of the later layers, whose inputs are the activations before,
the threads divide the samples forward and backward, and the inputs in the update.
"""

from __future__ import annotations

import numpy as np

from fastmnist.kernels.dense import forward_dense, multiply, update, update_dense
from fastmnist.kernels.jit import chosen, jit, kind_of
from fastmnist.kernels.network import (
    COLUMNS,
    FIRST,
    INPUT_COLUMNS,
    INPUT_STRIDE,
    INPUTS,
    OUT,
    OUTPUTS,
    STRIDE,
    TASK,
    TRANSPOSED,
    WEIGHTS,
    Matrix,
)
from fastmnist.kernels.packed import Dense
from fastmnist.kernels.random_lanes import sample_key, where_kept
from fastmnist.kernels.sparse import forward_sparse, turn, update_sparse
from fastmnist.kernels.vectors import (
    NARROW,
    add,
    load,
    scaled,
    store,
    transpose_square,
    where_positive,
    zeros,
)

_ONE = np.float32(1)


@chosen
def turn_piece(network, scratch, inputs, piece, samples):
    """What `update_piece` wants to be done before."""
    if _is_dense(inputs):
        return lambda network, scratch, inputs, piece, samples: None
    return lambda network, scratch, inputs, piece, samples: turn(
        network, scratch, inputs, piece, samples
    )


@chosen
def forward_piece(network, chunk, scratch, inputs, piece, samples):
    """One piece's part of the first layer's Z, for so many samples."""
    if _is_dense(inputs):
        return lambda network, chunk, scratch, inputs, piece, samples: forward_dense(
            network, chunk, scratch, inputs, piece, samples
        )
    return lambda network, chunk, scratch, inputs, piece, samples: forward_sparse(
        network, chunk, inputs, piece, samples
    )


@chosen
def update_piece(network, chunk, scratch, inputs, piece, samples, rule, pace, begins, ends):
    """The gradient of one piece of the first layer's weights, and the optimiser's step."""

    def of_dense(network, chunk, scratch, inputs, piece, samples, rule, pace, begins, ends):
        dZ = _rows(chunk.dZ, network, FIRST)
        update_dense(network, scratch, dZ, piece, samples, rule, pace, begins, ends)

    def of_packed(network, chunk, scratch, inputs, piece, samples, rule, pace, begins, ends):
        dZ = _rows(chunk.dZ, network, FIRST)
        update_sparse(network, scratch, inputs, dZ, piece, samples, rule, pace, begins, ends)

    return of_dense if _is_dense(inputs) else of_packed


def _is_dense(inputs):
    return kind_of(inputs[0]) is Dense


@jit
def _rows(outputs, network, layer):
    """A layer's rows of the outputs, or of their gradients."""
    return Matrix(outputs, network.shapes[layer, OUT], network.shapes[layer, STRIDE])


@jit
def add_parts(network, chunk, first, stop, dropout):
    """Z of the first layer, the sum of its parts, for samples first to stop; if hidden, ReLU(Z)."""
    shape = network.shapes[0]
    for s in range(first, stop):
        row = s * shape[STRIDE]
        for column in range(row, row + shape[COLUMNS], NARROW):
            Z = load(zeros(NARROW), chunk.parts, column)
            Z = add(Z, load(Z, chunk.parts, chunk.part + column))
            store(chunk.outputs, shape[OUT] + column, Z)
    if len(network.shapes) > 1:
        _activate(network, chunk, FIRST, first, stop, dropout)


@jit
def forward(network, chunk, layer, first, stop, dropout):
    """Z of a later layer for samples first to stop; if hidden, ReLU(Z)."""
    shape = network.shapes[layer]
    multiply(
        _rows(chunk.outputs, network, layer - 1),
        Matrix(network.weights, shape[WEIGHTS], shape[STRIDE]),
        FIRST, shape[INPUTS] + 1, first, stop, FIRST, shape[COLUMNS],
        _rows(chunk.outputs, network, layer), False,
    )  # fmt: skip
    if layer + 1 < len(network.shapes):
        _activate(network, chunk, layer, first, stop, dropout)


@jit
def _activate(network, chunk, layer, first, stop, dropout):
    """Z becomes ReLU(Z), without what dropout leaves out, and with the constant 1 behind it."""
    A, columns = _rows(chunk.outputs, network, layer), network.shapes[layer, COLUMNS]
    _keep_where_positive(A, A, columns, first, stop, _ONE)
    for s in range(first, stop):
        row = A.origin + s * A.stride
        if dropout.hidden:
            drop_out(A.numbers, row, columns, dropout, s, layer + 1)
        A.numbers[row + network.shapes[layer, OUTPUTS]] = _ONE


@jit
def drop_out(numbers, row, columns, dropout, s, layer):
    """Leave out some of the inputs of `layer`, of sample s, that stand from `row` on."""
    key = sample_key(dropout.key, dropout.order[dropout.first + s], layer)
    least = dropout.hidden if layer else dropout.inputs
    scale = dropout.hidden_scale if layer else dropout.inputs_scale
    for column in range(0, columns, NARROW):
        kept = load(zeros(NARROW), numbers, row + column)
        store(numbers, row + column, where_kept(kept, key, column, least, scale))


@jit
def backward(network, chunk, layer, first, stop, dropout):
    """From dZ of `layer` to dZ of the layer before, over its activations, samples first to stop."""
    shape = network.shapes[layer]
    dA = _rows(chunk.dZ, network, layer - 1)
    multiply(
        _rows(chunk.dZ, network, layer),
        Matrix(network.transposed, shape[TRANSPOSED], shape[INPUT_STRIDE]),
        FIRST, shape[OUTPUTS], first, stop, FIRST, shape[INPUT_COLUMNS], dA, False,
    )  # fmt: skip
    A = _rows(chunk.outputs, network, layer - 1)
    _keep_where_positive(dA, A, shape[INPUT_COLUMNS], first, stop, dropout.hidden_scale)


@jit
def _keep_where_positive(X, condition, columns, first, stop, scale):
    """Of rows first to stop of X, `scale` times what stands where `condition` is > 0; else 0.

    What dropout has left out is 0, so it needs no code here.
    """
    for s in range(first, stop):
        at, other = X.origin + s * X.stride, condition.origin + s * condition.stride
        for column in range(0, columns, NARROW):
            kept = where_positive(
                load(zeros(NARROW), condition.numbers, other + column),
                load(zeros(NARROW), X.numbers, at + column),
            )
            store(X.numbers, at + column, scaled(kept, scale))


@jit
def update_task(network, chunk, layer, k, samples, rule, pace, begins, ends):
    """The gradient of a later layer's weights of `TASK` inputs from k on, and the step."""
    shape = network.shapes[layer]
    update(
        network, layer, _rows(chunk.outputs, network, layer - 1), _rows(chunk.dZ, network, layer),
        k, min(k + TASK, shape[INPUTS] + 1), samples, FIRST, shape[COLUMNS],
        rule, pace, begins, ends,
    )  # fmt: skip
    if ends and rule.steps:
        _transpose(network, layer, k, min(k + TASK, shape[INPUTS]))


@jit
def _transpose(network, layer, k, last):
    """Bring the transposed copy of W, for `backward`, up to date for inputs k to last."""
    shape = network.shapes[layer]
    stride, back = shape[STRIDE], shape[INPUT_STRIDE]
    while k + NARROW <= last:
        for j in range(0, shape[OUTPUTS], NARROW):
            transpose_square(
                network.weights, shape[WEIGHTS] + k * stride + j, stride,
                network.transposed, shape[TRANSPOSED] + j * back + k, back,
            )  # fmt: skip
        k += NARROW
    while k < last:
        for j in range(shape[OUTPUTS]):
            weight = network.weights[shape[WEIGHTS] + k * stride + j]
            network.transposed[shape[TRANSPOSED] + j * back + k] = weight
        k += 1

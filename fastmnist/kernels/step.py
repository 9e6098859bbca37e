"""What becomes of a gradient: the optimiser's step, or a place to be added to."""

from __future__ import annotations

from fastmnist.kernels.jit import jit
from fastmnist.kernels.network import STRIDE, WEIGHTS
from fastmnist.kernels.vectors import (
    NARROW,
    add_scaled,
    load,
    load_rows,
    over_root,
    scaled,
    squared,
    store,
    store_rows,
    zeros,
)


@jit
def finish(dW, network, at, stride, rule, pace, ends):
    """Descend along the gradient `dW` of the weights from `at` on, or keep it for `step`.

    `dW` has one or more rows, `stride` apart in memory.
    """
    if ends and rule.plain:
        _descend(dW, network, at, stride, pace)
    else:
        store_rows(network.gradient, at, stride, dW)


@jit
def _descend(dW, network, at, stride, pace):
    # A function of its own, without branches: only then does Numba see that references to arrays
    # need not be counted here (784-128-10: 1.1 times as slow).
    W = load_rows(dW, network.weights, at, stride)
    store_rows(network.weights, at, stride, add_scaled(W, -pace.rate, dW))


@jit
def step(network, layer, k, last_k, column, last_column, rule, pace):
    """Any other step than plain descent, of a layer's weights of inputs k to last_k.

    The gradient comes from memory. Were it passed in registers, all of this would be compiled for
    every number of columns and rows, and slow down plain steps, too (784-128-10: 1.2 times).
    """
    stride, like = network.shapes[layer, STRIDE], zeros(NARROW)
    first = network.shapes[layer, WEIGHTS] + k * stride
    for row in range(first, first + (last_k - k) * stride, stride):
        for at in range(row + column, row + last_column, NARROW):
            # All is loaded before anything is stored: W and v often begin at the same place of a
            # page, and a processor takes a load for one of what was just stored there (1.3 times
            # as slow).
            W, dW = load(like, network.weights, at), load(like, network.gradient, at)
            v, s = load(like, network.velocity, at), load(like, network.squares, at)
            dW = add_scaled(dW, rule.decay, W)
            if rule.adaptive:
                v = add_scaled(scaled(dW, rule.gain1), rule.momentum, v)
                s = add_scaled(scaled(squared(dW), rule.gain2), rule.beta2, s)
                dW = over_root(v, s, pace.epsilon)
                store(network.squares, at, s)
                store(network.velocity, at, v)
            elif rule.momentum:
                v = add_scaled(dW, rule.momentum, v)
                dW = add_scaled(dW, rule.momentum, v) if rule.nesterov else v
                store(network.velocity, at, v)
            store(network.weights, at, add_scaled(scaled(W, pace.keep), -pace.rate, dW))

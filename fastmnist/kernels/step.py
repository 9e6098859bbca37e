"""What becomes of a gradient: the optimiser's step, or a place to be added to."""

from __future__ import annotations

from fastmnist.kernels.jit import jit
from fastmnist.kernels.vectors import add_scaled, load_rows, store_rows


@jit
def finish(dW, row, network, at, stride, rule, rate, ends):
    """Step with the gradient `dW` of the weights from `at` on, if the batch ends; else keep it.

    `dW` has one or more rows, `stride` apart in memory.
    """
    if ends and rule.steps:
        step(dW, row, network, at, stride, rule, rate)
    else:
        store_rows(network.gradient, at, stride, dW, row)


@jit
def step(dW, row, network, at, stride, rule, rate):
    """The optimiser's step, with momentum v: v = momentum * v + dW, W = W - rate * v.

    Nesterov's looks ahead: W = W - rate * (dW + momentum * v).
    """
    # All is loaded before anything is stored: W and v often begin at the same place of a page, and
    # a processor takes a load for one of what was just stored there (Nesterov: 1.4 times SGD then,
    # 1.1 so).
    W = load_rows(dW, row, network.weights, at, stride)
    if rule.momentum:
        v = add_scaled(dW, rule.momentum, load_rows(dW, row, network.velocity, at, stride))
        dW = add_scaled(dW, rule.momentum, v) if rule.nesterov else v
        store_rows(network.velocity, at, stride, v, row)
    store_rows(network.weights, at, stride, add_scaled(W, -rate, dW), row)

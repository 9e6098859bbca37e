"""What becomes of a gradient: the optimiser's step, or a place to be added to."""

from __future__ import annotations

from fastmnist.kernels.jit import jit
from fastmnist.kernels.vectors import add_scaled, load, store


@jit
def finish(dW, network, at, rule, rate, ends):
    """Step with the gradient `dW` of the weights from `at` on, if the batch ends; else keep it."""
    if ends and rule.steps:
        step(dW, network, at, rule, rate)
    else:
        store(network.gradient, at, dW)


@jit
def step(dW, network, at, rule, rate):
    """The optimiser's step, with momentum v: v = momentum * v + dW, W = W - rate * v.

    Nesterov's looks ahead: W = W - rate * (dW + momentum * v).
    """
    if rule.momentum:
        v = add_scaled(dW, rule.momentum, load(dW, network.velocity, at))
        store(network.velocity, at, v)
        dW = add_scaled(dW, rule.momentum, v) if rule.nesterov else v
    store(network.weights, at, add_scaled(load(dW, network.weights, at), -rate, dW))

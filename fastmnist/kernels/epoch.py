"""What each thread of a team runs: one epoch of training."""

from __future__ import annotations

import numpy as np

from fastmnist.kernels.barrier import wait_for_all
from fastmnist.kernels.fresh import inputs_of, made_anew, make_rows
from fastmnist.kernels.jit import entry, jit
from fastmnist.kernels.layer import (
    add_parts,
    backward,
    forward,
    forward_piece,
    turn_piece,
    update_piece,
    update_task,
)
from fastmnist.kernels.network import (
    CHUNK,
    OUT,
    OUTPUTS,
    STRIDE,
    Dropout,
    Pace,
)
from fastmnist.kernels.phases import (
    BACKWARD,
    FORWARD,
    FRESH,
    LATER,
    LATER_UPDATE,
    LOSS,
    TURN,
    UPDATE,
    WAIT,
    lap,
)
from fastmnist.kernels.phases import start as start_clock
from fastmnist.kernels.vectors import (
    NARROW,
    add,
    exponential,
    first_lanes,
    flush_denormals,
    largest_lane,
    load,
    maximum,
    restore,
    scaled,
    shifted,
    store,
    sum_of_lanes,
    zeros,
)
from fastmnist.parameters import BLOCK

_ZERO, _ONE = np.float32(0), np.float32(1)


@entry
def train(
    words, member, members, pieces, network, chunk, scratch, rows, labels, weights, order,
    batch_size, paces, rule, smoothing, dropout, losses, ticks,
):  # fmt: skip
    """One thread's part of an epoch over the packed `rows`, taken in `order`.

    For each chunk of samples three phases, with a meeting of the threads after the first and the
    second (and one before, if the rows are made anew): the first layer's parts of Z, for which each
    thread keeps to its own `pieces` of that layer; all later layers, loss and backward, for which
    they divide the samples; the updates, of the thread's own pieces, and of the later layers some
    inputs at a time. How sums are divided depends on the network alone, so the result has the same
    bits for any number of threads.
    losses[i] becomes the loss of the i-th sample of `order`.

    Numbers below 1.2e-38 count as 0. The velocity of a pixel that is inked no more ends there for
    good (0.9 times the smallest number is rounded to itself), and Intel's processors take some 150
    cycles for each operation with such a number.
    """
    state = flush_denormals()
    _train(
        words, member, members, pieces, network, chunk, scratch, rows, labels, weights, order,
        batch_size, paces, rule, smoothing, dropout, losses, ticks,
    )  # fmt: skip
    restore(state)


@jit
def _train(
    words, member, members, pieces, network, chunk, scratch, rows, labels, weights, order,
    batch_size, paces, rule, smoothing, dropout, losses, ticks,
):  # fmt: skip
    start_clock(ticks)
    layers, base = len(network.shapes), CHUNK
    for batch in range((len(order) + batch_size - 1) // batch_size):
        batch_start = batch * batch_size
        batch_stop = min(batch_start + batch_size, len(order))
        part = part_of_mean(weights, order, batch_start, batch_stop)
        pace = Pace(paces[batch, 0], paces[batch, 1], paces[batch, 2])
        for start in range(batch_start, batch_stop, CHUNK):
            samples = min(CHUNK, batch_stop - start)
            share = -(-samples // (members * BLOCK)) * BLOCK  # of the samples, in whole blocks
            first, stop = min(member * share, samples), min((member + 1) * share, samples)
            left_out = Dropout(
                dropout.key, dropout.inputs, dropout.inputs_scale, dropout.hidden,
                dropout.hidden_scale, dropout.order, start,
            )  # fmt: skip
            base = CHUNK - base
            if made_anew(rows):
                make_rows(rows, scratch, left_out, order, start, base, first, stop)
                lap(ticks, FRESH)
                if wait_for_all(words, members):
                    return
                lap(ticks, WAIT)
            inputs = inputs_of(rows, order, start, base)
            for piece in pieces:
                turn_piece(network, scratch, inputs, piece, samples)
            lap(ticks, TURN)
            for piece in pieces:
                forward_piece(network, chunk, scratch, inputs, piece, samples)
            lap(ticks, FORWARD)
            if wait_for_all(words, members):
                return
            lap(ticks, WAIT)
            add_parts(network, chunk, first, stop, left_out)
            for layer in range(1, layers):
                forward(network, chunk, layer, first, stop, left_out)
            lap(ticks, LATER)
            loss_and_dZ(
                network, chunk, labels, weights, order, start, first, stop, part, smoothing, losses
            )
            lap(ticks, LOSS)
            for layer in range(layers - 1, 0, -1):
                backward(network, chunk, layer, first, stop, left_out)
            lap(ticks, BACKWARD)
            if wait_for_all(words, members):
                return
            lap(ticks, WAIT)
            begins, ends = start == batch_start, start + samples == batch_stop
            for piece in pieces:
                update_piece(
                    network, chunk, scratch, inputs, piece, samples, rule, pace,
                    begins, ends,
                )  # fmt: skip
            lap(ticks, UPDATE)
            for task in range(member, len(network.tasks), members):
                layer, k = network.tasks[task, 0], network.tasks[task, 1]
                update_task(network, chunk, layer, k, samples, rule, pace, begins, ends)
            lap(ticks, LATER_UPDATE)


@jit
def part_of_mean(weights, order, first, stop):
    """What a weight of 1 is of the sum of all, of samples first to stop of `order`."""
    if weights is None:
        return _ONE / np.float32(stop - first)
    total = np.float64(0)
    for i in range(first, stop):
        total += weights[order[i]]
    return np.float32(1 / total) if total else _ZERO  # without any weight no gradient


@jit
def weight_of(weights, sample):
    """What a sample counts for."""
    return _ONE if weights is None else weights[sample]


@jit
def loss_and_dZ(
    network, chunk, labels, weights, order, start, first, stop, part, smoothing, losses
):
    """Loss of samples first to stop, in nats, and dZ = weight * part * (softmax(Z) - target).

    The target is 1 - smoothing for the label, and besides smoothing / classes for every class.
    """
    shape = network.shapes[len(network.shapes) - 1]
    stride, classes = shape[STRIDE], np.int32(shape[OUTPUTS])
    spread = smoothing / np.float32(classes)
    Z, dZ = chunk.outputs, chunk.dZ
    for s in range(first, stop):
        row = shape[OUT] + s * stride
        most = zeros(NARROW)
        for c in range(0, classes, NARROW):
            here = first_lanes(load(most, Z, row + c), classes - c, Z[row])
            most = maximum(most, here) if c > 0 else here
        largest = largest_lane(most)
        sample = order[start + s]
        label, scale = row + labels[sample], part * weight_of(weights, sample)
        Z_target = (_ONE - smoothing) * (Z[label] - largest)
        sums, sums_Z = zeros(NARROW), zeros(NARROW)
        for c in range(0, classes, NARROW):
            below = shifted(load(sums, Z, row + c), largest)
            exp = first_lanes(exponential(below), classes - c, _ZERO)
            sums, sums_Z = add(sums, exp), add(sums_Z, first_lanes(below, classes - c, _ZERO))
            store(dZ, row + c, exp)
        total = sum_of_lanes(sums)
        for c in range(0, classes, NARROW):
            P = scaled(load(sums, dZ, row + c), scale / total)
            store(dZ, row + c, first_lanes(shifted(P, scale * spread), classes - c, _ZERO))
        dZ[label] -= scale * (_ONE - smoothing)
        losses[start + s] = np.log(total) - Z_target - spread * sum_of_lanes(sums_Z)

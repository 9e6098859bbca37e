"""What each thread of a team runs: one epoch of training, or the outputs for many samples."""

from __future__ import annotations

import numpy as np
from numba.extending import overload

from fastmnist.kernels.barrier import CLAIMED, fetch_add, wait_for_all
from fastmnist.kernels.jit import entry, jit
from fastmnist.kernels.layer import (
    add_pieces,
    backward,
    forward,
    forward_piece,
    transpose,
    update,
    update_piece,
)
from fastmnist.kernels.network import (
    CHUNK,
    DENSE,
    FIRST,
    INPUTS,
    OUTPUTS,
    ROWS,
    STEPS,
    STRIDE,
    Inputs,
)
from fastmnist.kernels.packed import Unpacked, pack_row
from fastmnist.kernels.vectors import (
    NARROW,
    add,
    add_scaled,
    exponential,
    first_lanes,
    largest_lane,
    load,
    maximum,
    store,
    sum_of_lanes,
    zeros,
)

_ZERO = np.float32(0)


@entry
def train(
    words, members, pieces, network, chunk, scratch, rows, labels, order, batch_size, rates, rule,
    losses,
):  # fmt: skip
    """One thread's part of an epoch over the packed `rows`, taken in `order`.

    For each chunk of samples three phases, with a meeting of the threads after the first and the
    second: the first layer's parts of Z, for which each thread keeps to its own `pieces` of that
    layer; all later layers, loss and backward, for which they divide the samples; the updates, of
    the thread's own pieces and of bands of the later layers. How sums are divided depends on the
    network alone, so the result has the same bits for any number of threads. losses[i] becomes
    the loss of the i-th sample of `order`.
    """
    layers = len(network.shapes)
    group = max(1, CHUNK // (2 * members))  # samples claimed at a time
    for batch in range((len(order) + batch_size - 1) // batch_size):
        batch_start = batch * batch_size
        batch_stop = min(batch_start + batch_size, len(order))
        for start in range(batch_start, batch_stop, CHUNK):
            samples = min(CHUNK, batch_stop - start)
            scale = np.float32(1) / np.float32(batch_stop - batch_start)
            inputs = Inputs(rows, order, start)
            for piece in pieces:
                forward_piece(network, chunk, scratch, inputs, piece, samples)
            if wait_for_all(words, members):
                return
            first = fetch_add(words, CLAIMED, group)
            while first < samples:
                stop = min(first + group, samples)
                add_pieces(network, chunk, first, stop)
                for layer in range(1, layers):
                    forward(network, chunk, layer, first, stop)
                loss_and_dZ(network, chunk, labels, order, start, first, stop, scale, losses)
                for layer in range(layers - 1, 0, -1):
                    backward(network, chunk, scratch, layer, first, stop)
                first = fetch_add(words, CLAIMED, group)
            if wait_for_all(words, members):
                return
            begins, ends = start == batch_start, start + samples == batch_stop
            for piece in pieces:
                update_piece(
                    network, chunk, scratch, inputs, piece, samples, rule, rates[batch],
                    begins, ends,
                )  # fmt: skip
            task = fetch_add(words, CLAIMED, 1)
            while task < len(network.tasks):
                layer, band = network.tasks[task, 0], network.tasks[task, 1]
                shape = network.shapes[layer]
                update(
                    network, chunk, scratch, Inputs(chunk.rows, chunk.order, shape[ROWS]), layer,
                    band, band + 1, FIRST, shape[STEPS], samples, rule, rates[batch], begins, ends,
                )  # fmt: skip
                if ends and rule.steps:
                    transpose(network, layer, band)
                task = fetch_add(words, CLAIMED, 1)


@entry
def outputs(words, group, pieces, network, chunk, scratch, rows, order, Z):
    """One thread's part of Z[i] = output of the last layer for the i-th sample, in groups.

    `order` is 0, 1, 2 ...: the samples are taken as they stand.
    """
    last = network.shapes[len(network.shapes) - 1]
    start = fetch_add(words, CLAIMED, group)
    while start < len(Z):
        samples = min(group, len(Z) - start)
        inputs = _group(rows, order, start, samples, network.shapes[0, INPUTS])
        for piece in pieces:
            forward_piece(network, chunk, scratch, inputs, piece, samples)
        add_pieces(network, chunk, FIRST, samples)
        for layer in range(1, len(network.shapes)):
            forward(network, chunk, layer, FIRST, samples)
        for s in range(samples):
            at = last[DENSE] + s * last[STRIDE]
            for c in range(last[OUTPUTS]):
                Z[start + s, c] = chunk.dense[at + c]
        start = fetch_add(words, CLAIMED, group)


def _group(rows, order, start, samples, columns):
    """What enters the first layer: so many samples, from the start-th on."""
    raise NotImplementedError("compiled only")


@overload(_group)
def _group_of(rows, order, start, samples, columns):
    def packed_now(rows, order, start, samples, columns):
        for s in range(samples):
            pack_row(rows.X, (start + s) * columns, columns, rows.group, s, rows.one)
        return Inputs(rows.group, order[:samples], FIRST)

    if rows.instance_class is Unpacked:
        return packed_now
    return lambda rows, order, start, samples, columns: Inputs(rows, order, start)


@jit
def loss_and_dZ(network, chunk, labels, order, start, first, stop, scale, losses):
    """Loss of samples first to stop, in nats; Z becomes dZ = scale * (softmax(Z) - onehot)."""
    shape = network.shapes[len(network.shapes) - 1]
    stride, classes = shape[STRIDE], np.int32(shape[OUTPUTS])
    Z = chunk.dense
    for s in range(first, stop):
        row = shape[DENSE] + s * stride
        most = zeros(NARROW)
        for c in range(0, classes, NARROW):
            here = first_lanes(load(most, Z, row + c), classes - c, Z[row])
            most = maximum(most, here) if c > 0 else here
        largest = largest_lane(most)
        label = row + labels[order[start + s]]
        Z_label = Z[label] - largest
        sums = zeros(NARROW)
        for c in range(0, classes, NARROW):
            exp = exponential(load(sums, Z, row + c), largest)
            exp = first_lanes(exp, classes - c, _ZERO)
            sums = add(sums, exp)
            store(Z, row + c, exp)
        total = sum_of_lanes(sums)
        for c in range(0, classes, NARROW):
            store(Z, row + c, add_scaled(zeros(NARROW), scale / total, load(sums, Z, row + c)))
        Z[label] -= scale
        losses[start + s] = np.log(total) - Z_label

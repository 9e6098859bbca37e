"""What each thread of a team runs: one epoch of training, or the outputs for many samples."""

from __future__ import annotations

import numpy as np

from fastmnist.kernels.barrier import claim, wait_for_all
from fastmnist.kernels.jit import entry, jit
from fastmnist.kernels.layer import (
    add_pieces,
    backward,
    bands_of,
    forward,
    forward_piece,
    inputs_of,
    task,
    update,
)
from fastmnist.kernels.network import (
    ALL_COLUMNS,
    CHUNK,
    DENSE,
    FIRST_LAYER,
    OUTPUTS,
    STRIDE,
    Inputs,
    piece_count,
)
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
    words, member, members, network, chunk, scratch, rows, labels, order, batch_size, rates, rule,
    losses,
):  # fmt: skip
    """One thread's part of an epoch over the packed `rows`, taken in `order`.

    For each chunk of samples three phases, with a meeting of the threads after the first and the
    second: the first layer's parts of Z, for which each thread keeps to its own pieces of that
    layer; all later layers, loss and backward, for which they divide the samples; the updates, of
    the thread's own pieces and of bands of the later layers. How sums are divided depends on the
    network alone, so the result has the same bits for any number of threads. losses[i] becomes
    the loss of the i-th sample of `order`.
    """
    layers = len(network.shapes)
    pieces = piece_count(network.shapes[0, OUTPUTS])
    group = max(1, CHUNK // (2 * members))  # samples claimed at a time
    for batch in range((len(order) + batch_size - 1) // batch_size):
        batch_start = batch * batch_size
        batch_stop = min(batch_start + batch_size, len(order))
        for start in range(batch_start, batch_stop, CHUNK):
            samples = min(CHUNK, batch_stop - start)
            scale = np.float32(1) / np.float32(batch_stop - batch_start)
            inputs = Inputs(rows, order, start)
            for piece in range(member % pieces, pieces, members):
                share, shares = share_of(member, members, piece, pieces)
                forward_piece(network, chunk, inputs, piece, share, shares, samples)
            if wait_for_all(words, members):
                return
            first = claim(words, group)
            while first < samples:
                stop = min(first + group, samples)
                add_pieces(network, chunk, first, stop)
                for layer in range(1, layers):
                    forward(network, chunk, layer, first, stop)
                loss_and_dZ(network, chunk, labels, order, start, first, stop, scale, losses)
                for layer in range(layers - 1, 0, -1):
                    backward(network, chunk, scratch, layer, first, stop)
                first = claim(words, group)
            if wait_for_all(words, members):
                return
            begins, ends = start == batch_start, start + samples == batch_stop
            for piece in range(member % pieces, pieces, members):
                share, shares = share_of(member, members, piece, pieces)
                band, band_stop = bands_of(network, piece)
                update(
                    network, chunk, scratch, inputs, FIRST_LAYER, band, band_stop,
                    share, shares, samples, rule, rates[batch], begins, ends,
                )  # fmt: skip
            share, shares = ALL_COLUMNS
            layer, band = task(network, claim(words, 1))
            while layer < layers:
                update(
                    network, chunk, scratch, inputs_of(network, chunk, layer), layer, band,
                    band + 1, share, shares, samples, rule, rates[batch], begins, ends,
                )  # fmt: skip
                layer, band = task(network, claim(words, 1))


@jit
def share_of(member, members, piece, pieces):
    """Which share of a piece's columns is a member's, and how many members have a share."""
    if members <= pieces:
        return 0, 1
    return member // pieces, (members - piece + pieces - 1) // pieces


@entry
def outputs(words, group, network, chunk, rows, order, Z):
    """One thread's part of Z[i] = output of the last layer for the i-th packed row of `order`."""
    last = network.shapes[len(network.shapes) - 1]
    start = claim(words, group)
    while start < len(order):
        samples = min(group, len(order) - start)
        inputs = Inputs(rows, order, start)
        for piece in range(piece_count(network.shapes[0, OUTPUTS])):
            forward_piece(network, chunk, inputs, piece, *ALL_COLUMNS, samples)
        add_pieces(network, chunk, np.int64(0), samples)
        for layer in range(1, len(network.shapes)):
            forward(network, chunk, layer, np.int64(0), samples)
        for s in range(samples):
            at = last[DENSE] + s * last[STRIDE]
            for c in range(last[OUTPUTS]):
                Z[start + s, c] = chunk.dense[at + c]
        start = claim(words, group)


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

"""What each thread of a team runs: one epoch of training, or the outputs for many samples."""

from __future__ import annotations

import numpy as np

from fastmnist.kernels.barrier import claim, wait_for_all
from fastmnist.kernels.jit import entry, jit
from fastmnist.kernels.layer import backward, forward, task, update
from fastmnist.kernels.network import CHUNK, DENSE, INPUTS, OUTPUTS, STRIDE
from fastmnist.kernels.packed import bands_room, room
from fastmnist.kernels.vectors import COPIED, NARROW, copy, exponential, load, store, zeros


@entry
def train(
    words, members, network, chunk, scratch, rows, labels, order, batch_size, rates, rule, losses
):
    """One thread's part of an epoch over the packed `rows`, taken in `order`.

    For each chunk of samples two phases, each ended by a meeting of the threads: in the first
    they divide the samples (forward, loss, backward), in the second the rows of all weight
    matrices (gradient and step). No sum is ever divided, so the result has the same bits for any
    number of threads. losses[i] becomes the loss of the i-th sample of `order`.
    """
    layers = len(network.shapes)
    group = max(1, CHUNK // (2 * members))  # samples claimed at a time
    for batch in range((len(order) + batch_size - 1) // batch_size):
        batch_start = batch * batch_size
        batch_stop = min(batch_start + batch_size, len(order))
        for start in range(batch_start, batch_stop, CHUNK):
            samples = min(CHUNK, batch_stop - start)
            scale = np.float32(1) / np.float32(batch_stop - batch_start)
            first = claim(words, group)
            while first < samples:
                stop = min(first + group, samples)
                gather(rows, order, start, network, chunk, first, stop)
                for layer in range(layers):
                    forward(network, chunk, layer, first, stop)
                loss_and_dZ(network, chunk, labels, order, start, first, stop, scale, losses)
                for layer in range(layers - 1, 0, -1):
                    backward(network, chunk, scratch, layer, first, stop)
                first = claim(words, group)
            if wait_for_all(words, members):
                return
            begins, ends = start == batch_start, start + samples == batch_stop
            layer, band, band_stop = task(network, members, claim(words, 1))
            while layer < layers:
                update(
                    network, chunk, scratch, layer, band, band_stop, samples,
                    rule, rates[batch], begins, ends,
                )  # fmt: skip
                layer, band, band_stop = task(network, members, claim(words, 1))
            if wait_for_all(words, members):
                return


@entry
def outputs(words, network, chunk, slot, group, rows, order, Z):
    """One thread's part of Z[i] = output of the last layer for the i-th packed row of `order`.

    The thread has the samples `slot` to `slot + group` of `chunk` to itself.
    """
    last = network.shapes[len(network.shapes) - 1]
    first = claim(words, group)
    while first < len(order):
        stop = slot + min(group, len(order) - first)
        gather(rows, order, first - slot, network, chunk, slot, stop)
        for layer in range(len(network.shapes)):
            forward(network, chunk, layer, slot, stop)
        for s in range(slot, stop):
            at = last[DENSE] + s * last[STRIDE]
            for c in range(last[OUTPUTS]):
                Z[first + s - slot, c] = chunk.dense[at + c]
        first = claim(words, group)


@jit
def gather(rows, order, start, network, chunk, first, stop):
    """Copy the packed rows of samples first to stop into the chunk, as float32 in [0, 1].

    The copy puts side by side what shuffling tore apart; all later reads come from the L2 cache.
    So short a loop keeps many reads of memory under way: prefetching gains nothing more.
    """
    inputs = network.shapes[0, INPUTS]
    bands = bands_room(inputs)
    for s in range(first, stop):
        r = order[start + s]
        source, target = rows.start[r], s * room(inputs)
        for p in range(0, rows.start[r + 1] - source, COPIED):
            copy(chunk.indices, target + p, rows.indices, source + p)
            if len(rows.pixels) > 0:
                copy(chunk.values, target + p, rows.pixels, source + p)
            else:
                copy(chunk.values, target + p, rows.floats, source + p)
        for b in range(0, bands, COPIED):
            copy(chunk.bands, s * bands + b, rows.bands, r * bands + b)


@jit
def loss_and_dZ(network, chunk, labels, order, start, first, stop, scale, losses):
    """Loss of samples first to stop, in nats; Z becomes dZ = scale * (softmax(Z) - onehot)."""
    shape = network.shapes[len(network.shapes) - 1]
    stride, classes = shape[STRIDE], shape[OUTPUTS]
    Z = chunk.dense
    for s in range(first, stop):
        at = shape[DENSE] + s * stride
        largest = Z[at]
        for c in range(at + 1, at + classes):
            largest = max(largest, Z[c])
        label = at + labels[order[start + s]]
        Z_label = Z[label] - largest
        for c in range(at, at + classes, NARROW):
            store(Z, c, exponential(load(zeros(NARROW), Z, c), largest))
        total = np.float32(0)
        for c in range(at, at + classes):
            total += Z[c]
        for c in range(at, at + classes):
            Z[c] *= scale / total
        for c in range(at + classes, at + stride):
            Z[c] = 0
        Z[label] -= scale
        losses[start + s] = np.log(total) - Z_label

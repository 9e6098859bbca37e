"""What each thread of a team runs: one epoch of training, or the outputs for many samples."""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import numpy as np

from fastmnist.kernels.barrier import claim, wait_for_all
from fastmnist.kernels.jit import jit
from fastmnist.kernels.layer import backward, forward, update
from fastmnist.kernels.network import CHUNK, DENSE, INPUTS, OUTPUTS, STRIDE
from fastmnist.kernels.packed import band_count
from fastmnist.kernels.vectors import prefetch

_PIXEL = np.float32(255)
_AHEAD = 4  # samples between the prefetch of a packed row and its use


@jit
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
    group = max(1, CHUNK // (4 * members))  # samples claimed at a time
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
                for s in range(first, stop):
                    label = labels[order[start + s]]
                    losses[start + s] = loss_and_dZ(network, chunk, s, label, scale)
                for layer in range(layers - 1, 0, -1):
                    backward(network, chunk, scratch, layer, first, stop)
                first = claim(words, group)
            if wait_for_all(words, members):
                return
            begins, ends = start == batch_start, start + samples == batch_stop
            layer, band = task(network, claim(words, 1))
            while layer < layers:
                update(
                    network, chunk, scratch, layer, band, samples, rule, rates[batch], begins, ends
                )
                layer, band = task(network, claim(words, 1))
            if wait_for_all(words, members):
                return


@jit
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
def task(network, number):
    """The layer and the band that are the update's piece of work with this number."""
    layer = 0
    while layer < len(network.shapes):
        bands = band_count(network.shapes[layer, INPUTS])
        if number < bands:
            break
        number -= bands
        layer += 1
    return layer, number


@jit
def gather(rows, order, start, network, chunk, first, stop):
    """Copy the packed rows of samples first to stop into the chunk, as float32 in [0, 1].

    The copy puts side by side what shuffling tore apart; all later reads come from the L2 cache.
    """
    inputs = network.shapes[0, INPUTS]
    bands = band_count(inputs) + 1
    for s in range(first, stop):
        if start + s + _AHEAD < len(order):
            fetch(rows, order[start + s + _AHEAD])
        r = order[start + s]
        source, target = np.uintp(rows.start[r]), np.uintp(s * (inputs + 1))
        entries = np.uintp(rows.start[r + 1]) - source
        for p in range(entries):
            chunk.index[target + p] = rows.index[source + p]
        if len(rows.pixels) > 0:
            for p in range(entries):
                chunk.value[target + p] = np.float32(rows.pixels[source + p]) / _PIXEL
        else:
            for p in range(entries):
                chunk.value[target + p] = rows.floats[source + p]
        for b in range(bands):
            chunk.bands[s * bands + b] = rows.bands[r, b]


@jit
def fetch(rows, r):
    """Begin to bring packed row `r` into the cache (a narrow layer's epoch: 2 times as fast)."""
    for b in range(r * rows.bands.shape[1], (r + 1) * rows.bands.shape[1], 32):
        prefetch(rows.bands, b)
    for p in range(rows.start[r], rows.start[r + 1], 32):
        prefetch(rows.index, p)
    for p in range(rows.start[r], rows.start[r + 1], 64):
        if len(rows.pixels) > 0:
            prefetch(rows.pixels, p)
        else:
            prefetch(rows.floats, p)
            prefetch(rows.floats, p + 16)


@jit
def softmax(row, classes):
    """Replace the first `classes` of `row`, Z, by exp(Z - max Z); return the maximum and the sum."""
    largest = row[0]
    for c in range(1, classes):
        largest = max(largest, row[c])
    total = np.float32(0)
    for c in range(classes):
        row[c] = np.exp(row[c] - largest)
        total += row[c]
    return largest, total


@jit
def loss_and_dZ(network, chunk, s, label, scale):
    """Cross-entropy of sample s in nats; its Z becomes dZ = scale * (softmax(Z) - onehot)."""
    shape = network.shapes[len(network.shapes) - 1]
    at = shape[DENSE] + s * shape[STRIDE]
    row = chunk.dense[at : at + shape[OUTPUTS]]
    Z_label = row[label]
    largest, total = softmax(row, shape[OUTPUTS])
    loss = np.log(total) - (Z_label - largest)
    for c in range(shape[OUTPUTS]):
        row[c] *= scale / total
    row[label] -= scale
    return loss

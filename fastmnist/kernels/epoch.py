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
    task,
    update,
)
from fastmnist.kernels.network import (
    ALL_COLUMNS,
    CHUNK,
    DENSE,
    FIRST_LAYER,
    INPUTS,
    OUTPUTS,
    STRIDE,
    piece_count,
)
from fastmnist.kernels.packed import band_count, bands_room, room
from fastmnist.kernels.vectors import COPIED, NARROW, copy, exponential, load, store, zeros


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
            for piece in range(member % pieces, pieces, members):
                share, shares = share_of(member, members, piece, pieces)
                band, band_stop = bands_of(network, piece)
                gather(rows, order, start, samples, network, scratch.first, band, band_stop)
                forward_piece(network, chunk, scratch, piece, share, shares, samples)
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
                    network, chunk, scratch, scratch.first, FIRST_LAYER, band, band_stop,
                    share, shares, samples, rule, rates[batch], begins, ends,
                )  # fmt: skip
            share, shares = ALL_COLUMNS
            layer, band = task(network, claim(words, 1))
            while layer < layers:
                update(
                    network, chunk, scratch, chunk.inputs, layer, band, band + 1, share, shares,
                    samples, rule, rates[batch], begins, ends,
                )  # fmt: skip
                layer, band = task(network, claim(words, 1))


@jit
def share_of(member, members, piece, pieces):
    """Which share of a piece's columns is a member's, and how many members have a share."""
    if members <= pieces:
        return 0, 1
    return member // pieces, (members - piece + pieces - 1) // pieces


@entry
def outputs(words, group, network, chunk, scratch, rows, order, Z):
    """One thread's part of Z[i] = output of the last layer for the i-th packed row of `order`."""
    last = network.shapes[len(network.shapes) - 1]
    start = claim(words, group)
    while start < len(order):
        samples = min(group, len(order) - start)
        bands = band_count(network.shapes[0, INPUTS])
        gather(rows, order, start, samples, network, scratch.first, np.int64(0), bands)
        for piece in range(piece_count(network.shapes[0, OUTPUTS])):
            forward_piece(network, chunk, scratch, piece, *ALL_COLUMNS, samples)
        add_pieces(network, chunk, np.int64(0), samples)
        for layer in range(1, len(network.shapes)):
            forward(network, chunk, layer, np.int64(0), samples)
        for s in range(samples):
            at = last[DENSE] + s * last[STRIDE]
            for c in range(last[OUTPUTS]):
                Z[start + s, c] = chunk.dense[at + c]
        start = claim(words, group)


@jit
def gather(rows, order, start, samples, network, inputs, band, band_stop):
    """Copy some bands of the packed rows of so many samples from `start` on, as float32 in [0, 1].

    The copy puts side by side what shuffling tore apart; all later reads come from the L2 cache.
    So short a loop keeps many reads of memory under way: prefetching gains nothing more.
    """
    columns = network.shapes[0, INPUTS]
    bands = bands_room(columns)
    for s in range(samples):
        r = order[start + s]
        begin, end = np.intp(rows.bands[r, band]), np.intp(rows.bands[r, band_stop])
        source, target = rows.start[r], s * room(columns)
        for p in range(begin, end, COPIED):
            copy(inputs.indices, target + p, rows.indices, source + p)
            if len(rows.pixels) > 0:
                copy(inputs.values, target + p, rows.pixels, source + p)
            else:
                copy(inputs.values, target + p, rows.floats, source + p)
        for b in range(0, bands, COPIED):
            copy(inputs.bands, s * bands + b, rows.bands, r * bands + b)


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

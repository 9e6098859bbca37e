"""Prediction: the outputs of the last layer for many samples, or for a few at once."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastmnist.kernels import team
from fastmnist.kernels.barrier import CLAIMED, fetch_add
from fastmnist.kernels.jit import chosen, entry, kind_of
from fastmnist.kernels.layer import add_parts, forward, forward_piece
from fastmnist.kernels.network import (
    FIRST,
    INPUTS,
    OUT,
    OUTPUTS,
    STRIDE,
    Chunk,
    Dropout,
    Inputs,
    Network,
    Scratch,
    new_chunk,
    new_scratch,
    pieces_of,
    shapes_of,
)
from fastmnist.kernels.packed import (
    Dense,
    Packed,
    Unpacked,
    is_dense,
    new_packed,
    pack_row,
    packable,
    read_only,
)
from fastmnist.parameters import Parameters
from fastmnist.threads import thread_count

_NO_KEY, _ONE = np.uint64(0), np.float32(1)

GROUP = 64  # samples that a thread predicts at a time


class Room(NamedTuple):
    """What one thread needs to pack and predict groups of samples with a network."""

    arguments: tuple[Any, ...]  # of `outputs`
    group: Packed
    one: NDArray[Any]  # of shape (1,): the constant 1 of packed rows


def logits(own: Parameters, samples: NDArray[Any] | Packed | Dense, threads: int | None) -> Any:
    """The outputs for checked samples, float32 of shape (n, classes)."""
    count = samples.rows if isinstance(samples, (Packed, Dense)) else len(samples)
    members = 1
    if threads is not None or count >= 2 * GROUP:
        members = max(1, min(thread_count(threads), count // GROUP))
    Z = np.empty((count, own.sizes[-1]), np.float32)
    if not isinstance(samples, (Packed, Dense)):
        if count < GROUP or not is_dense(samples[:GROUP]):
            _pack_and_predict(own, samples, members, Z)
            return Z
        samples = Dense(read_only(samples))
    order = np.arange(count)
    work = [(*_arguments(own, order), samples, Z) for _ in range(members)]
    team.run_briefly(outputs, work)
    return Z


def _pack_and_predict(own: Parameters, X: NDArray[Any], members: int, Z: NDArray[Any]) -> None:
    # Making room takes longer than predicting a few images, so it is kept with the network; each
    # call takes what it uses out of the list, since several may predict at the same time.
    kept = own.kept.setdefault(X.dtype.char, [])
    rooms = []
    for _ in range(members):
        try:
            rooms.append(kept.pop())
        except IndexError:
            rooms.append(_new_room(own, X))
    X, _, _ = packable(X)
    flat = X.reshape(-1)
    work = [(*room.arguments, Unpacked(flat, room.one, room.group), Z) for room in rooms]
    team.run_briefly(outputs, work)
    kept.extend(rooms)


def _new_room(own: Parameters, X: NDArray[Any]) -> Room:
    _, kind, one = packable(X[:0])
    group = new_packed(np.full(GROUP, own.sizes[0] + 1), own.sizes[0], kind)
    return Room(_arguments(own, np.arange(GROUP)), group, np.full(1, one))


def _arguments(own: Parameters, order: NDArray[np.int64]) -> tuple[Any, ...]:
    """What `outputs` needs besides rows and results; `order` counts from 0."""
    shapes = shapes_of(own, GROUP)
    chunk, scratch = new_chunk(own.sizes, GROUP), new_scratch(own.sizes, GROUP)
    pieces = pieces_of(0, 1, shapes)  # each member computes whole outputs
    return (
        *(own.flat, shapes, pieces, chunk.outputs, chunk.parts),
        *(scratch.panel, scratch.turned, order),
    )


@entry
def outputs(words, weights, shapes, pieces, outputs, parts, panel, turned, order, rows, Z):
    """One thread's part of Z[i] = output of the last layer for the i-th sample, in groups.

    Arguments are plain arrays, since a call takes 0.3 us more for each that stands in a tuple; in
    the place of what prediction does not use stands something of the same type.
    """
    network = Network(shapes, shapes, weights, weights, weights, weights, weights)
    dropout = Dropout(_NO_KEY, FIRST, _ONE, FIRST, _ONE, order, FIRST)  # nothing is left out
    chunk = Chunk(outputs, outputs, parts, len(parts) // 2)
    scratch = Scratch(panel, turned, order, None)
    last = shapes[len(shapes) - 1]
    start = fetch_add(words, CLAIMED, GROUP)
    while start < len(Z):
        samples = min(GROUP, len(Z) - start)
        inputs = _group(rows, order, start, samples, shapes[0, INPUTS])
        for piece in pieces:
            forward_piece(network, chunk, scratch, inputs, piece, samples)
        add_parts(network, chunk, FIRST, samples, dropout)
        for layer in range(1, len(shapes)):
            forward(network, chunk, layer, FIRST, samples, dropout)
        for s in range(samples):
            at = last[OUT] + s * last[STRIDE]
            for c in range(last[OUTPUTS]):
                Z[start + s, c] = outputs[at + c]
        start = fetch_add(words, CLAIMED, GROUP)


@chosen
def _group(rows, order, start, samples, columns):
    """What enters the first layer: so many samples, from the start-th on."""

    def packed_now(rows, order, start, samples, columns):
        one = rows.one[0]
        for s in range(samples):
            pack_row(rows.X, (start + s) * columns, columns, rows.group, s, one)
        return Inputs(rows.group, order[:samples], FIRST)

    if kind_of(rows) is Unpacked:
        return packed_now
    return lambda rows, order, start, samples, columns: Inputs(rows, order, start)

"""What the kernels work on: a network's parameters, one chunk of samples, a thread's scratch.

Every array is flat and holds all layers, one behind the other, and a table says where each layer
stands; so one compiled kernel serves networks of any depth.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastmnist.kernels.packed import BAND, band_count, bands_room, index_dtype, room
from fastmnist.parameters import Parameters, aligned_zeros, row_stride

# Samples that pass through the network together, between two meetings of the threads. Larger
# batches are worked off in chunks, so that what belongs to a chunk stays in the L2 cache.
CHUNK = 128

# From one input's list of samples to the next, in a band that is turned round: an odd number of
# cache lines, for the reason given at `fastmnist.parameters.row_stride`.
TURNED = CHUNK + 32

# The columns of the table of shapes, one row a layer.
(
    INPUTS,  # number of inputs, without the constant 1
    OUTPUTS,
    STRIDE,  # from row to row of W, of its gradient, and of Z
    WEIGHTS,  # where W begins in the parameters
    DENSE,  # where Z begins in `Chunk.dense`, one row a sample; it becomes A and then dZ in place
    PACKED,  # where the layer's input begins in `Chunk.indices` and `Chunk.values`
    BANDS,  # and in `Chunk.bands`
    BACK,  # where the transposed W begins in `Network.transposed`
    BACK_STRIDE,
) = range(9)


class Network(NamedTuple):
    """A network's parameters and everything shaped like them."""

    shapes: NDArray[np.int64]  # (layers, 9)
    weights: NDArray[np.float32]
    transposed: NDArray[np.float32]
    gradient: NDArray[np.float32]
    velocity: NDArray[np.float32]


class Chunk(NamedTuple):
    """Inputs of all layers, packed, and outputs of all layers, dense."""

    indices: NDArray[Any]  # uint16 or uint32
    values: NDArray[np.float32]
    bands: NDArray[Any]  # as indices
    dense: NDArray[np.float32]


class Scratch(NamedTuple):
    """What one thread needs for itself."""

    indices: NDArray[Any]  # one packed row of dZ
    values: NDArray[np.float32]
    bands: NDArray[Any]
    turned_index: NDArray[np.uint16]  # (BAND * TURNED,): the samples of each input of a band
    turned_value: NDArray[np.float32]
    filled: NDArray[np.int64]  # (BAND,): how many they are


class Rule(NamedTuple):
    """The optimiser's step."""

    steps: bool  # False: only the gradient is wanted
    momentum: np.float32
    nesterov: bool


def shapes_of(params: Parameters, samples: int) -> NDArray[np.int64]:
    """The table of shapes for chunks of `samples`."""
    table = np.zeros((len(params), 9), np.int64)
    dense = packed = bands = back = 0
    for row, inputs, outputs, weights in zip(
        table, params.sizes[:-1], params.sizes[1:], params.offsets, strict=True
    ):
        stride, back_stride = row_stride(outputs), row_stride(inputs)
        row[:] = inputs, outputs, stride, weights, dense, packed, bands, back, back_stride
        dense += samples * stride
        packed += samples * room(inputs)
        bands += samples * bands_room(inputs)
        back += outputs * back_stride if weights else 0  # nothing flows back into the images
    return table


def new_network(
    params: Parameters,
    samples: int,
    velocity: Parameters | None = None,
    gradient: Parameters | None = None,
) -> Network:
    """A network for chunks of `samples`; the parameters are shared, not copied."""
    shapes = shapes_of(params, samples)
    transposed = aligned_zeros(sum(row[OUTPUTS] * row[BACK_STRIDE] for row in shapes[1:]))
    for row, (W, _) in zip(shapes[1:], params[1:], strict=True):
        block = transposed[row[BACK] :][: row[OUTPUTS] * row[BACK_STRIDE]]
        block.reshape(row[OUTPUTS], row[BACK_STRIDE])[:, : row[INPUTS]] = W.T
    return Network(
        shapes,
        params.flat,
        transposed,
        (gradient or Parameters(params.sizes)).flat,
        (velocity or Parameters(params.sizes)).flat,
    )


def new_chunk(sizes: tuple[int, ...], samples: int) -> Chunk:
    """Room for `samples` samples in all layers."""
    entries = samples * sum(room(inputs) for inputs in sizes[:-1])
    small = index_dtype(max(sizes))
    return Chunk(
        np.empty(entries, small),
        np.empty(entries, np.float32),
        np.empty(samples * sum(bands_room(inputs) for inputs in sizes[:-1]), small),
        aligned_zeros(samples * sum(map(row_stride, sizes[1:]))),
    )


def new_scratch(sizes: tuple[int, ...]) -> Scratch:
    """Room for one thread's own work."""
    widest = max(sizes)
    small = index_dtype(widest)
    return Scratch(
        np.empty(widest + 1, small),
        np.empty(widest + 1, np.float32),
        np.empty(band_count(widest) + 1, small),
        np.empty(BAND * TURNED, np.uint16),
        np.empty(BAND * TURNED, np.float32),
        np.empty(BAND, np.int64),
    )

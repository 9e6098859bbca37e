"""What the kernels work on: a network's parameters, one chunk of samples, a thread's scratch.

Every array is flat and holds all layers, one behind the other, and a table says where each layer
stands; so one compiled kernel serves networks of any depth.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastmnist.kernels.jit import entry
from fastmnist.kernels.packed import BAND, FLOATS, SLACK, Packed, new_packed
from fastmnist.kernels.vectors import NARROW
from fastmnist.parameters import Parameters, aligned_zeros, row_stride

# Samples that pass through the network together, between two meetings of the threads. Larger
# batches are worked off in chunks, so that what belongs to a chunk stays in the L2 cache.
CHUNK = 128

# From one input's list of samples to the next, in a band that is turned round: an odd number of
# cache lines, for the reason given at `fastmnist.parameters.row_stride`.
TURNED = CHUNK + 8

# The columns of the table of shapes, one row a layer.
(
    INPUTS,  # number of inputs, without the constant 1
    OUTPUTS,
    STRIDE,  # from row to row of W, of its gradient, and of Z
    WEIGHTS,  # where W begins in the parameters
    DENSE,  # where Z begins in `Chunk.dense`, one row a sample; it becomes A and then dZ in place
    ROWS,  # which row of `Chunk.rows` is the first of its inputs (the first layer's: of the data)
    BACK,  # where the transposed W begins in `Network.transposed`
    BACK_STRIDE,
) = range(8)


# As numbers of NumPy: for a literal 0 of Python's, Numba compiles every function once more.
FIRST_LAYER = np.int64(0)
ALL_COLUMNS = (np.int64(0), np.int64(1))  # share 0 of 1


class Network(NamedTuple):
    """A network's parameters and everything shaped like them."""

    shapes: NDArray[np.int64]  # (layers, 8)
    weights: NDArray[np.float32]
    transposed: NDArray[np.float32]
    gradient: NDArray[np.float32]
    velocity: NDArray[np.float32]


class Chunk(NamedTuple):
    """What the threads share of a chunk of samples."""

    rows: Packed  # the inputs of all layers but the first
    order: NDArray[np.int64]  # of these rows: as they stand
    dense: NDArray[np.float32]  # outputs of all layers
    parts: NDArray[np.float32]  # (pieces, samples, STRIDE): the parts of the first layer's Z


class Scratch(NamedTuple):
    """What one thread needs for itself."""

    row: Packed  # one row of dZ
    turned: NDArray[np.void]  # (BAND * TURNED,): for each input of a band, its samples as FLOATS
    filled: NDArray[np.int64]  # (BAND,): how many they are


class Inputs(NamedTuple):
    """What enters a layer: for sample s row ``order[first + s]`` of `rows`."""

    rows: Packed
    order: NDArray[np.int64]
    first: int


class Rule(NamedTuple):
    """The optimiser's step."""

    steps: bool  # False: only the gradient is wanted
    momentum: np.float32
    nesterov: bool


def shapes_of(params: Parameters, samples: int) -> NDArray[np.int64]:
    """The table of shapes for chunks of `samples`."""
    table = np.zeros((len(params), 8), np.int64)
    dense = rows = back = 0
    for row, inputs, outputs, weights in zip(
        table, params.sizes[:-1], params.sizes[1:], params.offsets, strict=True
    ):
        stride, back_stride = row_stride(outputs), row_stride(inputs)
        row[:] = inputs, outputs, stride, weights, dense, rows, back, back_stride
        dense += samples * stride
        rows += samples if weights else 0
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


@entry
def piece_count(outputs):
    """Into how many pieces a first layer of so many outputs is divided.

    The first layer, by far the largest, is divided by its inputs into pieces of consecutive bands.
    A thread keeps to its own pieces, forward and in the update, so that neither their rows of W
    nor their entries of the samples ever move from one core to another; only the parts of Z do
    (784-128-10, two threads: 0.9 of the time). The number depends on the network alone, and with
    it the order of every sum. A narrow layer has less work to divide, and short loops cost more.
    """
    return 2 if outputs <= NARROW else 4


def new_chunk(sizes: tuple[int, ...], samples: int) -> Chunk:
    """Room for `samples` samples in all layers."""
    rows = new_packed([units for units in sizes[1:-1] for _ in range(samples)])
    return Chunk(
        rows,
        np.arange(rows.rows),
        aligned_zeros(samples * sum(map(row_stride, sizes[1:]))),
        aligned_zeros(piece_count(sizes[1]) * samples * row_stride(sizes[1])),
    )


def new_scratch(sizes: tuple[int, ...]) -> Scratch:
    """Room for one thread's own work."""
    return Scratch(
        new_packed([max(sizes[1:])]),
        np.empty(BAND * TURNED + SLACK, FLOATS),
        np.empty(BAND, np.int64),
    )

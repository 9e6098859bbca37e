"""What the kernels work on: a network's parameters, one chunk of samples, a thread's scratch.

Every array is flat and holds all layers, one behind the other, and a table says where each layer
stands; so one compiled kernel serves networks of any depth.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastmnist.kernels.packed import BAND, FLOATS, SLACK, Dense, Packed, band_count, new_packed
from fastmnist.kernels.vectors import NARROW, WIDE
from fastmnist.parameters import Parameters, aligned_zeros, in_blocks, row_stride

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
    STEPS,  # in how many steps the outputs are worked off
    WIDE_STEPS,  # and how many of them, the first, are `WIDE`
    BANDS,  # of inputs
    WIDE_INPUTS,  # how many inputs are worked off `WIDE` at a time, backward
    WEIGHTS,  # where W begins in the parameters
    DENSE,  # where Z begins in `Chunk.dense`, one row a sample; it becomes A and then dZ in place
    ROWS,  # which row of `Chunk.rows` is the first of its inputs (the first layer's: of the data)
    BACK,  # where the transposed W begins in `Network.transposed`
    BACK_STRIDE,
) = range(12)

# The columns of a list of pieces: see `pieces_of`.
PIECE, FIRST_BAND, LAST_BAND, FIRST_STEP, LAST_STEP = range(5)

# As a number of NumPy: for a literal 0 of Python's, Numba compiles every function once more.
FIRST = np.int64(0)


class Network(NamedTuple):
    """A network's parameters and everything shaped like them."""

    shapes: NDArray[np.int64]  # (layers, 12)
    tasks: NDArray[np.int64]  # (tasks, 2): each layer after the first, and each band of it
    weights: NDArray[np.float32]
    transposed: NDArray[np.float32]
    gradient: NDArray[np.float32]
    velocity: NDArray[np.float32]


class Chunk(NamedTuple):
    """What the threads share of a chunk of samples."""

    rows: Packed  # the inputs of all layers but the first
    order: NDArray[np.int64]  # of these rows: as they stand
    dense: NDArray[np.float32]  # outputs of all layers
    parts: NDArray[np.float32]  # (pieces, samples * STRIDE): the parts of the first layer's Z


class Scratch(NamedTuple):
    """What one thread needs for itself."""

    panel: NDArray[np.float32]  # (samples, row_stride(inputs + 1)): a chunk's dense inputs
    row: Packed  # one row of dZ
    turned: NDArray[np.void]  # (BAND * TURNED,): for each input of a band, its samples as FLOATS
    filled: NDArray[np.int64]  # (BAND,): how many they are


class Inputs(NamedTuple):
    """What enters a layer: for sample s row ``order[first + s]`` of `rows`."""

    rows: Packed | Dense
    order: NDArray[np.int64]
    first: int | np.int64


class Rule(NamedTuple):
    """The optimiser's step."""

    steps: bool  # False: only the gradient is wanted
    momentum: np.float32
    nesterov: bool


def shapes_of(params: Parameters, samples: int) -> NDArray[np.int64]:
    """The table of shapes for chunks of `samples`."""
    table = np.zeros((len(params), 12), np.int64)
    dense = rows = back = 0
    for row, inputs, outputs, weights in zip(
        table, params.sizes[:-1], params.sizes[1:], params.offsets, strict=True
    ):
        wide = _wide_columns(outputs)
        row[INPUTS], row[OUTPUTS], row[STRIDE] = inputs, outputs, row_stride(outputs)
        row[STEPS] = wide // WIDE + -(-max(0, outputs - wide) // NARROW)
        row[WIDE_STEPS], row[BANDS] = wide // WIDE, band_count(inputs)
        row[WIDE_INPUTS], row[BACK_STRIDE] = _wide_columns(inputs), row_stride(inputs)
        row[WEIGHTS], row[DENSE], row[ROWS], row[BACK] = weights, dense, rows, back
        dense += samples * row[STRIDE]
        if weights:  # the first layer's inputs are the data, and nothing flows back into them
            rows += samples
            back += outputs * row[BACK_STRIDE]
    return table


def _wide_columns(columns: int) -> int:
    """How many columns are worked off `WIDE` at a time; those left over are narrow.

    Rows have room for one more cache line where their number of lines would be even, so the last
    wide step may reach beyond the columns, into padding.
    """
    return min(row_stride(columns) // WIDE, -(-columns // WIDE)) * WIDE


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
    tasks = [
        (layer, band) for layer in range(1, len(shapes)) for band in range(shapes[layer, BANDS])
    ]
    return Network(
        shapes,
        np.array(tasks, np.int64).reshape(-1, 2),
        params.flat,
        transposed,
        (gradient or Parameters(params.sizes)).flat,
        (velocity or Parameters(params.sizes)).flat,
    )


def piece_count(outputs: int) -> int:
    """Into how many pieces a first layer of so many outputs is divided.

    The first layer, by far the largest, is divided by its inputs into pieces of consecutive bands.
    A thread keeps to its own pieces, forward and in the update, so that neither their rows of W
    nor their entries of the samples ever move from one core to another; only the parts of Z do
    (784-128-10, two threads: 0.9 of the time). The number depends on the network alone, and with
    it the order of every sum. A narrow layer has less work to divide, and short loops cost more.
    """
    return 2 if outputs <= NARROW else 4


def pieces_of(member: int, members: int, network: Network) -> NDArray[np.int64]:
    """The pieces of one member of a team: of each its number, bands and steps, first to last.

    Where there are more members than pieces, those with the same piece divide its steps.
    """
    outputs, bands, steps = network.shapes[0, [OUTPUTS, BANDS, STEPS]]
    pieces = piece_count(outputs)
    share, shares = member // pieces, -(-(members - member % pieces) // pieces)
    return np.array(
        [
            (
                *(piece, piece * bands // pieces, (piece + 1) * bands // pieces),
                *(share * steps // shares, (share + 1) * steps // shares),
            )
            for piece in range(member % pieces, pieces, members)
        ]
    )


def new_chunk(sizes: tuple[int, ...], samples: int) -> Chunk:
    """Room for `samples` samples in all layers."""
    lengths = np.repeat(np.array(sizes[1:-1], np.int64) + 1, samples)
    size = in_blocks(samples) * row_stride(sizes[1])
    pieces = piece_count(sizes[1])
    return Chunk(
        new_packed(lengths, max(sizes[1:]), FLOATS),
        np.arange(len(lengths)),
        aligned_zeros(samples * sum(map(row_stride, sizes[1:]))),
        aligned_zeros(pieces * size).reshape(pieces, size),
    )


def new_scratch(sizes: tuple[int, ...], samples: int) -> Scratch:
    """Room for one thread's own work on `samples` samples."""
    most = max(sizes[1:])
    rows, stride = in_blocks(samples), row_stride(sizes[0] + 1)
    return Scratch(
        aligned_zeros(rows * stride).reshape(rows, stride),
        new_packed(np.array([most + 1]), most, FLOATS),
        np.empty(BAND * TURNED + SLACK, FLOATS),
        np.empty(BAND, np.int64),
    )
